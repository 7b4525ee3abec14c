"""The metrics actor: when it listens, and what it answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pingap.bus.members import Members
from pingap.config.model import Basic, Server, Snapshot
from pingap.config.parts import Listen
from pingap.stages.certificate_status import CertificateStatus
from pingap.stages.messages import (
    WINDOW,
    Affinity,
    Answered,
    Cancel,
    CertificatesAsk,
    CertificatesTold,
    Credit,
    Data,
    Done,
    Peer,
    Response,
    Routed,
    UpstreamsAsk,
    UpstreamsTold,
)
from pingap.stages.metrics import asking
from pingap.stages.metrics.actor import MetricsActor
from pingap.stages.statuses import BackendStatus, UpstreamStatus
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.waiting import eventually
from tests.observability.samples import access

ACCEPT, ROUTING = 1, 5
SID = (ACCEPT << 32) + 77


def routed(**more: Any) -> Routed:
    """A request for the page, as routing sends it."""
    peer = Peer("192.0.2.7", 51234, "192.0.2.1", 80, "http", 1)
    # fmt: off
    plain = Routed(
        SID, 1, Affinity(ROUTING, 3, 4), "web", peer, b"GET", b"/metrics", 11, b"example.com", b"", 0, b"", True, 0.5, b"",
        "192.0.2.9", "", "", 0, {}, (1.0, 2.0), b"", (),
    )
    # fmt: on
    return replace(plain, **more)


def commit(context: FakeContext, number: int, **metrics: str | None) -> None:
    servers = {name: Server(addr=(Listen("127.0.0.1", 1),), prometheus_metrics=path, locations=("api",)) for name, path in metrics.items()}
    snapshot = Snapshot(basic=Basic(error_template="<{{error_type}}>"), servers=servers)
    say_config(context, (number, snapshot, {}), oldest=number)


def scrape(context: FakeContext, actor: MetricsActor, server: str = "web", **more: Any) -> Response:
    """What accept gets for ROUTED."""
    context.sent.clear()
    actor.receivers()[Routed](routed(server=server, **more))
    (to, response), *rest, (back, answered) = context.sent
    assert isinstance(response, Response)
    assert (to, response.sid, response.source) == (ACCEPT, SID, 8)
    assert (back, answered) == (ROUTING, Answered(SID))
    assert [to for to, _ in rest] == [ACCEPT] * len(rest)
    return response


async def start() -> tuple[FakeContext, MetricsActor]:
    context = FakeContext("metrics", 8)
    actor = MetricsActor(context)
    await actor.start()
    return context, actor


async def test_it_listens_only_while_some_server_has_metrics() -> None:
    context, _ = await start()
    commit(context, 1, web=None)
    assert context.is_ready and context.subscriptions == []
    commit(context, 2, web="/metrics")
    commit(context, 3, web="/metrics", other="/m")
    assert [topics for topics, _ in context.subscriptions] == [("access", "count")]
    commit(context, 4, web=None)
    assert context.subscriptions == []


async def test_a_scrape_is_answered_with_what_was_counted() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics", other="/m")
    take = context.subscriptions[0][1]
    take("access", [access(), access(server="other")])
    take("count", [(98, "accept", 0, [["refused", {}, 1]], {"in_flight": 2})])
    answer = scrape(context, actor)
    assert b'pingap_http_requests_total{location="api",server="web"} 1.0' in answer.body
    assert b"pingap_accept_refused_total 1.0" in answer.body
    assert b'server="other"' not in answer.body
    assert answer.headers.startswith(b"content-type: text/plain; version=0.0.4") and answer.headers.endswith(b"\r\n")
    assert (answer.status, answer.length, answer.ended, answer.watchers) == (200, len(answer.body), True, ())
    assert answer.report is not None
    assert (answer.report.error, answer.report.client_ip, answer.report.stamps) == ("", "192.0.2.9", (1.0, 2.0))
    assert actor.figures() == {"events": 3, "in_flight": 0}


async def test_an_answer_to_head_says_the_length_of_the_page_and_has_none() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    page = scrape(context, actor)
    head = scrape(context, actor, method=b"HEAD")
    assert (head.length, head.body, head.ended) == (page.length, b"", True)


async def test_a_page_that_cannot_be_made_is_the_error_page_of_this_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    monkeypatch.setattr("pingap.stages.metrics.page.page", lambda *args: 1 / 0)
    answer = scrape(context, actor)
    assert (answer.status, answer.body, answer.report and answer.report.error) == (500, b"<internal>", "internal")
    [(level, message, _)] = context.logged
    assert (level, message) == ("error", "the page of metrics cannot be made")


async def test_a_long_page_waits_for_credit_and_its_client_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    monkeypatch.setattr("pingap.stages.metrics.page.page", lambda *args: bytes(2 * WINDOW))
    answer = scrape(context, actor)
    assert (answer.ended, answer.watchers, actor.held()) == (False, (8,), 1)
    actor.receivers()[Credit](Credit(SID, 1000, ACCEPT))
    assert context.sent[-1] == (ACCEPT, Data(SID, bytes(1000), False, ""))
    actor.receivers()[Done](Done(SID))
    assert actor.held() == 0


async def test_counters_go_on_across_reloads() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    context.subscriptions[0][1]("access", [access()])
    commit(context, 2, web="/other")
    context.subscriptions[0][1]("access", [access()])
    assert b'pingap_http_requests_total{location="",server="web"} 2.0' in scrape(context, actor).body


async def test_stopping_ends_the_subscription() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    await actor.stop()
    assert context.subscriptions == []


# -- what discovery knows ----------------------------------------------------------------------------

DISCOVERY = 6
ROW = UpstreamStatus("api", "static", (BackendStatus("10.0.0.1:80", "", "healthy", False, 1),))


def with_discovery(context: FakeContext) -> None:
    context.members = Members.of(1, 9, [(DISCOVERY, "discovery", 0, "", "ready")])


async def test_a_scrape_asks_discovery_and_is_answered_with_what_that_tells() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    with_discovery(context)
    actor.receivers()[Routed](routed())
    actor.receivers()[Routed](routed(sid=SID + 1))
    assert context.sent[-1] == (DISCOVERY, UpstreamsAsk(8, 1)), "one question for both"
    assert actor.held() == 2
    actor.receivers()[UpstreamsTold](UpstreamsTold(1, (ROW,)))
    answers = [message for to, message in context.sent if to == ACCEPT]
    assert [answer.sid for answer in answers] == [SID, SID + 1]
    assert all(b'pingap_upstream_backend_healthy{backend="10.0.0.1:80",upstream="api"} 1.0' in answer.body for answer in answers)
    assert actor.held() == 0


async def test_a_discovery_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONGEST", 0.02)
    context, actor = await start()
    commit(context, 1, web="/metrics")
    with_discovery(context)
    context.sent.clear()
    actor.receivers()[Routed](routed())
    await eventually(lambda: len(context.sent) == 3, 5)
    assert b"pingap_http_requests_total" in context.sent[1][1].body
    actor.receivers()[UpstreamsTold](UpstreamsTold(1, (ROW,)))
    assert len(context.sent) == 3, "what comes too late answers nobody"


@pytest.mark.parametrize("gone", [True, False])
async def test_a_discovery_that_goes_or_is_stuck_is_not_waited_for(gone: bool) -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    with_discovery(context)
    context.sent.clear()
    if gone:
        actor.receivers()[Routed](routed())
        assert [to for to, _ in context.sent] == [DISCOVERY]
        actor.members_changed(Members.of(2, 9, []), frozenset({DISCOVERY}))
        assert [to for to, _ in context.sent] == [DISCOVERY, ACCEPT, ROUTING]
    else:
        context.stuck.add(DISCOVERY)
        assert scrape(context, actor).status == 200


@pytest.mark.parametrize("how", ["cancel", "done", "its accept is gone"])
async def test_who_has_left_meanwhile_gets_no_answer(how: str) -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    with_discovery(context)
    actor.receivers()[Routed](routed())
    context.sent.clear()
    if how == "cancel":
        actor.receivers()[Cancel](Cancel(SID, "gone"))
    elif how == "done":
        actor.receivers()[Done](Done(SID))
    else:
        actor.members_changed(context.members, frozenset({ACCEPT}))
    actor.receivers()[UpstreamsTold](UpstreamsTold(1, (ROW,)))
    assert context.sent == [] and actor.held() == 0


# -- what acme knows ---------------------------------------------------------------------------------

ACME = 7


async def test_acme_is_asked_besides_and_the_page_waits_for_both() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    context.members = Members.of(1, 9, [(DISCOVERY, "discovery", 0, "", "ready"), (ACME, "acme", 0, "", "ready")])
    context.sent.clear()
    actor.receivers()[Routed](routed())
    assert context.sent == [(DISCOVERY, UpstreamsAsk(8, 1)), (ACME, CertificatesAsk(8, 1))]
    actor.receivers()[CertificatesTold](CertificatesTold(1, (CertificateStatus("site", (), "expired", "file", not_after=1.6e9),)))
    assert len(context.sent) == 2, "discovery has not told yet"
    actor.receivers()[UpstreamsTold](UpstreamsTold(1, (ROW,)))
    answer = context.sent[2][1]
    assert b'pingap_certificate_valid{certificate="site"} 0.0' in answer.body
    assert b'pingap_upstream_backend_healthy{backend="10.0.0.1:80",upstream="api"} 1.0' in answer.body


async def test_an_acme_that_dies_costs_what_it_knows_and_no_more() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    context.members = Members.of(1, 9, [(ACME, "acme", 0, "", "ready")])
    context.sent.clear()
    actor.receivers()[Routed](routed())
    actor.members_changed(Members.of(2, 9, []), frozenset({ACME}))
    assert [to for to, _ in context.sent] == [ACME, ACCEPT, ROUTING]
    assert b"pingap_certificate_valid{" not in context.sent[1][1].body
