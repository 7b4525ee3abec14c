"""What a hook has decided about a header line, no trailer of that name undoes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pingap.stages.itinerary import NO_TRAILERS
from pingap.stages.messages import UNKNOWN, Data, Response, Routed
from tests.plugins.script import SID, Stage, data
from tests.plugins.test_python_plugins import plugin, section

TRAILERS = b"x-user: root\r\nx-sum: 1\r\n"


def ending(trailers: bytes = TRAILERS) -> Data:
    return replace(data(b"", True), trailers=trailers)


# -- of requests: upstream drops them (tests/upstream/test_upload_trailers.py) ------------------


@pytest.mark.parametrize(
    ("body", "is_flagged"),
    [
        pytest.param("exchange.headers.remove('X-User')", True, id="removed"),
        pytest.param("del exchange.headers['x-there']", True, id="deleted"),
        pytest.param("exchange.headers.remove('authorization')", False, id="what no trailer may be called"),
        pytest.param("exchange.headers.set('x-user', 'me')", False, id="set: upstream sees it in the head"),
        pytest.param("exchange.headers.get('x-user')", False, id="looked at"),
    ],
)
async def test_upstream_is_told_when_trailers_might_bring_back_what_a_hook_removed(tmp_path: Path, body: str, is_flagged: bool) -> None:
    async with Stage({"p": section(tmp_path, plugin(f"def request(self, exchange):\n    {body}\n    return CONTINUE"))}) as stage:
        streamed: Routed = await stage.one(stage.request(headers="x-there: 1", body=None))
        assert bool(streamed.plan & NO_TRAILERS) == is_flagged
        whole: Routed = await stage.one(stage.request(headers="x-there: 1", body=b"all of it", sid=SID + 1))
        assert not whole.plan & NO_TRAILERS, "a body that is all here has none"


async def test_it_is_told_too_when_the_body_passes_through_hooks(tmp_path: Path) -> None:
    code = """
    class Upper(Transformer):
        def feed(self, data, ended): return data.upper()
    class Mine(Plugin):
        reads_request_body = True
        def request(self, exchange):
            exchange.headers.remove("x-user")
            exchange.transform_request(Upper())
            return CONTINUE
    """
    async with Stage({"p": section(tmp_path, code)}) as stage:
        routed = await stage.one(stage.request(body=None))
        assert routed.plan & NO_TRAILERS


# -- of answers --------------------------------------------------------------------------------


async def answered(stage: Stage, answer: str = "x-user: nobody") -> list[Any]:
    await stage.run(stage.request())
    return await stage.run(stage.response(answer, b"body", False, length=UNKNOWN), ending())


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        pytest.param({"remove_headers": ["X-User"]}, b"x-sum: 1\r\n", id="removed"),
        pytest.param({"remove_headers": ["X-Sum"]}, b"x-user: root\r\n", id="removed, though there was none"),
        pytest.param({"set_headers": ["X-User: me"]}, b"x-sum: 1\r\n", id="set"),
        pytest.param({"add_headers": ["X-Sum: 7"]}, b"x-user: root\r\n", id="added"),
        pytest.param({"rename_headers": ["X-User: X-Sum"]}, b"", id="renamed"),
        pytest.param({"set_headers": ["X-Other: 1"]}, TRAILERS, id="another"),
    ],
)
async def test_trailers_of_an_answer_are_dropped_when_hooks_have_decided_about_their_names(keys: dict[str, Any], kept: bytes) -> None:
    async with Stage({"p": {"category": "response_headers", **keys}}) as stage:
        head, last = await answered(stage)
        assert isinstance(head, Response) and not head.ended
        assert (last.payload, last.ended, last.trailers) == (b"", True, kept)


@pytest.mark.parametrize("how", ["transform_response(Upper())", "collect_response(decided)"])
async def test_so_are_those_of_a_body_that_hooks_change(tmp_path: Path, how: str) -> None:
    code = f"""
    class Upper(Transformer):
        def feed(self, data, ended): return data.upper()
    def decided(exchange, body):
        exchange.response.headers.remove("x-sum")
        return body.upper()
    class Mine(Plugin):
        def response(self, exchange):
            exchange.response.headers.remove("x-user")
            exchange.{how}
            return CONTINUE
    """
    async with Stage({"p": section(tmp_path, code)}) as stage:
        head, *rest = await answered(stage)
        assert head.body + b"".join(one.payload for one in rest) == b"BODY"
        assert [one.trailers for one in rest if one.ended] == [b"" if "decided" in how else b"x-sum: 1\r\n"]


async def test_what_no_hook_touched_stays_in_head_and_trailers_as_in_grpc(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, plugin("def response(self, exchange): return CONTINUE"))}) as stage:
        head, last = await answered(stage)
        assert (head.headers, last.trailers) == (b"x-user: nobody\r\n", TRAILERS)
