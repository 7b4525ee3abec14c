"""Fingerprints of entries that were evicted from the small queue, in a table that all processes share.

Each place of the table holds the newest that fell on it, so old ones go by themselves. Two bytes each: one in 65,536 strangers
is taken for a ghost, and goes to the main queue a turn too early.
"""

from __future__ import annotations

from hashlib import blake2b


class Ghosts:
    def __init__(self, table: memoryview) -> None:
        """table: bytes, two for each place."""
        self._table = table.cast("H")

    def add(self, key: bytes) -> None:
        at, print_ = self._place(key)
        self._table[at] = print_

    def take(self, key: bytes) -> bool:
        """Whether it was there; it is not any more."""
        at, print_ = self._place(key)
        if self._table[at] != print_:
            return False
        self._table[at] = 0
        return True

    def release(self) -> None:
        self._table.release()

    def _place(self, key: bytes) -> tuple[int, int]:
        hashed = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        return (hashed >> 16) % len(self._table), (hashed & 0xFFFF) or 1
