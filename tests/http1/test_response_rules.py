"""A backend's response head: what is taken, and what is a bad gateway."""

from __future__ import annotations

import pytest

from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.rules import AnswerHead, HeadLimits
from pingap.stages.messages import UNKNOWN
from tests.http1.heads import crlf, every_engine, ok, response, rows

BROKEN = rows(
    ("two lengths", ok(b"Content-Length: 5", b"Content-Length: 6")),
    ("two lengths that agree", ok(b"Content-Length: 5", b"Content-Length: 5")),
    ("a list of lengths", ok(b"Content-Length: 5, 5")),
    ("a list beside a length", ok(b"Content-Length: 5,5", b"Content-Length: 5")),
    ("a length with a sign", ok(b"Content-Length: +5")),
    ("a negative length", ok(b"Content-Length: -5")),
    ("a length in hex", ok(b"Content-Length: 0x5")),
    ("an empty length", ok(b"Content-Length:")),
    ("a length of 19 digits", ok(b"Content-Length: 1000000000000000000")),
    ("a coding with a length", ok(b"Transfer-Encoding: chunked", b"Content-Length: 5")),
    ("a length with a coding", ok(b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    ("a coding before chunked", ok(b"Transfer-Encoding: gzip, chunked")),
    ("an unknown coding", ok(b"Transfer-Encoding: xchunked")),
    ("identity", ok(b"Transfer-Encoding: identity")),
    ("an empty coding", ok(b"Transfer-Encoding:")),
    ("chunked twice", ok(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    ("chunked in 1.0", crlf(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked")),
    ("two lengths on 204", crlf(b"HTTP/1.1 204 No Content", b"Content-Length: 5", b"Content-Length: 6")),
    ("a list of lengths on 204", crlf(b"HTTP/1.1 204 No Content", b"Content-Length: 5, 5")),
    ("a length beside a coding on 204", crlf(b"HTTP/1.1 204 x", b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    ("an unknown coding on 204", crlf(b"HTTP/1.1 204 No Content", b"Transfer-Encoding: xchunked")),
    ("101 without Upgrade", crlf(b"HTTP/1.1 101 Switching Protocols", b"Connection: upgrade")),
    ("101 that Connection does not name", crlf(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket")),
    ("a folded line", ok(b"X-A: 1", b" 2")),
    ("a folded first line", crlf(b"HTTP/1.1 200 OK", b" X-A: 1")),
    ("a bare LF", ok(b"X-A: 1\nX-B: 2")),
    ("a bare LF after the status line", b"HTTP/1.1 200 OK\nX-A: 1\r\n\r\n"),
    ("a bare CR in a value", ok(b"X-A: 1\r2")),
    ("a space before the colon", ok(b"X-A : 1")),
    ("a line without colon", ok(b"X-A")),
    ("NUL in a value", ok(b"X-A: \0")),
    ("NUL in the reason", crlf(b"HTTP/1.1 200 O\0K")),
    ("a control character in a value", ok(b"X-A: \x01")),
    ("garbage", b"garbage\r\n\r\n"),
    ("a body without a head, HTTP 0.9", b"<html>\r\n\r\n"),
    ("HTTP 0.9 by name", crlf(b"HTTP/0.9 200 OK")),
    ("HTTP 1.2", crlf(b"HTTP/1.2 200 OK")),
    ("HTTP 2.0", crlf(b"HTTP/2.0 200 OK")),
    ("HTTP 9.1", crlf(b"HTTP/9.1 200 OK")),
    ("another protocol", crlf(b"ICY 200 OK")),
    ("a lower case protocol", crlf(b"http/1.1 200 OK")),
    ("no status", crlf(b"HTTP/1.1 OK")),
    ("an empty status", crlf(b"HTTP/1.1 ")),
    ("two spaces before the status", crlf(b"HTTP/1.1  200 OK")),
    ("an empty line before the status line", b"\r\n" + ok()),
    ("status 0", crlf(b"HTTP/1.1 000 OK")),
    ("status 99", crlf(b"HTTP/1.1 99 OK")),
    ("status 099", crlf(b"HTTP/1.1 099 OK")),
    ("status 1000", crlf(b"HTTP/1.1 1000 OK")),
    ("a negative status", crlf(b"HTTP/1.1 -20 OK")),
    ("a status of letters", crlf(b"HTTP/1.1 2xx OK")),
    ("a request", crlf(b"GET / HTTP/1.1", b"Host: a")),
)


@every_engine
@pytest.mark.parametrize("head", BROKEN)
def test_a_response_that_breaks_a_rule_is_a_bad_gateway(engine: HeadParser, head: bytes) -> None:
    assert response(engine, head) == "bad_gateway"


NO_BODY = {"length": UNKNOWN, "chunked": False, "headers": b"", "keep_alive": False}
"""It ends with its empty line whatever it says, and its connection is not used again."""

TAKEN = rows(
    ("a length", ok(b"Content-Length: 5", b"X-A: 1"), {"length": 5, "chunked": False, "headers": b"x-a: 1\r\n", "keep_alive": True}),
    ("chunked", ok(b"Transfer-Encoding: Chunked"), {"length": UNKNOWN, "chunked": True, "headers": b""}),
    ("neither", ok(), {"length": UNKNOWN, "chunked": False}),
    ("1.0", crlf(b"HTTP/1.0 200 OK"), {"version": 10, "keep_alive": False}),
    ("1.0 that stays open", crlf(b"HTTP/1.0 200 OK", b"Connection: keep-alive", b"Content-Length: 0"), {"keep_alive": True, "length": 0}),
    ("1.1 that closes", ok(b"Connection: close"), {"keep_alive": False, "headers": b""}),
    ("no reason", crlf(b"HTTP/1.1 200 "), {"status": 200}),
    ("no reason and no space", crlf(b"HTTP/1.1 200"), {"status": 200}),
    ("a reason beyond ASCII", crlf(b"HTTP/1.1 404 nicht \xfc"), {"status": 404}),
    ("the least status", crlf(b"HTTP/1.1 100 Continue"), {"status": 100, "length": UNKNOWN}),
    ("the greatest status", crlf(b"HTTP/1.1 999 x"), {"status": 999}),
    ("a status of no class", crlf(b"HTTP/1.1 600 x", b"Content-Length: 5"), {"status": 600, "length": 5, "keep_alive": True}),
    ("204", crlf(b"HTTP/1.1 204 x"), {"status": 204, "length": UNKNOWN, "chunked": False}),
    ("204 that says it has no body", crlf(b"HTTP/1.1 204 x", b"Content-Length: 0"), {"length": UNKNOWN, "headers": b""}),
    ("204 with a length", crlf(b"HTTP/1.1 204 x", b"Content-Length: 5"), NO_BODY),
    ("204 in chunks", crlf(b"HTTP/1.1 204 x", b"Transfer-Encoding: chunked"), NO_BODY),
    ("100 with a length", crlf(b"HTTP/1.1 100 Continue", b"Content-Length: 5"), NO_BODY),
    ("103 in chunks", crlf(b"HTTP/1.1 103 Early Hints", b"Transfer-Encoding: chunked"), NO_BODY),
    ("101 with a length", crlf(b"HTTP/1.1 101 x", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 5"), NO_BODY),
    ("304 with a length", crlf(b"HTTP/1.1 304 x", b"Content-Length: 5"), {"length": 5}),
    ("101", crlf(b"HTTP/1.1 101 x", b"Connection: Upgrade", b"Upgrade: WebSocket"), {"status": 101, "upgrade": b"websocket"}),
    ("what Connection names is no trailer either", ok(b"Connection: X-A, te", b"Transfer-Encoding: chunked"), {"named": {b"x-a"}}),
    ("without chunks there are no trailers", ok(b"Connection: X-A", b"Content-Length: 5"), {"named": ()}),
    (
        "duplicates in their order, with Connection and what it names dropped",
        ok(b"Set-Cookie: a", b"X-Hop: 1", b"Connection: x-hop", b"Keep-Alive: 5", b"Set-Cookie: b"),
        {"headers": b"set-cookie: a\r\nset-cookie: b\r\n"},
    ),
)


@every_engine
@pytest.mark.parametrize(("head", "fields"), TAKEN)
def test_a_response_that_obeys_is_taken_with_these_fields(engine: HeadParser, head: bytes, fields: dict[str, object]) -> None:
    parsed = response(engine, head)
    assert isinstance(parsed, AnswerHead), parsed
    assert {name: getattr(parsed, name) for name in fields} == fields


@every_engine
def test_a_response_head_is_capped_in_bytes_and_lines(engine: HeadParser) -> None:
    assert response(engine, ok(b"X-A: " + b"a" * 1000), HeadLimits(head=1000)) == "bad_gateway"
    assert response(engine, ok(*[b"X-A: 1"] * 11), HeadLimits(headers=10)) == "bad_gateway"
    assert response(engine, ok(*[b"X-A: 1"] * 10), HeadLimits(headers=10)) != "bad_gateway"
