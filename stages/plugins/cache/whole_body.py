"""Where a fill goes whose body a hook wants whole: into memory, since the hook may change the head, too, by which it is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pingap.stages.plugins.exchange import Exchange, Reply, Transformer

MOST: Final = 64 * 1024 * 1024
"""Bytes of a body that is waited for here; a larger one is not stored."""


class WholeBodyFailed(Exception):
    """The body does not come."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
        """In stages/errors.py."""


class WholeBodySink:
    """Of one fill, as `FillSink`."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """All of it. Raises WholeBodyFailed."""
        self.reply: Reply | None = None
        """What a hook has answered in its place."""
        self._parts: list[bytes] = []

    @property
    def has_end(self) -> bool:
        return True  # `is_small` has said so

    def is_wanted(self) -> bool:
        return not self.whole.done()

    def is_full(self) -> bool:
        return False

    def write(self, data: bytes) -> Awaitable[None] | None:
        self._parts.append(data)
        return None

    def ended(self) -> None:
        if not self.whole.done():
            self.whole.set_result(b"".join(self._parts))

    def failed(self, kind: str) -> None:
        if not self.whole.done():
            self.whole.set_exception(WholeBodyFailed(kind))

    def watched(self, stages: Sequence[Any]) -> list[Any]:
        """What hooks asked for, so that an answer of one of them comes to `reply`."""
        return [stage if isinstance(stage, Transformer) else (self._watched(stage[0]), *stage[1:]) for stage in stages]

    def _watched(self, hook: Callable[[Exchange, bytes], Any]) -> Callable[[Exchange, bytes], Any]:
        def call(exchange: Exchange, body: bytes) -> Any:
            result = hook(exchange, body)
            return self._later(result) if isinstance(result, Awaitable) else self._seen(result)

        return call

    async def _later(self, result: Awaitable[Any]) -> Any:
        return self._seen(await result)

    def _seen(self, result: Any) -> Any:
        if not isinstance(result, Reply):
            return result
        self.reply = result
        return b""


def wants_whole(stages: Sequence[Any] | None) -> bool:
    """Whether a hook waits for the whole body, and may change the head when it has it."""
    return stages is not None and any(not isinstance(stage, Transformer) for stage in stages)


def is_small(stages: Sequence[Any], length: int) -> bool:
    """Whether a body of that length, or UNKNOWN, comes to all of them whole: none lets it pass untouched, or refuses it."""
    limits: list[int] = [stage[1] for stage in stages if not isinstance(stage, Transformer)]
    return 0 <= length <= min(MOST, *limits)
