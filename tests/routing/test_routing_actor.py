"""The actor: what it sends to whom, and that nobody waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import astuple

from pingap import topology
from pingap.bus.members import DRAINING, READY, Members
from pingap.bus.repeats import MOST
from pingap.config.model import Basic, Location, Snapshot
from pingap.stages.errors import KINDS
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.messages import (
    INLINE,
    UNKNOWN,
    Accepted,
    Affinity,
    Answered,
    Cancel,
    Claim,
    Claimed,
    Done,
    GoesOn,
    Refused,
    Response,
    Routed,
    Stranded,
    closing,
)
from pingap.stages.owners import owner_among
from pingap.stages.routing.actor import RoutingActor
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.routing.script import ACCEPT, PLUGINS, ROUTING, SID, UPSTREAM, location, request, site, snapshot

OTHER, METRICS, CONFIG, SECOND_ACCEPT = 20, 30, 40, 50


class Script:
    """An actor, its fake process, and a clock that only the script moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.context = FakeContext("routing", ROUTING, {"destinations": topology.destinations()})
        self.actor = RoutingActor(self.context, lambda: self.now)
        self.receivers = self.actor.receivers()
        self.generation = 0
        self.members(routing=[ROUTING])

    def members(self, routing: list[int], draining: tuple[int, ...] = (), metrics: bool = True, gone: set[int] | None = None) -> None:
        dead = frozenset(gone or ())
        rows: list[tuple[Any, ...]] = [(CONFIG, "config", 0, "", READY)]
        rows += [(actor, "accept", number, "", READY) for number, actor in enumerate((ACCEPT, SECOND_ACCEPT)) if actor not in dead]
        rows += [(actor, "routing", number, "", DRAINING if actor in draining else READY) for number, actor in enumerate(routing)]
        rows += [(METRICS, "metrics", 0, "", READY)] if metrics else []
        self.context.members = Members.of(self.context.members.seq + 1, 99, rows)
        self.actor.members_changed(self.context.members, dead)

    def commit(self, config: Snapshot, plans: dict[str, int] | None = None) -> None:
        self.generation += 1
        say_config(self.context, (self.generation, config, plans or {}), oldest=1)
        self.context.sent.clear()

    def receive(self, message: Any) -> list[tuple[int, Any]]:
        """Hands a message over; what the actor sent because of it."""
        self.receivers[type(message)](message)
        return self.taken()

    def sweep(self) -> None:
        """What the timers do."""
        self.actor._claims.sweep()
        self.actor._destinations.sweep()

    def taken(self) -> list[tuple[int, Any]]:
        sent, self.context.sent = self.context.sent, []
        return sent

    def answer(self, message: Any) -> Response:
        """The one response that goes straight to accept."""
        [(to, response)] = self.receive(message)
        assert to == ACCEPT
        assert isinstance(response, Response)
        return response


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    await script.actor.start()
    yield script
    await script.actor.stop()


def committed(script: Script, **locations: Location) -> Script:
    script.commit(site(locations))
    return script


# -- where requests go ------------------------------------------------------------


async def test_a_request_goes_to_the_upstream_of_its_affinity(script: Script) -> None:
    committed(script, l=location(path="/"))
    [(to, routed)] = script.receive(request("/a?b", started=99.5))
    assert to == UPSTREAM
    assert isinstance(routed, Routed)
    assert (*astuple(routed)[:15], routed.is_framed, routed.spelled) == astuple(request("/a?b", started=99.5))
    assert (routed.client_ip, routed.location, routed.upstream, routed.plan) == ("192.0.2.7", "l", "u", 0)
    assert (routed.variables, routed.stamps, routed.original, routed.watchers) == ({}, (100.0, 100.0), b"", ())


async def test_a_location_with_request_plugins_goes_there_first(script: Script) -> None:
    script.commit(snapshot(l=location(plugins=("p",), upstream="")), {"l": REQUEST_PLUGINS})
    [(to, routed)] = script.receive(request())
    assert to == PLUGINS
    assert (routed.plan, routed.upstream) == (REQUEST_PLUGINS, "")


async def test_a_request_that_no_location_wants_is_answered_with_404(script: Script) -> None:
    script.commit(snapshot(Basic(error_template="<{{error_type}}> {{content}}"), l=location(path="/api")))
    response = script.answer(request("/"))
    assert (response.sid, response.source, response.status) == (SID, ROUTING, 404)
    page = (b"content-type: text/html; charset=utf-8", b"cache-control: private, no-store", b"x-pingap-etype: not_found")
    assert response.headers == b"".join(line + b"\r\n" for line in page)
    assert response.body.decode() == f"<not_found> {KINDS['not_found'].text}"
    assert response.length == len(response.body)
    assert response.ended
    assert response.report is not None
    assert (response.report.error, response.report.location, response.report.client_ip) == ("not_found", "", "192.0.2.7")
    assert response.report.stamps == (100.0, 100.0)


async def test_an_answer_to_head_says_its_length_and_has_no_body(script: Script) -> None:
    committed(script)
    response = script.answer(request(method=b"HEAD"))
    assert response.body == b""
    assert response.ended
    assert response.length == script.answer(request()).length > 0


async def test_a_server_that_is_not_configured_has_no_locations(script: Script) -> None:
    committed(script, l=location())
    assert script.answer(request(server="gone")).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"length": 10, "ended": False}, 0),
        ({"length": 11, "ended": False}, 413),
        ({"length": 11, "body": b"x" * 11}, 413),
        ({"length": UNKNOWN, "body": b"x" * 11}, 413),
        ({"length": UNKNOWN, "ended": False}, 0),  # upstream counts it as it comes
        ({}, 0),
    ],
)
async def test_a_body_beyond_the_locations_cap_is_answered_with_413(script: Script, fields: dict[str, Any], status: int) -> None:
    committed(script, l=location(client_max_body_size=10))
    [(to, sent)] = script.receive(request(method=b"POST", **fields))
    if not status:
        assert to == UPSTREAM
        return
    assert (to, sent.status, sent.report.error, sent.report.location) == (ACCEPT, 413, "body_too_large", "l")


async def test_a_capture_that_names_no_upstream_is_answered_and_logged_so_often_a_second(script: Script) -> None:
    committed(script, l=location(host="~^(?<u>\\w+)", upstream="$u"))
    for number in range(MOST + 3):
        response = script.answer(request(host=f"red{number}.example.com"))
        assert response.status == 503
        assert response.report is not None
        assert response.report.error == "no_backend"
    assert [level for level, _, _ in script.context.logged] == ["warn"] * MOST


@pytest.mark.interpreted
async def test_a_crash_is_answered_with_500_and_logged(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(script, l=location())

    def crash(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("pingap.stages.routing.core.Router.route", crash)
    response = script.answer(request())
    assert response.status == 500
    [(level, _, fields)] = script.context.logged
    assert level == "error"
    assert "broken" in fields["traceback"]


# -- generations -------------------------------------------------------------------


async def test_it_is_ready_with_the_first_committed_generation(script: Script) -> None:
    assert not script.context.is_ready
    committed(script, l=location())
    assert script.context.is_ready


async def test_a_request_is_routed_by_its_own_generation(script: Script) -> None:
    committed(script, old=location())
    committed(script, new=location())
    [(_, old)] = script.receive(request(generation=1))
    [(_, new)] = script.receive(request(generation=2))
    assert (old.location, new.location) == ("old", "new")


async def test_a_replica_too_young_for_a_generation_uses_the_next_as_a_whole(script: Script) -> None:
    script.generation = 6
    committed(script, new=location())
    [(to, routed)] = script.receive(request(generation=6))
    assert (to, routed.location, routed.generation) == (UPSTREAM, "new", 7)
    assert script.actor.figures()["requests"] == 1


async def test_a_generation_that_nobody_knows_is_answered_with_503(script: Script) -> None:
    response = script.answer(request(generation=5))
    assert response.status == 503
    assert b"retry-after: " in response.headers
    assert script.context.logged[0][0] == "error"


async def test_a_location_that_nobody_could_answer_refuses_its_generation(script: Script) -> None:
    say_config(script.context, candidate=(3, snapshot(l=location(upstream="", plugins=("p",))), {"l": 0}))
    [(to, refused)] = script.taken()
    assert (to, type(refused), refused.generation) == (CONFIG, Refused, 3)
    assert "locations.l" in refused.reason


async def test_a_generation_that_compiles_is_accepted(script: Script) -> None:
    say_config(script.context, candidate=(3, snapshot(l=location()), {"l": 0}))
    assert [(to, type(message)) for to, message in script.taken()] == [(CONFIG, Accepted)]


async def test_what_needs_plugins_goes_back_while_there_are_none_and_all_else_goes_on(script: Script) -> None:
    needy = {"needy": location(path="/needy"), "full": location(path="/full", max_processing=1), "plain": location(path="/")}
    script.commit(site(needy), {"needy": REQUEST_PLUGINS, "full": REQUEST_PLUGINS})
    alone = Affinity(ROUTING, 0, UPSTREAM)
    for turn in range(3):
        for target in ("/needy", "/full"):
            sid = SID + turn
            assert script.receive(request(target, sid=sid, affinity=alone)) == [(ACCEPT, Stranded(sid))]
    [(to, _)] = script.receive(request("/plain", affinity=alone))
    assert to == UPSTREAM
    [(to, _)] = script.receive(request("/full", sid=SID + 9))  # no place was taken
    assert to == PLUGINS
    assert script.actor.figures() == {"requests": 2, "in_flight": 0}


async def test_whether_a_request_goes_on_without_its_client_is_for_its_location_to_say(script: Script) -> None:
    script.commit(
        snapshot(
            job=location(path="/job", ignore_client_close=True),
            full=location(path="/full", ignore_client_close=True, max_processing=1),
            all=location(path="/all"),
        )
    )
    for target, is_so in (("/job", True), ("/full", True), ("/full", True), ("/all", False), ("/nowhere", False)):
        asked = closing(request(target))
        assert script.receive(asked) == [(ACCEPT, GoesOn(SID, is_so))]
    assert script.receive(closing(request("/job", generation=99))) == [(ACCEPT, GoesOn(SID, True))]
    [(to, _)] = script.receive(request("/full"))  # asking has taken no place
    assert to == UPSTREAM
    assert script.actor.figures()["requests"] == 1


# -- max_processing ------------------------------------------------------------------


async def test_beyond_max_processing_requests_are_answered_with_429_until_one_ends(script: Script) -> None:
    committed(script, l=location(max_processing=1))
    [(to, routed)] = script.receive(request())
    assert (to, routed.watchers) == (UPSTREAM, (ROUTING,))
    response = script.answer(request(sid=SID + 1))
    assert response.status == 429
    assert response.report is not None
    assert (response.report.error, response.report.location, response.report.upstream) == ("too_many_requests", "l", "u")
    assert script.receive(Done(SID)) == []
    [(to, _)] = script.receive(request(sid=SID + 2))
    assert to == UPSTREAM


async def test_a_cancelled_stream_gives_its_place_back(script: Script) -> None:
    committed(script, l=location(max_processing=1))
    script.receive(request())
    script.receive(Cancel(SID, "client"))
    script.receive(Done(SID))
    [(to, _)] = script.receive(request(sid=SID + 1))
    assert to == UPSTREAM


async def test_the_places_of_a_dead_accept_actor_are_free_again(script: Script) -> None:
    committed(script, l=location(max_processing=1))
    script.receive(request())
    script.members([ROUTING], gone={ACCEPT})
    [(to, _)] = script.receive(request(sid=(SECOND_ACCEPT << 32) + 1))
    assert to == UPSTREAM


def owned_by(script: Script, owner: int, **keys: Any) -> str:
    """Commits a location that the replica `owner` counts, with two replicas; its name."""
    script.members([ROUTING, OTHER])
    name = next(f"l{n}" for n in range(100) if owner_among(f"l{n}", script.context.members.ready("routing")) == owner)
    committed(script, **{name: location(max_processing=1, **keys)})
    return name


async def test_a_place_is_claimed_from_the_replica_that_counts_the_location(script: Script) -> None:
    name = owned_by(script, OTHER)
    assert script.receive(request()) == [(OTHER, Claim(SID, ROUTING, name, (1,)))]
    assert script.actor.held() == 1
    script.now += 0.01
    [(to, routed)] = script.receive(Claimed(SID, name, True))
    assert (to, routed.watchers, routed.stamps) == (UPSTREAM, (ROUTING,), (100.0, 100.01))
    assert script.actor.held() == 0
    # the end of the stream is passed on, once
    assert script.receive(Done(SID)) == [(OTHER, Done(SID))]
    assert script.receive(Done(SID)) == []


async def test_a_claim_that_is_refused_is_answered_with_429(script: Script) -> None:
    name = owned_by(script, OTHER)
    script.receive(request())
    assert script.answer(Claimed(SID, name, False)).status == 429
    assert script.receive(Cancel(SID, "client")) == []


async def test_the_owner_counts_what_others_claim(script: Script) -> None:
    name = owned_by(script, ROUTING)
    assert script.receive(Claim(SID, OTHER, name, (1,))) == [(OTHER, Claimed(SID, name, True, 1))]
    assert script.receive(Claim(SID + 1, OTHER, name, (1,))) == [(OTHER, Claimed(SID + 1, name, False, 2))]
    assert script.answer(request(sid=SID + 2)).status == 429
    script.receive(Done(SID))
    assert script.receive(request(sid=SID + 3))[0][0] == UPSTREAM


async def test_the_owner_frees_what_a_dead_replica_had_claimed(script: Script) -> None:
    name = owned_by(script, ROUTING)
    script.receive(Claim(SID, OTHER, name, (1,)))
    script.members([ROUTING], gone={OTHER})
    assert script.receive(request(sid=SID + 1))[0][0] == UPSTREAM


async def test_an_unanswered_claim_lets_the_request_pass_after_a_second(script: Script) -> None:
    name = owned_by(script, OTHER)
    script.receive(request())
    script.now += 0.99
    script.sweep()
    assert script.taken() == []
    script.now += 0.01
    script.sweep()
    [(to, routed)] = script.taken()
    assert (to, type(routed)) == (UPSTREAM, Routed)
    assert script.context.counted == {"claims_unanswered": 1}
    # too late: neither sent twice nor kept for ever by the owner
    assert script.receive(Claimed(SID, name, True)) == []
    assert script.receive(Done(SID)) == [(OTHER, Done(SID))]


async def test_a_stream_that_ends_while_it_waits_goes_nowhere_and_frees_its_place(script: Script) -> None:
    name = owned_by(script, OTHER)
    script.receive(request())
    assert script.receive(Cancel(SID, "client")) == [(OTHER, Done(SID))]
    assert script.receive(Claimed(SID, name, True)) == []
    assert script.actor.held() == 0


async def test_when_the_owner_dies_its_successor_is_asked(script: Script) -> None:
    owned_by(script, OTHER)
    script.receive(request())
    script.members([ROUTING], gone={OTHER})
    [(to, routed)] = script.taken()
    assert (to, type(routed)) == (UPSTREAM, Routed)
    assert script.receive(request(sid=SID + 1))[0][1].status == 429


async def test_nobody_waits_for_a_dead_accept_actor(script: Script) -> None:
    owned_by(script, OTHER)
    script.receive(request())
    script.members([ROUTING, OTHER], gone={ACCEPT})
    assert script.actor.held() == 0
    script.now += 5
    script.sweep()
    assert script.taken() == []


async def test_a_replica_that_alone_is_left_and_drains_counts_by_itself(script: Script) -> None:
    script.members([ROUTING], draining=(ROUTING,))
    committed(script, l=location(max_processing=1))
    assert script.receive(request())[0][0] == UPSTREAM
    assert script.answer(request(sid=SID + 1)).status == 429


# -- internal destinations -----------------------------------------------------------------


def with_metrics(script: Script, **locations: Location) -> Script:
    script.commit(site(locations, metrics="/metrics"))
    return script


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_the_page_of_metrics_is_for_metrics_to_answer(script: Script, method: bytes) -> None:
    with_metrics(script, l=location())
    asked = request("/metrics?x=1", method=method)
    [(to, routed)] = script.receive(asked)
    assert to == METRICS
    assert isinstance(routed, Routed)
    assert (*astuple(routed)[:15], routed.is_framed, routed.spelled) == astuple(asked)
    assert (routed.client_ip, routed.location, routed.upstream, routed.plan) == ("192.0.2.7", "", "", 0)
    assert (routed.stamps, routed.original, routed.watchers) == ((100.0, 100.0), b"", ())
    assert script.actor.held() == 1
    assert script.receive(Answered(SID)) == []
    assert script.actor.held() == 0
    script.now += 5
    script.sweep()
    assert script.taken() == []


@pytest.mark.parametrize("target", ["/metrics/", "/metric", "/metricsx", "/a/metrics", "/?/metrics"])
async def test_only_that_very_path_is_the_page_of_metrics(script: Script, target: str) -> None:
    with_metrics(script, l=location())
    assert script.receive(request(target))[0][0] == UPSTREAM


async def test_without_the_key_the_path_is_like_any_other(script: Script) -> None:
    committed(script, l=location())
    assert script.receive(request("/metrics"))[0][0] == UPSTREAM


async def test_options_for_pingap_itself_is_answered_by_routing(script: Script) -> None:
    committed(script, l=location())
    [(to, routed)] = script.receive(request("*", method=b"OPTIONS"))
    assert to == ROUTING
    (to, response), (back, answered) = script.receive(routed)
    assert (to, back, answered) == (ACCEPT, ROUTING, Answered(SID))
    assert (response.status, response.headers, response.length, response.body, response.ended) == (200, b"", 0, b"", True)
    assert (response.report.error, response.report.client_ip, response.watchers) == ("", "192.0.2.7", ())
    script.receive(answered)
    assert script.actor.held() == 0


async def test_routing_that_drains_alone_still_answers_its_own_destination(script: Script) -> None:
    committed(script)
    script.members([ROUTING], draining=(ROUTING,))
    assert script.receive(request("*", method=b"OPTIONS"))[0][0] == ROUTING


def given_up(script: Script, answer: tuple[int, Any], why: str) -> bool:
    """The answer is 503, and the log says why."""
    to, response = answer
    [(level, message, _)] = script.context.logged
    assert (to, response.status, response.report.error) == (ACCEPT, 503, "overloaded")
    assert (level, message) == ("warn", f"internal destination metrics {why}")
    assert message == response.report.reason
    assert script.context.counted == {"destinations_unanswered": 1}
    return script.actor.held() == 0


async def test_a_destination_without_anybody_is_503_at_once(script: Script) -> None:
    with_metrics(script)
    script.members([ROUTING], metrics=False)
    [answer] = script.receive(request("/metrics"))
    assert given_up(script, answer, "has nobody to answer")


async def test_a_destination_that_is_silent_for_two_seconds_is_503_and_told(script: Script) -> None:
    with_metrics(script)
    script.receive(request("/metrics"))
    script.now += 1.99
    script.sweep()
    assert script.taken() == []
    script.now += 0.01
    script.sweep()
    [cancel, answer] = script.taken()
    assert cancel == (METRICS, Cancel(SID, "deadline"))
    assert given_up(script, answer, "was silent for 2 s")
    assert script.receive(Answered(SID)) == []


async def test_a_destination_that_dies_is_503_at_once(script: Script) -> None:
    with_metrics(script)
    script.receive(request("/metrics"))
    script.members([ROUTING], metrics=False, gone={METRICS})
    [answer] = script.taken()
    assert given_up(script, answer, "died")


async def test_the_end_of_a_stream_is_passed_on_to_its_destination(script: Script) -> None:
    with_metrics(script)
    script.receive(request("/metrics"))
    assert script.receive(Cancel(SID, "client")) == [(METRICS, Cancel(SID, "gone"))]
    assert script.actor.held() == 0
    script.members([ROUTING], metrics=False, gone={METRICS})
    assert script.taken() == []


async def test_nobody_is_answered_for_a_dead_accept_actor(script: Script) -> None:
    with_metrics(script)
    script.receive(request("/metrics"))
    script.members([ROUTING], metrics=False, gone={METRICS, ACCEPT})
    assert (script.taken(), script.actor.held()) == ([], 0)


async def test_an_error_page_that_is_too_long_for_one_envelope_travels_under_credit(script: Script) -> None:
    script.commit(snapshot(Basic(error_template="x" * (INLINE + 1))))
    (_, response), (_, data) = script.receive(request("/"))
    assert (response.status, response.length, response.body, response.ended, response.watchers) == (404, INLINE + 1, b"", False, (ROUTING,))
    assert (data.payload, data.ended) == (b"x" * (INLINE + 1), True)
    assert script.actor.held() == 0


async def test_figures_count_requests_and_what_is_held(script: Script) -> None:
    owned_by(script, OTHER)
    script.receive(request())
    script.receive(request(sid=SID + 1))
    assert script.actor.figures() == {"requests": 2, "in_flight": 2}
