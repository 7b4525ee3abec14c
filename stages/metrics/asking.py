"""Asks other stages for what they know when somebody scrapes, so that nothing is sent while nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.bus.envelope import Message
from pingap.bus.members import Members
from pingap.stages.certificate_status import CertificateStatus
from pingap.stages.messages import CertificatesAsk, CertificatesTold, UpstreamsAsk, UpstreamsTold
from pingap.stages.statuses import UpstreamStatus

LONGEST: Final = 0.5
"""Seconds that a page waits for them."""


class OthersTold(NamedTuple):
    """What others know; nothing of who is not there, or does not tell it in time."""

    upstreams: tuple[UpstreamStatus, ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()


NOTHING: Final = OthersTold()


class AllAsked:
    """Discovery and acme are asked at the same time."""

    def __init__(self, context: Context) -> None:
        self._upstreams = _StageAsked(context, "discovery", UpstreamsAsk)
        self._certificates = _StageAsked(context, "acme", CertificatesAsk)

    def ask(self, then: Callable[[OthersTold], None]) -> None:
        """Calls `then` once."""
        found: dict[str, Any] = {}
        all_asked = {"upstreams": self._upstreams, "certificates": self._certificates}

        def told(name: str, rows: Sequence[Any]) -> None:
            found[name] = rows
            if len(found) == len(all_asked):
                then(OthersTold(**found))

        for name, asked in all_asked.items():
            asked.ask(partial(told, name))

    def told(self, message: UpstreamsTold | CertificatesTold) -> None:
        """UPSTREAMS_TOLD, CERTIFICATES_TOLD; one that comes too late answers nobody."""
        (self._upstreams if isinstance(message, UpstreamsTold) else self._certificates).told(message.ticket, message.rows)

    def members_changed(self, members: Members) -> None:
        for asked in (self._upstreams, self._certificates):
            asked.members_changed(members)

    def stop(self) -> None:
        for asked in (self._upstreams, self._certificates):
            asked.stop()


class _StageAsked:
    """One stage, and one question to it at a time, whose answer is for all who came while it was under way."""

    def __init__(self, context: Context, stage: str, question: Callable[[int, int], Message]) -> None:
        """question: made of who asks and of a ticket."""
        self._context = context
        self._stage = stage
        self._question = question
        self._ticket = 0
        self._asked = 0
        """The actor that has been asked; 0 when none has."""
        self._waiting: list[Callable[[Sequence[Any]], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, then: Callable[[Sequence[Any]], None]) -> None:
        """Calls `then` once: with the rows, or with none when nobody is there to tell them, or tells them in time."""
        self._waiting.append(then)
        if self._asked:
            return
        actors = self._context.members.of_stage(self._stage)
        if not actors or not self._context.can_send(actors[-1].id):
            self._end(())
            return
        self._asked = actors[-1].id
        self._ticket += 1
        self._timer = self._context.loop.call_later(LONGEST, self._end, ())
        self._context.send(self._asked, self._question(self._context.id, self._ticket))

    def told(self, ticket: int, rows: Sequence[Any]) -> None:
        if self._asked and ticket == self._ticket:
            self._end(rows)

    def members_changed(self, members: Members) -> None:
        if self._asked and self._asked not in members.by_id:
            self._end(())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, rows: Sequence[Any]) -> None:
        self.stop()
        self._timer, self._asked = None, 0
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(rows)
