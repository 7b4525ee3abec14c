"""What a plugin tells the backend of who asks. Answers may depend on it, so a cache keeps them apart."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from pingap.plugin import Exchange


def keep_apart(exchange: Exchange, lines: Iterable[tuple[str, str | bytes]]) -> None:
    """lines: (name, value) of header lines that this plugin has written. The key of a cache gets their digest: it is shown, and values
    may be secret."""
    digest, is_empty = blake2b(digest_size=16), True
    for line in lines:
        digest.update(repr(line).encode())
        is_empty = False
    if not is_empty:
        exchange.cache_key.append(f"told {digest.hexdigest()}")
