"""The store's clock: seconds that go on evenly, in sleep too, whatever happens to the wall clock (CLOCK_BOOTTIME and an offset)."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


class StoreClock:
    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        """Seconds that the store is older than this boot of the machine."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.offset


def boot_id() -> str:
    """Names this boot of the machine; "" where the kernel does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
