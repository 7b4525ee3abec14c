"""Owning streams without a connection: the client is whoever keeps to what client.py says, here one that wants a whole answer."""

from __future__ import annotations

from collections.abc import Sized
from time import monotonic
from typing import Any

import pytest

from pingap.bus.members import Members
from pingap.stages import stream_states
from pingap.stages.client import Arrival
from pingap.stages.http1.rules import RequestHead
from pingap.stages.messages import INLINE, WINDOW, Broken, Cancel, Credit, Data, FileRef, Interim, Peer, Request, Response, owner_of
from pingap.stages.recovery import WAIT
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ANSWERING, ENDED, RECALLING, WAITING, StreamState
from pingap.stages.streams import LOOK, SLOW_UPLOAD, Streams
from tests.kit.context import FakeContext

OWNER = 20
PATIENCE = 100.0
ROUTING, UPSTREAM, OTHER_UPSTREAM = 11, 13, 14
ORIGIN = Arrival(Peer("", 0, "", 0, "http", 0), 0.0, None)


class Fetch:
    """One request of a task: it gathers the answer, and gives credit as it comes."""

    arrival = ORIGIN
    nth = 1

    def __init__(self, owner: Owner, method: bytes = b"GET", body: bytes = b"") -> None:
        head = RequestHead(method, b"/jwks", 11, b"issuer.example", b"host: issuer.example\r\n", len(body), True, False, b"")
        self._streams = owner.streams
        self.answer = b""
        self.status = 0
        self.hints = 0
        self.error = ""
        self.may_send = 0
        inline = len(body) <= INLINE
        self.stream = owner.streams.open(self, "fetches", head, 1.0, len(body), body if inline else b"", inline)

    def respond(self, response: Response, now: float) -> None:
        self.status = response.status
        self._take(response.body, response.ended, now)

    def send_file(self, ref: FileRef) -> bool:
        return False

    def interim(self, interim: Interim) -> None:
        self.hints += 1

    def body(self, data: Data) -> None:
        self.error = data.error
        if data.error:
            self.cut()
        else:
            self._take(data.payload, data.ended, 0.0)

    def _take(self, payload: bytes, ended: bool, now: float) -> None:
        self.answer += payload
        self.stream.unacked += len(payload)
        if ended:
            self._streams.ended(self.stream, now)
        else:
            self._streams.give_credit(self.stream)

    def credited(self) -> None:
        self.may_send = self.stream.credit

    def fail(self, kind: str) -> None:
        self.error = self.stream.failed = kind
        self._streams.ended(self.stream, 0.0, kind)

    def cut(self) -> None:
        self._streams.ended(self.stream, 0.0, "cut")


class Generation:
    newest = 5


class Owner:
    def __init__(self) -> None:
        self.context = FakeContext("plugins", OWNER)
        self.recorded: list[OwnedStream] = []
        self.streams = Streams(self.context, Generation(), self._record, lambda request: PATIENCE)
        self._read = 0

    def _record(self, stream: OwnedStream, now: float, left: Sized) -> None:
        self.recorded.append(stream)

    def members(self, *upstream: int) -> None:
        self._table((ROUTING, "routing"), *((one, "upstream") for one in upstream))

    def lose_routing(self, *upstream: int) -> None:
        self._table(*((one, "upstream") for one in upstream))

    def _table(self, *living: tuple[int, str]) -> None:
        rows = [(one, stage, 0, "", "ready") for one, stage in living]
        before, after = self.context.members, Members.of(1, 20, rows)
        self.context.members = after
        self.streams.members_changed(after, frozenset(before.by_id) - frozenset(after.by_id))

    def hears(self) -> list[tuple[int, Any]]:
        """What was sent since the last time."""
        new = self.context.sent[self._read :]
        self._read = len(self.context.sent)
        return new

    def hears_request(self) -> Request:
        ((to, request),) = self.hears()
        assert to == ROUTING
        assert isinstance(request, Request)
        return request

    def tell(self, message: Any) -> None:
        self.streams.receivers()[type(message)](message)


@pytest.fixture
async def owner() -> Owner:
    owner = Owner()
    owner.members(UPSTREAM)
    return owner


def answer(request: Request, body: bytes, ended: bool = True) -> Response:
    return Response(request.sid, request.affinity.upstream, 200, b"", len(body), body, ended, None, ())


async def test_a_task_gets_the_answer_to_a_request_of_its_own(owner: Owner) -> None:
    fetch = Fetch(owner)
    request = owner.hears_request()
    assert (owner_of(request.sid), request.generation, request.server) == (OWNER, 5, "fetches")
    owner.tell(Interim(request.sid, 103, b""))
    owner.tell(answer(request, b"ke", ended=False))
    assert owner.hears() == [(UPSTREAM, Credit(request.sid, 2, OWNER))]
    owner.tell(Data(request.sid, b"ys", True, ""))
    assert (fetch.status, fetch.answer, fetch.hints) == (200, b"keys", 1)
    assert owner.recorded == [fetch.stream]
    assert fetch.stream.state is ENDED
    assert not owner.streams.by_sid


async def test_its_body_goes_to_who_wants_it(owner: Owner) -> None:
    body = b"x" * (INLINE + 1)
    fetch = Fetch(owner, b"POST", body)
    request = owner.hears_request()
    owner.tell(Credit(request.sid, WINDOW, UPSTREAM))
    assert fetch.may_send == WINDOW
    owner.streams.send_body(fetch.stream, body, True)
    ((to, data),) = owner.hears()
    assert (to, data.payload, data.ended) == (UPSTREAM, body, True)


async def test_it_is_sent_again_when_its_backend_side_dies_and_once_only(owner: Owner) -> None:
    fetch = Fetch(owner)
    first = owner.hears_request()
    owner.members(OTHER_UPSTREAM)
    again = owner.hears()[-1][1]
    assert isinstance(again, Request)
    assert again.sid != first.sid
    assert again.affinity.upstream == OTHER_UPSTREAM
    owner.members(UPSTREAM)
    assert fetch.error == "stage_lost"
    assert owner.recorded == [fetch.stream]


async def test_without_a_crew_it_waits_and_not_for_ever() -> None:
    owner = Owner()
    fetch, other = Fetch(owner), Fetch(owner)
    assert fetch.stream.state is WAITING
    owner.streams.sweep(fetch.stream.deadline - WAIT / 2)
    assert not fetch.error
    owner.streams.sweep(fetch.stream.deadline)
    owner.streams.sweep(other.stream.deadline)
    assert (fetch.error, other.error) == ("overloaded", "overloaded")
    assert owner.hears() == [], "nobody knows of them"


async def test_one_that_is_given_up_is_forgotten_by_all(owner: Owner) -> None:
    fetch = Fetch(owner)
    request = owner.hears_request()
    owner.streams.abandon(fetch.stream, "client_closed")
    assert {(to, type(message)) for to, message in owner.hears()} == {(ROUTING, Cancel), (UPSTREAM, Cancel)}
    owner.tell(answer(request, b"too late", ended=False))
    assert owner.hears() == [(UPSTREAM, Cancel(request.sid, "gone"))]
    assert fetch.stream.failed == "client_closed"


async def test_a_lost_message_fails_it(owner: Owner) -> None:
    fetch = Fetch(owner)
    request = owner.hears_request()
    owner.tell(Broken(request.sid, ROUTING, "could not be packed"))
    assert fetch.error == "internal"
    assert owner.recorded == [fetch.stream]


def passes(owner: Owner, begin: float, seconds: float) -> float:
    """Sweeps twice a second, as the actor does."""
    for half in range(1, int(2 * seconds) + 1):
        owner.streams.sweep(begin + half / 2)
    return begin + seconds


async def test_one_of_which_nothing_is_heard_is_not_waited_for_for_ever(owner: Owner) -> None:
    fetch = Fetch(owner)
    request = owner.hears_request()
    now = passes(owner, 1000.0, PATIENCE)
    assert owner.recorded == []
    passes(owner, now, 3 * LOOK)
    assert fetch.error == "gateway_timeout"
    assert {(to, type(message)) for to, message in owner.hears()} == {(ROUTING, Cancel), (UPSTREAM, Cancel)}
    assert owner.recorded == [fetch.stream]
    ((level, message, fields),) = owner.context.logged
    assert (level, message, fields["sid"], fields["generation"]) == ("error", "nothing is heard of a request", request.sid, 5)
    owner.tell(answer(request, b"too late", ended=False))
    assert owner.hears() == [(UPSTREAM, Cancel(request.sid, "gone"))]


@pytest.mark.parametrize("word", ["interim", "credit", "upload", "sent again"])
async def test_any_word_of_it_begins_the_wait_anew(owner: Owner, word: str) -> None:
    fetch = Fetch(owner)
    owner.hears_request()
    now = 1000.0
    for turn in range(3):
        now = passes(owner, now, PATIENCE - LOOK)
        assert not fetch.error
        sid = fetch.stream.sid
        if word == "interim":
            owner.tell(Interim(sid, 103, b""))
        elif word == "credit":
            owner.tell(Credit(sid, 10, UPSTREAM))
        elif word == "upload":
            owner.streams.send_body(fetch.stream, b"x", False)
        elif not turn:
            owner.members(OTHER_UPSTREAM)
        else:
            return
    passes(owner, now, PATIENCE + 3 * LOOK)
    assert fetch.error == "gateway_timeout"


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_long_body_has_more_time_as_it_may_not_be_with_its_backend_yet(owner: Owner, is_sent: bool) -> None:
    fetch = Fetch(owner, b"POST", b"x" * (INLINE + 1))
    owner.hears_request()
    fetch.stream.upload_done = is_sent
    now = passes(owner, 1000.0, PATIENCE * SLOW_UPLOAD)
    assert owner.recorded == []
    passes(owner, now, 3 * LOOK)
    assert fetch.error == "gateway_timeout"


async def test_an_answer_that_has_begun_is_left_to_who_sends_it(owner: Owner) -> None:
    fetch = Fetch(owner)
    owner.tell(answer(owner.hears_request(), b"ke", ended=False))
    passes(owner, 1000.0, 2 * PATIENCE)
    assert not fetch.error
    owner.streams.abandon(fetch.stream, "client_closed")


@pytest.mark.parametrize("state", [state for state in StreamState if state < ANSWERING])
async def test_nothing_before_the_answer_is_for_ever_when_nobody_says_a_word(owner: Owner, state: StreamState) -> None:
    if state is WAITING:
        owner.members()
    fetch = Fetch(owner)
    if state is RECALLING:
        owner.lose_routing(UPSTREAM)
    assert fetch.stream.state is state
    now = monotonic()
    for later in (2 * LOOK, 2 * PATIENCE, 2 * PATIENCE + 2 * LOOK):
        owner.streams.sweep(now + later)
    assert fetch.error
    assert fetch.stream.state is ENDED


def test_every_state_is_in_the_table_of_those_who_end_them() -> None:
    assert stream_states.__doc__ is not None
    _, _, table = stream_states.__doc__.partition("None is for ever.")
    assert [state for state in StreamState if state is not ENDED and state.name not in table] == []
