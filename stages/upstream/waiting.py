"""Those who wait for a connection to a backend, their places in line, and what they may wait for."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, Protocol

from pingap.stages.messages import Routed
from pingap.stages.upstream.channel import Channel
from pingap.stages.upstream.core import Outcome

LONGEST_WAIT: Final = 300.0
"""Seconds; no wait is without an end even where the configuration sets none."""


class Waiter(Protocol):
    """One who waits for a connection: an exchange."""

    routed: Routed
    method: bytes

    def served(self, channel: Channel | None) -> None:
        """A connection came free (or room for one) for one that was in line, and is there no more."""

    def go_elsewhere(self) -> None:
        """The backend at which it was in line is none any more."""

    def waited_too_long(self) -> None:
        """No connection came free in time; it is in line no more."""

    def connected(self, channel: Channel, seconds: tuple[float, ...]) -> None:
        """seconds: TCP connect, TLS handshake; none when it is another exchange for which the connection was opened."""

    def connect_failed(self, outcome: Outcome, detail: str) -> None: ...

    def connect_once_more(self) -> None:
        """The connection came, but has no room for this one."""


class Place:
    """In a line: for a connection to one backend, or for the first backend of an upstream."""

    __slots__ = ("_line", "name", "needs_http1", "since", "waiter")

    def __init__(self, line: dict[Place, None], waiter: Waiter, name: str, needs_http1: bool, since: float) -> None:
        """Takes the last one. since: monotonic seconds at which the wait began, if perhaps in another line."""
        self._line = line
        line[self] = None
        self.waiter = waiter
        self.name = name
        self.needs_http1 = needs_http1
        self.since = since

    @property
    def is_taken(self) -> bool:
        """Its waiter is in there yet."""
        return self in self._line

    def leave(self) -> None:
        """If it is in there yet."""
        self._line.pop(self, None)


def late_in(line: dict[Place, None], limit: float) -> list[Waiter]:
    """Takes those out of a line that have been in it since `limit`, in monotonic seconds, or longer.

    Of those that came from another line the ones that are behind younger ones are not found: Moved has them.
    """
    late = []
    for place in line:
        if place.since > limit:
            break
        late.append(place)
    for place in late:
        del line[place]
    return [place.waiter for place in late]


class Moved:
    """Places of those that had waited in another line before: they are behind younger ones, and their time is up earlier."""

    __slots__ = ("_count", "_places")

    def __init__(self) -> None:
        self._places: list[tuple[float, int, Place]] = []
        """A heap by the beginning of the wait; who has left since is in it until the time is up."""
        self._count = 0

    def add(self, place: Place) -> None:
        self._count += 1
        heappush(self._places, (place.since, self._count, place))

    @property
    def first(self) -> float | None:
        """Monotonic seconds since which the first of them has waited; None when there is none."""
        return self._places[0][0] if self._places else None

    def waited_since(self, limit: float) -> list[Waiter]:
        """Takes those out of their lines that have waited since `limit`, in monotonic seconds, or longer."""
        places = self._places
        late = []
        while places and (places[0][0] <= limit or not places[0][2].is_taken):
            place = heappop(places)[2]
            if place.is_taken:
                place.leave()
                late.append(place.waiter)
        return late


class Opening(Protocol):
    """A connection that is being opened (connecting.py)."""

    name: str
    room: int
    """Exchanges that it will have room for, as far as is known."""
    waiting: list[Waiter]

    def leave(self, waiter: Waiter) -> None:
        """One that waited does so no longer."""
