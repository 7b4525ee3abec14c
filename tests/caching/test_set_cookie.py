"""What becomes of Set-Cookie in an answer that could be stored."""

from __future__ import annotations

import pytest

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.storing import Storable, Unstorable, judge
from pingap.stages.caching.validating import freshened
from pingap.stages.headers import values_of

ANSWER = b'cache-control: max-age=60\r\netag: "1"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n'


def judged(policy: Policy, answer: bytes = ANSWER) -> Storable | Unstorable:
    return judge(policy, b"key", b"GET", b"", 200, answer, 0, 1.0, 1.0, 1e9)


def entry(policy: Policy) -> CacheEntry:
    verdict = judged(policy)
    assert isinstance(verdict, Storable)
    return verdict.entry


def test_by_default_the_answer_is_not_stored() -> None:
    assert judged(Policy()) == Unstorable("Set-Cookie", True)
    assert isinstance(judged(Policy(), ANSWER.replace(b"max-age=60", b'max-age=60, private="set-cookie"')), Storable)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(strip_set_cookie=True), []),
        (Policy(keep_set_cookie=True), [b"a=1", b"b=2"]),
        (Policy(strip_set_cookie=True, keep_set_cookie=True), []),
    ],
)
def test_it_is_stripped_or_kept_as_the_operator_says(policy: Policy, kept: list[bytes]) -> None:
    assert values_of(entry(policy).headers, b"set-cookie") == kept


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(strip_set_cookie=True), []),
        (Policy(keep_set_cookie=True), [b"a=2"]),
        (Policy(strip_set_cookie=True, keep_set_cookie=True), []),
    ],
)
def test_a_304_sets_no_cookie_that_an_answer_could_not(policy: Policy, kept: list[bytes]) -> None:
    fresh = freshened(policy, entry(policy), b"set-cookie: a=2\r\n", 2.0, 2.0, 1e9)
    assert fresh is not None
    assert values_of(fresh.headers, b"set-cookie") == kept
    strict = freshened(Policy(), entry(policy), b"set-cookie: a=2\r\n", 2.0, 2.0, 1e9)  # the operator has changed his mind since
    assert strict is not None
    assert b"a=2" not in values_of(strict.headers, b"set-cookie")
