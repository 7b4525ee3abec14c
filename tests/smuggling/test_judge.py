"""The judge must be able to find fault: runs that did go wrong, made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.smuggling.book import Reading, Request, read
from tests.smuggling.lab import Answer, Door, Run
from tests.smuggling.origins import Recorder
from tests.smuggling.payload import MARK, SMUGGLED, chunked, get, length, post
from tests.smuggling.verdict import disagreements, of_origins, verdict

RUN = b"run00001"
FORWARDED = [(b"x-real-ip", b"127.0.0.1"), (b"x-forwarded-for", b"127.0.0.1"), (b"x-set", b"by-pingap")]


def _seen(method: bytes, target: bytes, body: bytes = b"", *more: tuple[bytes, bytes], host: bytes = b"a.example") -> Request:
    return Request(method, target, body, [(b"host", host), (b"x-mark", RUN), *FORWARDED, *more])


def _judge(wire: bytes, answers: list[Answer], seen: list[Request], *, whole: bool = True) -> list[str]:
    origin = Recorder("raw")
    for request in seen:
        origin.record(request).is_whole = whole
    lab: Any = SimpleNamespace(origins={"raw": origin}, records=lambda name, mark: origin.by_mark.get(mark, []))
    wire = wire.replace(MARK, RUN)
    return disagreements(lab, Run(Door("raw"), RUN, wire, read(wire), answers))


def _ok(number: int) -> Answer:
    return Answer(200, f"raw-{number}", False)


REFUSAL = Answer(400, "", True)
BODY = SMUGGLED.replace(MARK, RUN)


def test_an_ordinary_request_is_no_disagreement() -> None:
    assert _judge(get(), [_ok(0)], [_seen(b"GET", b"/run00001")]) == []
    assert _judge(post(length(SMUGGLED), body=SMUGGLED), [_ok(0)], [_seen(b"POST", b"/run00001", BODY)]) == []


def test_a_refused_payload_of_which_nothing_was_seen_is_no_disagreement() -> None:
    assert _judge(post(b"Content-Length: x"), [REFUSAL], []) == []


def test_a_body_that_was_cut_off_and_refused_is_no_disagreement() -> None:
    seen = [_seen(b"POST", b"/run00001", b"hel")]
    assert _judge(post(b"Transfer-Encoding: chunked", body=b"5\r\nhel"), [REFUSAL], seen, whole=False) == []


@pytest.mark.parametrize(
    ("wire", "answers", "seen"),
    [
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001"), _seen(b"GET", b"/smuggled/run00001")], id="one more was seen"),
        pytest.param(post(b"Content-Length: x"), [REFUSAL], [_seen(b"POST", b"/run00001")], id="a refused one was seen"),
        pytest.param(get(), [_ok(0)], [], id="an answered one was not seen"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001/x")], id="another target"),
        pytest.param(get(), [_ok(0)], [_seen(b"POST", b"/run00001")], id="another method"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", host=b"b.example")], id="another host"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", b"", (b"x-smuggled", b"1"))], id="a line was injected"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", b"", (b"x-other", b"1"))], id="a line came from nowhere"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", b"", (b"x-real-ip", b"9.9.9.9"))], id="the client is forged"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", b"", (b"x-set", b"1"))], id="what pingap sets is forged"),
        pytest.param(get(), [_ok(0)], [_seen(b"GET", b"/run00001", b"", (b"x-gone", b"1"))], id="what pingap removes is there"),
        pytest.param(post(length(b"hello"), body=b"hello"), [_ok(0)], [_seen(b"POST", b"/run00001", b"hell")], id="a shorter body"),
        pytest.param(
            post(b"Content-Length: +5", body=b"hello"), [_ok(0)], [_seen(b"POST", b"/run00001", b"hello")], id="no request at all"
        ),
        pytest.param(get(), [REFUSAL, _ok(0)], [_seen(b"GET", b"/run00001")], id="an answer after a refusal"),
        pytest.param(get() * 2, [_ok(0)], [_seen(b"GET", b"/run00001")], id="one went missing"),
        pytest.param(get(), [Answer(400, "", False)], [], id="refused by the origin"),
    ],
)
def test_a_disagreement_is_found(wire: bytes, answers: list[Answer], seen: list[Request]) -> None:
    assert _judge(wire, answers, seen) != []


def test_two_framings_of_one_request_are_found() -> None:
    both = ((b"content-length", b"5"), (b"transfer-encoding", b"chunked"))
    wire = post(*(name + b": " + value for name, value in both), body=chunked())
    assert any("two framings" in wrong for wrong in _judge(wire, [_ok(0)], [_seen(b"POST", b"/run00001", b"", *both)]))


def test_the_verdict_is_about_the_first_answer() -> None:
    assert [
        verdict(Run(Door("raw"), RUN, b"", Reading([]), answers))
        for answers in ([_ok(0), REFUSAL], [REFUSAL], [], [Answer(200, "", False)])
    ] == [
        "passed",
        "refused",
        "refused",
        "answered",
    ]


@pytest.mark.parametrize(
    ("stream", "seen"),
    [
        pytest.param(get() + get(), [_seen(b"GET", b"/mark0000")], id="one request more in the bytes"),
        pytest.param(get(), [], id="a request that was not recorded"),
        pytest.param(get() + b"garbage\r\n\r\n", [_seen(b"GET", b"/mark0000")], id="garbage behind it"),
        pytest.param(b"", [Request(b"GET", b"/x", b"")], id="a request of nobody"),
    ],
)
def test_what_a_recorder_got_is_read_again_by_the_book(stream: bytes, seen: list[Request]) -> None:
    origin = Recorder("raw")
    origin.streams.append(bytearray(stream))
    for request in seen:
        origin.record(request).is_whole = True
    lab: Any = SimpleNamespace(origins={"raw": origin})
    assert of_origins(lab) != []


def test_the_book_reads_a_row_of_requests_and_stops_at_the_first_fault() -> None:
    found = read(get() + post(length(b"hello"), body=b"hello") + post(b"Transfer-Encoding: chunked", body=chunked(b"x")) + b"GET\r\n\r\n")
    assert [request.said() for request in found.requests] == [
        (b"GET", b"/mark0000", b""),
        (b"POST", b"/mark0000", b"hello"),
        (b"POST", b"/mark0000", b"x"),
    ]
    assert found.error


def test_the_book_takes_host_from_an_absolute_target() -> None:
    [request] = read(get(target=b"http://B.example?x")).requests
    assert (request.target, request.all(b"host")) == (b"/?x", [b"b.example"])


def test_the_book_stops_where_a_request_says_that_it_is_the_last() -> None:
    assert [len(read(get(line) + SMUGGLED).requests) for line in (b"Connection: close", b"X: x")] == [1, 2]
    assert len(read(get(version=b"HTTP/1.0") + SMUGGLED).requests) == 1
