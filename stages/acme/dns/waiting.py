"""Waiting until the servers of a zone have a record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pingap.stages.acme.dns.lookup import NameServer

_MOST_SILENT: Final = 2
"""Rounds without an answer after which a server is not waited for, where another has the value: not each address is reached from here."""


class Pace(NamedTuple):
    """How long, and how often it is looked; in seconds."""

    bound: float
    first: float
    longest: float
    growth: float = 1.5


PROVIDED: Final = Pace(bound=120.0, first=2.0, longest=15.0)
"""With the interface of a provider, which sends what it is told to its servers within a minute or two."""
BY_HAND: Final = Pace(bound=24 * 3600.0, first=10.0, longest=60.0)


class WaitOutcome(NamedTuple):
    """What came of it."""

    is_seen: bool
    lacking: tuple[NameServer, ...]
    """Those that did not have it when it was given up."""


def wait_for(
    servers: Callable[[], Sequence[NameServer]], has: Callable[[NameServer], bool | None], pace: Pace, halted: threading.Event
) -> WaitOutcome:
    """Until all servers have it. servers: asked each time that there are none. has: None for no answer of use. Blocks.

    It ends at once when `halted` is set; the caller asks that.
    """
    end = time.monotonic() + pace.bound
    pause = pace.first
    asked: list[NameServer] = []
    silent: dict[NameServer, int] = {}
    having: set[NameServer] = set()
    while not halted.is_set():
        asked = asked or list(servers())
        for server in asked:
            if server in having or halted.is_set():
                continue
            answer = has(server)
            if answer:
                having.add(server)
            silent[server] = silent.get(server, 0) + 1 if answer is None else 0
        waited_for = [one for one in asked if one not in having and silent[one] < _MOST_SILENT]
        if having and not waited_for:
            return WaitOutcome(True, ())
        left = end - time.monotonic()
        if left <= 0:
            break
        halted.wait(min(pause, left))
        pause = min(pause * pace.growth, pace.longest)
    return WaitOutcome(False, tuple(one for one in asked if one not in having))
