"""What goes when room is needed: S3-FIFO, by whole segments (J. Yang and others: FIFO queues are all you need for cache
eviction, SOSP 2023). It decides; it reads and writes nothing.

New entries go to the small queue, a tenth of the room. When their segment's turn comes, those that were asked for more than once
are copied to the main queue; the others go, and a fingerprint of them stays for a while (ghosts.py): who comes again goes to
the main queue at once. There, who was asked for since his last turn is copied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SMALL: Final = 0
MAIN: Final = 1

SMALL_SHARE: Final = 0.1
"""Of the room, for the small queue."""

MOST_TOUCHES: Final = 3
"""More are not counted."""

WORTH: Final = (2, 1)
"""Touches from which an entry stays, by queue."""

MOST_COPIED: Final = 0.5
"""Of a segment's bytes, so that each turn frees something."""

SPARSE: Final = 0.25
"""A segment with less than this share of its bytes in use is emptied before any other's turn: nobody has to go for it."""


class Filled(NamedTuple):
    """A segment, as far as it is known here."""

    segment: int
    """Its number: they are given in the order in which the segments were begun."""
    queue: int
    size: int
    """Bytes in it."""
    weight: int
    """Bytes that its living entries take, those in files of their own included."""
    is_sealed: bool
    """Nobody writes to it any more."""


class Candidate(NamedTuple):
    """A living entry of a segment whose turn it is."""

    size: int
    """Bytes to copy."""
    touches: int


def next_to_free(segments: Iterable[Filled], room: int) -> Filled | None:
    """The segment whose turn it is; None when none is sealed. room: bytes of the whole store."""
    oldest: dict[int, Filled] = {}
    small = 0
    for one in segments:
        if one.queue == SMALL:
            small += max(one.size, one.weight)
        if not one.is_sealed:
            continue
        if one.weight < one.size * SPARSE:
            return one
        if one.queue not in oldest or one.segment < oldest[one.queue].segment:
            oldest[one.queue] = one
    first, second = (SMALL, MAIN) if small > room * SMALL_SHARE else (MAIN, SMALL)
    return oldest.get(first) or oldest.get(second)


def survivors(segment: Filled, entries: Sequence[Candidate]) -> list[int]:
    """Which of its entries are copied on to the main queue: their places in `entries`, in order."""
    if segment.weight < segment.size * SPARSE:
        return list(range(len(entries)))
    worth = [at for at, one in enumerate(entries) if one.touches >= WORTH[segment.queue]]
    left = segment.size * MOST_COPIED
    if sum(entries[at].size for at in worth) > left:
        worth.sort(key=lambda at: -entries[at].touches)
        kept = []
        for at in worth:
            if entries[at].size <= left:
                left -= entries[at].size
                kept.append(at)
        worth = sorted(kept)
    return worth


def touches_after(queue: int, touches: int) -> int:
    """What is counted of an entry after it was copied on from `queue`."""
    return 0 if queue == SMALL else max(0, touches - 1)
