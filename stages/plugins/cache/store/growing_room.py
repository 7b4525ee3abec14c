"""What the bodies that grow in a process take of a store's room: what they have, or what it is known that they will have.

The loop reserves and frees; the committer's thread says what it has told the index of as files of entries. Each number is written
by one thread only.
"""

from __future__ import annotations


class GrowingRoom:
    def __init__(self) -> None:
        self._reserved = 0
        """Bytes; of the loop, as the next."""
        self._settled = 0
        """Bytes of those put so far that do not count in `_reserved` any more."""
        self._landed = 0
        """Bytes of those put so far, whether or not the loop knows; of the thread."""

    def reserve(self, count: int) -> None:
        self._reserved += count

    def free(self, count: int, is_kept: bool = False) -> None:
        """is_kept: it is the file of an entry now (`land`), and counts there."""
        self._reserved -= count
        if is_kept:
            self._settled += count

    def land(self, count: int) -> None:
        """So many bytes count as files of entries from now on. Of the thread."""
        self._landed += count

    def taken(self) -> int:
        """Bytes that count nowhere else."""
        return max(0, self._reserved + self._settled - self._landed)
