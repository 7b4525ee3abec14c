"""What backends are forgiven in a head: once it is mended, every engine takes it, with the fields of the sound one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.lenient import end_of_head, mended
from tests.http1.heads import ALL, crlf, every_engine, ok, response, rows

SOUND = rows(
    ("a plain one", ok(b"Content-Length: 5", b"X-A: v w", b"X-B:")),
    ("of HTTP 1.0", crlf(b"HTTP/1.0 200 Script output follows", b"Content-Type: text/plain")),
    ("without headers", ok()),
    ("chunked", ok(b"Transfer-Encoding: chunked", b"Connection: close")),
    ("without a body", crlf(b"HTTP/1.1 204 No Content")),
    ("switching", crlf(b"HTTP/1.1 101 x", b"Upgrade: websocket", b"Connection: upgrade")),
)


def with_bare_lf(head: bytes) -> list[bytes]:
    """The head with each of its CRs left out, all of them, and all of the header lines'."""
    places = [at for at in range(len(head)) if head[at : at + 1] == b"\r"]
    first = head.find(b"\n") + 1
    return [*(head[:at] + head[at + 1 :] for at in places), head.replace(b"\r", b""), head[:first] + head[first:].replace(b"\r", b"")]


@every_engine
@pytest.mark.parametrize("head", SOUND)
def test_a_bare_lf_ends_a_line_of_an_answer_as_crlf_does(engine: HeadParser, head: bytes) -> None:
    for lax in with_bare_lf(head):
        assert end_of_head(lax + b"body\n\nmore\r\n\r\n") == len(lax)
        assert mended(lax) == head
        assert response(engine, mended(lax)) == response(engine, head)


@every_engine
@pytest.mark.parametrize("minor", [b"2", b"3", b"9"])
def test_a_later_minor_version_of_a_backend_is_read_as_1_1(engine: HeadParser, minor: bytes) -> None:
    head = ok(b"Content-Length: 5", b"X-A: HTTP/1.2 200")
    assert response(engine, mended(b"HTTP/1." + minor + head[8:])) == response(engine, head)


def test_a_sound_head_is_left_as_it_is() -> None:
    for case in SOUND:
        (head,) = case.values
        assert mended(head) is head
        assert end_of_head(head) == len(head)


UNMENDED = rows(
    ("a folded line", b"HTTP/1.1 200 OK\nX-A: 1\n 2\n\n"),
    ("a bare CR", b"HTTP/1.1 200 OK\nX-A: 1\r2\n\n"),
    ("CR CR LF", b"HTTP/1.1 200 OK\r\r\nX-A: 1\n\n"),
    ("white space before a colon", b"HTTP/1.1 200 OK\nContent-Length : 1\n\n"),
    ("two lengths", b"HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n"),
    ("a length beside a coding", b"HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\n"),
    ("NUL", b"HTTP/1.1 200 OK\nX-A: \0\n\n"),
    ("a line without colon", b"HTTP/1.1 200 OK\nX-A\n\n"),
    ("HTTP 2", b"HTTP/2.0 200 OK\n\n"),
    ("HTTP 1.10", b"HTTP/1.10 200 OK\n\n"),
)


@every_engine
@pytest.mark.parametrize("head", UNMENDED)
def test_nothing_else_is_forgiven(engine: HeadParser, head: bytes) -> None:
    assert response(engine, mended(head)) == "bad_gateway"


@every_engine
@pytest.mark.parametrize("head", SOUND)
def test_an_engine_by_itself_takes_no_bare_lf(engine: HeadParser, head: bytes) -> None:
    for lax in with_bare_lf(head):
        if lax.endswith(b"\r\n\r\n"):  # as whoever calls an engine promises
            assert response(engine, lax) == "bad_gateway"


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b": ", b"X-A: 1", b" ", b"HTTP/1.1 200 OK", b"HTTP/1.2 200"]), max_size=25))
def test_mending_leaves_no_line_end_but_crlf_and_the_engines_agree(parts: list[bytes]) -> None:
    data = b"".join(parts)
    size = end_of_head(data)
    block = mended(data[:size])
    assert block.count(b"\n") == block.count(b"\r\n")
    if size:
        assert block.endswith(b"\r\n\r\n")
        verdicts = {name: response(engine, block) for name, engine in ALL.items()}
        taken = [verdict for verdict in verdicts.values() if not isinstance(verdict, str)]
        assert not taken or all(verdict == taken[0] for verdict in verdicts.values()), (verdicts, block)
