"""Answers that no backend gave: their reports, error pages, and what an actor says by itself, as RESPONSE and, where that is
too long for one envelope, DATA.

The actor hands CREDIT, CANCEL and DONE on to `OwnAnswers`, and tells it which actors are gone.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from pingap.bus.actor import Context
from pingap.stages.messages import INLINE, Answered, Cancel, Credit, Data, Done, Report, Request, Response, Routed, owner_of, window


def report_on(
    client_ip: str,
    stamps: tuple[float, ...],
    location: str = "",
    upstream: str = "",
    error: str = "",
    reason: str = "",
    variables: dict[str, Any] | None = None,
    tries: int = 0,
    connect_seconds: tuple[float, ...] = (),
) -> Report:
    """What accept is told of an answer that no backend gave. All as in Report; stamps: as far as the request came."""
    return Report(
        location,
        upstream,
        "",
        0,
        False,
        tries,
        stamps,
        connect_seconds,
        error,
        {} if variables is None else variables,
        client_ip,
        reason=reason,
    )


def page_response(
    sid: int, source: int, page: tuple[int, bytes, bytes], method: bytes, report: Report | None, watchers: tuple[int, ...] = ()
) -> Response:
    """An error page (`ErrorPages.page`) in one piece. method: of the request, for HEAD is told the length alone."""
    status, headers, body = page
    return Response(sid, source, status, headers, len(body), b"" if method == b"HEAD" else body, True, report, watchers)


@dataclass(slots=True)
class _Rest:
    """What has not been sent yet of an answer's body."""

    payload: bytes
    sent: int
    credit: int


class OwnAnswers:
    """Sends an actor's own answers to accept, within credit."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rests: dict[int, _Rest] = {}

    def __len__(self) -> int:
        """Answers that have not been sent to their end."""
        return len(self._rests)

    def send(self, request: Request | Routed, status: int, headers: bytes, body: bytes, report: Report) -> None:
        """RESPONSE, and as much of its body as may be sent now. headers: a block in normal form."""
        sid, length, me = request.sid, len(body), self._context.id
        if request.method == b"HEAD":
            body = b""
        ended = len(body) <= INLINE
        first = body if ended else b""
        # Accept tells of the end of a stream, whatever it is, to who watches it: then the rest is not wanted any more.
        watchers = () if ended else (me,)
        self._context.send(owner_of(sid), Response(sid, me, status, headers, length, first, ended, report, watchers))
        if not ended:
            self._rests[sid] = _Rest(body, 0, window(request.version))
            self._go_on(sid)

    def answer(self, routed: Routed, status: int, headers: bytes, body: bytes, error: str = "") -> None:
        """The answer of an internal destination; routing, which sent it there, is told that it need not wait for it."""
        self.send(routed, status, headers, body, report_on(routed.client_ip, routed.stamps, error=error))
        self._context.send(routed.affinity.routing, Answered(routed.sid))

    def _go_on(self, sid: int) -> None:
        rest = self._rests[sid]
        part = rest.payload[rest.sent : rest.sent + rest.credit]
        rest.sent += len(part)
        rest.credit -= len(part)
        ended = rest.sent == len(rest.payload)
        if part:
            self._context.send(owner_of(sid), Data(sid, part, ended, ""))
        if ended:
            del self._rests[sid]

    def credited(self, credit: Credit) -> None:
        """CREDIT: more may be sent."""
        rest = self._rests.get(credit.sid)
        if rest is not None:
            rest.credit += credit.bytes
            self._go_on(credit.sid)

    def ended(self, message: Cancel | Done) -> None:
        """CANCEL and DONE: nobody wants the rest."""
        self._rests.pop(message.sid, None)

    def forget(self, gone: Set[int]) -> None:
        """Actors are gone; what went to those of accept is of no use."""
        for sid in [sid for sid in self._rests if owner_of(sid) in gone]:
            del self._rests[sid]
