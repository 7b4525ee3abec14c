"""Bounds within the store: what a namespace may take, and how many variants a URL has. Of the committer's thread."""

from __future__ import annotations

from typing import Final

from pingap.stages.plugins.cache.store.change import StoreChange
from pingap.stages.plugins.cache.store.records import Spot
from pingap.stages.plugins.cache.store.shared_table import SharedTable
from pingap.stages.plugins.cache.store.short_keys import VARIANT, short_key

VARIANTS: Final = 200
"""Of one URL. The oldest goes for a new one."""

LOOKED_AT: Final = 16
"""Of the oldest entries of a namespace; the one goes that was asked for least."""

STEP: Final = 64
"""Entries that one change takes from a namespace."""


def thin_variants(change: StoreChange, key: bytes) -> None:
    """key: of a variant that was just put."""
    url = key[:-VARIANT]
    found = change.range(short_key(url) + b"\0\0", 2 * VARIANTS)
    for short, spot in sorted(found, key=lambda one: one[1].number)[: max(0, len(found) - VARIANTS)]:
        change.remove(short, url, spot)


def keep_within(change: StoreChange, table: SharedTable, namespace: bytes, but: bytes = b"") -> None:
    """Takes from a namespace what it has too much, for as long as STEP allows. but: a short key that stays if another can go."""
    space = change.space(namespace)
    for _ in range(STEP):
        if not space.most or space.weight <= space.most or not space.entries:
            return
        oldest = [one for one in _oldest(change, namespace) if one[0] != but]
        if not oldest:
            oldest = [one for one in change.range(namespace + b"\0", LOOKED_AT) if one[0] != but]  # from before it had a bound
        if not oldest:
            return
        short, spot = min(oldest, key=lambda one: table.touches(one[1].slot))
        for _, other in oldest:
            count = table.touches(other.slot)
            if count and other.slot != spot.slot:
                table.set(other.slot, count - 1, table.age(other.slot))
        change.remove(short, namespace + b"\0", spot)


def _oldest(change: StoreChange, namespace: bytes) -> list[tuple[bytes, Spot]]:
    found = []
    for short, number in change.aged(namespace, LOOKED_AT + 1):
        spot = change.find(short)
        if spot is not None and spot.number == number:
            found.append((short, spot))
        else:
            change.forget_aged(namespace, number)
    return found
