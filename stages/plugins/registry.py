"""Which plugins there are, and what is wrong with a section of one. The list is explicit: nothing registers itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from pingap.config.model import Code, Snapshot
from pingap.config.problems import BadValue, Note, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.unsupported import BUILTIN_PLUGINS, LATER_BUILTIN_PLUGINS, PLUGIN_CATEGORIES
from pingap.stages.coding.rules import BUILTIN as CODINGS
from pingap.stages.itinerary import REQUEST_BODY, REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.plugins import installed, lenient, trial, user_code
from pingap.stages.plugins.api import REQUEST_STEPS, STEPS, Plugin, Settings, Step
from pingap.stages.plugins.builtin.accept_encoding import AcceptEncoding
from pingap.stages.plugins.builtin.admin import Admin
from pingap.stages.plugins.builtin.basic_auth import BasicAuth
from pingap.stages.plugins.builtin.combined_auth import CombinedAuth
from pingap.stages.plugins.builtin.compression import Compression
from pingap.stages.plugins.builtin.cors import Cors
from pingap.stages.plugins.builtin.csrf import Csrf
from pingap.stages.plugins.builtin.directory import Directory
from pingap.stages.plugins.builtin.forward_auth import ForwardAuth
from pingap.stages.plugins.builtin.geo_restriction import GeoRestriction
from pingap.stages.plugins.builtin.image_optim import ImageOptim
from pingap.stages.plugins.builtin.ip_restriction import IpRestriction
from pingap.stages.plugins.builtin.jwt import Jwt
from pingap.stages.plugins.builtin.key_auth import KeyAuth
from pingap.stages.plugins.builtin.limit import Limit
from pingap.stages.plugins.builtin.mock import Mock
from pingap.stages.plugins.builtin.ping import Ping
from pingap.stages.plugins.builtin.redirect import Redirect
from pingap.stages.plugins.builtin.referer_restriction import RefererRestriction
from pingap.stages.plugins.builtin.request_id import RequestId
from pingap.stages.plugins.builtin.response_headers import ResponseHeaders
from pingap.stages.plugins.builtin.stats import Stats
from pingap.stages.plugins.builtin.sub_filter import SubFilter
from pingap.stages.plugins.builtin.traffic_splitting import TrafficSplitting
from pingap.stages.plugins.builtin.ua_restriction import UaRestriction
from pingap.stages.plugins.exchange import Hook
from pingap.stages.plugins.guard import LONGEST_STEP, Bounds, HookGuard
from pingap.stages.plugins.guarded import WANTED
from pingap.stages.plugins.trial import Tried

CATEGORIES: Final[Mapping[str, type[Plugin[Any]]]] = {
    "accept_encoding": AcceptEncoding,
    "admin": Admin,
    "basic_auth": BasicAuth,
    "combined_auth": CombinedAuth,
    "compression": Compression,
    "cors": Cors,
    "csrf": Csrf,
    "forward_auth": ForwardAuth,
    "directory": Directory,
    "geo_restriction": GeoRestriction,
    "image_optim": ImageOptim,
    "ip_restriction": IpRestriction,
    "jwt": Jwt,
    "key_auth": KeyAuth,
    "limit": Limit,
    "mock": Mock,
    "ping": Ping,
    "redirect": Redirect,
    "referer_restriction": RefererRestriction,
    "request_id": RequestId,
    "response_headers": ResponseHeaders,
    "stats": Stats,
    "sub_filter": SubFilter,
    "traffic_splitting": TrafficSplitting,
    "ua_restriction": UaRestriction,
}
"""Category → plugin. `python` is the category of all others."""

OUR_CATEGORIES: Final = frozenset((*CATEGORIES, user_code.CATEGORY, *PLUGIN_CATEGORIES))
"""No installed package takes the place of one of these."""

BUILTIN_SECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    **CODINGS,
    "pingap:acceptEncodingAdjustment": {"category": "accept_encoding", "encodings": "zstd, br, gzip", "only_one_encoding": True},
    "pingap:ping": {"category": "ping", "path": "/ping"},
    "pingap:requestId": {"category": "request_id"},
    "pingap:stats": {"category": "stats", "path": "/stats"},
}
"""Instances that a location may name without a section; a section of the same name takes its place."""

BUILTIN_INSTANCES: Final = frozenset(BUILTIN_SECTIONS)
assert BUILTIN_INSTANCES == BUILTIN_PLUGINS, "config/unsupported.py names other built-in plugins"

MOST_TIMEOUT: Final = 3600.0
"""Seconds."""

_load_guard: Final = HookGuard()
"""Deadline for what a user's plugin does in a trial; the stage brings its own."""


class PluginRefused(Exception):
    """A section cannot be used; `problems` says why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


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


class Checker:
    """Tells everything that is wrong with [plugins.NAME], and keeps the code that it found good. Runs none of it: trial.py does."""

    def __init__(self, base: str = "", *, runs_code: bool = True) -> None:
        """base: the directory that relative paths start at; "" is the current one. runs_code: else plugins of users are not looked at."""
        self._base = base
        self._runs_code = runs_code
        self.code: dict[str, Code] = {}
        """By plugin, of those that users wrote: for `Snapshot.code`."""

    def __call__(self, name: str, section: dict[str, Any], upstreams: Set[str] | None = None) -> list[Problem | Note]:
        """Paths of files in `section` are made absolute, so that all who read the snapshot know the same file.

        upstreams: the names of those that are configured; None when that is not known.
        """
        notes: list[Note] = []
        try:
            category = section.get("category")
            package = _package_of(name, category)
            if category != user_code.CATEGORY and package is None:
                path = path_of("plugins", name)
                if category in lenient.GUARDLESS and category in CATEGORIES:
                    notes += lenient.renamed(path, category, section)
                    notes += lenient.meant(path, CATEGORIES[category].model, section)
                kind = CATEGORIES.get(category) if isinstance(category, str) else None
                for key in kind.files if kind is not None else ():
                    file = section.get(key)
                    if isinstance(file, str) and file and not file.startswith("~"):  # whose home that is, every process knows
                        section[key] = os.path.normpath(os.path.join(os.path.abspath(self._base), file))
                made = make(name, section, _load_guard)
                problems = [*unknown_upstreams(name, made.upstreams, upstreams), *_unusable_files(name, made.plugin)]
                return [*problems, *notes, *made.notes]
            if not self._runs_code:
                return []  # to find a module may run code, too
            code = _code_of(name, section, self._base) if package is None else package.code
        except PluginRefused as refused:
            return [*refused.problems, *notes]
        absolute = section | {"path": code.path} if "path" in section and package is None else section
        tried = trial.try_out(JUDGE, name, absolute, code)
        problems = tried.problems or unknown_upstreams(name, tried.upstreams, upstreams)
        if not problems:
            section.update(absolute)
            if package is None:
                self.code[name] = code
        return [*problems, *tried.notes]


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


JUDGE: Final = "pingap.stages.plugins.registry:judge"


def judge(name: str, section: dict[str, Any], code: Code) -> Tried:
    """What there is to say of a plugin of that code, found by running it in this process: for the child of a trial."""
    _load_guard.install(None)
    try:
        made = make(name, section, _load_guard, code)
    except PluginRefused as refused:
        return Tried(list(refused.problems), 0)
    finally:
        _load_guard.uninstall()
    if problems := _unusable_files(name, made.plugin):
        return Tried(problems, 0)
    return Tried([], made.plan, made.notes, made.upstreams)


JUDGE_PACKAGE: Final = "pingap.stages.plugins.registry:judge_package"


def judge_package(name: str, section: dict[str, Any], code: Code) -> Tried:
    """As `judge`, of no more than the class of the plugin of an installed package: for lists."""
    _load_guard.install(None)
    try:
        class_of(str(section["category"]), _load_guard)
    except user_code.BrokenCode as error:
        return Tried([Problem(path_of("plugins", name, "category"), str(error))], 0)
    finally:
        _load_guard.uninstall()
    return Tried([], 0)


def class_of(category: str, guard: HookGuard) -> type[Plugin[Any]] | None:
    """Of an installed package's plugin; it is imported. None when there is none. Raises BrokenCode."""
    package = installed.find(category)
    return installed.load(package, guard)[0] if package is not None else None


def _unusable_files(name: str, plugin: Plugin[Any]) -> list[Problem]:
    return [Problem(f"{path_of('plugins', name)}.{key}", *rest) for key, *rest in plugin.check_files()]


def _upstreams_of(plugin: Plugin[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(name)) for key, name in plugin.upstreams())


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
    package = _package_of(name, section.get("category"))
    if trusts or (section.get("category") != user_code.CATEGORY and package is None):
        return make(name, section, _load_guard, code).plan
    tried = trial.try_out(JUDGE, name, section, package.code if package else code or _code_of(name, section, ""))
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


def used(snapshot: Snapshot) -> list[str]:
    """Names of the plugins that a location has."""
    return list(dict.fromkeys(name for location in snapshot.locations.values() for name in location.plugins))


def section_of(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The section of a plugin. Raises PluginRefused when there is none."""
    section = snapshot.plugins.get(name) or BUILTIN_SECTIONS.get(name)
    if section is None:
        path = path_of("plugins", name)
        if name in LATER_BUILTIN_PLUGINS:
            raise PluginRefused([Problem(path, f"not supported yet: the plugin {name!r}")])
        raise PluginRefused([Problem(path, f"plugin {name!r} does not exist", nearest(name, {*snapshot.plugins, *BUILTIN_SECTIONS}))])
    return section


def make(name: str, section: Mapping[str, Any], guard: HookGuard, code: Code | None = None) -> Made:
    """A plugin from its section. code: what a user's plugin is made of; None reads it from disk. Raises PluginRefused."""
    path = path_of("plugins", name)
    category = section.get("category")
    if category == user_code.CATEGORY:
        return _make_python(name, section, guard, code or _code_of(name, section, ""))
    kind = CATEGORIES.get(category) if isinstance(category, str) else None
    if kind is None and (package := _package_of(name, category)) is not None:
        return _make_installed(name, section, guard, package)
    if kind is None:
        raise PluginRefused([_unknown(f"{path}.category", category)])
    plugin = _build(path, kind, section, lambda: kind(_validated(path, kind.model, section)))
    return Made(plugin, plugin.hooks(), None, kind.threads, notes=_notes(path, plugin), upstreams=_upstreams_of(plugin))


def _code_of(name: str, section: Mapping[str, Any], base: str) -> Code:
    """The code that a section of a python plugin names, as it is on disk. Raises PluginRefused."""
    host = _host_keys(name, section)
    try:
        return user_code.read(host, base)
    except user_code.BrokenCode as error:
        raise PluginRefused([Problem(_place(name, host), str(error))]) from error


def _host_keys(name: str, section: Mapping[str, Any]) -> user_code.PythonSettings:
    """The keys that every python plugin has. Raises PluginRefused."""
    path = path_of("plugins", name)
    host: user_code.PythonSettings = _validated(path, user_code.PythonSettings, section)
    if (host.path is None) == (host.module is None):
        hint = 'path = "my_plugin.py", or module = "package.my_plugin"'
        raise PluginRefused([Problem(path, "a python plugin is named by either path or module", hint)])
    return _bounded(path, host)


def _bounded(path: str, host: user_code.PythonSettings) -> user_code.PythonSettings:
    """Raises PluginRefused for times that nobody may have."""
    if not 0 < host.timeout <= MOST_TIMEOUT:
        raise PluginRefused([Problem(f"{path}.timeout", f"must be more than 0 and at most {MOST_TIMEOUT / 3600:g}h")])
    if host.hold_timeout is not None and not 0 < host.hold_timeout <= LONGEST_STEP:
        hint = "a hook holds up all other requests until it awaits; after 3 s of silence the whole process counts as dead"
        raise PluginRefused([Problem(f"{path}.hold_timeout", f"must be more than 0 and at most {LONGEST_STEP:g}s", hint)])
    return host


def _place(name: str, host: user_code.PythonSettings) -> str:
    return path_of("plugins", name, "path" if host.path is not None else "module")


def _package_of(name: str, category: Any) -> installed.InstalledPlugin | None:
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
    host = _bounded(path, _validated(path, user_code.PythonSettings, bounds))
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
        if taken := sorted(users.keys.intersection(_keys(kind.model))):
            message = f"{whose}: {kind.__name__}.model has a key {taken[0]!r}, which every plugin of this kind has already"
            raise PluginRefused([Problem(where, message)])
        own = {key: value for key, value in section.items() if key not in users.keys}
        plugin = guard.run(hold, lambda: _build(path, kind, section, lambda: kind(_validated(path, kind.model, own)), users.keys))
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


def _build(
    path: str,
    kind: type[Plugin[Any]],
    section: Mapping[str, Any],
    construct: Callable[[], Plugin[Any]],
    more_keys: Iterable[str] = (),
) -> Plugin[Any]:
    """Makes a plugin, and tells all that it finds wrong itself."""
    plugin = construct()
    problems = [Problem(f"{path}.{key}", *rest) for key, *rest in plugin.check()]
    step = section.get("step")
    # A plugin with hooks at several steps leaves no choice, unless it says that it does.
    own = tuple(step for step in STEPS if getattr(kind, step) is not getattr(Plugin, step))
    if step is not None and step not in (kind.steps or own[: len(own) == 1]):
        hint = f"it runs at {' or '.join(kind.steps)}" if kind.steps else f"it runs at {' and '.join(own)}"
        problems.append(Problem(f"{path}.step", f"this plugin cannot be put at {step!r}", hint))
    if problems:
        raise PluginRefused(problems)
    return plugin


def _unknown(path: str, category: Any) -> Problem:
    if not isinstance(category, str) or not category:
        message = "the key is required" if category is None else f"expected text, got {describe(category)}"
        return Problem(path, message, "the category says which plugin this is")
    if category in PLUGIN_CATEGORIES:
        return Problem(path, f"not supported yet: the plugin {category!r}")
    known = (*CATEGORIES, user_code.CATEGORY, *installed.names())
    return Problem(path, f"there is no plugin {category!r}", nearest(category, known) or choices(sorted(known)))


def _keys(model: type[Settings]) -> list[str]:
    return [spec.alias or key for key, spec in model.model_fields.items()]


def _validated(path: str, model: type[Any], section: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(section)
    except ValidationError as error:
        wrongs = error.errors(include_url=False, include_input=True)
    raise PluginRefused([_explained(path, model, wrong) for wrong in wrongs])


def _explained(path: str, model: type[Settings], wrong: Any) -> Problem:
    """A validation error in the words of config/load.py."""
    loc, context, value = wrong["loc"], wrong.get("ctx", {}), wrong["input"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{path_of(part)}" for part in loc)
    at = path + place
    got = describe(value)
    match wrong["type"]:
        case "missing":
            return Problem(at, "the key is required")
        case "extra_forbidden":
            known = _keys(model)
            return Problem(at, "unknown key", nearest(str(loc[-1]), known) or choices(sorted(known)))
        case "value_error":
            cause = context.get("error")
            return Problem(at, cause.message, cause.hint) if isinstance(cause, BadValue) else Problem(at, str(cause))
        case "greater_than_equal":
            return Problem(at, f"must be at least {context['ge']}, got {got}")
        case "less_than_equal":
            return Problem(at, f"must be at most {context['le']}, got {got}")
        case "literal_error":
            words = re.findall(r"'([^']*)'|(\d+)", str(context["expected"]))
            names = [text or number for text, number in words]
            return Problem(at, f"expected {choices(names)}; got {got}", nearest(value, names) if isinstance(value, str) else "")
        case "too_short" | "string_too_short":
            return Problem(at, "must not be empty")
    wanted = _WANTED.get(wrong["type"])
    return Problem(at, f"expected {wanted}, got {got}" if wanted else wrong["msg"])


_WANTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
}
