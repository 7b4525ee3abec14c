"""The surface that plugins are written to: the same for those that come with pingap and those of users, and nothing of the bus in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pingap.plugin
from pingap.bus.envelope import Part
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins.api import Host
from tests.plugins.script import Stage
from tests.plugins.test_python_plugins import plugin, section, served

BUILTIN = sorted((Path(__file__).parents[2] / "stages" / "plugins" / "builtin").glob("*.py"))
HELPERS = (
    "pingap.config.", "pingap.stages.coding", "pingap.stages.header_view", "pingap.stages.spellings", "pingap.stages.variables",
    "pingap.stages.forwarded",
)  # fmt: skip
"""What knows text, headers, codings and addresses, and no message."""


def names(module: str, path: Path) -> list[tuple[str, str]]:
    """(module, name) of what a file imports of ours."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", BUILTIN, ids=[path.stem for path in BUILTIN])
def test_builtin_plugins_use_what_users_may_use(path: Path) -> None:
    for module, name in names("pingap", path):
        is_helper = module.startswith((*HELPERS, "pingap.stages.plugins.builtin."))
        assert is_helper or name in pingap.plugin.__all__, f"{name} of {module} is not in pingap.plugin"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert of_itself or not node.attr.startswith("_") or node.attr.startswith("__"), f"{node.attr} in line {node.lineno} is private"


def test_nothing_of_the_bus_is_in_the_surface() -> None:
    for name in pingap.plugin.__all__:
        one = getattr(pingap.plugin, name)
        assert not (isinstance(one, type) and issubclass(one, Part)), name
        if isinstance(one, type):
            for attribute, value in vars(one).items():
                if isinstance(value, property) and not attribute.startswith("_"):
                    kind = get_type_hints(value.fget).get("return")
                    assert not (isinstance(kind, type) and issubclass(kind, Part)), f"{name}.{attribute}"
    assert not {name for name in vars(Host) if name in ("context", "send")}


async def test_what_there_is_to_know_of_a_request_and_its_answer(tmp_path: Path) -> None:
    code = plugin(
        """
        def request(self, exchange):
            exchange.context["of"] = [exchange.server, exchange.location, exchange.upstream, exchange.client_port, exchange.local_ip,
                exchange.local_port, exchange.backend is None]
        def response(self, exchange):
            exchange.response.headers["x-of"] = repr((exchange.context["of"], tuple(exchange.backend)))
        """
    )
    async with Stage({"p": section(tmp_path, code)}) as stage:
        answer = await stage.exchange()
        assert b"(['s', 'l', 'u', 51234, '192.0.2.1', 8080, True], ('127.0.0.1:9000', 200, 1, True, 1.0))" in answer.headers


SENDS_TO = ["early_request", "request", "proxy_upstream"]


@pytest.mark.parametrize("step", SENDS_TO)
@pytest.mark.parametrize("way", ["def", "async def"])
async def test_a_plugin_says_which_upstream(tmp_path: Path, step: str, way: str) -> None:
    code = plugin(f"{way} {step}(self, exchange): exchange.upstream = 'u'")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        [routed] = await stage.run(stage.request(upstream="other"))
        assert isinstance(routed, Routed) and routed.upstream == "u"


@pytest.mark.parametrize("step", SENDS_TO[:2])
async def test_also_where_the_location_has_none(tmp_path: Path, step: str) -> None:
    code = plugin(f"def {step}(self, exchange):\n    if exchange.path == '/u': exchange.upstream = 'u'")
    async with Stage({"p": section(tmp_path, code)}, upstream="") as stage:
        [routed] = await stage.run(stage.request("/u", upstream=""))
        assert isinstance(routed, Routed) and routed.upstream == "u"
        [answer] = await stage.run(stage.request("/", upstream="", sid=(1 << 32) + 9))
        assert isinstance(answer, Response) and answer.status == 404


@pytest.mark.parametrize(("value", "error"), [("'nowhere'", "nowhere"), ("''", "no upstream"), ("7", "7")])
async def test_another_name_is_an_error_in_the_plugins_line(tmp_path: Path, value: str, error: str) -> None:
    code = plugin(f"def request(self, exchange):\n    exchange.upstream = {value}")
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        [answer] = await served(stage, stage.request())
        assert (answer.status, answer.report.error) == (500, "plugin_failed")
        said: dict[str, Any] = stage.context.logged[-1][2]
        assert said["plugin"] == "mine" and error in said["error"] and said["where"].endswith("mine.py:6")


async def test_when_the_answer_is_there_it_is_too_late(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, plugin("def response(self, exchange): exchange.upstream = 'u'"))}) as stage:
        await stage.run(stage.request())
        [answer] = await served(stage, stage.response())
        assert answer.status == 500 and "already" in stage.context.logged[-1][2]["error"]
