"""Hatchling's hook: a wheel has the compiled form when `PINGAP_COMPILE` is set, and pure Python otherwise.

    PINGAP_COMPILE=1 pip wheel .

Where there is no compiler it says so, and the wheel is the pure one.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))  # hatchling loads this file alone

import native

SWITCH: Final = "PINGAP_COMPILE"


class CompiledWheel(BuildHookInterface[Any]):
    """Adds the extension modules to a wheel."""

    PLUGIN_NAME = "custom"
    _folder = ""

    def _is_wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get(SWITCH, "") not in ("", "0")

    def dependencies(self) -> list[str]:
        """What the compiler reads types of is needed to build, too."""
        if not self._is_wanted():
            return []
        metadata = self.metadata.core
        extras = [*metadata.optional_dependencies["compile"], *metadata.optional_dependencies["fast"]]  # ngh2_engine.py is compiled as well
        return [*extras, *metadata.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._is_wanted() or version == "editable":
            return
        self._folder = tempfile.mkdtemp(prefix="pingap-wheel-")
        try:
            made = native.compile_into(Path(self._folder), Path(self.root))
        except native.CannotCompile as error:
            self.app.display_warning(f"not compiled, the wheel is pure Python: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in made:
            build_data["force_include"][str(path)] = str(path.relative_to(self._folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder:
            shutil.rmtree(self._folder)
