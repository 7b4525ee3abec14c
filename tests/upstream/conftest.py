from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.upstream.playbook import Play


@pytest.fixture
async def play(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    """A ready upstream actor; whatever the test did, nothing of it may be left at its end."""
    play = Play(monkeypatch)
    await play.begin()
    yield play
    await play.end()
