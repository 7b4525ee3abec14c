"""The upstream actor: the table of exchanges, messages from and to the other stages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from pingap.bus.actor import Context
from pingap.bus.descriptors import Exhausted
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.observability.figures import CONNECTIONS, IN_USE
from pingap.stages.broken import OfStreams
from pingap.stages.bulk import Bulk
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.itinerary import RESPONSE_PLUGINS
from pingap.stages.lookups import Lookups
from pingap.stages.messages import (
    ANSWER_LOST,
    NOT_BEGUN,
    WILL_ANSWER,
    Cancel,
    Credit,
    Data,
    Recall,
    Recalled,
    Report,
    Response,
    Routed,
    accept_of,
)
from pingap.stages.upstream.compiled import NO_RULES, Compiled, Compiler
from pingap.stages.upstream.core import EVERYDAY, Failure, Memory, so_far
from pingap.stages.upstream.dial import Connection, dial
from pingap.stages.upstream.exchange import Exchange
from pingap.stages.upstream.pool import BackendState, Group

SWEEP: Final = 0.25
"""Seconds between two looks at the deadlines."""

MAX_WAIT: Final = 10.0
"""Seconds that an exchange waits for a connection to a backend whose max_connections is reached."""

SHORT_PAUSE: Final = 60.0
"""Seconds between two words on connections that cannot be opened for want of descriptors."""

REMEMBERED: Final = 16384
"""Streams that are not to be begun any more, or were answered through plugins: remembered so that none is done twice."""


class UpstreamActor(OfStreams):
    stage: ClassVar[str] = "upstream"
    speaks_to: ClassVar[tuple[str, ...]] = ("accept", "plugins")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.id = context.id
        self.send: Callable[[int, Any], None] = context.send
        self._compiler = Compiler()
        self._generations: Generations[Compiled] = Generations(context, self._compiler.compile, self._committed)
        self._current: Compiled | None = None
        self._health: dict[str, dict[str, bool]] = {}
        self._addresses: dict[str, dict[str, list[str]]] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._refused: Memory[bool] = Memory(REMEMBERED)
        """Cancelled or recalled before they came."""
        self._answered: Memory[tuple[int, tuple[int, ...]]] = Memory(REMEMBERED)
        """Stream → the plugins replica that got its answer, and who watches."""
        self._promised: dict[int, tuple[int, tuple[int, ...]]] = {}
        """The same of streams of which accept was told that this replica will answer."""
        self._groups: dict[str, Group] = {}
        self._lines: set[Group] = set()
        """Groups in which exchanges wait for a connection, perhaps of an older generation."""
        self._connections: set[Connection] = set()
        self._dialing = 0
        """Connections that are being opened."""
        self._descriptors = context.descriptors
        self._descriptors.join()
        self._tell_short = 0.0
        self._requests = 0
        self.repeats = Repeats(context)
        self.lookups = Lookups(context.loop)
        """Of backends' names."""
        self.bulk = Bulk(context.loop, context.pipes)
        """For all that backends answer."""
        self._sweeper: asyncio.TimerHandle | None = None

    def receivers(self) -> Receivers:
        return {Routed: self._routed, Data: self._data, Credit: self._credit, Cancel: self._cancel, Recall: self._recall}

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._generations.start()
        self.context.follow("backends", "discovery", self._backends_changed)
        self.context.follow("health", "discovery", self._health_changed)
        self._sweep()

    def _committed(self, generation: int, compiled: Compiled) -> None:
        first = self._current is None
        self._current = compiled
        kept = compiled.groups
        for name, group in self._groups.items():
            if kept.get(name) is not group:
                group.keep_idle(False)
        for group in kept.values():
            group.keep_idle(compiled.keepalive_pool > 0 and group.settings.idle_timeout > 0)
        self._groups = self._compiler.groups = dict(kept)
        self._apply_discovery()
        if first:
            self.context.ready()

    def _health_changed(self, value: dict[str, dict[str, bool]]) -> None:
        self._health = value
        self._apply_discovery()

    def _backends_changed(self, value: dict[str, dict[str, list[str]]]) -> None:
        self._addresses = value
        self._apply_discovery()

    def _apply_discovery(self) -> None:
        for name, group in self._groups.items():
            group.set_addresses(self._addresses.get(name, {}))
            group.set_health(self._health.get(name, {}))

    def held(self) -> int:
        return len(self._exchanges)

    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"in_flight": len(self._exchanges), "requests": self._requests}
        for name, group in self._groups.items():
            figures[CONNECTIONS + name] = sum(backend.open for backend in (*group.backends, *group.leaving))
            figures[IN_USE + name] = sum(backend.active for backend in (*group.backends, *group.leaving))
        return figures

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for exchange in list(self._exchanges.values()):
            exchange.cancel()
        for connection in list(self._connections):
            connection.close()

    # -- messages -------------------------------------------------------------

    def _routed(self, routed: Routed) -> None:
        sid = routed.sid
        if self._refused.is_used and self._refused.get(sid):
            return  # accept was told that it never began, or does not want it any more
        self._requests += 1
        compiled = self._generations.get(routed.generation) or self._newer_than(routed.generation)
        group = compiled.groups.get(routed.upstream) if compiled is not None else None
        if compiled is None or group is None:
            self.repeats.log("warn", "no such upstream", upstream=routed.upstream, generation=routed.generation)
            self._refuse(routed, "no_backend" if compiled is not None else "overloaded")
            return
        rules = compiled.rules.get(routed.location)
        if rules is None:
            if routed.location:
                # Only a newer generation lacks it, and without its rules the request would say what it must not.
                self.repeats.log("warn", "no such location", location=routed.location, generation=routed.generation)
                self._refuse(routed, "overloaded")
                return
            rules = NO_RULES
        exchange = Exchange(self, routed, group, rules)
        self._exchanges[sid] = exchange
        try:
            exchange.begin()
        except Exception as error:
            exchange.crashed(error)

    def _newer_than(self, wanted: int) -> Compiled | None:
        """A replica that has just started has only the newest generation, and accept may not have heard of that yet."""
        newest = self._generations.newest
        return self._generations.get(newest) if wanted < newest else None

    def _refuse(self, routed: Routed, kind: str) -> None:
        stamps = (*so_far(routed.stamps), monotonic())
        report = Report(routed.location, routed.upstream, "", 0, False, 0, stamps, (), kind, routed.variables, routed.client_ip)
        to = routed.affinity.plugins if routed.plan & RESPONSE_PLUGINS else accept_of(routed.sid)
        self.answer_error(to, routed, kind, report)

    def _data(self, data: Data) -> None:
        exchange = self._exchanges.get(data.sid)
        if exchange is not None:
            exchange.upload(data)

    def _credit(self, credit: Credit) -> None:
        exchange = self._exchanges.get(credit.sid)
        if exchange is not None:
            exchange.credited(credit.bytes)

    def _cancel(self, cancel: Cancel) -> None:
        exchange = self._exchanges.get(cancel.sid)
        if exchange is not None:
            exchange.cancel()
        else:
            self._refused.put(cancel.sid, True)  # it may have overtaken the request, which comes by way of other stages

    # -- who lives ------------------------------------------------------------

    def _recall(self, recall: Recall) -> None:
        sid = recall.sid
        living = self.context.members.by_id
        exchange = self._exchanges.get(sid)
        # Through which plugins replica the answer goes, or went; None when it is not known here.
        way = (exchange.needs, exchange.watchers) if exchange is not None else self._answered.get(sid)
        if way is None:
            state = NOT_BEGUN
            self._refused.put(sid, True)
        elif not way[0] or way[0] in living:
            state = WILL_ANSWER
            if way[0]:
                # Accept may have a newer table, and be asking because of this very replica: see members_changed.
                self._promised[sid] = way
                if len(self._promised) > REMEMBERED:
                    del self._promised[next(iter(self._promised))]
        else:
            state = ANSWER_LOST
            if exchange is not None:
                exchange.cancel()
        self.send(recall.asker, Recalled(sid, self.id, state))

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        if not gone:
            return
        for exchange in list(self._exchanges.values()):
            sid = exchange.sid
            if accept_of(sid) in gone or (exchange.responded and exchange.answers_to in gone):
                exchange.cancel()  # the client is gone, or the rest of a begun answer would go nowhere
            elif exchange.needs in gone and (exchange.responded or sid in self._promised):
                exchange.give_up("stage_lost")
            # else accept asks by RECALL
        for sid, (actor, watchers) in list(self._promised.items()):
            if actor in gone:
                del self._promised[sid]
                if sid not in self._exchanges and accept_of(sid) not in gone:
                    self._error(accept_of(sid), sid, "stage_lost", None, watchers, False)

    # -- what exchanges ask for -------------------------------------------------

    async def connect(self, backend: BackendState, name: str, only_http1: bool) -> Connection:
        """A fresh connection to a backend that has proved to be `name`. Raises OSError; TimeoutError when a time-out has passed."""
        if len(self._connections) + self._dialing >= self._descriptors.most:
            self._make_room()
        self._dialing += 1
        try:
            connection = await dial(self.context.loop, self.lookups, backend, name, only_http1)
        finally:
            self._dialing -= 1
        self._connections.add(connection)
        return connection

    def _make_room(self) -> None:
        """Another connection must do without one that idles. Raises Exhausted when all are in use."""
        self._forget_closed()
        idle = [connection for group in self._groups.values() for connection in group.idle_connections()]
        idle.sort(key=lambda connection: connection.idle_since)
        over = len(self._connections) + self._dialing - self._descriptors.most + 1
        for connection in idle[: max(0, over)]:
            self._close_idle(connection)
            over -= 1
        if over > 0:
            raise Exhausted

    def _forget_closed(self) -> None:
        self._connections.difference_update([connection for connection in self._connections if connection.is_closed])

    @staticmethod
    def _close_idle(connection: Connection) -> None:
        connection.backend.forget(connection)
        connection.close()

    def answer_error(self, to: int, routed: Routed, kind: str, report: Report) -> None:
        """Our own answer to a request that no backend answered."""
        self._error(to, routed.sid, kind, report, routed.watchers, routed.method == b"HEAD")

    def _error(self, to: int, sid: int, kind: str, report: Report | None, watchers: tuple[int, ...], is_head: bool) -> None:
        status, headers, body = (self._current.pages if self._current is not None else ErrorPages()).page(kind)
        length = len(body)
        if is_head:
            body = b""
        self.send(to, Response(sid, self.id, status, headers, length, body, True, report, watchers))

    def has_line(self, group: Group) -> None:
        """An exchange waits for a connection."""
        self._lines.add(group)

    def attempt_failed(self, group: Group, backend: BackendState, failure: Failure, detail: str, retried: bool) -> None:
        """Log and metrics of one failed attempt."""
        self.context.count("upstream_failures", upstream=group.name, kind=failure.name.lower())
        if failure is Failure.NO_DESCRIPTOR:
            self._tell_of_shortage(detail)
            return
        fields = {"upstream": group.name, "addr": backend.address, "failure": failure.name.lower(), "detail": detail, "retried": retried}
        if retried or failure in EVERYDAY:
            self.context.log("debug", "backend failed", **fields)
        else:
            self.repeats.log("warn", "backend failed", f"failed {group.name} {failure.name}", **fields)

    def _tell_of_shortage(self, detail: str) -> None:
        """Once a minute: no backend is to blame, and every request would say the same."""
        now = monotonic()
        if now >= self._tell_short:
            self._tell_short = now + SHORT_PAUSE
            limit, connections = self._descriptors.limit, len(self._connections)
            self.context.log(
                "error",
                "requests are refused until connections end: too few file descriptors (ulimit -n)",
                detail=detail,
                connections=connections,
                limit=limit,
            )

    def answer_cut(self, group: Group, backend: BackendState, kind: str, detail: str) -> None:
        """Log and metrics of an answer that a backend began and did not end as it should."""
        self.context.count("upstream_failures", upstream=group.name, kind="cut")
        fields = {"upstream": group.name, "addr": backend.address, "error": kind, "detail": detail}
        if kind in (failure.kind for failure in EVERYDAY):
            self.context.log("debug", "answer cut off", **fields)
        else:
            self.repeats.log("warn", "answer cut off", f"cut {group.name} {kind}", **fields)

    def exchange_over(self, exchange: Exchange) -> None:
        sid = exchange.sid
        self._exchanges.pop(sid, None)
        if exchange.answers_to != sid >> 32:
            if exchange.responded:
                self._answered.put(sid, (exchange.answers_to, exchange.watchers))
        elif self._promised:
            self._promised.pop(sid, None)

    # -- time -------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)  # first: an error below must not end all deadlines
        now = monotonic()
        self._forget_closed()
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.expired(now)
        for group in list(self._lines):
            for backend in (*group.backends, *group.leaving):
                while backend.pending and backend.pending[0].waiting_since + MAX_WAIT <= now:
                    backend.next_waiting().waited_too_long()
            if not group.pending:
                self._lines.discard(group)
        self._trim(now)

    def _trim(self, now: float) -> None:
        """Closes idle connections that are too old or over the cap."""
        idle: list[Connection] = []
        old: list[Connection] = []
        for group in self._groups.values():
            timeout = group.settings.idle_timeout
            for connection in group.idle_connections():
                (old if now - connection.idle_since >= timeout else idle).append(connection)
        cap = self._current.keepalive_pool if self._current is not None else 0
        if len(idle) > cap:
            # Looked at here and not on every return: a burst would close what its next wave needs.
            idle.sort(key=lambda connection: connection.idle_since)
            old += idle[: len(idle) - cap]
        for connection in old:
            self._close_idle(connection)
