"""Tells discovery what this replica sees of backends: soon after something has changed, and nothing while nothing does."""

from __future__ import annotations

import asyncio
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.members import Members
from pingap.stages.messages import BackendReport, BackendRow
from pingap.stages.upstream.tally import Tallies, Tally

INTERVAL: Final = 0.1
"""Seconds between two reports of what is everyday."""

LEAST: Final = 0.02
"""Seconds between two reports when something has failed: that is told at once, but not a thousand times a second."""

MOST_ROWS: Final = 1000
"""Of one message."""


class Reports:
    """Of one upstream actor. What cannot be sent now is sent the next time, with what has become of it by then."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.tallies = Tallies(self)
        self._touched: list[Tally] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """Loop time at which the timer goes off."""
        self._sent = 0.0
        """Loop time of the last report."""
        self._told: set[int] = set()
        """Discovery actors that know all there was to know."""

    def touched(self, tally: Tally) -> None:
        """As a TallyKeeper has it."""
        self._touched.append(tally)
        if self._timer is None:
            self._set_timer(self._context.loop.time() + INTERVAL)

    def hurry(self) -> None:
        """As a TallyKeeper has it."""
        due = max(self._context.loop.time(), self._sent + LEAST)
        if self._timer is None or due < self._due:
            self._set_timer(due)

    def members_changed(self, members: Members) -> None:
        """A discovery actor that is new is told all of it."""
        living = {member.id for member in members.of_stage("discovery")}
        self._told &= living
        for actor in living - self._told:
            self._told.add(actor)
            self._send(actor, [tally.row() for tally in self.tallies.all()], True)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._context.loop.call_at(due, self._report)

    def _report(self) -> None:
        self._timer = None
        self._sent = self._context.loop.time()
        if not all(self._context.can_send(actor) for actor in self._told):
            self._set_timer(self._sent + INTERVAL)  # the way there is stuck, and all this can wait
            return
        touched, self._touched = self._touched, []
        for tally in touched:
            tally.is_touched = False
        # While nobody is there they go nowhere: who comes is told all.
        rows = [tally.row() for tally in touched if not tally.is_gone]
        for actor in self._told:
            self._send(actor, rows, False)

    def _send(self, actor: int, rows: list[BackendRow], is_whole: bool) -> None:
        for start in range(0, max(1, len(rows)), MOST_ROWS):
            self._context.send(actor, BackendReport(self._context.id, tuple(rows[start : start + MOST_ROWS]), is_whole))
