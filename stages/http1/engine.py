"""Head parsers. `parse_request` and `parse_response` take one whole head block and give its parsed form.

httptools costs about 2 µs a head with eight headers, h11 about 15 times that; both
end in the same rules (`rules.py`), and the tests hold one against the other.
llhttp in its strict mode refuses bare LF, folding, NUL, white space before a colon
and Content-Length beside Transfer-Encoding by itself; h11 does not, so
`rules.check_block` looks first.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import h11
import httptools

from stages.http1.rules import (
    SPECIAL,
    TARGET,
    TOKEN,
    VALUE,
    Limits,
    ProtocolError,
    RequestHead,
    ResponseHead,
    Special,
    check_block,
    check_host,
    drop_named,
    split_absolute,
)
from stages.messages import UNKNOWN

METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT MKACTIVITY CHECKOUT"
    b" MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR ACL BIND REBIND UNBIND LINK UNLINK QUERY".split()
)
"""What is forwarded. CONNECT opens tunnels, which a reverse proxy does not."""


class Engine(Protocol):
    def parse_request(self, head: bytes, limits: Limits) -> RequestHead:
        """Raises ProtocolError."""

    def parse_response(self, head: bytes, limits: Limits) -> ResponseHead:
        """Raises ProtocolError of kind bad_gateway."""


class _Fields:
    """httptools callbacks: collects the lines of one head in normal form."""

    __slots__ = ("lines", "special", "url")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.special: Special | None = None
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if value[-1:] in (b" ", b"\t"):
            value = value.rstrip(b" \t")
        if name in SPECIAL:
            special = self.special
            if special is None:
                special = self.special = Special()
            if name != b"host":
                special.take(name, value)
                return
            special.hosts.append(value)
        self.lines += (name, b": ", value, b"\r\n")


_NOTHING_SPECIAL: Final = Special()


class Httptools:
    """The engine of the hot path: llhttp through httptools."""

    def parse_request(self, head: bytes, limits: Limits) -> RequestHead:
        if len(head) > limits.head:
            raise ProtocolError("headers_too_large", "head too large")
        fields = _Fields()
        parser = httptools.HttpRequestParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise _request_error(head, error, limits) from error
        method, target = parser.get_method(), fields.url
        start = b"%b %b HTTP/1." % (method, target)
        if not head.startswith(start):
            raise _bad_start(head)
        # llhttp has accepted "1.0" and "1.1" only.
        version = 11 if head[len(start)] == 49 else 10
        return finish_request(method, target, version, fields.lines, fields.special or _NOTHING_SPECIAL, limits)

    def parse_response(self, head: bytes, limits: Limits) -> ResponseHead:
        fields = _Fields()
        parser = httptools.HttpResponseParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise ProtocolError("bad_gateway", f"backend's response head: {error}") from error
        if not head.startswith(b"HTTP/1."):
            raise ProtocolError("bad_gateway", "backend's HTTP version")
        version = 11 if head[7] == 49 else 10
        return finish_response(parser.get_status_code(), version, fields.lines, fields.special or _NOTHING_SPECIAL, limits)


class H11:
    """The second engine: h11, stricter in grammar, with the raw checks that it lacks."""

    def parse_request(self, head: bytes, limits: Limits) -> RequestHead:
        if len(head) > limits.head:
            raise ProtocolError("headers_too_large", "head too large")
        check_block(head)
        line = head[: head.find(b"\r\n")]
        if not line.endswith((b" HTTP/1.1", b" HTTP/1.0")) or line.count(b" ") != 2:
            raise _bad_start(head)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head + 1)
        event = _h11_event(connection, head, "bad_request")
        assert isinstance(event, h11.Request)
        lines, special = _collect(event.headers.raw_items(), "bad_request")
        version = 11 if event.http_version == b"1.1" else 10
        return finish_request(event.method, event.target, version, lines, special, limits)

    def parse_response(self, head: bytes, limits: Limits) -> ResponseHead:
        try:
            check_block(head)
        except ProtocolError as error:
            raise ProtocolError("bad_gateway", f"backend's response head: {error.detail}") from error
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head + 1)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
        event = _h11_event(connection, head, "bad_gateway")
        assert isinstance(event, h11.Response | h11.InformationalResponse)
        lines, special = _collect(event.headers.raw_items(), "bad_gateway")
        return finish_response(event.status_code, 11 if event.http_version == b"1.1" else 10, lines, special, limits)


def _h11_event(connection: h11.Connection, head: bytes, kind: str) -> Any:
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError("not_implemented" if error.error_status_hint == 501 else kind, str(error)) from error
    if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
        raise ProtocolError(kind, "incomplete head")
    return event


def _collect(items: list[tuple[bytes, bytes]], kind: str) -> tuple[list[bytes], Special]:
    lines: list[bytes] = []
    special = Special()
    for raw_name, value in items:
        name = raw_name.lower()
        if not name or name.translate(None, TOKEN) or value.translate(None, VALUE):
            raise ProtocolError(kind, "malformed header line")
        if name in SPECIAL:
            if name != b"host":
                special.take(name, value)
                continue
            special.hosts.append(value)
        lines += (name, b": ", value, b"\r\n")
    return lines, special


def finish_request(method: bytes, target: bytes, version: int, lines: list[bytes], special: Special, limits: Limits) -> RequestHead:
    """The rules of section 8 on a parsed request head."""
    if method not in METHODS:
        raise ProtocolError("not_implemented", "method not supported")
    if len(target) > limits.target:
        raise ProtocolError("target_too_long", "target too long")
    if len(lines) > limits.headers * 4:
        raise ProtocolError("headers_too_large", "too many headers")
    if target.translate(None, TARGET):
        raise ProtocolError("bad_request", "malformed request target")
    hosts = special.hosts
    if len(hosts) == 1:
        host = check_host(hosts[0])
    elif hosts or version >= 11:
        raise ProtocolError("bad_request", "not exactly one Host")
    else:
        host = b""
    headers = b"".join(lines)
    if not target.startswith(b"/"):
        if target == b"*":
            if method != b"OPTIONS":
                raise ProtocolError("bad_request", "malformed request target")
        else:
            # RFC 9112 section 3.2.2: the target's authority replaces Host.
            authority, target = split_absolute(target)
            host = check_host(authority)
            headers = b"host: " + host + b"\r\n" + drop_named(headers, [b"\0host"]) if not hosts else _replace_host(headers, host)
    if special.connection:
        headers = drop_named(headers, special.connection)
    length = special.request_length(version)
    return RequestHead(
        method,
        target,
        version,
        host,
        headers,
        length,
        special.keep_alive(version),
        special.expects_continue(version),
        special.upgraded(),
    )


def finish_response(status: int, version: int, lines: list[bytes], special: Special, limits: Limits) -> ResponseHead:
    """The rules for a backend's response head."""
    if not 100 <= status <= 599:
        raise ProtocolError("bad_gateway", f"backend's status {status}")
    if len(lines) > limits.headers * 4:
        raise ProtocolError("bad_gateway", "backend sent too many headers")
    headers = b"".join(lines)
    if special.connection:
        headers = drop_named(headers, special.connection)
    if status < 200 or status == 204:
        if special.transfer or (special.lengths and special.lengths != [b"0"]):
            raise ProtocolError("bad_gateway", f"backend framed a body on status {status}")
        length, chunked = UNKNOWN, False
    else:
        length, chunked = special.response_framing(version)
    return ResponseHead(status, version, headers, length, chunked, special.keep_alive(version), special.upgraded())


def _replace_host(headers: bytes, host: bytes) -> bytes:
    lines = headers.split(b"\r\n")[:-1]
    return b"".join((b"host: " + host if line.startswith(b"host:") else line) + b"\r\n" for line in lines)


def _request_error(head: bytes, error: httptools.HttpParserError, limits: Limits) -> ProtocolError:
    line = head[: head.find(b"\r\n")]
    if len(line) > limits.target + 32:
        return ProtocolError("target_too_long", "target too long")
    if b"chunked" not in head.lower() and b"Transfer-Encoding" in str(error).encode():
        return ProtocolError("not_implemented", str(error))
    if not line.endswith((b" HTTP/1.1", b" HTTP/1.0")):
        return _bad_start(head)
    return ProtocolError("bad_request", str(error))


def _bad_start(head: bytes) -> ProtocolError:
    line = head[: head.find(b"\r\n")]
    version = line.rpartition(b" ")[2]
    if line.count(b" ") == 2 and version.startswith(b"HTTP/") and version[5:].replace(b".", b"").isdigit():
        return ProtocolError("bad_version", "HTTP version not supported")
    return ProtocolError("bad_request", "malformed request line")


ENGINES: Final[dict[str, Engine]] = {"httptools": Httptools(), "h11": H11()}
