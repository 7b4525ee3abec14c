"""What is wrong with a section of a plugin, and what the plugins of a location ask of its itinerary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from typing import Any, Final

from pingap.config.model import Code, Snapshot
from pingap.config.problems import Note, Problem, nearest, path_of
from pingap.stages.caching.neighbours import Neighbours
from pingap.stages.itinerary import REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.plugins import lenient, trial, user_code
from pingap.stages.plugins.api import Plugin
from pingap.stages.plugins.builtin.cache import Cache
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.making import class_of, code_of, make, package_of
from pingap.stages.plugins.registry import CATEGORIES, section_of, used
from pingap.stages.plugins.trial import Tried
from pingap.stages.plugins.validation import PluginRefused

load_guard: Final = HookGuard()
"""Deadline for what a user's plugin does in a trial; the stage brings its own."""


class Checker:
    """Tells everything that is wrong with [plugins.NAME], and keeps the code that it found good. Runs none of it: trial.py does."""

    def __init__(self, base: str = "", *, runs_code: bool = True) -> None:
        """base: the directory that relative paths start at; "" is the current one. runs_code: else plugins of users are not looked at."""
        self._base = base
        self._runs_code = runs_code
        self.code: dict[str, Code] = {}
        """By plugin, of those that users wrote: for `Snapshot.code`."""
        self._caches = Neighbours()

    def __call__(self, name: str, section: dict[str, Any], upstreams: Set[str] | None = None) -> list[Problem | Note]:
        """Paths of files in `section` are made absolute, so that all who read the snapshot know the same file.

        upstreams: the names of those that are configured; None when that is not known.
        """
        try:
            category = section.get("category")
            package = package_of(name, category)
            if category != user_code.CATEGORY and package is None:
                return self._check_ours(name, section, upstreams)
            if not self._runs_code:
                return []  # to find a module may run code, too
            code = code_of(name, section, self._base) if package is None else package.code
        except PluginRefused as refused:
            return [*refused.problems]
        absolute = section | {"path": code.path} if "path" in section and package is None else section
        tried = trial.try_out(JUDGE, name, absolute, code)
        problems = tried.problems or unknown_upstreams(name, tried.upstreams, upstreams)
        if not problems:
            section.update(absolute)
            if package is None:
                self.code[name] = code
        return [*problems, *tried.notes]

    def _check_ours(self, name: str, section: dict[str, Any], upstreams: Set[str] | None) -> list[Problem | Note]:
        """A plugin that comes with pingap, or a category that nobody knows."""
        notes: list[Note] = []
        path, category = path_of("plugins", name), section.get("category")
        kind = CATEGORIES.get(category) if isinstance(category, str) else None
        if isinstance(category, str) and kind is not None:
            if category in lenient.GUARDLESS:
                notes += lenient.renamed(path, category, section)
                notes += lenient.meant(path, kind.model, section)
            for key in kind.files:
                file = section.get(key)
                if isinstance(file, str) and _is_relative(file):
                    section[key] = os.path.normpath(os.path.join(os.path.abspath(self._base), file))
        try:
            made = make(name, section, load_guard)
        except PluginRefused as refused:
            return [*refused.problems, *notes]
        problems = [*unknown_upstreams(name, made.upstreams, upstreams), *_unusable_files(name, made.plugin)]
        if isinstance(made.plugin, Cache):
            notes += [Note(f"{path}.{key}", *rest) for key, *rest in self._caches.meet(path, made.plugin.rules())]
        return [*problems, *notes, *made.notes]


def _is_relative(file: str) -> bool:
    """Or absolute, which stays so. `~` is not: whose home that is, every process knows; nor what is no path, as `memory://`."""
    return bool(file) and not file.startswith(("~", "?")) and "://" not in file


def unknown_upstreams(name: str, named: Iterable[tuple[str, str]], upstreams: Set[str] | None) -> list[Problem]:
    """Those that are not among `upstreams`. named: (key, upstream) as the settings of the plugin `name` have them."""
    return [
        Problem(
            f"{path_of('plugins', name)}.{key}",
            f"upstream {upstream!r} does not exist",
            nearest(upstream, upstreams) or f"add [{path_of('upstreams', upstream)}]",
        )
        for key, upstream in named
        if upstreams is not None and upstream not in upstreams
    ]


JUDGE: Final = "pingap.stages.plugins.checking:judge"


def judge(name: str, section: dict[str, Any], code: Code) -> Tried:
    """What there is to say of a plugin of that code, found by running it in this process: for the child of a trial."""
    load_guard.install(None)
    try:
        made = make(name, section, load_guard, code)
    except PluginRefused as refused:
        return Tried(list(refused.problems), 0)
    finally:
        load_guard.uninstall()
    if problems := _unusable_files(name, made.plugin):
        return Tried(problems, 0)
    return Tried([], made.plan, made.notes, made.upstreams)


JUDGE_PACKAGE: Final = "pingap.stages.plugins.checking:judge_package"


def judge_package(name: str, section: dict[str, Any], code: Code) -> Tried:
    """As `judge`, of no more than the class of the plugin of an installed package: for lists."""
    load_guard.install(None)
    try:
        class_of(str(section["category"]), load_guard)
    except user_code.BrokenCode as error:
        return Tried([Problem(path_of("plugins", name, "category"), str(error))], 0)
    finally:
        load_guard.uninstall()
    return Tried([], 0)


def _unusable_files(name: str, plugin: Plugin[Any]) -> list[Problem]:
    return [Problem(f"{path_of('plugins', name)}.{key}", *rest) for key, *rest in plugin.check_files()]


def check(name: str, section: dict[str, Any], base: str = "") -> list[Problem]:
    """Everything that is wrong with [plugins.NAME]; as Checker."""
    return [one for one in Checker(base)(name, section) if isinstance(one, Problem)]


def plans(snapshot: Snapshot, trusts: bool = False) -> dict[str, int]:
    """Itinerary flags (stages/itinerary.py) of each location. Raises PluginRefused.

    trusts: the code of users may run in this process.
    """
    found = {name: _plan(name, section_of(snapshot, name), snapshot.code.get(name), trusts) for name in used(snapshot)}
    return {
        name: plan_of([found[plugin] for plugin in location.plugins], bool(location.upstream))
        for name, location in snapshot.locations.items()
    }


def _plan(name: str, section: dict[str, Any], code: Code | None, trusts: bool) -> int:
    package = package_of(name, section.get("category"))
    if trusts or (section.get("category") != user_code.CATEGORY and package is None):
        return make(name, section, load_guard, code).plan
    tried = trial.try_out(JUDGE, name, section, package.code if package else code or code_of(name, section, ""))
    if tried.problems:
        raise PluginRefused(tried.problems)
    return tried.plan


def plan_of(wanted: Iterable[int], has_upstream: bool) -> int:
    """Flags of a location from those of its plugins. Without an upstream it is here that a request is answered."""
    plan = coders = 0
    for flags in wanted:
        plan |= flags
        coders += flags & RESPONSE_CODING
    if not has_upstream:
        return plan & ~RESPONSE_CODING | REQUEST_PLUGINS if plan else 0
    if coders and (plan & RESPONSE_PLUGINS or coders > RESPONSE_CODING):
        plan = plan & ~RESPONSE_CODING | REQUEST_PLUGINS | RESPONSE_PLUGINS  # they take turns, and that is for plugins to see to
    return plan
