"""The HTTP cache before the judges of others: http-cache-tests, the suite of cache-tests.fyi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cache_suite import COUNTS, CacheOrigin, Verdicts
from tests.e2e.harness import Pingap, site

CACHE = """
[plugins.cache]
category = "cache"
stale_if_error = "1m"
keep_set_cookie = true
"""
"""What the suite asks about, and the defaults do not do: four of its checks are about stale answers, three tests about Set-Cookie."""

FLOOR = {"required": 150, "optimal": 75}

PLACEMENTS = [
    pytest.param("colocated", (), id="colocated"),
    pytest.param("split", (), id="split"),
    pytest.param("split", ("--scale", "plugins=3"), id="three replicas"),
]

MANUAL = Path(__file__).parents[2] / "docs" / "caching.md"


def known() -> set[str]:
    """Ids of the tests that docs/caching.md says are missed, each with its reason."""
    section = MANUAL.read_text().partition("\n## Conformance\n")[2].partition("\n## ")[0]
    return set(re.findall(r"(?m)^\| `([a-zA-Z0-9=-]+)` \|", section))


@pytest.fixture(scope="module")
def cache_origin() -> Iterator[CacheOrigin]:
    with CacheOrigin() as origin:
        yield origin


@pytest.mark.slow
@pytest.mark.parametrize(("placement", "up"), PLACEMENTS)
def test_the_suite_is_passed(cache_origin: CacheOrigin, placement: str, up: tuple[str, ...]) -> None:
    """But for what the manual names. Its counts are a floor, whatever the manual says."""
    with Pingap(site([cache_origin.port], location='plugins = ["cache"]', more=CACHE), placement, up=up) as instance:
        verdicts = cache_origin.judge_patiently(instance.port, known())
    print(verdicts.table())
    for kind, most in COUNTS.items():
        assert verdicts.count(kind) == most
        assert verdicts.passed(kind) >= FLOOR[kind], verdicts.table()
        assert {miss.id for miss in verdicts.misses(kind)} <= known(), verdicts.table()


def told(id: str, fault: str = "", *needs: str, kind: str = "required") -> dict[str, object]:
    return {"id": id, "suite": "some", "name": f"it does {id}", "kind": kind, "needs": list(needs), "fault": fault}


# -- how it is counted ----------------------------------------------------------------------------------------


def test_what_depends_on_a_failed_test_has_not_passed() -> None:
    """However long the chain, and whatever the kinds."""
    verdicts = Verdicts(
        [told("c", "", "b"), told("b", "", "a", kind="check"), told("a", "Assertion: no"), told("d"), told("e", kind="optimal")]
    )
    assert (verdicts.passed("required"), verdicts.count("required"), verdicts.passed("optimal"), verdicts.passed("check")) == (1, 3, 1, 0)
    assert verdicts.table().splitlines() == [
        "required    1 of 3",
        "optimal     1 of 1",
        "check       0 of 1",
        "required: c: depends on b",
        "required: a: Assertion: no",
    ]
    later = verdicts.with_later([told("a")])
    assert (later.passed("required"), later.count("required")) == (3, 3)
