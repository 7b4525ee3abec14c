"""Requests of the locations whose plugins want them counted (`counts_requests`): how many there were, how many are in flight.

Accept tells of the end of each, as it does for claims (stages/claims.py): they are begun here and end with DONE or CANCEL.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from pingap.stages.messages import owner_of

NONE: Final = (0, 0)


class RequestCounts:
    """Those of one process of the stage, since it began."""

    __slots__ = ("_accepted", "_processing", "_where")

    def __init__(self) -> None:
        self._accepted: dict[str, int] = {}
        """By location."""
        self._processing: dict[str, int] = {}
        self._where: dict[int, str] = {}
        """Stream in flight → location."""

    def begin(self, sid: int, location: str) -> None:
        """A request has come; one that comes again, because a stage died with it, is the same."""
        if sid in self._where:
            return
        self._where[sid] = location
        self._accepted[location] = self._accepted.get(location, 0) + 1
        self._processing[location] = self._processing.get(location, 0) + 1

    def end(self, sid: int) -> None:
        """It is over, whether it was counted or not."""
        location = self._where.pop(sid, None)
        if location is not None:
            self._processing[location] -= 1

    def forget(self, gone: Set[int]) -> None:
        """Actors have died: nobody will tell of the end of their streams."""
        for sid in [sid for sid in self._where if owner_of(sid) in gone]:
            self.end(sid)

    def keep(self, locations: Iterable[str]) -> None:
        """What a configuration no longer has is forgotten, once nothing of it is in flight."""
        kept = frozenset(locations)
        for location in [name for name in self._accepted if name not in kept and not self._processing[name]]:
            del self._accepted[location], self._processing[location]

    def of(self, location: str) -> tuple[int, int]:
        """(requests so far, requests in flight)."""
        accepted = self._accepted.get(location)
        return NONE if accepted is None else (accepted, self._processing[location])
