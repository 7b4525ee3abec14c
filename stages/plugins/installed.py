"""Plugins of installed packages: entry points of the group `pingap.plugins`, whose name is the category.

They are looked up when a category is none of pingap's own, and for lists. An installed package is imported as ever and stays as it
is until the process ends: a package that was upgraded is there after a restart or an upgrade of pingap.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

from pingap.config.model import Code
from pingap.stages.plugins.api import Plugin
from pingap.stages.plugins.guard import USUAL, HookGuard
from pingap.stages.plugins.user_code import BrokenCode, where

GROUP: Final = "pingap.plugins"


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """An entry point of a package."""

    category: str
    distribution: str
    """Name and version of the package, as `tea-plugins 1.2`."""
    target: str
    """`module:class`, as the package has it."""

    def __str__(self) -> str:
        return f"{self.distribution} ({self.target})"

    @property
    def code(self) -> Code:
        """For a trial: what stands for the code that an installed package has."""
        return Code(str(self), b"")


_found: Final[dict[str, InstalledPlugin]] = {}
"""By category: what a process has found once it stays with."""


def listed() -> list[InstalledPlugin]:
    """All of them, sorted; none is imported. Raises BrokenCode when what is installed cannot be read."""
    try:
        points = metadata.entry_points(group=GROUP)
        named = [(one.name, f"{one.dist.metadata['Name']} {one.dist.version}" if one.dist else "?", one.value) for one in points]
    except Exception as error:  # whatever stands in the files of any package
        raise BrokenCode(f"the packages that are installed cannot be looked through: {type(error).__name__}: {error}") from error
    return [InstalledPlugin(*row) for row in sorted(set(named))]


def find(category: str) -> InstalledPlugin | None:
    """Raises BrokenCode when it is not clear which one is meant."""
    if (known := _found.get(category)) is not None:
        return known
    match [one for one in listed() if one.category == category]:
        case []:
            return None
        case [one]:
            _found[category] = one
            return one
        case several:
            raise BrokenCode(f"{len(several)} packages have a plugin {category!r}: {', '.join(map(str, several))}; uninstall all but one")


class FilesUnder:
    """Those of a package, by their paths."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "")

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path.startswith(self._folder)


def load(one: InstalledPlugin, guard: HookGuard) -> tuple[type[Plugin[Any]], FilesUnder | frozenset[str]]:
    """(its class, the files of its package as far as they are known). Raises BrokenCode, which names the package."""
    module, _, name = (part.strip() for part in one.target.partition("[")[0].partition(":"))
    try:
        found: Any = guard.run(USUAL, importlib.import_module, module)
        for part in name.split("."):
            found = guard.run(USUAL, getattr, found, part)
    except (Exception, SystemExit) as error:
        place = where(error, _Own(module))
        raise BrokenCode(f"{one}: {place + ': ' if place else ''}{type(error).__name__}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Plugin):
        raise BrokenCode(f"{one}: {name or module} is no subclass of pingap.plugin.Plugin")
    return found, files_of(found.__module__)


def files_of(module: str) -> FilesUnder | frozenset[str]:
    """Those of the package at the top of a module that was imported."""
    top = sys.modules.get(module.partition(".")[0])
    folders = list(getattr(top, "__path__", ()))
    if folders:
        return FilesUnder(folders[0])
    file = getattr(top, "__file__", None)
    return frozenset((file,) if file else ())


class _Own:
    """The files of a module that could not be imported: those in a folder, or a file, that is called like its package."""

    def __init__(self, module: str) -> None:
        self._top = module.partition(".")[0]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and not {self._top, f"{self._top}.py"}.isdisjoint(path.split(os.sep))


def names() -> Iterator[str]:
    """Categories, for hints; none when that cannot be told."""
    try:
        yield from (one.category for one in listed())
    except BrokenCode:
        return
