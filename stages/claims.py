"""Claims: what must be exact over all replicas of a stage has one owner for each key, and the others ask it.

A **claim** is the question of one stream whether it may: be one of so many requests of a location, of a client, be the
one that fetches. The owner of the key (owners.py) gives the **verdict** at once, by what the stage's judge says; an owner
that asks itself sends nothing. A claim that is allowed may leave a **lease** with the owner (leases.py): a place that is
counted until the stream ends. Accept knows nothing of owners: it tells the asker of the end (DONE, CANCEL), and the asker
passes it on, behind CLAIM on the same way, so that no owner counts a stream after its end.

- **The asker dies**: the owner sees that in the table of actors and frees what it had asked for. The same when the actor
  dies to which the stream belongs. A claim of the dead that comes late is not counted.
- **The owner dies** with a claim open: its successor is asked. Its leases are gone with it: the successor counts from 0,
  so that for as long as the old streams last there may be up to twice what the limit says.
- **A key moves** because a replica has joined or leaves: the same, and leases stay with who gave them until they end.
- **The owner is silent** for WAIT seconds: the claim is allowed, and counted as unanswered. A limit protects, it must not
  become the outage. What the owner said too late is of no effect; the lease that it may have given ends with the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from time import monotonic
from typing import Any, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim, Claimed, Done, owner_of
from pingap.stages.owners import Owners
from pingap.stages.waits import Waits

WAIT: Final = 1.0
"""Seconds that the owner of a key has to answer; then the request passes."""

Judge = Callable[[Leases, Claim, float], Verdict]
"""What a stage counts by: (leases of this owner, claim, monotonic seconds). Neither waits nor fails."""

Heard = Callable[[Verdict], None]


class _Unanswered(NamedTuple):
    """A claim whose owner has not answered yet."""

    claim: Claim
    heard: Heard
    holds: bool


class Claims:
    """Claims of one actor on the others of its stage, and theirs on it."""

    def __init__(self, context: Context, judge: Judge, unanswered: str, clock: Callable[[], float] = monotonic) -> None:
        """unanswered: the counter of claims that passed because their owner was silent."""
        self._context = context
        self._judge = judge
        self._unanswered = unanswered
        self._clock = clock
        self._me = context.id
        self._owners = Owners(context)
        self._leases = Leases()
        self._open: Waits[tuple[int, str], _Unanswered] = Waits(context, WAIT, clock, self._owner_was_silent)
        """By stream and key."""
        self._asked: dict[int, dict[str, int]] = {}
        """Stream → key → the other replica that was asked: as long as the claim is open, or may have left a lease there."""

    @property
    def waiting(self) -> int:
        """Claims that wait for their owner."""
        return len(self._open)

    # -- asking -----------------------------------------------------------------

    def judged_here(self, sid: int, key: str, args: tuple[Any, ...]) -> Verdict | None:
        """The verdict, when this replica owns the key; else None, and `ask` will have it. After either, `ended` must be called
        when the stream has ended, if the judge gives leases for such a claim."""
        if self._owners.of(key) != self._me:
            return None
        if self._context.members.is_dead(owner_of(sid)):
            return Verdict(False, 0.0)  # nobody would give the lease back
        return self._judge(self._leases, Claim(sid, self._me, key, args), self._clock())

    def ask(self, sid: int, key: str, args: tuple[Any, ...], heard: Heard, holds: bool = True) -> None:
        """Asks the owner of the key, another replica: `heard` is called with its verdict, unless the stream ends before.

        holds: the judge gives a lease to who is allowed.
        """
        owner = self._owners.of(key)
        claim = Claim(sid, self._me, key, args)
        self._open.add((sid, key), _Unanswered(claim, heard, holds))
        self._asked.setdefault(sid, {})[key] = owner
        self._context.send(owner, claim)

    def claimed(self, claimed: Claimed) -> None:
        """CLAIMED: the owner has answered."""
        asked = self._open.take((claimed.sid, claimed.key))
        if asked is None:
            return  # it passed at the deadline, or has ended; the lease is given back with its end
        if not (asked.holds and claimed.allowed):
            self._forget(claimed.sid, claimed.key)
        asked.heard(Verdict(claimed.allowed, claimed.value, claimed.wait, claimed.remaining, claimed.reset))

    def _forget(self, sid: int, key: str) -> None:
        """No lease came of it."""
        asked = self._asked[sid]
        del asked[key]
        if not asked:
            del self._asked[sid]

    def ended(self, sid: int) -> None:
        """DONE and CANCEL: the stream is over, or another replica says so of one that it asked for."""
        if sid in self._asked:
            owners = set()
            for key, owner in self._asked.pop(sid).items():
                asked = self._open.take((sid, key))
                if asked is None or asked.holds:
                    owners.add(owner)
            for owner in owners:
                self._context.send(owner, Done(sid))
        self._leases.release(sid)

    # -- being asked --------------------------------------------------------------

    def asked(self, claim: Claim) -> None:
        """CLAIM: another replica asks."""
        members = self._context.members
        if members.is_dead(claim.asker) or members.is_dead(owner_of(claim.sid)):
            return  # nobody waits for the answer, and nobody would give the lease back
        verdict = self._judge(self._leases, claim, self._clock())
        self._context.send(claim.asker, Claimed(claim.sid, claim.key, *verdict))

    # -- deadlines and deaths -------------------------------------------------------

    def _owner_was_silent(self, at: tuple[int, str], asked: _Unanswered) -> None:
        if not asked.holds:
            self._forget(*at)
        self._context.count(self._unanswered)
        asked.heard(Verdict(True, 0.0))

    def sweep(self) -> None:
        """Allows every claim whose owner has been silent for too long."""
        self._open.sweep()

    def members_changed(self, gone: Set[int]) -> None:
        """A new table of actors; `gone` are those that it no longer names."""
        self._owners.forget()
        if not gone:
            return
        self._leases.forget(gone)
        for sid in [sid for sid in self._asked if owner_of(sid) in gone]:
            # Owners see the same table: nobody need tell them that its streams are over.
            for key in self._asked.pop(sid):
                self._open.take((sid, key))
        again = []
        for sid, keys in list(self._asked.items()):
            for key in [key for key, owner in keys.items() if owner in gone]:
                self._forget(sid, key)
                asked = self._open.take((sid, key))
                if asked is not None:
                    again.append(asked)
        for claim, heard, holds in again:
            verdict = self.judged_here(claim.sid, claim.key, claim.args)
            if verdict is not None:
                heard(verdict)
            else:
                self.ask(claim.sid, claim.key, claim.args, heard, holds)

    def stop(self) -> None:
        """No deadline is kept any more."""
        self._open.stop()
