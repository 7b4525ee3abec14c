"""Requests that wait for the disk: each in a thread, with a deadline, one thread for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from pingap.plugin import Host, Overloaded
from pingap.stages.plugins.builtin.files.finder import Finder, NoDescriptors, Outcome, Route
from pingap.stages.plugins.builtin.files.web_paths import WebPath

MOST_WAITING: Final = 512
"""Searches that wait for a thread, or for the disk. On a disk that hangs they are soon as many, and the next are told at once."""

MOST_WAITING_FOR_KNOWN: Final = 1024
"""Those for files that were there before may be more: a flood of paths that lead nowhere does not keep them out."""


class _Search:
    def __init__(self) -> None:
        self.is_begun = False
        """It has looked at something: what changes now it may not have seen."""
        self.job: asyncio.Future[Outcome] | None = None


class Searches:
    def __init__(self, finder: Finder, host: Host, seconds: float, give_up: Callable[[], bool]) -> None:
        """seconds: that a request waits at most. give_up: closes files that nobody is sent just now; whether there were any."""
        self._give_up = give_up
        self._finder = finder
        self._host = host
        self._seconds = seconds
        self._open: dict[Hashable, _Search] = {}
        """The newest for each key."""
        self._count = 0

    async def outcome(self, key: Hashable, asked: WebPath, has_slash: bool, codings: Sequence[str], known: Route | None) -> Outcome:
        """As Finder.find. key: of all that the outcome depends on. Raises OSError, and Overloaded when it takes too long or is too much."""
        try:
            return await self._outcome(key, asked, has_slash, codings, known)
        except NoDescriptors as none:
            if not self._give_up():
                raise Overloaded(str(none)) from none
        try:
            return await self._outcome(key, asked, has_slash, codings, None)
        except NoDescriptors as none:
            raise Overloaded(str(none)) from none

    async def _outcome(self, key: Hashable, asked: WebPath, has_slash: bool, codings: Sequence[str], known: Route | None) -> Outcome:
        search = self._open.get(key)
        if search is None or search.is_begun or search.job is None:
            search = self._begin(key, asked, has_slash, codings, known)
        assert search.job is not None
        done, _ = await asyncio.wait((search.job,), timeout=self._seconds)
        if not done:
            raise Overloaded(f"the disk did not say within {self._seconds:g} s what there is")
        return search.job.result()

    def _begin(self, key: Hashable, asked: WebPath, has_slash: bool, codings: Sequence[str], known: Route | None) -> _Search:
        if self._count >= (MOST_WAITING if known is None else MOST_WAITING_FOR_KNOWN):
            raise Overloaded(f"{self._count} requests wait for the disk")
        search = _Search()

        def find() -> Outcome:
            search.is_begun = True
            return self._finder.find(asked, has_slash, codings, known)

        def over(job: asyncio.Future[Outcome]) -> None:
            self._count -= 1
            if self._open.get(key) is search:
                del self._open[key]
            if not job.cancelled():
                job.exception()  # whoever wanted to know has left, perhaps

        job = search.job = asyncio.ensure_future(self._host.in_thread(find))
        self._count += 1
        self._open[key] = search
        job.add_done_callback(over)
        return search
