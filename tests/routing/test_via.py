"""Via: who names this proxy to those behind it, and when a request has been here before (RFC 9110 section 7.6.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.messages import Routed
from stages.routing.core import Outcome, Refused, Router
from tests.routing.script import lines, location, request, snapshot


def route(headers: str = "", version: int = 11, via: str = "edge") -> Outcome:
    plain = snapshot(l=location())
    named = replace(plain, servers={"s": replace(plain.servers["s"], via=via)})
    return Router(named, {}).route(request("/a", headers=headers, version=version), lambda: 1.0)


@pytest.mark.parametrize(("version", "said"), [(10, "via: 1.0 edge"), (11, "via: 1.1 edge"), (20, "via: 2.0 edge")])
def test_the_line_says_who_and_what_the_client_spoke(version: int, said: str) -> None:
    outcome = route(version=version)
    assert isinstance(outcome, Routed)
    assert lines(outcome.headers) == ["host: example.com", said]


def test_it_comes_behind_those_of_the_hops_before() -> None:
    outcome = route("via: 1.1 first, 1.0 second (old)\nvia: HTTP/1.1 third")
    assert isinstance(outcome, Routed)
    assert lines(outcome.headers)[1:] == ["via: 1.1 first, 1.0 second (old)", "via: HTTP/1.1 third", "via: 1.1 edge"]


@pytest.mark.parametrize("seen", ["via: 1.1 edge", "via: 1.1 a, 2.0 EDGE (here)", "via: 1.1 a\nvia: HTTP/1.1 edge"])
def test_a_request_that_was_here_before_is_a_loop(seen: str) -> None:
    outcome = route(seen)
    assert isinstance(outcome, Refused)
    assert outcome.error == "loop_detected"


@pytest.mark.parametrize("seen", ["via: 1.1 edges", "via: edge", "via: 1.1 a (1.1 edge)", "x-via: 1.1 edge", "via:"])
def test_other_names_are_no_loop(seen: str) -> None:
    assert isinstance(route(seen), Routed)


def test_without_a_name_nothing_is_added_and_nothing_looked_for() -> None:
    outcome = route("via: 1.1 edge", via="")
    assert isinstance(outcome, Routed)
    assert lines(outcome.headers) == ["host: example.com", "via: 1.1 edge"]
