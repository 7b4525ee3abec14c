"""Every configuration under examples/ is one that pingap takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pingap.config.storage.places import storage_of
from pingap.loading import load

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_loads_without_problems(file: Path) -> None:
    assert load(storage_of(file)).servers


def test_there_are_examples() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_no_example_listens_beyond_this_machine(file: Path) -> None:
    hosts = {listen.host for server in load(storage_of(file)).servers.values() for listen in server.addr}
    assert hosts == {"127.0.0.1"}
