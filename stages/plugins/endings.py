"""What plugins want to be called for when a request has ended: `host.when_done`.

Accept says of each request that was watched that it has ended (DONE), or that it is given up (CANCEL); when it is gone itself,
so are its requests.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NamedTuple

from pingap.stages.messages import owner_of
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.guard import HookGuard


class _Ending(NamedTuple):
    plugin: str
    hold: float
    call: Callable[[], None]


class Endings:
    """Of all plugins of a process."""

    def __init__(self, guard: HookGuard, late: Callable[[str, BaseException], None]) -> None:
        """late: told what goes wrong in a call, with the name of its plugin."""
        self._guard = guard
        self._late = late
        self._by_sid: dict[int, list[_Ending]] = {}

    def watch(self, plugin: str, hold: float, exchange: Exchange, call: Callable[[], None]) -> None:
        """hold: seconds that the call may take. Raises RuntimeError when the answer is on its way already."""
        if exchange.response is not None:
            raise RuntimeError("the answer is on its way already: ask for its end in early_request, request or proxy_upstream")
        exchange._watches = True
        self._by_sid.setdefault(exchange._routed.sid, []).append(_Ending(plugin, hold, call))

    def ended(self, sid: int) -> None:
        """The request is over, in whatever way."""
        for ending in self._by_sid.pop(sid, ()):
            try:
                self._guard.run(ending.hold, ending.call)
            except Exception as error:
                self._late(ending.plugin, error)

    def forget(self, gone: Set[int]) -> None:
        """Actors are gone, and the requests that came from them are over."""
        for sid in [sid for sid in self._by_sid if owner_of(sid) in gone]:
            self.ended(sid)
