"""What a process knows of a key beside what is stored, for `pingap cache explain`."""

from __future__ import annotations

from typing import NamedTuple


class KnownOfKey(NamedTuple):
    unstorable: float = 0.0
    """Seconds for which its answers count as not to be stored."""
    again: float = 0.0
    """Seconds until the next fetch is tried, after some have failed: the owner of the key alone knows."""
    failure: str = ""
    """What they failed of (stages/errors.py)."""
