"""The call of grpc.health.v1, read: what passes, and that nothing that comes breaks it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.discovery.probes.failed import LONGEST, ProbeFailed
from pingap.stages.discovery.probes.health_call import HealthCall, fields_of_request, request_message, serving_status
from pingap.stages.http2.engine import BODY, HEAD, INTERIM, TRAILERS, Body, Event, Fields, Head, InterimHead, Trailers

OK: Fields = ((b":status", b"200"), (b"content-type", b"application/grpc+proto"))
ENDED: Fields = ((b"grpc-status", b"0"),)


def answer(message: bytes = b"\x08\x01", flag: int = 0) -> bytes:
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


def verdict(*events: Event, service: str = "") -> str:
    """Why a call fails; "" when it passes."""
    call = HealthCall(1, service)
    try:
        for event in events:
            call.take(event)
    except ProbeFailed as failed:
        return str(failed)
    assert call.is_over
    return ""


def of(body: bytes, trailers: Fields = ENDED, head: Fields = OK) -> list[Event]:
    return [Head(HEAD, 1, head, False), Body(BODY, 1, body, len(body), False), Trailers(TRAILERS, 1, trailers)]


def test_serving_passes_however_it_is_cut_and_whatever_comes_with_it() -> None:
    body = answer(b"\x12\x03abc\x08\x01\x1d\0\0\0\0\x21" + bytes(8))
    assert verdict(*of(body)) == ""
    pieces = [Body(BODY, 1, bytes((byte,)), 1, False) for byte in body]
    other: Event = Body(BODY, 3, b"of another stream", 1, True)
    assert verdict(InterimHead(INTERIM, 1, ((b":status", b"103"),)), Head(HEAD, 1, OK, False), other, *pieces, of(b"")[2]) == ""


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (of(answer(b"")), "the server is not serving (UNKNOWN)"),
        (of(answer(b"\x08\x02")), "the server is not serving (NOT_SERVING)"),
        (of(b""), "the answer has no message"),
        (of(answer(flag=1)), "the answer is compressed, which was not asked for"),
        (of(answer() + answer()), "the answer is not one whole message"),
        (of(answer()[:-1]), "the answer is not one whole message"),
        (of(answer(b"\x08")), "the answer is no HealthCheckResponse"),
        (of(answer(b"\x0a\x05abc")), "the answer is no HealthCheckResponse"),
        (of(answer(b"\xff" * 12)), "the answer is no HealthCheckResponse"),
        (of(answer(), ()), "the answer ends without a status (grpc-status)"),
        (of(answer(), ((b"grpc-status", b"x"),)), "the answer ends without a status (grpc-status)"),
        (of(answer(), ((b"grpc-status", b"14"), (b"grpc-message", b"no%20way%0a"))), "the call failed with status UNAVAILABLE: no way "),
        (of(answer(), ((b"grpc-status", b"99"),)), "the call failed with status 99"),
        (of(answer(), head=((b":status", b"503"),)), "answered with HTTP status 503, not in gRPC"),
        (of(answer(), head=((b":status", b"200"), (b"content-type", b"text/html"))), "does not answer in gRPC, but in text/html"),
        ([Head(HEAD, 1, (*OK, (b"grpc-status", b"5")), True)], "does not know the server (NOT_FOUND)"),
    ],
)
def test_every_other_answer_fails_and_says_why(events: list[Event], why: str) -> None:
    assert verdict(*events) == why


@given(st.binary(max_size=64))
def test_no_message_breaks_it(body: bytes) -> None:
    for message in (body, answer(body)):
        with contextlib.suppress(ProbeFailed):
            assert serving_status(message) >= 0


@given(
    st.lists(
        st.tuples(st.sampled_from([b":status", b"grpc-status", b"grpc-message", b"content-type"]), st.binary(max_size=300)), max_size=4
    )
)
def test_no_fields_break_it_and_a_reason_is_one_short_line(fields: Fields) -> None:
    for events in (of(answer(), tuple(fields)), of(answer(), head=tuple(fields)), of(answer(), head=OK + tuple(fields))):
        reason = verdict(*events)
        assert len(reason) <= LONGEST + 1
        assert reason.isprintable()


def test_what_is_asked_names_the_service_and_the_time_that_there_is() -> None:
    assert request_message("") == bytes(5)
    assert request_message("a.B") == b"\0\0\0\0\x05\x0a\x03a.B"
    assert request_message("x" * 200)[5:8] == b"\x0a\xc8\x01"
    fields = dict(fields_of_request("shop:1", True, 1e9))
    assert (fields[b":scheme"], fields[b":authority"], fields[b"grpc-timeout"]) == (b"https", b"shop:1", b"99999999m")
    assert dict(fields_of_request("a", False, 0.0001))[b"grpc-timeout"] == b"1m"
