"""OPTIONS: what pingap answers itself, and how often it may be passed on (RFC 9110 sections 7.6.2 and 9.3.7)."""

from __future__ import annotations

import pytest

from pingap.config.model import Location
from pingap.stages.itinerary import OPTIONS
from pingap.stages.messages import Response, Routed
from pingap.stages.routing.core import Inward, Outcome, Refusal, Router
from tests.routing.script import ACCEPT, ROUTING, SID, lines, location, request, site, snapshot
from tests.routing.test_routing_actor import Script, script

__all__ = ["script"]


def route(target: str, headers: str, method: bytes = b"OPTIONS", **locations: Location) -> Outcome:
    router = Router(site(locations or {"l": location(enable_reverse_proxy_headers=False)}), {})
    return router.route(request(target, headers=headers, method=method), lambda: 1.0)


def is_here(outcome: Outcome) -> bool:
    """It goes no further, and belongs to no location."""
    assert isinstance(outcome, Inward)
    routed = outcome.routed
    return (outcome.destination, routed.client_ip, routed.location, routed.upstream) == (OPTIONS, "192.0.2.7", "", "")


@pytest.mark.parametrize(
    "where",
    [{}, {"path": "/"}, {"path": "~."}, {"rewrite": ".* /all"}, {"client_max_body_size": 1, "max_processing": 1}],
)
def test_the_question_about_the_whole_server_never_gets_into_a_location(where: dict[str, object]) -> None:
    assert is_here(route("*", "", l=location(**where)))


def test_it_is_answered_even_where_no_location_is() -> None:
    assert is_here(Router(snapshot(), {}).route(request("*", method=b"OPTIONS"), lambda: 1.0))


@pytest.mark.parametrize("zero", ["0", "00"])
def test_a_request_that_may_be_passed_on_no_further_ends_here(zero: str) -> None:
    assert is_here(route("/a", f"Max-Forwards: {zero}".lower()))


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (["max-forwards: 1"], ["max-forwards: 0"]),
        (["max-forwards: 10"], ["max-forwards: 9"]),
        (["max-forwards: 3", "max-forwards: 7"], ["max-forwards: 2"]),
        (["x: 1", "max-forwards: 2", "y: 2"], ["x: 1", "y: 2", "max-forwards: 1"]),
        ([], []),
        (["max-forwards: -1"], ["max-forwards: -1"]),
        (["max-forwards: 1, 2"], ["max-forwards: 1, 2"]),
        (["max-forwards: "], ["max-forwards: "]),
        (["max-forwards: 1000000000"], ["max-forwards: 1000000000"]),
        (["x-max-forwards: 5"], ["x-max-forwards: 5"]),
    ],
)
def test_each_proxy_counts_one_down(said: list[str], passed: list[str]) -> None:
    outcome = route("/a", "\n".join(said))
    assert isinstance(outcome, Routed)
    assert lines(outcome.headers) == ["host: example.com", *passed]


def test_of_other_methods_it_is_just_a_header() -> None:
    outcome = route("/a", "max-forwards: 0", b"GET")
    assert isinstance(outcome, Routed)
    assert "max-forwards: 0" in lines(outcome.headers)


def test_a_path_that_no_location_has_is_404_for_options_too() -> None:
    outcome = route("/b", "", l=location(path="/a"))
    assert isinstance(outcome, Refusal)
    assert outcome.error == "not_found"


async def test_the_answer_is_that_somebody_is_there(script: Script) -> None:
    script.commit(snapshot(l=location()))
    [(to, routed)] = script.receive(request("*", method=b"OPTIONS"))
    assert (to, type(routed)) == (ROUTING, Routed)
    (to, response), _ = script.receive(routed)
    assert to == ACCEPT
    assert isinstance(response, Response)
    assert (response.sid, response.status) == (SID, 200)
    assert (response.headers, response.length, response.body, response.ended) == (b"", 0, b"", True)
    assert response.report is not None
    assert (response.report.error, response.report.location) == ("", "")
