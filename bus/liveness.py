"""Who is still alive: any message proves life, silence beyond a limit is death (Paranoid Pirate, ZeroMQ guide ch. 4)."""

from __future__ import annotations

from typing import Final

BEAT: Final = 0.5
"""Seconds between heartbeats."""

SILENCE: Final = 3.0
"""Seconds without a message after which a peer counts as dead."""


class Liveness:
    """Remembers when each peer was last heard. Monotonic seconds come in as arguments."""

    def __init__(self, silence: float = SILENCE) -> None:
        self._silence = silence
        self._heard: dict[int, float] = {}

    def heard(self, peer: int, now: float) -> None:
        self._heard[peer] = now

    def forget(self, peer: int) -> None:
        self._heard.pop(peer, None)

    def silent(self, now: float) -> list[int]:
        """Peers that have said nothing for longer than the limit."""
        return [peer for peer, at in self._heard.items() if now - at > self._silence]

    def last(self, peer: int) -> float | None:
        return self._heard.get(peer)
