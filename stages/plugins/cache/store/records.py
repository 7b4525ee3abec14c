"""What is written: records of segment files, and rows of the index that say where they are.

A record is a stored answer's head and, if it is small, its body; what is larger is in a file of its own that the row names.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final, NamedTuple

import msgspec

from pingap.stages.caching.entry import CacheEntry

MAGIC: Final = b"PgC1"

RECORD: Final = Struct("<4sIIHB")
"""MAGIC, bytes of the packed entry, of the body behind it, of the key's end; whether that end continues the entry's own key."""

INLINE: Final = Struct("<QIIIIB")
_FILED: Final = Struct("<QIIIIBQQ")

TAGGED: Final = 1
"""It has tags, in the index of tags as well."""

SOFT: Final = 6
"""How often it was purged softly since it was written: 0, or 1 to 3 in turns (`softened`)."""

MOST_OF_A_BATCH: Final = 65536
"""Numbers that one transaction may give."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(CacheEntry).decode


class Spot(NamedTuple):
    """A row of the index: where an entry is."""

    number: int
    """Of this version of it: the transaction's id times MOST_OF_A_BATCH, and which of it."""
    slot: int
    """Where its touches are counted."""
    segment: int
    offset: int
    size: int
    """Bytes of its record in the segment."""
    flags: int = 0
    """TAGGED, SOFT."""
    file: int = 0
    """Of its body: the writer's id times 2 ** 32, and which of that writer; 0 when the body is in the record."""
    file_size: int = 0

    @property
    def weight(self) -> int:
        """Bytes that it takes, its file included."""
        return self.size + self.file_size


def softened(flags: int) -> int:
    """After one more soft purge."""
    count = (flags & SOFT) >> 1
    return flags & ~SOFT | (count % 3 + 1) << 1


def version_of(spot: Spot) -> int:
    """The number that others know it by: another one after each soft purge, so that an older validation does not undo that."""
    return spot.number << 2 | (spot.flags & SOFT) >> 1


def pack_spot(spot: Spot) -> bytes:
    return _FILED.pack(*spot) if spot.file else INLINE.pack(*spot[:6])


def unpack_spot(row: bytes) -> Spot:
    """Raises ValueError for what is no row."""
    try:
        return Spot(*INLINE.unpack(row)) if len(row) == INLINE.size else Spot(*_FILED.unpack(row))
    except error as problem:
        raise ValueError(f"not a row of the index: {problem}") from None


class Record(NamedTuple):
    key: bytes
    """The whole one, of the variant."""
    entry: CacheEntry
    body: bytes


def pack_record(key: bytes, entry: CacheEntry, body: bytes) -> bytes:
    """body: b"" of an entry whose body is in a file."""
    packed = _pack(entry)
    continues = key.startswith(entry.key)
    rest = key[len(entry.key) :] if continues else key
    return b"".join((RECORD.pack(MAGIC, len(packed), len(body), len(rest), continues), rest, packed, body))


def unpack_record(data: bytes) -> Record | None:
    """None for what is no whole record: the file was freed, cut, or is not ours."""
    found = _read(data)
    return None if found is None else Record(*found)


def stored_in(data: bytes, key: bytes) -> tuple[CacheEntry, bytes] | None:
    """Entry and body of a record, if it is a whole one and that key's."""
    found = _read(data)
    return None if found is None or found[0] != key else (found[1], found[2])


def _read(data: bytes) -> tuple[bytes, CacheEntry, bytes] | None:
    """As a Record, which a hit has no time to make."""
    if len(data) < RECORD.size:
        return None
    magic, head, body, rest, continues = RECORD.unpack_from(data)
    start = RECORD.size + rest
    if magic != MAGIC or len(data) != start + head + body:
        return None
    try:
        entry = _unpack(data[start : start + head])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    key = data[RECORD.size : start]
    if continues:
        key = entry.key + key if rest else entry.key
    return key, entry, data[start + head :]


def records_in(data: bytes) -> list[tuple[int, int]]:
    """(offset, size) of all whole records from the beginning on, up to the first bytes that are none."""
    found = []
    at = 0
    while len(data) - at >= RECORD.size:
        magic, head, body, rest, _ = RECORD.unpack_from(data, at)
        size = RECORD.size + rest + head + body
        if magic != MAGIC or at + size > len(data):
            break
        found.append((at, size))
        at += size
    return found
