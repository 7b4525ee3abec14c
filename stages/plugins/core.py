"""A body on its way through transformers, within credit. Decides what comes out when; moves nothing itself.

`Flow` holds at most what its sender was allowed to send (a window) and the output of
one piece of it: a transformer is asked for more only when the receiver has room, so
that memory stays bounded whatever comes out of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator, Iterable, Sequence
from typing import Any, Final

from pingap.stages.plugins.exchange import Exchange, Reply, Transformer, WholeBody, body_bytes

PIECE: Final = 64 * 1024
"""Most bytes that a transformer gets at once."""


FLUSH: Final = object()
"""In place of a piece: what there is goes out now, for the next may be long in coming."""


class BodyTooLarge(Exception):
    """A hook wants the whole of a body that is larger than its limit."""


class Replied(Exception):
    """A hook that got a whole body answers in its place."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Collector(Transformer):
    """Keeps a body until its end, and gives it to a hook whole."""

    def __init__(self, exchange: Exchange, hook: WholeBody, limit: int, bypass: bool) -> None:
        self._exchange = exchange
        self._hook = hook
        self._limit = limit
        self._bypass = bypass
        self._parts: list[bytes] = []
        self._size = 0
        self.is_bypassed = False
        """The body was too large and goes on untouched."""

    def feed(self, data: bytes, ended: bool) -> bytes | Awaitable[bytes]:
        if self.is_bypassed:
            return data
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            if not self._bypass:
                raise BodyTooLarge
            self.is_bypassed = True
            return self._take()
        if not ended:
            return b""
        body = self._take()
        result = self._hook(self._exchange, body)
        return self._later(result, body) if isinstance(result, Awaitable) else _settled(result, body)

    async def _later(self, result: Awaitable[bytes | Reply | None], body: bytes) -> bytes:
        return _settled(await result, body)

    def _take(self) -> bytes:
        body = b"".join(self._parts)
        self._parts.clear()
        return body


def _settled(result: bytes | Reply | None, body: bytes) -> bytes:
    if result is None:
        return body
    if isinstance(result, Reply):
        raise Replied(result)
    return body_bytes(result, "a hook for a whole body returns bytes, a reply or None")


class Flow:
    """One body. `offer` what comes, `grant` what the receiver takes, `pump` and `take` in turn."""

    __slots__ = (
        "_current",
        "_flushers",
        "_inputs",
        "_is_dirty",
        "_out",
        "_result",
        "_running",
        "_stages",
        "_suspended",
        "credit",
        "is_complete",
        "owed",
        "ready",
    )

    def __init__(self, stages: Sequence[Transformer], credit: int) -> None:
        self._stages = stages
        self._flushers = [i for i, stage in enumerate(stages) if _flushes(stage)]
        self._inputs: deque[tuple[bytes, bool]] = deque()
        self._out: deque[bytes] = deque()
        self._running: Generator[bytes | Awaitable[Any], Any, None] | None = None
        self._current = (0, False)
        self._suspended: tuple[Generator[bytes | Awaitable[Any], Any, None], tuple[int, bool]] | None = None
        self._result: Any = None
        self._is_dirty = False
        self.ready = 0
        """Bytes that may be taken as far as credit goes."""
        self.credit = credit
        """Bytes that the receiver still allows."""
        self.owed = 0
        """Bytes of input that are done with: to be granted to the sender again."""
        self.is_complete = False
        """All of the body is transformed; what is left of it is `ready`."""

    @property
    def is_over(self) -> bool:
        return self.is_complete and not self.ready

    @property
    def is_untouched(self) -> bool:
        """What comes out is what came in: every stage only looked, and let a body pass that was too large."""
        return all(isinstance(stage, Collector) and stage.is_bypassed for stage in self._stages)

    def offer(self, data: bytes, ended: bool) -> None:
        """Bytes from the sender."""
        size = len(data)
        if size <= PIECE:
            self._inputs.append((data, ended))
            return
        for start in range(0, size, PIECE):
            self._inputs.append((data[start : start + PIECE], ended and start + PIECE >= size))

    def grant(self, count: int) -> None:
        """The receiver allows more."""
        self.credit += count

    def extend(self, stages: Sequence[Transformer]) -> None:
        """Puts more transformers at the end: what is ready goes through them, too. Not while something is awaited."""
        first = len(self._stages)
        pieces, self._out, self.ready = list(self._out), deque(), 0
        self._stages = [*self._stages, *stages]
        self._flushers = [i for i, stage in enumerate(self._stages) if _flushes(stage)]
        if not pieces and not self.is_complete:
            return
        if self._running is not None:
            self._suspended = (self._running, self._current)
        self._running, self._current = self._again(first, pieces, self.is_complete), (0, self.is_complete)
        self.is_complete = False

    def _again(self, first: int, pieces: list[bytes], ended: bool) -> Generator[bytes | Awaitable[Any], Any, None]:
        for piece in pieces:
            yield from self._feed(first, piece, False)
        if ended:
            yield from self._feed(first, b"", True)

    def pump(self, room: int) -> Awaitable[Any] | None:
        """Transforms until `room` bytes are ready or the input runs out.

        Returns what a transformer waits for: pump again after `resolve` with its result. Raises what transformers raise.
        """
        while self.ready < room:
            running = self._running
            if running is None:
                running = self._running = self._next()
                if running is None:
                    return None
            try:
                result, self._result = self._result, None
                item = running.send(result)
            except StopIteration:
                size, ended = self._current
                self.owed += size
                self.is_complete = self.is_complete or ended
                self._running = None
                if self._suspended is not None:
                    (self._running, self._current), self._suspended = self._suspended, None
                continue
            if isinstance(item, bytes):
                self._out.append(item)
                self.ready += len(item)
            else:
                return item
        return None

    def resolve(self, result: Any) -> None:
        """The result of what `pump` returned."""
        self._result = result

    def take(self, limit: int) -> bytes:
        """The next bytes to send, within credit and `limit`; b"" when there are none or none may be sent."""
        limit = min(limit, self.credit)
        out = self._out
        if limit <= 0 or not out:
            return b""
        if len(out) == 1 and len(out[0]) <= limit:
            data = out.popleft()
        else:
            parts: list[bytes] = []
            left = limit
            while out and left:
                part = out.popleft()
                if len(part) > left:
                    out.appendleft(part[left:])
                    part = part[:left]
                left -= len(part)
                parts.append(part)
            data = b"".join(parts)
        self.ready -= len(data)
        self.credit -= len(data)
        return data

    def _next(self) -> Generator[bytes | Awaitable[Any], Any, None] | None:
        if self._inputs:
            data, ended = self._inputs.popleft()
            self._current = (len(data), ended)
            self._is_dirty = bool(self._flushers)
            return self._feed(0, data, ended)
        if self._is_dirty and not self.is_complete:
            # The sender pauses: what a transformer keeps back to work better goes out now (an event stream lives by it).
            self._is_dirty = False
            self._current = (0, False)
            return self._flush()
        return None

    def _feed(self, at: int, data: bytes, ended: bool) -> Generator[bytes | Awaitable[Any], Any, None]:
        if at == len(self._stages):
            if data:
                yield data
            if ended and at < len(self._stages):  # `extend` was called meanwhile, and has seen to the data itself
                yield from self._feed(at, b"", True)
            return
        if not data and not ended:
            return
        out: Any = self._stages[at].feed(data, ended)
        if type(out) is not bytes and isinstance(out, Awaitable):
            out = yield out
        if type(out) is bytes:
            yield from self._feed(at + 1, out, ended)
            return
        if isinstance(out, str | bytes | bytearray | memoryview) or not isinstance(out, Iterable):
            yield from self._feed(at + 1, body_bytes(out, "feed returns bytes, or a generator of bytes"), ended)
            return
        # One piece is kept in hand: only the last of them carries the end.
        before: bytes | None = None
        for piece in out:
            if piece is FLUSH:
                if before:
                    yield from self._feed(at + 1, before, False)
                before = b""
                yield from self._flush()
                continue
            if type(piece) is not bytes and isinstance(piece, Awaitable):
                piece = yield piece
            if before is not None:
                yield from self._feed(at + 1, before, False)
            before = body_bytes(piece, "a generator of feed gives bytes")
        yield from self._feed(at + 1, before or b"", ended)

    def _flush(self) -> Generator[bytes | Awaitable[Any], Any, None]:
        for at in self._flushers:
            yield from self._feed(at + 1, body_bytes(self._stages[at].flush(), "flush returns bytes"), False)


def _flushes(stage: Transformer) -> bool:
    return type(stage).flush is not Transformer.flush
