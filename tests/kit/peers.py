"""Libraries that only tests use."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def required(module: str) -> Any:
    """The module. Skips without it, with the reason; under CI its absence is a failure."""
    try:
        return importlib.import_module(module)
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail(f"{module} is not installed, and CI must have it (pyproject.toml, test)")
        pytest.skip(f"{module} is not installed: `make test` does that")
