"""From RESPONSE to accept: the hooks of the answer and its body; and the answers that are made here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from time import monotonic
from typing import Any, Final

from msgspec.structs import replace

from pingap.stages.answers import page_response, report_on
from pingap.stages.error_page import ErrorPages
from pingap.stages.errors import KINDS
from pingap.stages.messages import UNKNOWN, Cancel, Data, Report, Response, owner_of
from pingap.stages.plugins.bodies import PORTION, DownloadBody, carry, report_of, stages_of, trailers_of
from pingap.stages.plugins.cache.flights.growth import GrowthCut
from pingap.stages.plugins.chain import Chain, Hooks
from pingap.stages.plugins.core import PIECE, BodyTooLarge, Replied
from pingap.stages.plugins.exchange import Exchange, HookError, Reply, ResponseHead, Transformer
from pingap.stages.plugins.failures import Failures, answer_to, cause_of
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.meters import timed_context
from pingap.stages.plugins.pieces import OwnedBody, Pieces
from pingap.stages.plugins.runner import run, run_on
from pingap.stages.plugins.stream import PluginStream, PluginStreams

_PERHAPS_DONE: Final = frozenset(("bad_gateway", "call_cancelled", "gateway_timeout", "deadline_exceeded", "stage_lost"))
"""Errors of upstream's when a backend may have the request, and have done what it says."""

_BODILESS: Final = frozenset((204, 304))


class Answers:
    """The response half of the stage."""

    def __init__(
        self,
        send: Callable[[int, Any], None],
        me: int,
        streams: PluginStreams,
        guard: HookGuard,
        failures: Failures,
        is_near: Callable[[int], bool],
    ) -> None:
        """send: (actor, message). me: id of this actor. is_near: whether an actor is on this host."""
        self._is_near = is_near
        self._send = send
        self._me = me
        self._streams = streams
        self._guard = guard
        self._failures = failures
        self.pages = ErrorPages()
        """Of the newest generation: for requests whose own is not known."""

    # -- of a backend --------------------------------------------------------------

    def arrived(self, stream: PluginStream, response: Response) -> None:
        """The head of the answer has come from upstream."""
        stream.response = response
        exchange, chain = stream.exchange, stream.chain
        exchange._report = response.report
        if response.report is not None and response.report.error:
            self._page_arrived(stream, response, response.report.error)
            return
        exchange.response = ResponseHead(response.status, response.headers, response.length)
        self._hooks_on(stream, chain.respond if stream.exchange._has_client else chain.fills)

    def _page_arrived(self, stream: PluginStream, response: Response, kind: str) -> None:
        """An error page of upstream's: no backend has answered."""
        if kind not in _PERHAPS_DONE:
            stream.exchange._concerned = None  # it has changed nothing
        caching = stream.exchange._caching
        kept = caching.failed(kind) if caching is not None else None
        if isinstance(kept, Reply):
            self._replace(stream, kept)
        elif kept is not None:
            stream.task = self._streams.spawn(stream, self._kept_later(stream, kept), self.failed, kept)
        elif stream.exchange._has_client:
            headers = self._headers_of_page(stream.exchange, stream.chain, response)
            self._pass(stream, response, response.status, headers, response.length)
        else:
            self._streams.drop(stream)

    async def _kept_later(self, stream: PluginStream, kept: Awaitable[Any]) -> None:
        self._replace(stream, await kept)

    def _hooks_on(self, stream: PluginStream, hooks: Hooks) -> None:
        """Gives the head of the answer to hooks, then sends it on."""
        exchange, chain = stream.exchange, stream.chain
        try:
            at, result = run(hooks, exchange, 0, self._guard if chain.is_guarded else None)
        except HookError as error:
            self.failed(stream, error)
            return
        if result is None:
            self._respond(stream)
        elif isinstance(result, Reply):
            self._replace(stream, result)
        else:
            stream.task = self._streams.spawn(stream, self._hooks_later(stream, hooks, at, result), self.failed, result)

    async def _hooks_later(self, stream: PluginStream, hooks: Hooks, at: int, waits: Any) -> None:
        try:
            result = await run_on(hooks, stream.exchange, at, waits, self._guard if stream.chain.is_guarded else None)
        except HookError as error:
            self.failed(stream, error)
            return
        if result is None:
            self._respond(stream)
        else:
            self._replace(stream, result)

    def _respond(self, stream: PluginStream) -> None:
        """All hooks have had the head."""
        if stream.exchange._instead is not None:
            self._put_instead(stream, stream.exchange._instead)
        exchange, response, pieces = stream.exchange, stream.response, stream.pieces
        head, stages = exchange.response, exchange._response_stages
        assert response is not None and head is not None
        if not stream.exchange._has_client:
            self._cancel_upstream(stream)
            self._streams.drop(stream)
            return
        if pieces is not None:
            if exchange.has_response_body:
                stages = [pieces, *(stages or ())]
            else:
                pieces.close()
        elif stages is None and len(response.body) > PORTION:
            stages = []
        if stages is not None and exchange.has_response_body:
            if response.ended and len(stages) == 1 and len(response.body) <= PIECE and self._answer_at_once(stream, response, stages[0]):
                return
            download = stream.download = DownloadBody(stream, stages_of(stream, stages), self._send, self._me, self._guard)
            if len(stages) == 1 and pieces is not None:
                download.length = pieces.length
            if response.body or response.ended:
                download.offer(response.body, response.ended)
            early, stream.early = stream.early, None
            for data in early or ():
                self.data(stream, data)
            if self._streams.has(stream):
                file = pieces.file if len(stages) == 1 and pieces is not None else None
                if file is not None and self._can_open(stream):
                    download.name_file(file)
                else:
                    self._begin(stream, download)
        elif head._status in _BODILESS and response.status not in _BODILESS and exchange.method != "HEAD":
            # A hook turned an answer that has a body into one that must not.
            self._cancel_upstream(stream)
            self._send_head(stream, response, head.status, head.headers.raw, UNKNOWN, b"", True)
            self._streams.drop(stream)
        else:
            self._pass(stream, response, head._status, head.headers.raw, response.length if stages is None else UNKNOWN)

    def _put_instead(self, stream: PluginStream, body: bytes | AsyncIterable[bytes]) -> None:
        """What was made of a stored body before takes its place."""
        stream.exchange._instead = None
        if stream.pieces is not None:
            stream.pieces.close()
        assert stream.response is not None
        if isinstance(body, bytes):
            stream.pieces = None
            stream.response = replace(stream.response, body=body, length=len(body))
        else:
            stream.pieces = Pieces("", body, _unguarded, self._failures.late)
            stream.response = replace(stream.response, body=b"", length=stream.pieces.length)

    def _answer_at_once(self, stream: PluginStream, response: Response, stage: Any) -> bool:
        """The whole answer in one piece, which its length goes with; False when its body has to be fed to `stage`."""
        body = stage.whole(response.body) if isinstance(stage, Transformer) else None
        if body is None:
            return False
        head = stream.exchange.response
        assert head is not None
        self._send_head(stream, response, head.status, head.headers.raw, len(body), body, True)
        self._streams.drop(stream)
        return True

    def _can_open(self, stream: PluginStream) -> bool:
        """Accept can open files that this stage can open, and has a use for them: for all but what is plain it needs the bytes."""
        routed = stream.exchange._routed
        return routed.version < 20 and routed.peer.scheme == "http" and self._is_near(stream.to_accept)

    def granted(self, stream: PluginStream, download: DownloadBody, count: int) -> None:
        """CREDIT for what is made here; the first may be for a file that was named, and is wanted as DATA."""
        download.grant(count)
        if download.file is not None:
            download.file = None
            self._begin(stream, download)

    def _begin(self, stream: PluginStream, download: DownloadBody) -> None:
        """Does what can be done at once; a task does the rest."""
        try:
            pending = download.advance()
        except Exception as error:
            self.failed(stream, error)
            return
        if download.flow.is_over and stream.responded:
            self._streams.drop(stream)
        else:
            download.task = self._streams.spawn(stream, self._finish(stream, download, pending), self.failed)

    async def _finish(self, stream: PluginStream, download: DownloadBody, pending: Awaitable[Any] | None) -> None:
        try:
            await carry(download, pending)
        except Exception as error:
            self.failed(stream, error)
        else:
            self._streams.drop(stream)

    def _pass(self, stream: PluginStream, response: Response, status: int, headers: bytes, length: int) -> None:
        """Sends the head on; the body goes through as it is."""
        self._send_head(stream, response, status, headers, length, response.body, response.ended)
        if response.ended:
            self._streams.drop(stream)
            return
        stream.passes = True
        early, stream.early = stream.early, None
        for data in early or ():
            self.data(stream, data)

    def _send_head(
        self, stream: PluginStream, response: Response, status: int, headers: bytes, length: int, body: bytes, ended: bool
    ) -> None:
        stream.responded = True
        report = report_of(stream.exchange, response)
        reason = response.reason if status == response.status else b""
        # fmt: off
        self._send(stream.to_accept, replace(
            response, source=self._me, status=status, headers=headers, length=length, body=body, ended=ended, report=report, reason=reason,
        ))
        # fmt: on

    def data(self, stream: PluginStream, data: Data) -> None:
        """DATA of an answer."""
        if stream.passes:
            if not (data.ended or data.error):
                self._send(stream.to_accept, data)
                return
            if data.trailers:
                data = replace(data, trailers=trailers_of(stream, data.trailers))
            self._send(stream.to_accept, data)
            self._streams.drop(stream)
        elif stream.download is not None:
            if data.error:
                self._broke(stream, data.error)
            else:
                stream.download.offer(data.payload, data.ended, data.trailers)
        elif stream.response is not None:
            if stream.early is None:
                stream.early = [data]
            else:
                stream.early.append(data)

    def lost(self, stream: PluginStream) -> None:
        """Upstream died with the rest of the answer."""
        if stream.download is not None and not stream.download.has_input:
            return  # all of it is here
        if stream.responded:
            self._send(stream.to_accept, Data(stream.sid, b"", False, "stage_lost"))
        self._streams.drop(stream)  # before the head it is accept that answers

    def _broke(self, stream: PluginStream, kind: str) -> None:
        """The backend's body cannot be completed."""
        if stream.responded:
            self._send(stream.to_accept, Data(stream.sid, b"", False, kind))
        else:
            self.error(stream.exchange, stream.chain, kind if kind in KINDS else "bad_gateway", stream.response)
        self._streams.drop(stream)

    # -- of plugins ----------------------------------------------------------------

    def reply(self, exchange: Exchange, chain: Chain, reply: Reply, response: Response | None = None) -> None:
        """A plugin answers itself. response: the backend's, if there was one already."""
        if exchange._caching is not None:
            exchange._caching.ended()
        if not exchange._has_client:
            return
        headers, body = reply.headers, reply.body
        if type(body) is not bytes:
            self._reply_in_pieces(exchange, chain, reply, response)
            return
        hooks = chain.on_hits if reply.is_stored else chain.outermost
        length = UNKNOWN if reply.status in _BODILESS else len(body)
        if exchange._routed.method == b"HEAD" or reply.status in _BODILESS:
            body = b""
        made = self._made(exchange, reply.status, headers, length, body, "", response)
        if not hooks.calls and len(body) <= PORTION:
            self._send(owner_of(made.sid), made)
        else:
            self._replied(exchange, chain, made, None, reply)

    def _reply_in_pieces(self, exchange: Exchange, chain: Chain, reply: Reply, response: Response | None) -> None:
        pieces: Any = reply.body
        if isinstance(pieces, OwnedBody):
            pieces = Pieces(pieces.plugin, pieces.body, _unguarded, self._failures.late)
        elif not isinstance(pieces, Pieces):  # in place of a whole body
            pieces = Pieces("", pieces, _unguarded, self._failures.late)
        length = UNKNOWN if reply.status in _BODILESS else pieces.length
        made = self._made(exchange, reply.status, reply.headers, length, b"", "", response)
        self._replied(exchange, chain, made, pieces, reply)

    def _replied(self, exchange: Exchange, chain: Chain, made: Response, pieces: Pieces | None, reply: Reply) -> None:
        """Makes a stream of an answer that is made here, for the hooks that see such a one, or for its body."""
        stream = self._streams.open(exchange, chain)
        stream.response = made
        stream.pieces = pieces
        exchange.response = ResponseHead(made.status, made.headers, made.length)
        exchange._report = made.report
        exchange._response_stages = None
        if reply.is_stored:
            exchange._source = reply.source
            self._hooks_on(stream, chain.on_hits)
            return
        try:
            if run(chain.outermost, exchange, 0, None)[1] is not None:
                raise TypeError("an outermost plugin neither replies nor waits when another plugin has replied")
        except Exception as error:
            self.failed(stream, error)
        else:
            self._respond(stream)

    def _replace(self, stream: PluginStream, reply: Reply) -> None:
        """A plugin replies in place of the backend's answer."""
        self._cancel_upstream(stream)
        self._streams.drop(stream)
        self.reply(stream.exchange, stream.chain, reply, stream.response)

    def error(self, exchange: Exchange, chain: Chain | None, kind: str, response: Response | None = None) -> None:
        """An error page."""
        if exchange._caching is not None:
            exchange._caching.ended()
        if not exchange._has_client:
            return
        pages: ErrorPages = chain.pages if chain is not None else self.pages
        routed = exchange._routed
        report = self._report(exchange, kind, response)
        answer = page_response(routed.sid, self._me, pages.page(kind), routed.method, report, self._watchers(exchange))
        if chain is not None and chain.on_pages.calls:
            answer = replace(answer, headers=self._headers_of_page(exchange, chain, answer))
        self._send(owner_of(routed.sid), answer)

    def _headers_of_page(self, exchange: Exchange, chain: Chain, page: Response) -> bytes:
        """The header block of an error page of ours, made here or by upstream, when who wants to has seen it. A hook that fails leaves
        it as it is: what went wrong before is what has to be told."""
        if not chain.on_pages.calls:
            return page.headers
        exchange.response = head = ResponseHead(page.status, page.headers, page.length)
        try:
            run(chain.on_pages, exchange, 0, None)
        except HookError as error:
            self._failures.happened(chain, error)
            return page.headers
        return head.headers.raw

    def _made(
        self, exchange: Exchange, status: int, headers: bytes, length: int, body: bytes, error: str, response: Response | None
    ) -> Response:
        report = self._report(exchange, error, response)
        return Response(exchange._routed.sid, self._me, status, headers, length, body, True, report, self._watchers(exchange))

    def _report(self, exchange: Exchange, error: str, response: Response | None) -> Report:
        """On an answer that is made here, perhaps in place of a backend's."""
        routed = exchange._routed
        context = timed_context(exchange, routed.variables if exchange._context is None else exchange._context)
        if response is not None and response.report is not None:
            return replace(response.report, error=error, context=context)
        stamps = (*routed.stamps[:2], exchange._reached, monotonic())
        return report_on(routed.client_ip, stamps, routed.location, exchange._upstream, error, variables=context)

    def _watchers(self, exchange: Exchange) -> tuple[int, ...]:
        watchers = exchange._routed.watchers
        return (*watchers, self._me) if exchange._watches else watchers

    # -- failures --------------------------------------------------------------------

    def failed(self, stream: PluginStream, error: Exception) -> None:
        """A hook or a transformer of the answer failed, or answers itself."""
        if isinstance(error, Replied) and not stream.responded:
            self._replace(stream, error.reply)
            return
        self._cancel_upstream(stream)
        self._streams.drop(stream)
        if not stream.exchange._has_client:
            self._failures.happened(stream.chain, error)
        elif isinstance(cut := cause_of(error), GrowthCut):  # a fetch that others read along failed, and no plugin
            self._broke(stream, cut.kind)
        elif stream.responded:
            self._failures.happened(stream.chain, error)
            self._send(stream.to_accept, Data(stream.sid, b"", False, "plugin_failed"))
        elif isinstance(error, BodyTooLarge):
            self.error(stream.exchange, stream.chain, "bad_gateway", stream.response)
        else:
            self._failures.happened(stream.chain, error)
            self.error(stream.exchange, stream.chain, answer_to(error), stream.response)

    def hook_failed(self, exchange: Exchange, chain: Chain, error: Exception) -> None:
        """A hook of the request failed."""
        if isinstance(error, BodyTooLarge):
            self.error(exchange, chain, "body_too_large")
            return
        self._failures.happened(chain, error)
        self.error(exchange, chain, answer_to(error))

    def upload_failed(self, stream: PluginStream, error: Exception) -> None:
        """A transformer of the request body failed when the request was on its way already."""
        if not self._streams.has(stream):
            return
        self._cancel_upstream(stream)
        self._streams.drop(stream)
        if stream.responded:
            self._failures.happened(stream.chain, error)
            self._send(stream.to_accept, Data(stream.sid, b"", False, "plugin_failed"))
        else:
            self.hook_failed(stream.exchange, stream.chain, error)

    def _cancel_upstream(self, stream: PluginStream) -> None:
        if stream.is_forwarded and not (stream.response is not None and stream.response.ended):
            self._send(stream.to_upstream, Cancel(stream.sid, "plugins", True))


async def _unguarded(waits: Awaitable[Any]) -> Any:
    return await waits
