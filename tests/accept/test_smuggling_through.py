"""The published tricks of tests/http1/test_smuggling.py said to a connection, each with a hidden request behind it."""

from __future__ import annotations

import re

import pytest

from pingap.stages.messages import UNKNOWN, WINDOW, Request
from tests.accept.playbook import Client, Play, get, post
from tests.http1.test_smuggling import CHUNKS, CODINGS, LENGTHS

ENGINES = pytest.mark.parametrize("engine", ["httptools", "h11"])
HIDDEN = get(b"/hidden")


async def run(play: Play, client: Client, wire: bytes) -> tuple[list[bytes], list[bytes]]:
    """(targets that reached the stages, bodies) when every request is answered as soon as it is whole."""
    targets, bodies = [], []
    client.says(wire)
    for _ in range(20):
        await play.turn()
        for _, envelope in play.stages_hear():
            if isinstance(envelope, Request):
                targets.append(envelope.target)
                bodies.append(envelope.body)
                request = envelope
                if not envelope.ended:
                    play.grants(envelope, WINDOW)
                    await play.turn()
            elif hasattr(envelope, "payload"):
                bodies[-1] += envelope.payload
        if play.is_holding and play.actor.streams.by_sid[request.sid].upload_done:
            play.answers(request)
    return targets, bodies


@ENGINES
@pytest.mark.parametrize(("line", "verdict"), CODINGS)
async def test_a_coding_hides_no_request(play: Play, engine: str, line: bytes, verdict: str | int) -> None:
    """A server that ignores the coding would find the hidden request at once, one that obeys it after the last chunk."""
    client = play.connects(engine)
    targets, bodies = await run(play, client, post(line, body=b"5\r\nhello\r\n0\r\n\r\n") + HIDDEN)
    if verdict == UNKNOWN:
        assert (targets, bodies) == ([b"/", b"/hidden"], [b"hello", b""])
    else:
        assert targets == []
        assert re.findall(rb"HTTP/1\.1 (\d+)", client.hears()) in ([b"400"], [b"501"])
        assert client.is_closed


@ENGINES
@pytest.mark.parametrize(("line", "verdict"), LENGTHS)
async def test_a_length_hides_no_request(play: Play, engine: str, line: bytes, verdict: str | int) -> None:
    client = play.connects(engine)
    targets, bodies = await run(play, client, post(line, body=b"hello") + HIDDEN)
    if verdict == 5:
        assert (targets, bodies) == ([b"/", b"/hidden"], [b"hello", b""])
    else:
        assert targets == []
        assert client.hears().startswith(b"HTTP/1.1 400 ")
        assert client.is_closed


@pytest.mark.parametrize("in_one", [True, False], ids=["with-the-head", "after-the-head"])
@pytest.mark.parametrize(("wire", "payload"), CHUNKS)
async def test_a_chunked_body_hides_no_request(play: Play, wire: bytes, payload: bytes | None, in_one: bool) -> None:
    client = play.connects()
    head = post(b"Transfer-Encoding: chunked")
    if not in_one:
        client.says(head)
    targets, bodies = await run(play, client, (head if in_one else b"") + wire + HIDDEN)
    if payload is not None:
        assert (targets, bodies) == ([b"/", b"/hidden"], [payload, b""])
    else:
        assert targets in ([], [b"/"])
        assert client.hears().startswith(b"HTTP/1.1 400 ")
        assert client.is_closed
        assert not play.is_holding
