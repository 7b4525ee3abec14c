"""How many requests there are: `await host.figures(location)` asks those who know, so that nothing is sent while nobody asks.

Accept's actors know of all requests, those of plugins of their locations' (counts.py). Each answers at once; the numbers of one
that is silent are missing, and then a sum would be wrong: it is not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from pingap.bus.actor import Context
from pingap.bus.members import STARTING, Members
from pingap.stages.messages import FiguresAsk, FiguresTold

LONGEST: Final = 0.5
"""Seconds that a hook waits for them."""

TELLERS: Final = ("accept", "plugins")


class RequestFigures(NamedTuple):
    """Numbers of requests, over all processes of this pingap; None where somebody did not tell his in time."""

    accepted: int | None
    """So far. What a process has counted ends with it: one that dies takes its part along."""
    processing: int | None
    """In flight now."""
    location_accepted: int | None
    """The same of one location."""
    location_processing: int | None


class _Question:
    """One that waits for answers."""

    __slots__ = ("answer", "silent", "sums", "timer", "waits")

    def __init__(self, answer: asyncio.Future[RequestFigures]) -> None:
        self.answer = answer
        self.waits: dict[int, str] = {}
        """Who has not answered, and his stage."""
        self.silent: set[str] = set()
        """Stages of which somebody did not answer."""
        self.sums = dict.fromkeys(TELLERS, (0, 0))
        self.timer: asyncio.TimerHandle | None = None


class FiguresAsked:
    """Questions of one process of the stage."""

    def __init__(self, context: Context, own: Callable[[str], tuple[int, int]]) -> None:
        """own: the numbers of a location that this actor has counted."""
        self._context = context
        self._own = own
        self._ticket = 0
        self._open: dict[int, _Question] = {}

    def __len__(self) -> int:
        """Questions that wait."""
        return len(self._open)

    async def ask(self, location: str) -> RequestFigures:
        """See `Host.figures`."""
        context = self._context
        self._ticket += 1
        ticket = self._ticket
        question = self._open[ticket] = _Question(context.loop.create_future())
        question.sums["plugins"] = self._own(location)
        tellers = [one for stage in TELLERS for one in context.members.of_stage(stage) if one.state != STARTING and one.id != context.id]
        for member in tellers:
            if context.can_send(member.id):
                question.waits[member.id] = member.stage
            else:
                question.silent.add(member.stage)
        for actor in question.waits:
            context.send(actor, FiguresAsk(context.id, ticket, location))
        question.timer = context.loop.call_later(LONGEST, self._late, ticket)
        self._look(ticket, question)
        try:
            return await question.answer
        finally:
            question.timer.cancel()
            self._open.pop(ticket, None)

    def told(self, told: FiguresTold) -> None:
        """FIGURES_TOLD; one that comes too late is for nobody."""
        question = self._open.get(told.ticket)
        stage = question.waits.pop(told.teller, None) if question is not None else None
        if question is None or stage is None:
            return
        accepted, processing = question.sums[stage]
        question.sums[stage] = accepted + told.accepted, processing + told.processing
        self._look(told.ticket, question)

    def members_changed(self, members: Members) -> None:
        """Who is gone has nothing to tell any more."""
        for ticket, question in list(self._open.items()):
            for actor in [actor for actor in question.waits if actor not in members.by_id]:
                del question.waits[actor]
            self._look(ticket, question)

    def _late(self, ticket: int) -> None:
        question = self._open.get(ticket)
        if question is not None:
            question.silent.update(question.waits.values())
            question.waits.clear()
            self._look(ticket, question)

    def _look(self, ticket: int, question: _Question) -> None:
        if question.waits or question.answer.done():
            return
        found: list[int | None] = []
        for stage in TELLERS:
            found += (None, None) if stage in question.silent else question.sums[stage]
        question.answer.set_result(RequestFigures(*found))

    def stop(self) -> None:
        """The process ends."""
        for ticket in list(self._open):
            self._late(ticket)
