"""bench/outages tells what clients saw of an outage: a short one, of pingap alone."""

from __future__ import annotations

import pytest

from bench.outages.__main__ import run
from tests.kit.peers import needs

pytestmark = pytest.mark.alone


def test_nobody_sees_that_a_backend_is_killed_nor_that_it_answers_500() -> None:
    needs("nginx")
    for scenario in ("killed", "500s"):
        row = run(scenario, "pingap split", rate=100, seconds=6)
        assert row.figures is not None, row.note
        assert (row.figures.requests, row.figures.errors) == (600, 0), row.line()
