"""Checks by gRPC against a server of grpcio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from tests.discovery.health_peer import NOT_SERVING, SERVING, HealthPeer, health_peer
from tests.discovery.origin import OK, Origin, listening, origin
from tests.discovery.probing import prober_of, target_of, why_not
from tests.e2e.certificate import self_signed

GRPC = HealthCheck("grpc", "shop.example", connection_timeout=5, read_timeout=5)


def at(peer: HealthPeer) -> CheckTarget:
    return CheckTarget(f"127.0.0.1:{peer.port}", "127.0.0.1", peer.port)


async def why(check: HealthCheck, target: CheckTarget) -> str:
    return await why_not(prober_of(check), target)


async def test_a_server_passes_as_long_as_it_is_serving() -> None:
    with health_peer() as peer:
        assert await why(GRPC, at(peer)) == ""
        for status, word in ((NOT_SERVING, "NOT_SERVING"), (0, "UNKNOWN"), (3, "SERVICE_UNKNOWN"), (77, "77")):
            peer.statuses[""] = status
            assert await why(GRPC, at(peer)) == f"the server is not serving ({word})"
        peer.statuses[""] = SERVING
        assert await why(GRPC, at(peer)) == ""
        assert peer.metadata[0]["user-agent"] == "pingap-health-check"


async def test_one_service_is_asked_for_by_its_name() -> None:
    long = "a.very." + "long." * 40 + "Name"
    with health_peer() as peer:
        peer.statuses |= {"shop.v1.Cart": SERVING, "shop.v1.Till": NOT_SERVING, long: SERVING}
        assert await why(replace(GRPC, service="shop.v1.Cart"), at(peer)) == ""
        assert await why(replace(GRPC, service=long), at(peer)) == ""
        assert await why(replace(GRPC, service="shop.v1.Till"), at(peer)) == "service 'shop.v1.Till' is not serving (NOT_SERVING)"
        assert await why(replace(GRPC, service="shop.v1.Card"), at(peer)) == "does not know service 'shop.v1.Card' (NOT_FOUND)"
        assert peer.asked == ["shop.v1.Cart", long, "shop.v1.Till", "shop.v1.Card"]


async def test_a_server_without_the_health_service_fails_and_is_told_so() -> None:
    with health_peer(is_registered=False) as peer:
        reason = await why(GRPC, at(peer))
        assert reason == "has no health service: grpc.health.v1.Health is not registered there (UNIMPLEMENTED)"


async def test_a_server_that_takes_the_call_and_hangs_fails_at_the_read_timeout() -> None:
    with health_peer() as peer:
        peer.statuses[""] = None
        began = monotonic()
        reason = await why(replace(GRPC, read_timeout=0.2), at(peer))
        assert monotonic() - began < 3
    # The deadline is said in the call: a server that keeps to it answers just then.
    ends = (
        "no answer, or no end of it, within 0.2 s",
        "the call failed with status DEADLINE_EXCEEDED",
        "broke the call off (HTTP/2 error 8)",
    )
    assert reason in ends


async def test_under_tls_it_is_the_same_whatever_the_certificate() -> None:
    with health_peer(tls=self_signed("other.example")) as peer:
        peer.statuses["x"] = NOT_SERVING
        secure = replace(GRPC, tls=True)
        assert await why(secure, at(peer)) == ""
        assert await why(replace(secure, service="x"), at(peer)) == "service 'x' is not serving (NOT_SERVING)"
        assert "its certificate is not accepted" in await why(replace(secure, verify_cert=True), at(peer))
        assert await why(replace(GRPC, read_timeout=1), at(peer)), "it answers nothing that is not TLS"


async def test_a_server_without_tls_is_told_from_one_with() -> None:
    with health_peer() as peer:
        assert (await why(replace(GRPC, tls=True), at(peer))).startswith("TLS handshake as shop.example: ")


async def test_a_server_of_http1_is_told_so() -> None:
    async with origin(OK) as backend:
        target = target_of(backend)
        assert await why(replace(GRPC, read_timeout=0.3), target) == "answers in HTTP/1: it does not speak HTTP/2 here"


async def test_with_reuse_one_connection_serves_check_after_check_and_one_that_ended_is_no_failure() -> None:
    with health_peer() as peer:
        async with relay(peer.port) as between:
            prober = prober_of(replace(GRPC, reuse=True))
            target = target_of(between)
            for _ in range(5):
                await prober.probe(target)
            assert (between.connections, len(peer.asked)) == (1, 5)
            between.cut()
            await prober.probe(target)
            assert (between.connections, len(peer.asked)) == (2, 6)
            prober.close()


class Relay(Origin):
    """Passes on what comes, both ways."""

    def __init__(self, to: int) -> None:
        super().__init__()
        self.to = to
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        inner, outer = await asyncio.open_connection("127.0.0.1", self.to)
        self.writers += (writer, outer)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                sink.write(data)

        try:
            await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)
        finally:
            self.cut()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def relay(to: int) -> AsyncIterator[Relay]:
    it = Relay(to)
    async with listening(it):
        yield it
