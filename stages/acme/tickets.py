"""Decides which secret session tickets are made of, and when there is another: kept, so that it outlives a restart.

Whoever has a secret can read what he has recorded of sessions under its tickets (TLS 1.2; RFC 5077 section 5.5), so each is used
for twelve hours and kept no longer. At the change every client that comes back has one whole handshake.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgpack

NAME: Final = "secret"
"""Under which it is on a shelf, of the kind "tickets"."""

SECRET: Final = 32
"""Bytes of one, from `secrets.token_bytes`."""

ROTATION: Final = 12 * 3600.0
"""Seconds for which one is used. A ticket itself is good for two hours."""

AHEAD: Final = 3600.0
"""Seconds that the clock of another instance may be ahead of ours; a secret of a later time is not believed to be that young."""


class TicketSecrets:
    """Of an instance, or of all that share a shelf: what is kept counts, whoever has put it there. Times are Unix seconds."""

    def __init__(self) -> None:
        self._secret = b""
        self._at = 0.0

    def found(self, packed: bytes | None, now: float) -> None:
        """Takes over what is kept; None: nothing is. What cannot be read, or is too old, is as nothing."""
        secret, at = _unpacked(packed)
        if secret and _is_young(at, now):
            self._secret, self._at = secret, at

    def is_due(self, now: float) -> bool:
        """There has to be another. First it is looked once more at what is kept (`found`): another instance may have made one."""
        return not self._secret or not _is_young(self._at, now)

    def rotate(self, fresh: bytes, now: float) -> bytes:
        """Takes `fresh`, of SECRET bytes; what is to be kept. Where that fails it is used all the same."""
        assert len(fresh) == SECRET
        self._secret, self._at = fresh, now
        return self.packed()

    def packed(self) -> bytes:
        """The one there is, as it is kept."""
        packed: bytes = msgpack.packb({"at": self._at, "secret": self._secret})
        return packed

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What accept makes keys of, the newest first: one, or none yet."""
        return (self._secret,) if self._secret else ()


def _is_young(at: float, now: float) -> bool:
    return -AHEAD <= now - at < ROTATION


def _unpacked(packed: bytes | None) -> tuple[bytes, float]:
    try:
        found: Any = msgpack.unpackb(packed) if packed else {}
        secret, at = found["secret"], float(found["at"])
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return b"", 0.0
    is_one = isinstance(secret, bytes) and len(secret) == SECRET and math.isfinite(at)
    return (secret, at) if is_one else (b"", 0.0)
