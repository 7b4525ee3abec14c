"""One payload, pingap, and several servers behind it: what they saw is what pingap answered and what the payload says."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.smuggling.http2_side import Http2Outcome
from tests.smuggling.lab import Door, Lab
from tests.smuggling.payloads_heads import ends, hosts, methods, versions
from tests.smuggling.payloads_hops import rows, upgrade
from tests.smuggling.payloads_http2 import FAMILIES as HTTP2_FAMILIES
from tests.smuggling.suite import FAMILIES, PAYLOADS, RAW, RAW_H11, Outcome, run_all
from tests.smuggling.verdict import of_origins

pytestmark = pytest.mark.timeout(240)
"""The fixtures say all payloads at once: about 10 s, several times that on a machine that is busy with other things."""


def _of(family: str, outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.payload.family == family]


def _wrong(outcomes: list[Outcome] | list[Http2Outcome]) -> list[str]:
    return [f"{outcome.payload.name} at {outcome.run.door.name}: {'; '.join(outcome.wrong)}" for outcome in outcomes if outcome.wrong]


def _unexpected(outcomes: list[Outcome] | list[Http2Outcome]) -> list[str]:
    return [
        f"{outcome.payload.name} at {outcome.run.door.name}: {outcome.verdict}, not {outcome.payload.verdict}: {outcome.run.answers}"
        for outcome in outcomes
        if not outcome.is_expected
    ]


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_no_origin_disagrees_about_a_payload(outcomes: list[Outcome], family: str) -> None:
    assert _of(family, outcomes)
    assert _wrong(_of(family, outcomes)) == []


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_a_payload_passes_or_is_refused_as_it_should(outcomes: list[Outcome], family: str) -> None:
    assert _unexpected(_of(family, outcomes)) == []


def test_both_http1_engines_come_to_the_same_verdict(outcomes: list[Outcome]) -> None:
    verdicts: dict[tuple[str, str], dict[Door, tuple[str, int]]] = defaultdict(dict)
    for outcome in outcomes:
        served = sum(not answer.is_refusal for answer in outcome.run.answers)
        verdicts[outcome.payload.family, outcome.payload.name][outcome.run.door] = (outcome.verdict, served)
    both = {name: of for name, of in verdicts.items() if RAW in of and RAW_H11 in of}
    assert len(both) == sum(not payload.only_raw for payload in PAYLOADS)
    assert {name: of for name, of in both.items() if of[RAW] != of[RAW_H11]} == {}


@pytest.mark.parametrize("family", [family.name for family in HTTP2_FAMILIES])
def test_nothing_is_smuggled_from_http_2_to_http_1(http2_outcomes: list[Http2Outcome], family: str) -> None:
    """With both HTTP/2 engines, before every origin."""
    of = [outcome for outcome in http2_outcomes if outcome.payload.family == family]
    assert of
    assert _wrong(of) == []
    assert _unexpected(of) == []


@pytest.mark.parametrize("engine", ["h2", "ngh2"])
def test_a_server_that_speaks_http_2_as_well_is_no_easier_to_fool(lab: Lab, engine: str) -> None:
    payloads = [payload for family in (ends, hosts, methods, versions, rows) for payload in family.payloads.values()]
    outcomes = run_all(lab, [payload for payload in payloads if payload.name != "HTTP/2 preface"], [Door("raw", http2=engine)])
    assert _wrong(outcomes) == []
    assert _unexpected(outcomes) == []


@pytest.mark.parametrize("engine", ["h2", "ngh2"])
def test_an_upgrade_to_h2c_carries_one_request_and_none_that_is_text_behind_it(lab: Lab, engine: str) -> None:
    """What follows the head is HTTP/2 or nothing. The probe of every run is text, so the connection ends there, perhaps too
    early for the request itself."""
    payloads = [payload for payload in upgrade.payloads.values() if "h2c" in payload.name]
    outcomes = run_all(lab, payloads, [Door("raw", http2=engine)])
    upgraded = [outcome for outcome in outcomes if [answer.status for answer in outcome.run.answers][:1] == [101]]
    assert upgraded
    assert [outcome.wrong for outcome in outcomes if outcome not in upgraded and outcome.wrong] == []
    for outcome in upgraded:
        seen = [record.request for record in lab.records("raw", outcome.run.mark)]
        assert [request.target for request in seen] in ([], [b"/" + outcome.run.mark]), outcome.payload.name
        assert not any(request.all(name) for request in seen for name in (b"upgrade", b"http2-settings", b"connection"))


def test_what_the_origins_saw_in_all_is_clean_and_the_same_by_the_book(
    lab: Lab, outcomes: list[Outcome], http2_outcomes: list[Http2Outcome]
) -> None:
    """Last in the file: no stray byte on any connection, no request of nobody, and h11 reads what the recorders kept as they did."""
    assert of_origins(lab) == []
    # Or else nobody would have met what another had left on a connection.
    assert len(lab.origins["raw"].records) > 3 * len(lab.origins["raw"].streams)
