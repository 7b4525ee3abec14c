"""Long work in steps, so that the event loop can have its turns between them: slices.py.

A function in steps is a generator that yields how many items it has done since the
last time, and returns its result.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[int, None, T]


def finished(steps: Steps[T]) -> T:
    """Runs them all now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
