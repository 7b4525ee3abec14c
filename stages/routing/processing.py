"""max_processing: the requests in progress of the locations whose count this replica keeps."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple


class _Place(NamedTuple):
    location: str
    asker: int


class Processing:
    """Who holds a place in which location. A place is given back by `leave`, or by the death of who took it."""

    __slots__ = ("_counts", "_places")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[int, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def count(self, location: str) -> int:
        """Requests in progress in a location."""
        return self._counts.get(location, 0)

    def enter(self, location: str, sid: int, asker: int, limit: int) -> bool:
        """Takes a place for a stream, unless `limit` are taken. A stream that has one keeps it."""
        if sid in self._places:
            return True
        count = self._counts.get(location, 0)
        if count >= limit:
            return False
        self._counts[location] = count + 1
        self._places[sid] = _Place(location, asker)
        return True

    def leave(self, sid: int) -> bool:
        """Gives the place of a stream back; False when it had none."""
        place = self._places.pop(sid, None)
        if place is None:
            return False
        count = self._counts[place.location] - 1
        if count:
            self._counts[place.location] = count
        else:
            del self._counts[place.location]  # locations come and go with generations
        return True

    def forget(self, gone: Set[int]) -> None:
        """Frees the places of streams whose accept actor, or whose asker, is gone: nobody is left to say that they ended."""
        for sid in [sid for sid, place in self._places.items() if place.asker in gone or sid >> 32 in gone]:
            self.leave(sid)
