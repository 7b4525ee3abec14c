"""The same in one process: a smaller selection, for what parses and what writes is the same code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.peers import needs
from tests.smuggling.http2_side import Http2Outcome
from tests.smuggling.lab import Door, Lab
from tests.smuggling.payloads_chunks import funky, trailers
from tests.smuggling.payloads_framing import zero
from tests.smuggling.payloads_hops import expect, hops, rows
from tests.smuggling.payloads_http2 import PAYLOADS as HTTP2_PAYLOADS
from tests.smuggling.suite import Outcome, run_all, run_http2
from tests.smuggling.verdict import of_origins

pytestmark = pytest.mark.timeout(240)

DOORS = [Door("raw"), Door("nginx")]
HTTP2_DOORS = [Door("raw", http2="h2"), Door("raw", http2="ngh2")]
CHOSEN = [payload for family in (funky, trailers, zero, expect, hops, rows) for payload in family.payloads.values()]


@pytest.fixture(scope="module")
def colocated() -> Iterator[Lab]:
    needs("nginx")
    with Lab(DOORS + HTTP2_DOORS, "colocated") as lab:
        yield lab


def test_nothing_is_smuggled_where_all_stages_are_one_process(colocated: Lab) -> None:
    outcomes: list[Outcome | Http2Outcome] = []
    outcomes += run_all(colocated, CHOSEN[::2], DOORS)
    outcomes += run_http2(colocated, HTTP2_PAYLOADS[::3], HTTP2_DOORS)
    assert [(outcome.payload.name, outcome.run.door.name, outcome.wrong) for outcome in outcomes if outcome.wrong] == []
    assert [(outcome.payload.name, outcome.run.door.name, outcome.verdict) for outcome in outcomes if not outcome.is_expected] == []
    assert of_origins(colocated) == []
