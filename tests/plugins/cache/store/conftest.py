"""What several tests of the store stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.stages.plugins.cache.store import memory_place


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Of one run of an instance; what it keeps in memory goes with the test."""
    run = tmp_path / "run/1"
    run.mkdir(parents=True)
    (run / "pid").write_text("1")
    yield run
    memory_place.remove_memory(str(run.parent))
