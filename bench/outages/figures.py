"""What an outage did to clients, from what they saw and from what the backend got."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from bench.outages.load import Seen

SLOW: Final = 1.0
"""Seconds; an answer that takes longer is slow."""

WINDOW: Final = 1.0
"""Seconds over which a share is looked at."""

FEW: Final = 0.05
"""Of the requests of such a time: touched ones up to so many are trials, not traffic."""

ENOUGH: Final = 0.8
"""Of its fair share: so much of it a backend must get to have it again."""


@dataclass(frozen=True, slots=True)
class Span:
    """The times of one outage, seconds since the load began."""

    gone: float
    """The backend goes bad, or is taken out."""
    back: float
    """It is well again, or is added."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scenario with one proxy."""

    requests: int
    errors: int
    """Answers of 500 and above, connections refused, reset or cut, and clients that gave up after 10 s."""
    slow: int
    """Good answers that took longer than a second."""
    touched: int
    """Requests sent within the outage that a client saw hurt, or that reached the bad backend at all, retried or not."""
    left: float | None
    """Seconds from the fault until the last second ends of whose requests more than 5 % were touched; None: none was ever touched."""
    last: float | None
    """Seconds from the fault until the last touched request at all was sent, such as a trial whether it is well again."""
    returned: float | None
    """Seconds from the backend's recovery until it begins to have, for a second, 80 % of its fair share of answers; None: not seen."""


def figures(seen: Sequence[Seen], span: Span, backend: str, reached: Collection[int], backends: int = 3) -> Figures:
    """seen: of every request, in the order in which they were sent. reached: the numbers of those that the bad backend got."""
    end = span.back if span.back > span.gone else float("inf")
    reached = set(reached)

    def is_hurt(one: Seen) -> bool:
        return one.is_error or one.took > SLOW or one.number in reached

    within = [one for one in seen if span.gone <= one.at < end]
    touched = [one.at for one in within if is_hurt(one)]
    good = [one for one in seen if not one.is_error]
    return Figures(
        requests=len(seen),
        errors=len(seen) - len(good),
        slow=sum(one.took > SLOW for one in good),
        touched=len(touched),
        left=left([one.at for one in within], touched, span.gone),
        last=max(touched) - span.gone if touched else None,
        returned=returned(seen, span, backend, backends),
    )


def left(sent: Sequence[float], touched: Sequence[float], gone: float) -> float | None:
    """sent, touched: times of requests, the latter of some of the former, in order."""
    found = 0.0
    for index, at in enumerate(touched):
        few = FEW * (bisect_right(sent, at) - bisect_left(sent, at - WINDOW))
        if index + 1 - bisect_left(touched, at - WINDOW) > few:
            found = at - gone
    return found if touched else None


def returned(seen: Sequence[Seen], span: Span, backend: str, backends: int) -> float | None:
    """The first moment after it came back from which on it answers its share of what is sent within `WINDOW`."""
    end = span.gone if span.gone > span.back else float("inf")
    after = [one for one in seen if span.back <= one.at < end]
    first = 0
    its = 0
    for last, one in enumerate(after):
        its += one.backend == backend and not one.is_error
        while one.at - after[first].at > WINDOW:
            its -= after[first].backend == backend and not after[first].is_error
            first += 1
        whole = one.at - after[0].at >= WINDOW
        if whole and its >= ENOUGH * (last - first + 1) / backends:
            return after[first].at - span.back
    return None
