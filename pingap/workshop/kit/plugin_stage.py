"""Plugins in the real stage, without processes: requests in, answers out, for tests of plugins.

The stage is the one that serves: its hooks, bodies, deadlines and failures. What is around it is played here: a client that
reads all that comes, accept, and upstreams that are scripted. Routing is not: no location is matched, nothing rewritten.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, Final, NamedTuple

from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import Listen
from pingap.config.problems import Problem
from pingap.config.values import PARSERS
from pingap.stages.error_page import ErrorPages
from pingap.stages.header_view import Headers, Pairs, block_of
from pingap.stages.itinerary import REQUEST_BODY, RESPONSE_PLUGINS
from pingap.stages.messages import (
    INLINE,
    UNKNOWN,
    WINDOW,
    Affinity,
    Cancel,
    Credit,
    Data,
    Done,
    Interim,
    Peer,
    Report,
    Response,
    Routed,
    owner_of,
)
from pingap.stages.outside import UPSTREAMS
from pingap.stages.plugins import checking, making, user_code, validation
from pingap.workshop.kit.backend import BackendRequest, BackendSide, Body, ScriptedBackend
from pingap.workshop.kit.client import ClientSide, StageAnswer
from pingap.workshop.kit.fed_stage import ACCEPT, PLUGINS, ROUTING, UPSTREAM, FedStage
from pingap.workshop.kit.job_starts import JobStarts

PATIENCE: Final = 10.0
"""Seconds for which a test waits for an answer, or for plugins to start."""

_VERSIONS: Final = {"1.0": 10, "1.1": 11, "2": 20}
_LOG: Final = logging.getLogger("pingap.plugin_testing")
_LEVELS: Final = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


class LoggedLine(NamedTuple):
    """One line of the application log."""

    level: str
    message: str
    fields: dict[str, Any]


class PluginStage:
    """A location with some plugins. Use as `async with PluginStage(sections) as stage`, one at a time in a process."""

    _is_open: ClassVar[bool] = False

    def __init__(
        self,
        plugins: Mapping[str, Mapping[str, Any]],
        *,
        order: Sequence[str] | None = None,
        base: str | os.PathLike[str] = "",
        upstream: str = "backend",
        upstreams: Iterable[str] = (),
    ) -> None:
        """plugins: the sections, as the configuration has them, by name; they run in this order.
        order: the names in another order, with instances that need no section (`pingap:requestId`) among them.
        base: the directory at which a relative `path` starts, instead of the current one.
        upstream: what the location says; "" for none. upstreams: others that plugins speak of.
        """
        self.backends = {name: ScriptedBackend(name) for name in dict.fromkeys((upstream, *upstreams)) if name}
        """By upstream."""
        self.outside = ScriptedBackend("outside")
        """All hosts that `host.fetch_url` asks: the line `host` of a request says which is meant."""
        self._plugins, self._order, self._base = plugins, order, os.path.abspath(base)
        self._upstream = upstream
        self._fed = FedStage({})
        self._context = self._fed.context
        self._job_starts = JobStarts()
        self._asking: dict[int, ClientSide] = {}
        self._asked: dict[int, BackendSide] = {}
        self._last_sid = ACCEPT << 32
        self._is_due = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> PluginStage:
        """Raises PluginRefused, with all problems of the sections."""
        __tracebackhide__ = True  # pytest shows the line of the test instead
        if PluginStage._is_open:
            raise RuntimeError("one PluginStage at a time: the deadlines of its hooks have the one timer of the process")
        PluginStage._is_open = True
        self._context.told_of_send = self._soon
        self._context.told_of_log = _log
        self._context.told_of_report = self._job_starts.report
        await self._fed.actor.start()
        try:
            await self.reload(self._plugins, order=self._order)
        except BaseException:
            PluginStage._is_open = False
            await self._fed.actor.stop()
            await self._job_starts.end()
            raise
        return self

    async def __aexit__(self, *why: object) -> None:
        PluginStage._is_open = False
        for asking in list(self._asking.values()):
            asking.answer.cancel()
        await self._fed.__aexit__(*why)
        await self._job_starts.end()

    async def reload(self, plugins: Mapping[str, Mapping[str, Any]], *, order: Sequence[str] | None = None) -> None:
        """Other settings, as `pingap reload` takes them over: what did not change lives on. Raises PluginRefused."""
        __tracebackhide__ = True
        sections = {name: self._section(dict(section)) for name, section in plugins.items()}
        problems = [problem for name, section in sections.items() for problem in self._problems(name, section)]
        if problems:
            raise validation.PluginRefused(problems)
        self._fed.take(self._snapshot(sections, tuple(order if order is not None else plugins)))
        async with asyncio.timeout(PATIENCE):
            while not (answers := self._fed.answers_to_config()):
                self._news.clear()
                await self._news.wait()
        if refused := "; ".join(filter(None, answers)):
            raise validation.PluginRefused([Problem("plugins", refused)])

    def _section(self, section: dict[str, Any]) -> dict[str, Any]:
        path = section.get("path")
        if section.get("category") == user_code.CATEGORY and isinstance(path, str):
            section["path"] = os.path.join(self._base, path)
        return section

    def _snapshot(self, sections: dict[str, dict[str, Any]], order: tuple[str, ...]) -> Snapshot:
        nowhere = Upstream(addrs=(PARSERS["backend"]("127.0.0.1:9"),))
        return Snapshot(
            servers={"s": Server(addr=(Listen("127.0.0.1", 80),), locations=("l",))},
            locations={"l": Location(upstream=self._upstream, plugins=order)},
            upstreams=dict.fromkeys(self.backends, nowhere),
            plugins=sections,
        )

    def _problems(self, name: str, section: dict[str, Any]) -> list[Problem]:
        """Of a section, as `pingap check` would tell them; but the code of a user's plugin runs in this process."""
        if section.get("category") != user_code.CATEGORY:
            return [one for one in checking.Checker()(name, section, self.backends.keys()) if isinstance(one, Problem)]
        try:
            made = making.make(name, section, self._fed.actor.guard)
        except validation.PluginRefused as refused:
            return list(refused.problems)
        return checking.unknown_upstreams(name, made.upstreams, self.backends.keys())

    # -- what a test asks ---------------------------------------------------------------

    @property
    def backend(self) -> ScriptedBackend:
        """That of the location's upstream. Raises KeyError when it has none."""
        return self.backends[self._upstream]

    @property
    def logs(self) -> list[LoggedLine]:
        """What plugins and the stage have logged so far."""
        return [LoggedLine(*line) for line in self._context.logged]

    @property
    def counts(self) -> Mapping[str, float]:
        """Counters by name, all labels together."""
        return self._context.counted

    async def get(self, target: str = "/", **more: Any) -> StageAnswer:
        """GET; the rest as for `request`."""
        return await self.request("GET", target, **more)

    async def post(self, target: str = "/", body: Body = b"", **more: Any) -> StageAnswer:
        """POST; the rest as for `request`."""
        return await self.request("POST", target, body=body, **more)

    async def request(
        self,
        method: str,
        target: str = "/",
        *,
        headers: Pairs = (),
        body: Body = b"",
        host: str = "example.com",
        client_ip: str = "192.0.2.7",
        scheme: str = "http",
        client_certificate: bytes = b"",
        version: str = "1.1",
        timeout: float = PATIENCE,
    ) -> StageAnswer:
        """Sends a request and waits for the whole answer. Cancelling it is the client leaving.

        headers: a mapping or pairs; `host` is there already. body: a list of bytes comes piece by piece, without a length.
        client_certificate: in DER, taken as verified. version: "1.0", "1.1" or "2". Raises TimeoutError after so many seconds.
        """
        __tracebackhide__ = True
        self._last_sid = sid = self._last_sid + 1
        is_whole = isinstance(body, str | bytes)
        pieces = [body.encode() if isinstance(body, str) else body] if isinstance(body, str | bytes) else [*body] or [b""]
        is_inline = is_whole and len(pieces[0]) <= INLINE
        asking = self._asking[sid] = ClientSide(sid, asyncio.get_running_loop().create_future(), [] if is_inline else pieces)
        block = Headers(block_of({"host": host})).raw + Headers(block_of(headers)).raw
        now = monotonic()
        # fmt: off
        self._fed.give(Routed(
            sid, self._fed.generation, Affinity(ROUTING, PLUGINS, UPSTREAM), "s",
            Peer(client_ip, 51234, "192.0.2.1", 80, "https" if client_certificate else scheme, 17, client_certificate),
            method.encode("latin-1"), target.encode("latin-1"), _VERSIONS[version], host.encode("latin-1"), block,
            len(pieces[0]) if is_whole else UNKNOWN, pieces[0] if is_inline else b"", is_inline, now, b"", client_ip, "l",
            self._upstream, self._fed.plan, {}, (now, now), b"", (),
        ))
        # fmt: on
        try:
            async with asyncio.timeout(timeout):
                return await asking.answer
        except TimeoutError:
            raise TimeoutError(f"{method} {target}: no answer within {timeout:g} s") from None
        finally:
            del self._asking[sid]
            if not asking.answer.done() or asking.answer.cancelled():
                self._fed.give(Cancel(sid, "client_closed"))
            self._fed.give(Done(sid))
            self._asked.pop(sid, None)

    # -- messages that go out of the stage --------------------------------------------------

    def _soon(self) -> None:
        self._news.set()
        if not self._is_due:
            self._is_due = True
            self._context.loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        for to, envelope in self._fed.sent():
            if to == UPSTREAM:
                self._to_upstream(envelope)
            elif to == ACCEPT:
                self._to_accept(envelope)

    def _to_upstream(self, envelope: Any) -> None:
        match envelope:
            case Routed():
                self._ask(envelope)
            case Data(is_upload=True):
                if (asked := self._asked.get(envelope.sid)) is not None:
                    self._take_upload(asked, envelope)
            case Credit():
                if (asked := self._asked.get(envelope.sid)) is not None:
                    asked.credit += envelope.bytes
                    self._send_body(asked)
            case Cancel():
                self._asked.pop(envelope.sid, None)

    def _ask(self, routed: Routed) -> None:
        """A request has reached its backend."""
        is_watched = routed.plan & RESPONSE_PLUGINS or owner_of(routed.sid) == PLUGINS
        request = BackendRequest(
            routed.method.decode("latin-1"),
            routed.target.decode("latin-1"),
            Headers(routed.headers),
            b"",
            routed.client_ip,
            dict(routed.variables),
        )
        backend = self.outside if routed.upstream in UPSTREAMS else self.backends[routed.upstream]
        asked = self._asked[routed.sid] = BackendSide(routed.sid, backend, request, PLUGINS if is_watched else ACCEPT, routed.watchers)
        asked.parts.append(routed.body)
        if routed.ended:
            self._answer(asked)
        elif routed.plan & REQUEST_BODY or owner_of(routed.sid) == PLUGINS:
            self._fed.give(Credit(routed.sid, WINDOW, UPSTREAM))
        else:  # the body goes past plugins
            asked.parts += self._asking[routed.sid].left
            self._answer(asked)

    def _take_upload(self, asked: BackendSide, data: Data) -> None:
        asked.parts.append(data.payload)
        if data.error:
            self._asked.pop(asked.sid, None)
        elif data.ended:
            self._answer(asked)
        elif data.payload:
            self._fed.give(Credit(asked.sid, len(data.payload), UPSTREAM))

    def _answer(self, asked: BackendSide) -> None:
        """The backend has all of the request."""
        backend, request = asked.backend, asked.request
        request = BackendRequest(request.method, request.target, request.headers, b"".join(asked.parts), request.client_ip, request.context)
        reply = backend.take(request)
        if backend.is_silent:
            return
        now = monotonic()
        failure = backend.failure
        stamps = (now,) * 8
        status = 0 if failure else reply.status
        report = Report("l", backend.name, "127.0.0.1:9", status, False, 1, stamps, (), failure, request.context, request.client_ip)
        pieces: tuple[bytes, ...]
        if failure:
            page_status, headers, body = ErrorPages().page(failure)
            pieces, is_measured, status = (body,), True, page_status
        else:
            pieces, is_measured, headers = reply.pieces, reply.is_measured, reply.headers
        length = len(pieces[0]) if is_measured else UNKNOWN
        if status in (204, 304):
            length = UNKNOWN
        if request.method == "HEAD" or status in (204, 304):
            pieces, is_measured = (b"",), True
        is_inline = is_measured and len(pieces[0]) <= INLINE
        asked.left, asked.credit = [] if is_inline else list(pieces), WINDOW
        first = pieces[0] if is_inline else b""
        self._out(asked, Response(asked.sid, UPSTREAM, status, headers, length, first, is_inline, report, asked.watchers))
        if is_inline:
            self._asked.pop(asked.sid, None)
        else:
            self._send_body(asked)

    def _send_body(self, asked: BackendSide) -> None:
        while asked.sid in self._asked and asked.credit > 0:
            piece = asked.left.pop(0) if asked.left else b""
            piece, rest = piece[:INLINE], piece[INLINE:]
            if rest:
                asked.left.insert(0, rest)
            asked.credit -= len(piece)
            is_last = not asked.left
            if is_last:
                self._asked.pop(asked.sid, None)
            self._out(asked, Data(asked.sid, piece, is_last, ""))

    def _out(self, asked: BackendSide, envelope: Any) -> None:
        """To whom the answer goes: through plugins, or past them."""
        if asked.to == PLUGINS:
            self._fed.give(envelope)
        else:
            self._to_accept(envelope)

    def _to_accept(self, envelope: Any) -> None:
        asking = self._asking.get(getattr(envelope, "sid", 0))
        if asking is None:
            return
        match envelope:
            case Response():
                asking.head = envelope
                asking.parts.append(envelope.body)
                if envelope.ended:
                    asking.end()
                else:
                    self._grant(asking, WINDOW if envelope.file is not None else len(envelope.body))
            case Data(is_upload=False):
                asking.parts.append(envelope.payload)
                if envelope.ended or envelope.error:
                    asking.end(envelope.context, is_cut=bool(envelope.error))
                else:
                    self._grant(asking, len(envelope.payload))
            case Credit():
                asking.credit += envelope.bytes
                self._send_upload(asking, envelope.wanter)
            case Interim():
                pass

    def _grant(self, asking: ClientSide, count: int) -> None:
        """The client has read so much."""
        assert asking.head is not None
        if not count:
            return
        if asking.head.source == PLUGINS:
            self._fed.give(Credit(asking.sid, count, ACCEPT))
        elif (asked := self._asked.get(asking.sid)) is not None:
            asked.credit += count
            self._context.loop.call_soon(self._send_body, asked)

    def _send_upload(self, asking: ClientSide, wanter: int) -> None:
        while asking.left and asking.credit > 0:
            piece = asking.left.pop(0)
            piece, rest = piece[:INLINE], piece[INLINE:]
            if rest:
                asking.left.insert(0, rest)
            asking.credit -= len(piece)
            self._fed.give(Data(asking.sid, piece, not asking.left, "", True))


def _log(level: str, message: str, fields: dict[str, Any]) -> None:
    """For pytest, which shows what was logged in a test that fails; with the traceback of what a hook raised."""
    error = sys.exc_info()[1]
    said = " ".join(f"{key}={value}" for key, value in fields.items())
    _LOG.log(_LEVELS.get(level, logging.INFO), "%s %s", message, said, exc_info=error if level == "error" else None)
