"""Requests of plugins' own: `await host.fetch(…)`, through the upstream stage with its pools, TLS, health, retries and figures.

This actor owns their streams: a sid begins with its id, so that whatever concerns one is sent here (bus/PROTOCOL.md section 8).
They go to upstream without routing and without a location, whose rules are for clients; nor does a hook see them. Each has
a deadline. It is not ended by the end of the request for which it was made, but with the task that awaits it: upstream then
hears CANCEL. When the replica of upstream dies that has one, it fails; it may have been done, so nobody does it again here.

`stages/streams.py` owns streams too, those of clients: they begin at routing and can be sent again when actors die. What both
know (numbering, credit, CANCEL of what nobody wants) might be one part; a request that says its upstream instead of its
server is what that would need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from time import monotonic
from typing import Any, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.bus.members import Members
from pingap.stages.header_view import Headers, Pairs, block_of
from pingap.stages.http1.methods import is_forwarded
from pingap.stages.messages import INLINE, WINDOW, Affinity, Broken, Cancel, Credit, Data, Peer, Response, Routed
from pingap.stages.plugins.exchange import Overloaded, body_bytes, request_target, whole

MOST: Final = 4096
"""Requests of plugins at the same time in one process of the stage."""

MOST_SECONDS: Final = 3600.0
LARGEST: Final = 8 * 1024 * 1024
"""Bytes of an answer that is taken unless its caller says otherwise."""

_TOP_UP: Final = WINDOW // 4
_PORTION: Final = 256 * 1024
_NOWHERE: Final = Peer("", 0, "", 0, "http", 0)


class FetchAnswer(NamedTuple):
    """The answer of a backend, whatever its status."""

    status: int
    headers: Headers
    body: bytes


class FetchFailed(Exception):
    """There is no answer of a backend, or not all of it."""

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(f"{kind}: {reason}" if reason else kind)
        self.kind = kind
        """As in access logs: connect_failed, gateway_timeout, overloaded, …; too_large for an answer beyond its limit."""


class PluginFetch:
    """One that waits for its answer."""

    __slots__ = ("answer", "body", "credit", "is_over", "limit", "parts", "response", "sent", "sid", "size", "to", "unacked")

    def __init__(self, sid: int, to: int, body: bytes, limit: int, answer: asyncio.Future[FetchAnswer]) -> None:
        self.sid = sid
        self.to = to
        """The upstream actor that has it."""
        self.body = body
        """Of the request, what did not go with its head."""
        self.sent = 0
        self.credit = 0
        self.is_over = False
        """Upstream has said all that it will say."""
        self.limit = limit
        self.answer = answer
        self.response: Response | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.unacked = 0


class Fetches:
    """Those of one actor."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._send: Callable[[int, Any], None] = context.send
        self._me = context.id
        self._last_sid = context.id << 32
        self._by_sid: dict[int, PluginFetch] = {}
        self._turn = 0
        self._generation = 0
        self._upstreams: Set[str] = frozenset()
        self._expected: Set[str] = frozenset()
        """Those of a generation that is not committed yet: its plugins may fetch from them already, and wait until it is."""
        self._changed: asyncio.Event | None = None
        self._waiting = 0
        """Those that no replica of upstream has yet, or whose generation is not committed."""

    def __len__(self) -> int:
        return len(self._by_sid) + self._waiting

    async def fetch(
        self,
        plugin: str,
        upstream: str,
        method: str,
        target: str,
        headers: Pairs,
        body: str | bytes,
        timeout: float,
        limit: int,
        authority: str = "",
    ) -> FetchAnswer:
        """See `Host.fetch`. authority: the host, perhaps with a port, when `upstream` is one of stages/outside.py."""
        name = method.encode("latin-1", "replace")
        if not is_forwarded(name):
            raise ValueError(f"{method!r} is not a method")
        path, lines = request_target(target), Headers(block_of(headers))
        if authority:
            lines.setdefault("host", authority)
        content = body.encode() if isinstance(body, str) else body_bytes(body, "the body of a request is text or bytes")
        if not 0 < timeout <= MOST_SECONDS:
            raise ValueError(f"a timeout is more than 0 and at most {MOST_SECONDS:g} seconds")
        whole(limit, "the limit of an answer")
        if len(self) >= MOST:
            raise Overloaded(f"{MOST} requests of plugins wait for answers already")
        outcome = "client_closed"
        fetch: PluginFetch | None = None
        try:
            async with asyncio.timeout(timeout):
                while not authority and upstream in self._expected and upstream not in self._upstreams:
                    await self._change()
                to = await self._replica()
                if not authority and upstream not in self._upstreams:
                    outcome = "unknown"
                    raise ValueError(f"there is no upstream {upstream!r} in the configuration")
                fetch = self._begin(to, upstream, authority.encode(), name, path, lines.raw, content, limit)
                answer = await fetch.answer
                outcome = f"{answer.status // 100}xx"
                return answer
        except TimeoutError:
            outcome = "gateway_timeout"
            raise FetchFailed(outcome, f"no answer within {timeout:g} s") from None
        except FetchFailed as failed:
            outcome = failed.kind
            raise
        finally:
            self._context.count("plugin_fetches", plugin=plugin, upstream=upstream, outcome=outcome)
            if fetch is not None:
                self._end(fetch)

    async def _replica(self) -> int:
        """The upstream actor to use: the one of this process if there is one, else each in turn; waits until there is any."""
        while not (replica := self.replica()):
            await self._change()
        return replica

    def replica(self) -> int:
        """As `_replica`, 0 when there is none."""
        own = self._context.settings.get("crew", {}).get("upstream")
        if not self._generation:
            return 0
        if own is not None:
            return int(own)
        ready = [member.id for member in self._context.members.ready("upstream")]
        if not ready:
            return 0
        self._turn += 1
        return ready[self._turn % len(ready)]

    async def _change(self) -> None:
        """Until there is a new generation, or a replica of upstream."""
        if self._changed is None:
            self._changed = asyncio.Event()
        self._waiting += 1
        try:
            await self._changed.wait()
        finally:
            self._waiting -= 1

    def _begin(
        self, to: int, upstream: str, host: bytes, method: bytes, target: bytes, headers: bytes, body: bytes, limit: int
    ) -> PluginFetch:
        if not self._context.can_send(to):
            raise FetchFailed("overloaded", "the way to upstream is stuck")
        sid = self.next_sid()
        is_inline = len(body) <= INLINE
        fetch = PluginFetch(sid, to, b"" if is_inline else body, limit, asyncio.get_running_loop().create_future())
        self._by_sid[sid] = fetch
        now = monotonic()
        # fmt: off
        self._send(to, Routed(
            sid, self._generation, Affinity(0, self._me, to), "", _NOWHERE, method, target, 11, host, headers, len(body),
            body if is_inline else b"", is_inline, now, b"", "", "", upstream, 0, {}, (now, now), b"", (),
        ))
        # fmt: on
        return fetch

    def next_sid(self) -> int:
        """The number of a stream that this actor owns."""
        self._last_sid += 1
        return self._last_sid

    def _end(self, fetch: PluginFetch) -> None:
        """Nobody waits for it any more."""
        self._by_sid.pop(fetch.sid, None)
        if not fetch.is_over:
            self._send(fetch.to, Cancel(fetch.sid, "plugins"))

    # -- what comes of them -----------------------------------------------------------

    def responded(self, response: Response) -> bool:
        """RESPONSE; False when it belongs to none of these."""
        fetch = self._by_sid.get(response.sid)
        if fetch is None:
            return False
        if fetch.response is not None:
            return True
        report = response.report
        if report is not None and report.error:
            fetch.is_over = True
            self._fail(fetch, report.error, report.reason)
            return True
        fetch.response = response
        self._take(fetch, response.body, response.ended)
        return True

    def data(self, data: Data) -> None:
        """DATA of an answer."""
        fetch = self._by_sid.get(data.sid)
        if fetch is None or fetch.response is None or data.is_upload:
            return
        if data.error:
            fetch.is_over = True
            self._fail(fetch, data.error, "the answer was cut off")
        else:
            self._take(fetch, data.payload, data.ended)

    def _take(self, fetch: PluginFetch, payload: bytes, ended: bool) -> None:
        response = fetch.response
        assert response is not None
        fetch.parts.append(payload)
        fetch.size += len(payload)
        fetch.unacked += len(payload)
        if fetch.size > fetch.limit:
            self._fail(fetch, "too_large", f"the answer has more than {fetch.limit} bytes")
        elif ended:
            fetch.is_over = True
            if not fetch.answer.done():
                fetch.answer.set_result(FetchAnswer(response.status, Headers(response.headers), b"".join(fetch.parts)))
        elif fetch.unacked >= _TOP_UP:
            self._send(response.source, Credit(fetch.sid, fetch.unacked, self._me))
            fetch.unacked = 0

    def credited(self, credit: Credit) -> None:
        """CREDIT: upstream takes more of the request body."""
        fetch = self._by_sid.get(credit.sid)
        if fetch is None:
            return
        fetch.credit += credit.bytes
        body = fetch.body
        while fetch.credit > 0 and fetch.sent < len(body):
            piece = body[fetch.sent : fetch.sent + min(_PORTION, fetch.credit)]
            fetch.sent += len(piece)
            fetch.credit -= len(piece)
            self._send(credit.wanter, Data(fetch.sid, piece, fetch.sent == len(body), "", True))

    def broken(self, broken: Broken) -> None:
        """BROKEN: a message of one got lost."""
        fetch = self._by_sid.get(broken.sid)
        if fetch is not None:
            self._fail(fetch, "internal", broken.reason)

    def _fail(self, fetch: PluginFetch, kind: str, reason: str = "") -> None:
        if not fetch.answer.done():
            fetch.answer.set_exception(FetchFailed(kind, reason))
            fetch.answer.exception()  # whoever has left meanwhile need not hear of it

    # -- who lives ----------------------------------------------------------------------

    def expect(self, upstreams: Set[str]) -> None:
        """What there will be, if the generation that is being made is committed."""
        self._expected = upstreams

    def committed(self, generation: int, upstreams: Set[str]) -> None:
        """What there is to fetch from, from now on."""
        self._generation, self._upstreams, self._expected = generation, upstreams, frozenset()
        self._wake()

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        for fetch in list(self._by_sid.values()) if gone else ():
            if fetch.to in gone:
                fetch.is_over = True
                self._fail(fetch, "stage_lost", "the upstream process that had it has ended")
        if members.ready("upstream"):
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def stop(self) -> None:
        """The process ends."""
        for fetch in list(self._by_sid.values()):
            self._fail(fetch, "overloaded", "the process ends")
