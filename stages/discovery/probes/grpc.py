"""A check by gRPC: one call over HTTP/2, by prior knowledge or under TLS."""

from __future__ import annotations

from time import monotonic
from typing import Final

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.probes.failed import ClosedEarly, ProbeFailed
from pingap.stages.discovery.probes.health_call import HealthCall, fields_of_request, request_message
from pingap.stages.discovery.probes.line import MOST, ProbeLine
from pingap.stages.http2.engine import BODY, GOAWAY, Http2Error, LocalSettings
from pingap.stages.http2.guard import Bucket, FloodGuard, Floods
from pingap.stages.http2.h2_engine import H2Engine

_FEW: Final = Bucket(24, 2)
_FLOODS: Final = Floods(
    resets=_FEW,
    forced=_FEW,
    pings=_FEW,
    settings=_FEW,
    empty=_FEW,
    priorities=_FEW,
    windows=_FEW,
    others=_FEW,
    continuations=4,
    block=16 * 1024,
)
"""One small call makes do with a handful of each."""

_SETTINGS: Final = LocalSettings(max_streams=1, window=MOST, connection_window=MOST, header_list=16 * 1024)


class GrpcTalk:
    """What is said on one connection, perhaps in several checks."""

    def __init__(self, line: ProbeLine, check: HealthCheck) -> None:
        self.line = line
        self._check = check
        self._engine = H2Engine(True, _SETTINGS)
        self._guard = FloodGuard(0, _FLOODS)
        self._is_going = False
        self._has_heard = False
        self._engine.start()

    @property
    def can_go_on(self) -> bool:
        return not self._is_going

    async def ask(self) -> bool:
        """One call; True if the connection can be used for another. Raises ProbeFailed unless the answer is SERVING; OSError."""
        try:
            return await self._call()
        except Http2Error as error:
            raise ProbeFailed(f"no valid HTTP/2: {error.detail}") from error

    async def _call(self) -> bool:
        engine, line, check = self._engine, self.line, self._check
        stream_id = engine.request(fields_of_request(check.authority, check.tls, check.read_timeout), False)
        engine.send_data(stream_id, request_message(check.service), True)
        call = HealthCall(stream_id, check.service)
        line.begin()
        await self._send()
        while not call.is_over:
            data = await line.receive()
            if not data:
                raise ClosedEarly("closed the connection without an answer")
            self._receive(data, call)
            if not call.is_over:
                await self._send()
        self._guard.answered += 1
        return check.reuse and not self._is_going

    def _receive(self, data: bytes, call: HealthCall) -> None:
        if not self._has_heard and data.startswith(b"HTTP/1."):
            raise ProbeFailed("answers in HTTP/1: it does not speak HTTP/2 here")
        self._has_heard = True
        self._guard.came(data, monotonic())
        for event in self._engine.receive(data):
            if event.kind == GOAWAY:
                self._is_going = True
                if event.last_stream_id < call.stream_id:  # type: ignore[union-attr]
                    raise ClosedEarly("is about to close the connection (GOAWAY)")
            elif event.kind == BODY:
                self._engine.acknowledge(event.stream_id, event.flow_length)  # type: ignore[union-attr]
            call.take(event)

    async def _send(self) -> None:
        data = self._engine.outgoing()
        if data:
            self._guard.sent(len(data))
            await self.line.send(data)
