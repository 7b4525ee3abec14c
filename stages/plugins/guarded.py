"""A user's plugin with a guard around all of it that is called: hooks, whole-body hooks, transformers.

Each call has its bounds, what goes wrong in it carries the plugin's name, and what comes out of it
is of the type that it has to be.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Final, TypeVar

from pingap.stages.header_view import Headers, RequestHeaders
from pingap.stages.plugins.driving import Driven
from pingap.stages.plugins.exchange import CONTINUE, SKIP, Exchange, Hook, HookError, Reply, ResponseHead, Transformer, body_bytes
from pingap.stages.plugins.guard import Bounds, HookFailed, HookGuard
from pingap.stages.plugins.pieces import Pieces

T = TypeVar("T")

_END: Final = object()

WANTED: Final = "reads_request_body = True"


class Guarded:
    """The guard around one plugin."""

    def __init__(
        self, guard: HookGuard, name: str, bounds: Bounds, late: Callable[[str, BaseException], None], reads_request_body: bool
    ) -> None:
        """late: told what goes wrong in hooks whose requests have ended, with the plugin's name."""
        self.guard = guard
        self.name = name
        self.bounds = bounds
        self._late = late
        self._reads_request_body = reads_request_body

    def run(self, call: Callable[..., T], *args: Any) -> T:
        """A call that does not await."""
        return self.guard.run(self.bounds.hold, call, *args)

    async def wait(self, waits: Awaitable[T]) -> T:
        """What a call has returned for us to await."""
        return await Driven(self.guard, self.bounds, waits, lambda error: self._late(self.name, error)).result()

    # -- hooks ----------------------------------------------------------------------

    def hook(self, hook: Hook) -> Hook:
        """The same hook, also for what it awaits and for the bodies that it asks for."""
        return GuardedHook(self, hook).call

    async def later(self, exchange: Exchange, waits: Awaitable[Any], answer: ResponseHead | None) -> Any:
        """The result of a hook that awaits. answer: `exchange.response` as the hook found it."""
        try:
            result = await self.wait(waits)
            _check_exchange(exchange, answer)
            return self.sound(result) if isinstance(result, Reply) else result
        finally:
            exchange._wrap = None

    def sound(self, reply: Reply) -> Reply:
        """One that was made by hand may be anything."""
        if type(reply.status) is int and type(reply.headers) is bytes:
            if type(reply.body) is bytes:
                return reply
            if isinstance(reply.body, AsyncIterable):
                pieces: Any = Pieces(self.name, reply.body, self.wait, self._late)
                return reply._replace(body=pieces)
        raise TypeError("a reply is made with reply(status, body, headers)")

    # -- bodies -----------------------------------------------------------------------

    def stage(self, exchange: Exchange, stage: Any, is_request: bool) -> Any:
        """What a hook wants done with a body, guarded."""
        if is_request and not self._reads_request_body:
            raise RuntimeError(f"a plugin that wants request bodies has to say so in its class: {WANTED}")
        if isinstance(stage, Transformer):
            return GuardedTransformer(self, exchange, stage)
        collect, limit, bypass = stage
        return (self._collector(collect), limit, bypass)

    def _collector(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return GuardedCollect(self, call).call

    async def collected_later(self, exchange: Exchange, waits: Awaitable[Any], answer: ResponseHead | None) -> Any:
        """The result of a hook for a whole body that awaits."""
        try:
            return self.collected(exchange, await self.wait(waits), answer)
        except Exception as error:
            raise HookError(self.name, error) from error

    def collected(self, exchange: Exchange, result: Any, answer: ResponseHead | None) -> bytes | Reply | None:
        """The result of a hook for a whole body. answer: `exchange.response` as the hook found it."""
        _check_exchange(exchange, answer)
        if result is None:
            return None
        if isinstance(result, Reply):
            return self.sound(result)
        return body_bytes(result, "a hook for a whole body returns bytes, a reply or None")


class GuardedHook:
    """The guard around one hook. Here each request comes by: whatever can be known once is."""

    __slots__ = ("_guard", "_guarded", "_hold", "_hook", "_wrap")

    def __init__(self, guarded: Guarded, hook: Hook) -> None:
        self._guarded = guarded
        self._guard: HookGuard = guarded.guard
        self._hold: float = guarded.bounds.hold
        self._hook: Hook = hook
        self._wrap: Callable[[Exchange, Any, bool], Any] = guarded.stage

    def call(self, exchange: Exchange) -> Any:
        """The result of the hook, of whatever type: that is looked at where hooks are run."""
        exchange._wrap = self._wrap
        answer = exchange.response
        try:
            result = self._guard.run(self._hold, self._hook, exchange)
        except BaseException:
            exchange._wrap = None
            raise
        if result is CONTINUE or result is None or result is SKIP:  # as most are: to ask for what can be awaited costs more
            exchange._wrap = None
            if (
                exchange._context is not None
                or type(exchange.headers) is not RequestHeaders
                or exchange.response is not answer
                or (answer is not None and type(answer.headers) is not Headers)
            ):  # what it looks at once more, but a call less for most
                _check_exchange(exchange, answer)
            return result
        if isinstance(result, Awaitable):
            return self._guarded.later(exchange, result, answer)
        exchange._wrap = None
        _check_exchange(exchange, answer)
        return self._guarded.sound(result) if isinstance(result, Reply) else result


class GuardedCollect:
    """The guard around one hook for a whole body."""

    __slots__ = ("_call", "_guarded")

    def __init__(self, guarded: Guarded, call: Callable[..., Any]) -> None:
        self._guarded = guarded
        self._call = call

    def call(self, exchange: Exchange, body: bytes) -> Any:
        guarded, answer = self._guarded, exchange.response
        try:
            result = guarded.run(self._call, exchange, body)
            if isinstance(result, Awaitable):
                return guarded.collected_later(exchange, result, answer)
            return guarded.collected(exchange, result, answer)
        except Exception as error:
            raise HookError(guarded.name, error) from error


def _check_exchange(exchange: Exchange, answer: ResponseHead | None) -> None:
    """What hooks may have done to it that no later stage could explain. answer: `exchange.response` before the hook."""
    if type(exchange.headers) is not RequestHeaders:
        raise TypeError(f"exchange.headers is changed by setting its lines, not replaced by {type(exchange.headers).__name__}")
    if exchange.response is not answer:
        raise TypeError("exchange.response is changed by setting its status and its headers, not replaced")
    if answer is not None and type(answer.headers) is not Headers:
        raise TypeError(f"the headers of an answer are changed by setting lines, not replaced by {type(answer.headers).__name__}")
    _check_context(exchange)


def _check_context(exchange: Exchange) -> None:
    """Here it is still known whose code has put into a list or table of the context what cannot travel."""
    context = exchange._context
    if context is not None:
        context.check()


class GuardedTransformer(Transformer):
    """A user's transformer, each call of which has the bounds of its plugin."""

    def __init__(self, guarded: Guarded, exchange: Exchange, inner: Transformer) -> None:
        self._guarded = guarded
        self._exchange = exchange
        self._inner = inner
        self._has_given = False
        """The last piece that was awaited had something in it."""

    def feed(self, data: bytes, ended: bool) -> Any:
        guarded = self._guarded
        try:
            result: Any = guarded.run(self._inner.feed, data, ended)
            _check_context(self._exchange)
            if type(result) is bytes:
                return result
            return self._later(result) if isinstance(result, Awaitable) else self._settled(result)
        except Exception as error:
            raise HookError(guarded.name, error) from error

    def flush(self) -> bytes:
        guarded = self._guarded
        try:
            flush: Callable[[], Any] = self._inner.flush  # whatever it returns: it is a user's
            data = guarded.run(flush)
            _check_context(self._exchange)
            return body_bytes(data, "flush returns bytes")
        except Exception as error:
            raise HookError(guarded.name, error) from error

    async def _later(self, waits: Awaitable[Any]) -> Any:
        guarded = self._guarded
        try:
            result = await guarded.wait(waits)
            _check_context(self._exchange)
            return self._settled(result)
        except Exception as error:
            raise HookError(guarded.name, error) from error

    def _settled(self, result: Any) -> bytes | Iterator[Any]:
        if isinstance(result, Iterable) and not isinstance(result, str | bytes | bytearray | memoryview):
            return self._pieces(self._guarded.run(iter, result))
        return body_bytes(result, "feed returns bytes, or a generator of bytes")

    def _pieces(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Pieces, and what has to be awaited for one.

        A generator may go on for ever, since it is asked only as the receiver takes what it gives. Its time is
        that between two pieces with something in them.
        """
        guarded, guard = self._guarded, self._guarded.guard
        began = monotonic()
        held = 0.0
        while True:
            if guard.is_busy:
                yield guard.pause()
                continue
            before = guard.held
            try:
                piece = guarded.run(next, iterator, _END)
                _check_context(self._exchange)
                if piece is _END:
                    return
                is_later = isinstance(piece, Awaitable)
                if not is_later:
                    piece = body_bytes(piece, "a generator of feed gives bytes")
            except Exception as error:
                raise HookError(guarded.name, error) from error
            held += guard.held - before
            if is_later:
                yield self._piece_later(piece)
            elif piece:
                yield piece
            if self._has_given if is_later else piece:
                began, held = monotonic(), 0.0
                continue
            bounds = guarded.bounds
            if held > bounds.hold or monotonic() - began > bounds.whole:
                limit = bounds.hold if held > bounds.hold else bounds.whole
                late = HookFailed(f"it took longer than {limit:g} s for a piece with something in it, and was stopped")
                raise HookError(guarded.name, late)

    async def _piece_later(self, waits: Awaitable[Any]) -> bytes:
        guarded = self._guarded
        try:
            piece = body_bytes(await guarded.wait(waits), "a generator of feed gives bytes")
            _check_context(self._exchange)
            self._has_given = bool(piece)
            return piece
        except Exception as error:
            raise HookError(guarded.name, error) from error
