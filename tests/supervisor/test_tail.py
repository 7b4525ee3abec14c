"""What `pingap logs` and `pingap tap` let through."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.bus.kinds import LOG
from pingap.observability.records import Access
from pingap.tail import RecordFilter, Requests, status_filter
from tests.observability.samples import access


def record(**more: Any) -> Access:
    envelope = access(**more)
    return Access(*envelope[: len(Access._fields)])


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (RecordFilter(), 2),
        (RecordFilter("debug"), 3),
        (RecordFilter("error"), 1),
        (RecordFilter("debug", most=2), 2),
        (RecordFilter("debug", most=0), 0),
        (RecordFilter("debug", stages=frozenset(["config"])), 1),
        (RecordFilter("debug", stages=frozenset(["upstream.1"])), 1),
        (RecordFilter("debug", stages=frozenset(["upstream.0"])), 0),
        (RecordFilter("debug", since=20.0), 2),
    ],
)
def test_logs(wanted: RecordFilter, count: int) -> None:
    records: list[tuple[Any, ...]] = [
        (LOG, 10.0, "debug", "accept", 0, "one", {}),
        (LOG, 20.0, "info", "config", 0, "two", {}),
        (LOG, 30.0, "error", "upstream", 1, "three", {}),
    ]
    assert len(wanted.newest(records)) == count
    if wanted.most:
        assert wanted.newest(records)[-1] is records[-1]


def test_requests_are_records_of_accept_at_info() -> None:
    assert RecordFilter().has(access()) and RecordFilter(stages=frozenset(["accept"])).has(access())
    assert not RecordFilter("warn").has(access()) and not RecordFilter(stages=frozenset(["upstream"])).has(access())


@pytest.mark.parametrize(
    ("wanted", "is_shown"),
    [
        (Requests(), True),
        (Requests(location="web"), True),
        (Requests(location="we"), False),
        (Requests(upstream="api"), True),
        (Requests(upstream="10.0.0.1:80"), True),
        (Requests(upstream="other"), False),
        (Requests(slower_than=0.5), True),
        (Requests(slower_than=1.5), False),
        (Requests(has_status=status_filter("2xx")), True),
        (Requests(has_status=status_filter("5xx,404")), False),
        (Requests(path="/a"), True),
        (Requests(path="/b"), False),
        (Requests(host="*.example.com"), True),
        (Requests(host="example.com"), False),
    ],
)
def test_tap(wanted: Requests, is_shown: bool) -> None:
    one = record(
        location="web", upstream="api", addr="10.0.0.1:80", started=1.0, ended=2.0, status=200, target=b"/a?b", host=b"www.example.com"
    )
    assert wanted.has(one) is is_shown


@pytest.mark.parametrize(
    ("wanted", "is_shown"),
    [
        (Requests(host="[2001:db8::1]"), True),
        (Requests(host="[2001:DB8::1]:8443"), True),
        (Requests(host="[2001:db8::2]"), False),
        (Requests(upstream="[fe80::1%eth0]:80"), True),
        (Requests(upstream="[fe80::1]:80"), False),
    ],
)
def test_tap_knows_addresses_of_ipv6(wanted: Requests, is_shown: bool) -> None:
    assert wanted.has(record(host=b"[2001:db8::1]:8443", addr="[fe80::1%eth0]:80")) is is_shown


def test_tap_knows_unix_sockets() -> None:
    assert Requests(upstream="unix:/run/app.sock").has(record(addr="unix:/run/app.sock"))
