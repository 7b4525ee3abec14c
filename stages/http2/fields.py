"""Field lists to our normal form and back, with every rule on them (RFC 9113 section 8, RFC 9110, docs/design.md).

A list that RFC 9113 calls malformed is `Malformed`: its stream is reset, for nobody can say what is meant. One that
is well-formed but asks for what we do not do, or whose target or authority cannot be (which that RFC lets us answer),
is a ProtocolError, which is answered as over HTTP/1.1. Fields repeat from request to request, so what a field
becomes is remembered, and so are whole lists of such fields; PRIVATE ones never.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pingap.stages.http1.lines import PRIVATE
from pingap.stages.http1.methods import is_forwarded
from pingap.stages.http1.refused import sketch, with_headers
from pingap.stages.http1.rules import (
    NOT_IN_TRAILERS,
    TARGET,
    TOKEN,
    VALUE,
    AnswerHead,
    HeadLimits,
    ProtocolError,
    RequestHead,
    check_host,
    escaped,
    new,
)
from pingap.stages.http2.engine import Fields
from pingap.stages.messages import EMPTY, UNKNOWN

REMEMBERED: Final = 4096
LONGEST: Final = 256
"""Fields that are remembered, and bytes of one."""
LISTS: Final = 512
LONGEST_LIST: Final = 1024
"""Whole lists, and bytes of the block of one."""

T = TypeVar("T")

_CONNECTION_SPECIFIC: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""RFC 9113 section 8.2.2."""
_DROPPED_NAMES: Final = frozenset((b"http2-settings", b"content_length", b"transfer_encoding"))
_LOOKED_AT: Final = _CONNECTION_SPECIFIC | _DROPPED_NAMES | {b"host", b"content-length", b"te", b"expect", b"cookie"}
_NAME: Final = TOKEN.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WEBSOCKET: Final = b"websocket"
_PORTS: Final = {b"http": b":80", b"https": b":443"}

_HOST, _LENGTH, _DROP, _EXPECT, _COOKIE = range(5)
_Special = tuple[int, bytes]
_lines: dict[tuple[bytes, bytes], bytes | _Special] = {}
_whole_requests: dict[Fields, tuple[HeadLimits, RequestHead]] = {}
_requests_to_end: dict[Fields, tuple[HeadLimits, RequestHead]] = {}
_responses: dict[Fields, tuple[HeadLimits, AnswerHead]] = {}
_pairs: dict[bytes, tuple[bytes, bytes]] = {}
_lists: dict[bytes, Fields] = {}
_STATUS: Final = {status: (b":status", b"%d" % status) for status in range(100, 1000)}


class Malformed(ProtocolError):
    """RFC 9113 section 8.1.1: the stream is reset with PROTOCOL_ERROR; nobody shall guess what was meant."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_request", detail)


def request_head(fields: Fields, ended: bool, limits: HeadLimits) -> RequestHead:
    """A request's fields as HTTP/1.1 would have given them; version 20.

    ended: END_STREAM came with them. `length` is 0 then, else what Content-Length says or UNKNOWN. Extended CONNECT
    (RFC 8441) comes out as a GET with `upgrade`. Raises Malformed; ProtocolError for what is to be answered.
    """
    heads = _whole_requests if ended else _requests_to_end
    remembered = heads.get(fields)
    if remembered is not None and remembered[0] is limits:
        return remembered[1]
    pseudo, at = _pseudo(fields, _REQUEST_PSEUDO)
    method, path, authority, protocol = (pseudo.get(name) for name in (b":method", b":path", b":authority", b":protocol"))
    if method == b"CONNECT" and protocol is None:
        # RFC 9113 section 8.5.
        if not authority or len(pseudo) != 2:
            raise Malformed("CONNECT with other pseudo fields than :authority")
        raise ProtocolError("not_implemented", "method not supported")
    if limits.escapes and path is not None and not path.isascii():
        path = escaped(path)
    _check_start(method, path, pseudo.get(b":scheme"), protocol, limits)
    assert method is not None and path is not None
    host = None if authority is None else _host(authority)
    length = UNKNOWN
    has_length = has_host = expects_continue = False
    block: list[bytes] = []
    cookies: list[bytes] = []
    is_known = True
    find = _lines.get
    for field in fields[at:]:
        known = find(field)
        if known is None:
            is_known = False
            known = _learn(field)
        if isinstance(known, bytes):
            block.append(known)
            continue
        kind, value = known
        if kind == _HOST:
            named = _host(value)
            if has_host or (host is not None and named != host and not _is_same(named, host, pseudo[b":scheme"])):
                raise ProtocolError("bad_request", "Host twice, or unlike :authority")
            has_host, host = True, host or named
        elif kind == _LENGTH:
            if has_length:
                raise Malformed("more than one Content-Length")
            has_length, length = True, int(value)
        elif kind == _EXPECT:
            if value != b"100-continue":
                raise ProtocolError("expectation_failed", "an expectation other than 100-continue")
            expects_continue = True
        elif kind == _COOKIE:
            cookies.append(value)
    if len(fields) - at - max(0, len(cookies) - 1) > limits.headers:  # browsers send each cookie as a field of its own
        raise ProtocolError("headers_too_large", "too many headers")
    if not host:
        raise ProtocolError("bad_request", "neither :authority nor Host")
    if cookies:
        # RFC 9113 section 8.2.3.
        block.append(b"cookie: %b\r\n" % b"; ".join(cookies))
    if ended:
        if length > 0:
            raise Malformed("Content-Length on a request without a body")
        length = 0
    upgrade = b""
    if protocol is not None:
        if ended or has_length:
            raise ProtocolError("bad_request", "extended CONNECT that cannot become a tunnel")
        method, upgrade, length = b"GET", protocol.lower(), 0
    headers = b"host: %b\r\n%b" % (host, b"".join(block))
    if len(headers) > limits.head:
        raise ProtocolError("headers_too_large", "header list too large")
    parsed = new(RequestHead, (method, path, 20, host, headers, length, True, expects_continue and not ended, upgrade, (), has_length, ()))
    if is_known and len(headers) <= LONGEST_LIST and len(path) <= LONGEST:
        _remember(heads, fields, (limits, parsed))
    return parsed


_REQUEST_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_RESPONSE_PSEUDO: Final = frozenset((b":status",))


def _pseudo(fields: Fields, allowed: frozenset[bytes]) -> tuple[dict[bytes, bytes], int]:
    """The pseudo fields and where the others begin. A later one is refused by `_learn`, whose names have no colon."""
    pseudo: dict[bytes, bytes] = {}
    at = 0
    for name, value in fields:
        if name[:1] != b":":
            break
        if name not in allowed or name in pseudo:
            raise Malformed("unknown or repeated pseudo field")
        pseudo[name] = value
        at += 1
    return pseudo, at


def _check_start(method: bytes | None, path: bytes | None, scheme: bytes | None, protocol: bytes | None, limits: HeadLimits) -> None:
    """RFC 9113 section 8.3.1."""
    if not method or method.translate(None, TOKEN):
        raise Malformed("missing or malformed :method")
    if protocol is not None and method != b"CONNECT":
        raise Malformed(":protocol without CONNECT")
    if not scheme or not path:
        raise Malformed("missing :scheme or :path")
    if scheme.lower() not in (b"http", b"https"):
        raise ProtocolError("bad_request", "scheme not supported")
    if path.translate(None, VALUE):
        raise Malformed("malformed :path")
    if path.translate(None, TARGET) or (path[:1] != b"/" and not (path == b"*" and method == b"OPTIONS")):
        raise ProtocolError("bad_request", "malformed request target")
    if len(path) > limits.target:
        raise ProtocolError("target_too_long", "target too long")
    if protocol is not None:
        if protocol.translate(None, TOKEN):
            raise Malformed("malformed :protocol")
        if protocol.lower() != _WEBSOCKET:
            raise ProtocolError("not_implemented", "protocol not supported")
    elif not is_forwarded(method):
        raise ProtocolError("not_implemented", "method not supported")


def _host(value: bytes) -> bytes:
    """Also for :authority, which has no user information (RFC 9113 section 8.3.1)."""
    if value.translate(None, VALUE):
        raise Malformed("malformed field value")
    return check_host(value)


def _is_same(one: bytes, other: bytes, scheme: bytes) -> bool:
    """Two authorities differ at most by naming the port that the scheme has anyway (RFC 9110 section 4.2.3)."""
    port = _PORTS[scheme.lower()]
    return one.removesuffix(port) == other.removesuffix(port)


def _learn(field: tuple[bytes, bytes]) -> bytes | _Special:
    """A field's line, or what is special about it. Raises Malformed (RFC 9113 section 8.2.1)."""
    name, value = field
    if not name or name.translate(None, _NAME):
        raise Malformed("malformed field name")
    if value.translate(None, VALUE) or (value and (value[0] in b" \t" or value[-1] in b" \t")):
        raise Malformed("malformed field value")
    known: bytes | _Special = b"%b: %b\r\n" % (name, value)
    if name in _LOOKED_AT:
        if name in _CONNECTION_SPECIFIC:
            raise Malformed("connection-specific field")
        if name == b"te":
            if value.lower() != b"trailers":
                raise Malformed("TE other than trailers")
            known = b"te: trailers\r\n"
        elif name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise Malformed("malformed Content-Length")
            known = (_LENGTH, value)
        elif name == b"host":
            known = (_HOST, value)
        elif name == b"expect":
            known = (_EXPECT, value.lower()) if value.strip(b", \t") else (_DROP, b"")  # of nothing, as over HTTP/1.1
        elif name == b"cookie":
            known = (_COOKIE, value)
        else:
            known = (_DROP, b"")
    if len(name) + len(value) <= LONGEST and name not in PRIVATE:
        if len(_lines) >= REMEMBERED:
            _lines.clear()
        _lines[name, value] = known
    return known


def _remember(table: dict[Fields, T], fields: Fields, what: T) -> None:
    if len(table) >= LISTS:
        table.clear()
    table[fields] = what


def response_head(fields: Fields, limits: HeadLimits) -> AnswerHead:
    """A backend's response, version 20; `length` is what Content-Length says, or UNKNOWN. Also for interim ones.

    Raises ProtocolError("bad_gateway").
    """
    remembered = _responses.get(fields)
    if remembered is not None and remembered[0] is limits:
        return remembered[1]
    try:
        pseudo, at = _pseudo(fields, _RESPONSE_PSEUDO)
        status = pseudo.get(b":status", b"")
        if len(status) != 3 or not status.isdigit() or not b"100" <= status <= b"999" or status == b"101":
            raise Malformed(f"status {status.decode('latin-1')!r}")
        if len(fields) - at > limits.headers:
            raise Malformed("too many headers")
        length = UNKNOWN
        is_known = True
        block: list[bytes] = []
        for field in fields[at:]:
            known = _lines.get(field)
            if known is None:
                is_known = False
                known = _learn(field)
            if isinstance(known, bytes):
                block.append(known)
                continue
            kind, value = known
            if kind == _LENGTH:
                if length != UNKNOWN:
                    raise Malformed("more than one Content-Length")
                length = int(value)
            elif kind == _COOKIE:
                block.append(b"cookie: %b\r\n" % value)
        headers = b"".join(block)
        if len(headers) > limits.head:
            raise Malformed("header list too large")
        code = int(status)
        if code < 200 or code == 204:
            if length > 0:
                raise Malformed(f"a body on status {code}")
            length = UNKNOWN
    except Malformed as error:
        raise ProtocolError("bad_gateway", f"backend's response: {error.detail}") from error
    parsed = new(AnswerHead, (code, 20, headers, length, False, True, b"", (), b"", ()))
    if is_known and len(headers) <= LONGEST_LIST:
        _remember(_responses, fields, (limits, parsed))
    return parsed


def sketch_of(fields: Fields) -> RequestHead:
    """What a refused request has said of itself, for the log."""
    said = dict(reversed(fields))
    head = sketch(said.get(b":method", b""), said.get(b":path", b""), 20)
    return with_headers(head, said.get(b":authority") or said.get(b"host", b""), said)


def trailer_block(fields: Fields) -> bytes:
    """Trailers in normal form, without those that may not be there. Raises Malformed (pseudo fields too: RFC 9113 section 8.1)."""
    block: list[bytes] = []
    for field in fields:
        line = _learn(field)
        if isinstance(line, bytes) and field[0] not in NOT_IN_TRAILERS:
            block.append(line)
    return b"".join(block)


def response_fields(status: int, headers: bytes, length: int) -> Fields:
    """The field list of an answer. length: UNKNOWN for no Content-Length. headers: normal form, checked by who made it."""
    fields = _list(headers)
    if length == UNKNOWN:
        return (_STATUS[status], *fields)
    return (_STATUS[status], *fields, (b"content-length", b"%d" % length))


def request_fields(method: bytes, target: bytes, scheme: bytes, headers: bytes, length: int, upgrade: bytes = b"") -> Fields:
    """The field list of a request to a backend; its Host line becomes :authority.

    length: body bytes, UNKNOWN or 0 for no Content-Length, but a method that usually has a body says 0, as EMPTY does.
    upgrade: the protocol of an extended CONNECT (RFC 8441 section 4), in place of the method.
    """
    fields = _list(headers)
    authority = next((value for name, value in fields if name == b"host"), None)
    if authority is not None:
        fields = tuple(field for field in fields if field[0] != b"host")
    start: Fields = ((b":method", method), (b":scheme", scheme), (b":path", target))
    if upgrade:
        start = ((b":method", b"CONNECT"), (b":protocol", upgrade), (b":scheme", scheme), (b":path", target))
    elif length > 0:
        fields = (*fields, (b"content-length", b"%d" % length))
    elif length == EMPTY or (length == 0 and method in (b"POST", b"PUT", b"PATCH")):
        fields = (*fields, (b"content-length", b"0"))
    if authority:
        start = (*start, (b":authority", authority))
    return start + fields


def trailer_fields(block: bytes) -> Fields:
    """Trailer lines in normal form as a field list."""
    return _list(block)


def _list(block: bytes) -> Fields:
    """A block in normal form as fields; those for the client's connection only cannot be in it."""
    known = _lists.get(block)
    if known is not None:
        return known
    is_known = len(block) <= LONGEST_LIST
    fields: list[tuple[bytes, bytes]] = []
    for line in block.split(b"\r\n")[:-1]:
        pair = _pairs.get(line)
        if pair is None:
            is_known = False
            name, _, value = line.partition(b": ")
            pair = (name, value)
            if len(line) <= LONGEST and name not in PRIVATE:
                if len(_pairs) >= REMEMBERED:
                    _pairs.clear()
                _pairs[line] = pair
        fields.append(pair)
    result = tuple(fields)
    if is_known:
        if len(_lists) >= LISTS:
            _lists.clear()
        _lists[block] = result
    return result
