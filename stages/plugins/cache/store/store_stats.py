"""What a store tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StoreCounts:
    """Of this process, since it opened the store."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    evicted: int = 0
    expired: int = 0
    """Entries that nobody asked for within `inactive`."""
    purged: int = 0
    resets: int = 0
    """How often it began anew, because the index was broken or full."""
    refused: dict[str, int] = field(default_factory=dict)
    """Puts, by reason: purged, gone, too_large, no_room, disk_full, index_full, incomplete, busy, late, closed, unreadable, error."""


@dataclass(slots=True)
class StoreStats:
    directory: str
    kind: str
    """memory or disk."""
    room: int
    """Bytes; 0: as much as there is."""
    taken: int
    """Bytes of all its files."""
    entries: int
    segment_bytes: int
    file_bytes: int
    index_bytes: int
    counts: StoreCounts
    spaces: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Entries and bytes by namespace, of those that were asked for."""
