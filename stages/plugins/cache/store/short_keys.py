"""Keys of the cache as LMDB takes them: no longer than its 511 bytes.

A key is the URL's, or that of a variant: the URL's, two NULs, 16 bytes. The URL's part is what is shortened, to its beginning
and a digest of the whole, so that all variants of a URL stay beside it, and what has a prefix stays in the range of that prefix.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

VARIANT: Final = 18
"""Bytes that a variant's key has more than the URL's."""

LONGEST: Final = 460
"""Bytes of a URL's key that are kept as they are."""

KEPT: Final = 420
"""Bytes of a longer one that are kept; behind them is what no key of text has, and the digest."""

_CUT: Final = b"\0\xff"


def short_key(key: bytes) -> bytes:
    """Of a URL or of a variant."""
    if len(key) <= LONGEST:
        return key
    at = len(key) - VARIANT
    if key[at : at + 2] != b"\0\0":
        return _shortened(key)
    return (_shortened(key[:at]) if at > LONGEST else key[:at]) + key[at:]


def is_shortened(short: bytes) -> bool:
    """Whether it stands for a longer key, so that the whole one has to be compared."""
    return len(short) > KEPT and short[KEPT : KEPT + 2] == _CUT


def short_prefix(prefix: bytes) -> bytes:
    """What the short forms of all keys with this prefix begin with. Where it is less than the prefix, others do as well."""
    return prefix if len(prefix) <= KEPT else prefix[:KEPT]


def after(prefix: bytes) -> bytes:
    """The least bytes that are greater than all that begin with this; b"" when there are none."""
    bare = prefix.rstrip(b"\xff")
    return bare[:-1] + bytes((bare[-1] + 1,)) if bare else b""


def namespace_of(key: bytes) -> bytes:
    """What is before the first NUL."""
    at = key.find(b"\0")
    return key[:at] if at >= 0 else b""


def _shortened(key: bytes) -> bytes:
    return key[:KEPT] + _CUT + blake2b(key, digest_size=16).digest()
