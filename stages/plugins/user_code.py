"""Loads a plugin that a user wrote: `category = "python"`.

The file, and the modules beside it that it imports (own_modules.py), are compiled here: each content becomes module
objects of its own, so that a changed file is a new plugin while requests in flight
finish on the old one, and no stale bytecode is ever taken for it. All are read once, for
the checks; from then on their texts belong to the configuration generation (`Snapshot.code`).
"""

from __future__ import annotations

import dis
import importlib
import importlib.util
import os
import re
import sys
import traceback
import types
from collections.abc import Container, Iterator
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from pingap.config.home import expanded
from pingap.config.model import Code
from pingap.config.problems import BadValue
from pingap.stages import code_files
from pingap.stages.modules import origin
from pingap.stages.plugins.api import Plugin, Settings
from pingap.stages.plugins.fields import Duration
from pingap.stages.plugins.guard import USUAL, Bounds, HookFailed, HookGuard
from pingap.stages.plugins.own_modules import PREFIX, OwnModules, digest_of
from pingap.stages.plugins.threads import MOST_THREADS, USUAL_THREADS

CATEGORY: Final = "python"
WHOLE: Final = 30.0
"""Seconds that a hook may take unless its section says otherwise."""

_BODY_READERS: Final = frozenset(("transform_request", "collect_request"))

KEPT: Final = 64
"""Versions of code that are remembered; beyond, the oldest is forgotten of which there is no plugin any more."""


class PythonSettings(Settings):
    """The keys that every python plugin has; the others are its own."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    path: str | None = None
    """The file; relative paths start at the configuration's directory."""
    module: str | None = None
    """Instead of `path`: a module that Python can import, as `"package.name"`."""
    class_: str | None = Field(default=None, alias="class")
    """Name of the class, when the file has several plugins."""
    timeout: Duration = WHOLE
    """Most that one call of a hook may take all in all, what it awaits included; at most 1 h."""
    hold_timeout: Duration | None = None
    """Most for which it may hold up the process before it awaits, or between two awaits: 2 s unless given; at most 2.5 s; never more than
    `timeout`."""
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] = USUAL_THREADS
    """Threads of `host.in_thread`, in each process of the stage."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(min(USUAL if self.hold_timeout is None else self.hold_timeout, self.timeout), self.timeout)


HOST_KEYS: Final = frozenset(("path", "module", "class", "timeout", "hold_timeout", "threads"))
"""Keys that the stage reads itself; a plugin's own settings cannot be called so."""

BOUND_KEYS: Final = frozenset(("timeout", "hold_timeout", "threads"))
"""Those among them that a plugin of an installed package has, too."""


class BrokenCode(Exception):
    """The code of a plugin cannot be used; the text says where and why."""


class CodeVersion:
    """A version of the code of a plugin that was run."""

    __slots__ = ("digest", "module", "own")

    def __init__(self, digest: str, module: types.ModuleType, own: OwnModules | None) -> None:
        self.digest = digest
        self.module = module
        """The plugin's own file."""
        self.own = own
        """None for one that is installed."""

    def used_by(self, plugin: object) -> None:
        """It is remembered for as long as the plugin is there."""
        if self.own is not None:
            self.own.users.add(plugin)

    @property
    def is_used(self) -> bool:
        return self.own is not None and bool(self.own.users)

    def forget(self) -> None:
        if self.own is not None:
            self.own.forget()
        else:
            sys.modules.pop(self.module.__name__, None)


_loaded: dict[tuple[str, str], CodeVersion] = {}
"""By path and digest."""


def locate(settings: PythonSettings, base: str) -> str:
    """The file of a plugin, as an absolute path. Raises BrokenCode."""
    if settings.path is not None:
        try:
            return os.path.normpath(os.path.join(os.path.abspath(base), expanded(settings.path)))
        except BadValue as error:
            raise BrokenCode(error.message) from None
    assert settings.module is not None
    try:
        found = origin(settings.module)
    except Exception as error:  # of a finder that is not Python's own
        raise BrokenCode(f"module {settings.module}: {_reason(error, None)}") from error
    if not found:
        raise BrokenCode(f"module {settings.module!r} cannot be found")
    return found


def read(settings: PythonSettings, base: str) -> Code:
    """What is in the files of a plugin now. Raises BrokenCode."""
    path = locate(settings, base)
    try:
        return code_files.read(path, settings.module)
    except OSError as error:
        raise BrokenCode(f"{error.filename or path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BrokenCode(f"{path}: {error}") from error
    except code_files.TooMuchCode as error:
        raise BrokenCode(f"{path}: {error}") from error


def load(settings: PythonSettings, code: Code, guard: HookGuard) -> tuple[type[Plugin[Any]], CodeVersion]:
    """(class of the plugin, what it is in). Raises BrokenCode."""
    digest = digest_of(code)
    loaded = _loaded.get((code.path, digest))
    if loaded is None:
        loaded = _loaded[code.path, digest] = _run(code, digest, settings.module, guard)
        for key in [key for key, one in _loaded.items() if not one.is_used and one is not loaded][: max(0, len(_loaded) - KEPT)]:
            _loaded.pop(key).forget()
    return _class_of(loaded.module, code.path, settings.class_), loaded


def is_of_a_plugin(module: str) -> bool:
    """A module's name is one that `load` has given: no other process can import it."""
    return module.startswith(PREFIX) or module.rpartition(".")[2].startswith(_INSTALLED)


_INSTALLED: Final = "_pingap_"


def _run(code: Code, digest: str, name: str | None, guard: HookGuard) -> CodeVersion:
    try:
        if not code.name:
            return CodeVersion(digest, _execute(code, digest, name, guard), None)
        own = OwnModules(code, digest)
        return CodeVersion(digest, guard.run(USUAL, own.run), own)
    except (Exception, SystemExit) as error:
        raise BrokenCode(_reason(error, code)) from error


def _execute(code: Code, digest: str, name: str | None, guard: HookGuard) -> types.ModuleType:
    """A module of an installed package, or the file of one: what is beside it is imported as ever."""
    # The name is unique, and in sys.modules while the module lives: pydantic and dataclasses look annotations up there.
    parent = name.rpartition(".")[0] if name else ""
    unique = f"{parent}.{_INSTALLED}{digest}" if parent else f"{_INSTALLED}{digest}"
    spec = importlib.util.spec_from_loader(unique, loader=None, origin=code.path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = code.path
    sys.modules[unique] = module
    try:
        if parent:
            guard.run(USUAL, importlib.import_module, parent)
        compiled = compile(code.text, code.path, "exec", dont_inherit=True)
        guard.run(USUAL, exec, compiled, module.__dict__)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


def _class_of(module: types.ModuleType, path: str, name: str | None) -> type[Plugin[Any]]:
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    }
    if name is not None:
        if name in found:
            return found[name]
        raise BrokenCode(f"{path}: no plugin class {name!r}" + (f", but {', '.join(found)}" if found else ""))
    if len(found) != 1:
        what = f"{len(found)} plugin classes ({', '.join(found)}): name one with `class`" if found else "no subclass of Plugin"
        raise BrokenCode(f"{path}: {what}")
    return next(iter(found.values()))


def reader_of_bodies(kind: type[Plugin[Any]]) -> tuple[str, str, int] | None:
    """(name, file, line) of a use of `transform_request` or `collect_request` in the methods of a class; None as far as can be seen.

    Only what is written in the class and the classes that it is made of: whatever a function elsewhere does turns out when it is called.
    """
    owned = {name for one in kind.__mro__ for name in vars(one)}
    wanted = _BODY_READERS - owned  # methods of its own that are called so
    for one in kind.__mro__:
        if one is Plugin:
            break
        for member in vars(one).values():
            for code in _codes(member):
                if (found := _use(code, wanted)) is not None:
                    return found
    return None


def _codes(member: Any) -> Iterator[types.CodeType]:
    """The code of a method, and of what a decorator has put itself around."""
    while isinstance(member, staticmethod | classmethod):
        member = member.__func__
    while isinstance(member, types.FunctionType):
        yield member.__code__
        member = vars(member).get("__wrapped__")


def _use(code: types.CodeType, wanted: AbstractSet[str]) -> tuple[str, str, int] | None:
    if not wanted.isdisjoint(code.co_names):
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in wanted:
                line = step.positions.lineno if step.positions is not None else None
                return step.argval, code.co_filename, line or code.co_firstlineno
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType) and (found := _use(inner, wanted)) is not None:
            return found
    return None


def _reason(error: BaseException, code: Code | None) -> str:
    """`file:line: what`, the line being the last one of the plugin's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    text = str(error) if isinstance(error, HookFailed) else f"{type(error).__name__}: {error}"
    if code is None:
        return text
    return f"{where(error, code.paths) or code.path}: {_NAMES.sub('', text)}"


_NAMES: Final = re.compile(rf"\b{PREFIX}\w+_[0-9a-f]{{16}}\.")
"""What `own_modules` puts before the names of modules."""


def where(error: BaseException, paths: Container[str]) -> str:
    """`file:line` of the last frame of an exception in one of the files; "" if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename in paths]
        if frames:
            return f"{frames[-1].filename}:{frames[-1].lineno}"
        cause = cause.__cause__ or cause.__context__
    return ""


def last_line(error: BaseException) -> str:
    """`file:line` at which an exception came up."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
