"""The ZeroMQ sockets of one process: the only file that opens any.

Three facts rule it (measured, docs/design.md): a batch per destination and
loop turn is the difference between 5 and 100 µs an envelope; a socket's FD is
edge-triggered, so it is drained until Again and EVENTS is looked at after every
send on a socket that also receives; a send never blocks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import zmq
from zmq.utils import z85

from pingap.bus import envelope as wire
from pingap.bus.local import LocalMail, Receivers
from pingap.bus.members import Members
from pingap.bus.sockets import NOBLOCK, NOBLOCK_MORE, Pair, Publisher, RouterSocket, Watched, rest_of

IPC: Final = "ipc://"

RETRY: Final = 0.005
"""Seconds until a full pipe is tried again."""

REFUSED_PAUSE: Final = 60.0
"""Seconds between two words on refused messages."""

OUTBOX_ENVELOPES: Final = 4096
"""Envelopes that may wait for an actor that the table does not name yet, or in one loop turn."""

PIPE_MESSAGES: Final = 1000
"""High-water mark of a pipe, in messages (batches), each side."""

Batch = Callable[[bytes, list[Any]], None]


@dataclass(frozen=True, slots=True)
class Curve:
    """One key pair for all actors of a deployment (Z85); whoever has it is trusted."""

    public: bytes
    secret: bytes

    def of_actor(self, actor: int) -> Curve:
        """The pair of an actor's inbox, which everybody who has this one can work out.

        A tcp address is used again by the next incarnation, and a PUSH socket comes back to it by itself with what it still
        holds: with the key of its predecessor it finds no hearing there.
        """
        secret = z85.encode(blake2b(b"%d" % actor, key=z85.decode(self.secret), digest_size=32).digest())
        return Curve(zmq.curve_public(secret), secret)


class _Outbox:
    """What waits for one peer; a batch leaves at the end of the loop turn."""

    __slots__ = ("early", "socket", "stuck", "waiting")

    def __init__(self) -> None:
        self.socket: zmq.Socket[bytes] | None = None
        self.waiting: list[Any] = []
        """Of this loop turn."""
        self.early: list[Any] = []
        """For an actor that the table does not name yet."""
        self.stuck: list[list[bytes]] = []


class Link:
    """Sends to actors by id, receives for the actors of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, curve: Curve | None = None) -> None:
        self._loop = loop
        self._curve = curve
        self._context = zmq.Context(io_threads=1)
        self._auth: Any = None
        self._outboxes: dict[int, _Outbox] = {}
        self._dirty: list[int] = []
        self._retrying = False
        self._watched: list[Watched] = []
        self._bound: list[tuple[Watched, str]] = []
        """With the endpoints of ipc that others look for in the run dir."""
        self._local = LocalMail(loop)
        self.members = Members()
        self.refused = 0
        """Messages that were not of this protocol."""
        self._tell_refused = 0.0
        self.unsent: Callable[[Any, Exception], None] = lambda envelope, error: None
        """Is told of an envelope that holds what cannot be packed."""
        self.dropped = 0
        """Droppable envelopes (events) that found a full pipe, and envelopes for dead actors."""

    # -- receiving ---------------------------------------------------------

    def attach(
        self,
        actor: int,
        endpoint: str,
        receivers: Receivers,
        batch: Batch | None = None,
        unreadable: Callable[[wire.WireError], None] | None = None,
    ) -> None:
        """Binds the inbox of an actor of this process.

        batch: if given, gets the raw first frame and all envelopes that come over the socket, as plain tuples.
        unreadable: is told of an envelope that has a kind, but not the fields of it.
        """
        self._local.addressees[actor] = receivers
        options = {zmq.RCVHWM: PIPE_MESSAGES, zmq.MAXMSGSIZE: wire.MAX_FRAME, zmq.LINGER: 0}
        socket = self._open(zmq.PULL, endpoint, True, options, actor)
        unpack = self.reader(receivers, unreadable).unpack if batch is None else wire.unpack

        def take() -> None:
            head = socket.recv(NOBLOCK)
            try:
                envelopes = unpack(head, rest_of(socket)) if wire.attachment_count(head) else unpack(head)
            except wire.WireError as unreadable_frame:
                rest_of(socket)
                self.refuse(unreadable_frame)
                return
            if batch is not None:
                batch(head, envelopes)
                return
            for envelope in envelopes:
                try:
                    receivers[type(envelope)](envelope)
                except BaseException as error:  # costs this envelope only: the others of the batch belong to other streams
                    if isinstance(error, SystemExit | KeyboardInterrupt):
                        error = RuntimeError(f"it raised {type(error).__name__}")
                    self._failed(envelope, error)

        self._bind_watch(Watched(self._loop, socket, take), endpoint)

    def _bind_watch(self, watched: Watched, endpoint: str) -> None:
        self._watched.append(watched)
        if endpoint.startswith(IPC):
            self._bound.append((watched, endpoint))

    def restore(self) -> list[str]:
        """Binds anew what others can no longer find because somebody removed its file; the paths. Connections that there are stay.

        Raises OSError where it cannot be, say because the directory is gone.
        """
        restored = []
        for watched, endpoint in self._bound:
            path = endpoint.removeprefix(IPC)
            if not os.path.lexists(path):
                try:
                    # The listener before goes on unseen: to unbind it would cut those who have come through it.
                    watched.socket.bind(endpoint)
                except zmq.ZMQError as error:
                    raise OSError(error.errno, str(error)) from error
                watched.sent()
                restored.append(path)
        return restored

    def refuse(self, error: Exception) -> None:
        """Counts a message or envelope that is not of this protocol; tells of it once a minute."""
        self.refused += 1
        now = self._loop.time()
        if now >= self._tell_refused:
            self._tell_refused = now + REFUSED_PAUSE
            self._loop.call_exception_handler({"message": f"bus: message refused ({self.refused} so far)", "exception": error})

    def reader(self, messages: Iterable[type], unreadable: Callable[[wire.WireError], None] | None = None) -> wire.Reader:
        """Reads messages of these classes; counts what is none. unreadable: as in attach."""
        ours = [one for one in messages if issubclass(one, wire.Message)]
        kinds = frozenset(map(wire.kind_of, ours))

        def refuse(error: wire.WireError) -> None:
            self.refuse(error)
            if unreadable is not None and error.kind in kinds:
                unreadable(error)

        return wire.Reader(ours, refuse)

    def _failed(self, message: Any, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": f"the receiver of {type(message).__name__} failed", "exception": error})

    # -- sending -----------------------------------------------------------

    def send(self, to: int, envelope: Any) -> None:
        """Queues an envelope for an actor; it leaves at the end of this loop turn."""
        local = self._local
        receivers = local.addressees.get(to)
        if receivers is not None:
            local.queue.append((receivers, envelope))
            if not local.scheduled:
                local.schedule()
            return
        outbox = self._outboxes.get(to)
        if outbox is None:
            if self.members.is_dead(to):
                self.dropped += 1
                return
            outbox = self._outboxes[to] = _Outbox()
        waiting = outbox.waiting
        if not waiting:
            if not self._dirty:
                self._loop.call_soon(self._flush)
            self._dirty.append(to)
        waiting.append(envelope)

    def open(self, to: int) -> None:
        """Connects to an actor of another process before there is anything to send."""
        if to not in self._local.addressees:
            outbox = self._outboxes.get(to)
            if outbox is None:
                outbox = self._outboxes[to] = _Outbox()
            if outbox.socket is None:
                self._connect(to, outbox)

    def can_send(self, to: int) -> bool:
        """False when the outbox for that actor is over its bound: new work for it must be shed."""
        outbox = self._outboxes.get(to)
        return outbox is None or (not outbox.stuck and len(outbox.waiting) + len(outbox.early) < OUTBOX_ENVELOPES)

    def offer(self, to: int, envelope: Any) -> None:
        """Like send, for what may be lost: dropped and counted when the pipe is full."""
        if self.can_send(to):
            self.send(to, envelope)
        else:
            self.dropped += 1

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for to in dirty:
            outbox = self._outboxes.get(to)
            if outbox is not None and outbox.waiting:
                try:
                    self._flush_one(to, outbox)
                except Exception as error:  # of this peer: the others' envelopes leave in any case
                    self._lose(outbox.waiting, f"bus: nothing can be sent to actor {to}", error)
                    outbox.waiting = []

    def _lose(self, envelopes: list[Any], message: str, error: Exception) -> None:
        self.dropped += len(envelopes)
        self._loop.call_exception_handler({"message": message, "exception": error})

    def _flush_one(self, to: int, outbox: _Outbox) -> None:
        socket = outbox.socket
        if socket is None:
            socket = self._connect(to, outbox)
            if socket is None:
                # Out of `waiting`, which must be empty after each turn: else the next send would not ask for a flush.
                early = outbox.early
                early += outbox.waiting
                outbox.waiting = []
                if len(early) > OUTBOX_ENVELOPES:
                    self.dropped += len(early) - OUTBOX_ENVELOPES
                    del early[OUTBOX_ENVELOPES:]
                return
        batch, outbox.waiting = outbox.waiting, []
        if outbox.early:
            batch, outbox.early = outbox.early + batch, []
        parts = (
            [batch]
            if len(batch) <= wire.MAX_ATTACHMENTS
            else [batch[i : i + wire.MAX_ATTACHMENTS] for i in range(0, len(batch), wire.MAX_ATTACHMENTS)]
        )
        for part in parts:
            try:
                messages = [wire.pack(part)]
            except Exception:  # whatever an envelope holds that cannot be packed costs that envelope only
                messages = self._packed_singly(part)
            for frames in messages:
                if outbox.stuck or not self._try(socket, frames):
                    outbox.stuck.append(frames)
                    self._retry_later()

    def _packed_singly(self, batch: list[Any]) -> list[list[bytes]]:
        """For a batch with an envelope that cannot travel: the others belong to other streams."""
        messages = []
        for envelope in batch:
            try:
                messages.append(wire.pack([envelope]))
            except Exception as error:
                self._lose([envelope], f"bus: an envelope cannot travel: {type(envelope).__name__}", error)
                self.unsent(envelope, error)
        return messages

    @staticmethod
    def _try(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> bool:
        try:
            if len(frames) == 1:
                socket.send(frames[0], NOBLOCK)
            else:
                # All or nothing: only the first part of a message can meet a full pipe. Copied, not lent: lending
                # a buffer to libzmq costs a message to pyzmq's collector thread, more than copying 256 KiB does.
                socket.send(frames[0], NOBLOCK_MORE)
                for frame in frames[1:-1]:
                    socket.send(frame, NOBLOCK_MORE)
                socket.send(frames[-1], NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _retry_later(self) -> None:
        if not self._retrying:
            self._retrying = True
            self._loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        for outbox in self._outboxes.values():
            while outbox.stuck and outbox.socket is not None and self._try(outbox.socket, outbox.stuck[0]):
                outbox.stuck.pop(0)
            if outbox.stuck:
                self._retry_later()

    def _connect(self, to: int, outbox: _Outbox) -> zmq.Socket[bytes] | None:
        member = self.members.by_id.get(to)
        if member is None:
            return None
        options = {zmq.SNDHWM: PIPE_MESSAGES, zmq.LINGER: 200, zmq.RECONNECT_IVL: 10, zmq.RECONNECT_IVL_MAX: 100}
        outbox.socket = self._open(zmq.PUSH, member.endpoint, False, options, to)
        return outbox.socket

    def set_members(self, members: Members) -> None:
        """Takes a new table: what waited for actors that it names leaves, what is for dead ones is dropped."""
        self.members = members
        for to, outbox in list(self._outboxes.items()):
            if members.is_dead(to):
                self.dropped += len(outbox.waiting) + len(outbox.early)
                if outbox.socket is not None:
                    outbox.socket.close(linger=0)
                del self._outboxes[to]
            elif outbox.early and outbox.socket is None:
                self._flush_one(to, outbox)

    # -- the other patterns --------------------------------------------------

    def dealer(self, endpoint: str, take: Callable[[list[Any]], None]) -> Pair:
        """The control connection to the supervisor."""
        socket = self._open(zmq.DEALER, endpoint, False, {zmq.LINGER: 200, zmq.SNDHWM: PIPE_MESSAGES})
        pair = Pair(self._loop, socket, take, self.refuse)
        self._watched.append(pair.watched)
        return pair

    def router(self, endpoint: str, take: Callable[[bytes, list[Any]], None]) -> RouterSocket:
        """The supervisor's side of all control connections."""
        # ROUTER_MANDATORY: an unknown peer is an error to see, not a silent loss.
        socket = self._open(zmq.ROUTER, endpoint, True, {zmq.LINGER: 200, zmq.ROUTER_MANDATORY: 1, zmq.ROUTER_HANDOVER: 1})
        router = RouterSocket(self._loop, socket, take, self.refuse)
        self._bind_watch(router.watched, endpoint)
        return router

    def publisher(self, endpoint: str, subscriptions: Callable[[bytes], None] | None = None) -> Publisher:
        """A PUB socket (XPUB when `subscriptions` wants to see who subscribes)."""
        socket = self._open(zmq.XPUB, endpoint, True, {zmq.LINGER: 200, zmq.SNDHWM: PIPE_MESSAGES})
        publisher = Publisher(socket)

        def take() -> None:
            message = socket.recv(NOBLOCK)
            if subscriptions is not None:
                subscriptions(message)

        publisher.watched = Watched(self._loop, socket, take)
        self._bind_watch(publisher.watched, endpoint)
        return publisher

    def subscriber(
        self, endpoint: str, topics: Sequence[bytes], take: Callable[[bytes, list[Any]], None], messages: Sequence[type] = ()
    ) -> Watched:
        """A SUB socket; `take` gets the topic and the envelopes of each message: plain tuples, or messages of these classes."""
        unpack = self.reader(messages).unpack if messages else wire.unpack
        options = {zmq.LINGER: 0, zmq.RCVHWM: PIPE_MESSAGES, zmq.RECONNECT_IVL: 20, zmq.RECONNECT_IVL_MAX: 200}
        socket = self._open(zmq.SUB, endpoint, False, options)
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)

        def take_one() -> None:
            topic = socket.recv(NOBLOCK)
            head, *attachments = rest_of(socket) or [b""]
            try:
                envelopes = unpack(head, attachments)
            except wire.WireError as error:
                self.refuse(error)
                return
            take(topic, envelopes)

        watched = Watched(self._loop, socket, take_one)
        self._watched.append(watched)
        return watched

    # -- opening and closing -----------------------------------------------------

    def _open(self, kind: int, endpoint: str, is_server: bool, options: dict[Any, int], actor: int = 0) -> zmq.Socket[bytes]:
        """A socket with its options, bound or connected. A failure leaves no socket behind: it would keep `close` waiting.

        actor: whose inbox is at that endpoint.
        """
        if endpoint.startswith("tcp://") and self._curve is None:
            raise PermissionError(f"{endpoint}: tcp is refused without CURVE keys ([bus] public_key, secret_key)")
        socket = self._context.socket(kind)
        try:
            for option, value in options.items():
                socket.setsockopt(option, value)
            if self._curve is not None and endpoint.startswith("tcp://"):
                self._secure(socket, self._curve, is_server, actor)
            if is_server:
                socket.bind(endpoint)
            else:
                socket.connect(endpoint)
        except BaseException:
            socket.close(linger=0)
            raise
        return socket

    def _secure(self, socket: zmq.Socket[bytes], curve: Curve, is_server: bool, actor: int) -> None:
        server = curve.of_actor(actor)
        own = server if is_server else curve
        socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
        if not is_server:
            socket.setsockopt(zmq.CURVE_SERVERKEY, server.public)
            return
        if self._auth is None:
            from zmq.auth.thread import ThreadAuthenticator

            self._auth = ThreadAuthenticator(self._context)
            self._auth.start()
            self._auth.configure_curve_callback(credentials_provider=_OneKey(curve.public))
        socket.setsockopt(zmq.CURVE_SERVER, 1)

    def close(self) -> None:
        """Closes every socket; what is queued gets its LINGER (at most 0.2 s)."""
        if self._dirty:
            self._flush()
        for watched in self._watched:
            watched.close()
        for outbox in self._outboxes.values():
            if outbox.socket is not None:
                outbox.socket.close()
        if self._auth is not None:
            self._auth.stop()
        self._context.term()


class _OneKey:
    """CURVE admission: exactly the deployment's own key."""

    def __init__(self, public: bytes) -> None:
        self._public = z85.decode(public)

    def callback(self, domain: str, key: bytes) -> bool:
        return key in (self._public, z85.encode(self._public))
