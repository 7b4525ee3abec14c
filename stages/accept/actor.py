"""The accept actor: listeners, the table of streams, messages from and to the other stages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.stages.accept.access_lines import AccessLines
from pingap.stages.accept.client import Client, Held
from pingap.stages.accept.compiled import Compiled, compile_generation
from pingap.stages.accept.core import State, crews, protocol_to_tunnel
from pingap.stages.accept.departures import Departures
from pingap.stages.accept.doors import Door, Doors
from pingap.stages.accept.event import refused_stream
from pingap.stages.accept.own_answers import as_read_by, error_answer, refusal
from pingap.stages.accept.recovery import Recovery
from pingap.stages.accept.stream import Stream
from pingap.stages.broken import OfStreams
from pingap.stages.bulk import Bulk
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.http1.rules import RequestHead
from pingap.stages.lane import Lane
from pingap.stages.messages import Affinity, Broken, Cancel, Credit, Data, Done, GoesOn, Interim, Recalled, Request, Response, Stranded

SWEEP: Final = 0.5
"""Seconds between two looks at the deadlines: they are seconds long, one timer each would cost a µs a request."""

ONE_ENVELOPE_MAY_CARRY: Final = 256 * 1024

FULL_PAUSE: Final = 60.0
"""Seconds between two words on connections that are not accepted for want of descriptors."""


class AcceptActor(OfStreams):
    stage: ClassVar[str] = "accept"
    speaks_to: ClassVar[tuple[str, ...]] = ("routing", "plugins", "upstream")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.repeats = Repeats(context)
        self.draining = False
        self._doors = Doors()
        self._descriptors = context.descriptors
        self._descriptors.join()
        self._tell_full = 0.0
        self._connections: set[Held] = set()
        self.streams: dict[int, Stream] = {}
        self._next_sid = context.id << 32
        self._next_connection = 0
        self._recovery = Recovery(self)
        self.departures = Departures(self)
        self._crews: list[Affinity] = []
        self._turn = 0
        self._requests = 0
        self._pages = ErrorPages()
        self._lines = AccessLines(context)
        self._is_ready = False
        self._all_carry = 0
        """The generation that all streams without an answer are known to carry."""
        self._sweeper: asyncio.TimerHandle | None = None
        self.bulk = Bulk(context.loop, context.pipes)
        """For all that clients send."""
        self.lane = Lane(context.loop)
        """For the TLS handshakes of all listeners."""
        self._send: Callable[[int, Any], None] = context.send
        self._generations: Generations[Compiled] = Generations(context, compile_generation, self._committed)

    def receivers(self) -> Receivers:
        return {
            Response: self._responded,
            Data: self._data,
            Interim: self._interim,
            Credit: self._credited,
            Recalled: self._recovery.recalled,
            Stranded: self._recovery.stranded,
            GoesOn: self.departures.told,
            Broken: self.broken,
        }

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._generations.start()
        self._sweep()

    def _committed(self, generation: int, compiled: Compiled) -> None:
        self._pages = compiled.pages
        # A server that the file no longer names is logged until the restart that its removal needs.
        self._lines.renders |= compiled.lines
        self._lines.hidden = compiled.hidden or None
        self.departures.servers = compiled.patient
        for name in compiled.servers.keys() - compiled.lines.keys():
            self._lines.renders.pop(name, None)
        self._doors.update(compiled.servers, compiled.choices, compiled.trust, compiled.spelled)
        if not self._is_ready:
            self._is_ready = True
            self.context.loop.create_task(self._listen(compiled))

    async def _listen(self, compiled: Compiled) -> None:
        try:
            listeners = self.context.settings.get("listeners", [])
            await self._doors.listen(self, listeners, compiled.servers, compiled.choices, compiled.trust, compiled.spelled)
        except Exception as error:
            self.context.boot_failed(f"cannot listen: {error}")
        else:
            self.context.ready()

    def begin_drain(self) -> None:
        self.draining = True
        self._doors.close()
        for connection in list(self._connections):
            connection.close_if_idle()

    def held(self) -> int:
        # Not streams: a connection that still has an answer to deliver, or a request half arrived, is to be waited for;
        # the idle ones are closed while draining.
        return len(self._connections) + self.departures.held()

    async def stop(self) -> None:
        self._doors.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for stream in list(self.streams.values()):  # the deadline of a stop or of a drain has passed: they are told, and logged
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
        return {"in_flight": len(self.streams), "requests": self._requests, "connections": len(self._connections)}

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
        elif len(self._connections) >= self._descriptors.most:
            self._full()
        return self._next_connection

    def _full(self) -> None:
        """There may be no more connections: those who come wait before the door, or find another replica."""
        if not self._doors.is_paused:
            self._doors.pause()
            self.context.count("accept_pauses")
        now = monotonic()
        if now >= self._tell_full:
            self._tell_full = now + FULL_PAUSE
            self.context.log(
                "error",
                "no more connections are accepted until others end: too few file descriptors (ulimit -n)",
                connections=len(self._connections),
                limit=self._descriptors.limit,
            )

    def _look_at_room(self) -> None:
        """Opens the doors again, or makes room for the pipes to new actors."""
        over = len(self._connections) - self._descriptors.most
        if over < 0 and self._doors.is_paused:
            self.context.loop.create_task(self._doors.resume(self))
        over -= self._descriptors.slack
        for connection in list(self._connections) if over > 0 else ():
            connection.close_if_idle()
            over -= connection.transport.is_closing()
            if over <= 0:
                return

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
        request = Request(
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
            head.upgrade and protocol_to_tunnel(head.upgrade),
            head.is_framed,
            head.spelled,
        )
        connection.served += 1
        stream = Stream(sid, connection, request, head.keep_alive)
        self.streams[sid] = stream
        self._requests += 1
        if not crew_count:
            self._recovery.await_crew(stream)
        elif self.context.can_send(affinity.routing):
            self._send(affinity.routing, request)
        else:
            self.context.loop.call_soon(self.shed, stream, sid)
        return stream

    def shed(self, stream: Stream, sid: int) -> None:
        """503 for a stream that cannot be started. Never from within `open`: the connection does not know it yet."""
        if stream.sid == sid and sid in self.streams:
            self.context.count("shed")
            stream.connection.fail(stream, "overloaded")

    def send_again(self, stream: Stream) -> None:
        """Sends a stream under a new sid and the newest generation, so that nothing old can answer it."""
        self._forget(stream)
        sid = self._next_sid = self._next_sid + 1
        generation = self._generations.newest
        affinity = self._crews[self._turn % len(self._crews)] if self._crews else Affinity(0, 0, 0)
        stream.sid = sid
        stream.wanter = stream.credit = 0
        stream.request = replace(stream.request, sid=sid, generation=generation, affinity=affinity)
        self.streams[sid] = stream
        if self._crews:
            stream.state = State.ASKED
            self._send(affinity.routing, stream.request)
        else:
            self._recovery.await_crew(stream)

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.sid, None)
        if stream.answers is not None:
            self._recovery.settled(stream)

    def send_body(self, stream: Stream, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Request body bytes to whoever wants them, in portions that one envelope may carry; trailers come with the end."""
        while len(payload) > ONE_ENVELOPE_MAY_CARRY:
            self._send(stream.wanter, Data(stream.sid, payload[:ONE_ENVELOPE_MAY_CARRY], False, "", True))
            payload = payload[ONE_ENVELOPE_MAY_CARRY:]
        self._send(stream.wanter, Data(stream.sid, payload, ended, "", True, None, trailers))

    def give_credit(self, stream: Stream) -> None:
        """Returns what has left for the socket to whoever sends the response body."""
        response = stream.response
        if response is not None and not stream.is_whole and not response.ended:
            self._send(response.source, Credit(stream.sid, stream.unacked, self.context.id))
            stream.unacked = 0

    # -- streams: in ----------------------------------------------------------

    def _responded(self, response: Response) -> None:
        stream = self.streams.get(response.sid)
        if stream is None:  # the client left, or the stream was sent again under another sid
            if not response.ended:
                self._send(response.source, Cancel(response.sid, "gone"))
            return
        if stream.state is State.RESPONDING:
            return
        if stream.state is State.RECALLING:
            self._recovery.settled(stream)
        stream.state = State.RESPONDING
        stream.response = response
        try:
            if response.status >= 400:
                response = as_read_by(stream, response)
            stream.connection.respond(stream, response, monotonic())
        except Exception as error:
            # No head that can be written: a status out of range, text instead of bytes. The client must not wait for ever.
            self._broke(stream, "a stage sent no valid response head", response.source, repr(error))

    def _interim(self, interim: Interim) -> None:
        stream = self.streams.get(interim.sid)
        if stream is not None and stream.state is not State.RESPONDING:
            stream.connection.interim(stream, interim)

    def _data(self, data: Data) -> None:
        stream = self.streams.get(data.sid)
        # After an answer that came in one piece it is of another answer, which was too late (PROTOCOL.md, internal destinations).
        if stream is not None and stream.response is not None and not stream.response.ended:
            try:
                stream.connection.body(stream, data)
            except Exception as error:  # what cannot be written must not be missing unseen from the middle of a body
                self._broke(stream, "a stage sent no valid response body", stream.response.source, repr(error))

    def broken(self, broken: Broken) -> None:
        stream = self.streams.get(broken.sid)
        if stream is not None:
            self._broke(stream, "a message of a stream was lost", broken.source, broken.reason)

    def _broke(self, stream: Stream, why: str, source: int, error: str) -> None:
        """Nothing good can come of a stream any more: its client gets 500, or an answer that is cut off."""
        self.repeats.log("error", why, source=source, error=error)
        if stream.sid not in self.streams:
            return
        if stream.responded:
            stream.failed = "internal"
            stream.connection.cut(stream)
        else:
            self.cancel(stream, "internal")
            stream.connection.fail(stream, "internal")

    def _credited(self, credit: Credit) -> None:
        stream = self.streams.get(credit.sid)
        if stream is None:
            self._send(credit.wanter, Cancel(credit.sid, "gone"))
            return
        stream.wanter = credit.wanter
        stream.credit += credit.bytes
        stream.connection.credited(stream)

    def client_left(self, stream: Stream, kind: str = "client_closed") -> None:
        """The connection is gone, or was given up: everyone who holds the stream forgets it, unless its client's close is of no
        matter. kind: as the log has it."""
        if kind == "client_closed" and self.departures.left(stream):
            return
        if stream.response is None:
            stream.failed = kind
        self.ended(stream, monotonic(), "client")

    def cancel(self, stream: Stream, reason: str) -> None:
        affinity = stream.request.affinity
        if stream.state is State.WAITING:
            return
        message = Cancel(stream.sid, reason)
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
                self._send(watcher, Done(stream.sid))
        if why or not stream.upload_done:  # an answer that did not wait for the body leaves somebody who still wants it
            self.cancel(stream, why or "answered")
        self._lines.record(stream, now, self.streams)

    # -- answers of our own -----------------------------------------------------

    def own_answer(self, stream: Stream, kind: str) -> Response:
        """The error page as the stream's response."""
        return error_answer(stream, kind, self._pages, self.context.id)

    def refusal(
        self, connection: Client, door: Door, refused: Stream | RequestHead, kind: str, detail: str, at: float
    ) -> tuple[int, bytes, bytes]:
        """Status, headers and body that answer a request which broke the rules; writes its event too.

        refused: as far as it had come: a stream, a head whose body was awaited, or what can be told of a head.
        """
        head = refused.request if isinstance(refused, Stream) else refused
        status, headers, body = refusal(head, kind, self._pages)
        self.refused(connection, door, refused, kind, detail, at, sent=len(body))
        return status, headers, body

    def refused(
        self, client: Client, door: Door, refused: Stream | RequestHead, kind: str, detail: str, at: float, sent: int = 0, received: int = 0
    ) -> None:
        """Writes the event of a request that no stage will answer. sent, received: body bytes of the answer, of the request."""
        now = monotonic()
        if isinstance(refused, Stream):
            refused.failed, refused.reason, refused.responded, refused.sent = kind, detail, now, sent
            self.ended(refused, now, detail)
        else:
            self._requests += 1
            client.served += 1
            stream = refused_stream(client, door.name, refused, at)
            stream.failed, stream.reason, stream.responded, stream.sent, stream.received = kind, detail, now, sent, received
            self._lines.record(stream, now, self.streams)
        self.context.log("debug", "request refused", kind=kind, detail=detail, client=client.arrival.peer.ip)

    # -- who lives ----------------------------------------------------------------

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._crews = crews(members, self.context.settings.get("crew"))
        if gone:
            self._recovery.actors_died(self.streams.values(), gone, members)
        if self._crews:
            self._recovery.crew_found(self.has_plugins)

    @property
    def has_plugins(self) -> bool:
        """New streams get a replica of plugins, too."""
        return bool(self._crews) and bool(self._crews[0].plugins)

    def _oldest_generation(self) -> int:
        newest = self._generations.newest
        if self._all_carry == newest:
            return newest
        oldest = min((s.request.generation for s in self.streams.values() if s.state is not State.RESPONDING), default=newest)
        if oldest == newest:
            self._all_carry = newest  # nothing older can come any more
        return oldest

    def _sweep(self) -> None:
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)  # first: an error below must not end all deadlines
        now = monotonic()
        for connection in [c for c in self._connections if c.deadline <= now or c.write_deadline <= now]:
            connection.expired(now)
        self._recovery.sweep(now)
        self._generations.in_use(self._oldest_generation())
        if (self._doors.is_paused or len(self._connections) > self._descriptors.most) and not self.draining:
            self._look_at_room()
        if self.draining:
            for connection in list(self._connections):
                connection.close_if_idle()
