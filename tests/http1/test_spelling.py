"""Header names as they are written: what a parser says of them, and what a writer makes of that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.rules import SPECIAL, AnswerHead, HeadLimits, RequestHead
from pingap.stages.http1.spelling import respelled, spelled_in, usual
from tests.http1.heads import ALL, LIMITS, crlf, every_engine, get, ok, request, response

KEEPING = LIMITS._replace(keeps_case=True)
NAMES = st.text("abcXYZ-_!09", min_size=1, max_size=8).filter(lambda name: name.lower().encode() not in SPECIAL)
LINES = st.lists(st.tuples(NAMES, st.sampled_from(["", "b", "X-A: b", "Host:"])), max_size=8, unique_by=lambda line: line[0].lower())


def lines_of(pairs: list[tuple[str, str]]) -> list[bytes]:
    return [f"{name}: {value}".encode() for name, value in pairs]


@given(LINES)
def test_a_request_in_any_spelling_is_written_in_the_same(pairs: list[tuple[str, str]]) -> None:
    head = get(*lines_of(pairs))
    for engine in ALL.values():
        parsed = request(engine, head, KEEPING)
        assert isinstance(parsed, RequestHead)
        assert parsed.headers == parsed.headers.replace(b"Host: a", b"host: a")
        assert respelled(parsed.headers, parsed.spelled) == b"".join(line + b"\r\n" for line in head.split(b"\r\n")[1:-2])


@given(LINES)
def test_an_answer_in_any_spelling_is_written_in_the_same(pairs: list[tuple[str, str]]) -> None:
    head = ok(*lines_of(pairs))
    for engine in ALL.values():
        parsed = response(engine, head, KEEPING)
        assert isinstance(parsed, AnswerHead)
        assert respelled(parsed.headers, parsed.spelled) == b"".join(line + b"\r\n" for line in head.split(b"\r\n")[1:-2])


@given(LINES, st.lists(NAMES, max_size=5))
def test_spellings_change_the_case_of_names_and_nothing_else(pairs: list[tuple[str, str]], spelled: list[str]) -> None:
    block = b"".join(line.lower() + b"\r\n" for line in lines_of(pairs))
    written = respelled(block, tuple(name.encode() for name in spelled))
    assert written.lower() == block
    assert [line.partition(b":")[2] for line in written.split(b"\r\n")] == [line.partition(b":")[2] for line in block.split(b"\r\n")]
    assert respelled(block + b"\r\n", ()) == respelled(block, ()) + b"\r\n", "with its empty line"


@every_engine
def test_nothing_is_collected_for_those_who_do_not_want_it(engine: HeadParser) -> None:
    for limits, spelled in [(LIMITS, ()), (KEEPING, (b"HOST", b"x-a", b"X-B")), (HeadLimits(), ())] * 3:  # remembered heads, too
        parsed = request(engine, crlf(b"GET / HTTP/1.1", b"HOST: a", b"x-a: 1", b"X-B: 2"), limits)
        assert isinstance(parsed, RequestHead)
        assert parsed.spelled == spelled
        answer = response(engine, ok(b"HOST-A: a", b"x-a: 1", b"X-B: 2"), limits)
        assert isinstance(answer, AnswerHead)
        assert answer.spelled == tuple(name.replace(b"HOST", b"HOST-A") for name in spelled)


def test_of_several_spellings_the_last_is_taken() -> None:
    head = get(b"X-a: 1", b"x-A: 2", b"X-a: 3")
    assert spelled_in(head) == (b"Host", b"X-a")
    assert respelled(b"x-a: 1\r\nx-a: 2\r\n", (b"X-a", b"X-A")) == b"X-A: 1\r\nX-A: 2\r\n"


def test_values_and_the_start_line_are_no_names() -> None:
    assert spelled_in(crlf(b"GET http://A:1/ HTTP/1.1", b"Host: B:2", b"X: Y: Z")) == (b"Host", b"X")


@pytest.mark.parametrize(
    "name", [b"Host", b"X-Forwarded-For", b"ETag", b"WWW-Authenticate", b"Sec-WebSocket-Accept", b"TE", b"X_odd", b"-", b"X--A", b"9p-A"]
)
def test_what_nobody_has_spelled_is_written_as_usual(name: bytes) -> None:
    assert usual(name.lower()) == name
    assert usual(name.lower() * 40).lower() == name.lower() * 40
