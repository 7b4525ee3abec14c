"""A check by HTTP/1.1: a GET, which 200 alone passes."""

from __future__ import annotations

from typing import Final

import h11

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.probes.failed import ClosedEarly, ProbeFailed, TooMuch
from pingap.stages.discovery.probes.line import ProbeLine

MOST_HEAD: Final = 16 * 1024
"""Bytes of the longest head of an answer."""

MOST_INTERIM: Final = 8
"""Interim answers (1xx) before the one that counts."""


class HttpTalk:
    """What is said on one connection, perhaps in several checks."""

    def __init__(self, line: ProbeLine, check: HealthCheck) -> None:
        self.line = line
        self._check = check
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)

    @property
    def can_go_on(self) -> bool:
        return not self.line.has_unread  # what comes unasked would be read as the next answer

    async def ask(self) -> bool:
        """One GET; True if the connection can be used for another. Raises ProbeFailed unless the answer is 200; OSError."""
        protocol, line = self._protocol, self.line
        if protocol.our_state is h11.DONE:
            protocol.start_next_cycle()
        headers = [("host", self._check.authority), ("user-agent", "pingap-health-check"), ("accept", "*/*")]
        if not self._check.reuse:
            headers.append(("connection", "close"))
        request = protocol.send(h11.Request(method="GET", target=self._check.path, headers=headers)) or b""
        line.begin()
        await line.send(request + (protocol.send(h11.EndOfMessage()) or b""))
        try:
            return await self._answer()
        except h11.RemoteProtocolError as error:
            raise ProbeFailed(f"no valid answer: {error}") from error

    async def _answer(self) -> bool:
        protocol, line = self._protocol, self.line
        interim, has_begun, has_passed = 0, False, False
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await line.receive()
                except TooMuch:
                    if has_passed:
                        return False  # as good as a shorter one
                    raise
                if not (data or has_begun):
                    raise ClosedEarly("closed the connection without an answer")
                has_begun = True
                protocol.receive_data(data)
            elif isinstance(event, h11.InformationalResponse):
                interim += 1
                if interim > MOST_INTERIM:
                    raise ProbeFailed(f"sends interim answers ({event.status_code}) without end")
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise ProbeFailed(f"answered with status {event.status_code}")
                has_passed = True
            elif isinstance(event, h11.EndOfMessage):
                is_done = protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
                return self._check.reuse and is_done and not protocol.trailing_data[0]
            elif not isinstance(event, h11.Data):  # it switches protocols, or has closed
                raise ProbeFailed("no valid answer: the connection is no longer HTTP")
