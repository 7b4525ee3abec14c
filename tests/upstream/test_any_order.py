"""Anything may happen in any order: no answer may reach another request, none may come twice, and nothing may stay behind.

Every backend answers with the target of the request that it got, so an answer that reaches another stream shows.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.form import form
from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.messages import WINDOW, Credit, Data, Response
from pingap.stages.read_gate import CREDIT
from pingap.stages.upstream.attempt import Attempt
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import DEFAULT_RETRIES, NO_ANSWER, Outcome
from pingap.stages.upstream.http1 import BackendConnection
from pingap.stages.upstream.troubles import Troubles
from tests.upstream.playbook import ACCEPT, CREW, OK, PLUGINS, Http2Link, Link, Play

LENGTH = re.compile(rb"content-length: (\d+)")
HEAD = re.compile(rb"([A-Z]+) /(\d+) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")
ADDRESSES = ("a:1", "b:1")


DROPPED: Final = {"retry_status_code": (503,)}
"""Of the location: another backend is asked where that is allowed."""


class Stream:
    """What a client and its accept know of one request."""

    def __init__(self, method: bytes, to: int, upload_left: int) -> None:
        self.method, self.to = method, to
        self.upload_left, self.credit = upload_left, 0
        self.responded = self.over = self.cancelled = False
        self.is_answered = False
        """All of a backend's answer has come."""
        self.body = b""
        self.times_sent = 0


class Ledger:
    """The attempts that were begun, and how each has ended: where passive health and the circuit breaker are to listen."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun: Counter[BackendState] = Counter()
        self.ended: Counter[BackendState] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.dropped = 0
        """Answers because of whose status another backend was asked."""
        if form().is_compiled:
            return  # nobody can listen there: what follows from the attempts is looked at all the same
        begin, begin_again, settled = Attempt.begin, Attempt.begin_again, BackendState.settled
        dropped = Troubles.answer_dropped

        def begins(attempt: Attempt, group: Any, backend: BackendState, *more: Any) -> Any:
            self.begun[backend] += 1
            return begin(attempt, group, backend, *more)

        def begins_again(attempt: Attempt, backend: BackendState) -> None:
            self.begun[backend] += 1
            begin_again(attempt, backend)

        def settles(backend: BackendState, outcome: Outcome, status: int, probe: int, is_counted: bool) -> None:
            self.ended[backend] += 1
            self.outcomes[outcome] += 1
            if outcome is Outcome.ANSWERED:
                assert status >= 200
            settled(backend, outcome, status, probe, is_counted)

        def drops(troubles: Troubles, *about: Any) -> None:
            self.dropped += 1
            dropped(troubles, *about)

        patch.setattr(Troubles, "answer_dropped", drops)
        patch.setattr(Attempt, "begin", begins)
        patch.setattr(Attempt, "begin_again", begins_again)
        patch.setattr(BackendState, "settled", settles)

    @property
    def failed(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome in (*NO_ANSWER, Outcome.CUT))


class Walk:
    """A playbook that chance writes, and the checks after every line of it."""

    def __init__(self, play: Play, patch: pytest.MonkeyPatch) -> None:
        self.play = play
        self.ledger = Ledger(patch)
        self.streams: dict[int, Stream] = {}
        self.asked_of: dict[int, tuple[Link, int, bytes]] = {}
        """Link → the request that it has last heard of: (link, number, method)."""
        self.left: dict[int, int] = {}
        """Link → bytes of the answer's body that are still to come."""
        self.missing: dict[int, bytes] = {}
        """Link → bytes of the request's body that it has not had: a number, or "chunked"."""
        self.unparsed: dict[int, bytes] = {}
        self.plugins_live = True
        self.caps = 2

    @property
    def links(self) -> list[Link]:
        """Those with HTTP/1.1."""
        return [link for backend in self.play.backends.values() for link in backend.links if not isinstance(link, Http2Link)]

    def number(self, sid: int) -> int:
        return sid & 0xFFFFFFFF

    # -- what may happen ------------------------------------------------------------------

    async def step(self, word: str, number: int) -> None:
        await getattr(self, word)(number)
        self.look()

    async def ask(self, number: int) -> None:
        play = self.play
        kind = number % 7
        sid = (ACCEPT << 32) + len(self.streams) + 1
        through = kind == 6 and self.plugins_live
        method = (b"GET", b"POST", b"HEAD", b"POST", b"PUT", b"GET", b"GET")[kind]
        target = b"/%d" % self.number(sid)
        streams = kind in (3, 4)
        self.streams[sid] = Stream(method, PLUGINS if through else ACCEPT, 300_000 if streams else 0)
        length = None if not streams else (300_000 if number % 2 else -1)
        body = b"x" * 10 if kind == 1 else b""
        play.asks(method, target, body=body, length=length, sid=sid, plan=4 if through else 0)

    def pick(self, number: int, finished: bool = False) -> int | None:
        known = [sid for sid, stream in self.streams.items() if finished or not (stream.over or stream.cancelled)]
        return known[number % len(known)] if known else None

    async def cancel(self, number: int) -> None:
        sid = self.pick(number)
        if sid is not None:
            self.streams[sid].cancelled = True
            self.play.cancels(sid)

    async def recall(self, number: int) -> None:
        sid = self.pick(number)
        if sid is not None:
            self.look()
            state = self.play.recalls(sid)
            # Whether it is begun again or answered by accept: this sid is done with unless it will be answered.
            if state != 1:
                self.streams[sid].cancelled = True
                self.play.cancels(sid)

    async def upload(self, number: int) -> None:
        sid = self.pick(number)
        if sid is None:
            return
        stream = self.streams[sid]
        size = min(stream.credit, stream.upload_left, 1 + number % 70_000)
        if size > 0:
            stream.credit -= size
            stream.upload_left -= size
            self.play.sends(sid, b"u" * size, ended=not stream.upload_left)

    async def credit(self, number: int) -> None:
        sid = self.pick(number, finished=True)
        if sid is not None:
            self.play.credits(sid, number * 10)

    def asked(self, number: int) -> tuple[Link, int, bytes] | None:
        waiting = [asked for asked in self.asked_of.values() if not asked[0].is_closed]
        return waiting[number % len(waiting)] if waiting else None

    async def answer(self, number: int) -> None:
        asked = self.asked(number)
        if asked is None:
            return
        link, target, method = asked
        if id(link) in self.left:
            await self.more(number)
            return
        half = self.missing.get(id(link)) and not link.transport.unsent
        text = b"<%d>" % target
        empty = method == b"HEAD"
        kind = number % 6
        status = b"503 Busy" if number // 6 % 4 == 0 else b"200 OK"
        if kind in (0, 5):
            poison = b"" if kind else OK
            link.says(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), b"" if empty else text) + poison)
        elif kind == 1:
            link.says(b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
            if not empty:
                link.says(b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text))
        elif kind == 2:
            link.says(b"HTTP/1.1 %b\r\nConnection: close\r\n\r\n%b" % (status, b"" if empty else text))
            link.closes()
        elif kind == 3:
            link.says(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            return
        else:
            total = (number % 40) * 100_000
            link.says(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text) + total, b"" if empty else text))
            if total and not empty:
                self.left[id(link)] = total
                return
        del self.asked_of[id(link)]
        assert link.is_closed or not half, "a connection in the middle of a request is of no further use"

    async def more(self, number: int) -> None:
        for link, _, _ in list(self.asked_of.values()):
            left = self.left.get(id(link), 0)
            if left:
                size = min(left, number * 13)
                self.left[id(link)] = left - size
                link.says(b"." * size)
                if left == size:
                    del self.left[id(link)], self.asked_of[id(link)]

    async def break_off(self, number: int) -> None:
        if self.links:
            link = self.links[-1 - number % min(4, len(self.links))]
            if number % 3 == 0:
                link.closes()
            elif number % 3 == 1:
                link.resets()
            else:
                link.closes(now=False)

    async def nonsense(self, number: int) -> None:
        """Unasked bytes on an idle connection, or bytes that are no answer on a busy one."""
        if self.links:
            link = self.links[-1 - number % min(4, len(self.links))]
            if id(link) not in self.left:
                link.says(OK if link.connection.exchange is None else b"nonsense\r\n\r\n")

    async def deliver(self, number: int) -> None:
        for link in self.links:
            link.pump()

    async def stall(self, number: int) -> None:
        for link in self.links[-2:]:
            if number % 2:
                link.stops_reading()
            else:
                link.reads()

    async def dial(self, number: int) -> None:
        backend = self.play.backend(ADDRESSES[number % 2])
        backend.refuses = ConnectionRefusedError("no") if number % 3 == 0 else TimeoutError() if number % 7 == 0 else None
        if number % 5 == 0:
            backend.hangs = True
        else:
            backend.answers_dials()

    async def turn(self, number: int) -> None:
        await self.play.turn()

    async def time(self, number: int) -> None:
        await self.play.passes((0.5, 1.5, 11, 61, 301)[number % 5])

    async def health(self, number: int) -> None:
        self.play.health(api={"a:1": bool(number % 3), "b:1": bool(number % 2)})

    async def reload(self, number: int) -> None:
        self.caps = 1 + number % 3
        self.serve(idle=float(number % 3) * 30)

    def serve(self, idle: float = 60.0) -> None:
        algo = ("least_conn", "round_robin")[self.caps % 2]
        self.play.serves("a:1 b:1", algo, max_connections=self.caps, max_pending=3, idle_timeout=idle, location=DROPPED)

    async def kill_plugins(self, number: int) -> None:
        if number % 4 == 0 and self.plugins_live:
            self.plugins_live = False
            self.look()
            self.play.without(PLUGINS)
            for stream in self.streams.values():
                if stream.to == PLUGINS and not stream.over:
                    stream.cancelled = True
            for sid, stream in self.streams.items():
                if stream.to == PLUGINS:
                    self.play.cancels(sid)  # accept answers those, or sends them again under another sid
            self.play.hears()

    # -- what must hold --------------------------------------------------------------------

    def look(self) -> None:
        self.look_at_messages()
        self.look_at_backends()
        self.look_at_counts()

    def look_at_messages(self) -> None:
        for to, envelope in self.play.hears():
            kind, sid = type(envelope), envelope.sid
            stream = self.streams[sid]
            assert not stream.cancelled, "a cancelled stream is told nothing more"
            if kind is Credit:
                assert not stream.over
                stream.credit += envelope.bytes
                assert stream.credit <= WINDOW
                continue
            assert not stream.over, "nothing may follow the end"
            assert to == stream.to
            if kind is Response:
                assert not stream.responded, "one answer for one request"
                stream.responded = True
                if envelope.report is not None and envelope.report.error:
                    stream.over = True
                    assert envelope.ended
                    continue
                stream.body += envelope.body[:20]
            else:
                assert kind is Data and stream.responded
                stream.body = (stream.body + envelope.payload[:20])[:40]
                stream.over = bool(envelope.error)
            stream.is_answered = envelope.ended and not stream.over
            stream.over = stream.over or envelope.ended
            own = b"<%d>" % self.number(sid)
            if stream.method == b"HEAD":
                assert not stream.body
            else:
                assert own.startswith(stream.body[: len(own)]), f"{sid} was told {stream.body!r}"

    def look_at_backends(self) -> None:
        for link in self.links:
            data = self.unparsed.pop(id(link), b"") + link.hears()
            while data:
                missing = self.missing.get(id(link), b"")
                if missing == b"chunked":
                    end = data.find(b"0\r\n\r\n") + 5  # there is no 0 in the bodies of these tests
                    if end == 4:
                        self.unparsed[id(link)] = data[-5:]
                        break
                    data = data[end:]
                    del self.missing[id(link)]
                elif missing:
                    taken = min(int(missing), len(data))
                    data = data[taken:]
                    self.missing[id(link)] = b"%d" % (int(missing) - taken) if taken < int(missing) else b""
                elif b"\r\n\r\n" not in data:
                    self.unparsed[id(link)] = data
                    break
                else:
                    data = self.take_head(link, data)

    def take_head(self, link: Link, data: bytes) -> bytes:
        head = HEAD.match(data)
        assert head is not None, "what follows a request is a request"
        assert id(link) not in self.asked_of, "no request on a connection that has one"
        method, target = head[1], int(head[2])
        self.asked_of[id(link)] = (link, target, method)
        stream = self.streams[(ACCEPT << 32) + target]
        assert stream.method == method
        stream.times_sent += 1
        assert stream.times_sent <= (1 + DEFAULT_RETRIES if method in IDEMPOTENT else 1), "sent twice, though that may do harm"
        if b"chunked" in head[0]:
            self.missing[id(link)] = b"chunked"
        elif length := LENGTH.search(head[0]):
            self.missing[id(link)] = length[1]
        return data[head.end() :]

    def look_at_counts(self) -> None:
        actor: Any = self.play.actor
        groups = {group for compiled in actor._generations._compiled.values() for group in compiled.groups.values()}
        ledger = self.ledger
        assert form().is_compiled or ledger.outcomes[Outcome.ANSWERED] - ledger.dropped == sum(
            stream.is_answered for stream in self.streams.values()
        )
        counted = self.play.context.counted.get("upstream_failures", 0)
        assert form().is_compiled or ledger.failed == counted, "metrics hear of each"
        at = Counter(each.attempt.backend for each in actor._exchanges.values() if each.attempt.backend is not None)
        for state in ledger.begun:
            assert ledger.begun[state] - ledger.ended[state] == at[state], "each attempt ends in one outcome"
        for group in groups:
            assert group.pending == sum(len(state.pending) for state in group.backends) <= group.settings.max_pending
            for state in group.backends:
                self.look_at_shared(state)
                assert state.active == at[state]
                assert 0 <= state.open <= group.settings.max_connections
                assert len(set(map(id, state.idle))) == len(state.idle)
                assert all(connection.exchange is None for connection in state.idle)
                if state.open < group.settings.max_connections:
                    assert not state.pending, "nobody waits where there is room"
                for place in state.pending:
                    assert not place.waiter.is_over
                    assert place.waiter.attempt.place is place
        self.look_at_exchanges()

    def look_at_shared(self, state: BackendState) -> None:
        assert not state.shared

    def look_at_exchanges(self) -> None:
        for exchange in self.play.actor._exchanges.values():
            attempt = exchange.attempt
            channel: Any = attempt.channel
            held = [channel is not None, attempt.connecting is not None, attempt.place is not None]
            assert sum(held) == 1, "every exchange has exactly one thing to wait for"
            if channel is not None:
                assert channel.exchange is exchange
                waits_for_us = channel.gate.reasons & CREDIT if isinstance(channel, BackendConnection) else channel._is_paused
                assert channel.deadline < float("inf") or waits_for_us, "every wait has an end"

    async def end(self) -> None:
        for sid in self.streams:
            self.play.cancels(sid)
        for backend in self.play.backends.values():
            backend.refuses = None
            backend.answers_dials()
        await self.play.turn()
        self.play.hears()
        await self.play.passes(1)
        self.look()
        self.play.members(*CREW)
        await self.play.end()


OFTEN = ["ask"] * 8 + ["answer"] * 10 + ["more", "turn", "turn", "upload", "upload"] * 2
SELDOM = "cancel recall credit break_off break_off nonsense deliver stall dial time health reload kill_plugins"
WORDS = OFTEN + SELDOM.split()
steps = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 100_000)), min_size=5, max_size=80)


@settings(max_examples=300, deadline=None)
@given(steps)
async def test_whatever_happens_answers_keep_to_their_requests_and_nothing_stays_behind(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        walk = Walk(play, patch)
        walk.serve()
        for word, number in steps:
            await walk.step(word, number)
        await walk.end()
