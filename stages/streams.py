"""Owning streams: who begins one sends it on its way, gives and gets credit, and sees to it that it ends, whoever dies meanwhile.

Accept owns the streams of the clients at its connections. Whatever asks is a `Client` (client.py): a stream might as well be
for a task of its owner's process that wants something of an upstream. What an owner adds is what it knows of its clients, and
what it makes of a stream that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from time import monotonic
from typing import Any, Final, Protocol

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.stages.client import Client
from pingap.stages.fate import crews
from pingap.stages.http1.rules import RequestHead
from pingap.stages.http1.upgrade import protocol_to_tunnel
from pingap.stages.messages import (
    Affinity,
    Broken,
    Cancel,
    Credit,
    Data,
    Done,
    Interim,
    Recalled,
    Request,
    Response,
    Stranded,
    Taken,
    window,
)
from pingap.stages.recovery import Recovery
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ANSWERING, ASKED, ENDED, RECALLING, WAITING, WHOLE

ONE_ENVELOPE_MAY_CARRY: Final = 256 * 1024

LOOK: Final = 5.0
"""Seconds between two looks for streams of which nothing is heard: they may wait for minutes, all of them."""

SLOW_UPLOAD: Final = 16
"""So many times as patient with a stream whose body does not travel in REQUEST: what a backend takes of it is told a portion at a time,
and of the last window nothing is."""

_NOBODY: Final = Affinity(0, 0, 0)


class Numbered(Protocol):
    """What is asked of the configurations (generations.py)."""

    newest: int
    """That by which streams are served that begin now."""


class Streams:
    """All streams of one actor, and of each who serves it.

    A new one gets the next crew in turn, and keeps it; its sid is the owner's number in front of a count.
    """

    def __init__(
        self,
        context: Context,
        generations: Numbered,
        record: Callable[[OwnedStream, float, Sized], None],
        patience: Callable[[Request], float],
    ) -> None:
        """record: called with each stream that has ended, the monotonic seconds at that, and the streams that are left.

        patience: seconds that a request may wait for its answer with nothing heard of it.
        """
        self.context = context
        self.repeats = Repeats(context)
        self.by_sid: dict[int, OwnedStream] = {}
        self.begun = 0
        """So many were opened so far."""
        self._generations = generations
        self._record = record
        self._patience = patience
        self._look_at = 0.0
        """Monotonic seconds of the next look for streams of which nothing is heard."""
        self._send: Callable[[int, Any], None] = context.send
        self._next_sid = context.id << 32
        self._recovery = Recovery(context, self)
        self._crews: list[Affinity] = []
        self._turn = 0
        self._all_carry = 0
        """The generation that all streams without an answer are known to carry."""

    def receivers(self) -> Receivers:
        """What takes the messages about streams."""
        return {
            Response: self._responded,
            Data: self._data,
            Interim: self._interim,
            Credit: self._credited,
            Recalled: self._recovery.recalled,
            Stranded: self._recovery.stranded,
            Broken: self.broken,
        }

    # -- out --------------------------------------------------------------------

    def open(self, client: Client, server: str, head: RequestHead, started: float, length: int, body: bytes, ended: bool) -> OwnedStream:
        """Makes a stream of a request and sends it on its way. server: whose locations it is for.

        started: monotonic seconds at which it began to arrive. length as in `Request.length`.
        """
        sid = self._next_sid = self._next_sid + 1
        crew_count = len(self._crews)
        if crew_count:
            turn = self._turn = (self._turn + 1) % crew_count
            affinity = self._crews[turn]
        else:
            affinity = _NOBODY
        request = Request(
            sid,
            self._generations.newest,
            affinity,
            server,
            client.arrival.peer,
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
        stream = OwnedStream(sid, client, request, head.keep_alive)
        self.by_sid[sid] = stream
        self.begun += 1
        if not crew_count:
            self._recovery.await_crew(stream)
        elif self.context.can_send(affinity.routing):
            self._send(affinity.routing, request)
        else:
            self.context.loop.call_soon(self.shed, stream, sid)
        return stream

    def shed(self, stream: OwnedStream, sid: int) -> None:
        """503 for a stream that cannot be started. Never from within `open`: the client does not know it yet."""
        if stream.sid == sid and sid in self.by_sid:
            self.context.count("shed")
            stream.client.fail("overloaded")

    def send_again(self, stream: OwnedStream) -> None:
        """Sends a stream under a new sid and the newest generation, so that nothing old can answer it."""
        self._forget(stream)
        sid = self._next_sid = self._next_sid + 1
        affinity = self._crews[self._turn % len(self._crews)] if self._crews else _NOBODY
        stream.sid = sid
        stream.wanter = stream.credit = 0
        stream.quiet_since = 0.0
        stream.request = replace(stream.request, sid=sid, generation=self._generations.newest, affinity=affinity)
        self.by_sid[sid] = stream
        if self._crews:
            stream.state = ASKED
            self._send(affinity.routing, stream.request)
        else:
            self._recovery.await_crew(stream)

    def send_body(self, stream: OwnedStream, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Request body bytes to whoever wants them, in portions that one envelope may carry; trailers come with the end."""
        stream.quiet_since = 0.0
        while len(payload) > ONE_ENVELOPE_MAY_CARRY:
            self._send(stream.wanter, Data(stream.sid, payload[:ONE_ENVELOPE_MAY_CARRY], False, "", True))
            payload = payload[ONE_ENVELOPE_MAY_CARRY:]
        self._send(stream.wanter, Data(stream.sid, payload, ended, "", True, None, trailers))

    def give_credit(self, stream: OwnedStream) -> None:
        """Returns what the client has dealt with to whoever sends the response body."""
        response = stream.response
        if response is not None and stream.state is not WHOLE and not response.ended:
            self._send(response.source, Credit(stream.sid, stream.unacked, self.context.id))
            stream.unacked = 0

    def ask_for_data(self, stream: OwnedStream) -> None:
        """The file that is the body of the answer shall come as DATA."""
        assert stream.response is not None
        self._send(stream.response.source, Credit(stream.sid, window(stream.request.version), self.context.id))

    def file_taken(self, stream: OwnedStream) -> None:
        """The file that is the body of the answer is open here: whoever named it may go."""
        assert stream.response is not None
        stream.state = WHOLE
        self._send(stream.response.source, Taken(stream.sid))

    def cancel(self, stream: OwnedStream, reason: str) -> None:
        """Has the actors that may be at work on it forget it."""
        if stream.state is WAITING:
            return
        message = Cancel(stream.sid, reason)
        for actor in stream.request.affinity:
            if actor:
                self._send(actor, message)

    # -- its end ------------------------------------------------------------------

    def ended(self, stream: OwnedStream, now: float, why: str = "") -> None:
        """The stream is over, in whatever way: tell who asked, record it, forget it.

        why: not "" when stages may still be at work on it, which they are told to leave.
        """
        self.by_sid.pop(stream.sid, None)
        if stream.answers is not None:
            self._recovery.settled(stream)
        response = stream.response
        if response is not None:
            for watcher in response.watchers:
                self._send(watcher, Done(stream.sid))
        if why or not stream.upload_done:  # an answer that did not wait for the body leaves somebody who still wants it
            self.cancel(stream, why or "answered")
        stream.state = ENDED
        self._record(stream, now, self.by_sid)

    def abandon(self, stream: OwnedStream, kind: str) -> None:
        """Its client is gone, or was given up: everyone who holds the stream forgets it. kind: as the log has it."""
        if stream.response is None:
            stream.failed = kind
        self.ended(stream, monotonic(), "client")

    def stop(self) -> None:
        """The owner ends: clients are told, as far as they can be."""
        for stream in list(self.by_sid.values()):
            if stream.response is None:
                self.cancel(stream, "stopped")
                stream.client.fail("overloaded")
            else:
                stream.client.cut()

    def _forget(self, stream: OwnedStream) -> None:
        self.by_sid.pop(stream.sid, None)
        if stream.answers is not None:
            self._recovery.settled(stream)

    # -- in -----------------------------------------------------------------------

    def _responded(self, response: Response) -> None:
        stream = self.by_sid.get(response.sid)
        if stream is None:  # the client left, or the stream was sent again under another sid
            if not response.ended:
                self._send(response.source, Cancel(response.sid, "gone"))
            return
        state = stream.state
        if state is not ASKED:
            if state >= ANSWERING:
                return
            if state is RECALLING:
                self._recovery.settled(stream)
        stream.state = ANSWERING
        stream.response = response
        try:
            stream.client.respond(response, monotonic())
            if response.file is not None and stream.state is ANSWERING and not stream.client.send_file(response.file):
                self.ask_for_data(stream)
        except Exception as error:
            # No head that can be written: a status out of range, text instead of bytes. The client must not wait for ever.
            self._broke(stream, "a stage sent no valid response head", response.source, repr(error))

    def _interim(self, interim: Interim) -> None:
        stream = self.by_sid.get(interim.sid)
        if stream is not None and stream.state < ANSWERING:
            stream.quiet_since = 0.0
            stream.client.interim(interim)

    def _data(self, data: Data) -> None:
        stream = self.by_sid.get(data.sid)
        # After an answer that came in one piece it is of another answer, which was too late (PROTOCOL.md, internal destinations).
        if stream is not None and stream.response is not None and not stream.response.ended:
            try:
                stream.client.body(data)
            except Exception as error:  # what cannot be written must not be missing unseen from the middle of a body
                self._broke(stream, "a stage sent no valid response body", stream.response.source, repr(error))

    def broken(self, broken: Broken) -> None:
        """A message of a stream got lost."""
        stream = self.by_sid.get(broken.sid)
        if stream is not None:
            self._broke(stream, "a message of a stream was lost", broken.source, broken.reason)

    def _broke(self, stream: OwnedStream, why: str, source: int, error: str) -> None:
        """Nothing good can come of a stream any more: its client gets 500, or an answer that is cut off."""
        self.repeats.log("error", why, source=source, error=error)
        if stream.sid not in self.by_sid:
            return
        if stream.responded:
            stream.failed = "internal"
            stream.client.cut()
        else:
            self.cancel(stream, "internal")
            stream.client.fail("internal")

    def _credited(self, credit: Credit) -> None:
        stream = self.by_sid.get(credit.sid)
        if stream is None:
            self._send(credit.wanter, Cancel(credit.sid, "gone"))
            return
        stream.wanter = credit.wanter
        stream.credit += credit.bytes
        stream.quiet_since = 0.0
        stream.client.credited()

    # -- who lives, and for how long --------------------------------------------------

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        """A new table of actors; `gone` are those that it no longer names."""
        self._crews = crews(members, self.context.settings.get("crew"))
        if gone:
            self._recovery.actors_died(self.by_sid.values(), gone, members)
        if self._crews:
            self._recovery.crew_found(self.has_plugins)

    @property
    def has_plugins(self) -> bool:
        """New streams get a replica of plugins, too."""
        return bool(self._crews) and bool(self._crews[0].plugins)

    def oldest_generation(self) -> int:
        """The oldest that a stream without an answer carries; the newest if there is none."""
        newest = self._generations.newest
        if self._all_carry == newest:
            return newest
        oldest = min((s.request.generation for s in self.by_sid.values() if s.state < ANSWERING), default=newest)
        if oldest == newest:
            self._all_carry = newest  # nothing older can come any more
        return oldest

    def sweep(self, now: float) -> None:
        """Ends what has waited for too long for a crew, for survivors, or for any word at all. To be called now and then."""
        self._recovery.sweep(now)
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._end_silent(now)

    def _end_silent(self, now: float) -> None:
        """Who serves a stream has time-outs: this is for one that nobody is at work on any more."""
        quiet = []
        for stream in self.by_sid.values():
            if stream.state is ASKED:
                if not stream.quiet_since:
                    stream.quiet_since = now
                elif stream.quiet_since < now - LOOK:
                    quiet.append(stream)
        for stream in quiet:
            seconds, request = now - stream.quiet_since, stream.request
            if seconds > self._patience(request) * (1 if request.ended else SLOW_UPLOAD):
                about: dict[str, Any] = {"sid": stream.sid, "server": request.server, "generation": request.generation}
                self.repeats.log("error", "nothing is heard of a request", "", seconds=round(seconds), **about)
                self.cancel(stream, "silent")
                stream.client.fail("gateway_timeout")
