"""The lab and what came of saying everything to it; at the end of the run, the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import pytest_runtest_makereport
from tests.kit.peers import needs
from tests.smuggling.http2_side import Http2Outcome
from tests.smuggling.lab import Lab
from tests.smuggling.payloads_http2 import PAYLOADS as HTTP2_PAYLOADS
from tests.smuggling.suite import DOORS, HTTP2_DOORS, PAYLOADS, Outcome, run_all, run_http2
from tests.smuggling.table import table

__all__ = ["pytest_runtest_makereport"]

_shown: list[Outcome | Http2Outcome] = []


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs("nginx")
    with Lab(DOORS + HTTP2_DOORS) as lab:
        yield lab


@pytest.fixture(scope="module")
def outcomes(lab: Lab) -> list[Outcome]:
    found = run_all(lab, PAYLOADS, DOORS)
    _shown.extend(found)
    return found


@pytest.fixture(scope="module")
def http2_outcomes(lab: Lab) -> list[Http2Outcome]:
    found = run_http2(lab, HTTP2_PAYLOADS, HTTP2_DOORS)
    _shown.extend(found)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _shown:
        terminalreporter.section("smuggling")
        terminalreporter.write_line(table(_shown))
