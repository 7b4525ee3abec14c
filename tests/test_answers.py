"""Answers of our own: in one piece or within credit, and nothing kept for who is gone."""

from __future__ import annotations

from msgspec.structs import replace

from pingap.stages.answers import OwnAnswers, report_on
from pingap.stages.messages import INLINE, STREAM_WINDOW, WINDOW, Answered, Cancel, Credit, Data, Done, Response
from tests.kit.context import FakeContext
from tests.metrics.test_metrics_actor import ACCEPT, ROUTING, SID, routed

ME = 8
REPORT = report_on("192.0.2.9", (1.0, 2.0), "l", "u", "overloaded", "why")


def answering() -> tuple[FakeContext, OwnAnswers]:
    context = FakeContext("metrics", ME)
    return context, OwnAnswers(context)


def test_what_fits_goes_with_the_head_and_leaves_nothing() -> None:
    context, answers = answering()
    answers.send(routed(), 404, b"a: b\r\n", bytes(INLINE), REPORT)
    assert context.sent == [(ACCEPT, Response(SID, ME, 404, b"a: b\r\n", INLINE, bytes(INLINE), True, REPORT, ()))]
    assert (REPORT.location, REPORT.upstream, REPORT.error, REPORT.reason) == ("l", "u", "overloaded", "why")
    assert len(answers) == 0


def test_a_long_body_goes_as_credit_allows_and_its_sender_hears_of_the_end() -> None:
    context, answers = answering()
    page = bytes(range(256)) * (WINDOW // 128)  # twice the window
    answers.send(routed(), 200, b"", page, REPORT)
    (_, response), (_, first) = context.sent
    assert (response.ended, response.length, response.body, response.watchers) == (False, len(page), b"", (ME,))
    assert (type(first), len(first.payload), first.ended) == (Data, WINDOW, False)
    assert len(answers) == 1
    answers.credited(Credit(SID, 1000, ACCEPT))
    answers.credited(Credit(SID, WINDOW, ACCEPT))
    second, third = (message for _, message in context.sent[2:])
    assert (len(second.payload), second.ended, third.ended) == (1000, False, True)
    assert first.payload + second.payload + third.payload == page
    assert len(answers) == 0
    answers.credited(Credit(SID, 5, ACCEPT))
    assert len(context.sent) == 4


def test_over_http2_the_first_credit_is_that_of_a_stream() -> None:
    context, answers = answering()
    answers.send(routed(version=20), 200, b"", bytes(WINDOW), REPORT)
    assert len(context.sent[1][1].payload) == STREAM_WINDOW


def test_a_head_is_answered_with_the_length_alone() -> None:
    context, answers = answering()
    answers.send(routed(method=b"HEAD"), 200, b"", bytes(WINDOW), REPORT)
    [(_, response)] = context.sent
    assert (response.length, response.body, response.ended, len(answers)) == (WINDOW, b"", True, 0)


def test_the_rest_is_dropped_when_the_stream_ends_or_its_accept_actor_is_gone() -> None:
    context, answers = answering()
    other = (2 << 32) + 1
    for over in (Cancel(SID, "client"), Done(SID)):
        answers.send(routed(), 200, b"", bytes(2 * WINDOW), REPORT)
        answers.ended(over)
        assert len(answers) == 0
    for sid in (SID, other):
        answers.send(replace(routed(), sid=sid), 200, b"", bytes(2 * WINDOW), REPORT)
    answers.forget({ACCEPT})
    sent = len(context.sent)
    answers.credited(Credit(SID, 1, ACCEPT))
    assert (len(answers), len(context.sent)) == (1, sent)


def test_who_answers_for_an_internal_destination_tells_routing() -> None:
    context, answers = answering()
    answers.answer(routed(), 500, b"", b"x", error="internal")
    (_, response), told = context.sent
    assert response.report is not None
    assert (response.report.error, response.report.client_ip, response.report.stamps) == ("internal", "192.0.2.9", (1.0, 2.0))
    assert told == (ROUTING, Answered(SID))
