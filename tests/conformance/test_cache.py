"""The HTTP cache before the judges of others: http-cache-tests, the suite of cache-tests.fyi."""

from __future__ import annotations

from tests.conformance.cache_suite import Verdicts


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
