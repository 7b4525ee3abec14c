"""Replies whose body a plugin makes piece by piece: sent as the client takes it, and ended with it in every case."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import UNKNOWN, WINDOW, Cancel, Data, Done, Response
from tests.plugins.script import SID, Stage, bodies, credit
from tests.plugins.test_python_plugins import plugin, section, settled

GENERATOR = """
seen = []
def request(self, exchange): return reply(201, self.body(exchange), {"content-type": "text/plain"})
async def body(self, exchange):
    try:
        BODY
    except asyncio.CancelledError:
        self.seen.append("left")
        raise
    finally:
        await asyncio.sleep(0)
        self.seen.append("closed")
"""


def streams(body: str) -> str:
    lines = "\n        ".join(body.split("\n"))
    return plugin(GENERATOR.replace("BODY", lines).replace('{"content-type": "text/plain"}', '[("content-type", "text/plain")]'))


def seen(stage: Stage) -> list[str]:
    [live] = stage.actor._compiler._live.values()
    return list(live.plugin.seen)  # type: ignore[attr-defined]


async def test_pieces_go_out_one_by_one_and_their_end_is_the_end(tmp_path: Path) -> None:
    code = streams("for word in (b'one', b'', bytearray(b'two')):\n    yield word\n    await asyncio.sleep(0)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        head, *rest = await settled(stage, stage.request())
        assert isinstance(head, Response)
        assert (head.status, head.length, head.ended) == (201, UNKNOWN, False)
        assert [(data.payload, data.ended, data.error) for data in rest] == [(b"one", False, ""), (b"two", False, ""), (b"", True, "")]
        assert (stage.actor.held(), seen(stage)) == (0, ["closed"])


async def test_none_waits_for_the_next(tmp_path: Path) -> None:
    code = streams("yield b'tick'\nawait asyncio.sleep(3600)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        assert bodies(await settled(stage, stage.request())) == b"tick"


async def test_none_waits_in_a_compressor_for_the_next(tmp_path: Path) -> None:
    sections = {
        "p": section(tmp_path, streams("yield b'tick'\nawait asyncio.sleep(3600)")),
        "zip": {"category": "compression", "gzip_level": 6},
    }
    async with Stage(sections) as stage:
        out = await settled(stage, stage.request("/", "accept-encoding: gzip"))
        assert b"content-encoding: gzip" in out[0].headers
        assert zlib.decompressobj(31).decompress(bodies(out)) == b"tick"


async def test_a_client_that_reads_nothing_is_sent_a_window_and_no_more_is_made(tmp_path: Path) -> None:
    code = streams("for n in range(100):\n    self.seen.append(n)\n    yield bytes(100_000)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        out = await settled(stage, stage.request())
        assert len(bodies(out)) == WINDOW
        made = len(seen(stage))
        assert made <= WINDOW // 100_000 + 3
        assert len(bodies(await settled(stage, credit(300_000)))) == 300_000
        assert made < len(seen(stage)) <= made + 3


@pytest.mark.parametrize("message", [Cancel(SID, "client"), Done(SID)])
@pytest.mark.parametrize(
    ("body", "expected"),
    [("yield b'x'\nawait asyncio.sleep(3600)", ["left", "closed"]), ("while True: yield bytes(500_000)", ["closed"])],
    ids=["while it waits", "while nobody asks"],
)
async def test_it_is_closed_when_the_client_leaves(tmp_path: Path, body: str, expected: list[str], message: Any) -> None:
    async with Stage({"p": section(tmp_path, streams(body))}) as stage:
        await settled(stage, stage.request())
        await settled(stage, message)
        assert (stage.actor.held(), seen(stage)) == (0, expected)


async def test_a_failure_cuts_the_body_and_is_logged_with_the_name(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, streams("yield b'x'\nraise RuntimeError('gone')"))}) as stage:
        out = await settled(stage, stage.request())
        assert bodies(out) == b"x"
        assert (out[-1].ended, out[-1].error) == (False, "plugin_failed")
        [(_, _, fields)] = [entry for entry in stage.context.logged if entry[0] == "error"]
        assert fields["plugin"] == "mine" and "gone" in fields["error"] and "mine.py:" in fields["where"]
        assert (stage.actor.held(), seen(stage)) == (0, ["closed"])


async def test_a_piece_that_is_no_bytes_is_a_failure(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, streams("yield 'text'"))}) as stage:
        out = await settled(stage, stage.request())
        assert out[-1].error == "plugin_failed" and "str" in stage.context.logged[-1][2]["error"]


async def test_each_piece_has_the_deadline_of_the_plugin(tmp_path: Path) -> None:
    code = streams("yield b'x'\nawait asyncio.sleep(3600)")
    async with Stage({"mine": section(tmp_path, code, timeout="0.05s")}) as stage:
        out = await stage.run(stage.request())
        while not any(isinstance(envelope, Data) and envelope.error for envelope in out):
            await asyncio.sleep(0.01)
            out += stage.out()
        assert "longer than 0.05 s" in stage.context.logged[-1][2]["error"]


async def test_one_that_nobody_gets_is_closed_unasked(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, streams("self.seen.append('asked')\nyield b'x'"))}) as stage:
        [answer] = await settled(stage, stage.request(method=b"HEAD"))
        assert (answer.status, answer.ended, answer.length) == (201, True, UNKNOWN)
        assert (stage.actor.held(), seen(stage)) == (0, [])


async def test_a_reply_in_place_of_an_answer_may_be_made_in_pieces_and_compressed(tmp_path: Path) -> None:
    code = plugin(
        """
        def response(self, exchange): return reply(200, self.body(), [('content-type', 'text/plain')])
        async def body(self):
            for _ in range(9): yield b'piece '
        """
    )
    sections = {"mine": section(tmp_path, code), "zip": {"category": "compression", "gzip_level": 6}}
    async with Stage(sections) as stage:
        await stage.run(stage.request("/", "accept-encoding: gzip"))
        cancel, head, *rest = await settled(stage, stage.response("", b"backend", ended=False))
        assert isinstance(cancel, Cancel) and isinstance(head, Response)
        assert b"content-encoding: gzip" in head.headers
        assert gzip.decompress(bodies([head, *rest])) == b"piece " * 9 and rest[-1].ended
        assert stage.actor.held() == 0
