"""What becomes invalid by a request that has changed something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.invalidating import is_unsafe, targets


def of(*lines: str, method: bytes = b"POST", status: int = 200, host: bytes = b"a.org", target: bytes = b"/x/y?q") -> list[bytes]:
    headers = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    found = targets(method, status, b"https", host, target, headers)
    assert all(one == host for one, _ in found)
    return [there for _, there in found]


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"M-SEARCH", b"FOO", b"PURGE", b"get"])
@pytest.mark.parametrize(
    ("status", "is_done"), [(200, True), (204, True), (303, True), (399, True), (400, False), (500, False), (101, False)]
)
def test_what_may_have_changed_is_invalid_unless_it_failed(method: bytes, status: int, is_done: bool) -> None:
    assert is_unsafe(method)
    assert of(method=method, status=status) == ([b"/x/y?q"] if is_done else [])


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"])
def test_reading_changes_nothing(method: bytes) -> None:
    assert not is_unsafe(method) and of("location: /z", method=method) == []


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("/z", b"/z"),
        ("z?a=b#c", b"/x/z?a=b"),
        ("../z", b"/z"),
        ("/a/../../b", b"/b"),
        ("https://a.org/z", b"/z"),
        ("https://A.ORG:443/z", b"/z"),
        ("//a.org/z", b"/z"),
        ("https://a.org", b"/"),
        ("?a", b"/x/y?a"),
        ("/é", "/é".encode("latin-1")),
        ("/%C3%A9", b"/%C3%A9"),
        # Of others.
        ("http://a.org/z", None),
        ("https://b.org/z", None),
        ("https://a.org:8443/z", None),
        ("https://u@a.org/z", None),
        ("//b.org/z", None),
        ("https://[::1", None),
        ("https://a.org:x/z", None),
        ("javascript:alert(1)", None),
        ("/" + "z" * 9000, None),
    ],
)
@pytest.mark.parametrize("name", ["location", "content-location"])
def test_where_an_answer_points_to(name: str, reference: str, there: bytes | None) -> None:
    assert of(f"{name}: {reference}") == [b"/x/y?q"] + ([there] if there is not None else [])


def test_both_and_each_once() -> None:
    assert of("location: /a", "content-location: /b") == [b"/x/y?q", b"/a", b"/b"]
    assert of("location: /a", "content-location: /a") == [b"/x/y?q", b"/a"]
    assert of("location: /x/y?q") == [b"/x/y?q"]


def test_a_port_and_an_address_are_a_part_of_the_origin() -> None:
    assert of("location: https://a.org:8443/z", host=b"a.org:8443") == [b"/x/y?q", b"/z"]
    assert of("location: https://a.org/z", host=b"a.org:8443") == [b"/x/y?q"]
    assert of("location: https://[::1]/z", host=b"[::1]") == [b"/x/y?q", b"/z"]


@given(st.binary(max_size=60), st.binary(max_size=20), st.binary(max_size=20))
def test_whatever_is_written_there(reference: bytes, host: bytes, target: bytes) -> None:
    targets(b"POST", 200, b"https", host, b"/" + target, b"location: " + reference.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n")
