"""From ROUTED to upstream: the hooks of the request, then its body."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from msgspec.structs import replace

from pingap.stages.http1.rules import NOT_IN_TRAILERS
from pingap.stages.itinerary import NO_TRAILERS, OUTLIVES, REQUEST_BODY, RESPONSE_PLUGINS
from pingap.stages.messages import Routed
from pingap.stages.plugins.answers import Answers
from pingap.stages.plugins.bodies import UploadBody, carry, stages_of
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.core import Replied
from pingap.stages.plugins.exchange import Exchange, Reply
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.meters import timed_context
from pingap.stages.plugins.runner import run, run_on
from pingap.stages.plugins.stream import PluginStream, PluginStreams


class RequestRunner:
    """The request half of the stage. A request that nothing has to wait for leaves no state behind."""

    def __init__(self, send: Callable[[int, Any], None], me: int, streams: PluginStreams, guard: HookGuard, answers: Answers) -> None:
        """send: (actor, message). me: id of this actor."""
        self._send = send
        self._me = me
        self._streams = streams
        self._by_sid = streams.by_sid
        self._guard = guard
        self._answers = answers

    def serve(self, exchange: Exchange, chain: Chain, at: int = 0) -> None:
        """All that can be done at once; a task does the rest. at: of the hooks before the proxy step, the number of the first to run."""
        routed, answers = exchange._routed, self._answers
        guard = self._guard if chain.is_guarded else None
        try:
            at, result = run(chain.before, exchange, at, guard)
            if result is None:
                if exchange._request_stages is not None:
                    self._later(exchange, chain, False, at, None)
                    return
                exchange._body_is_settled = True
                if not exchange._upstream:
                    answers.error(exchange, chain, "not_found")
                    return
                if chain.proxy.calls:
                    at, result = run(chain.proxy, exchange, 0, guard)
                if result is None:
                    if routed.plan & RESPONSE_PLUGINS:
                        stream = self._by_sid[routed.sid] = PluginStream(exchange, chain)  # as `open`, without that call
                        stream.is_forwarded = True
                    self._send(routed.affinity.upstream, self._leaving(exchange, routed.plan & ~REQUEST_BODY, routed.ended))
                    return
            if isinstance(result, Reply):
                answers.reply(exchange, chain, result)
            else:
                self._later(exchange, chain, exchange._body_is_settled, at, result)
        except Exception as error:
            self._streams.forget(routed.sid)
            answers.hook_failed(exchange, chain, error)

    def _later(self, exchange: Exchange, chain: Chain, is_proxy_step: bool, at: int, waits: Any) -> None:
        stream = self._streams.open(exchange, chain)
        stream.task = self._streams.spawn(stream, self._serve(stream, is_proxy_step, at, waits), self._failed, waits)

    def _failed(self, stream: PluginStream, error: Exception) -> None:
        if stream.is_forwarded:
            self._answers.upload_failed(stream, error)
        else:
            self._streams.drop(stream)
            self._answers.hook_failed(stream.exchange, stream.chain, error)

    async def _serve(self, stream: PluginStream, is_proxy_step: bool, at: int, waits: Any) -> None:
        answers = self._answers
        try:
            reply = await self._ask(stream, is_proxy_step, at, waits)
        except Replied as replied:
            reply = replied.reply
        except Exception as error:
            self._streams.forget(stream.sid)
            answers.hook_failed(stream.exchange, stream.chain, error)
            return
        if reply is not None:
            self._streams.forget(stream.sid)
            answers.reply(stream.exchange, stream.chain, reply)
            return
        try:
            if stream.is_forwarded:
                if stream.upload is not None and not stream.upload.flow.is_over:
                    await carry(stream.upload, None)
                if not stream.exchange._routed.plan & RESPONSE_PLUGINS:
                    self._streams.drop(stream)
        except Exception as error:
            answers.upload_failed(stream, error)

    async def _ask(self, stream: PluginStream, is_proxy_step: bool, at: int, waits: Any) -> Reply | None:
        """Runs what is left of the hooks, and sends the request on unless one of them answers."""
        exchange, chain, routed = stream.exchange, stream.chain, stream.exchange._routed
        guard = self._guard if chain.is_guarded else None
        if not is_proxy_step:
            reply = await run_on(chain.before, exchange, at, waits, guard, partial(self._prepare_body, stream))
            if reply is not None:
                return reply
            at, waits = 0, None
            exchange._body_is_settled = True
            await self._prepare_body(stream)
            if not exchange._upstream:
                self._streams.forget(stream.sid)
                self._answers.error(exchange, chain, "not_found")
                return None
        reply = await run_on(chain.proxy, exchange, at, waits, guard)
        if reply is not None:
            return reply
        stream.is_forwarded = True
        upload = stream.upload
        if upload is None:
            self._send(routed.affinity.upstream, self._leaving(exchange, routed.plan & ~REQUEST_BODY, routed.ended))
            return None
        length, body, ended = upload.first()
        if not ended and not routed.plan & RESPONSE_PLUGINS:
            exchange._watches = True  # the answer goes past us: DONE tells that the rest of the body is not wanted
        leaving = self._leaving(exchange, routed.plan | REQUEST_BODY, ended)
        # A client that asks for another protocol with a body would have that body go past the hooks.
        self._send(routed.affinity.upstream, replace(leaving, length=length, body=body, ended=ended, upgrade=b""))
        return None

    async def _prepare_body(self, stream: PluginStream) -> None:
        """Gives the body to those who wait for all of it, as far as hooks have asked until now."""
        exchange, routed, upload = stream.exchange, stream.exchange._routed, stream.upload
        wanted = exchange._request_stages
        if wanted is None or (upload is not None and upload.count == len(wanted)):
            return
        if not routed.ended and not routed.plan & REQUEST_BODY:
            raise RuntimeError("a plugin that wants request bodies has to say so: reads_request_body = True")
        if upload is None:
            upload = stream.upload = UploadBody(stream, stages_of(stream, wanted), self._send, self._me, self._guard)
            upload.task = stream.task
            if routed.ended:
                upload.offer(routed.body, True)
        else:
            upload.extend(stages_of(stream, wanted[upload.count :]))
        await upload.prepare()

    def _leaving(self, exchange: Exchange, plan: int, ended: bool) -> Routed:
        """The request as it goes on. ended: its body is all in it, with no trailers to come."""
        routed = exchange._routed
        context = exchange._context
        removed = exchange.headers.removed
        if removed and not ended and _may_come_back(removed):
            plan |= NO_TRAILERS
        if exchange._caching is not None:
            plan |= OUTLIVES
        return replace(
            routed,
            target=exchange._target,
            headers=exchange.headers.raw,
            upstream=exchange._upstream,
            plan=plan,
            variables=timed_context(exchange, routed.variables if context is None else context),
            stamps=routed.stamps[:2] + (exchange._reached, monotonic()),
            watchers=(*routed.watchers, self._me) if exchange._watches else routed.watchers,
        )


def _may_come_back(removed: tuple[bytes, ...]) -> bool:
    """Whether a trailer may have one of these names (`Headers.removed`). Some backends take trailers for header lines."""
    return any(line[:-2] not in NOT_IN_TRAILERS for line in removed)
