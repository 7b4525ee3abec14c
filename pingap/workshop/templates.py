"""The files of a new plugin: its code, a test, a configuration that runs it."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from string import Template
from typing import Final

from pingap import plugin
from pingap.config.problems import BadValue

_CODE: Final = '''"""`$name`: $what

Whoever uses it reads this text, and that of the keys below:
`pingap plugins -c $name.toml $name` shows them.
"""

from __future__ import annotations

from pingap.plugin import CONTINUE, $imports


class ${kind}Settings(Settings):
    """The keys of its section. Others and values of another type are refused."""

$keys


class $kind(Plugin[${kind}Settings]):
    """One object for each section that names this file."""

    model = ${kind}Settings

$hooks
'''

_TEST: Final = '''"""Tests of $name.py: `pingap plugin test $name.py`, or pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pingap.plugin_testing import LivePingap, PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio

NAME = "$name"
FILE = Path(__file__).with_name("$name.py")


def section(**keys: Any) -> dict[str, dict[str, Any]]:
    """What a configuration would have: [plugins.$name]."""
    return {NAME: {"category": "python", "path": str(FILE), **keys}}


$tests


async def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(PluginRefused, match="expected text"):
        async with PluginStage(section(word=1)):
            pass
'''

_CONFIG: Final = """# pingap up -c $name.toml
# curl -i http://127.0.0.1:6188/

[servers.web]
addr = "127.0.0.1:6188"
locations = ["all"]

[locations.all]
upstream = "app"
plugins = ["$name"]

[plugins.$name]
category = "python"
path = "$name.py" # starts at the directory of this file
word = "$word"

[upstreams.app]
addrs = ["127.0.0.1:6189"]

# In the place of a backend of yours:
[servers.app]
addr = "127.0.0.1:6189"
locations = ["app"]

[locations.app]
plugins = ["behind_$name"]

[plugins.behind_$name]
category = "mock"
data = "Hello, world!\\n"
"""

KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "request": {
        "what": "answers one path itself, and marks the other requests.",
        "imports": "Exchange, Plugin, Result, Settings, reply",
        "word": "hello",
        "keys": '''    word: str = "hello"
    """The path is a slash and this word."""''',
        "hooks": '''    def request(self, exchange: Exchange) -> Result:
        """Before the request goes to a backend. It may be `async def`."""
        # The path is as it was sent. To keep somebody out it is no good: a backend may take `/%68ello` for the same.
        if exchange.path == "/" + self.settings.word:
            return reply(200, "I am $name\\n")
        exchange.headers["$header"] = "passed"
        return CONTINUE''',
        "tests": """async def test_the_backend_gets_what_passes_with_a_mark() -> None:
    async with PluginStage(section()) as stage:
        stage.backend.answers(200, "hello")
        answer = await stage.get("/open")
        assert (answer.status, answer.text) == (200, "hello")
        [got] = stage.backend.requests
        assert got.headers["$header"] == "passed"


async def test_the_word_is_answered_here() -> None:
    async with PluginStage(section(word="cellar")) as stage:
        answer = await stage.get("/cellar?a=1")
        assert (answer.status, answer.text) == (200, "I am $name\\n")
        assert stage.backend.requests == []


async def test_it_runs_in_a_whole_pingap() -> None:
    async with LivePingap(section()) as pingap:
        pingap.backend.answers(404)
        assert (await pingap.get("/hello")).text == "I am $name\\n"
        assert (await pingap.get("/open")).status == 404""",
    },
    "response": {
        "what": "tells the client a word in a header of each answer that is no error.",
        "imports": "SKIP, Exchange, Plugin, Result, Settings",
        "word": "hello",
        "keys": '''    word: str = "hello"
    """What the header says."""''',
        "hooks": '''    def response(self, exchange: Exchange) -> Result:
        """The head of a backend's answer is there. It may be `async def`."""
        response = exchange.response
        if response is None or response.status >= 400:
            return SKIP
        response.headers["$header"] = self.settings.word
        return CONTINUE''',
        "tests": '''async def test_the_client_gets_the_word() -> None:
    async with PluginStage(section(word="tea")) as stage:
        answer = await stage.get("/")
        assert answer.status == 200
        assert answer.headers["$header"] == "tea"


async def test_errors_stay_as_they_are() -> None:
    async with PluginStage(section()) as stage:
        stage.backend.answers(404, "nothing there")
        answer = await stage.get("/")
        assert answer.text == "nothing there"
        assert "$header" not in answer.headers


async def test_it_runs_in_a_whole_pingap() -> None:
    async with LivePingap(section()) as pingap:
        assert (await pingap.get("/")).headers["$header"] == "hello"''',
    },
    "body": {
        "what": "puts a word in the place of another one in answers that are text.",
        "imports": "SKIP, Exchange, Plugin, Result, Settings, Size",
        "word": "pingap",
        "keys": '''    word: str = "pingap"
    """What stands there in the place of `world`."""
    limit: Size = 1024 * 1024
    """Longer answers pass as they are."""''',
        "hooks": '''    def response(self, exchange: Exchange) -> Result:
        """The head of a backend's answer is there: is its body wanted?"""
        response = exchange.response
        kind = response.headers.get("content-type", "") if response else ""
        if not kind.startswith("text/"):
            return SKIP
        exchange.collect_response(self.rewrite, limit=self.settings.limit)
        return CONTINUE

    def rewrite(self, exchange: Exchange, body: bytes) -> bytes:
        """Gets all of the body. What it returns is sent instead."""
        return body.replace(b"world", self.settings.word.encode())''',
        "tests": '''async def test_text_is_rewritten() -> None:
    async with PluginStage(section(word="tea")) as stage:
        pieces = [b"Hello, wo", b"rld!"]
        stage.backend.answers(200, pieces, {"content-type": "text/plain"})
        assert (await stage.get("/")).text == "Hello, tea!"


async def test_what_is_no_text_stays_as_it_is() -> None:
    async with PluginStage(section()) as stage:
        stage.backend.answers(200, b"world", {"content-type": "image/png"})
        assert (await stage.get("/")).body == b"world"


async def test_what_is_too_long_stays_as_it_is() -> None:
    async with PluginStage(section(limit="4b")) as stage:
        stage.backend.answers(200, b"world", {"content-type": "text/plain"})
        assert (await stage.get("/")).body == b"world"


async def test_it_runs_in_a_whole_pingap() -> None:
    async with LivePingap(section()) as pingap:
        pingap.backend.answers(200, "Hello, world!", {"content-type": "text/plain"})
        assert (await pingap.get("/")).text == "Hello, pingap!"''',
    },
}
"""What a new plugin does, so that there is something to change."""

LONGEST: Final = 24
"""Letters of a name."""


def files(name: str, kind: str) -> dict[str, str]:
    """Names of the files → what is in them. Raises BadValue for what cannot be the name of a plugin."""
    check_name(name)
    texts = KINDS[kind]
    values = {"name": name, "kind": class_of(name), "header": f"x-{name.replace('_', '-')}"}
    inner = {key: Template(text).substitute(values) for key, text in texts.items()}
    return {
        f"{name}.py": Template(_CODE).substitute(values | inner),
        f"test_{name}.py": Template(_TEST).substitute(values | inner),
        f"{name}.toml": Template(_CONFIG).substitute(values | inner),
    }


def class_of(name: str) -> str:
    """`my_plugin` → `MyPlugin`."""
    return "".join(part.capitalize() for part in name.split("_"))


def check_name(name: str) -> None:
    """Raises BadValue for what cannot be the name of a plugin, of its file, and of its class."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        near = "_".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789_")
        raise BadValue(f"{name!r} is not a name of lower-case letters, digits and _", f"such as {near}" if near else "")
    if len(name) > LONGEST:
        raise BadValue(f"{name!r} has more than {LONGEST} letters")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise BadValue(f"{name!r} is a word of Python's own", f"such as {name}_plugin")
    if name in sys.stdlib_module_names or name in ("pingap", "pytest", "pydantic") or name.startswith("test_"):
        raise BadValue(f"{name!r} is the name of a module that others import", f"such as own_{name.removeprefix('test_')}")
    if class_of(name) in plugin.__all__ or class_of(name) in ("Path", "Any"):
        raise BadValue(f"{name!r} would make a class {class_of(name)}, and pingap.plugin has one", f"such as own_{name}")
