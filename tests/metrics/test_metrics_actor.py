"""The metrics actor: when it listens, and what it answers."""

from __future__ import annotations

from pingap.bus.fake import FakeContext
from pingap.config.model import Server, Snapshot
from pingap.config.parts import Listen
from pingap.stages.messages import Scrape, Scraped
from pingap.stages.metrics.actor import MetricsActor
from tests.observability.samples import access


def commit(context: FakeContext, number: int, **metrics: str | None) -> None:
    servers = {name: Server(addr=(Listen("127.0.0.1", 1),), prometheus_metrics=path, locations=("api",)) for name, path in metrics.items()}
    snapshot = {"snapshot": Snapshot(servers=servers).to_wire(), "plans": {}}
    value = {"committed": number, "current": snapshot, "candidate": 0, "next": None, "oldest": number, "problems": []}
    context.following["config"](value)


def scrape(context: FakeContext, actor: MetricsActor, server: str = "") -> Scraped:
    actor.receivers()[Scrape](Scrape(77, 5, server))
    to, answer = context.sent[-1]
    assert isinstance(answer, Scraped)
    assert (to, answer.sid) == (5, 77)
    return answer


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
    answer = scrape(context, actor, "web")
    assert b'pingap_http_requests_total{location="api",server="web"} 1.0' in answer.payload
    assert b"pingap_accept_refused_total 1.0" in answer.payload
    assert b'server="other"' not in answer.payload
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert actor.figures() == {"events": 3}


async def test_counters_go_on_across_reloads() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    context.subscriptions[0][1]("access", [access()])
    commit(context, 2, web="/other")
    context.subscriptions[0][1]("access", [access()])
    assert b'pingap_http_requests_total{location="",server="web"} 2.0' in scrape(context, actor).payload


async def test_stopping_ends_the_subscription() -> None:
    context, actor = await start()
    commit(context, 1, web="/metrics")
    await actor.stop()
    assert context.subscriptions == []
