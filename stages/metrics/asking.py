"""Asks discovery about upstreams when somebody scrapes, so that nothing is sent while nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.members import Members
from pingap.stages.messages import UpstreamsAsk, UpstreamsTold
from pingap.stages.statuses import UpstreamStatus

LONGEST: Final = 0.5
"""Seconds that a page waits for it."""

Rows = tuple[UpstreamStatus, ...]


class UpstreamsAsked:
    """One question at a time, whose answer is for all who came while it was under way."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ticket = 0
        self._asked = 0
        """The actor that has been asked; 0 when none has."""
        self._waiting: list[Callable[[Rows], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, then: Callable[[Rows], None]) -> None:
        """Calls `then` once: with the rows, or with none when nobody is there to tell them, or tells them in time."""
        self._waiting.append(then)
        if self._asked:
            return
        actors = self._context.members.of_stage("discovery")
        if not actors or not self._context.can_send(actors[-1].id):
            self._end(())
            return
        self._asked = actors[-1].id
        self._ticket += 1
        self._timer = self._context.loop.call_later(LONGEST, self._end, ())
        self._context.send(self._asked, UpstreamsAsk(self._context.id, self._ticket))

    def told(self, message: UpstreamsTold) -> None:
        """UPSTREAMS_TOLD; one that comes too late answers nobody."""
        if self._asked and message.ticket == self._ticket:
            self._end(message.rows)

    def members_changed(self, members: Members) -> None:
        if self._asked and self._asked not in members.by_id:
            self._end(())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, rows: Rows) -> None:
        self.stop()
        self._timer, self._asked = None, 0
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(rows)
