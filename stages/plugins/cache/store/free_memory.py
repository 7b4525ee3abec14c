"""How much memory a cache may have where nothing says it: as in the reference a quarter of what is free at the start, at most 1 GiB."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

MOST: Final = 1 << 30
UNKNOWN: Final = 256 << 20
"""Where the system does not tell."""


def budget(proc: str = "/proc", groups: str = "/sys/fs/cgroup") -> int:
    """Bytes. proc, groups: where the system tells."""
    free = _free(proc, groups)
    return min(MOST, free // 4) if free else UNKNOWN


def _free(proc: str, groups: str) -> int:
    found = []
    with suppress(OSError, ValueError, IndexError):
        for line in Path(proc, "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        for line in Path(proc, "self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                found += _limits(groups, group, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                found += _limits(os.path.join(groups, "memory"), group, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return max(0, min(found, default=0))


def _limits(groups: str, group: str, most: str, used: str) -> list[int]:
    """What a control group and those above it leave. In a container its own is at the root."""
    found = []
    path = Path(groups, group.lstrip("/"))
    while True:
        with suppress(OSError, ValueError):
            found.append(int((path / most).read_text()) - int((path / used).read_text()))  # "max" is no number
        if path == Path(groups):
            return found
        path = path.parent
