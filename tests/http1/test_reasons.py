"""Reason phrases of backends: which are passed on, and that none can be more than one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.reasons import LONGEST, REASONS, reason_of
from pingap.stages.http1.render import STATUS_LINES, status_line
from pingap.stages.http1.rules import AnswerHead
from tests.http1.heads import ALL, crlf, every_engine, response, rows

KEPT = rows(
    ("own", b"HTTP/1.1 200 Script output follows", b"Script output follows"),
    ("of another status", b"HTTP/1.1 200 Not Found", b"Not Found"),
    ("in other case", b"HTTP/1.1 200 ok", b"ok"),
    ("in HTTP 1.0", b"HTTP/1.0 404 No such page", b"No such page"),
    ("in Latin-1", b"HTTP/1.1 404 nicht m\xf6glich", b"nicht m\xf6glich"),
    ("with a colon", b"HTTP/1.1 200 X-A: b", b"X-A: b"),
    ("like a status line", b"HTTP/1.1 200 HTTP/1.1 500", b"HTTP/1.1 500"),
    ("of a status of no class", b"HTTP/1.1 777 Jackpot", b"Jackpot"),
    ("of a status without a body", b"HTTP/1.1 204 Deleted", b"Deleted"),
    ("of an interim answer", b"HTTP/1.1 110 Still at it", b"Still at it"),
    ("of the greatest length", b"HTTP/1.1 200 " + b"x" * LONGEST, b"x" * LONGEST),
    ("with white space around it", b"HTTP/1.1 200  ok ", b"ok"),
    ("the usual one", b"HTTP/1.1 404 Not Found", b""),
    ("the usual one of no class", b"HTTP/1.1 777 Unknown", b""),
    ("empty", b"HTTP/1.1 200 ", b""),
    ("none, and no space", b"HTTP/1.1 200", b""),
    ("blank", b"HTTP/1.1 200    ", b""),
    ("too long", b"HTTP/1.1 200 " + b"x" * (LONGEST + 1), b""),
    ("with a tab", b"HTTP/1.1 200 a\tb", b""),
    ("with a line end of Unicode", b"HTTP/1.1 200 a\x85b", b""),
    ("in UTF-8 beyond Latin-1 text", "HTTP/1.1 200 ✓".encode(), b""),
)


@every_engine
@pytest.mark.parametrize(("line", "reason"), KEPT)
def test_a_reason_is_taken_if_it_is_text_and_not_the_usual_one(engine: HeadParser, line: bytes, reason: bytes) -> None:
    head = crlf(line, b"X-A: b")
    for _ in range(3):  # the second time its line is known, the third time all of it
        parsed = response(engine, head)
        assert isinstance(parsed, AnswerHead)
        assert (parsed.status, parsed.reason) == (int(line[9:12]), reason)


@given(status=st.integers(200, 999), reason=st.binary(max_size=40) | st.sampled_from(list(REASONS.values())))
def test_whatever_is_passed_on_is_one_line_that_reads_back_as_the_same_answer(status: int, reason: bytes) -> None:
    for engine in ALL.values():
        parsed = response(engine, crlf(b"HTTP/1.1 %d %b" % (status, reason), b"X-A: b"))
        if isinstance(parsed, AnswerHead):
            line = status_line(parsed.status, parsed.reason)
            assert line.count(b"\r") == line.count(b"\n") == 1 and len(line.decode("latin-1").splitlines()) == 1
            assert len(line) <= LONGEST + 15
            for reader in ALL.values():
                again = response(reader, line + b"x-a: b\r\n\r\n")
                assert isinstance(again, AnswerHead)
                assert (again.status, again.headers, again.reason) == (parsed.status, b"x-a: b\r\n", parsed.reason)


def test_without_a_reason_of_its_own_a_status_has_the_usual_one() -> None:
    for status, line in STATUS_LINES.items():
        assert status_line(status, b"") == line
        assert reason_of(line[:-2]) == b""
