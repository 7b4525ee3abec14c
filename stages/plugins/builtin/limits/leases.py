"""Places in flight that a store counts. It cannot see that a proxy has crashed, so each place ends by itself unless it is renewed.

Held, and so renewed, are those alone that the store has given. Those that were counted here while it was away it never learns of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from pingap.stages.plugins.builtin.limits.scripts import GIVE_BACK, LEASE, RENEW
from pingap.stages.plugins.builtin.limits.store import LimitStore

TOGETHER: Final = 100
"""Places of a key that are renewed in one go."""


class StoreLeases:
    """Those of one limit in this process."""

    def __init__(self, store: LimitStore, every: float = LEASE / 3) -> None:
        """every: seconds between renewals."""
        self._store = store
        self._every = every
        self._mine = uuid4().hex
        self._count = 0
        self._asked: set[str] = set()
        """Ids of which it is not known whether there is a place."""
        self._held: dict[str, dict[str, None]] = {}
        """Key → ids."""
        self._renewer: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Places held."""
        return sum(map(len, self._held.values()))

    def new(self) -> str:
        """An id for a place that is asked for now. `settle` or `end` must follow."""
        self._count += 1
        lease = f"{self._mine}:{self._count}"
        self._asked.add(lease)
        return lease

    def settle(self, key: str, lease: str, allowed: bool) -> None:
        """The store has answered. A place that it gave is renewed from now on, until `end`."""
        if lease not in self._asked:
            return  # its request has ended meanwhile, and the store has been told
        self._asked.remove(lease)
        if not allowed:
            return
        self._held.setdefault(key, {})[lease] = None
        if self._renewer is None:
            self._renewer = asyncio.get_running_loop().create_task(self._renew())

    def end(self, key: str, lease: str) -> None:
        """The request has ended, or goes on without having heard of the store. A place that it has, or gets yet, is given back."""
        if lease in self._asked:
            self._asked.remove(lease)
        elif not self._forget(key, lease):
            return
        self._store.tell(GIVE_BACK, key, (lease,), keep=LEASE)

    def _forget(self, key: str, lease: str) -> bool:
        """False when it is not held."""
        held = self._held.get(key)
        if held is None or lease not in held:
            return False
        del held[lease]
        if not held:
            del self._held[key]
        return True

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(self._every)
            for key, held in self._held.items():
                ids = list(held)
                for at in range(0, len(ids), TOGETHER):
                    args: Sequence[Any] = (int(LEASE * 1000), *ids[at : at + TOGETHER])
                    self._store.tell(RENEW, key, tuple(args))
        self._renewer = None

    def stop(self) -> None:
        """All that is left ends by itself."""
        if self._renewer is not None:
            self._renewer.cancel()
