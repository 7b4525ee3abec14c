"""The body of a reply that a plugin makes piece by piece: `reply(200, generator())`.

It stands where transformers stand, in front of all others: asked for a piece when there is room for it, so that
a client that reads slowly slows it down. A generator that is begun is ended in any case: by its own end, by what its
wait is broken off with when the client leaves, or by `aclose` when it was waiting to be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

from pingap.stages.messages import UNKNOWN
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.passing_part import PassingPart
from pingap.stages.plugins.core import FLUSH
from pingap.stages.plugins.exchange import HookError, Transformer, body_bytes
from pingap.stages.plugins.file_body import WORTH, FileBody, SizedBody

Wait = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Awaits something of a plugin, within its bounds."""

_closing: Final[set[asyncio.Task[None]]] = set()
"""The loop holds its tasks weakly."""


class OwnedBody(NamedTuple):
    """The body of a reply of a plugin of ours, around which there is no guard that knows whose it is."""

    plugin: str
    body: AsyncIterable[bytes]


class Pieces(Transformer):
    """See above."""

    def __init__(self, name: str, body: AsyncIterable[bytes], wait: Wait, late: Callable[[str, BaseException], None]) -> None:
        """name: of the plugin. late: told what goes wrong when nobody waits for the body any more."""
        self.length = body.length if isinstance(body, SizedBody) else UNKNOWN
        """Bytes of all pieces, where that is known beforehand."""
        self.file = body.ref if isinstance(body, FileBody) and self.length >= WORTH else None
        """What they come from, where it is worth while to name it instead."""
        self._name = name
        self._body: AsyncIterable[bytes] | None = body
        self._wait = wait
        self._late = late
        self._rest = FLUSH if self.length == UNKNOWN or isinstance(body, GrowingBody | PassingPart) else b""
        """After a piece of which nobody knows when the next will come, so that it is not kept back."""
        self._iterator: AsyncIterator[bytes] | None = None
        self._is_asked = False
        """A piece is being waited for."""
        self._is_over = False

    def feed(self, data: bytes, ended: bool) -> bytes | Iterator[Any]:
        return self._pieces() if ended else b""

    def _pieces(self) -> Iterator[Any]:
        while not self._is_over:
            yield self._next()
            # The last piece is kept in hand until the next comes: this is that, so none waits for a later one.
            yield self._rest

    async def _next(self) -> bytes:
        try:
            if self._iterator is None:
                assert self._body is not None
                self._iterator = aiter(self._body)
            self._is_asked = True
            piece = await self._wait(_one(self._iterator))
            if piece is None:
                self._is_over = True
                return b""
            return body_bytes(piece, "the pieces of a reply are bytes")
        except Exception as error:
            self._is_over = True
            raise HookError(self._name, error) from error
        except asyncio.CancelledError:
            self._is_over = True  # the client has left, and the generator hears of it where it waits
            raise
        finally:
            self._is_asked = False
            if self._is_over:
                self._let_go()

    def close(self) -> None:
        """Nobody wants the rest."""
        if self._is_over or self._is_asked:
            return
        self._is_over = True
        end = getattr(self._body if self._iterator is None else self._iterator, "aclose", None)
        self._let_go()
        if end is not None:
            task = asyncio.get_running_loop().create_task(self._close(end))
            _closing.add(task)
            task.add_done_callback(_closing.discard)

    def _let_go(self) -> None:
        """A stream and its body know each other: a file would stay open until both are collected."""
        self._body = self._iterator = None

    async def _close(self, end: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._wait(end())
        except Exception as error:
            self._late(self._name, error)


async def _one(iterator: AsyncIterator[bytes]) -> Any:
    """None at the end: what comes of a task must not be StopAsyncIteration."""
    return await anext(iterator, None)
