"""Places in flight that a store counts. It cannot see that a proxy has crashed, so each place ends by itself unless it is renewed."""

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
        self._held: dict[str, dict[str, None]] = {}
        """Key → ids."""
        self._renewer: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def new(self, key: str) -> str:
        """An id for a place that is going to be asked for. It is renewed from now on, until `give_back`."""
        self._count += 1
        lease = f"{self._mine}:{self._count}"
        self._held.setdefault(key, {})[lease] = None
        if self._renewer is None:
            self._renewer = asyncio.get_running_loop().create_task(self._renew())
        return lease

    def forget(self, key: str, lease: str) -> bool:
        """There was no place, or it is not wanted any more; False when that is known already."""
        held = self._held.get(key)
        if held is None or lease not in held:
            return False
        del held[lease]
        if not held:
            del self._held[key]
        return True

    def give_back(self, key: str, lease: str) -> None:
        """The request has ended."""
        if self.forget(key, lease):
            self._store.tell(GIVE_BACK, key, (lease,))

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
