"""TLS sessions of backends: gone on with, and all that is kept of a connection that has ended."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from pingap.stages.tls import TlsTransport
from pingap.stages.upstream import secure
from pingap.stages.upstream.secure import MAX_NAMES, Sessions
from tests.tls.ends import contexts
from tests.upstream.playbook import OK
from tests.upstream.test_sockets import Wire, on_both_loops

LOOPBACK = ("127.0.0.0/8", "::1/128")


@asynccontextmanager
async def secured(version: ssl.TLSVersion) -> AsyncIterator[tuple[int, list[bool]]]:
    """A backend that closes after each answer: (its port, whether each connection went on with a session)."""
    reused: list[bool] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reused.append(writer.get_extra_info("ssl_object").session_reused)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=contexts(version)[0])
    async with server:
        yield server.sockets[0].getsockname()[1], reused


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    gc.freeze()  # what other tests have left is a million objects, and `transports` looks at all that are not frozen
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def transports() -> int:
    return sum(type(one) is TlsTransport for one in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_both_loops
async def test_a_session_outlives_its_connection_and_nothing_else_of_it_does(wire: Wire, version: ssl.TLSVersion) -> None:
    async with secured(version) as (port, reused):
        settings: dict[str, Any] = {"sni": "$host", "verify_cert": False, "alpn": "h1"}
        wire.serves("", discovery="transparent", transparent_ports=(port,), transparent_networks=LOOPBACK, **settings)
        with no_collection():
            before = transports()
            for _ in range(3):
                assert await wire.gets(host=b"localhost:%d" % port) == (200, b"ok", "")
                await wire.until(lambda: transports() == before)
        assert reused == [False, True, True]
        await wire.actor.stop()


class Ended:
    """A connection that has left a session of this number."""

    def __init__(self, number: int | None) -> None:
        self.session = number
        self.ended: Any = None


def test_sessions_of_a_name_are_the_newest_and_of_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure, "_can_go_on", lambda transport, session: True)
    sessions: Any = Sessions()
    first, second, third = Ended(1), Ended(2), Ended(None)
    for one in (first, second):
        sessions.made("a", one)
    assert sessions.get("a") == 2
    first.ended()
    assert sessions.get("a") == 2, "that one was not the newest any more"
    sessions.made("a", third)
    third.ended()
    assert sessions.get("a") == 2, "it has left none"
    for number in range(2 * MAX_NAMES):
        one = Ended(number)
        sessions.made(f"{number}.test", one)
        if number % 2:
            one.ended()
    assert sum(sessions.get(f"{number}.test") is not None for number in range(2 * MAX_NAMES)) <= 2 * MAX_NAMES
    assert len(sessions._newest) <= MAX_NAMES and len(sessions._kept) <= MAX_NAMES
