"""Heads that are remembered whole: the same verdict every time, none of a secret, none under another server's limits."""

from __future__ import annotations

import pytest

from pingap.stages.http1 import lines
from pingap.stages.http1.engine import ENGINES
from pingap.stages.http1.rules import HeadLimits, ProtocolError

ENGINE = ENGINES["httptools"]
WIDE = HeadLimits()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_lines", "_requests", "_responses"):
        monkeypatch.setattr(lines, name, {})


def request(*more: bytes, target: bytes = b"/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a.example\r\n%b\r\n" % (target, b"".join(line + b"\r\n" for line in more))


def test_a_head_reads_the_same_however_often_it_comes() -> None:
    head = request(b"Accept: */*", b"Connection: close", b"Content-Length: 3")
    first = ENGINE.parse_request(head, WIDE)
    assert all(ENGINE.parse_request(head, WIDE) == first for _ in range(4))
    assert head in lines._requests
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\n"
    first_answer = ENGINE.parse_response(answer, WIDE)
    assert all(ENGINE.parse_response(answer, WIDE) == first_answer for _ in range(4))
    assert answer in lines._responses


@pytest.mark.parametrize("line", [b"Cookie: session=1", b"Authorization: Basic eA==", b"Proxy-Authorization: Basic eA=="])
def test_a_head_with_a_secret_is_never_remembered(line: bytes) -> None:
    head = request(line)
    for _ in range(4):
        assert line.split(b" ")[1] in ENGINE.parse_request(head, WIDE).headers
    assert lines._requests == {}
    assert not any(line in known for known in lines._lines)


def test_what_one_server_takes_another_with_closer_limits_refuses() -> None:
    head = request(b"A: 1", b"B: 2", target=b"/long/target")
    for _ in range(3):
        ENGINE.parse_request(head, WIDE)
    for limits, kind in (
        (HeadLimits(headers=2), "headers_too_large"),
        (HeadLimits(target=4), "target_too_long"),
        (HeadLimits(head=20), "headers_too_large"),
    ):
        with pytest.raises(ProtocolError) as refused:
            ENGINE.parse_request(head, limits)
        assert refused.value.kind in (kind, "target_too_long")


def test_memory_is_bounded_in_number_and_size() -> None:
    for number in range(3 * lines.HEADS):
        for _ in range(2):
            ENGINE.parse_request(request(target=b"/%d" % number), WIDE)
    assert len(lines._requests) <= lines.HEADS
    long = request(*(b"X-%d: %b" % (i, b"v" * 100) for i in range(12)))
    for _ in range(3):
        ENGINE.parse_request(long, WIDE)
    assert long not in lines._requests
