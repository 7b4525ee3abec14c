"""What is written can be read back, and nothing can be slipped into it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.http1.engine import ENGINES
from pingap.stages.http1.methods import LONGEST, METHODS, is_forwarded
from pingap.stages.http1.reasons import REASONS
from pingap.stages.http1.render import CONTINUE, LAST_CHUNK, STATUS_LINES, chunk, request_head
from pingap.stages.http1.rules import TARGET, TOKEN, VALUE, AnswerHead, HeadLimits
from pingap.stages.messages import EMPTY, UNKNOWN
from tests.http1.heads import request, response

LIMITS = HeadLimits()
names = st.lists(st.sampled_from(sorted(TOKEN)), min_size=1, max_size=12).map(lambda octets: b"x" + bytes(octets).lower())
values = st.lists(st.sampled_from(sorted(VALUE)), max_size=20).map(lambda octets: bytes(octets).strip(b" \t"))
targets = st.lists(st.sampled_from(sorted(TARGET)), max_size=30).map(lambda octets: b"/" + bytes(octets))
blocks = st.lists(st.tuples(names, values), max_size=6).map(lambda lines: b"".join(b"%b: %b\r\n" % line for line in lines))
others = st.lists(st.sampled_from(sorted(TOKEN)), min_size=1, max_size=LONGEST).map(bytes).filter(is_forwarded)
lengths = st.one_of(st.just(0), st.just(UNKNOWN), st.integers(1, 10**17))


@given(st.one_of(st.sampled_from(sorted(METHODS)), others), targets, blocks, lengths)
def test_a_request_head_reads_back_as_what_it_was_made_of(method: bytes, target: bytes, block: bytes, length: int) -> None:
    headers = b"host: a.example\r\n" + block
    wire = request_head(method, target, headers, length)
    for engine in ENGINES.values():
        parsed = engine.parse_request(wire, LIMITS)
        assert (parsed.method, parsed.target, parsed.version, parsed.length) == (method, target, 11, length)
        assert (parsed.headers, parsed.host, parsed.keep_alive, parsed.upgrade) == (headers, b"a.example", True, b"")


@given(st.sampled_from([b"GET", b"POST"]), targets, blocks, lengths)
def test_a_request_head_reads_back_in_h11_alone(method: bytes, target: bytes, block: bytes, length: int) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(request_head(method, target, b"host: a.example\r\n" + block, length))
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (method, target)
    framing = dict(event.headers)
    assert framing.get(b"transfer-encoding") == (b"chunked" if length == UNKNOWN else None)
    expected = b"%d" % length if length > 0 else b"0" if length == 0 and method == b"POST" else None
    assert framing.get(b"content-length") == expected


@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from([b"X-A: ", b"Host: a\r\nX-A: "]))
def test_what_one_client_sends_is_one_request_to_the_backend(target: bytes, value: bytes, start: bytes) -> None:
    """Whatever gets through the parser comes out as exactly one head: no byte of a client can end a line or the head."""
    wire = b"GET /%b HTTP/1.1\r\n%b%b\r\n\r\n" % (target, start, value)
    wire = wire[: wire.find(b"\r\n\r\n") + 4]
    for engine in ENGINES.values():
        parsed = request(engine, wire)
        if isinstance(parsed, str):
            continue
        out = request_head(parsed.method, parsed.target, parsed.headers, parsed.length)
        assert out.find(b"\r\n\r\n") == len(out) - 4
        assert out.count(b"\n") == out.count(b"\r") == out.count(b"\r\n") == parsed.headers.count(b"\r\n") + 2
        again = request(engine, out)
        assert not isinstance(again, str)
        assert (again.method, again.target, again.headers, again.length) == (parsed.method, parsed.target, parsed.headers, parsed.length)


def test_a_request_that_asks_for_an_upgrade_names_it_in_connection() -> None:
    wire = request_head(b"GET", b"/", b"host: a\r\n", 0, b"websocket")
    for engine in ENGINES.values():
        assert engine.parse_request(wire, LIMITS).upgrade == b"websocket"


@pytest.mark.parametrize(
    ("method", "framing"), [(b"GET", b""), (b"DELETE", b""), (b"POST", b"content-length: 0\r\n"), (b"PUT", b"content-length: 0\r\n")]
)
def test_a_method_that_usually_has_a_body_says_when_it_has_none(method: bytes, framing: bytes) -> None:
    assert request_head(method, b"/", b"host: a\r\n", 0) == b"%b / HTTP/1.1\r\nhost: a\r\n%b\r\n" % (method, framing)


@pytest.mark.parametrize("status", range(100, 1000))
def test_every_status_has_a_line_that_every_engine_read(status: int) -> None:
    for engine in ENGINES.values():
        headers = b"connection: upgrade\r\nupgrade: x\r\n" if status == 101 else b""
        parsed = response(engine, STATUS_LINES[status] + headers + b"\r\n")
        assert isinstance(parsed, AnswerHead)
        assert parsed.status == status


def test_reasons_are_one_line_each() -> None:
    assert all(not reason.translate(None, VALUE) for reason in REASONS.values())
    assert STATUS_LINES[499] == b"HTTP/1.1 499 Client Closed Request\r\n"
    assert STATUS_LINES[299] == b"HTTP/1.1 299 Unknown\r\n"


def test_an_empty_chunk_is_not_written_because_it_would_end_the_body() -> None:
    assert chunk(b"") == b""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


@given(st.one_of(st.sampled_from(sorted(METHODS)), others), targets, blocks)
def test_an_empty_body_is_said_where_none_is_not(method: bytes, target: bytes, block: bytes) -> None:
    headers = b"host: a.example\r\n" + block
    for engine in ENGINES.values():
        assert engine.parse_request(request_head(method, target, headers, EMPTY), LIMITS).is_framed
        assert engine.parse_request(request_head(method, target, headers, 0), LIMITS).is_framed == (method in (b"POST", b"PUT", b"PATCH"))


@pytest.mark.parametrize(
    ("block", "is_said"),
    [
        (b"host: a\r\nte: trailers\r\n", True),
        (b"te: trailers\r\nhost: a\r\n", True),
        (b"host: a\r\nx-te: trailers\r\n", False),
        (b"x-te: trailers\r\n", False),
        (b"host: a\r\nx-a: te: trailers\r\n", False),
    ],
)
def test_only_the_line_itself_says_that_trailers_are_read(block: bytes, is_said: bool) -> None:
    assert (b"connection: te\r\n" in request_head(b"GET", b"/", block, 0)) == is_said
