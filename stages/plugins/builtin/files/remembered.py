"""Files that were asked for lately, kept open: within bounds of number, bytes, descriptors and time, the oldest goes first.

Each plugin has its own, and all of a process together have a budget, beyond which whoever keeps most gives up something. Nothing is
kept for long that nobody asks for: the space of a file that was deleted is free only when it is closed.
"""

from __future__ import annotations

import resource
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Final

from pingap.stages.plugins.builtin.files.finder import Route
from pingap.stages.plugins.builtin.files.served_file import ServedFile

MOST_ROUTES: Final = 4096
"""Paths, or paths and codings, that lead to a file. Many may lead to the same."""
MOST_FILES: Final = 512
MOST_BYTES: Final = 32 * 1024 * 1024
MOST_FILES_OF_ALL: Final = 2048
"""Or a quarter of the descriptors that the process may have."""
MOST_BYTES_OF_ALL: Final = 128 * 1024 * 1024
UNUSED: Final = 30.0
"""Seconds: what nobody has asked for in one to two of these is given up."""
LONGEST_KEY: Final = 1024
"""Bytes of a path that is remembered."""


class Budget:
    """What all of a process may keep."""

    def __init__(self, most_files: int, most_bytes: int) -> None:
        self.most_files = most_files
        self.most_bytes = most_bytes
        self.files = self.bytes = 0
        self.members: weakref.WeakSet[Remembered] = weakref.WeakSet()

    def keep_to(self) -> None:
        """Makes those who keep most give up something, until there is no more than may be."""
        while self.files > self.most_files or self.bytes > self.most_bytes:
            max(self.members, key=lambda one: one.figures()[2 if self.bytes > self.most_bytes else 1]).give_up()

    def give_all_up(self) -> bool:
        """Descriptors are wanted for something else. Whether there was anything."""
        had = self.files > 0
        for one in list(self.members):
            one.clear()
        return had


@cache
def budget_of_all() -> Budget:
    """Of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES_OF_ALL if soft == resource.RLIM_INFINITY else max(1, min(MOST_FILES_OF_ALL, soft // 4))
    return Budget(most, MOST_BYTES_OF_ALL)


class _SharedFile:
    __slots__ = ("file", "uses")

    def __init__(self, file: ServedFile) -> None:
        self.file = file
        self.uses = 0
        """Routes that lead here."""


class Remembered:
    def __init__(
        self,
        budget: Budget,
        most_files: int,
        call_later: Callable[[float, Callable[[], None]], Any],
        most_bytes: int = MOST_BYTES,
        most_routes: int = MOST_ROUTES,
    ) -> None:
        """call_later: as a loop has it; there is a timer only while there is something to forget."""
        self._budget = budget
        self._call_later = call_later
        self._timer: Any = None
        budget.members.add(self)
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._most_routes = most_routes
        self._routes: OrderedDict[Hashable, Route] = OrderedDict()
        """The longest unused first, as in the next one."""
        self._aging: OrderedDict[Hashable, Route] = OrderedDict()
        """Those that nobody has asked for since the timer was last up."""
        self._files: dict[bytes, _SharedFile] = {}
        """By the path that each was opened by."""
        self._bytes = 0

    def get(self, key: Hashable) -> Route | None:
        route = self._routes.get(key)
        if route is not None:
            self._routes.move_to_end(key)
        elif self._aging and (route := self._aging.pop(key, None)) is not None:
            self._routes[key] = route
        return route

    def put(self, key: Hashable, route: Route) -> None:
        """Instead of what was there. A file that another route leads to already, unchanged, is kept once."""
        self.forget(key)
        path = route.checks[-1][0]
        kept = self._files.get(path)
        if kept is None or kept.file.identity != route.file.identity or kept.file.lines != route.file.lines:
            if kept is not None:
                for other in [
                    other for routes in (self._aging, self._routes) for other, known in routes.items() if known.file is kept.file
                ]:
                    self._drop(other)
            kept = self._files[path] = _SharedFile(route.file)
            self._count(1, len(route.file.content or b""))
        kept.uses += 1
        self._routes[key] = Route(route.checks, kept.file, route.is_settled, route.is_local)
        while (
            len(self._routes) + len(self._aging) > self._most_routes
            or len(self._files) > self._most_files
            or self._bytes > self._most_bytes
        ):
            self.give_up()
        self._budget.keep_to()
        if self._timer is None and self._routes:
            self._timer = self._call_later(UNUSED, self._age)

    def give_up(self) -> None:
        """Of the route that nobody has asked for the longest, and the file if no other leads to it."""
        self._drop(next(iter(self._aging or self._routes)))

    def forget(self, key: Hashable) -> None:
        if key in self._routes or key in self._aging:
            self._drop(key)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._count(-len(self._files), -self._bytes)
        self._routes.clear()
        self._aging.clear()
        self._files.clear()

    def figures(self) -> tuple[int, int, int]:
        """Routes, files, bytes."""
        return len(self._routes) + len(self._aging), len(self._files), self._bytes

    def _age(self) -> None:
        """The timer is up."""
        for key in list(self._aging):
            self._drop(key)
        self._aging, self._routes = self._routes, self._aging
        self._timer = self._call_later(UNUSED, self._age) if self._aging else None

    def _drop(self, key: Hashable) -> None:
        route = self._routes.pop(key, None) or self._aging.pop(key)
        path = route.checks[-1][0]
        kept = self._files[path]
        kept.uses -= 1
        if not kept.uses:
            del self._files[path]
            self._count(-1, -len(kept.file.content or b""))

    def _count(self, files: int, size: int) -> None:
        self._bytes += size
        self._budget.files += files
        self._budget.bytes += size
