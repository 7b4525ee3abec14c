"""The segment of a queue that this process appends to. Of the committer's thread."""

from __future__ import annotations

import os
from typing import Final

from pingap.stages.plugins.cache.store.files import StoreFiles

SMALLEST: Final = 32 * 1024
LARGEST: Final = 16 * 1024 * 1024
SHARE: Final = 128


def segment_size(room: int) -> int:
    """Bytes of a full one. room: of the whole store; 0 is as much as there is."""
    return min(LARGEST, max(SMALLEST, room // SHARE)) if room else LARGEST


class SegmentWriter:
    """Has one open from `begin` to `seal`."""

    def __init__(self, files: StoreFiles) -> None:
        self._files = files
        self._fd = -1
        self.number = 0
        """0: none is open."""
        self.size = 0
        """Bytes written."""
        self.filed = 0
        """Bytes of files that its records name."""

    def begin(self, number: int) -> None:
        """Raises OSError."""
        self._fd = os.open(self._files.segment_path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.number, self.size, self.filed = number, 0, 0

    def append(self, data: bytes) -> int:
        """Where it begins. Raises OSError, and then nothing of it counts."""
        at, left = self.size, memoryview(data)
        while left:
            count = os.pwrite(self._fd, left, self.size + len(data) - len(left))
            left = left[count:]
        self.size += len(data)
        return at

    def undo(self, size: int) -> None:
        """What was appended beyond `size` was told to nobody."""
        self.size = size
        os.ftruncate(self._fd, size)

    def seal(self) -> int:
        """Which it was; none is open any more."""
        number, self.number = self.number, 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return number
