"""The upstream actor: the table of exchanges, messages from and to the other stages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from bus.actor import Actor, Context
from bus.members import Members
from config.model import Upstream
from observability.figures import CONNECTIONS, IN_USE
from stages.error_page import ErrorPages
from stages.generations import Generations
from stages.messages import (
    ANSWER_LOST,
    CANCEL,
    CREDIT,
    DATA,
    DECODE,
    NOT_BEGUN,
    RECALL,
    RECALLED,
    RESPONSE,
    ROUTED,
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
from stages.upstream.compiled import NO_RULES, Compiled, Compiler, socket_options
from stages.upstream.connection import BackendConnection
from stages.upstream.core import Failure, so_far
from stages.upstream.exchange import Exchange, open_socket
from stages.upstream.pool import BackendState, Group

SWEEP: Final = 0.25
"""Seconds between two looks at the deadlines."""

MAX_WAIT: Final = 10.0
"""Seconds that an exchange waits for a connection to a backend whose max_connections is reached."""

REMEMBERED: Final = 4096
"""Streams that were refused by RECALL, or answered through plugins: remembered so that none is done twice."""


class UpstreamActor(Actor):
    stage: ClassVar[str] = "upstream"
    decode: ClassVar[dict[int, Any]] = DECODE

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.send: Callable[[int, Any], None] = context.send
        self._compiler = Compiler()
        self._generations: Generations[Compiled] = Generations(context, self._compiler.compile, self._committed)
        self._current: Compiled | None = None
        self._health: dict[str, dict[str, bool]] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._refused: OrderedDict[int, None] = OrderedDict()
        self._answered_through_plugins: OrderedDict[int, None] = OrderedDict()
        self._groups: dict[str, Group] = {}
        self._retired: list[Group] = []
        self._connections: set[BackendConnection] = set()
        self._requests = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def receivers(self) -> dict[int, Callable[[Any], None]]:
        return {ROUTED: self._routed, DATA: self._data, CREDIT: self._credit, CANCEL: self._cancel, RECALL: self._recall}

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._generations.start()
        self.context.follow("health", "discovery", self._health_changed)
        self._sweep()

    def _committed(self, generation: int, compiled: Compiled) -> None:
        first = self._current is None
        self._current = compiled
        self._retired += [group for name, group in self._groups.items() if compiled.groups.get(name) is not group]
        self._groups = dict(compiled.groups)
        self._apply_health()
        if first:
            self.context.ready()

    def _health_changed(self, value: dict[str, dict[str, bool]]) -> None:
        self._health = value
        self._apply_health()

    def _apply_health(self) -> None:
        for name, group in self._groups.items():
            group.set_health(self._health.get(name, {}))

    def held(self) -> int:
        return len(self._exchanges)

    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"in_flight": len(self._exchanges), "requests": self._requests}
        for name, group in self._groups.items():
            figures[CONNECTIONS + name] = sum(backend.open for backend in group.backends)
            figures[IN_USE + name] = sum(backend.active for backend in group.backends)
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
        if self._refused and sid in self._refused:
            return  # accept was told that it never began
        self._requests += 1
        compiled = self._generations.get(routed.generation)
        group = compiled.groups.get(routed.upstream) if compiled is not None else None
        if compiled is None or group is None:
            self.context.log("warn", "no such upstream", upstream=routed.upstream, generation=routed.generation)
            self._refuse(routed, "no_backend" if compiled is not None else "overloaded")
            return
        exchange = Exchange(self, routed, group, compiled.rules.get(routed.location, NO_RULES))
        self._exchanges[sid] = exchange
        try:
            exchange.begin()
        except Exception as error:
            self.context.log("error", "request failed", error=repr(error))
            exchange.cancel()
            self._refuse(routed, "internal")

    def _refuse(self, routed: Routed, kind: str) -> None:
        stamps = (*so_far(routed.stamps), monotonic())
        report = Report(routed.location, routed.upstream, "", 0, False, 0, stamps, (), kind, routed.variables, routed.client_ip)
        self.answer_error(accept_of(routed.sid), routed, kind, report)

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

    def _recall(self, recall: Recall) -> None:
        exchange = self._exchanges.get(recall.sid)
        members = self.context.members
        if exchange is None:
            state = ANSWER_LOST if recall.sid in self._answered_through_plugins else NOT_BEGUN
            if state == NOT_BEGUN:
                _remember(self._refused, recall.sid)
        elif exchange.answers_to in members.by_id:
            state = WILL_ANSWER
        else:
            state = ANSWER_LOST
            exchange.cancel()
        self.send(recall.asker, Recalled(RECALLED, recall.sid, self.context.id, state))

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        if not gone:
            return
        for exchange in list(self._exchanges.values()):
            # A dead accept has no client any more; a dead plugins replica had the rest of a begun answer.
            if accept_of(exchange.sid) in gone or (exchange.responded and exchange.answers_to in gone):
                exchange.cancel()

    # -- what exchanges ask for -------------------------------------------------

    async def connect(self, backend: BackendState, settings: Upstream) -> BackendConnection:
        """A fresh connection. Raises OSError."""
        loop = self.context.loop
        sock = await open_socket(loop, backend.host, backend.port, settings.ipv4_only, socket_options(settings))
        try:
            _, connection = await loop.create_connection(lambda: BackendConnection(backend, sock), sock=sock)
        except BaseException:
            sock.close()
            raise
        self._connections.add(connection)
        return connection

    def answer_error(self, to: int, routed: Routed, kind: str, report: Report) -> None:
        """Our own answer to a request that no backend answered."""
        status, headers, body = (self._current.pages if self._current is not None else ErrorPages()).page(kind)
        length = len(body)
        if routed.method == b"HEAD":
            body = b""
        self.send(to, Response(RESPONSE, routed.sid, self.context.id, status, headers, length, body, True, report, routed.watchers))

    def attempt_failed(self, group: Group, backend: BackendState, failure: Failure, detail: str, retried: bool) -> None:
        """Log and metrics of one failed attempt."""
        self.context.count("upstream_failures", upstream=group.name, kind=failure.name.lower())
        self.context.log(
            "debug" if retried else "warn",
            "backend failed",
            upstream=group.name,
            addr=backend.address,
            failure=failure.name.lower(),
            detail=detail,
            retried=retried,
        )

    def exchange_over(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange.sid, None)
        if exchange.responded and exchange.answers_to != accept_of(exchange.sid):
            _remember(self._answered_through_plugins, exchange.sid)

    # -- time -------------------------------------------------------------------

    def _sweep(self) -> None:
        now = monotonic()
        closed = [connection for connection in self._connections if connection.is_closed]
        self._connections.difference_update(closed)
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.expired()
        for group in self._groups.values():
            if group.pending:
                for backend in group.backends:
                    while backend.pending and backend.pending[0].began + MAX_WAIT <= now:
                        waiting = backend.next_waiting()
                        if waiting is not None:
                            waiting.waited_too_long()
        self._trim(now)
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)

    def _trim(self, now: float) -> None:
        """Closes idle connections that are too old, belong to a section that is gone, or are over the cap."""
        for group in self._retired:
            for connection in list(group.idle_connections()):
                connection.close()
        self._retired = [group for group in self._retired if any(backend.open for backend in group.backends)]
        idle: list[BackendConnection] = []
        for group in self._groups.values():
            timeout = group.settings.idle_timeout
            for connection in list(group.idle_connections()):
                if now - connection.idle_since >= timeout:
                    connection.close()
                else:
                    idle.append(connection)
        cap = self._current.keepalive_pool if self._current is not None else 0
        if len(idle) > cap:
            # Looked at here and not on every return: a burst would close what its next wave needs.
            idle.sort(key=lambda connection: connection.idle_since)
            for connection in idle[: len(idle) - cap]:
                connection.close()


def _remember(memory: OrderedDict[int, None], sid: int) -> None:
    memory[sid] = None
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
