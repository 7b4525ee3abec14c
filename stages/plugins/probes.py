"""Questions of the operator's about one URL: a request that no client has sent goes through the routing of the running instance and
comes to the cache of its location, which says what it knows (cache/probe.py). No listener, no backend and no log is in it.

Routing gets REQUEST as accept would send it. Its affinity names this actor as plugins and as upstream, and this actor is the stream's
owner, so whatever routing decides comes back here: the location's chain, the upstream that it would go to, or an error page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.stages.caching.purging import PurgeAsked
from pingap.stages.caching.words import BYPASS
from pingap.stages.header_view import Headers, block_of
from pingap.stages.http1.methods import is_forwarded
from pingap.stages.http1.upgrade import protocol_to_tunnel
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.messages import UNKNOWN, Affinity, Cancel, Peer, Request, Response, Routed
from pingap.stages.plugins.cache.probe import CACHE, Probe, ProbeAsked, ProbeRefused
from pingap.stages.plugins.cache.purge import LONGEST as PURGING
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.exchange import CONTINUE, SKIP, Exchange, Reply, request_target
from pingap.stages.plugins.guard import HookGuard

LONGEST: Final = 4.0
"""Seconds for one; who asked waits a little longer."""

MOST: Final = 64
"""At a time."""

_OF_A_CONNECTION: Final = ("connection", "upgrade", "content-length", "transfer-encoding")
"""Lines that a request has no more when it comes to routing: it has them in fields of its own."""


class Probes:
    """Those of one actor."""

    def __init__(
        self,
        context: Context,
        next_sid: Callable[[], int],
        generation: Callable[[], int],
        chain_of: Callable[[Routed], Chain | None],
        guard: HookGuard,
    ) -> None:
        """generation: the newest. chain_of: the plugins of a request's location."""
        self._context = context
        self._next_sid = next_sid
        self._generation = generation
        self._chain_of = chain_of
        self._guard = guard
        self.by_sid: dict[int, asyncio.Future[Routed | Response]] = {}
        """Streams that are probes, and what comes of them in routing."""

    async def ask(self, asked: ProbeAsked, purge: PurgeAsked | None = None) -> dict[str, Any]:
        """What a request like this would get, as plain data, or what was purged. Raises ProbeRefused; ValueError and TypeError for what
        is no request."""
        request, routing = self._request(asked)
        sid = request.sid
        longest = LONGEST if purge is None else LONGEST + PURGING
        answer = self.by_sid[sid] = self._context.loop.create_future()
        try:
            async with asyncio.timeout(longest):
                self._context.send(routing, request)
                came = await answer
                found: dict[str, Any] = {"server": asked.server}
                if isinstance(came, Response):
                    return found | _refused(came)
                found |= {"location": came.location, "upstream": came.upstream, "target": came.target.decode("latin-1")}
                return found | await self._in_location(came, Probe(purge))
        except TimeoutError:
            raise ProbeRefused(f"no answer within {longest:g} s: see the log") from None
        finally:
            del self.by_sid[sid]
            for actor in (routing, self._context.id):  # they may count it as in flight
                self._context.send(actor, Cancel(sid, "explained"))

    def _request(self, asked: ProbeAsked) -> tuple[Request, int]:
        if len(self.by_sid) >= MOST:
            raise ProbeRefused(f"{MOST} questions wait for answers already")
        method, host = asked.method.encode("latin-1", "replace"), asked.host.lower().encode("latin-1", "replace")
        if not is_forwarded(method):
            raise ValueError(f"{asked.method!r} is not a method")
        own: dict[str, str] = {}
        others = []
        for name, value in asked.headers:
            if (word := str(name).lower()) in _OF_A_CONNECTION:
                own[word] = str(value).lower()
            else:
                others.append((str(name), str(value)))
        lines = Headers(block_of(others))
        lines.setdefault("host", asked.host)
        upgrade = protocol_to_tunnel(own.get("upgrade", "").encode()) if "upgrade" in own.get("connection", "") else b""
        length = UNKNOWN if "transfer-encoding" in own else int(own.get("content-length", "0"))
        routing, generation = self._routing(), self._generation()
        if not routing or not generation:
            raise ProbeRefused("no routing process is ready at the moment: ask again when one is, which `pingap ps` tells")
        me = self._context.id
        peer = Peer(asked.client_ip, 0, asked.local_ip, asked.local_port, asked.scheme, 0)
        # fmt: off
        return Request(
            self._next_sid(), generation, Affinity(routing, me, me), asked.server, peer, method, request_target(asked.target), 11, host,
            lines.raw, length, b"", True, monotonic(), upgrade,
        ), routing
        # fmt: on

    def _routing(self) -> int:
        """The routing actor to ask: the one of this process if there is one."""
        own = self._context.settings.get("crew", {}).get("routing")
        if own is not None:
            return int(own)
        ready = self._context.members.ready("routing")
        return ready[0].id if ready else 0

    def came(self, message: Routed | Response) -> None:
        """ROUTED or RESPONSE of one of these."""
        answer = self.by_sid[message.sid]
        if not answer.done():
            answer.set_result(message)

    async def _in_location(self, routed: Routed, probe: Probe) -> dict[str, Any]:
        """Of several caches each does a purge; a question goes on from one that lets the request go by to the next."""
        chain = self._chain_of(routed) if routed.plan & REQUEST_PLUGINS else None
        known: list[dict[str, Any]] = []
        exchange = Exchange(routed, monotonic())
        probe.join(exchange)
        for number in range(len(chain.before.calls) if chain is not None else 0):
            assert chain is not None
            owner = chain.before.owners[number]
            if probe.purge is not None and owner.plugin.category != CACHE:
                continue  # who may purge, and how often, is not asked where the operator does it
            try:
                result = await self._hook(chain, number, exchange)
            except TimeoutError:
                raise
            except Exception as error:
                return {"outcome": "failed", "rule": f"plugin {owner.name} failed: {error!r}", "plugin": owner.name}
            if probe.found is not None:
                found, probe.found = {"plugin": owner.name} | probe.found, None
                if probe.purge is None and found["outcome"] != BYPASS:
                    return found
                known.append(found)
                continue
            if isinstance(result, Reply):
                return {"outcome": "answered", "rule": f"plugin {owner.name} answers it", "plugin": owner.name, "status": result.status}
        if known:
            return known[0] if probe.purge is None else added(known)
        return {"outcome": "uncached", "rule": "the location has no cache" if chain is None or not _caches(chain) else "no cache takes it"}

    async def _hook(self, chain: Chain, number: int, exchange: Exchange) -> Any:
        if chain.is_guarded:
            while self._guard.is_busy:
                await self._guard.free()
        result: Any = chain.before.calls[number](exchange)
        if result is CONTINUE or result is SKIP or not isinstance(result, Awaitable):
            return result
        return await result


def added(known: list[dict[str, Any]]) -> dict[str, Any]:
    """What several caches of a location have purged, as of one."""
    names = {word: ", ".join(dict.fromkeys(found[word] for found in known)) for word in ("plugin", "namespace")}
    return names | {word: sum(found[word] for found in known) for word in ("purged", "failed")}


def _caches(chain: Chain) -> bool:
    return any(owner.plugin.category == CACHE for owner in chain.before.owners)


def _refused(response: Response) -> dict[str, Any]:
    report = response.report
    found: dict[str, Any] = {"outcome": "answered", "status": response.status}
    if report is None or not report.error:
        return found | {"rule": "pingap answers it itself"}
    return found | {"rule": f"routing answers it ({report.error})", "location": report.location}
