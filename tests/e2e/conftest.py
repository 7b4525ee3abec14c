"""Fixtures of the end-to-end tests: every test of a behaviour runs in both placements from the same code."""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Iterator

import pytest

from tests.e2e.acme_site import AcmeTown, Way
from tests.e2e.harness import PLACEMENTS, Pingap
from tests.e2e.origins import Nginx, Origin
from tests.kit.peers import needs

BIG = 24 * 1024 * 1024
"""Bytes of /big/file."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of what its instances said."""
    report = yield
    if report.failed:
        for instance in Pingap.running:
            report.sections.append((f"output of {' '.join(instance.argv[1:])}", instance.output()[-8000:]))
    return report


@pytest.fixture(scope="module", params=PLACEMENTS)
def placement(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def big_file() -> bytes:
    return random.Random(1).randbytes(BIG)


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, big_file: bytes) -> Iterator[Nginx]:
    needs("nginx")
    root = tmp_path_factory.mktemp("nginx")
    # nginx's workers may run as another user, and pytest's directories are private.
    for directory in [root, *root.parents]:
        if directory.stat().st_uid == os.getuid() and directory.name.startswith(("nginx", "pytest-")):
            directory.chmod(0o755)
    server = Nginx(root, {"file": big_file, "small.txt": b"hello\n" * 400})
    yield server
    server.stop()


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def shared_origin() -> Iterator[Origin]:
    """One recording origin for a module; clear `requests` where a test counts."""
    server = Origin()
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcmeTown]:
    """With an authority by ACME."""
    with AcmeTown(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture
def way(town: AcmeTown) -> Iterator[Way]:
    """To the authority of the town."""
    with Way(town.pebble, town.root) as made:
        yield made
