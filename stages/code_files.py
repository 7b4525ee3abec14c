"""Which files the code of a user's plugin consists of: its own and those of its own modules. None of them is run.

A plugin's own modules are those that it imports from beside it, and that these import, wherever the import stands (in a
function, in a `try`, under TYPE_CHECKING). Of a file they are named from its directory, as those of a script are; of a module of a
package they are the modules of that package. They may be relative, packages, and directories without `__init__.py`. What Python
itself has a module for, what is installed (site-packages) and pingap are never the plugin's own.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from pingap.config.model import Code, CodeModule
from pingap.config.storage.regular import content_of

MOST_MODULES: Final = 256
MOST_BYTES: Final = 4 << 20
"""Of all files of a plugin: they travel with each generation that changes them."""

_INIT: Final = "__init__.py"
_NOT_OURS: Final = frozenset(("pingap", "__main__")) | sys.stdlib_module_names
_INSTALLED: Final = frozenset(("site-packages", "dist-packages"))
_PYTHONS: Final = tuple(sorted({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")}))


class TooMuchCode(Exception):
    """There are more modules, or more bytes of them, than a plugin may consist of."""


class ModulesPlace(NamedTuple):
    """Where the own modules of a plugin are, and what they are called."""

    root: str
    """The directory that their names start at."""
    main: str
    """What its own file is called there."""
    only: str = ""
    """The package of which they are; "" when any that is found there is one."""

    @classmethod
    def of(cls, path: str, module: str | None) -> ModulesPlace | None:
        """For the file of a plugin, and its module's name when it was named by that. None: it is installed, and has none of its own."""
        if path.startswith(_PYTHONS) or not _INSTALLED.isdisjoint(path.split(os.sep)):
            return None
        folder, file = os.path.split(path)
        if module is None or "." not in module:
            if file == _INIT:
                folder, main = os.path.split(folder)
                return cls(folder, module or _word(main), module or _word(main))
            return cls(folder, module or _word(os.path.splitext(file)[0]))
        for name in reversed(module.split(".")[: None if file == _INIT else -1]):
            folder, found = os.path.split(folder)
            if found != name:  # a finder of somebody's own, for which names are not directories
                return None
        return cls(folder, module, module.partition(".")[0])

    def has(self, name: str) -> bool:
        """What is imported by this name may be an own module, as far as the name goes."""
        return name.partition(".")[0] == (self.only or name.partition(".")[0]) and not is_of_python(name)

    def candidates(self, name: str) -> tuple[str, str]:
        """The files that a module may be, in the order in which Python looks for them."""
        base = os.path.join(self.root, *name.split("."))
        return os.path.join(base, _INIT), f"{base}.py"


def _word(stem: str) -> str:
    """As a name that has no dots: nobody needs to be able to write it."""
    return re.sub(r"\W", "_", stem)


def read(path: str, module: str | None = None) -> Code:
    """The code of a plugin as it is now. Raises OSError, with the file's name; TooMuchCode."""
    place = ModulesPlace.of(path, module)
    if place is None:
        return Code(path, content_of(path))
    gathering = _Gathering(place, path)
    gathering.run()
    first, *others = gathering.found.values()
    own = tuple(CodeModule(one.name, one.path, one.text) for one in sorted(others, key=lambda one: one.name))
    return Code(path, first.text, place.main, place.root, own)


def files_of(path: str, module: str | None = None) -> tuple[str, ...]:
    """The files on which the code of a plugin depends, those among them that are not there but would count if they were. It never fails."""
    place = ModulesPlace.of(path, module)
    if place is None:
        return (path,)
    gathering = _Gathering(place, path)
    with suppress(OSError, ValueError, TooMuchCode):  # reading it says so; what was found until then is worth a look
        gathering.run()
    return tuple(dict.fromkeys((path, *(one.path for one in gathering.found.values()), *gathering.looked)))


class _File(NamedTuple):
    name: str
    path: str
    text: bytes

    @property
    def package(self) -> str:
        """From where its relative imports go."""
        return self.name if os.path.basename(self.path) == _INIT else self.name.rpartition(".")[0]


class _Gathering:
    """Follows the imports of a plugin's file."""

    def __init__(self, place: ModulesPlace, path: str) -> None:
        self._place = place
        self._waiting: list[tuple[str, str]] = [(place.main, path)]
        self._paths: dict[str, str] = {place.main: path}
        """Of each name that was looked for; "" when there is no such file."""
        self._bytes = 0
        self.found: dict[str, _File] = {}
        """By name; the plugin's own file first."""
        self.looked: dict[str, None] = {}
        """Files for which it looked, or of which another one took the place."""

    def run(self) -> None:
        if "." in self._place.main:
            self._want(self._place.main.rpartition(".")[0])
        while self._waiting:
            name, path = self._waiting.pop(0)
            self.looked[path] = None
            text = content_of(path, MOST_BYTES + 1)
            self._bytes += len(text)
            if self._bytes > MOST_BYTES or len(self.found) > MOST_MODULES:
                what = f"{MOST_BYTES >> 20} MiB" if self._bytes > MOST_BYTES else f"{MOST_MODULES} modules"
                raise TooMuchCode(f"with the modules that it imports from its own directory it is more than {what} of code")
            file = self.found[name] = _File(name, path, text)
            for module, names, level in imports(text):
                self._follow(file, module, names, level)

    def _follow(self, file: _File, module: str, names: tuple[str, ...], level: int) -> None:
        name = module
        if level:
            parts = file.package.split(".") if file.package else []
            if level - 1 > len(parts):
                return  # beyond the top: running it says so
            name = ".".join((*parts[: len(parts) - level + 1], *([module] if module else [])))
        elif not self._place.has(name) or is_itself(file.name, file.package == file.name, name):
            return
        self._want(name)
        for one in names:
            for inner in self._modules_in(name) if one == "*" else (one,):
                self._want(f"{name}.{inner}" if name else inner)

    def _want(self, name: str) -> None:
        """A module of this name, and the packages in which it is, if they are own ones."""
        if not name or name in self._paths or (self._place.only and name.partition(".")[0] != self._place.only):
            return
        package = name.rpartition(".")[0]
        self._want(package)
        if self._is_plain(package):
            return  # it is no module, but something in one
        self._paths[name] = ""
        for path in self._place.candidates(name):
            self.looked[path] = None
            if os.path.exists(path) and not os.path.isdir(path):
                self._paths[name] = path
                self._waiting.append((name, path))
                return

    def _is_plain(self, name: str) -> bool:
        """It is a module and no package."""
        path = self._paths.get(name)
        return bool(path) and os.path.basename(path or "") != _INIT

    def _modules_in(self, name: str) -> Iterator[str]:
        """Those of a package: what `*` means is known only when it is run."""
        if self._is_plain(name):
            return
        folder = os.path.join(self._place.root, *name.split("."))
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            return
        for entry in entries:
            stem, suffix = os.path.splitext(entry)
            if (suffix == ".py" and stem != "__init__") or os.path.exists(os.path.join(folder, entry, _INIT)):
                yield stem


def is_of_python(name: str) -> bool:
    """A name is one of Python's own modules, or of pingap: no module of a plugin takes its place, unless it is imported relatively."""
    return name.partition(".")[0] in _NOT_OURS


def is_itself(importer: str, is_package: bool, name: str) -> bool:
    """A module at the top does not import itself: `jwt.py` that imports `jwt` means the installed one."""
    return not is_package and importer == name.partition(".")[0]


@lru_cache(maxsize=1024)
def imports(text: bytes) -> tuple[tuple[str, tuple[str, ...], int], ...]:
    """(module, names that are imported from it, level) of each import in the text of a module; none of one that cannot be read."""
    try:
        tree = ast.parse(text)
    except Exception:  # running it says what is wrong
        return ()
    found: dict[tuple[str, tuple[str, ...], int], None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.name, (), 0] = None
        elif isinstance(node, ast.ImportFrom):
            found[node.module or "", tuple(alias.name for alias in node.names), node.level] = None
    return tuple(found)
