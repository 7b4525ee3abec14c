"""What the operator asks of the caches: `pingap cache stats`, `explain` and `purge` (TELL, bus/PROTOCOL.md section 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from pingap.stages.caching.purging import PurgeAsked, PurgeScope
from pingap.stages.plugins.cache.overview import CacheOverview
from pingap.stages.plugins.cache.probe import ProbeAsked, ProbeRefused
from pingap.stages.plugins.cache.purge import LONGEST, all_of

STATS: Final = "cache-stats"
EXPLAIN: Final = "cache-explain"
PURGE: Final = "cache-purge"
WORDS: Final = (STATS, EXPLAIN, PURGE)


class Asking(Protocol):
    """Asks about one URL (stages/plugins/probes.py)."""

    async def ask(self, asked: ProbeAsked, purge: PurgeAsked | None = None) -> dict[str, Any]: ...


class NotInCaches(Exception):
    """What was asked for cannot be; the text is the reason."""


class CacheQuestions:
    """Those of one actor. Each gets its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[str, Any], None], probes: Asking, caches: CacheOverview) -> None:
        self._loop = loop
        self._report = report
        self._probes = probes
        self._caches = caches
        self._tasks: set[asyncio.Task[None]] = set()

    def told(self, word: str, args: Sequence[Any]) -> None:
        """TELL with any word; those that are none of these are for others."""
        if word not in WORDS:
            return
        number, *rest = args
        task = self._loop.create_task(self._answer(number, self._of(word, rest)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, question: Coroutine[Any, Any, Any]) -> None:
        try:
            value, ok = await question, True
        except (ProbeRefused, NotInCaches, TypeError, ValueError) as error:
            value, ok = str(error), False
        except TimeoutError:
            value, ok = f"the purge is not through after {LONGEST:g} s: it goes on", False
        except Exception as error:
            value, ok = f"the plugins stage failed: {error!r}", False
        self._report("answer", {"asked": number, "ok": ok, "value": value})

    async def _of(self, word: str, args: Sequence[Any]) -> Any:
        if word == STATS:
            return self._caches.stats()
        if word == EXPLAIN:
            return await self._probes.ask(ProbeAsked(*args))
        scope, is_soft, *rest = args
        what = PurgeScope(scope)
        if what in (PurgeScope.URL, PurgeScope.PREFIX):
            return await self._purge_where(PurgeAsked(what, b"", (), bool(is_soft)), ProbeAsked(*rest))
        namespace, tags = rest
        return await self._purge_all(None if namespace is None else str(namespace).encode(), [str(tag).encode() for tag in tags], is_soft)

    async def _purge_where(self, purge: PurgeAsked, asked: ProbeAsked) -> dict[str, Any]:
        found = await self._probes.ask(asked, purge)
        if "purged" not in found:
            where = f"location {found['location']!r}" if found.get("location") else f"server {asked.server!r}"
            raise NotInCaches(f"nothing is purged: {where} takes that URL, and {found['rule']}")
        return _sound(found)

    async def _purge_all(self, namespace: bytes | None, tags: list[bytes], is_soft: bool) -> dict[str, Any]:
        """tags: none for all that there is. namespace: None for all of them."""
        begun: list[Awaitable[int]] = []
        for name, store in self._caches.stores().items():
            if namespace is None and not tags:
                begun.append(store.purge_prefix(b"", is_soft))  # what is left of namespaces that are not configured any more, too
                continue
            for space in self._caches.namespaces(name):
                if namespace is None or space == namespace:
                    begun += [store.purge_tag(space, tag, is_soft) for tag in tags] or [store.purge_all(space, is_soft)]
        if not begun:
            known = sorted({space.decode() for name in self._caches.stores() for space in self._caches.namespaces(name)})
            if not known:
                raise NotInCaches("nothing is purged: no location has a cache")
            raise NotInCaches(f"no cache has that namespace: there {'is' if len(known) == 1 else 'are'} {', '.join(map(repr, known))}")
        async with asyncio.timeout(LONGEST):
            result = await all_of(begun)
        return _sound({"purged": result.done, "failed": result.failed})

    def stop(self) -> None:
        """The process ends."""
        for task in self._tasks:
            task.cancel()


def _sound(found: dict[str, Any]) -> dict[str, Any]:
    """Raises NotInCaches for what was not done, or not all of it."""
    if found["failed"]:
        raise NotInCaches(f"not purged, or not all of it ({found['purged']} so far): a store could not do it, see the log")
    return found
