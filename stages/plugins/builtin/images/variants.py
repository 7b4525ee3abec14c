"""Which types an image may be given out in, and what the validators of such an image say. Decides; does nothing itself.

An image that was converted has an ETag of its own, weak, made of the backend's and of a suffix that stands for how it was made.
A client that comes back with it is asked for as if it had the original, so that the backend can say 304; one that takes
other types has another suffix, which the backend does not know, and gets a new answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pingap.plugin import qualities

TYPES: Final = ("avif", "webp", "png", "jpeg")

_EVERYBODYS: Final = frozenset(("png", "jpeg"))
"""Types that a client means with `image/*`. All browsers say that, also those that know neither AVIF nor WebP."""

_TAG: Final = re.compile(rb'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_KEPT: Final = 1024
"""Values of Accept whose outcome is remembered."""

_LONGEST: Final = 4096
"""Bytes of a value of Accept that is looked at."""


class Variant(NamedTuple):
    """What a client gets."""

    targets: tuple[str, ...]
    """Types in order of preference."""
    suffix: bytes
    """Of ETags."""


class ImageVariants:
    """Of one section."""

    def __init__(self, types: Sequence[str], how: Any) -> None:
        """types: in order of preference. how: all else that tells one converted image from another, such as its quality."""
        self._types = tuple(dict.fromkeys(types))
        self._how = how
        self._kept: dict[bytes, Variant] = {}

    def of(self, accept: bytes | None) -> Variant:
        """accept: the value of the header."""
        accept = accept if accept is not None else b""
        if (known := self._kept.get(accept)) is not None:
            return known
        targets = self._targets(accept[:_LONGEST])
        made = Variant(targets, b"-" + hashlib.sha256(repr((targets, self._how)).encode()).hexdigest()[:8].encode())
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        if len(accept) <= _LONGEST:
            self._kept[accept] = made
        return made

    def _targets(self, accept: bytes) -> tuple[str, ...]:
        liked = qualities(accept)
        wanted = [(self._quality(liked, name), name) for name in self._types]
        # Sorting keeps the order of those that are liked equally.
        return tuple(name for quality, name in sorted(wanted, key=lambda pair: -pair[0]) if quality > 0)

    @staticmethod
    def _quality(liked: dict[str, float], name: str) -> float:
        quality = liked.get(f"image/{name}")
        if quality is None and name in _EVERYBODYS:
            quality = liked.get("image/*", liked.get("*/*", 0.0 if liked else 1.0))
        return quality if quality is not None and 0 < quality <= 1 else 0.0


def tag_of(etag: bytes, suffix: bytes) -> bytes | None:
    """The ETag of an image that was converted, from the backend's; None when that is none."""
    found = _TAG.fullmatch(etag)
    return b'W/"%b%b"' % (found[1], suffix) if found is not None else None


def tags_of_originals(if_none_match: bytes, suffix: bytes) -> tuple[bytes, frozenset[bytes]]:
    """The value with the tags of originals in place of those that `tag_of` made of them, and which these are."""
    found: set[bytes] = set()

    def original(tag: re.Match[bytes]) -> bytes:
        if not tag[1].endswith(suffix):
            return tag[0]
        found.add(tag[1][: -len(suffix)])
        return b'W/"%b"' % tag[1][: -len(suffix)]

    return _TAG.sub(original, if_none_match), frozenset(found)


def has_tag(if_none_match: bytes, etag: bytes) -> bool:
    """Whether a list has a tag, by weak comparison."""
    found = _TAG.fullmatch(etag)
    return found is not None and any(tag == found[1] for tag in _TAG.findall(if_none_match))


def is_one_of(etag: bytes, originals: frozenset[bytes]) -> bool:
    """Whether a tag of the backend is one of those that `tags_of_originals` found."""
    found = _TAG.fullmatch(etag)
    return found is not None and found[1] in originals
