"""The engines against each other. Where they differ, the difference is explained here, and it is never one of framing."""

from __future__ import annotations

import re
from typing import Any, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pingap.stages.http1 import lines
from pingap.stages.http1.engine import ENGINES
from pingap.stages.http1.methods import METHODS, is_forwarded
from pingap.stages.http1.rules import TARGET, TOKEN, VALUE, RequestHead
from tests.http1.heads import ALL, crlf, request, response

EXPLAINED: Final = [
    # A tab after `chunked` is optional white space (RFC 9110 section 5.6.3), which llhttp alone refuses. The framing is the same.
    (re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r\n"), {"llhttp"}),
    # With another line that only a whole parser may judge, the quick way hands such a head over to llhttp.
    (re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r\n"), {"llhttp", "httptools"}),
    # Vertical tab or form feed in a backend's reason phrase: it is dropped, never passed on and never compared.
    (re.compile(rb"HTTP/1\.[01] [0-9]{3} [^\r\n]*[\x0b\x0c]"), {"h11"}),
]
"""(head, the engines that refuse it while the others take it, all with the same fields)."""


def must_agree(head: bytes, verdicts: dict[str, Any]) -> None:
    """All take the head with the same fields, or all refuse it, or the difference is explained."""
    taken = {name: verdict for name, verdict in verdicts.items() if not isinstance(verdict, str)}
    first = next(iter(taken.values()), None)
    assert all(verdict == first for verdict in taken.values()), (taken, head)
    refusing = verdicts.keys() - taken.keys()
    if taken and refusing:
        assert any(pattern.search(head) and refusing == names for pattern, names in EXPLAINED), (verdicts, head)


def must_agree_on_request(head: bytes) -> None:
    must_agree(head, {name: request(engine, head) for name, engine in ALL.items()})


def must_agree_on_response(head: bytes) -> None:
    verdicts = {name: response(engine, head) for name, engine in ALL.items()}
    must_agree(head, verdicts)
    assert {verdict for verdict in verdicts.values() if isinstance(verdict, str)} <= {"bad_gateway"}


# -- valid requests ------------------------------------------------------------

methods = st.one_of(
    st.sampled_from(sorted(METHODS)), st.lists(st.sampled_from(sorted(TOKEN)), min_size=1, max_size=32).map(bytes).filter(is_forwarded)
)
names = st.lists(st.sampled_from(sorted(TOKEN)), min_size=1, max_size=12).map(lambda octets: b"X" + bytes(octets))
values = st.lists(st.sampled_from(sorted(VALUE)), max_size=20).map(lambda octets: bytes(octets).strip(b" \t"))
blanks = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t"])
paths = st.lists(st.sampled_from(sorted(TARGET)), max_size=30).map(lambda octets: b"/" + bytes(octets))
hosts = st.sampled_from([b"a.example", b"A.Example:8080", b"127.0.0.1", b"[::1]:80", b"xn--a", b"a_b.example:"])


@st.composite
def valid_requests(draw: st.DrawFn) -> tuple[bytes, dict[str, object]]:
    """(head, the fields that every engine must see)."""
    method, path, host = draw(methods), draw(paths), draw(hosts)
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    block = [(b"Host", host), *draw(st.lists(st.tuples(names, values), max_size=8))]
    length: int = 0
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        length = draw(st.integers(0, 10**17))
        block.insert(draw(st.integers(0, len(block))), (b"Content-Length", b"%d" % length))
    elif framing == "chunked" and version == b"1.1":
        length = -1
        block.insert(draw(st.integers(0, len(block))), (b"Transfer-Encoding", b"chunked"))
    wire = b"%b %b HTTP/%b\r\n" % (method, path, version)
    for name, value in block:
        after = b"" if name == b"Transfer-Encoding" else draw(st.sampled_from([b"", b" ", b"\t"]))
        wire += name + b":" + draw(blanks) + value + after + b"\r\n"
    kept = b"".join(b"%b: %b\r\n" % (name.lower(), value) for name, value in block if name not in (b"Content-Length", b"Transfer-Encoding"))
    return wire + b"\r\n", {
        "method": method, "target": path, "version": 11 if version == b"1.1" else 10, "host": host.lower(), "headers": kept,
        "length": length,
    }  # fmt: skip


@given(valid_requests())
def test_a_valid_request_has_the_same_fields_in_every_engine(case: tuple[bytes, dict[str, object]]) -> None:
    head, fields = case
    for engine in ALL.values():
        parsed = request(engine, head)
        assert isinstance(parsed, RequestHead), (parsed, head)
        assert {name: getattr(parsed, name) for name in fields} == fields


# -- nearly valid ones -----------------------------------------------------------

REQUESTS: Final = [
    crlf(b"GET /a?b=c HTTP/1.1", b"Host: a.example", b"Content-Length: 5", b"X-A: v w", b"X-B:"),
    crlf(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Connection: close, x-a", b"X-A: 1"),
    crlf(b"GET http://b.example/x HTTP/1.0", b"Host: a", b"Connection: keep-alive", b"Expect: 100-continue"),
    crlf(b"RPC_IN_DATA /x HTTP/1.1", b"Host: a", b"Content-Length: 1073741824"),
    crlf(b"OPTIONS * HTTP/1.1", b"host: a:80", b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 0"),
]
RESPONSES: Final = [
    crlf(b"HTTP/1.1 200 OK", b"Content-Length: 5", b"X-A: v w", b"X-B:"),
    crlf(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", b"Connection: close"),
    crlf(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", b"Connection: x-a", b"X-A: 1"),
    crlf(b"HTTP/1.0 204 No Content", b"Connection: keep-alive", b"Set-Cookie: a=b"),
    crlf(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: upgrade"),
    crlf(b"HTTP/1.1 304 Not Modified", b"Content-Length: 5"),
]
SHARDS: Final = [
    b"\r", b"\n", b"\0", b" ", b":", b"\t", b"\r\n", b"\n\n", b"\r\n ", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\x85", b"\xa0", b",", b";",
    b"+", b"-", b"0", b"#", b"@", b"/", b"//", b"\\", b"chunked", b"1.1", b"2",
    b"Content-Length: 5\r\n", b"Content-Length:5,5\r\n", b"content-length : 6\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:identity\r\n", b"Host: b\r\n", b"HOST:\r\n",
    b"Connection: content-length\r\n",
    b"Connection: host, transfer-encoding\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.1", b" HTTP/1.0", b"http://c",
]  # fmt: skip

changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 10_000), st.sampled_from(SHARDS)),
        st.tuples(st.just("replace"), st.integers(0, 10_000), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("drop"), st.integers(0, 10_000), st.just(b"")),
        st.tuples(st.just("double"), st.integers(0, 10_000), st.just(b"")),
        st.tuples(st.just("flip"), st.integers(0, 10_000), st.sampled_from([bytes([1 << bit]) for bit in range(8)])),
    ),
    min_size=1,
    max_size=3,
)


def changed(head: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    """One whole head block of `head` after the changes: up to and with the first empty line, as the connection cuts it."""
    data = head[:-4]
    for what, at, shard in steps:
        at %= len(data) + 1
        if what == "insert":
            data = data[:at] + shard + data[at:]
        elif what == "replace":
            data = data[:at] + shard + data[at + 1 :]
        elif what == "drop":
            data = data[:at] + data[at + 1 :]
        elif what == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ shard[0]]) + data[at + 1 :]
        else:
            parts = data.split(b"\r\n")
            parts.insert(at % (len(parts) + 1), parts[at % len(parts)])
            data = b"\r\n".join(parts)
    data += b"\r\n\r\n"
    return data[: data.find(b"\r\n\r\n") + 4]


@given(st.sampled_from(REQUESTS), changes)
@settings(max_examples=1500)
@example(REQUESTS[1], [("insert", REQUESTS[1].find(b"chunked") + 7, b"\t")])
@example(REQUESTS[0], [("insert", REQUESTS[0].find(b"X-A"), b"Content-Length: 5\r\n")])
def test_a_request_changed_a_little_is_read_alike_or_refused(head: bytes, steps: list[tuple[str, int, bytes]]) -> None:
    must_agree_on_request(changed(head, steps))


@given(st.sampled_from(RESPONSES), changes)
@settings(max_examples=1000)
@example(RESPONSES[0], [("insert", 14, b"\x0b")])
@example(RESPONSES[0], [("insert", 14, b"\0")])
def test_a_response_changed_a_little_is_read_alike_or_refused(head: bytes, steps: list[tuple[str, int, bytes]]) -> None:
    must_agree_on_response(changed(head, steps))


@given(st.lists(st.sampled_from([*SHARDS, b"GET ", b"POST ", b"/", b"a", b"X-A: 1\r\n"]), max_size=20).map(b"".join))
@settings(max_examples=500)
def test_heads_of_shards_are_read_alike_or_refused(data: bytes) -> None:
    data += b"\r\n\r\n"
    must_agree_on_request(data[: data.find(b"\r\n\r\n") + 4])


@given(st.sampled_from(REQUESTS), changes)
@settings(max_examples=300)
def test_a_head_is_read_the_same_a_second_time(head: bytes, steps: list[tuple[str, int, bytes]]) -> None:
    """Nothing of one parse is left over for the next: not a byte, not a remembered host."""
    data = changed(head, steps)
    assert request(ENGINES["httptools"], data) == request(ENGINES["httptools"], data)


@given(st.lists(st.sampled_from(REQUESTS + RESPONSES), min_size=1, max_size=4), changes)
@settings(max_examples=300)
def test_what_one_head_teaches_makes_no_other_head_acceptable(heads: list[bytes], steps: list[tuple[str, int, bytes]]) -> None:
    """Lines are remembered between heads, requests and responses alike: a line learnt there must not count for more here."""
    lines._lines.clear()
    data = changed(heads[0], steps)
    fresh = request(ENGINES["httptools"], data), response(ENGINES["httptools"], data)
    for head in heads:
        request(ENGINES["httptools"], head)
        response(ENGINES["httptools"], head)
    assert (request(ENGINES["httptools"], data), response(ENGINES["httptools"], data)) == fresh


def test_remembered_lines_are_bounded_in_number_and_length_and_hold_no_secrets() -> None:
    lines._lines.clear()
    for number in range(5000):
        request(ENGINES["httptools"], crlf(b"GET / HTTP/1.1", b"Host: a", b"X-A: %d" % number, b"X-B: " + b"b" * 1000))
        response(ENGINES["httptools"], crlf(b"HTTP/1.1 200 reason %d" % number, b"X-C: %d" % number))
    request(ENGINES["httptools"], crlf(b"GET / HTTP/1.1", b"Host: a", b"Cookie: secret", b"Authorization: secret"))
    assert len(lines._lines) <= lines.REMEMBERED
    assert max(map(len, lines._lines)) <= lines.LONGEST
    assert len(lines._status_lines) <= 512
    assert not any(b"secret" in line for line in lines._lines)
