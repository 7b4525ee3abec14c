"""Via: who names this proxy to those behind it, and when a request has been here before (RFC 9110 section 7.6.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pingap.config.model import Snapshot
from pingap.stages.messages import Routed
from pingap.stages.routing.core import Outcome, Refusal, Router
from tests.routing.script import left, lines, location, request, snapshot


def named(via: str = "edge", **keys: Any) -> Snapshot:
    plain = snapshot(l=location(**keys))
    return replace(plain, servers={"s": replace(plain.servers["s"], via=via)})


def route(headers: str = "") -> Outcome:
    return Router(named(), {}).route(request("/a", headers=headers), lambda: 1.0)


def sent(headers: str = "", version: int = 11, via: str = "edge", **keys: Any) -> list[str]:
    """What the backend gets after Host."""
    return lines(left(named(via, **keys), request("/a", headers=headers, version=version)).headers)[1:]


@pytest.mark.parametrize(("version", "said"), [(10, "via: 1.0 edge"), (11, "via: 1.1 edge"), (20, "via: 2.0 edge")])
def test_the_line_says_who_and_what_the_client_spoke(version: int, said: str) -> None:
    assert sent(version=version) == [said]


def test_it_comes_behind_those_of_the_hops_before() -> None:
    before = ["via: 1.1 first, 1.0 second (old)", "via: HTTP/1.1 third"]
    assert sent("\n".join(before)) == [*before, "via: 1.1 edge"]


@pytest.mark.parametrize("seen", ["via: 1.1 edge", "via: 1.1 a, 2.0 EDGE (here)", "via: 1.1 a\nvia: HTTP/1.1 edge"])
def test_a_request_that_was_here_before_is_a_loop(seen: str) -> None:
    outcome = route(seen)
    assert isinstance(outcome, Refusal)
    assert outcome.error == "loop_detected"


@pytest.mark.parametrize("seen", ["via: 1.1 edges", "via: edge", "via: 1.1 a (1.1 edge)", "x-via: 1.1 edge", "via:"])
def test_other_names_are_no_loop(seen: str) -> None:
    assert isinstance(route(seen), Routed)


def test_without_a_name_nothing_is_added_and_nothing_looked_for() -> None:
    assert sent("via: 1.1 edge", via="") == ["via: 1.1 edge"]


def test_the_rules_of_the_location_have_the_last_word_about_it() -> None:
    assert sent("via: 1.1 first", proxy_set_headers=["Via:"]) == []
    assert sent("via: 1.1 first", proxy_add_headers=["Via: 1.1 extra"]) == ["via: 1.1 first", "via: 1.1 edge", "via: 1.1 extra"]
    assert sent("via: 1.1 first", proxy_set_headers=["X-Came: $http_via"])[-1] == "x-came: 1.1 first"
