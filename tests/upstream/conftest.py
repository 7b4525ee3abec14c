from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from tests.upstream.playbook import Play


@pytest.fixture
async def play(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    """A ready upstream actor; whatever the test did, nothing of it may be left at its end."""
    random.seed(1)  # chance (p2c, where round robin begins) is the same each time
    play = Play(monkeypatch)
    await play.begin()
    yield play
    await play.end()
