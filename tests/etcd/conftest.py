"""One real etcd for all of these tests, of which each has a prefix of its own; others for what disturbs it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from pingap.config.storage.etcd.storage import EtcdStorage
from tests.kit.etcd import Etcd

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """For a test that stops it, or gives it users."""
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"/pingap{next(_numbers)}"


Open = Callable[..., EtcdStorage]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Makes storages whose threads end with the test."""
    found: list[EtcdStorage] = []

    def make(source: str) -> EtcdStorage:
        found.append(EtcdStorage(source))
        return found[-1]

    yield make
    for storage in found:
        storage.watcher.stop(5)


@pytest.fixture
def storage(etcd: Etcd, prefix: str, opened: Open) -> EtcdStorage:
    return opened(f"etcd://{etcd.endpoint}{prefix}")
