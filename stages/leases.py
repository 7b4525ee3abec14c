"""Who holds a place of which key, as the one replica that owns the key counts them. Decides, does nothing.

A place is held by a stream for each key once, until `release`, or until nobody is left who could say that the stream
has ended: the replica that asked for it, or the actor that the stream belongs to, is gone.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from pingap.stages.messages import Claim, owner_of


class Verdict(NamedTuple):
    """Whether a claim was allowed, what the count came to with it, and what else a client may want to know."""

    allowed: bool
    value: float
    wait: float = 0.0
    """Seconds: for which an allowed one is to be held back; after which a refused one may try again, 0 where that is not known."""
    remaining: int = -1
    """As many more would be allowed now; -1 where nobody has counted."""
    reset: float = 0.0
    """Seconds until the count starts anew, or all that is used up has come back."""


class Leases:
    """Places by key and by stream."""

    __slots__ = ("_counts", "_held")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._held: dict[int, dict[str, int]] = {}
        """Stream → key → who asked."""

    def __len__(self) -> int:
        """Keys of which a place is held."""
        return len(self._counts)

    def take(self, claim: Claim, most: int) -> Verdict:
        """A place for the stream, unless `most` are taken. One that has a place keeps it."""
        key, sid = claim.key, claim.sid
        count = self._counts.get(key, 0)
        held = self._held.get(sid)
        if held is not None and key in held:
            return Verdict(True, count)
        if count >= most:
            return Verdict(False, count + 1)
        self._counts[key] = count + 1
        if held is None:
            self._held[sid] = {key: claim.asker}
        else:
            held[key] = claim.asker
        return Verdict(True, count + 1)

    def release(self, sid: int) -> None:
        """The stream has ended."""
        for key in self._held.pop(sid, ()):
            self._give_back(key)

    def forget(self, gone: Set[int]) -> None:
        """Actors are gone: what they asked for, and the places of their streams, are free."""
        for sid in [sid for sid in self._held if owner_of(sid) in gone]:
            self.release(sid)
        for sid, held in list(self._held.items()):
            for key in [key for key, asker in held.items() if asker in gone]:
                del held[key]
                self._give_back(key)
            if not held:
                del self._held[sid]

    def _give_back(self, key: str) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]  # keys come and go
