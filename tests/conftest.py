"""For all tests: how hypothesis behaves on machines that are busy with other things, and which tests are quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pingap.form import form

# A deadline for one example measures the machine, not the code. In CI the same examples come every time: what it
# finds must be about the change it looks at, and other runs go on looking for new ones.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI")))
settings.load_profile("here")

# -- quick tests: those that start no process ------------------------------------------

HERE = Path(__file__).parent
FULL = {"conformance", "e2e", "smuggling"}
"""Folders whose tests all look at a whole pingap. Elsewhere a test that starts a process says so with the marker."""

STARTS = {"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"}
_started: list[str] = []
"""What the running test has started, as audit events."""
TRIAL = "pingap.stages.plugins.trial"
"""A child that tries a user's plugin does not count: it takes a moment, and is a bare fork where it can be."""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event in STARTS and TRIAL not in str(arguments):
        _started.append(f"{event} {arguments[:2]}")


sys.addaudithook(_audit)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests that start no process, take no seconds and may run beside others")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("quick") and collection_path.parent == HERE and collection_path.name in FULL else None


def pytest_configure(config: pytest.Config) -> None:
    if form().is_compiled:  # mypyc passes an exception on to what a coroutine awaits in the old way, from Python 3.12 on with a warning
        config.addinivalue_line("filterwarnings", r"ignore:the \(type, exc, tb\) signature of throw:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in FULL:
            item.add_marker("processes")
        if form().is_compiled and item.get_closest_marker("interpreted"):
            item.add_marker(pytest.mark.skip("it replaces what the compiled form has bound already"))
    if config.getoption("quick"):
        slow = {item for item in items if any(map(item.get_closest_marker, ("processes", "alone", "slow")))}
        config.hook.pytest_deselected(items=list(slow))
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Holds the marker complete, so that `make quick` stays what it says."""
    yield
    if _started and not item.get_closest_marker("processes"):
        pytest.fail(f"it starts a process and has no marker that says so: {_started}", pytrace=False)
