"""How long an order is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, NamedTuple

from pingap.stages.acme.authority.failures import IssueFailed

LONGEST: Final = 300.0
"""Seconds that an order may take, without the time that it takes to present proofs, which has bounds of its own."""
FIRST: Final = 0.25
MOST: Final = 5.0
"""Seconds between two questions when the authority does not say how many; each wait is twice the one before."""


class AuthorityTime(NamedTuple):
    """The clocks, and how to wait."""

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class OrderPatience:
    """Of one order."""

    def __init__(self, clocks: AuthorityTime) -> None:
        self._clocks = clocks
        self._end = clocks.steady() + LONGEST
        self._next = FIRST

    def restart(self) -> None:
        """Something else is waited for: short steps again."""
        self._next = FIRST

    def check(self) -> None:
        """Before each request. Raises IssueFailed: it takes too long."""
        if self._clocks.steady() > self._end:
            raise IssueFailed(f"the authority was not through within {LONGEST:g} s; the order is kept, and the next try goes on with it")

    def pause(self, until: float | None, what: str) -> None:
        """until: as the authority says, seconds since 1970. what: is waited for, for the message. Raises IssueFailed: it takes too long."""
        seconds = self._next if until is None else max(until - self._clocks.now(), FIRST)
        self._next = min(self._next * 2, MOST)
        if self._clocks.steady() + seconds > self._end:
            raise IssueFailed(
                f"{what}: the authority was not through within {LONGEST:g} s; the order is kept, and the next try goes on with it",
                retry_at=until,
            )
        self._clocks.wait(seconds)

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """What is done in there does not count."""
        start = self._clocks.steady()
        try:
            yield
        finally:
            self._end += self._clocks.steady() - start
