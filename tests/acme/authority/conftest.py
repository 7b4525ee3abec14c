"""A small authority, and desks in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acme.authority.desk import Desk
from tests.kit.small_authority import SmallAuthority


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def small() -> Iterator[SmallAuthority]:
    with SmallAuthority() as authority:
        yield authority


@pytest.fixture
def desk(tmp_path: Path, small: SmallAuthority) -> Desk:
    return Desk(tmp_path / "store", small)


@pytest.fixture
def other(tmp_path: Path, desk: Desk) -> Desk:
    """Another instance's, with the same store."""
    return Desk(tmp_path / "store", desk.small)
