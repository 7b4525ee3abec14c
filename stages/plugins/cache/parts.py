"""What a cache works with: of its own section, and of the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.vary import chosen_by
from pingap.stages.plugins.cache.filling import Fills
from pingap.stages.plugins.cache.flights.flights import Flights
from pingap.stages.plugins.chain import Chain, CompiledPlugins
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.stream import NOTHING, PluginStreams

if TYPE_CHECKING:
    from pingap.stages.plugins.cache.store.cache_store import CacheStore  # who has no cache does not load LMDB

Serve = Callable[[Exchange, Chain, int], None]


class CacheStage:
    """The process: what all its caches share."""

    def __init__(
        self,
        me: int,
        streams: PluginStreams,
        flights: Flights,
        fills: Fills,
        serve: Serve,
        next_sid: Callable[[], int],
        compiled_of: Callable[[int], CompiledPlugins | None],
        upstream: Callable[[], int],
        late: Callable[[str, BaseException], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        over: Callable[[int], None],
    ) -> None:
        """me: id of the actor. serve: runs the hooks of a request from a number on, and sends it to a backend. next_sid: of a stream
        of this actor's own. compiled_of: the chains of a generation. upstream: the actor to ask, 0 for none. late: told what goes
        wrong in a body of which nobody waits for the rest. spawn: a task of its own. over: told the stream of a request of its own that
        has ended, as accept tells of a client's."""
        self.me = me
        self.streams = streams
        self.flights = flights
        self.fills = fills
        self.serve = serve
        self.next_sid = next_sid
        self.compiled_of = compiled_of
        self.upstream = upstream
        self.late = late
        self.spawn = spawn
        self.over = over
        self.clock: Callable[[], float] = monotonic
        self.wall: Callable[[], float] = time

    def chosen_by(self, names: tuple[bytes, ...], headers: bytes, exchange: Exchange) -> bytes:
        """What the backend sees in these lines of a request, if its header block is this one before the rules of its location; in the
        form of `vary.chosen_by`."""
        routed = exchange._routed
        compiled = self.compiled_of(routed.generation)
        if compiled is not None:
            context = exchange._context
            headers = compiled.leaving.seen(names, headers, routed, NOTHING if context is None else context)
        return chosen_by(names, headers)


class CacheParts:
    """One section of the configuration."""

    def __init__(self, name: str, rules: CacheRules, store: CacheStore, stage: CacheStage) -> None:
        """name: of the section."""
        self.name = name
        self.rules = rules
        self.store = store
        self.stage = stage
        self.requests: Counter[str] = Counter()
        """So many, by what the cache did with them."""
        self._told: Counter[str] = Counter()
        self.refreshing: set[bytes] = set()
        """What is validated in the background, by what it is stored under."""

    def untold(self) -> Counter[str]:
        """Requests since this was asked last."""
        new = self.requests - self._told
        self._told = self.requests.copy()
        return new
