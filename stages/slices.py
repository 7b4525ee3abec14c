"""Work in steps (steps.py), a slice a loop turn: heartbeats and requests wait for no compiler."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from pingap.stages.steps import Steps

SLICE: Final = 0.002
"""Seconds that a slice takes at most, as long as no single step takes longer."""

LOOK: Final = 64
"""Items between two looks at the clock. So little work is never cut in two."""

MIDDLE: Final = 8
"""Slices after which the garbage collector looks at its middle generation. Left to itself it would look at hundreds of thousands
of new objects at once, and take many slices' time."""


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...


class Slices:
    """Steps that are run a slice a loop turn, the first one now."""

    def __init__(self, steps: Steps[None], loop: Callable[[], Loop]) -> None:
        """loop: asked for only when there is more than one slice. What the steps raise first is raised here, later by the loop."""
        self._steps = steps
        self._loop = loop
        self.is_done = False
        self._turns = 0
        self._run()

    def stop(self) -> None:
        """Does no more of them."""
        self.is_done = True
        self._steps.close()

    def _run(self) -> None:
        if self.is_done:
            return
        until = monotonic() + SLICE
        items = 0
        try:
            while True:
                items += next(self._steps)
                if items >= LOOK:
                    items = 0
                    if monotonic() >= until:
                        self._turns += 1
                        gc.collect(0 if self._turns % MIDDLE else 1)
                        self._loop().call_soon(self._run)
                        return
        except StopIteration:
            self.is_done = True
