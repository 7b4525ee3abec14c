"""Keys whose last answer was not to be stored: requests for them need not wait for one another.

Each process remembers those that it has asked for, and the owner those that it was told of. A purge of the key ends it, as the
answer may be another one from then on; and so does an answer that may be stored: the one before was for its own client, then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

KEPT: Final = 32_768
"""Keys remembered in a process; beyond that the oldest is forgotten, and the next request for it is one that others wait for."""


class UnstorableKeys:
    """Those of one process. Times are monotonic seconds."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Until when, and with which change of the key known."""

    def __len__(self) -> int:
        return len(self._by_name)

    def remember(self, name: str, seconds: float, since: int, now: float) -> None:
        """since: as in `Flights.ask`, of the fetch that has shown it."""
        self._by_name[name] = now + seconds, since
        self._by_name.move_to_end(name)
        if len(self._by_name) > KEPT:
            self._by_name.popitem(last=False)

    def forget(self, name: str) -> bool:
        """Nothing is known of it any more. Whether there was."""
        return self._by_name.pop(name, None) is not None

    def left(self, name: str, since: int, now: float) -> float:
        """Seconds for which that holds; 0 for a key of which nothing is known, or nothing that is as new as `since`."""
        known = self._by_name.get(name)
        if known is None:
            return 0.0
        until, seen = known
        if now >= until or seen < since:
            del self._by_name[name]
            return 0.0
        return until - now
