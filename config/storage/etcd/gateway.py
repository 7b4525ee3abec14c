"""One call to etcd: at whichever endpoint answers, logged in, within its time.

Calls are blocking: they are for threads of their own. A `Gateway` keeps one connection for the calls of one piece of
work and belongs to one thread; what several of them should know of the cluster (which endpoint answered, the token of
the login) is in a `Cluster`.

etcd's errors: https://github.com/etcd-io/etcd/blob/v3.4.23/etcdserver/api/v3rpc/rpctypes/error.go. Codes are gRPC's.
"""

from __future__ import annotations

import json
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import monotonic
from typing import Any, Final

from pingap.config.storage.etcd.address import Endpoint, EtcdAddress

_AGAIN: Final = frozenset((4, 13, 14))
"""DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE: this member cannot, another one may. So says one that has lost its leader."""

_WHO: Final = ("invalid auth token", "revision in header is old", "revision of auth store is old", "user name is empty")
"""Of the errors of etcd those that a login mends: tokens end after five minutes, at a restart, and when rights change."""

_BLOCK: Final = 65536
_ALIVE: Final = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class EtcdError(Exception):
    """etcd answered, and the answer is no. code: of gRPC."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_compacted(self) -> bool:
        return "has been compacted" in str(self)


class EtcdUnreachable(Exception):
    """No endpoint answered; the text says of each why."""


class EtcdUnsure(EtcdUnreachable):
    """The connection was lost, or the time over, after the request was sent: it may have been done."""


class Cluster:
    """What is known of a cluster, for all who call it. Threads may share it: each of its values stands for itself."""

    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self.first = 0
        """The endpoint that is tried first: the one that answered last."""
        self.token = ""


class Gateway:
    """Calls, on one connection as long as it holds. A context manager: it closes the connection."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._address = cluster.address
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._at = -1
        self._is_ended = False

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def end(self) -> None:
        """From another thread: ends a call, or a `lines`, that waits, and lets no other begin."""
        self._is_ended = True
        self.close()

    def close(self) -> None:
        connection, ours, self._connection, self._socket = self._connection, self._socket, None, None
        if ours is not None:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
        if connection is not None:
            connection.close()

    def call(self, method: str, body: dict[str, Any], is_repeatable: bool = True) -> dict[str, Any]:
        """The answer to one call, such as `kv/range`. Raises EtcdError, EtcdUnreachable.

        is_repeatable: it does no harm if it is done twice; one that is not raises EtcdUnsure when it may have been done.
        """
        deadline = monotonic() + self._address.timeout
        answer: dict[str, Any] = self._logged_in(method, body, deadline, is_repeatable, _whole)
        return answer

    def lines(self, method: str, body: dict[str, Any], silence: float) -> Iterator[dict[str, Any]]:
        """As `call`, of a method that goes on answering; it ends when there was nothing for `silence` seconds.

        Raises EtcdUnreachable as soon as the connection is lost.
        """
        deadline = monotonic() + self._address.timeout
        response, first = self._logged_in(method, body, deadline, True, _first_line)
        endpoint = self._address.endpoints[self._at]
        yield first
        rest = b""
        while True:
            try:
                if self._socket is not None:
                    self._socket.settimeout(silence)
                block = response.read1(_BLOCK)
            except TimeoutError:
                self.close()
                return
            except (OSError, HTTPException, ValueError, AttributeError) as error:
                self.close()
                raise EtcdUnreachable(f"{endpoint}: {_reason(error)}") from error
            if not block:
                self.close()
                raise EtcdUnreachable(f"{endpoint}: the connection was closed")
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _message(_parsed(line, 200))

    # -- one call -----------------------------------------------------------------

    def _logged_in(self, method: str, body: dict[str, Any], deadline: float, is_repeatable: bool, take: Any) -> Any:
        if self._address.user and not self._cluster.token:
            self._log_in(deadline)
        try:
            return self._somewhere(method, body, deadline, is_repeatable, take)
        except EtcdError as error:
            if not self._address.user or not any(word in str(error) for word in _WHO):
                raise
        self._log_in(deadline)
        return self._somewhere(method, body, deadline, is_repeatable, take)

    def _log_in(self, deadline: float) -> None:
        self._cluster.token = ""
        who = {"name": self._address.user, "password": self._address.password}
        try:
            self._cluster.token = str(self._somewhere("auth/authenticate", who, deadline, True, _whole).get("token", ""))
        except EtcdError as error:
            if "authentication is not enabled" not in str(error):  # then nobody needs to
                raise

    def _somewhere(self, method: str, body: dict[str, Any], deadline: float, is_repeatable: bool, take: Any) -> Any:
        """At the endpoint that we are connected to, else one after the other."""
        count = len(self._address.endpoints)
        start = self._at if self._connection is not None else self._cluster.first
        order = [(start + step) % count for step in range(count)]
        if self._connection is not None:
            order.insert(0, start)  # a connection that was kept may have been closed meanwhile: that says nothing
        reasons: dict[Endpoint, str] = {}
        for tried, at in enumerate(order):
            endpoint = self._address.endpoints[at]
            left = deadline - monotonic()
            if self._is_ended:
                break
            if left <= 0:
                reasons.setdefault(endpoint, "no time was left for it")
                continue
            is_sent = False
            try:
                connection, ours = self._connect(at, left)
                if self._is_ended:  # by a thread that saw no connection to close yet
                    break
                ours.settimeout(max(0.1, (deadline - monotonic()) / (len(order) - tried)))
                is_sent = True
                connection.request("POST", f"/v3/{method}", json.dumps(body), self._headers())
                found = take(connection.getresponse(), deadline)
            except EtcdError as error:
                self._cluster.first = at
                if error.code not in _AGAIN:
                    raise
                reasons[endpoint] = str(error)
            except (OSError, HTTPException, ValueError) as error:
                reasons[endpoint] = _reason(error)
            else:
                self._cluster.first = at
                return found
            self.close()
            if is_sent and not is_repeatable:
                raise EtcdUnsure(f"{endpoint}: {reasons[endpoint]}")
        raise EtcdUnreachable("; ".join(f"{endpoint}: {reason}" for endpoint, reason in reasons.items()))

    def _connect(self, at: int, left: float) -> tuple[HTTPConnection, socket.socket]:
        if self._connection is not None and self._socket is not None and self._at == at:
            return self._connection, self._socket
        self.close()
        endpoint = self._address.endpoints[at]
        timeout = min(self._address.connect_timeout, left)
        if self._address.is_tls:
            connection: HTTPConnection = HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout, context=_tls(self._address))
        else:
            connection = HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
        connection.auto_open = False  # one that another thread has closed stays closed
        try:
            connection.connect()
        except BaseException:
            connection.close()  # a handshake that fails leaves it open
            raise
        ours: socket.socket = connection.sock
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            ours.setsockopt(socket.IPPROTO_TCP, option, value)
        self._connection, self._socket, self._at = connection, ours, at
        return connection, ours

    def _headers(self) -> dict[str, str]:
        # "hasleader": a member that is cut off from the others ends its watches instead of waiting for what never comes.
        headers = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        return headers | {"Authorization": self._cluster.token} if self._cluster.token else headers


def _tls(address: EtcdAddress) -> ssl.SSLContext:
    """Read anew for each connection: certificates are renewed in their place. Raises ValueError that names the file."""
    try:
        context = ssl.create_default_context(cafile=address.ca or None)
    except OSError as error:
        raise ValueError(f"ca={address.ca}: {_reason(error)}") from error
    if address.cert:
        try:
            context.load_cert_chain(address.cert, address.key)
        except OSError as error:
            raise ValueError(f"cert={address.cert}, key={address.key}: {_reason(error)}") from error
    return context


# -- answers ----------------------------------------------------------------------


def _whole(response: HTTPResponse, deadline: float) -> dict[str, Any]:
    blocks = []
    while block := response.read1(_BLOCK):
        blocks.append(block)
        if monotonic() > deadline:
            raise TimeoutError("timed out")
    response.read()  # nothing is left, but only this says so to the connection
    return _parsed(b"".join(blocks), response.status)


def _first_line(response: HTTPResponse, deadline: float) -> tuple[HTTPResponse, dict[str, Any]]:
    if response.status != 200:
        _whole(response, deadline)
    return response, _message(_parsed(response.readline(), response.status))


def _parsed(text: bytes, status: int) -> dict[str, Any]:
    """Raises EtcdError for one, and ValueError for what does not come from etcd's gateway."""
    try:
        answer = json.loads(text)
    except ValueError:
        if status == 404:  # with JSON it is etcd's own NOT_FOUND, as of a lease that has ended
            raise ValueError("no JSON gateway there: was etcd started with --enable-grpc-gateway=false?") from None
        raise ValueError(f"no etcd answers there (status {status})") from None
    if not isinstance(answer, dict):
        raise ValueError(f"no etcd answers there (status {status})")
    if status != 200:
        raise _error(answer, status)
    return answer


def _message(line: dict[str, Any]) -> dict[str, Any]:
    """What is in a line of an answer that goes on."""
    if isinstance(error := line.get("error"), dict):
        raise _error(error, 200)
    result = line.get("result")
    if not isinstance(result, dict):
        raise ValueError("no etcd answers there")
    return result


def _error(answer: dict[str, Any], status: int) -> EtcdError:
    # Of 3.4 and 3.5 both fields have the text, of 3.6 `message` alone; lines of a stream have `grpc_code` besides.
    text = str(answer.get("message") or answer.get("error") or f"status {status}")
    code = answer.get("code", answer.get("grpc_code", 14 if status == 503 else 2))
    return EtcdError(code if isinstance(code, int) else 2, text.removeprefix("etcdserver: "))


def _reason(error: Exception) -> str:
    """In few words, and of nothing that was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}".lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    if isinstance(error, HTTPException):
        return f"the connection was closed ({type(error).__name__})"
    return str(error)


# -- the forms of JSON --------------------------------------------------------------


def sent(value: bytes | str) -> str:
    """Bytes as the gateway takes them."""
    return b64encode(value.encode() if isinstance(value, str) else value).decode()


def got(value: str) -> bytes:
    """Bytes as the gateway gives them."""
    return b64decode(value)


def number(message: dict[str, Any], name: str) -> int:
    """A whole number as the gateway gives it: a text, and none at all for 0."""
    return int(message.get(name, 0))


def revision(answer: dict[str, Any]) -> int:
    """The revision of the store at which a call was answered."""
    return number(answer.get("header", {}), "revision")
