"""A configuration generation on its way from config to the stages (bus/PROTOCOL.md section 6).

Its `contents` say of which bundles each section consists; a bundle is some items of
a section, packed, and named by its digest. A stage fetches the sections that it
uses: private keys reach accept alone. Generations share the bundles that an edit
left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

import msgspec

from pingap.config.model import Basic, Certificate, Code, Location, Server, Snapshot, Upstream
from pingap.config.wire import set_fields
from pingap.stages.steps import Steps

PLANS: Final = "plans"
USES: Final = "uses"

SECTIONS: Final[Mapping[str, Any]] = {
    "basic": Basic,
    "servers": Server,
    "locations": Location,
    "upstreams": Upstream,
    "plugins": dict[str, Any],
    "code": Code,
    "certificates": Certificate,
    "ends": float,
    "files": str,
    "challenged": str,
    USES: tuple[str, ...],
    PLANS: int,
}
"""Section → what its items are. [stages] and [bus] are not for stages: they take effect with a restart, and one has a secret key."""

_SINGLE: Final = "basic"
_PLAIN: Final = frozenset(("plugins", "ends", "files", "challenged"))
"""Sections whose items are plain data."""
_MANY: Final = "locations"
"""The section of which there may be thousands of items."""
_DIGEST: Final = 16
_USUAL: Final = 128
"""Items of a bundle, on average: an edit costs one or two, and unpacking one holds up a loop for less than 1 ms."""
_MOST: Final = 512

Contents = Mapping[str, Iterable[bytes]]
"""Section → digests of its bundles, in order. As it is published."""

_pack: Final = msgspec.msgpack.Encoder().encode


class OnTheWay(Mapping[str, Any]):
    """The items of a section, unpacked whenever somebody goes through them, a bundle at a time.

    Thousands of locations take 1 kB each in every process; so those stay of which somebody keeps something, and no others.
    """

    def __init__(self, unpack: Callable[[bytes], dict[str, Any]], bundles: list[bytes]) -> None:
        self._unpack = unpack
        self._bundles = bundles

    def items(self) -> Any:
        """In order; each once."""
        return ((name, item) for bundle in self._bundles for name, item in self._unpack(bundle).items())

    def values(self) -> Any:
        """As of `items`."""
        return (item for _, item in self.items())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def __getitem__(self, name: str) -> Any:
        """Goes through all of them: for who wants one or two."""
        for bundle in self._bundles:
            items = self._unpack(bundle)
            if name in items:
                return items[name]
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Packed:
    """A whole generation."""

    contents: dict[str, list[bytes]]
    blobs: dict[bytes, bytes] = field(repr=False)
    """Digest → packed bundle."""


def packed(snapshot: Snapshot, plans: Mapping[str, int]) -> Packed:
    """Raises TypeError and the like for what MessagePack cannot carry."""
    contents: dict[str, list[bytes]] = {}
    blobs: dict[bytes, bytes] = {}
    for section in SECTIONS:
        contents[section] = []
        for items in _bundles(_items(section, snapshot, plans)):
            blob = _pack(items)
            digest = blake2b(blob, digest_size=_DIGEST).digest()
            contents[section].append(digest)
            blobs[digest] = blob
    return Packed(contents, blobs)


def digests(contents: Contents, sections: Iterable[str] = SECTIONS) -> frozenset[bytes]:
    """Those of the bundles that make up these sections."""
    return frozenset(digest for section in sections for digest in contents[section])


def unpacked(
    contents: Contents, blobs: Mapping[bytes, bytes], sections: Iterable[str] = SECTIONS, *, keeps: bool = True
) -> Steps[tuple[Snapshot, dict[str, int]]]:
    """(a snapshot with these sections, all others empty; the plans). keeps: without it locations are `OnTheWay`."""
    found: dict[str, Any] = {}
    for section in sections:
        if section == _MANY and not keeps:
            found[section] = items_of(section, contents[section], blobs)
            continue
        items = found[section] = {}
        for digest in contents[section]:
            bundle = _unpack(section)(blobs[digest])
            items.update(bundle)
            yield len(bundle)
    plans = found.pop(PLANS, {})
    basic = found.pop(_SINGLE, {}).get(_SINGLE, Basic())
    return Snapshot(basic=basic, **found), plans


def items_of(section: str, of: Iterable[bytes], blobs: Mapping[bytes, bytes]) -> OnTheWay:
    """The items in those bundles of a section whose digests are in `of`."""
    return OnTheWay(_unpack(section), [blobs[digest] for digest in of])


def apart(old: Packed, new: Packed) -> tuple[OnTheWay, OnTheWay]:
    """Of two generations' locations those that may differ: what is in the bundles that one of them has and the other has not."""
    before, after = old.contents[_MANY], new.contents[_MANY]
    same = frozenset(before) & frozenset(after)
    return (
        items_of(_MANY, [digest for digest in before if digest not in same], old.blobs),
        items_of(_MANY, [digest for digest in after if digest not in same], new.blobs),
    )


def _items(section: str, snapshot: Snapshot, plans: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    if section == PLANS:
        yield from plans.items()
    elif section == _SINGLE:
        yield _SINGLE, set_fields(snapshot.basic)
    elif section == USES:
        for name, server in snapshot.servers.items():
            yield name, _used(server, snapshot.locations)
    elif section in _PLAIN:
        yield from getattr(snapshot, section).items()
    else:
        for name, item in getattr(snapshot, section).items():
            yield name, set_fields(item)


def _used(server: Server, locations: Mapping[str, Location]) -> tuple[str, ...]:
    """Those that are named; which a capture (`$name`) names, only a request tells."""
    named = {locations[name].upstream for name in server.locations if name in locations}
    return tuple(sorted(one for one in named if one and not one.startswith("$")))


def _bundles(items: Iterable[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cut before items whose names say so, not after so many: what follows an item that came or went is cut as before."""
    bundle: dict[str, Any] = {}
    for name, item in items:
        if bundle and (len(bundle) == _MOST or crc32(name.encode()) % _USUAL == 0):
            yield bundle
            bundle = {}
        bundle[name] = item
    if bundle:
        yield bundle


@cache
def _unpack(section: str) -> Callable[[bytes], dict[str, Any]]:
    kind: Any = dict.__class_getitem__((str, SECTIONS[section]))
    decode: Callable[[bytes], dict[str, Any]] = msgspec.msgpack.Decoder(kind).decode
    return decode
