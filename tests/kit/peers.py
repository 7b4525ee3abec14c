"""What tests need and a machine may lack: without it they skip with the reason, and fail under CI."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any, NoReturn

import pytest


def lacks(reason: str, where: str = ".ci/run") -> NoReturn:
    """Skips; under CI that is a failure. where: what should have brought it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must have it ({where})")
    pytest.skip(reason)


def needs(program: str, package: str = "") -> None:
    """A program of the system. package: of Debian, that has it."""
    if shutil.which(program) is None:
        lacks(f"{program} is not installed" + (f" (Debian: {package})" if package else ""))


def required(module: str) -> Any:
    """A library that only tests use."""
    try:
        return importlib.import_module(module)
    except ImportError:
        lacks(f"{module} is not installed: `make test` does that", "pyproject.toml, test")
