"""Checks out of turn are few; an outage of many is told once."""

from __future__ import annotations

from pingap.stages.discovery.downs import Downs
from pingap.stages.discovery.urgent import MOST, UrgentChecks


def test_a_backend_is_checked_out_of_turn_once_a_second() -> None:
    urgent = UrgentChecks()
    assert urgent.let("api", "a:1", 10.0)
    assert not urgent.let("api", "a:1", 10.9)
    assert urgent.let("web", "a:1", 10.9), "there it may be checked otherwise"
    assert urgent.let("api", "a:1", 11.0)


def test_of_all_backends_so_many_a_second() -> None:
    urgent = UrgentChecks()
    assert sum(urgent.let("api", f"{number}", 1 + number / 10_000) for number in range(5000)) == MOST
    assert sum(urgent.let("api", f"{number}", 3.0) for number in range(5000)) == MOST


def test_what_has_turned_is_told_once_and_what_turned_back_meanwhile_is_not() -> None:
    downs, there = Downs(), {"a", "b", "c", "d"}
    downs.begin(["d"])
    assert downs.turned(["d"], there) == ([], []), "the life before has told it"
    assert downs.turned(["c", "a", "d"], there) == (["a", "c"], [])
    assert downs.turned(["c", "a", "d"], there) == ([], [])
    assert downs.turned(["b"], {"a", "b", "c"}) == (["b"], ["a", "c"]), "of one that has left nothing is told"
    assert downs.turned([], there) == ([], ["b"])
