"""Backends that would hurt who checks them: each check ends in time, has read little, and leaves nothing open."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from time import monotonic, thread_time

import pytest

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.probes.failed import LONGEST, ProbeFailed
from tests.discovery.origin import Handler, Hostile, hostile
from tests.discovery.probing import prober_of, target_of, why_not
from tests.e2e.certificate import self_signed
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow

LIMIT = 0.3
"""Seconds of read_timeout."""

MOST_SENT = 8 * 1024 * 1024
"""Bytes that the kernel's buffers take of what nobody reads; 100 MB and more are offered."""

CHECKS = {
    "http": HealthCheck("http", "app.example", "/", read_timeout=LIMIT),
    "https": HealthCheck("https", "app.example", "/", read_timeout=LIMIT),
    "grpc": HealthCheck("grpc", "app.example", read_timeout=LIMIT),
    "grpcs": HealthCheck("grpc", "app.example", read_timeout=LIMIT, tls=True),
}
OK_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def server_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    file: Path = tmp_path_factory.mktemp("hostile") / "site.pem"
    file.write_text("".join(self_signed("app.example")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def outcome(name: str, act: Handler, tls: ssl.SSLContext) -> str:
    """Why it failed; "" when it passed. Sees to the bounds."""
    check = CHECKS[name]
    stalls = Stalls()
    async with hostile(act, tls if name.endswith("s") else None) as backend:
        prober = prober_of(check)
        began = monotonic()
        watching = asyncio.create_task(stalls.watch())
        reason = await why_not(prober, target_of(backend))
        took = monotonic() - began
        watching.cancel()
        assert took < check.connection_timeout + LIMIT + 1
        await eventually(lambda: not backend.open)
        prober.close()
    assert stalls.longest < 0.25, "others have had their turns meanwhile"
    assert len(reason) <= LONGEST + 1 and reason.isprintable()
    return reason


class Stalls:
    """How long one turn of the loop was, in seconds of CPU: others may have it."""

    longest = 0.0

    async def watch(self) -> None:
        last = thread_time()
        while True:
            await asyncio.sleep(0)
            now = thread_time()
            self.longest, last = max(self.longest, now - last), now


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Handler:
    """After the request: the head, then the piece again and again; without a pause until the other side has gone."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        sent = 0
        while True:
            writer.write(piece)
            sent += len(piece)
            assert sent < MOST_SENT, "all of that was read"
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)

    return act


@pytest.mark.parametrize("name", ["http", "https"])
@pytest.mark.parametrize(
    ("head", "piece", "pause", "why"),
    [
        (OK_HEAD + b"Content-Length: 104857600\r\n\r\n", b"x" * 65536, 0, ""),
        (OK_HEAD + b"\r\n", b"x" * 65536, 0, ""),
        (OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 5000, 0, ""),
        (OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n" * 1000, 0, "no valid answer"),
        (OK_HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.02, "no answer, or no end of it, within 0.3 s"),
        (b"", b"H", 0.02, "no answer, or no end of it, within 0.3 s"),
        (OK_HEAD, b"X", 0.02, "no answer, or no end of it, within 0.3 s"),
        (OK_HEAD, b"X: " + b"x" * 1000 + b"\r\n", 0, "no valid answer"),
        (OK_HEAD + b"X: ", b"x" * 1000, 0, "no valid answer"),
        (b"", b"\x00\xff" * 5000, 0, "no valid answer"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0, "sends interim answers (100) without end"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0.005, "sends interim answers (103) without end"),
    ],
    ids=[
        "length",
        "until-end",
        "chunks",
        "trailers",
        "trickle",
        "first-byte",
        "head",
        "headers",
        "one-header",
        "garbage",
        "interim",
        "interim-slow",
    ],
)
async def test_an_answer_of_http_without_end(
    name: str, head: bytes, piece: bytes, pause: float, why: str, server_context: ssl.SSLContext
) -> None:
    assert (await outcome(name, endless(head, piece, pause), server_context)).startswith(why)


# -- HTTP/2 ----------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, 0, 0)
HEAD_200 = b"\x88"
"""`:status: 200` in HPACK."""
TYPE = b"\x0f\x10\x10application/grpc"
INTERIM = frame(1, 4, 1, b"\x48\x03100")


def endless_frames(first: bytes, piece: bytes, pause: float = 0.0) -> Handler:
    """As `endless`; with b"" for a piece nothing follows the first ones."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        writer.write(SETTINGS + first)
        sent = 0
        while piece:
            writer.write(piece)
            sent += len(piece)
            assert sent < MOST_SENT, "all of that was read"
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        await reader.read()

    return act


@pytest.mark.parametrize("name", ["grpc", "grpcs"])
@pytest.mark.parametrize(
    ("first", "piece", "pause", "why"),
    [
        (b"", SETTINGS * 500, 0, "no valid HTTP/2: flood of settings"),
        (b"", frame(6, 0, 0, bytes(8)) * 500, 0, "no valid HTTP/2: flood of pings"),
        (frame(1, 0, 1, HEAD_200), frame(9, 0, 1, b"\x00\x01a\x01b") * 500, 0, "no valid HTTP/2: header block in too many pieces"),
        (frame(1, 0, 1, HEAD_200), frame(9, 0, 1, b""), 0.001, "no valid HTTP/2: header block in too many pieces"),
        (b"", INTERIM * 500, 0, "sends interim answers without end"),
        (frame(1, 4, 1, HEAD_200 + TYPE), frame(0, 0, 1, b"") * 500, 0, "no valid HTTP/2: flood of empty"),
        (frame(1, 4, 1, HEAD_200 + TYPE), frame(0, 0, 1, b"x" * 1000), 0, "the answer is too long for one of a health check"),
        (frame(1, 4, 1, HEAD_200 + TYPE), frame(0, 0, 1, b"x"), 0.02, "no answer, or no end of it, within 0.3 s"),
        (b"", frame(8, 0, 0, b"\0\0\0\1") * 500, 0, "no valid HTTP/2: flood of windows"),
        (b"", frame(2, 0, 3, bytes(5)) * 500, 0, "no valid HTTP/2: flood of priorities"),
        (b"", frame(0xBB, 0, 0, b"x") * 500, 0, "no valid HTTP/2: flood of others"),
        (b"", frame(3, 0, 1, bytes(4)) * 500, 0, "no valid HTTP/2: flood of resets"),
        (frame(3, 0, 1, b"\0\0\0\x0b"), b"", 0, "broke the call off (HTTP/2 error 11)"),
        (b"", frame(0, 0, 1, bytes(16385)), 0, "no valid HTTP/2: frame too large"),
        (frame(7, 0, 0, bytes(8)), b"", 0.01, "is about to close the connection (GOAWAY)"),
        (frame(1, 5, 1, HEAD_200 + TYPE), b"", 0.01, "the answer ends without a status (grpc-status)"),
        (
            frame(1, 4, 1, HEAD_200 + TYPE) + frame(0, 1, 1, b"\0\0\0\0\2\x08\x01"),
            b"",
            0.01,
            "the answer ends without a status (grpc-status)",
        ),
    ],
    ids=[
        "settings",
        "pings",
        "continuations",
        "empty-continuations",
        "interim",
        "empty-data",
        "long",
        "trickle",
        "windows",
        "priorities",
        "unknown",
        "resets",
        "reset",
        "too-large",
        "goaway",
        "no-status",
        "no-trailers",
    ],
)
async def test_frames_without_end(name: str, first: bytes, piece: bytes, pause: float, why: str, server_context: ssl.SSLContext) -> None:
    assert (await outcome(name, endless_frames(first, piece, pause), server_context)).startswith(why)


# -- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["https", "grpcs"])
@pytest.mark.parametrize(
    "piece",
    [
        b"\x16\x03\x03\x40\x00" + bytes(0x4000),
        b"\x16\x03\x03\x00\x04\x02\x01\x00\x00" * 500,
        b"\x14\x03\x03\x00\x01\x01" * 1000,
        b"\x15\x03\x03\x00\x02\x01\x00" * 500,
    ],
    ids=["handshake", "server-hello", "change-cipher-spec", "warnings"],
)
async def test_records_without_end_in_the_handshake(name: str, piece: bytes) -> None:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sent = 0
        while True:
            writer.write(piece)
            sent += len(piece)
            assert sent < MOST_SENT
            await writer.drain()

    async with hostile(act) as backend:
        assert await why_not(prober_of(replace(CHECKS[name], connection_timeout=1)), target_of(backend))
        await eventually(lambda: not backend.open)


async def test_many_checks_that_hang_all_end_in_time() -> None:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with hostile(act) as backend:
        prober = prober_of(CHECKS["http"])
        began = monotonic()
        asked = [prober.probe(target_of(backend)) for _ in range(200)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, ProbeFailed) for one in found)
        assert monotonic() - began < LIMIT + 3
        await eventually(lambda: not backend.open)
        assert isinstance(backend, Hostile)
