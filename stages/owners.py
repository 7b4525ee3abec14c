"""Which replica of a stage a key belongs to, the same in every process: rendezvous hashing.

Each replica is scored by a hash of the key and the replica's number, and the highest score owns the key. So every
replica owns an even share; a replica that joins takes its share from all others evenly, one that leaves gives its own
away evenly, and no other key moves. Numbers and not ids are hashed: a replica that was restarted has its keys again.
(D. Thaler, C. Ravishankar: Using name-based mappings to increase hit rates, 1998.)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.members import Member

KEPT: Final = 4096
"""Owners remembered: finding one hashes the key once for each replica."""


def owner_among(key: str, replicas: Sequence[Member]) -> int:
    """The id of the one that owns the key; 0 when there is nobody."""
    if len(replicas) < 2:
        return replicas[0].id if replicas else 0
    return max(replicas, key=lambda member: _score(key, member.replica)).id


def _score(key: str, replica: int) -> bytes:
    return blake2b(f"{key}\0{replica}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Owners:
    """Owners of keys among the ready replicas of an actor's own stage, as long as the table of actors stays."""

    __slots__ = ("_context", "_found")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: dict[str, int] = {}

    def of(self, key: str) -> int:
        """While no replica is ready (they are being started, or drain) there is nobody to disagree with: then it is this actor."""
        owner = self._found.get(key)
        if owner is None:
            context = self._context
            owner = owner_among(key, context.members.ready(context.stage)) or context.id
            if len(self._found) >= KEPT:
                self._found.clear()
            self._found[key] = owner
        return owner

    def forget(self) -> None:
        """The table has changed."""
        self._found.clear()
