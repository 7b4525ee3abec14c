"""The demo backends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest

from pingap import demo_socks
from pingap.demo import DemoActor
from tests.kit.context import FakeContext


@pytest.fixture
async def ports() -> AsyncIterator[list[int]]:
    socks = demo_socks.bind()
    listeners = [{"fd": os.dup(sock.fileno()), "server": f"backend-{i}", "addr": ""} for i, sock in enumerate(socks, 1)]
    context = FakeContext("demo", settings={"listeners": listeners})
    actor = DemoActor(context)
    await actor.start()
    assert context.is_ready
    yield [sock.getsockname()[1] for sock in socks]
    await actor.stop()
    for sock in socks:
        sock.close()


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    body = b"" if request.startswith(b"HEAD") else await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return head, body


async def test_each_says_which_one_it_is_and_what_it_was_asked(ports: list[int]) -> None:
    request = b"POST /x?y=1 HTTP/1.1\r\nhost: a\r\nX-Two: 1\r\nx-two: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhey\r\n0\r\n\r\n"
    answers = [json.loads((await ask(port, request))[1]) for port in ports]
    assert [answer["backend"] for answer in answers] == ["backend-1", "backend-2"]
    assert answers[0]["target"] == "/x?y=1" and answers[0]["body"] == "hey" and answers[0]["headers"]["x-two"] == "1, 2"


async def test_a_browser_gets_a_page_that_says_what_to_try_next(ports: list[int]) -> None:
    head, body = await ask(ports[0], b"GET / HTTP/1.1\r\nhost: <b>.local\r\naccept: text/html,*/*\r\n\r\n")
    assert b"content-type: text/html" in head and b"pingap works" in body
    assert b"http://&lt;b&gt;.local/" in body


async def test_a_connection_serves_request_after_request_also_pipelined(ports: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    writer.write(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    assert answer.count(b"HTTP/1.1 200 OK") == 3 and answer.count(b'"backend"') == 1
    writer.close()
    await writer.wait_closed()


async def test_what_is_no_http_is_hung_up_on(ports: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    writer.write(b"nonsense\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
