"""Head parsers. `parse_request` and `parse_response` take one whole head block and give its parsed form.

httptools costs about 2 µs a head with eight headers, h11 about 15 times that; both
end in the same rules (`rules.py`), and the tests hold one against the other.
llhttp in its strict mode refuses bare LF, folding, NUL, white space before a colon
and Content-Length beside Transfer-Encoding by itself; h11 does not, so
`rules.check_block` looks first.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import h11
import httptools

from pingap.stages.http1.lines import quick_request, quick_response
from pingap.stages.http1.methods import METHODS, is_forwarded
from pingap.stages.http1.reasons import reason_of
from pingap.stages.http1.rules import (
    READS_TRAILERS,
    SPECIAL,
    TARGET,
    TOKEN,
    VALUE,
    AnswerHead,
    HeadLimits,
    ProtocolError,
    RequestHead,
    Special,
    check_block,
    check_count,
    check_host,
    codings,
    drop_named,
    head_too_large,
    lengths,
    new,
    not_in_trailers,
    refused_coding,
    split_absolute,
    with_escaped_target,
)
from pingap.stages.http1.spelling import spelled_in
from pingap.stages.messages import UNKNOWN

_START: Final = re.compile(rb"([!#-'*+\-.0-9A-Z^-z|~]+) ([^ \r\n]+) HTTP/([0-9]\.[0-9])\r\n")


class HeadParser(Protocol):
    def parse_request(self, head: bytes, limits: HeadLimits) -> RequestHead:
        """Raises ProtocolError."""

    def parse_response(self, head: bytes, limits: HeadLimits) -> AnswerHead:
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
        if value[-1:] <= b" ":  # nothing, space or tab: llhttp lets no other control character pass
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
_NO_PROTOCOL: Final = "backend switched to no protocol: 101 without Upgrade"


class Httptools:
    """The engine of the hot path: llhttp through httptools, for all that `lines.py` does not find ordinary."""

    def parse_request(self, head: bytes, limits: HeadLimits) -> RequestHead:
        return quick_request(head, limits) or self.parse_whole_request(head, limits)

    def parse_response(self, head: bytes, limits: HeadLimits) -> AnswerHead:
        return quick_response(head, limits) or self.parse_whole_response(head, limits)

    def parse_whole_request(self, head: bytes, limits: HeadLimits) -> RequestHead:
        if len(head) > limits.head:
            raise head_too_large(head, limits)
        check_count(head, limits)
        if limits.escapes:
            head = with_escaped_target(head)
        fields = _Fields()
        parser = httptools.HttpRequestParser(fields)
        method = head[: head.find(b" ")]
        # llhttp has a list of methods, by which it frames nothing: another one it gets to see as GET.
        is_listed = method in METHODS or not is_forwarded(method)
        try:
            parser.feed_data(head if is_listed else b"GET" + head[len(method) :])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise _request_error(head, error, limits) from error
        method, target = parser.get_method() if is_listed else method, fields.url
        start = b"%b %b HTTP/1." % (method, target)
        if not head.startswith(start):
            raise _bad_start(head)
        # llhttp has accepted "1.0" and "1.1" only.
        version = 11 if head[len(start)] == 49 else 10
        return finish_request(head, method, target, version, fields.lines, fields.special or _NOTHING_SPECIAL, limits)

    def parse_whole_response(self, head: bytes, limits: HeadLimits) -> AnswerHead:
        _check_response(head, limits)
        fields = _Fields()
        parser = httptools.HttpResponseParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            # llhttp pauses behind any 101, and httptools takes that for an error where there is no Upgrade.
            why = _NO_PROTOCOL if parser.get_status_code() == 101 else f"backend's response head: {error}"
            raise ProtocolError("bad_gateway", why) from error
        version = 11 if head[7] == 49 else 10
        return finish_response(head, parser.get_status_code(), version, fields.lines, fields.special or _NOTHING_SPECIAL, limits)


class H11:
    """The second engine: h11, stricter in grammar, with the raw checks that it lacks."""

    def parse_request(self, head: bytes, limits: HeadLimits) -> RequestHead:
        if len(head) > limits.head:
            raise head_too_large(head, limits)
        check_count(head, limits)
        check_block(head)
        if limits.escapes:
            head = with_escaped_target(head)
        line = head[: head.find(b"\r\n")]
        if not line.endswith((b" HTTP/1.1", b" HTTP/1.0")) or line.count(b" ") != 2:
            raise _bad_start(head)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head + 1)
        event = _h11_event(connection, head, "bad_request")
        assert isinstance(event, h11.Request)
        lines, special = _collect(head, event, "bad_request")
        version = 11 if event.http_version == b"1.1" else 10
        return finish_request(head, event.method, event.target, version, lines, special, limits)

    def parse_response(self, head: bytes, limits: HeadLimits) -> AnswerHead:
        try:
            _check_response(head, limits)
            check_block(head)
        except ProtocolError as error:
            raise ProtocolError("bad_gateway", f"backend's response head: {error.detail}") from error
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head + 1)
        # Without the offer h11 would not let a 101 pass.
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "x")]))
        connection.send(h11.EndOfMessage())
        event = _h11_event(connection, head, "bad_gateway")
        assert isinstance(event, h11.Response | h11.InformationalResponse)
        lines, special = _collect(head, event, "bad_gateway")
        return finish_response(head, event.status_code, 11 if event.http_version == b"1.1" else 10, lines, special, limits)


def _check_response(head: bytes, limits: HeadLimits) -> None:
    if len(head) > limits.head:
        raise ProtocolError("bad_gateway", "backend's response head is too large")
    if len(head) > 4 * limits.headers and head.count(b"\n") > limits.headers + 2:
        raise ProtocolError("bad_gateway", "backend sent too many headers")
    if not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
        raise ProtocolError("bad_gateway", "backend's HTTP version")
    if b"\0" in head:  # llhttp lets it pass in the reason phrase
        raise ProtocolError("bad_gateway", "NUL in the backend's response head")


def _h11_event(connection: h11.Connection, head: bytes, kind: str) -> Any:
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        if kind == "bad_request" and error.error_status_hint == 501:
            raise refused_coding(codings(head)) from error
        raise ProtocolError(kind, str(error)) from error
    if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
        raise ProtocolError(kind, "incomplete head")
    return event


def _collect(head: bytes, event: Any, kind: str) -> tuple[list[bytes], Special]:
    lines: list[bytes] = []
    special = Special()
    for raw_name, value in event.headers.raw_items():
        name = raw_name.lower()
        if not name or name.translate(None, TOKEN) or value.translate(None, VALUE):
            raise ProtocolError(kind, "malformed header line")
        if name in SPECIAL:
            if name != b"host":
                special.take(name, value)
                continue
            special.hosts.append(value)
        lines += (name, b": ", value, b"\r\n")
    if special.lengths:
        # h11 makes one of a list or of repetitions that agree; the next server may not.
        special.lengths = lengths(head)
    return lines, special


def finish_request(
    head: bytes, method: bytes, target: bytes, version: int, lines: list[bytes], special: Special, limits: HeadLimits
) -> RequestHead:
    """The rules of section 8 on a parsed request head."""
    if not is_forwarded(method):
        raise ProtocolError("not_implemented", "method not supported")
    if len(target) > limits.target:
        raise ProtocolError("target_too_long", "target too long")
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
            absolute = target
            authority, target = split_absolute(target)
            if target == b"/" and method == b"OPTIONS" and not absolute.endswith(b"/"):
                target = b"*"  # a URI without a path asks about the whole server (section 3.2.4)
            host = check_host(authority)
            headers = _replace_host(headers, host) if hosts else b"host: %b\r\n%b" % (host, headers)
    if special.connection:
        headers = drop_named(headers, special.connection)
    if special.reads_trailers and version >= 11:
        headers += READS_TRAILERS
    length = special.request_length(version)
    return new(
        RequestHead,
        (
            method,
            target,
            version,
            host,
            headers,
            length,
            special.keep_alive(version),
            special.expects_continue(version),
            special.upgraded() if version >= 11 else b"",  # RFC 9110 section 7.8
            not_in_trailers(special.connection) if length == UNKNOWN and special.connection else (),
            length != 0 or bool(special.lengths),
            spelled_in(head) if limits.keeps_case else (),
        ),
    )


def finish_response(head: bytes, status: int, version: int, lines: list[bytes], special: Special, limits: HeadLimits) -> AnswerHead:
    """The rules for a backend's response head, which a parser has taken."""
    if not 100 <= status <= 999:
        raise ProtocolError("bad_gateway", f"backend's status {status}")
    headers = b"".join(lines)
    if special.connection:
        headers = drop_named(headers, special.connection)
    length, chunked = special.response_framing(version)
    keep_alive = special.keep_alive(version)
    if status < 200 or status == 204:
        if status == 101 and not special.upgraded():
            raise ProtocolError("bad_gateway", _NO_PROTOCOL)
        if chunked or length > 0:  # it ends with its empty line whatever it says (RFC 9112 section 6.3); its sender may not know
            keep_alive = False
        length, chunked = UNKNOWN, False
    named = not_in_trailers(special.connection) if chunked and special.connection else ()
    reason = reason_of(head[: head.index(b"\r\n")])
    spelled = spelled_in(head) if limits.keeps_case else ()
    return new(AnswerHead, (status, version, headers, length, chunked, keep_alive, special.upgraded(), named, reason, spelled))


def _replace_host(headers: bytes, host: bytes) -> bytes:
    lines = headers.split(b"\r\n")[:-1]
    return b"".join((b"host: " + host if line.startswith(b"host:") else line) + b"\r\n" for line in lines)


def _request_error(head: bytes, error: httptools.HttpParserError, limits: HeadLimits) -> ProtocolError:
    """What llhttp's refusal means to the client."""
    match = _START.match(head)
    if match is None or match[3] not in (b"1.1", b"1.0"):
        return _bad_start(head)
    if not is_forwarded(match[1]):
        return ProtocolError("not_implemented", "method not supported")
    if len(match[2]) > limits.target:
        return ProtocolError("target_too_long", "target too long")
    text = str(error)
    if "Transfer-Encoding" in text and "Content-Length" not in text:
        return refused_coding(codings(head))
    return ProtocolError("bad_request", text)


def _bad_start(head: bytes) -> ProtocolError:
    match = _START.match(head)
    if match is not None and match[3] not in (b"1.1", b"1.0"):
        return ProtocolError("bad_version", "HTTP version not supported")
    return ProtocolError("bad_request", "malformed request line")


ENGINES: Final[dict[str, HeadParser]] = {"httptools": Httptools(), "h11": H11()}
