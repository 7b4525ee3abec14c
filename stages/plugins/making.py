"""Makes plugins of their sections: those of pingap, those of users, those of installed packages. Nothing is started here."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pingap.config.model import Code
from pingap.config.problems import Note, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.unsupported import PLUGIN_CATEGORIES
from pingap.stages.itinerary import REQUEST_BODY, REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.plugins import installed, user_code
from pingap.stages.plugins.api import REQUEST_STEPS, STEPS, Plugin, Step
from pingap.stages.plugins.builtin.compression import Compression
from pingap.stages.plugins.exchange import Hook
from pingap.stages.plugins.guard import LONGEST_STEP, Bounds, HookGuard
from pingap.stages.plugins.guarded import WANTED
from pingap.stages.plugins.registry import CATEGORIES, OUR_CATEGORIES
from pingap.stages.plugins.validation import PluginRefused, keys_of, validated, what_is_right

MOST_TIMEOUT: Final = 3600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Made:
    """A plugin that was made and checked, not started."""

    plugin: Plugin[Any]
    hooks: Mapping[Step, Hook]
    bounds: Bounds | None
    """What one call of a hook may take; None for plugins of ours, which keep their own deadlines."""
    threads: int
    fingerprint: str = ""
    """Of the code, where that is not ours."""
    files: Container[str] = ()
    """Of the code, for finding lines in tracebacks; none for plugins of ours."""
    notes: tuple[Note, ...] = ()
    upstreams: tuple[tuple[str, str], ...] = ()
    """(key, name) of those that its settings name."""

    @property
    def plan(self) -> int:
        """Itinerary flags that this plugin asks for."""
        if not self.hooks:
            return 0
        if isinstance(self.plugin, Compression) and self.plugin.rules.is_cheap:
            return RESPONSE_CODING
        # Response hooks want to know the request, so the stage has to see that first.
        plan = REQUEST_PLUGINS
        if not REQUEST_STEPS.issuperset(self.hooks):
            plan |= RESPONSE_PLUGINS
        return plan | REQUEST_BODY if self.plugin.reads_request_body else plan


def class_of(category: str, guard: HookGuard) -> type[Plugin[Any]] | None:
    """Of an installed package's plugin; it is imported. None when there is none. Raises BrokenCode."""
    package = installed.find(category)
    return installed.load(package, guard)[0] if package is not None else None


def _upstreams_of(plugin: Plugin[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(name)) for key, name in plugin.upstreams())


def make(name: str, section: Mapping[str, Any], guard: HookGuard, code: Code | None = None) -> Made:
    """A plugin from its section. code: what a user's plugin is made of; None reads it from disk. Raises PluginRefused."""
    path = path_of("plugins", name)
    category = section.get("category")
    if category == user_code.CATEGORY:
        return _make_python(name, section, guard, code or code_of(name, section, ""))
    kind = CATEGORIES.get(category) if isinstance(category, str) else None
    if kind is None and (package := package_of(name, category)) is not None:
        return _make_installed(name, section, guard, package)
    if kind is None:
        raise PluginRefused([_unknown(f"{path}.category", category)])
    plugin = _build(path, kind, section, section)
    return Made(plugin, plugin.hooks(), None, kind.threads, notes=_notes(path, plugin), upstreams=_upstreams_of(plugin))


def code_of(name: str, section: Mapping[str, Any], base: str) -> Code:
    """The code that a section of a python plugin names, as it is on disk. Raises PluginRefused."""
    host = _host_keys(name, section)
    try:
        return user_code.read(host, base)
    except user_code.BrokenCode as error:
        raise PluginRefused([Problem(_place(name, host), str(error))]) from error


def _host_keys(name: str, section: Mapping[str, Any]) -> user_code.PythonSettings:
    """The keys that every python plugin has. Raises PluginRefused."""
    path = path_of("plugins", name)
    host: user_code.PythonSettings = validated(path, user_code.PythonSettings, section)
    if (host.path is None) == (host.module is None):
        hint = 'path = "my_plugin.py", or module = "package.my_plugin"'
        raise PluginRefused([Problem(path, "a python plugin is named by either path or module", hint)])
    return _bounded(path, host)


def _bounded(path: str, host: user_code.PythonSettings) -> user_code.PythonSettings:
    """Raises PluginRefused for times that nobody may have."""
    problems = []
    if not 0 < host.timeout <= MOST_TIMEOUT:
        problems.append(Problem(f"{path}.timeout", f"must be more than 0 and at most {MOST_TIMEOUT / 3600:g}h"))
    if host.hold_timeout is not None and not 0 < host.hold_timeout <= LONGEST_STEP:
        hint = "a hook holds up all other requests until it awaits; after 3 s of silence the whole process counts as dead"
        problems.append(Problem(f"{path}.hold_timeout", f"must be more than 0 and at most {LONGEST_STEP:g}s", hint))
    if problems:
        raise PluginRefused(problems)
    return host


def _place(name: str, host: user_code.PythonSettings) -> str:
    return path_of("plugins", name, "path" if host.path is not None else "module")


def package_of(name: str, category: Any) -> installed.InstalledPlugin | None:
    """The plugin of an installed package that a category names, if it is none of pingap's. Raises PluginRefused."""
    if not isinstance(category, str) or not category or category in OUR_CATEGORIES:
        return None
    try:
        return installed.find(category)
    except user_code.BrokenCode as error:
        raise PluginRefused([Problem(path_of("plugins", name, "category"), str(error))]) from error


def _make_python(name: str, section: Mapping[str, Any], guard: HookGuard, code: Code) -> Made:
    host = _host_keys(name, section)
    where = _place(name, host)
    try:
        kind, version = user_code.load(host, code, guard)
    except user_code.BrokenCode as error:
        raise PluginRefused([Problem(where, str(error))]) from error
    made = _make_users(_Users(name, where, code.path, code.paths, user_code.HOST_KEYS), section, host, kind, guard)
    version.used_by(made.plugin)
    return replace(made, fingerprint=version.digest)


def _make_installed(name: str, section: Mapping[str, Any], guard: HookGuard, package: installed.InstalledPlugin) -> Made:
    path = path_of("plugins", name)
    bounds = {key: section[key] for key in user_code.BOUND_KEYS & section.keys()}
    host = _bounded(path, validated(path, user_code.PythonSettings, bounds))
    where = f"{path}.category"
    try:
        kind, files = installed.load(package, guard)
    except user_code.BrokenCode as error:
        raise PluginRefused([Problem(where, str(error))]) from error
    return _make_users(_Users(name, where, str(package), files, user_code.BOUND_KEYS, is_package=True), section, host, kind, guard)


class _Users(NamedTuple):
    """A plugin that is not pingap's, to be made."""

    name: str
    where: str
    """Path of the key that says where its code is."""
    whose: str
    """The file, or the package."""
    files: Container[str]
    keys: frozenset[str]
    """Those that the stage reads itself."""
    is_package: bool = False


def _make_users(
    users: _Users, section: Mapping[str, Any], host: user_code.PythonSettings, kind: type[Plugin[Any]], guard: HookGuard
) -> Made:
    path, where, whose = path_of("plugins", users.name), users.where, users.whose
    hold = host.bounds.hold
    try:
        if taken := sorted(users.keys.intersection(keys_of(kind.model))):
            message = f"{whose}: {kind.__name__}.model has a key {taken[0]!r}, which every plugin of this kind has already"
            raise PluginRefused([Problem(where, message)])
        own = {key: value for key, value in section.items() if key not in users.keys}
        plugin = guard.run(hold, _build, path, kind, section, own)
        hooks = dict(guard.run(hold, plugin.hooks))
        notes = guard.run(hold, _notes, path, plugin)
        upstreams = guard.run(hold, _upstreams_of, plugin)
    except PluginRefused:
        raise
    except Exception as error:
        place = user_code.where(error, users.files)
        told = f"{whose}: {place}" if place and users.is_package else place or whose
        raise PluginRefused([Problem(where, f"{told}: {type(error).__name__}: {error}")]) from error
    if not hooks:
        raise PluginRefused([Problem(where, f"{whose}: {kind.__name__} overrides no step and would do nothing", choices(STEPS))])
    if bad := [step for step in hooks if step not in STEPS or not callable(hooks[step])]:
        raise PluginRefused([Problem(where, f"{whose}: hooks() names {bad[0]!r}, which is no step", choices(STEPS))])
    if not plugin.reads_request_body and (use := user_code.reader_of_bodies(kind)) is not None:
        hook, reader, line = use
        message = f"{reader}:{line}: {kind.__name__} uses {hook}, but does not say that it reads request bodies"
        raise PluginRefused([Problem(where, message, f"write {WANTED} in the class, or larger bodies would pass by it")])
    return Made(plugin, hooks, host.bounds, host.threads, files=users.files, notes=notes, upstreams=upstreams)


def _notes(path: str, plugin: Plugin[Any]) -> tuple[Note, ...]:
    return tuple(Note(f"{path}.{key}", *rest) for key, *rest in plugin.notes())


def _build(path: str, kind: type[Plugin[Any]], section: Mapping[str, Any], own: Mapping[str, Any]) -> Plugin[Any]:
    """Makes a plugin, and tells all that is wrong with its section. own: the keys that are its model's."""
    try:
        settings = validated(path, kind.model, own)
    except PluginRefused as refused:
        raise PluginRefused([*refused.problems, *_more_wrongs(path, kind, section, own)]) from None
    plugin = kind(settings)
    if problems := [*_troubles(path, plugin, None), *_wrong_step(path, kind, section)]:
        raise PluginRefused(problems)
    return plugin


def _more_wrongs(path: str, kind: type[Plugin[Any]], section: Mapping[str, Any], own: Mapping[str, Any]) -> list[Problem]:
    """What the plugin itself says of the keys that its model has taken, with the usual values of those that it has refused.

    Nothing where it cannot be made of these, as where a key is required, or where that is more than its code can bear."""
    right = what_is_right(kind.model, own)
    problems = _wrong_step(path, kind, section) if "step" in right else []
    guessed = [key for key in own if key not in right]
    with suppress(Exception):
        found = _troubles(path, kind(kind.model.model_validate(right)), right)
        # What is said of a key whose value is not the user's may be untrue.
        problems = [*(one for one in found if not any(key in one.message for key in guessed)), *problems]
    return problems


def _troubles(path: str, plugin: Plugin[Any], keys: Container[str] | None) -> list[Problem]:
    """Those about the keys, or about any."""
    found = [(key, Problem(f"{path}.{key}", *rest)) for key, *rest in plugin.check()]
    return [problem for key, problem in found if keys is None or re.split(r"[.\[]", key, maxsplit=1)[0] in keys]


def _wrong_step(path: str, kind: type[Plugin[Any]], section: Mapping[str, Any]) -> list[Problem]:
    step = section.get("step")
    # A plugin with hooks at several steps leaves no choice, unless it says that it does.
    own = tuple(step for step in STEPS if getattr(kind, step) is not getattr(Plugin, step))
    if step is None or step in (kind.steps or own[: len(own) == 1]):
        return []
    hint = f"it runs at {' or '.join(kind.steps)}" if kind.steps else f"it runs at {' and '.join(own)}"
    return [Problem(f"{path}.step", f"this plugin cannot be put at {step!r}", hint)]


def _unknown(path: str, category: Any) -> Problem:
    if not isinstance(category, str) or not category:
        message = "the key is required" if category is None else f"expected text, got {describe(category)}"
        return Problem(path, message, "the category says which plugin this is")
    if category in PLUGIN_CATEGORIES:
        return Problem(path, f"not supported yet: the plugin {category!r}")
    known = (*CATEGORIES, user_code.CATEGORY, *installed.names())
    return Problem(path, f"there is no plugin {category!r}", nearest(category, known) or choices(sorted(known)))
