"""What a backend says, and what of it reaches accept: complete answers whole, everything else as an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.messages import UNKNOWN
from pingap.stages.upstream.core import MAX_INTERIM
from tests.upstream.playbook import OK, Link, Play

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH_10 = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


async def asked(play: Play, method: bytes = b"GET", **settings: object) -> tuple[int, Link]:
    """A request that has reached its backend."""
    play.serves(**settings)  # type: ignore[arg-type]
    sid = play.asks(method)
    await play.turn()
    link = play.backend().link
    assert link.hears().startswith(method + b" / HTTP/1.1\r\nhost: example\r\n")
    return sid, link


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in two at every place, and byte by byte."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def collected(play: Play, sid: int) -> tuple[int, bytes, bool, str]:
    """(status, body, ended, error) of all that was sent for one stream."""
    heard = [envelope for _, envelope in play.hears()]
    response, *data = heard
    assert all(envelope.sid == sid for envelope in heard)
    body = response.body + b"".join(part.payload for part in data)
    ended = [part.ended for part in heard]
    assert not any(ended[:-1]), "nothing may follow the end"
    errors = [part.error for part in data]
    assert not any(errors[:-1]), "nothing may follow an error"
    return response.status, body, ended[-1], errors[-1] if errors else ""


# -- framing ------------------------------------------------------------------------------

COMPLETE = [
    (b"GET", OK, b"ok", False),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", False),
    (b"GET", CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"hello", False),
    (b"GET", CHUNKED + b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\nX-More: 2\r\n\r\n", b"hello", False),
    (b"GET", CHUNKED + b"0\r\n\r\n", b"", False),
    (b"GET", UNTIL_CLOSE + b"until the end", b"until the end", True),
    (b"GET", UNTIL_CLOSE, b"", True),
    (b"GET", b"HTTP/1.0 200 OK\r\n\r\nold", b"old", True),
    (b"GET", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"", False),
    (b"HEAD", CHUNKED, b"", False),
    (b"HEAD", UNTIL_CLOSE, b"", False),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", False),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: x\r\n\r\n", b"", False),
    (b"GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", False),
    (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, b"ok", False),
]


@pytest.mark.parametrize(("method", "answer", "body", "closes"), COMPLETE, ids=range(len(COMPLETE)))
async def test_a_complete_answer_is_complete_however_it_is_cut(play: Play, method: bytes, answer: bytes, body: bytes, closes: bool) -> None:
    play.serves()
    for pieces in cuts(answer):
        sid = play.asks(method)
        await play.turn()
        link = play.backend().link
        for piece in pieces:
            link.says(piece)
        if closes:
            assert not link.is_closed
            link.closes()
        _, got, ended, error = collected(play, sid)
        assert (got, ended, error) == (body, True, "")
    await play.turn()
    kept = method == b"HEAD" or not closes
    assert len(play.backend().open) == (1 if kept else 0)


INCOMPLETE = [
    b"",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
    LENGTH_10,
    LENGTH_10 + b"123456789",
    CHUNKED,
    CHUNKED + b"5\r\nhello",
    CHUNKED + b"5\r\nhello\r\n",
    CHUNKED + b"5\r\nhello\r\n0\r\n",
    CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
]


@pytest.mark.parametrize(
    ("connection", "passed"),
    [
        pytest.param(b"x-hop, close", b"x-sum: 2\r\n", id="named"),
        pytest.param(b"x-hop\r\nConnection: X-Sum", b"", id="all named, in two lines"),
        pytest.param(b"close", b"x-hop: 1\r\nx-sum: 2\r\n", id="none named"),
    ],
)
async def test_a_trailer_that_connection_names_ends_here(play: Play, connection: bytes, passed: bytes) -> None:
    sid, link = await asked(play)
    link.says(b"HTTP/1.1 200 OK\r\nConnection: %b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" % connection)
    play.hears_response(sid)
    link.says(b"0\r\nX-Hop: 1\r\nX-Sum: 2\r\n\r\n")
    ((_, data),) = play.hears()
    assert (data.payload, data.ended, data.trailers) == (b"", True, passed)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("answer", INCOMPLETE, ids=range(len(INCOMPLETE)))
async def test_an_answer_that_breaks_off_never_looks_complete(play: Play, answer: bytes, how: str) -> None:
    sid, link = await asked(play)
    link.says(answer)
    link.closes() if how == "close" else link.resets()
    await play.turn()
    status, _, ended, error = collected(play, sid)
    if status == 502:
        assert (ended, error) == (True, ""), "an answer of ours, before a head was passed on"
    else:
        assert (status, ended, error) == (200, False, "bad_gateway")


async def test_a_reset_is_no_end_of_a_body_that_ends_with_the_connection(play: Play) -> None:
    sid, link = await asked(play)
    link.says(UNTIL_CLOSE + b"half")
    link.resets()
    await play.turn()
    assert collected(play, sid) == (200, b"half", False, "bad_gateway")


INVALID = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "the beginning of another protocol": b"220 mail",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 Low\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 High\r\n\r\n",
    "bare LF and folding": b"HTTP/1.1 200 OK\nA: b\n c\nContent-Length: 2\n\nok",
    "bare CR": b"HTTP/1.1 200 OK\rContent-Length: 2\r\n\r\nok",
    "bare LF and two lengths": b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 2\r\n\r\nok",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "folding": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body on 100": b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nok" + OK,
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "101 after 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a bad chunk at once": CHUNKED + b"zz\r\n",
    "a negative chunk": CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "too large a head": b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"x" * 1000) * 140 + b"\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"x" * 1000) * 140,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    "interim answers without end": b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1) + OK,
    "empty lines": b"\r\n\r\n" + OK,
}


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_answer_that_breaks_the_rules_is_502_at_once_and_never_retried(play: Play, name: str, method: bytes) -> None:
    sid, link = await asked(play, method, addrs="a:1")
    link.says(INVALID[name])
    response = play.hears_response(sid)
    assert (response.status, response.ended) == (502, True)
    assert response.report is not None
    assert response.report.error == "bad_gateway"
    assert link.is_closed
    assert play.backend().asked == 1
    assert play.context.logged[-1][1] == "backend failed"
    assert play.context.logged[-1][2]["detail"], "the log says what was wrong"


FORGIVEN: dict[str, tuple[bytes, tuple[int, bytes, bytes], bool]] = {
    # name: the answer, what the client gets (status, headers, body), whether the backend has to close to end it
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Type: x\nContent-Length: 2\n\nok", (200, b"content-type: x\r\n", b"ok"), False),
    "bare LF behind a sound begin": (
        b"HTTP/1.0 200 OK\r\nServer: s\r\nA: b\n\nok\r\n\r\n",
        (200, b"server: s\r\na: b\r\n", b"ok\r\n\r\n"),
        True,
    ),
    "one bare LF": (b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok", (200, b"a: b\r\n", b"ok"), False),
    "a bare LF as the empty line": (b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\nok", (200, b"a: b\r\n", b"ok"), False),
    "CRLF as the empty line": (b"HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\r\nok", (200, b"a: b\r\n", b"ok"), False),
    "a body that looks like the end of the head": (b"HTTP/1.1 200 OK\nContent-Length: 6\n\n\r\n\r\nok", (200, b"", b"\r\n\r\nok"), False),
    "bare LF and chunks": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n",
        (200, b"", b"ok"),
        False,
    ),
    "bare LF in an interim answer": (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", (200, b"", b"ok"), False),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"", b"ok"), False),
    "a length on 204": (b"HTTP/1.1 204 No Content\r\nA: b\r\nContent-Length: 2\r\n\r\n", (204, b"a: b\r\n", b""), False),
    "a body on 204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", (204, b"", b""), False),
    "chunks on 204": (b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (204, b"", b""), False),
}


@pytest.mark.parametrize("name", FORGIVEN)
async def test_what_backends_are_forgiven_is_a_whole_answer_however_it_is_cut_and_their_connection_is_not_used_again(
    play: Play, name: str
) -> None:
    answer, expected, closes = FORGIVEN[name]
    play.serves()
    for portions in cuts(answer):
        sid = play.asks()
        await play.turn()
        link = play.backend().link
        link.hears()
        for portion in portions:
            link.says(portion)
        if closes:
            link.closes()
        await play.turn()
        heard = play.hears()
        response = heard[0][1]
        body = response.body + b"".join(part.payload for _, part in heard[1:])
        assert (response.sid, (response.status, response.headers, body)) == (sid, expected)
        assert [part.ended for _, part in heard] == [False] * (len(heard) - 1) + [True]
        assert link.is_closed


@pytest.mark.parametrize("status", [600, 777, 999])
async def test_a_status_of_no_class_is_passed_on(play: Play, status: int) -> None:
    sid, link = await asked(play)
    link.says(b"HTTP/1.1 %d Own\r\nContent-Length: 2\r\n\r\nok" % status)
    response = play.hears_response(sid)
    assert (response.status, response.body, response.ended) == (status, b"ok", True)
    assert not link.is_closed


@pytest.mark.parametrize("size", [b"5   ", b"5\t", b"5 ; a=b", b"5 \t;a", b"00005 "])
async def test_white_space_behind_a_chunk_size_of_a_backend_is_forgiven(play: Play, size: bytes) -> None:
    play.serves()
    for portions in cuts(CHUNKED + size + b"\r\nhello\r\n0   \r\n\r\n"):
        sid = play.asks()
        await play.turn()
        link = play.backend().link
        link.hears()
        for portion in portions:
            link.says(portion)
        assert collected(play, sid) == (200, b"hello", True, "")
        assert not link.is_closed


@pytest.mark.parametrize(
    "more",
    [b"zz\r\n", b"5\r\nhelloXX", b"5\nhello\r\n", b"5 5\r\nhello\r\n", b" 5\r\nhello\r\n", b"0\r\n: x\r\n\r\n", b"0\r\nA: \0\r\n\r\n"],
    ids=range(7),
)
async def test_a_chunk_that_breaks_the_rules_breaks_the_body(play: Play, more: bytes) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + b"2\r\nok\r\n")
    link.says(more)
    status, body, ended, error = collected(play, sid)
    assert (status, ended, error) == (200, False, "bad_gateway")
    assert body.startswith(b"ok")
    assert link.is_closed


async def test_many_interim_answers_in_one_read_are_no_matter(play: Play) -> None:
    sid, link = await asked(play)
    link.says(b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_INTERIM + OK)
    assert play.hears_response(sid).body == b"ok"
    await play.fetches()  # and they are counted anew for the next request


@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, LENGTH_10, CHUNKED + b"5\r\nhel"]))
async def test_no_bytes_at_all_make_upstream_stumble(data: bytes, prefix: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        sid, link = await asked(play)
        link.says(prefix)
        link.says(data)
        link.closes()
        await play.turn()
        collected(play, sid)
        await play.end()


async def test_what_belongs_to_the_backends_connection_is_not_passed_on(play: Play) -> None:
    sid, link = await asked(play)
    link.says(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nProxy-Connection: x\r\nUpgrade: z\r\nContent-Length: 0\r\n\r\n"
    )
    assert play.hears_response(sid).headers == b"set-cookie: a=1\r\nset-cookie: b=2\r\n"


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 5000),
        (b"HEAD", CHUNKED, UNKNOWN),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 7),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", UNKNOWN),
        (b"GET", LENGTH_10, 10),
        (b"GET", CHUNKED, UNKNOWN),
        (b"GET", UNTIL_CLOSE, UNKNOWN),
    ],
)
async def test_the_length_that_was_announced_is_told(play: Play, method: bytes, head: bytes, length: int) -> None:
    sid, link = await asked(play, method)
    link.says(head)
    response = play.hears_response(sid)
    assert response.length == length
    play.cancels(sid)


# -- time -----------------------------------------------------------------------------------


async def test_a_backend_that_is_silent_is_504_and_not_asked_again(play: Play) -> None:
    sid, link = await asked(play, read_timeout=5.0, addrs="a:1")
    await play.passes(4.9)
    assert play.hears_nothing()
    await play.passes(0.5)
    response = play.hears_response(sid)
    assert response.status == 504
    assert response.report is not None
    assert response.report.error == "gateway_timeout"
    assert link.is_closed
    assert play.backend().asked == 1


@pytest.mark.parametrize(("passed", "least", "most"), [(0.5, 0.2, 0.26), (0.9, 0.05, 0.11), (0.999, 0.03, 0.06)])
async def test_a_read_timeout_ends_in_time(play: Play, passed: float, least: float, most: float) -> None:
    """The next look at the deadlines is when the nearest one is due: a slow backend costs read_timeout, not a quarter second more."""
    sid, _ = await asked(play, read_timeout=1.0)
    play.clock.now += passed
    play.actor._sweep()
    sweeper = play.actor._sweeper
    assert sweeper is not None
    assert least < sweeper.when() - play.actor.context.loop.time() < most
    play.cancels(sid)


async def test_a_backend_that_falls_silent_in_mid_body_breaks_the_body(play: Play) -> None:
    sid, link = await asked(play, read_timeout=5.0)
    link.says(LENGTH_10 + b"12345")
    await play.passes(4)
    link.says(b"6")
    await play.passes(4)
    assert collected(play, sid) == (200, b"123456", False, "")
    await play.passes(2)
    assert play.hears_data(sid) == [(b"", False, "gateway_timeout")]
    assert link.is_closed


async def test_interim_answers_are_a_sign_of_life(play: Play) -> None:
    sid, link = await asked(play, read_timeout=5.0)
    for _ in range(4):
        await play.passes(4)
        link.says(b"HTTP/1.1 102 Processing\r\n\r\n")
    link.says(OK)
    assert play.hears_response(sid).status == 200


async def test_an_idle_connection_has_no_deadline_but_its_own(play: Play) -> None:
    play.serves(read_timeout=1.0, idle_timeout=100.0)
    link = await play.fetches()
    await play.passes(50)
    assert not link.is_closed


# -- what is told of it ------------------------------------------------------------------------


async def test_the_report_tells_who_answered_how_and_when(play: Play) -> None:
    play.serves("a:1")
    play.backend().hangs = True
    play.clock.now = 2000.0
    sid = play.asks(variables={"id": "7"}, client_ip="198.51.100.1", watchers=(11,), stamps=(1.0, 2.0, 3.0, 4.0))
    await play.turn()
    play.clock.now = 2000.25
    play.backend().answers_dials()
    await play.turn()
    play.clock.now = 2001.0
    play.backend().link.says(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    response = play.hears_response(sid)
    assert response.watchers == (11,)
    report = response.report
    assert report is not None
    assert (report.location, report.upstream, report.addr, report.upstream_status) == ("site", "api", "a:1", 201)
    assert (report.reused, report.tries, report.error, report.client_ip) == (False, 1, "", "198.51.100.1")
    assert report.stamps == (1.0, 2.0, 3.0, 4.0, 2000.0, 2000.25, 2000.25, 2001.0)
    assert report.connect == (0.25,)
    assert report.context == {"id": "7"}
    assert (report.opened, report.connections) == (2000.25, 1)


async def test_a_reused_connection_is_told_as_such(play: Play) -> None:
    play.serves()
    await play.fetches()
    play.clock.now += 0.5
    sid = play.asks()
    play.backend().link.says(OK)
    report = play.hears_response(sid).report
    assert report is not None
    assert (report.reused, report.connect, report.opened) == (True, (), 1000.0)
    assert report.stamps == (1.0, 2.0, 0.0, 0.0, 1000.5, 1000.5, 1000.5, 1000.5)


async def test_an_error_page_follows_the_template_and_head_gets_none_of_it(play: Play) -> None:
    play.serves("", basic={"error_template": "<{{error_type}}>"})
    response = play.hears_response(play.asks())
    assert (response.status, response.body, response.length) == (503, b"<no_backend>", 12)
    response = play.hears_response(play.asks(b"HEAD"))
    assert (response.body, response.length, response.ended) == (b"", 12, True)


async def test_an_answer_that_plugins_want_goes_to_them(play: Play) -> None:
    play.serves()
    sid = play.asks(plan=4)
    await play.turn()
    link = play.backend().link
    link.says(CHUNKED)
    play.hears_response(sid, to=12)
    link.says(b"2\r\nok\r\n0\r\n\r\n")
    assert play.hears_data(sid, to=12) == [(b"ok", True, "")]
    play.backend().refuses = ConnectionRefusedError("no")
    sids = [play.asks(plan=4), play.asks(plan=4)]
    link.says(OK)
    await play.turn()
    assert {(to, envelope.sid, envelope.status) for to, envelope in play.hears()} == {(12, sids[0], 200), (12, sids[1], 502)}


@pytest.mark.parametrize(
    ("begun", "broken", "error", "detail"),
    [
        pytest.param(LENGTH_10 + b"half", None, "bad_gateway", "closed within the body of its answer", id="early close"),
        pytest.param(CHUNKED + b"4\r\nhalf\r\n", b"what?\r\n", "bad_gateway", "chunk", id="bad chunk"),
        pytest.param(LENGTH_10 + b"half", b"", "gateway_timeout", "nothing came any more", id="silence"),
    ],
)
async def test_the_log_says_why_an_answer_was_cut_off(play: Play, begun: bytes, broken: bytes | None, error: str, detail: str) -> None:
    sid, link = await asked(play, read_timeout=5.0)
    link.says(begun)
    await play.turn()
    if broken is None:
        link.closes()
        await play.turn()
    elif broken:
        link.says(broken)
        await play.turn()
    else:
        await play.passes(6)
    assert collected(play, sid) == (200, b"half", False, error)
    ((level, message, fields),) = play.context.logged
    assert (level, message, fields["error"]) == ("warn", "answer cut off", error)
    assert detail in fields["detail"]
    assert play.context.counted == {"upstream_failures": 1}


# -- the reason phrase ----------------------------------------------------------------------


async def test_the_phrase_of_a_backend_goes_with_its_status_and_with_those_before_it(play: Play) -> None:
    sid, link = await asked(play)
    link.says(b"HTTP/1.1 103 Soon\r\nLink: </a>\r\n\r\nHTTP/1.1 404 No such thing\r\nContent-Length: 2\r\n\r\nno")
    response = play.hears_response(sid)
    assert (response.status, response.reason) == (404, b"No such thing")
    assert [(interim.status, interim.reason) for interim in play.interims] == [(103, b"Soon")]
    sid = play.asks()
    link.says(OK)
    assert play.hears_response(sid).reason == b""


# -- the id of a request ----------------------------------------------------------------


@pytest.mark.parametrize("known", ["r1", 17, "café", "a\r\nset-cookie: b"])
@pytest.mark.parametrize("theirs", [b"", b"X-Request-Id: theirs\r\n", b"A: 1\r\nX-Request-ID: x\r\nB: 2\r\nX-Request-Id:\r\n"])
async def test_the_client_is_told_the_id_of_its_request_once(play: Play, known: object, theirs: bytes) -> None:
    play.serves()
    play.asks(variables={"request_id": known})  # type: ignore[dict-item]
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 200 OK\r\n" + theirs + b"Content-Length: 0\r\n\r\n")
    [(_, response)] = play.hears()
    lines = [line for line in response.headers.split(b"\r\n") if line.startswith(b"x-request-id: ")]
    assert lines == [b"x-request-id: " + str(known).replace("\r\n", "").encode("latin-1")]
    assert b"\nset-cookie" not in response.headers


@pytest.mark.parametrize("variables", [{}, {"tenant": "t"}, {"request_id": ""}])
async def test_without_an_id_the_backends_own_line_passes(play: Play, variables: dict[str, str]) -> None:
    play.serves()
    play.asks(variables=variables)
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Length: 0\r\n\r\n")
    [(_, response)] = play.hears()
    assert response.headers == b"x-request-id: theirs\r\n"
