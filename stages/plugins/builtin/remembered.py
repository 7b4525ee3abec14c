"""Files that were asked for lately, kept open: within bounds of number, bytes and descriptors, the oldest goes first."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from pingap.stages.plugins.builtin.finder import Route
from pingap.stages.plugins.builtin.served_file import ServedFile

MOST_ROUTES: Final = 4096
"""Paths, or paths and codings, that lead to a file. Many may lead to the same."""
MOST_FILES: Final = 512
"""Or an eighth of the descriptors that the process may have."""
MOST_BYTES: Final = 32 * 1024 * 1024
LONGEST_KEY: Final = 1024
"""Bytes of a path that is remembered."""


def descriptors() -> int:
    """How many files may be kept open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else max(1, min(MOST_FILES, soft // 8))


class _SharedFile:
    __slots__ = ("file", "uses")

    def __init__(self, file: ServedFile) -> None:
        self.file = file
        self.uses = 0
        """Routes that lead here."""


class Remembered:
    def __init__(self, most_files: int, most_bytes: int = MOST_BYTES, most_routes: int = MOST_ROUTES) -> None:
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._most_routes = most_routes
        self._routes: OrderedDict[Hashable, Route] = OrderedDict()
        self._files: dict[bytes, _SharedFile] = {}
        """By the path that each was opened by."""
        self._bytes = 0

    def get(self, key: Hashable) -> Route | None:
        route = self._routes.get(key)
        if route is not None:
            self._routes.move_to_end(key)
        return route

    def put(self, key: Hashable, route: Route) -> None:
        """Instead of what was there. A file that another route leads to already, unchanged, is kept once."""
        self.forget(key)
        path = route.checks[-1][0]
        kept = self._files.get(path)
        if kept is None or kept.file.identity != route.file.identity or kept.file.lines != route.file.lines:
            if kept is not None:
                for other in [other for other, known in self._routes.items() if known.file is kept.file]:
                    self._drop(other)
            kept = self._files[path] = _SharedFile(route.file)
            self._bytes += len(route.file.content or b"")
        kept.uses += 1
        self._routes[key] = Route(route.checks, kept.file, route.is_settled, route.is_local)
        while len(self._routes) > self._most_routes or len(self._files) > self._most_files or self._bytes > self._most_bytes:
            self._drop(next(iter(self._routes)))

    def forget(self, key: Hashable) -> None:
        if key in self._routes:
            self._drop(key)

    def clear(self) -> None:
        self._routes.clear()
        self._files.clear()
        self._bytes = 0

    def figures(self) -> tuple[int, int, int]:
        """Routes, files, bytes."""
        return len(self._routes), len(self._files), self._bytes

    def _drop(self, key: Hashable) -> None:
        route = self._routes.pop(key)
        path = route.checks[-1][0]
        kept = self._files[path]
        kept.uses -= 1
        if not kept.uses:
            del self._files[path]
            self._bytes -= len(kept.file.content or b"")
