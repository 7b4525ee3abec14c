"""Makes the chains of a configuration generation, of plugins that it starts and stops.

A plugin whose section and code did not change is taken over from the generation
before, with what it remembers; it is stopped when no generation and no request has it.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from pingap.config.model import Code, Snapshot
from pingap.config.problems import Problem, path_of
from pingap.stages.error_page import ErrorPages
from pingap.stages.plugins import user_code
from pingap.stages.plugins.chain import Chain, CompiledPlugins
from pingap.stages.plugins.driving import Driven
from pingap.stages.plugins.guard import USUAL, Bounds, HookGuard
from pingap.stages.plugins.host import StageHost
from pingap.stages.plugins.leaving import LeavingLines
from pingap.stages.plugins.live import Live
from pingap.stages.plugins.making import Made, make
from pingap.stages.plugins.meters import Meters
from pingap.stages.plugins.registry import section_of, used
from pingap.stages.plugins.validation import PluginRefused
from pingap.stages.steps import Steps

START: Final = 4.0
"""Most seconds that a `start` may await: config gives up a generation after 5."""

STOP: Final = 1.5
"""The same for a `stop`: a process that ends gives each of its actors 2."""

_OURS: Final = Bounds(USUAL, START)


class PluginCompiler:
    """Makes chains, and remembers which plugins live."""

    def __init__(
        self,
        guard: HookGuard,
        meters: Meters,
        host: Callable[[str, Made], StageHost],
        log: Callable[..., None],
        late: Callable[[str, BaseException], None],
    ) -> None:
        """host: what the plugin of a name gets to know of the stage. late: told what goes wrong in hooks whose requests have ended."""
        self._guard = guard
        self._meters = meters
        self._host = host
        self._log = log
        self._late = late
        self._live: weakref.WeakValueDictionary[tuple[str, str, str], Live] = weakref.WeakValueDictionary()
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> int:
        """Plugins that are started and not stopped."""
        return len(self._live)

    def compile(self, snapshot: Snapshot, plans: dict[str, int]) -> Steps[CompiledPlugins | Awaitable[CompiledPlugins]]:
        """Starts what is new; to be awaited if some of that awaits. Raises PluginRefused with the reason.

        One generation at a time: a plugin that is being started would be started twice.
        """
        filtered = {}
        for name, location in snapshot.locations.items():
            yield 1
            if location.plugins:
                filtered[name] = location
        return self._compile(replace(snapshot, locations=filtered))

    def _compile(self, snapshot: Snapshot) -> CompiledPlugins | Awaitable[CompiledPlugins]:
        lives: dict[str, Live] = {}
        waits: dict[str, _Start] = {}
        try:
            for name in used(snapshot):
                start = self._take(name, section_of(snapshot, name), snapshot.code.get(name))
                if isinstance(start, Live):
                    lives[name] = start
                else:
                    waits[name] = start
        except BaseException:
            for begun in waits.values():
                begun.waits.close()
            raise
        return self._started(snapshot, lives, waits) if waits else _compiled(snapshot, lives)

    async def _started(self, snapshot: Snapshot, lives: dict[str, Live], waits: dict[str, _Start]) -> CompiledPlugins:
        outcomes = await asyncio.gather(*(start.waits for start in waits.values()), return_exceptions=True)
        refused: BaseException | None = None
        for (name, start), outcome in zip(waits.items(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                start.host.close()
                refused = refused or outcome
            else:
                lives[name] = self._begin(name, start)
        if refused is not None:
            raise refused
        return _compiled(snapshot, lives)

    def _take(self, name: str, section: dict[str, Any], code: Code | None) -> Live | _Start:
        made = make(name, section, self._guard, code)
        key = (name, json.dumps(section, sort_keys=True), made.fingerprint)
        live = self._live.get(key)
        if live is not None:
            return live
        host = self._host(name, made)
        start = _Start(key, made, host)
        try:
            with _told(name, made):
                waits = self._guard.run((made.bounds or _OURS).hold, made.plugin.start, host)
        except PluginRefused:
            host.close()
            raise
        if isinstance(waits, Awaitable):
            start.waits = self._awaited(name, made, waits)
            return start
        return self._begin(name, start)

    async def _awaited(self, name: str, made: Made, waits: Awaitable[None]) -> None:
        bounds = Bounds((made.bounds or _OURS).hold, START)
        with _told(name, made):
            await Driven(self._guard, bounds, waits, lambda error: self._late(name, error)).result()

    def _begin(self, name: str, start: _Start) -> Live:
        live = self._live[start.key] = Live(name, start.made, self._guard, self._meters.of(name), self._late)
        live.end = weakref.finalize(live, self._stop, name, start.made, start.host)
        live.end.atexit = False
        return live

    # -- the end of a plugin ------------------------------------------------------------

    def _stop(self, name: str, made: Made, host: StageHost) -> None:
        try:
            waits = self._guard.run((made.bounds or _OURS).hold, made.plugin.stop)
            if isinstance(waits, Awaitable):
                task = asyncio.get_running_loop().create_task(self._stop_later(name, made, host, waits))
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)
                return
        except Exception as error:
            self._log("error", "a plugin failed to stop", plugin=name, error=repr(error))
        host.close()

    async def _stop_later(self, name: str, made: Made, host: StageHost, waits: Awaitable[None]) -> None:
        try:
            await Driven(self._guard, Bounds((made.bounds or _OURS).hold, STOP), waits).result()
        except Exception as error:
            self._log("error", "a plugin failed to stop", plugin=name, error=repr(error))
        finally:
            host.close()

    async def close(self) -> None:
        """Stops all that live: the process ends."""
        for live in list(self._live.values()):
            live.end()
        while self._stopping:
            await asyncio.wait(self._stopping)


class _Start:
    """A plugin that is being started."""

    __slots__ = ("host", "key", "made", "waits")

    def __init__(self, key: tuple[str, str, str], made: Made, host: StageHost) -> None:
        self.key = key
        self.made = made
        self.host = host
        self.waits: Any = None
        """The rest of its `start`, a coroutine; None when there is none."""


@contextmanager
def _told(name: str, made: Made) -> Iterator[None]:
    """Says whose `start` failed, and where."""
    try:
        yield
    except Exception as error:
        place = user_code.where(error, made.files)
        text = f"{place + ': ' if place else ''}it cannot start: {type(error).__name__}: {error}"
        raise PluginRefused([Problem(path_of("plugins", name), text)]) from error


def _compiled(snapshot: Snapshot, lives: dict[str, Live]) -> CompiledPlugins:
    pages = ErrorPages(snapshot.basic.error_template)
    # Thousands of locations have the same few plugins.
    shared = {
        plugins: Chain([lives[plugin] for plugin in plugins], pages) for plugins in {one.plugins for one in snapshot.locations.values()}
    }
    chains = {name: shared[location.plugins] for name, location in snapshot.locations.items() if location.plugins}
    return CompiledPlugins(chains, pages, frozenset(snapshot.upstreams), frozenset(lives), LeavingLines(snapshot))
