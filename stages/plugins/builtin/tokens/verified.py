"""Tokens that were found good, so that each is verified once: a signature takes longer than all else that is done with a request."""

from __future__ import annotations

import hashlib
from typing import Final

from pingap.stages.plugins.builtin.tokens.claims import ToldClaims
from pingap.stages.plugins.builtin.tokens.keys import KeySet

MOST: Final = 4096
_LONGEST: Final = 4096
"""Bytes of a token that is remembered, which bounds what its claims take."""


class VerifiedTokens:
    """The last of them, with what is told on of each, for one set of keys at a time. Of a token only a digest is kept."""

    def __init__(self) -> None:
        self._keys: KeySet | None = None
        self._known: dict[bytes, tuple[float, ToldClaims]] = {}

    def digest(self, keys: KeySet, token: bytes) -> bytes:
        """What it is known by; b"" for one that is not remembered. Other keys than before: nothing of before holds."""
        if keys is not self._keys:
            self._keys = keys
            self._known.clear()
        return hashlib.sha256(token).digest() if len(token) <= _LONGEST else b""

    def find(self, digest: bytes, now: float) -> ToldClaims | None:
        """None for one that is not known, or not any more. now: seconds since 1970."""
        found = self._known.get(digest)
        if found is None:
            return None
        until, told = found
        if now < until:
            return told
        del self._known[digest]
        return None

    def remember(self, digest: bytes, until: float, told: ToldClaims) -> None:
        """until: when it expires."""
        if not digest:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[digest] = (until, told)
