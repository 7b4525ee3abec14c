"""The engines, and the words in which the tests speak of what they say."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pingap.stages.http1.engine import ENGINES, HeadParser, Httptools
from pingap.stages.http1.rules import AnswerHead, HeadLimits, ProtocolError, RequestHead

LIMITS: Final = HeadLimits()


class Whole:
    """llhttp alone, without the quick way through ordinary heads that comes before it."""

    def __init__(self) -> None:
        engine = Httptools()
        self.parse_request = engine.parse_whole_request
        self.parse_response = engine.parse_whole_response


ALL: Final[dict[str, HeadParser]] = {"httptools": ENGINES["httptools"], "llhttp": Whole(), "h11": ENGINES["h11"]}

every_engine = pytest.mark.parametrize("engine", ALL.values(), ids=ALL)


def crlf(*lines: bytes) -> bytes:
    """A head of these lines, with its empty line."""
    return b"\r\n".join((*lines, b"", b""))


def get(*lines: bytes) -> bytes:
    """The head of `GET / HTTP/1.1` with a Host and these header lines."""
    return crlf(b"GET / HTTP/1.1", b"Host: a.example", *lines)


def post(*lines: bytes) -> bytes:
    """The same for POST."""
    return crlf(b"POST / HTTP/1.1", b"Host: a.example", *lines)


def ok(*lines: bytes) -> bytes:
    """A response head `HTTP/1.1 200 OK` with these header lines."""
    return crlf(b"HTTP/1.1 200 OK", *lines)


def request(engine: HeadParser, head: bytes, limits: HeadLimits = LIMITS) -> RequestHead | str:
    """The parsed head, or the kind of its refusal. Any other exception is a bug and fails the test."""
    try:
        return engine.parse_request(head, limits)
    except ProtocolError as error:
        return error.kind


def response(engine: HeadParser, head: bytes, limits: HeadLimits = LIMITS) -> AnswerHead | str:
    """The same for a response head."""
    try:
        return engine.parse_response(head, limits)
    except ProtocolError as error:
        return error.kind


def accepted(engine: HeadParser, head: bytes) -> RequestHead:
    """The parsed head of a request that must be accepted."""
    parsed = request(engine, head)
    assert isinstance(parsed, RequestHead), parsed
    return parsed


def rows(*table: tuple[Any, ...]) -> Any:
    """Parameters (name, …) of a table whose first column is the name of the case."""
    return [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in table]
