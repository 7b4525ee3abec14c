"""A backend that is tried again: probes, granted to the replicas of upstream in rounds, until enough of them have passed.

A **round** is one grant: each replica named in it may begin so many probes, and all of them together no more than are still
wanted. What a replica has not begun of an older round it may not begin any more; what it has begun counts. So that nothing
waits for ever for a replica that gets no requests, or that died, there is another round

- at once, when all of a round has passed or was lost with its replicas, and more is wanted;
- after AGAIN, when some of it was used and nobody who still holds a part has a request there under way: what is left is unused,
  then, and goes to others;
- the same when nothing of it was used, and some replicas had no part in it: that time doubles up to RAREST while nobody uses
  any, since each round is told to every replica;
- after a patience that doubles each time, up to LONGEST, in any case: a backend that answers slowly has the time for it, one
  that hangs gets few.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

AGAIN: Final = 1.0
"""Seconds after which probes that nobody has begun are granted anew."""

RAREST: Final = 16.0
"""The same at the most, while nobody begins any: a replica that alone has requests waits so long for its turn, or some of these."""

PATIENCE: Final = 2.0
"""Seconds for which a probe that may be under way is waited for at first."""

LONGEST: Final = 300.0
"""The same at the most."""

REMEMBERED: Final = 16
"""Rounds of which results are taken: the newest ones."""


class HalfOpen:
    """How far one backend has come in it. It begins without a grant."""

    __slots__ = ("_before", "_granted_at", "_passed", "_patience", "_rest", "_rounds", "_turn", "_users", "granted", "round", "wanted")

    def __init__(self, wanted: int) -> None:
        """wanted: probes in a row that must pass, 1 or more."""
        self.wanted = wanted
        self.round = 0
        """Number of the last grant; 0 before the first."""
        self.granted: dict[int, int] = {}
        """Probes of this round, by the replica that may begin them."""
        self._rounds: dict[int, dict[int, int]] = {}
        """What was granted in the newest rounds."""
        self._passed: dict[tuple[int, int], int] = {}
        """Probes of these that have passed, by round and replica."""
        self._before = 0
        """Probes that passed in older rounds."""
        self._users: set[int] = set()
        """Replicas of which a probe has passed since the last grant."""
        self._granted_at = 0.0
        self._patience = PATIENCE
        self._rest = AGAIN
        """Seconds after which those that nobody has used go to others."""
        self._turn = 0
        """Whose turn it is when there are more replicas than probes."""

    @property
    def passed(self) -> int:
        return self._before + sum(self._passed.values())

    @property
    def is_over(self) -> bool:
        """As many have passed as were wanted."""
        return self.passed >= self.wanted

    def grant(self, number: int, replicas: Sequence[int], now: float) -> None:
        """Another round. number: more than any before. replicas: those that take requests, at least one."""
        if self.granted and now >= self._granted_at + self._patience:
            self._patience = min(2 * self._patience, LONGEST)
        if self.granted and not self._users:
            self._rest = min(2 * self._rest, RAREST)
        wanted = self.wanted - self.passed
        # Who has used some has requests for this backend. Of the others nobody knows; they come in turn.
        takers = [replica for replica in replicas if replica in self._users]
        if not takers:
            turn = self._turn % len(replicas)
            takers = [*replicas[turn:], *replicas[:turn]]
            self._turn += wanted
        each, more = divmod(wanted, len(takers))
        shares = {replica: each + (place < more) for place, replica in enumerate(takers)}
        self.granted = {replica: share for replica, share in shares.items() if share}
        self.round, self._granted_at = number, now
        self._users.clear()
        self._rounds[number] = dict(self.granted)
        if len(self._rounds) > REMEMBERED:
            oldest = min(self._rounds)
            for replica in self._rounds.pop(oldest):
                self._before += self._passed.pop((oldest, replica), 0)

    def knows(self, replica: int, number: int) -> bool:
        """That replica may have begun probes of this round."""
        return replica in self._rounds.get(number, ())

    def heard(self, replica: int, number: int, passed: int) -> None:
        """So many probes of a round that it knows have passed at a replica, as of now."""
        place = number, replica
        passed = min(passed, self._rounds[number][replica])
        if passed > self._passed.get(place, 0):
            self._passed[place] = passed
            self._users.add(replica)
            self._rest = AGAIN

    def without(self, dead: Collection[int]) -> None:
        """Takes from replicas what they have not used."""
        for replica in self.granted.keys() & set(dead):
            self.granted[replica] = self._passed.get((self.round, replica), 0)
            if not self.granted[replica]:
                del self.granted[replica]

    def is_due(self, replicas: Collection[int], in_flight: Mapping[int, int], now: float) -> bool:
        """There should be another round. replicas: those that take requests. in_flight: requests at this backend, by replica."""
        held = [replica for replica, share in self.granted.items() if self._passed.get((self.round, replica), 0) < share]
        if not held or now >= self._granted_at + self._patience:
            return True
        if now < self._granted_at + self._rest or not (self._users or set(replicas) - self.granted.keys()):
            return False
        return not any(in_flight.get(replica) for replica in held)

    def due(self, now: float) -> float:
        """When `is_due` may become true by time alone."""
        rested, out_of_patience = self._granted_at + self._rest, self._granted_at + self._patience
        return rested if now < rested < out_of_patience else out_of_patience
