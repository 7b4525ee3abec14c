"""Internal destinations: requests that an actor of ours answers, and no upstream (bus/PROTOCOL.md section 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Final, NamedTuple

from pingap.bus.actor import Context
from pingap.stages.messages import Answered, Cancel, Routed, owner_of
from pingap.stages.waits import Waits

WAIT: Final = 2.0
"""Seconds that a destination has to answer; then the request is answered with 503."""


class _Away(NamedTuple):
    """A request that its destination has not answered yet."""

    routed: Routed
    name: str
    actor: int


class Destinations:
    """Sends requests to the actors that answer them, and knows of those that are not answered yet."""

    def __init__(
        self, context: Context, stages: Mapping[str, str], clock: Callable[[], float], give_up: Callable[[Routed, str, str], None]
    ) -> None:
        """stages: which one answers, by the name of the destination (pingap/topology.py). give_up: called with a request
        that has had no answer, the name of its destination and what is wrong with it; the destination will not answer it."""
        self._context = context
        self._stages = stages
        self._give_up = give_up
        self._away: Waits[int, _Away] = Waits(context, WAIT, clock, self._was_silent)

    def __len__(self) -> int:
        """Requests that wait for their answer."""
        return len(self._away)

    def send(self, routed: Routed, name: str) -> None:
        """Has a request answered."""
        stage = self._stages.get(name, "")
        ready = self._context.members.ready(stage)
        if ready:
            actor = ready[routed.sid % len(ready)].id
        elif stage == self._context.stage:
            actor = self._context.id  # it drains, and there is no other
        else:
            self._give_up(routed, name, "has nobody to answer")
            return
        self._away.add(routed.sid, _Away(routed, name, actor))
        self._context.send(actor, routed)

    def answered(self, answered: Answered) -> None:
        """ANSWERED: RESPONSE is on its way to accept."""
        self._away.take(answered.sid)

    def ended(self, sid: int) -> None:
        """The stream is over. Accept does not know where it went, so it is told from here."""
        away = self._away.take(sid)
        if away is not None:
            self._context.send(away.actor, Cancel(sid, "gone"))

    def _was_silent(self, sid: int, away: _Away) -> None:
        self._context.send(away.actor, Cancel(sid, "deadline"))
        self._give_up(away.routed, away.name, f"was silent for {WAIT:g} s")

    def sweep(self) -> None:
        """Gives up what has waited for too long."""
        self._away.sweep()

    def members_changed(self, gone: Set[int]) -> None:
        """A new table of actors; `gone` are those that it no longer names."""
        for sid, away in self._away.those() if gone else ():
            if owner_of(sid) in gone:
                self._away.take(sid)
            elif away.actor in gone:
                self._away.take(sid)
                self._give_up(away.routed, away.name, "died")

    def stop(self) -> None:
        """No deadline is kept any more."""
        self._away.stop()
