"""What authorities say, in words for users; when they may be asked again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.acme.authority.directory import is_safe, read_directory
from pingap.stages.acme.authority.problems import in_words, is_final, read_problem
from pingap.stages.acme.authority.retrying import MOST, retry_at

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize(
    ("header", "detail", "when"),
    [
        (None, "", None),
        ("120", "", NOW + 120),
        ("0", "", NOW),
        ("Fri, 15 Jan 2027 08:02:00 GMT", "", NOW + 120),
        ("Fri, 15 Jan 2021 08:02:00 GMT", "", NOW),
        ("soon", "", None),
        ("-5", "", None),
        ("٣", "", None),
        ("9" * 30, "", None),
        ("99999999999", "", NOW + MOST),
        (None, "too many new orders recently: retry after 2027-01-15 08:10:00 UTC: see https://letsencrypt.org/docs/", NOW + 600),
        (None, "too many certificates, retry after 2027-01-15T08:10:00Z: see", NOW + 600),
        (None, "too many failed authorizations, Retry after 2027-01-15 08:10:00.123 UTC", NOW + 600),
        ("60", "retry after 2027-01-15 08:10:00 UTC", NOW + 600),
        ("900", "retry after 2027-01-15 08:10:00 UTC", NOW + 900),
        (None, "retry after 2027-02-31 08:10:00 UTC", None),
        (None, "retry after 3027-01-15 08:10:00 UTC", NOW + MOST),
    ],
)
def test_when_to_ask_again(header: str | None, detail: str, when: float | None) -> None:
    assert retry_at(header, detail, NOW) == when


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "detail", "title", "identifier", "value", "subproblems", "instance"]), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_whatever_is_said_becomes_one_line_or_nothing(value: Any) -> None:
    problem = read_problem(value)
    if problem is not None:
        assert len(in_words(problem, "example.test", "http-01").splitlines()) == 1
        is_final(problem)


def test_a_long_and_strange_text_is_made_short_and_plain() -> None:
    problem = read_problem({"type": "urn:ietf:params:acme:error:dns", "detail": "a\r\n\x1b[31mb\u202ec" + "x" * 5000})
    assert problem is not None
    said = in_words(problem, "example.test")
    assert said.startswith("example.test: the authority says: a [31mb cxxx") and len(said) < 900


def test_deep_and_many_subproblems_come_to_an_end() -> None:
    value: Any = {"type": "x", "detail": "inner"}
    for _ in range(50):
        value = {"type": "x", "detail": "outer", "subproblems": [value] * 3}
    problem = read_problem(value)
    assert problem is not None and len(in_words(problem)) < 1000


def test_problems_of_no_type_of_ours_are_told_as_they_are() -> None:
    problem = read_problem({"type": "about:blank", "title": "Forbidden", "status": 403})
    assert problem is not None and in_words(problem) == "the authority says: Forbidden (blank)" and not is_final(problem)
    problem = read_problem({"type": "urn:ietf:params:acme:error:serverInternal"})
    assert problem is not None and in_words(problem, "a.test") == "a.test: the authority says: no more than that was said (serverInternal)"


@pytest.mark.parametrize(
    ("url", "is_so"),
    [
        ("https://ca.example/dir", True),
        ("https://127.0.0.1:14000/dir", True),
        ("http://127.0.0.1:4001/", True),
        ("http://[::1]:4001/", True),
        ("http://localhost/", True),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost.evil.example/", False),
        ("http://127.0.0.1@evil.example/", False),
        ("http://ca.example/", False),
        ("file:///etc/passwd", False),
        ("//ca.example", False),
        ("https://", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_what_is_spoken_to_in_the_clear(url: str, is_so: bool) -> None:
    assert is_safe(url) is is_so


def test_a_directory_may_have_odd_things_in_it() -> None:
    plain = {"newNonce": "a", "newAccount": "b", "newOrder": "c"}
    assert read_directory({**plain, "meta": []}) == ("a", "b", "c", "", (), False)
    odd = read_directory({**plain, "abc": {}, "renewalInfo": "d", "meta": {"profiles": {"b": "", "a": 1}, "externalAccountRequired": True}})
    assert odd == ("a", "b", "c", "d", ("a", "b"), True)
    with pytest.raises(ValueError, match="renewalInfo"):
        read_directory({**plain, "renewalInfo": 7})
