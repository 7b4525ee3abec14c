"""Who is still alive: any message proves life, silence beyond a limit is death (Paranoid Pirate, ZeroMQ guide ch. 4)."""

from __future__ import annotations

from typing import Final

BEAT: Final = 0.5
"""Seconds between heartbeats."""

SILENCE: Final = 3.0
"""Seconds without a message after which a peer counts as dead."""
