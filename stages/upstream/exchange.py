"""One request to one upstream: its attempts, the flow of both bodies, its answer."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from stages.headers import value_of
from stages.http1.methods import IDEMPOTENT
from stages.http1.render import LAST_CHUNK, chunk, request_head
from stages.http1.rules import ResponseHead
from stages.itinerary import REQUEST_BODY, RESPONSE_PLUGINS
from stages.messages import (
    CREDIT,
    DATA,
    RESPONSE,
    UNKNOWN,
    WINDOW,
    Credit,
    Data,
    Report,
    Response,
    Routed,
    accept_of,
    new,
)
from stages.upstream.connection import SETTLED, BackendConnection
from stages.upstream.core import Attempt, Failure, may_retry, so_far
from stages.upstream.pool import LONGEST_WAIT, BackendState, Group

if TYPE_CHECKING:
    from stages.upstream.actor import UpstreamActor
    from stages.upstream.compiled import LocationRules

TOP_UP: Final = WINDOW // 4
BULK: Final = 1024 * 1024
"""A response body of which more than this has come is bulk: its reads are gathered."""

BULK_READ: Final = 16 * 1024
"""A read of fewer bytes is handed on at once: the sender is not going flat out."""

GATHER: Final = 8
GATHER_SECONDS: Final = 0.001
"""So many reads, or so long, are gathered at the most."""

DEFAULT_CONNECT_TIMEOUT: Final = 10.0


class Exchange:
    """Lives from ROUTED until the answer has been handed over."""

    # One is made per request: what usually stays at its default is a class attribute, which costs nothing until it is set.
    _connection: BackendConnection | None = None
    _connecting: asyncio.Task[None] | None = None
    _backend: BackendState | None = None
    _tried: set[int] | None = None
    _tries = 0
    _window = WINDOW
    _granted = 0
    """Request body bytes granted to the sender and not yet arrived."""
    _unacked = 0
    _uploaded = 0
    _upload_done = True
    _detail = ""
    _sent_at = 0.0
    _arrived = 0
    _held: list[bytes] | None = None
    """Reads of a long download, gathered for one batch."""
    responded = False
    is_over = False
    connect_seconds: tuple[float, ...] = ()

    def __init__(self, actor: UpstreamActor, routed: Routed, group: Group, rules: LocationRules) -> None:
        self._actor = actor
        self._routed = routed
        self._group = group
        self._rules = rules
        self.sid = routed.sid
        self.method = routed.method
        self.began = monotonic()
        """Monotonic seconds at which the request reached this stage."""
        self.answers_to = routed.affinity.plugins if routed.plan & RESPONSE_PLUGINS else accept_of(routed.sid)
        """The actor that gets the answer: accept, or plugins."""
        self.read_timeout = group.read_timeout
        if routed.length:
            self._uploaded = len(routed.body)
            self._upload_done = routed.ended

    @property
    def write_timeout(self) -> float:
        return self._group.settings.write_timeout or LONGEST_WAIT

    # -- attempts -----------------------------------------------------------

    def begin(self) -> None:
        """Picks a backend and a connection to it, and sends the request."""
        group = self._group
        backend = group.pick(self._routed, self._tried)
        if backend is None:
            self._answer_error("no_backend" if self._tries == 0 else "connect_failed")
            return
        self._tries += 1
        self._backend = backend
        backend.active += 1
        idle = backend.idle
        while idle:
            connection = idle.pop()
            # An EOF that the loop has not delivered yet: worth a look where a second try is not allowed or time has passed.
            if (self.method not in IDEMPOTENT or self.began - connection.idle_since > SETTLED) and connection.is_stale():
                connection.close()
                continue
            self._send(connection)
            return
        limit = group.settings.max_connections
        if limit and backend.open >= limit:
            self._wait(backend)
        else:
            self._open(backend)

    def _wait(self, backend: BackendState) -> None:
        if self._group.pending >= self._group.settings.max_pending:
            backend.active -= 1
            self._answer_error("overloaded")
            return
        self._group.pending += 1
        backend.pending.append(self)

    def next_in_line(self, connection: BackendConnection | None) -> None:
        """A connection came free (or room for one) for an exchange that waited."""
        assert self._backend is not None
        if connection is not None:
            self._send(connection)
        else:
            self._open(self._backend)

    def _open(self, backend: BackendState) -> None:
        backend.open += 1
        self._connecting = self._actor.context.loop.create_task(self._connect(backend))

    async def _connect(self, backend: BackendState) -> None:
        settings = self._group.settings
        seconds = min(settings.connection_timeout or DEFAULT_CONNECT_TIMEOUT, settings.total_connection_timeout or LONGEST_WAIT)
        began = monotonic()
        failure = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._actor.connect(backend, settings)
        except TimeoutError:
            failure = Failure.CONNECT_TIMEOUT
        except OSError as error:
            failure = Failure.CONNECT
            self._detail = str(error)
        except asyncio.CancelledError:
            backend.lost_one()
            raise
        self._connecting = None
        if failure is not None:
            backend.lost_one()
            if not self.is_over:
                self.attempt_failed(failure)
            return
        if self.is_over:
            connection.close()
            return
        self.connect_seconds = (monotonic() - began,)
        self._send(connection)

    def _send(self, connection: BackendConnection) -> None:
        routed = self._routed
        self._sent_at = monotonic()
        self._connection = connection
        connection.begin(self, self._sent_at)
        headers = routed.headers
        if self._rules.late:
            assert self._backend is not None
            headers = self._rules.apply_late(headers, routed, self._backend.address)
        if not routed.host and value_of(headers, b"host") is None:
            # HTTP/1.0 may come without a Host; what we send is 1.1, which must have one (RFC 9112 section 3.2).
            assert self._backend is not None
            headers = b"host: %b\r\n%b" % (self._backend.address.encode(), headers)
        head = request_head(self.method, routed.target, headers, routed.length)
        connection.write(head + routed.body if routed.body else head)
        if not self._upload_done and not self._granted:
            self._grant(WINDOW)

    def attempt_failed(self, failure: Failure) -> None:
        """No answer from this attempt: another one if the rules allow it, else an error."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        group, backend = self._group, self._backend
        assert backend is not None
        backend.active -= 1
        tried = self._tried = self._tried or set()
        if failure is not Failure.CLOSED_REUSED:
            tried.add(group.backends.index(backend))
        now = monotonic()
        attempt = Attempt(
            failure,
            self.method,
            self._routed.ended,
            self._uploaded > 0 and not self._routed.ended,
            self._tries,
            group.others(tried),
            now - self.began,
        )
        retry = may_retry(attempt, self._rules.retry)
        self._actor.attempt_failed(group, backend, failure, self._detail, retry)
        self._backend = None
        if not retry:
            self._answer_error(failure.kind)
        elif failure is Failure.CLOSED_REUSED:
            # The other idle connections are as old: a fresh one.
            self._tries += 1
            self._backend = backend
            backend.active += 1
            self._open(backend)
        else:
            self.begin()

    def note(self, detail: str) -> None:
        """What was wrong with the backend's answer, for the log."""
        self._detail = detail

    # -- the request body ------------------------------------------------------

    def _grant(self, count: int) -> None:
        routed = self._routed
        self._granted += count
        sender = routed.affinity.plugins if routed.plan & REQUEST_BODY else accept_of(self.sid)
        self._actor.send(sender, Credit(CREDIT, self.sid, count, self._actor.context.id))

    def upload(self, data: Data) -> None:
        """Request body bytes, for the backend's connection."""
        connection = self._connection
        if self._upload_done or connection is None or connection.exchange is not self:
            return
        if data.error:
            self.cancel()
            return
        payload = data.payload
        size = len(payload)
        self._uploaded += size
        self._granted -= size
        cap = self._rules.max_body
        if cap and self._uploaded > cap:
            connection.close()
            self._connection = None
            self._answer_error("body_too_large")
            return
        if self._routed.length == UNKNOWN:
            connection.write(chunk(payload) + LAST_CHUNK if data.ended else chunk(payload))
        elif payload:
            connection.write(payload)
        if data.ended:
            self._upload_done = True
            return
        self._unacked += size
        if self._unacked >= TOP_UP and not connection.choked:
            self.drained()
        if not connection.choked:
            connection.deadline = monotonic() + self.read_timeout

    def drained(self) -> None:
        """The backend has taken what was written: room for more."""
        if self._unacked and not self._upload_done:
            count, self._unacked = self._unacked, 0
            self._grant(count)

    # -- the answer ---------------------------------------------------------------

    def head_arrived(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        routed = self._routed
        self.responded = True
        backend, connection = self._backend, self._connection
        assert backend is not None and connection is not None
        report = new(
            Report,
            (
                routed.location,
                routed.upstream,
                backend.address,
                head.status,
                not self.connect_seconds,
                self._tries,
                (*so_far(routed.stamps), self.began, self._sent_at, self._sent_at, monotonic()),
                self.connect_seconds,
                "",
                routed.variables,
                routed.client_ip,
                connection.opened,
                backend.open,
            ),
        )
        actor = self._actor
        actor.send(
            self.answers_to,
            new(
                Response,
                (RESPONSE, self.sid, actor.context.id, head.status, head.headers, head.length, body, ended, report, routed.watchers),
            ),
        )
        if ended:
            self._over()
        else:
            self._window = WINDOW - len(body)
            if self._window <= 0:
                connection.pause()

    def body_arrived(self, payload: bytes, ended: bool) -> None:
        """Response body bytes. Credit may be overdrawn by one read, then reading pauses."""
        self._window -= len(payload)
        self._arrived += len(payload)
        if self._held is not None:
            self._held.append(payload)
            if ended or self._window <= 0 or len(self._held) >= GATHER:
                self._release_held(ended)
        elif self._arrived > BULK and len(payload) >= BULK_READ and not ended:
            # A long download is not in a hurry for one read: several in one batch cost a third of the wake-ups.
            self._held = [payload]
            self._actor.context.loop.call_later(GATHER_SECONDS, self._release_held, False)
        else:
            self._actor.send(self.answers_to, Data(DATA, self.sid, payload, ended, ""))
        if ended:
            self._over()
        elif self._window <= 0 and self._connection is not None:
            self._connection.pause()

    def _release_held(self, ended: bool) -> None:
        held, self._held = self._held, None
        if held is not None:
            last = len(held) - 1
            for index, payload in enumerate(held):
                self._actor.send(self.answers_to, Data(DATA, self.sid, payload, ended and index == last, ""))

    def credited(self, count: int) -> None:
        self._window += count
        if self._window > 0 and self._connection is not None:
            self._connection.resume()

    def body_broke(self, kind: str) -> None:
        """The answer cannot be completed: the receiver must not let it look complete."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._release_held(False)
        self._actor.send(self.answers_to, Data(DATA, self.sid, b"", False, kind))
        self._over()

    def _answer_error(self, kind: str) -> None:
        routed = self._routed
        if self.responded:  # too late for a status: the body is what fails
            self._actor.send(self.answers_to, Data(DATA, self.sid, b"", False, kind))
        else:
            self.responded = True
            report = Report(
                routed.location,
                routed.upstream,
                self._backend.address if self._backend is not None else "",
                0,
                False,
                self._tries,
                (*so_far(routed.stamps), self.began, self._sent_at, self._sent_at, 0.0),
                self.connect_seconds,
                kind,
                routed.variables,
                routed.client_ip,
            )
            self._actor.answer_error(self.answers_to, routed, kind, report)
        self._over()

    # -- the end ----------------------------------------------------------------------

    def release(self, connection: BackendConnection, keep: bool) -> None:
        """The connection has done its part: back to the pool, on to one who waits, or closed."""
        self._connection = None
        if not keep or not self._upload_done or connection.is_closed:
            # An answer that came before the request was all sent leaves the connection in mid-request.
            connection.close()  # its loss lets the next one who waits open another
        elif (waiting := connection.backend.next_waiting()) is not None:
            waiting.next_in_line(connection)
        else:
            connection.idle_since = monotonic()
            connection.backend.idle.append(connection)

    def waited_too_long(self) -> None:
        """No connection came free in time."""
        self._answer_error("overloaded")

    def _over(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._backend is not None:
                self._backend.active -= 1
            self._actor.exchange_over(self)

    def cancel(self) -> None:
        """Nobody wants the answer any more: the backend hears of it by the closed connection."""
        if self.is_over:
            return
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        self._held = None
        self._over()
        if connection is not None:
            connection.close()


async def open_socket(
    loop: asyncio.AbstractEventLoop, host: str, port: int, ipv4_only: bool, tune: list[tuple[int, int, int]]
) -> socket.socket:
    """A connected, non-blocking TCP socket. Raises OSError. The first address that answers is taken, in the system's order."""
    family = socket.AF_INET if ipv4_only else socket.AF_UNSPEC
    if host[:1].isdigit() or ":" in host:
        addresses = [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))]
    else:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = [(item[0], item[4][:2]) for item in found]  # type: ignore[misc]
    last: OSError | None = None
    for address_family, address in addresses:
        sock = socket.socket(address_family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in tune:
                sock.setsockopt(*option)
            await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            last = error
        else:
            return sock
    raise last or OSError(f"{host}: no address")
