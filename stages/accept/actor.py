"""The accept actor: listeners, the table of streams, messages from and to the other stages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, Final

from bus.actor import Actor, Context
from bus.members import Members
from config.model import Server, Snapshot
from observability.access_format import Render
from stages.accept.access_lines import AccessLines, compile_lines
from stages.accept.certificates import Choice, compile_choices
from stages.accept.client import Client, Held
from stages.accept.core import Fate, State, after_recall, crews, fate, protocol_to_tunnel
from stages.accept.doors import Door, Doors
from stages.accept.event import access_event, refused_stream
from stages.accept.stream import Stream
from stages.error_page import ErrorPages
from stages.forwarded import Trust
from stages.generations import Generations
from stages.grpc import error_for
from stages.http1.rules import RequestHead
from stages.messages import (
    CANCEL,
    CREDIT,
    DATA,
    DECODE,
    DONE,
    INTERIM,
    RECALL,
    RECALLED,
    REQUEST,
    RESPONSE,
    Affinity,
    Cancel,
    Credit,
    Data,
    Done,
    Interim,
    Recall,
    Recalled,
    Request,
    Response,
    new,
)
from stages.tls import Lane

SWEEP: Final = 0.5
"""Seconds between two looks at the deadlines: they are seconds long, one timer each would cost a µs a request."""

MAX_WAITING: Final = 4096
"""Streams that may wait for a crew; beyond it 503."""

WAIT: Final = 5.0
"""Seconds that a stream waits for a crew before 503."""

RECALL_WAIT: Final = 2.0
"""Seconds that survivors have to answer RECALL before 502."""

ONE_ENVELOPE_MAY_CARRY: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Compiled:
    """What accept needs of a generation."""

    servers: dict[str, Server]
    pages: ErrorPages
    lines: dict[str, Render]
    choices: dict[str, Choice]
    trust: Trust


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> Compiled:
    return Compiled(
        dict(snapshot.servers),
        ErrorPages(snapshot.basic.error_template),
        compile_lines(snapshot),
        compile_choices(snapshot),
        Trust(snapshot.basic.trusted_proxies),
    )


class AcceptActor(Actor):
    stage: ClassVar[str] = "accept"
    decode: ClassVar[dict[int, Any]] = DECODE

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.draining = False
        self._doors = Doors()
        self._connections: set[Held] = set()
        self._streams: dict[int, Stream] = {}
        self._waiting: deque[Stream] = deque()
        self._recalling: set[Stream] = set()
        self._next_sid = context.id << 32
        self._next_connection = 0
        self._crews: list[Affinity] = []
        self._turn = 0
        self._requests = 0
        self._pages = ErrorPages()
        self._lines = AccessLines(context)
        self._is_ready = False
        self._all_carry = 0
        """The generation that all streams without an answer are known to carry."""
        self._sweeper: asyncio.TimerHandle | None = None
        self.lane = Lane(context.loop)
        """For the TLS handshakes of all listeners."""
        self._send: Callable[[int, Any], None] = context.send
        self._generations: Generations[Compiled] = Generations(context, compile_generation, self._committed)

    def receivers(self) -> dict[int, Callable[[Any], None]]:
        return {RESPONSE: self._responded, DATA: self._data, INTERIM: self._interim, CREDIT: self._credited, RECALLED: self._recalled}

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._generations.start()
        self._sweep()

    def _committed(self, generation: int, compiled: Compiled) -> None:
        self._pages = compiled.pages
        # A server that the file no longer names is logged until the restart that its removal needs.
        self._lines.renders |= compiled.lines
        for name in compiled.servers.keys() - compiled.lines.keys():
            self._lines.renders.pop(name, None)
        self._doors.update(compiled.servers, compiled.choices, compiled.trust)
        if not self._is_ready:
            self._is_ready = True
            self.context.loop.create_task(self._listen(compiled))

    async def _listen(self, compiled: Compiled) -> None:
        await self._doors.listen(self, self.context.settings.get("listeners", []), compiled.servers, compiled.choices, compiled.trust)
        self.context.ready()

    def begin_drain(self) -> None:
        self.draining = True
        self._doors.close()
        for connection in list(self._connections):
            connection.close_if_idle()

    def held(self) -> int:
        # Not streams: a connection that still has an answer to deliver, or a request half arrived, is to be waited for;
        # the idle ones are closed while draining.
        return len(self._connections)

    async def stop(self) -> None:
        self._doors.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for stream in list(self._streams.values()):  # the deadline of a stop or of a drain has passed: they are told, and logged
            if stream.response is None:
                self.cancel(stream, "stopped")
                stream.connection.fail(stream, "overloaded")
            else:
                stream.connection.cut(stream)
        await asyncio.sleep(0)  # HTTP/2 writes at the end of a turn
        self._lines.ship()
        for connection in list(self._connections):
            connection.transport.close()

    def figures(self) -> dict[str, float]:
        return {"in_flight": len(self._streams), "requests": self._requests, "connections": len(self._connections)}

    # -- connections ----------------------------------------------------------

    def connected(self, connection: Held, door: Door) -> int:
        """Registers a connection; returns its number. Over the cap it is closed at once."""
        self._connections.add(connection)
        self._next_connection += 1
        door.connections += 1
        cap = door.settings.max_connections
        if (cap and door.connections > cap) or self.draining:
            self.context.count("connections_refused")
            connection.transport.abort()
        return self._next_connection

    def handed_over(self, before: Held, connection: Held) -> None:
        """A connection goes on as another object, which speaks the protocol that was agreed on."""
        self._connections.discard(before)
        self._connections.add(connection)

    def disconnected(self, connection: Held, door: Door) -> None:
        self._connections.discard(connection)
        door.connections -= 1

    # -- streams: out ---------------------------------------------------------

    def open(self, connection: Client, door: Door, head: RequestHead, started: float, length: int, body: bytes, ended: bool) -> Stream:
        """Makes a stream of a parsed request and sends it on its way. length as in `Request.length`."""
        sid = self._next_sid = self._next_sid + 1
        generation = self._generations.newest
        crew_count = len(self._crews)
        if crew_count:
            turn = self._turn = (self._turn + 1) % crew_count
            affinity = self._crews[turn]
        else:
            affinity = Affinity(0, 0, 0)
        request = new(
            Request,
            (
                REQUEST,
                sid,
                generation,
                affinity,
                door.name,
                connection.arrival.peer,
                head.method,
                head.target,
                head.version,
                head.host,
                head.headers,
                length,
                body,
                ended,
                started,
                head.upgrade and protocol_to_tunnel(head.upgrade, length),
            ),
        )
        connection.served += 1
        stream = Stream(sid, connection, request, head.keep_alive)
        self._streams[sid] = stream
        self._requests += 1
        if not crew_count:
            self._await_crew(stream)
        elif self.context.can_send(affinity.routing):
            self._send(affinity.routing, request)
        else:
            self.context.loop.call_soon(self._shed, stream, sid)
        return stream

    def _shed(self, stream: Stream, sid: int) -> None:
        """503 for a stream that cannot be started. Never from within `open`: the connection does not know it yet."""
        if stream.sid == sid and sid in self._streams:
            self.context.count("shed")
            stream.connection.fail(stream, "overloaded")

    def _await_crew(self, stream: Stream) -> None:
        stream.state = State.WAITING
        stream.deadline = monotonic() + WAIT
        if len(self._waiting) >= MAX_WAITING:
            self.context.loop.call_soon(self._shed, stream, stream.sid)
        else:
            self._waiting.append(stream)

    def _send_again(self, stream: Stream) -> None:
        """Sends a stream under a new sid and the newest generation, so that nothing old can answer it."""
        self._forget(stream)
        sid = self._next_sid = self._next_sid + 1
        generation = self._generations.newest
        affinity = self._crews[self._turn % len(self._crews)] if self._crews else Affinity(0, 0, 0)
        stream.sid = sid
        stream.wanter = stream.credit = 0
        stream.request = stream.request._replace(sid=sid, generation=generation, affinity=affinity)
        self._streams[sid] = stream
        if self._crews:
            stream.state = State.ASKED
            self._send(affinity.routing, stream.request)
        else:
            self._await_crew(stream)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.sid, None)
        if stream.answers is not None:
            self._recalling.discard(stream)

    def send_body(self, stream: Stream, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Request body bytes to whoever wants them, in portions that one envelope may carry; trailers come with the end."""
        while len(payload) > ONE_ENVELOPE_MAY_CARRY:
            self._send(stream.wanter, Data(DATA, stream.sid, payload[:ONE_ENVELOPE_MAY_CARRY], False, "", True))
            payload = payload[ONE_ENVELOPE_MAY_CARRY:]
        self._send(stream.wanter, Data(DATA, stream.sid, payload, ended, "", True, None, trailers))

    def give_credit(self, stream: Stream) -> None:
        """Returns what has left for the socket to whoever sends the response body."""
        response = stream.response
        if response is not None and not response.ended:
            self._send(response.source, Credit(CREDIT, stream.sid, stream.unacked, self.context.id))
            stream.unacked = 0

    # -- streams: in ----------------------------------------------------------

    def _responded(self, response: Response) -> None:
        stream = self._streams.get(response.sid)
        if stream is None:  # the client left, or the stream was sent again under another sid
            if not response.ended:
                self._send(response.source, Cancel(CANCEL, response.sid, "gone"))
            return
        if stream.state is State.RESPONDING:
            return
        if stream.state is State.RECALLING:
            self._recalling.discard(stream)
        stream.state = State.RESPONDING
        stream.response = response
        try:
            if response.status >= 400:
                response = _as_read_by(stream, response)
            stream.connection.respond(stream, response, monotonic())
        except Exception as error:
            # No head that can be written: a status out of range, text instead of bytes. The client must not wait for ever.
            self.context.log("error", "a stage sent no valid response head", source=response.source, error=repr(error))
            if stream.responded:
                stream.failed = "internal"
                stream.connection.cut(stream)
            else:
                self.cancel(stream, "internal")
                stream.connection.fail(stream, "internal")

    def _interim(self, interim: Interim) -> None:
        stream = self._streams.get(interim.sid)
        if stream is not None and stream.state is not State.RESPONDING:
            stream.connection.interim(stream, interim)

    def _data(self, data: Data) -> None:
        stream = self._streams.get(data.sid)
        if stream is not None and stream.response is not None:
            try:
                stream.connection.body(stream, data)
            except Exception as error:  # what cannot be written must not be missing unseen from the middle of a body
                self.context.log("error", "a stage sent no valid response body", source=stream.response.source, error=repr(error))
                if stream.sid in self._streams:
                    stream.failed = "internal"
                    stream.connection.cut(stream)

    def _credited(self, credit: Credit) -> None:
        stream = self._streams.get(credit.sid)
        if stream is None:
            self._send(credit.wanter, Cancel(CANCEL, credit.sid, "gone"))
            return
        stream.wanter = credit.wanter
        stream.credit += credit.bytes
        stream.connection.credited(stream)

    def client_left(self, stream: Stream) -> None:
        """The connection is gone: everyone who holds the stream forgets it."""
        if stream.response is None:
            stream.failed = "client_closed"
        self.ended(stream, monotonic(), "client")

    def cancel(self, stream: Stream, reason: str) -> None:
        affinity = stream.request.affinity
        if stream.state is State.WAITING:
            return
        message = Cancel(CANCEL, stream.sid, reason)
        for actor in affinity:
            if actor:
                self._send(actor, message)

    def ended(self, stream: Stream, now: float, why: str = "") -> None:
        """The stream is over, in whatever way: tell who asked, write the event, forget it.

        why: not "" when stages may still be at work on it, which they are told to leave.
        """
        self._forget(stream)
        response = stream.response
        if response is not None:
            for watcher in response.watchers:
                self._send(watcher, Done(DONE, stream.sid))
        if why or not stream.upload_done:  # an answer that did not wait for the body leaves somebody who still wants it
            self.cancel(stream, why or "answered")
        self._record(stream, now)

    def _record(self, stream: Stream, now: float) -> None:
        """Makes of an ended stream what somebody reads: a line of the access log, the event."""
        render = self._lines.renders.get(stream.request.server)
        is_wanted = "access" in self.context.wanted
        if render is not None or is_wanted:
            event = access_event(stream, now, len(self._streams))
            if render is not None:
                self._lines.add(event, render)
            if is_wanted:
                self.context.emit(event)

    # -- answers of our own -----------------------------------------------------

    def own_answer(self, stream: Stream, kind: str) -> Response:
        """The error page as the stream's response."""
        stream.failed = kind
        stream.state = State.RESPONDING
        status, headers, body = self._pages.page(kind)
        length = len(body)
        if stream.request.method == b"HEAD":
            body = b""
        stream.response = Response(RESPONSE, stream.sid, self.context.id, status, headers, length, body, True, None, ())
        return _as_read_by(stream, stream.response)

    def refusal(
        self, connection: Client, door: Door, refused: Stream | RequestHead | None, kind: str, detail: str, at: float
    ) -> tuple[int, bytes, bytes]:
        """Status, headers and body that answer a request which broke the rules; writes its event too.

        refused: as far as it had come: a stream, a head whose body was awaited, or nothing that can be named.
        """
        status, headers, body = self._pages.page(kind)
        now = monotonic()
        if isinstance(refused, Stream):
            stream = refused
        else:
            self._requests += 1
            connection.served += 1
            stream = refused_stream(connection, door.name, refused, at)
        if stream.request.method == b"HEAD":
            body = b""
        stream.failed, stream.responded, stream.sent = kind, now, len(body)
        if stream is refused:
            self.ended(stream, now, detail)
        else:
            self._record(stream, now)
        self.context.log("debug", "request refused", kind=kind, detail=detail, client=connection.arrival.peer.ip)
        grpc = error_for(stream.request.headers, status, headers, body, kind)
        return (200, grpc, b"") if grpc is not None else (status, headers, body)

    # -- who lives ----------------------------------------------------------------

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        own = self.context.settings.get("crew")
        self._crews = crews(members, own)
        if gone:
            for stream in [s for s in self._streams.values() if s.state is not State.WAITING]:
                self._judge(stream, gone, members)
        while self._waiting and self._crews:
            stream = self._waiting.popleft()
            if stream.state is State.WAITING and stream.sid in self._streams:
                self._send_again(stream)

    def _judge(self, stream: Stream, gone: frozenset[int], members: Members) -> None:
        source = stream.response.source if stream.response is not None else 0
        verdict = fate(stream.state, stream.request.affinity, source, gone, stream.replayable, stream.resent)
        if verdict is Fate.RECALL:
            self._recall(stream, members)
        else:
            self._carry_out(stream, verdict)

    def _recall(self, stream: Stream, members: Members) -> None:
        stream.state = State.RECALLING
        stream.deadline = monotonic() + RECALL_WAIT
        # By the table, not by who died just now: this may be the second death while the stream is asked after.
        survivors = {a for a in (stream.request.affinity.plugins, stream.request.affinity.upstream) if a in members.by_id}
        stream.answers = dict.fromkeys(survivors)
        self._recalling.add(stream)
        for actor in survivors:
            self._send(actor, Recall(RECALL, stream.sid, self.context.id))

    def _recalled(self, answer: Recalled) -> None:
        stream = self._streams.get(answer.sid)
        if stream is None or stream.state is not State.RECALLING or stream.answers is None:
            return
        stream.answers[answer.actor] = answer.state
        answers = {actor: state for actor, state in stream.answers.items() if state is not None}
        if len(answers) < len(stream.answers):
            return
        self._recalling.discard(stream)
        stream.state = State.ASKED
        self._carry_out(stream, after_recall(answers, stream.replayable, stream.resent))

    def _carry_out(self, stream: Stream, verdict: Fate) -> None:
        if verdict is Fate.RESEND and (stream.request.ended or not stream.wanter):
            self.cancel(stream, "sent again")
            stream.resent = True
            self._send_again(stream)
        elif verdict in (Fate.RESEND, Fate.ANSWER):  # a body that has begun to flow cannot be sent twice
            self.cancel(stream, "stage lost")
            stream.connection.fail(stream, "stage_lost")
        elif verdict is Fate.CUT:
            stream.failed = "stage_lost"
            stream.connection.cut(stream)

    def _oldest_generation(self) -> int:
        newest = self._generations.newest
        if self._all_carry == newest:
            return newest
        oldest = min((s.request.generation for s in self._streams.values() if s.state is not State.RESPONDING), default=newest)
        if oldest == newest:
            self._all_carry = newest  # nothing older can come any more
        return oldest

    def _sweep(self) -> None:
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)  # first: an error below must not end all deadlines
        now = monotonic()
        for connection in [c for c in self._connections if c.deadline <= now or c.write_deadline <= now]:
            connection.expired(now)
        while self._waiting and (self._waiting[0].deadline <= now or self._waiting[0].sid not in self._streams):
            stream = self._waiting.popleft()
            if stream.state is State.WAITING:
                self._shed(stream, stream.sid)
        self._generations.in_use(self._oldest_generation())
        for stream in [s for s in self._recalling if s.deadline <= now]:
            self._recalling.discard(stream)
            self._carry_out(stream, Fate.ANSWER)
        if self.draining:
            for connection in list(self._connections):
                connection.close_if_idle()


def _as_read_by(stream: Stream, response: Response) -> Response:
    """An error that no backend gave, in the form that a gRPC client reads; any other answer as it is.

    The log keeps the status that others get: it says more than the 200 of every answer in gRPC.
    """
    report = response.report
    if not response.ended or (report is not None and report.addr) or stream.request.upgrade:
        return response  # also to who wants a tunnel: over HTTP/2 its 200 would open one
    kind = stream.failed or (report.error if report is not None else "")
    grpc = error_for(stream.request.headers, response.status, response.headers, response.body, kind)
    return response if grpc is None else response._replace(status=200, headers=grpc, length=0, body=b"")
