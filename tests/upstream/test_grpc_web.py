"""gRPC-Web and gRPC, translated without any I/O: heads, both bodies, and every way in which bytes may come in."""

from __future__ import annotations

from base64 import b64decode, b64encode
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pingap.stages.http1.rules import AnswerHead, ProtocolError
from pingap.stages.messages import UNKNOWN
from pingap.stages.upstream.grpc_web import NO_STATUS, Bridge, bridge_of, trailers_frame

OK = b"grpc-status: 0\r\n"
BYTES = st.binary(max_size=20)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def head(headers: bytes = b"content-type: application/grpc\r\n", status: int = 200, length: int = UNKNOWN) -> AnswerHead:
    return AnswerHead(status, 20, headers, length, False, True, b"")


def bridge(content_type: bytes = b"application/grpc-web+proto", accept: bytes = b"") -> Bridge:
    headers = b"host: a\r\ncontent-type: %b\r\n" % content_type
    found = bridge_of(b"POST", headers + (b"accept: %b\r\n" % accept if accept else b""))
    assert found is not None
    return found


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces, of which some may be empty."""
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def decoded(text: bytes) -> bytes:
    """What a client reads that decodes group by group, as the library of the browsers does."""
    assert len(text) % 4 == 0
    return b"".join(b64decode(text[at : at + 4], validate=True) for at in range(0, len(text), 4))


def downloaded(through: Bridge, pieces: list[bytes], trailers: bytes = OK) -> bytes:
    """The client's body when the answer's body comes in these pieces."""
    translated, body = through.answer(head(), b"", False)
    assert translated.length == UNKNOWN
    return b"".join([body, *(through.download(piece, False, b"") for piece in pieces), through.download(b"", True, trailers)])


# -- which requests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "becomes"),
    [
        (b"application/grpc-web", b"application/grpc"),
        (b"application/grpc-web+proto", b"application/grpc+proto"),
        (b"application/grpc-web-text", b"application/grpc"),
        (b"application/grpc-web-text+json", b"application/grpc+json"),
        (b"Application/gRPC-Web; charset=utf-8", b"application/grpc"),
    ],
)
def test_a_grpc_web_request_becomes_a_grpc_request(content_type: bytes, becomes: bytes) -> None:
    headers, length, body = bridge(content_type).request(b"host: a\r\ncontent-type: %b\r\nx-grpc-web: 1\r\n" % content_type, 0, b"", True)
    assert headers == b"host: a\r\nx-grpc-web: 1\r\ncontent-type: %b\r\nte: trailers\r\n" % becomes
    assert (length, body) == (0, b"")


@pytest.mark.parametrize(
    "content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc-webby", b"application/json", b"text/grpc-web", b""]
)
def test_any_other_request_has_no_bridge(content_type: bytes) -> None:
    assert bridge_of(b"POST", b"host: a\r\ncontent-type: %b\r\n" % content_type) is None


def test_a_request_without_a_content_type_and_one_that_is_no_post_have_no_bridge() -> None:
    assert bridge_of(b"POST", b"host: a\r\n") is None
    assert bridge_of(b"OPTIONS", b"content-type: application/grpc-web\r\n") is None


def test_trailers_are_asked_for_once() -> None:
    headers, _, _ = bridge().request(b"te: trailers\r\ncontent-type: application/grpc-web\r\n", 0, b"", True)
    assert headers.count(b"te: trailers\r\n") == 1


# -- the request's body ----------------------------------------------------------------


def test_a_binary_body_passes_as_it_is_with_its_length() -> None:
    through = bridge()
    assert through.request(b"content-type: application/grpc-web\r\n", 7, b"", False)[1:] == (7, b"")
    assert through.upload(b"\0\0\0\0\2", False) + through.upload(b"ab", True) == frame(b"ab")


def test_a_text_body_that_is_whole_has_the_length_of_what_it_says() -> None:
    text = b64encode(frame(b"ab"))
    assert bridge(b"application/grpc-web-text").request(b"", len(text), text, True)[1:] == (7, frame(b"ab"))


def test_a_text_body_that_is_on_its_way_has_no_length_any_more() -> None:
    assert bridge(b"application/grpc-web-text").request(b"", 400, b"", False)[1:] == (UNKNOWN, b"")


@given(st.lists(BYTES, max_size=6), CUTS)
@example([b"a", b"bc", b"def", b""], [1, 2, 3, 5, 7])
def test_a_text_body_of_several_padded_parts_is_decoded_however_it_comes(parts: list[bytes], cuts: list[int]) -> None:
    through = bridge(b"application/grpc-web-text")
    *first, last = cut(b"".join(map(b64encode, parts)), cuts)
    assert b"".join([*(through.upload(piece, False) for piece in first), through.upload(last, True)]) == b"".join(parts)


@given(BYTES.filter(len), st.integers(1, 80))
def test_a_text_body_is_decoded_as_far_as_it_has_come(body: bytes, size: int) -> None:
    text = b64encode(body)[:size]
    whole = decoded(text[: len(text) & ~3])
    assert bridge(b"application/grpc-web-text").upload(text, False) == whole


@pytest.mark.parametrize(
    "text", [b"abc", b"ab=c", b"a===", b"====", b"abcd====", b"=abc", b"ab c", b"YQ==\r\n\r\n", b"ab-_", b"ab\xff\xff", b"YQ==Y", b"YQ="]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_what_is_no_base64_is_a_bad_request_however_it_comes(text: bytes, size: int) -> None:
    through = bridge(b"application/grpc-web-text")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    with pytest.raises(ProtocolError) as caught:
        for piece in pieces:
            through.upload(piece, False)
        through.upload(b"", True)
    assert caught.value.kind == "bad_request"


# -- the answer's head -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "accept", "answered", "becomes"),
    [
        (b"application/grpc-web", b"", b"application/grpc", b"application/grpc-web"),
        (b"application/grpc-web+proto", b"*/*", b"application/grpc", b"application/grpc-web+proto"),
        (b"application/grpc-web", b"", b"application/grpc+json", b"application/grpc-web+json"),
        (b"application/grpc-web-text", b"", b"application/grpc", b"application/grpc-web-text"),
        (b"application/grpc-web-text", b"application/grpc-web-text", b"application/grpc", b"application/grpc-web-text"),
        (b"application/grpc-web-text", b"application/grpc-web", b"application/grpc", b"application/grpc-web"),
        (b"application/grpc-web+proto", b"application/grpc-web-text+proto, */*", b"Application/GRPC", b"application/grpc-web-text+proto"),
    ],
)
def test_the_answer_has_the_form_that_the_client_asked_for(asked: bytes, accept: bytes, answered: bytes, becomes: bytes) -> None:
    answer, _ = bridge(asked, accept).answer(head(b"content-type: %b\r\nx: 1\r\n" % answered, length=5), b"", False)
    assert answer.headers == b"x: 1\r\ncontent-type: %b\r\n" % becomes
    assert answer.length == UNKNOWN


@pytest.mark.parametrize("content_type", [b"text/html", b"application/grpc-web", b"application/grpcx", b""])
def test_an_answer_that_is_not_grpc_passes_as_it_is(content_type: bytes) -> None:
    through = bridge(b"application/grpc-web-text")
    answer = head(b"content-type: %b\r\n" % content_type, 502, 9)
    assert through.answer(answer, b"bad", False) == (answer, b"bad")
    assert through.download(b" gate", False, b"") + through.download(b"!", True, b"x: 1\r\n") == b" gate!"


@pytest.mark.parametrize("asked", [b"application/grpc-web", b"application/grpc-web-text"])
def test_a_status_in_the_head_stays_there_and_the_body_stays_empty(asked: bytes) -> None:
    status = b"grpc-status: 5\r\ngrpc-message: not%20here\r\n"
    answer, body = bridge(asked).answer(head(b"content-type: application/grpc\r\n" + status), b"", True)
    assert answer.headers.startswith(status) and answer.headers.endswith(b"content-type: %b\r\n" % asked)
    assert (answer.length, body) == (0, b"")


def test_a_status_in_the_head_of_an_answer_that_ends_later_is_not_doubled() -> None:
    through = bridge()
    answer, body = through.answer(head(b"content-type: application/grpc\r\ngrpc-status: 5\r\n"), b"", False)
    assert (answer.length, body) == (UNKNOWN, b"")
    assert through.download(b"", True, b"") == b""


# -- the answer's body ----------------------------------------------------------------------


def test_trailers_are_the_last_frame() -> None:
    trailers = b"grpc-status: 0\r\nx-bin: AAE\r\n"
    body = downloaded(bridge(), [frame(b"one"), frame(b"")], trailers)
    assert body == frame(b"one") + frame(b"") + b"\x80\0\0\0\x1c" + trailers


def test_an_answer_that_gives_no_status_is_not_taken_for_a_good_one() -> None:
    assert downloaded(bridge(), [frame(b"one")], b"") == frame(b"one") + trailers_frame(NO_STATUS)
    answer, body = bridge().answer(head(), b"", True)
    assert body == trailers_frame(NO_STATUS) and answer.length == len(body)


def test_the_first_bytes_may_come_with_the_head() -> None:
    through = bridge(b"application/grpc-web-text")
    _, body = through.answer(head(), frame(b"one"), False)
    assert body == b64encode(frame(b"one"))
    assert through.download(b"", True, OK) == b64encode(trailers_frame(OK))


@given(st.lists(BYTES, max_size=6), CUTS)
def test_a_binary_answer_is_the_same_however_it_comes(messages: list[bytes], cuts: list[int]) -> None:
    body = b"".join(map(frame, messages))
    assert downloaded(bridge(), cut(body, cuts)) == body + trailers_frame(OK)


@given(st.lists(BYTES, max_size=6), CUTS)
@example([b"", b"a", b"ab", b"abc"], [1, 3, 4, 5, 6, 9])
def test_a_text_answer_has_each_frame_in_base64_however_it_comes(messages: list[bytes], cuts: list[int]) -> None:
    frames = [frame(message) for message in messages]
    text = downloaded(bridge(b"application/grpc-web-text"), cut(b"".join(frames), cuts))
    assert text == b"".join(map(b64encode, [*frames, trailers_frame(OK)]))
    assert decoded(text) == b"".join(frames) + trailers_frame(OK)


@given(st.lists(BYTES, min_size=1, max_size=4), BYTES, CUTS)
def test_whole_messages_never_wait_for_what_comes_after_them(messages: list[bytes], started: bytes, cuts: list[int]) -> None:
    through = bridge(b"application/grpc-web-text")
    through.answer(head(), b"", False)
    whole = b"".join(map(frame, messages))
    begun = frame(started + b"more")[: 5 + len(started)]
    text = b"".join(through.download(piece, False, b"") for piece in cut(whole + begun, cuts))
    assert decoded(text).startswith(whole)
    assert len(decoded(text)) >= len(whole + begun) - 2  # of the one that is not whole at most two bytes are kept


def test_a_body_that_breaks_off_within_a_frame_shows_that() -> None:
    text = downloaded(bridge(b"application/grpc-web-text"), [frame(b"whole"), frame(b"not whole")[:7]], b"grpc-status: 14\r\n")
    assert decoded(text) == frame(b"whole") + frame(b"not whole")[:7] + trailers_frame(b"grpc-status: 14\r\n")


def test_accept_may_be_on_several_lines() -> None:
    headers = b"content-type: application/grpc-web\r\naccept: text/html\r\naccept: application/grpc-web-text\r\n"
    found = bridge_of(b"POST", headers)
    assert found is not None
    answer, _ = found.answer(head(b"content-type: application/grpc\r\n", length=5), b"", False)
    assert b"application/grpc-web-text" in answer.headers


# -- an answer that breaks off -------------------------------------------------------------


@pytest.mark.parametrize("content_type", [b"application/grpc-web", b"application/grpc-web-text"])
@given(messages=st.lists(BYTES, max_size=4), more=st.integers(0, 24), cuts=CUTS)
@example(messages=[b"one"], more=0, cuts=[])
@example(messages=[b""], more=1, cuts=[])
def test_a_status_ends_a_cut_answer_between_messages_and_never_within_one(
    content_type: bytes, messages: list[bytes], more: int, cuts: list[int]
) -> None:
    through = bridge(content_type)
    _, body = through.answer(head(), b"", False)
    whole = b"".join(map(frame, messages))
    body += b"".join(through.download(piece, False, b"") for piece in cut(whole + frame(b"the last of them all")[:more], cuts))
    last = through.cut("gateway_timeout")
    assert (last != b"") == (more == 0)
    if last:
        text = b"text" in content_type
        status = b"grpc-status: 14\r\ngrpc-message: The answer was cut off. The backend took too long to answer.\r\n"
        assert (decoded(body + last) if text else body + last) == whole + trailers_frame(status)


def test_nobody_looks_for_a_status_in_other_answers() -> None:
    page, status, broken = bridge(), bridge(), bridge()
    page.answer(head(b"content-type: text/html\r\n"), b"", False)
    status.answer(head(b"content-type: application/grpc\r\ngrpc-status: 0\r\n"), b"", False)
    broken.answer(head(), b"", False)
    assert page.cut("bad_gateway") == status.cut("bad_gateway") == b""
    assert broken.cut("bad_request") == b"", "the client's own fault"
