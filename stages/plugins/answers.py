"""From RESPONSE to accept: the hooks of the answer and its body; and the answers that are made here."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pingap.stages.error_page import ErrorPages
from pingap.stages.errors import KINDS
from pingap.stages.messages import UNKNOWN, Cancel, Data, Report, Response, accept_of
from pingap.stages.plugins import user_code
from pingap.stages.plugins.bodies import PORTION, Download, report_of, stages_of, trailers_of
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.core import BodyTooLarge, Replied
from pingap.stages.plugins.exchange import Exchange, HookError, Overloaded, Reply, ResponseHead
from pingap.stages.plugins.runner import run, run_on
from pingap.stages.plugins.stream import Stream

if TYPE_CHECKING:
    from pingap.stages.plugins.actor import PluginsActor

_BODILESS: Final = frozenset((204, 304))


class Answers:
    """The response half of the stage."""

    def __init__(self, actor: PluginsActor) -> None:
        self._actor = actor
        self._send: Callable[[int, Any], None] = actor.context.send
        self._me = actor.context.id

    # -- of a backend --------------------------------------------------------------

    def arrived(self, stream: Stream, response: Response) -> None:
        """The head of the answer has come from upstream."""
        stream.response = response
        if response.report is not None and response.report.error:
            self._pass(stream, response, response.status, response.headers, response.length)  # an error page of ours
            return
        exchange, chain = stream.exchange, stream.chain
        exchange.response = ResponseHead(response.status, response.headers, response.length)
        exchange.report = response.report
        try:
            at, result = run(chain.respond, exchange, 0, self._actor.guard if chain.is_guarded else None)
        except HookError as error:
            self.failed(stream, error)
            return
        if result is None:
            self._respond(stream)
        elif isinstance(result, Reply):
            self._replace(stream, result)
        else:
            stream.task = self._actor.spawn(stream, self._arrived_later(stream, at, result), self.failed)

    async def _arrived_later(self, stream: Stream, at: int, waits: Any) -> None:
        chain = stream.chain
        try:
            result = await run_on(chain.respond, stream.exchange, at, waits, self._actor.guard if chain.is_guarded else None)
        except HookError as error:
            self.failed(stream, error)
            return
        if result is None:
            self._respond(stream)
        else:
            self._replace(stream, result)

    def _respond(self, stream: Stream) -> None:
        """All hooks have had the head."""
        exchange, response = stream.exchange, stream.response
        head, stages = exchange.response, exchange._response_stages
        assert response is not None and head is not None
        if exchange.has_response_body and stages is not None:
            download = stream.download = Download(self._actor, stream, stages_of(stream, stages))
            if response.body or response.ended:
                download.offer(response.body, response.ended)
            early, stream.early = stream.early, []
            for data in early:
                self.data(stream, data)
            if self._actor.streams.get(stream.sid) is stream:
                download.begin()
        elif head.status in _BODILESS and response.status not in _BODILESS and exchange.method != "HEAD":
            # A hook turned an answer that has a body into one that must not.
            self._cancel_upstream(stream)
            self._send_head(stream, response, head.status, head.headers.raw, UNKNOWN, b"", True)
            self._actor.drop(stream)
        else:
            self._pass(stream, response, head.status, head.headers.raw, response.length if stages is None else UNKNOWN)

    def _pass(self, stream: Stream, response: Response, status: int, headers: bytes, length: int) -> None:
        """Sends the head on; the body goes through as it is."""
        self._send_head(stream, response, status, headers, length, response.body, response.ended)
        if response.ended:
            self._actor.drop(stream)
            return
        stream.passes = True
        early, stream.early = stream.early, []
        for data in early:
            self.data(stream, data)

    def _send_head(self, stream: Stream, response: Response, status: int, headers: bytes, length: int, body: bytes, ended: bool) -> None:
        stream.responded = True
        report = report_of(stream.exchange, response)
        reason = response.reason if status == response.status else b""
        watchers, spelled = response.watchers, response.spelled
        answer = Response(stream.sid, self._me, status, headers, length, body, ended, report, watchers, reason, spelled)
        self._send(stream.to_accept, answer)

    def data(self, stream: Stream, data: Data) -> None:
        """DATA of an answer."""
        if stream.passes:
            if not (data.ended or data.error):
                self._send(stream.to_accept, data)
                return
            if data.trailers:
                data = replace(data, trailers=trailers_of(stream, data.trailers))
            self._send(stream.to_accept, data)
            self._actor.drop(stream)
        elif stream.download is not None:
            if data.error:
                self._broke(stream, data.error)
            else:
                stream.download.offer(data.payload, data.ended, data.trailers)
        elif stream.response is not None:
            stream.early.append(data)

    def lost(self, stream: Stream) -> None:
        """Upstream died with the rest of the answer."""
        if stream.download is not None and not stream.download.has_input:
            return  # all of it is here
        if stream.responded:
            self._send(stream.to_accept, Data(stream.sid, b"", False, "stage_lost"))
        self._actor.drop(stream)  # before the head it is accept that answers

    def _broke(self, stream: Stream, kind: str) -> None:
        """The backend's body cannot be completed."""
        if stream.responded:
            self._send(stream.to_accept, Data(stream.sid, b"", False, kind))
        else:
            self.error(stream.exchange, stream.chain, kind if kind in KINDS else "bad_gateway", stream.response)
        self._actor.drop(stream)

    # -- of plugins ----------------------------------------------------------------

    def reply(self, exchange: Exchange, chain: Chain, reply: Reply, response: Response | None = None) -> None:
        """A plugin answers itself. response: the backend's, if there was one already."""
        headers, body = reply.headers, reply.body
        length = UNKNOWN if reply.status in _BODILESS else len(body)
        if exchange.routed.method == b"HEAD" or reply.status in _BODILESS:
            body = b""
        made = self._made(exchange, reply.status, headers, length, body, "", response)
        if not chain.outermost.calls and len(body) <= PORTION:
            self._send(accept_of(made.sid), made)
            return
        stream = self._actor.streams[made.sid] = Stream(exchange, chain)
        stream.response = made
        exchange.response = ResponseHead(made.status, headers, length)
        exchange.report = made.report
        exchange._response_stages = None
        try:
            if run(chain.outermost, exchange, 0, None)[1] is not None:
                raise TypeError("an outermost plugin neither replies nor waits when another plugin has replied")
        except Exception as error:
            self.failed(stream, error)
            return
        if exchange._response_stages is None and len(body) > PORTION:
            exchange._response_stages = []
        self._respond(stream)

    def _replace(self, stream: Stream, reply: Reply) -> None:
        """A plugin replies in place of the backend's answer."""
        self._cancel_upstream(stream)
        self._actor.drop(stream)
        self.reply(stream.exchange, stream.chain, reply, stream.response)

    def error(self, exchange: Exchange, chain: Chain | None, kind: str, response: Response | None = None) -> None:
        """An error page."""
        pages: ErrorPages = chain.pages if chain is not None else self._actor.pages
        status, headers, body = pages.page(kind)
        length = len(body)
        if exchange.routed.method == b"HEAD":
            body = b""
        self._send(accept_of(exchange.routed.sid), self._made(exchange, status, headers, length, body, kind, response))

    def _made(
        self, exchange: Exchange, status: int, headers: bytes, length: int, body: bytes, error: str, response: Response | None
    ) -> Response:
        routed = exchange.routed
        report = response.report if response is not None else None
        context = routed.variables if exchange._context is None else exchange._context
        if report is None:
            stamps = (*routed.stamps[:2], exchange._reached, monotonic())
            report = Report(routed.location, routed.upstream, "", 0, False, 0, stamps, (), error, context, routed.client_ip)
        else:
            report = replace(report, error=error, context=context)
        watchers = (*routed.watchers, self._me) if exchange._watches else routed.watchers
        return Response(routed.sid, self._me, status, headers, length, body, True, report, watchers)

    # -- failures --------------------------------------------------------------------

    def failed(self, stream: Stream, error: Exception) -> None:
        """A hook or a transformer of the answer failed, or answers itself."""
        if isinstance(error, Replied) and not stream.responded:
            self._replace(stream, error.reply)
            return
        self._cancel_upstream(stream)
        self._actor.drop(stream)
        if stream.responded:
            self._log(stream.chain, error)
            self._send(stream.to_accept, Data(stream.sid, b"", False, "plugin_failed"))
        elif isinstance(error, BodyTooLarge):
            self.error(stream.exchange, stream.chain, "bad_gateway", stream.response)
        else:
            self._log(stream.chain, error)
            self.error(stream.exchange, stream.chain, _kind(error), stream.response)

    def hook_failed(self, exchange: Exchange, chain: Chain, error: Exception) -> None:
        """A hook of the request failed."""
        if isinstance(error, BodyTooLarge):
            self.error(exchange, chain, "body_too_large")
            return
        self._log(chain, error)
        self.error(exchange, chain, _kind(error))

    def upload_failed(self, stream: Stream, error: Exception) -> None:
        """A transformer of the request body failed when the request was on its way already."""
        if self._actor.streams.get(stream.sid) is not stream:
            return
        self._cancel_upstream(stream)
        self._actor.drop(stream)
        if stream.responded:
            self._log(stream.chain, error)
            self._send(stream.to_accept, Data(stream.sid, b"", False, "plugin_failed"))
        else:
            self.hook_failed(stream.exchange, stream.chain, error)

    def _cancel_upstream(self, stream: Stream) -> None:
        if stream.is_forwarded and not (stream.response is not None and stream.response.ended):
            self._send(stream.to_upstream, Cancel(stream.sid, "plugins"))

    def late(self, name: str, error: BaseException) -> None:
        """A hook failed whose request has ended."""
        self._actor.context.count("plugin_failures", plugin=name)
        self._tell("error", "a plugin failed after its request had ended", name, error, user_code.last_line(error))

    def _log(self, chain: Chain, error: Exception) -> None:
        cause = _cause(error)
        name = error.plugin if isinstance(error, HookError) else ""
        if isinstance(cause, Overloaded):
            self._actor.context.count("plugin_sheds", plugin=name)
            self._tell("warn", "a plugin has too much to do", name, cause)
            return
        self._actor.context.count("plugin_failures", plugin=name)
        owners = (*chain.before.owners, *chain.proxy.owners, *chain.respond.owners)
        path = next((live.path for live in owners if live.name == name), "")
        self._tell("error", "a plugin failed", name, cause, (path and user_code.where(cause, path)) or user_code.last_line(cause))

    def _tell(self, level: str, message: str, name: str, error: BaseException, where: str = "") -> None:
        fields = {"where": where} if where else {}
        self._actor.repeats.log(level, message, f"{message}: {name}", plugin=name, error=f"{type(error).__name__}: {error}", **fields)


def _cause(error: BaseException) -> BaseException:
    """What a plugin's code has raised."""
    while isinstance(error, HookError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _kind(error: Exception) -> str:
    """What the client is told."""
    return "overloaded" if isinstance(_cause(error), Overloaded) else "plugin_failed"
