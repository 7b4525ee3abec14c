"""Errors of ours in the form that gRPC clients read: whoever makes them, accept says them."""

from __future__ import annotations

import pytest

from pingap.stages.grpc import error_for, timeout_of, trailers_for
from pingap.stages.messages import Report
from tests.accept.playbook import ROUTING, Play, post

GRPC = b"content-type: application/grpc+proto\r\n"
WEB = b"content-type: application/grpc-web-text\r\n"
PAGE = b"content-type: text/html\r\nx-pingap-etype: no_backend\r\nretry-after: 1\r\n"


def report(addr: str = "", error: str = "no_backend") -> Report:
    return Report("all", "origin", addr, 0, False, 1, (), (), error, {}, "")


@pytest.mark.parametrize("asked", [GRPC, WEB])
def test_the_status_of_grpc_is_in_the_head_with_all_other_lines(asked: bytes) -> None:
    answer = error_for(asked, 503, PAGE, b"<p>busy", "no_backend")
    status = b"grpc-status: 14\r\ngrpc-message: No healthy backend.\r\n"
    assert answer == b"x-pingap-etype: no_backend\r\nretry-after: 1\r\n" + asked + status


@pytest.mark.parametrize("asked", [b"", b"content-type: application/json\r\n", b"content-type: application/grpcx\r\n"])
def test_other_clients_get_the_page(asked: bytes) -> None:
    assert error_for(asked, 503, PAGE, b"<p>busy", "no_backend") is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (431, 13), (502, 14), (503, 14), (504, 14), (413, 2), (500, 2)],
)
def test_the_status_is_the_one_that_a_client_would_have_to_guess(status: int, code: int) -> None:
    answer = error_for(GRPC, status, b"", b"", "")
    assert answer is not None and b"grpc-status: %d\r\n" % code in answer


@pytest.mark.parametrize(("kind", "status", "code"), [("call_cancelled", 502, 1), ("deadline_exceeded", 504, 4)])
def test_what_only_grpc_knows_keeps_its_status(kind: str, status: int, code: int) -> None:
    answer = error_for(GRPC, status, b"", b"", kind)
    assert answer is not None and b"grpc-status: %d\r\n" % code in answer
    assert b"grpc-status: %d\r\n" % code in trailers_for(GRPC, GRPC, kind)


@pytest.mark.parametrize(("timeout", "seconds"), [(b"300m", 0.3), (b"5S", 5), (b"2H", 7200), (b"1u", 1e-6), (b"5s", None), (b"", None)])
def test_a_deadline_is_read(timeout: bytes, seconds: float | None) -> None:
    assert timeout_of(b"host: a\r\ngrpc-timeout: %b\r\n" % timeout) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        (b"content-type: text/plain; charset=utf-8\r\n", "Schlüssel fehlt: 100 %\n".encode(), b"Schl%C3%BCssel fehlt: 100 %25"),
        (b"content-type: text/plain\r\n", b"a\r\nx-injected: 1", b"a%0D%0Ax-injected: 1"),
        (b"content-type: text/html\r\n", b"<h1>no</h1>", b"Unauthorized"),
        (b"content-type: text/plain\r\n", b"x" * 2000, b"Unauthorized"),
        (b"", b"", b"Unauthorized"),
    ],
)
def test_what_a_plugin_says_in_plain_text_is_the_message(headers: bytes, body: bytes, message: bytes) -> None:
    answer = error_for(GRPC, 401, headers, body, "")
    assert answer is not None and answer.endswith(b"\r\ngrpc-message: %b\r\n" % message)


def test_a_plugin_that_speaks_grpc_itself_is_left_alone() -> None:
    assert error_for(GRPC, 401, GRPC + b"grpc-status: 16\r\n", b"", "") is None


async def test_an_error_of_another_stage_is_told_in_grpc_and_logged_as_itself(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Type: application/grpc", b"Content-Length: 2", body=b"hi"))
    play.answers(play.hears_request(), 503, PAGE, b"<p>busy", report=report())
    head = b"x-pingap-etype: no_backend\r\nretry-after: 1\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\n"
    said = b"HTTP/1.1 200 OK\r\n" + head + b"grpc-message: No healthy backend.\r\ncontent-length: 0\r\n\r\n"
    assert client.hears() == said
    assert (play.event.status, play.event.error, play.event.sent) == (503, "no_backend", 0)


async def test_an_error_of_a_backend_passes_as_it_is(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Type: application/grpc", b"Content-Length: 2", body=b"hi"))
    play.answers(play.hears_request(), 503, PAGE, b"<p>busy", report=report("127.0.0.1:1", ""))
    assert client.hears().endswith(b"\r\n\r\n<p>busy")


async def test_an_error_of_accept_itself_is_told_in_grpc(play: Play) -> None:
    client = play.connects()
    play.context.stuck.add(ROUTING)
    client.says(post(b"Content-Type: application/grpc", b"Content-Length: 2", body=b"hi"))
    await play.turn()
    assert b"\r\ngrpc-status: 14\r\n" in client.hears()
    assert (play.event.status, play.event.error) == (503, "overloaded")


async def test_a_request_that_is_refused_for_its_body_is_told_in_grpc(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Type: application/grpc-web", b"Transfer-Encoding: chunked", body=b"zz\r\n"))
    said = client.hears()
    assert said.startswith(b"HTTP/1.1 200 ") and b"\r\ngrpc-status: 13\r\n" in said and said.endswith(b"\r\n\r\n")
    assert play.event.status == 400
