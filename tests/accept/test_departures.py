"""Clients that close early where a location ignores that: `ignore_client_close`."""

from __future__ import annotations

import pytest

from pingap.config.model import Location, Server, Snapshot
from pingap.stages.messages import UNKNOWN, WINDOW, Cancel, Credit, Done, GoesOn, Interim, Request, closing
from pingap.stages.recovery import WAIT
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Client, Play, get, post
from tests.accept.test_http2 import Browser

CREW = {ROUTING, PLUGINS, UPSTREAM}
WAYS = ["resets", "shuts_its_side"]


@pytest.fixture
def patient(play: Play) -> Play:
    """A server with a location that ignores a client's close, and one that does not: routing knows which is which."""
    locations = {"all": Location(upstream="u"), "job": Location(upstream="u", ignore_client_close=True)}
    play.commits(2, snapshot=Snapshot(servers={"web": Server(addr=(), locations=tuple(locations))}, locations=locations))
    play.stages_hear()
    return play


def says(play: Play, request: Request, is_so: bool) -> None:
    """Routing was asked about this request, and says so."""
    asked = [(to, envelope) for to, envelope in play.stages_hear() if not isinstance(envelope, Credit)]
    assert asked == [(ROUTING, closing(request))]
    play.tell(GoesOn(request.sid, is_so))


async def asked(play: Play, said: bytes = get(b"/job")) -> tuple[Client, Request]:
    client = play.connects()
    client.says(said)
    return client, play.hears_request()


async def test_who_has_shut_only_its_own_side_gets_its_answer(patient: Play) -> None:
    client, request = await asked(patient)
    client.shuts_its_side()
    assert not client.is_closed
    says(patient, request, True)
    patient.tell(Interim(request.sid, 103, b""))
    patient.answers(request, body=b"ha", length=4, ended=False)
    patient.streams(request, b"lf", ended=True)
    await patient.turn()
    heard = client.hears()
    assert heard.startswith(b"HTTP/1.1 103 ") and heard.endswith(b"\r\n\r\nhalf") and b"connection: close" in heard
    assert client.is_closed
    assert (patient.event.status, patient.event.error, patient.event.sent) == (200, "", 4)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_answer_may_come_before_or_after_routing_says_so(patient: Play, when: str) -> None:
    client, request = await asked(patient)
    client.shuts_its_side()
    if when == "after":
        says(patient, request, True)
    patient.answers(request, body=b"fine")
    await patient.turn()
    assert client.hears().endswith(b"fine") and client.is_closed
    if when == "before":
        says(patient, request, False)
    await patient.turn()
    assert patient.event.error == ""


@pytest.mark.parametrize("way", WAYS)
async def test_where_it_is_not_ignored_all_is_given_up_as_ever(patient: Play, way: str) -> None:
    client, request = await asked(patient)
    getattr(client, way)()
    await patient.turn()
    says(patient, request, False)
    await patient.turn()
    assert patient.hears_cancels() == CREW
    assert client.transport.is_lost
    assert (patient.event.status, patient.event.error) == (499, "client_closed")
    assert not patient.is_holding


async def test_servers_without_such_a_location_ask_nobody(play: Play) -> None:
    client, _ = await asked(play)
    client.shuts_its_side()
    await play.turn()
    assert play.hears_cancels() == CREW


@pytest.mark.parametrize("length", [100_000, UNKNOWN])
async def test_a_request_whose_client_is_gone_runs_to_its_end(patient: Play, length: int) -> None:
    client, request = await asked(patient)
    client.resets()
    await patient.turn()
    says(patient, request, True)
    assert patient.actor.held() == 1
    patient.tell(Interim(request.sid, 103, b""))
    patient.answers(request, body=b"x" * 10, length=length, ended=False, watchers=(ROUTING,))
    patient.streams(request, b"x" * WINDOW)
    assert patient.hears_credit() == WINDOW + 10  # nobody is slow
    patient.streams(request, b"", ended=True)
    assert patient.stages_hear() == [(ROUTING, Done(request.sid))]
    assert (patient.event.status, patient.event.error, patient.event.sent) == (200, "client_closed", 0)
    assert patient.actor.held() == 0


async def test_first_half_then_all_of_it(patient: Play) -> None:
    client, request = await asked(patient)
    client.shuts_its_side()
    says(patient, request, True)
    patient.answers(request, body=b"x", length=10, ended=False)
    client.resets()
    await patient.turn()
    assert patient.hears_credit() == 1  # what the client did not live to take
    patient.streams(request, b"x" * 9, ended=True)
    assert (patient.event.status, patient.event.error) == (200, "client_closed")


async def test_what_was_written_and_not_taken_gives_its_credit_back(patient: Play) -> None:
    client, request = await asked(patient)
    client.stops_reading()
    patient.answers(request, ended=False)
    patient.streams(request, b"x" * WINDOW)
    assert patient.hears_nothing()
    client.resets()
    await patient.turn()
    heard = patient.stages_hear()
    assert sum(envelope.bytes for _, envelope in heard if isinstance(envelope, Credit)) == WINDOW
    patient.tell(GoesOn(request.sid, True))
    patient.streams(request, b"", ended=True)
    assert not patient.is_holding


@pytest.mark.parametrize("end", ["error", "dead upstream", "dead routing", "tunnel", "stop"])
async def test_a_request_without_a_client_ends_however_it_ends(patient: Play, end: str) -> None:
    lines = (b"Connection: Upgrade", b"Upgrade: x") if end == "tunnel" else ()
    client, request = await asked(patient, b"POST" + get(b"/job", *lines)[3:])
    client.resets()
    await patient.turn()
    says(patient, request, True)
    if end == "error":
        patient.answers(request, ended=False)
        patient.streams(request, b"", error="bad_gateway")
    elif end == "dead upstream":
        patient.members((ROUTING, "routing"), (PLUGINS, "plugins"))
    elif end == "dead routing":
        patient.members((PLUGINS, "plugins"), (UPSTREAM, "upstream"))
        await patient.passes(WAIT)
    elif end == "tunnel":
        patient.answers(request, status=101, ended=False)
        assert patient.hears_cancels() == CREW
    else:
        await patient.actor.stop()
    assert not patient.is_holding
    assert len(patient.events) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_request_that_is_not_all_here_is_given_up(patient: Play, way: str, size: int) -> None:
    client = patient.connects()
    client.says(post(b"Content-Length: %d" % size, body=b"x"))
    patient.stages_hear()
    getattr(client, way)()
    await patient.turn()
    assert not any(isinstance(envelope, Request) for _, envelope in patient.stages_hear())
    assert client.transport.is_lost
    assert patient.event.status == 499


async def test_pipelined_requests_before_the_end_are_answered_too(patient: Play) -> None:
    client = patient.connects()
    client.says(get(b"/1") + get(b"/2") + get(b"/3"))
    client.shuts_its_side()
    for number in (1, 2, 3):
        heard = [envelope for _, envelope in patient.stages_hear() if isinstance(envelope, Request)]
        request = next(one for one in heard if type(one) is Request) if number == 1 else heard[0]
        assert request.target == b"/%d" % number
        patient.tell(GoesOn(request.sid, True))
        patient.answers(request, body=b"%d" % number)
        await patient.turn()
    assert client.hears().count(b"HTTP/1.1 200") == 3
    assert client.is_closed


async def test_half_a_head_behind_them_is_nothing(patient: Play) -> None:
    client = patient.connects()
    client.says(get(b"/1") + b"GET /2 HT")
    client.shuts_its_side()
    request = patient.stages_hear()[0][1]
    patient.answers(request, body=b"1")
    await patient.turn()
    assert client.hears().endswith(b"1") and client.is_closed
    assert not patient.is_holding


@pytest.mark.parametrize("is_so", [True, False])
@pytest.mark.parametrize("way", ["resets its stream", "leaves"])
@pytest.mark.parametrize("name", ["h2", "ngh2"])
async def test_streams_of_http2_go_on_alike(patient: Play, name: str, way: str, is_so: bool) -> None:
    browser = Browser(patient, name)
    stream_id = browser.asks()
    request = patient.hears_request()
    if way == "leaves":
        browser.client.resets()
    else:
        browser.resets(stream_id)
    await patient.turn()
    says(patient, request, is_so)
    if is_so:
        patient.answers(request, body=b"for nobody")
        assert (patient.event.status, patient.event.error) == (200, "client_closed")
    else:
        assert {to for to, envelope in patient.stages_hear() if isinstance(envelope, Cancel)} == CREW
        assert patient.event.status == 499
    assert not patient.is_holding
