"""One check of one real backend: what passes, what fails and why, and that nothing stays open."""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.discovery.probes.failed import ProbeFailed
from pingap.stages.discovery.probes.line import MOST
from tests.discovery.origin import OK, Origin, origin
from tests.discovery.probing import prober_of, target_of
from tests.kit.waiting import free_port


def http(**more: object) -> HealthCheck:
    return HealthCheck("http", "api.example.com", "/ping?deep=1", **more)  # type: ignore[arg-type]


async def gone(at: Origin) -> None:
    """Waits until the backend has seen every connection closed."""
    async with asyncio.timeout(2):
        while at.open:
            await asyncio.sleep(0.001)


async def test_tcp_passes_when_the_backend_accepts_and_leaves_nothing_open() -> None:
    async with origin() as backend:
        await prober_of(HealthCheck()).probe(target_of(backend))
        async with asyncio.timeout(2):
            while not backend.connections:
                await asyncio.sleep(0.001)
        await gone(backend)
        assert backend.requests == []


@pytest.mark.parametrize("check", [HealthCheck(), http()])
async def test_a_backend_that_refuses_connections_fails(check: HealthCheck) -> None:
    port = free_port()
    with pytest.raises(ProbeFailed, match="cannot connect"):
        await prober_of(check).probe(CheckTarget(f"127.0.0.1:{port}", "127.0.0.1", port))


@pytest.mark.parametrize("check", [HealthCheck(connection_timeout=0.05), http(connection_timeout=0.05)])
async def test_a_backend_that_takes_no_connection_fails_at_the_deadline(check: HealthCheck) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        began = monotonic()
        with pytest.raises(ProbeFailed, match=r"no connection within 0\.05 s"):
            await prober_of(check).probe(CheckTarget(f"127.0.0.1:{port}", "127.0.0.1", port))
        assert monotonic() - began < 2


async def test_a_name_that_does_not_resolve_fails() -> None:
    with pytest.raises(ProbeFailed, match="cannot be resolved"):
        await prober_of(HealthCheck()).probe(CheckTarget("x:1", "no-such-host.invalid", 1))


async def test_a_name_is_resolved_to_ipv4_only_when_that_is_asked() -> None:
    with pytest.raises(ProbeFailed):
        await prober_of(HealthCheck(), ipv4_only=True).probe(CheckTarget("[::1]:1", "::1", 1))
    async with origin() as backend:
        await prober_of(HealthCheck(), ipv4_only=True).probe(CheckTarget("localhost", "localhost", backend.port))


async def test_http_passes_on_200_and_asks_for_the_path_under_the_host_of_the_check() -> None:
    async with origin() as backend:
        await prober_of(http()).probe(target_of(backend))
        await gone(backend)
        head = backend.requests[0].decode().lower()
        assert head.startswith("get /ping?deep=1 http/1.1\r\n")
        assert "\r\nhost: api.example.com\r\n" in head
        assert "\r\nconnection: close\r\n" in head


@pytest.mark.parametrize("status", [b"204 No Content", b"301 Moved", b"404 Not Found", b"500 Oops", b"503 Busy"])
async def test_http_fails_on_every_other_status(status: bytes) -> None:
    async with origin(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n") as backend:
        with pytest.raises(ProbeFailed, match=f"status {status[:3].decode()}"):
            await prober_of(http()).probe(target_of(backend))
        await gone(backend)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "no valid answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, "no valid answer"),
    ],
)
async def test_http_fails_on_what_is_no_whole_answer(answer: bytes, why: str) -> None:
    async with origin(answer, closes=True) as backend:
        with pytest.raises(ProbeFailed, match=why):
            await prober_of(http()).probe(target_of(backend))
        await gone(backend)


async def test_http_fails_when_the_answer_does_not_come_in_time() -> None:
    async with origin(b"") as backend:
        with pytest.raises(ProbeFailed, match=r"no answer, or no end of it, within 0\.05 s"):
            await prober_of(http(read_timeout=0.05)).probe(target_of(backend))
        await gone(backend)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MOST + 1),
    ],
)
async def test_http_passes_with_every_framing_of_the_body(answer: bytes) -> None:
    async with origin(answer, closes=True) as backend:
        await prober_of(http()).probe(target_of(backend))
        await gone(backend)


async def test_with_reuse_the_connection_serves_the_next_check_and_is_closed_at_the_end() -> None:
    async with origin() as backend:
        prober = prober_of(http(reuse=True))
        for _ in range(3):
            await prober.probe(target_of(backend))
        assert (backend.connections, len(backend.requests)) == (1, 3), "one connection"
        assert b"connection" not in backend.requests[0].lower()
        prober.close()
        await gone(backend)


async def test_a_kept_connection_that_the_backend_closed_meanwhile_is_no_failure() -> None:
    async with origin(closes=True) as backend:
        prober = prober_of(http(reuse=True))
        for turn in range(1, 3):
            await prober.probe(target_of(backend))
            await gone(backend)
            assert backend.connections == turn
        prober.close()


async def test_a_cancelled_check_leaves_nothing_open() -> None:
    async with origin(b"") as backend:
        check = asyncio.create_task(prober_of(http()).probe(target_of(backend)))
        async with asyncio.timeout(2):
            while not backend.requests:
                await asyncio.sleep(0.001)
        check.cancel()
        await asyncio.gather(check, return_exceptions=True)
        await gone(backend)


async def test_a_kept_connection_on_which_something_came_unasked_is_not_used_again() -> None:
    """It would be read as the answer to the next check."""
    async with origin(OK + b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") as backend:
        prober = prober_of(http(reuse=True))
        for _ in range(3):
            await prober.probe(target_of(backend))
        assert backend.connections == 3
        prober.close()


async def test_an_ipv6_host_is_named_with_brackets() -> None:
    async with origin() as backend:
        await prober_of(HealthCheck("http", "::1", "/")).probe(target_of(backend))
        assert b"\r\nhost: [::1]\r\n" in backend.requests[0].lower()


async def test_a_backend_behind_a_unix_socket_is_checked(tmp_path: Path) -> None:
    it = Origin()
    path = str(tmp_path / "app.sock")
    server = await asyncio.start_unix_server(it.accept, path)
    try:
        at = CheckTarget(f"unix:{path}", path, 0)
        await prober_of(http()).probe(at)
        await prober_of(HealthCheck()).probe(at)
        assert len(it.requests) == 1
    finally:
        server.close()
    with pytest.raises(ProbeFailed, match="nobody listens at the socket"):
        await prober_of(HealthCheck()).probe(at)


@pytest.mark.parametrize("check", [HealthCheck(), http(reuse=True)])
def test_checks_work_on_the_loop_that_a_stage_runs_on(check: HealthCheck) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with origin() as backend:
            prober = prober_of(check)
            for _ in range(3):
                await prober.probe(target_of(backend))
            prober.close()
            backend.answer = b""
            with pytest.raises(ProbeFailed, match="within") if check.scheme == "http" else nullcontext():
                await prober_of(replace(check, read_timeout=0.05)).probe(target_of(backend))
            await gone(backend)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_more_connections_than_may_be_kept_are_not_kept() -> None:
    async with origin() as one, origin() as two:
        prober = prober_of(http(reuse=True), kept=1)
        for _ in range(3):
            await prober.probe(target_of(one))
            await prober.probe(target_of(two))
        assert (one.connections, two.connections) == (1, 3)
        prober.close()
        await gone(one)
        await gone(two)


async def test_a_kept_connection_to_a_backend_that_left_is_closed_and_makes_room() -> None:
    async with origin() as one, origin() as two, origin() as three:
        prober = prober_of(http(reuse=True), kept=2)
        await prober.probe(target_of(one))
        await prober.probe(target_of(two))
        prober.forget_others({two.address, three.address})
        await gone(one)
        for _ in range(2):
            await prober.probe(target_of(two))
            await prober.probe(target_of(three))
        assert (two.connections, three.connections) == (1, 1)
        prober.close()
        await gone(two)
        await gone(three)
