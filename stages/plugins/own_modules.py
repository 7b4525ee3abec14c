"""The modules of one version of a user's plugin, made of the texts that were kept with it (decision 0038).

They are in sys.modules under names of their own, below `pingap_plugin_NAME_DIGEST`, so that two versions never share one. Which
names in `import` mean them is decided by an `__import__` in the builtins that their code sees: an import at the top, one within
each other and one that a function makes an hour later find the version that they belong to. Files on disk, and what Python has
compiled of them, are never looked at.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from typing import Any, Final
from weakref import WeakSet, WeakValueDictionary

from pingap.config.model import Code
from pingap.stages.code_files import is_itself, is_of_python

PREFIX: Final = "pingap_plugin_"

_alive: Final[WeakValueDictionary[str, OwnModules]] = WeakValueDictionary()
"""By prefix. Their own code keeps them: each has the `__import__` of its version."""


def digest_of(code: Code) -> str:
    """The same for the same code in the same files."""
    digest = hashlib.sha256()
    for part in (code.root, code.name, code.path, code.text, *(part for one in code.modules for part in (one.name, one.path, one.text))):
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()[:16]


class OwnModules:
    """Those of one version of the code of a plugin, the plugin's own file among them."""

    def __init__(self, code: Code, digest: str) -> None:
        self.prefix = f"{PREFIX}{code.name.replace('.', '_')}_{digest}"
        self.users: WeakSet[Any] = WeakSet()
        """Plugins that were made of them."""
        self._main = code.name
        self._root = code.root
        self._texts: dict[str, tuple[str, bytes]] = {code.name: (code.path, code.text)}
        self._texts |= {one.name: (one.path, one.text) for one in code.modules}
        self._folders: set[str] = {""}
        """Names of packages, those without `__init__.py` among them."""
        for name, (path, _) in self._texts.items():
            self._folders |= {name} if os.path.basename(path) == "__init__.py" else set()
            while name := name.rpartition(".")[0]:
                self._folders.add(name)
        self._tops = {first for name in self._texts if not is_of_python(first := name.partition(".")[0])}
        self._builtins = {**vars(builtins), "__import__": self._import}
        _alive[self.prefix] = self
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)

    def run(self) -> types.ModuleType:
        """Runs the plugin's own file, and what it imports. Raises whatever that raises; nothing is left of it then."""
        try:
            return importlib.import_module(f"{self.prefix}.{self._main}")
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """They are no longer in sys.modules. What runs in them goes on."""
        for name in [one for one in sys.modules if one.partition(".")[0] == self.prefix]:
            sys.modules.pop(name, None)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        """What `import` calls in their code; as `builtins.__import__`."""
        first = name.partition(".")[0]
        if level or first not in self._tops or self._is_itself(name, globals):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.prefix}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{self.prefix}.{first}"]

    def _is_itself(self, name: str, globals: Mapping[str, Any] | None) -> bool:
        importer = str((globals or {}).get("__name__", "")).removeprefix(f"{self.prefix}.")
        return is_itself(importer, "__path__" in (globals or {}), name)

    # -- for importlib ---------------------------------------------------------------------

    def spec_of(self, full_name: str, path: Sequence[str] | None) -> ModuleSpec:
        """Raises ModuleNotFoundError, with the name that the plugin's author knows."""
        name = full_name.partition(".")[2]
        file, _ = self._texts.get(name, ("", b""))
        if name not in self._folders and not file:
            spec = PathFinder.find_spec(full_name, path)
            if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
                return spec  # machine code cannot be kept
            is_there = spec is not None and spec.loader is not None
            why = " of this plugin was seen: name it in an `import` somewhere, in a function or under TYPE_CHECKING" if is_there else ""
            raise ModuleNotFoundError(f"No module named {name!r}{why}", name=full_name)
        if not file:
            spec = ModuleSpec(full_name, None, is_package=True)
        else:
            spec = ModuleSpec(full_name, _Loader(self), origin=file, is_package=name in self._folders)
            spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.join(self._root, *name.split(".")) if name else self._root)
        return spec

    def execute(self, module: types.ModuleType) -> None:
        file, text = self._texts[module.__name__.partition(".")[2]]
        module.__dict__["__builtins__"] = self._builtins
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)

    def source_of(self, full_name: str) -> str:
        return importlib.util.decode_source(self._texts[full_name.partition(".")[2]][1])


class _Loader(importlib.abc.InspectLoader):
    """Of the modules of one version."""

    def __init__(self, own: OwnModules) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> None:
        """As Python does it."""

    def exec_module(self, module: types.ModuleType) -> None:
        self._own.execute(module)

    def get_source(self, fullname: str) -> str:
        return self._own.source_of(fullname)


class _Finder:
    """Of all versions of all plugins."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None) -> ModuleSpec | None:
        own = _alive.get(name.partition(".")[0]) if name.startswith(PREFIX) else None
        return own.spec_of(name, path) if own is not None else None


_FINDER: Final = _Finder()
