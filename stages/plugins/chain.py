"""The hooks of each location, in order, made once for each configuration generation.

A plugin whose section and code did not change is taken over from the generation
before, with what it remembers; it is stopped when no generation and no request has it.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from config.model import Code, Snapshot
from config.problems import Problem, path_of
from stages.error_page import ErrorPages
from stages.plugins import user_code
from stages.plugins.api import Host, Plugin, Step
from stages.plugins.exchange import Hook
from stages.plugins.guard import USUAL, Guard
from stages.plugins.registry import Made, PluginRefused, make, section_of, used


class Live:
    """A started plugin."""

    __slots__ = ("__weakref__", "hooks", "is_guarded", "is_outermost", "name", "path", "plugin", "reads_request_body")

    def __init__(self, name: str, made: Made, guard: Guard) -> None:
        self.name = name
        self.plugin = made.plugin
        self.path = made.path
        self.is_guarded = made.timeout is not None
        self.is_outermost = made.plugin.is_outermost
        self.reads_request_body = made.plugin.reads_request_body
        self.hooks: dict[Step, Hook] = dict(made.hooks)
        if made.timeout is not None:
            self.hooks = {step: guard.hook(name, hook, made.timeout) for step, hook in self.hooks.items()}


class Hooks:
    """Hooks that run one after the other, and whose they are."""

    __slots__ = ("calls", "owners")

    def __init__(self, lives: Sequence[Live], *steps: Step) -> None:
        pairs = [(live.hooks[step], live) for step in steps for live in lives if step in live.hooks]
        self.calls = tuple(hook for hook, _ in pairs)
        self.owners = tuple(live for _, live in pairs)

    def __add__(self, other: Hooks) -> Hooks:
        both = Hooks(())
        both.calls, both.owners = self.calls + other.calls, self.owners + other.owners
        return both


class Chain:
    """The plugins of one location."""

    __slots__ = ("before", "is_guarded", "outermost", "pages", "proxy", "reads_request_body", "respond")

    def __init__(self, lives: Sequence[Live], pages: ErrorPages) -> None:
        inner = [live for live in lives if not live.is_outermost]
        outer = [live for live in lives if live.is_outermost]
        self.before = Hooks(lives, "early_request", "request")
        self.proxy = Hooks(lives, "proxy_upstream")
        self.outermost = Hooks(outer, "response")
        """Response hooks that see what plugins answer themselves, too."""
        self.respond = Hooks(lives, "upstream_response") + Hooks(inner, "response") + self.outermost
        self.is_guarded = any(live.is_guarded for live in lives)
        self.reads_request_body = any(live.reads_request_body for live in lives)
        self.pages = pages


class Compiled:
    """One configuration generation."""

    __slots__ = ("chains", "pages")

    def __init__(self, chains: dict[str, Chain], pages: ErrorPages) -> None:
        self.chains = chains
        """By location; those without plugins have none."""
        self.pages = pages


class Compiler:
    """Makes chains, and remembers which plugins live."""

    def __init__(self, guard: Guard, host: Callable[[str], Host], log: Callable[..., None], base: str = "") -> None:
        """host: what the plugin of a name gets to know of the stage. base: the directory that paths of plugins start at."""
        self._guard = guard
        self._host = host
        self._log = log
        self._base = base
        self._live: weakref.WeakValueDictionary[tuple[str, str, str], Live] = weakref.WeakValueDictionary()

    @property
    def alive(self) -> int:
        """Plugins that are started and not stopped."""
        return len(self._live)

    def compile(self, snapshot: Snapshot, plans: dict[str, int]) -> Compiled:
        """Starts what is new. Raises PluginRefused with the reason."""
        lives = {name: self._take(name, section_of(snapshot, name), snapshot.code.get(name)) for name in used(snapshot)}
        pages = ErrorPages(snapshot.basic.error_template)
        chains = {
            name: Chain([lives[plugin] for plugin in location.plugins], pages)
            for name, location in snapshot.locations.items()
            if location.plugins
        }
        return Compiled(chains, pages)

    def _take(self, name: str, section: dict[str, Any], code: Code | None) -> Live:
        made = make(name, section, self._base, self._guard, code)
        key = (name, json.dumps(section, sort_keys=True), made.fingerprint)
        live = self._live.get(key)
        if live is None:
            seconds = made.timeout if made.timeout is not None else USUAL
            try:
                self._guard.run(seconds, made.plugin.start, self._host(name))
            except Exception as error:
                place = user_code.where(error, made.path) if made.path else ""
                text = f"{place + ': ' if place else ''}it cannot start: {type(error).__name__}: {error}"
                raise PluginRefused([Problem(path_of("plugins", name), text)]) from error
            live = self._live[key] = Live(name, made, self._guard)
            weakref.finalize(live, self._stop, name, made.plugin, seconds).atexit = False
        return live

    def _stop(self, name: str, plugin: Plugin[Any], seconds: float) -> None:
        try:
            self._guard.run(seconds, plugin.stop)
        except Exception as error:
            self._log("error", "a plugin failed to stop", plugin=name, error=repr(error))
