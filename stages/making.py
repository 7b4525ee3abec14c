"""One configuration generation on its way to what a stage makes of it: its bundles are fetched, unpacked, compiled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from pingap.bus.actor import Context
from pingap.config.model import Snapshot
from pingap.stages.bundles import digests, unpacked
from pingap.stages.slices import Slices
from pingap.stages.steps import Steps

T = TypeVar("T")

Compile = Callable[[Snapshot, dict[str, int]], T | Awaitable[T] | Steps[T | Awaitable[T]]]
"""Of a snapshot and its itinerary flags by location. What comes in steps is taken a slice a loop turn.

Go through the locations once: they are unpacked each time (`bundles.OnTheWay`).
"""


class Making(Generic[T]):
    """What has been done is `blobs`, and `result` or `error`, once `ended` was called; that may be within `start`."""

    def __init__(self, context: Context, number: int, contents: Any, sections: Collection[str], compile: Compile[T]) -> None:
        """contents: as published (stages/bundles.py)."""
        self.number = number
        self.result: T | None = None
        self.error: Exception | None = None
        self.blobs: dict[bytes, bytes] = {}
        self._context = context
        self._contents = contents
        self._sections = sections
        self._compile = compile
        self._ended: Callable[[Making[T]], None] | None = None
        self._give_up: Callable[[], None] | None = None
        self._slices: Slices | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_fetching(self) -> bool:
        """Its bundles are on their way, and come only as long as config offers them."""
        return self._slices is None

    def start(self, known: Mapping[bytes, bytes], ended: Callable[[Making[T]], None]) -> None:
        """known: bundles that need not be fetched."""
        self._ended = ended
        wanted = digests(self._contents, self._sections)
        self.blobs = {digest: blob for digest, blob in known.items() if digest in wanted}
        if missing := wanted - self.blobs.keys():
            give_up = self._context.fetch("config", "config", missing, self._fetched)
            if self.is_fetching:
                self._give_up = give_up
        else:
            self._fetched({})

    def stop(self) -> None:
        """Goes no further."""
        self._ended = None
        if self._give_up is not None:
            self._give_up()
        if self._slices is not None:
            self._slices.stop()
        if self._task is not None:
            self._task.cancel()

    def _fetched(self, blobs: dict[bytes, bytes]) -> None:
        self.blobs |= blobs
        self._give_up = None
        # Nothing here may hold `self` in a circle: what was compiled is to go when no generation has it.
        context = self._context
        self._slices = Slices(self._steps(), lambda: context.loop)

    def _steps(self) -> Steps[None]:
        try:
            snapshot, plans = yield from unpacked(self._contents, self.blobs, self._sections, keeps=False)
            made = self._compile(snapshot, plans)
            if isinstance(made, Generator):
                made = yield from made
        except Exception as error:  # whatever it is, config must hear it, or every stage would wait for this one
            self._end(None, error)
            return
        if isawaitable(made):
            self._task = self._context.loop.create_task(self._await(made))
        else:
            self._end(made, None)

    async def _await(self, made: Awaitable[T]) -> None:
        try:
            result = await made
        except Exception as error:
            self._end(None, error)
        else:
            self._end(result, None)

    def _end(self, result: T | None, error: Exception | None) -> None:
        self.result, self.error = result, error
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self)
