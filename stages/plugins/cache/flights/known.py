"""What a process knows of a key beside what is stored, for `pingap cache explain`."""

from __future__ import annotations

from typing import NamedTuple


class KnownOfKey(NamedTuple):
    unstorable: float = 0.0
    """Seconds for which its answers count as not to be stored."""
    again: float = 0.0
    """Seconds until the next fetch is tried by who has something stale, after some have failed: the owner of the key alone knows."""
    soon: float = 0.0
    """The same by who has nothing; 0 or less: at once."""
    failure: str = ""
    """What they failed of (stages/errors.py)."""
