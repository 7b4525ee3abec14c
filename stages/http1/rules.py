"""What docs/design.md asks of every message at the edges, on top of a parser (RFC 9112 sections 2 to 7, RFC 9110 section 7.6.1)."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, NamedTuple

from pingap.stages.messages import UNKNOWN

new: Final = tuple.__new__
"""Makes a named tuple from all its fields at half the price of calling it: `new(RequestHead, (method, …))`."""


class HeadLimits(NamedTuple):
    """Caps on one head."""

    head: int = 64 * 1024
    """Bytes of the whole head block."""
    headers: int = 100
    """Header lines."""
    target: int = 16 * 1024
    """Bytes of the request target."""
    escapes: bool = False
    """Bytes beyond ASCII in a target are percent-encoded; else no target may have them."""
    keeps_case: bool = False
    """No cap: how names are spelled is wanted too (`spelled` of a head)."""


class ProtocolError(Exception):
    """A message that breaks the rules. `kind` names the answer in stages/errors.py."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class RequestHead(NamedTuple):
    method: bytes
    target: bytes
    """Origin form or `*`; an absolute-form target has given its authority to `host`."""
    version: int
    """10 or 11."""
    host: bytes
    """Lower case, as the client named it; b"" in HTTP/1.0 without Host."""
    headers: bytes
    """Normal form without hop-by-hop lines and Content-Length."""
    length: int
    """Body bytes, or UNKNOWN for chunked."""
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes
    """The protocols of the Upgrade header when Connection names it, else b""."""
    named: Container[bytes] = ()
    """Names that Connection bars from the trailers too. Only a chunked body has those, so it is () with any other."""
    is_framed: bool = False
    """A body was announced, perhaps one of no bytes."""
    spelled: tuple[bytes, ...] = ()
    """Names as they were written (spelling.py); () when nobody wants to know."""


class AnswerHead(NamedTuple):
    status: int
    version: int
    headers: bytes
    """Normal form without hop-by-hop lines and Content-Length."""
    length: int
    """What Content-Length says, or UNKNOWN."""
    chunked: bool
    keep_alive: bool
    upgrade: bytes
    named: Container[bytes] = ()
    """As in RequestHead."""
    reason: bytes = b""
    """A phrase that is not the usual one of that status."""
    spelled: tuple[bytes, ...] = ()
    """As in RequestHead."""


SPECIAL: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"upgrade",
        b"expect",
        b"http2-settings",
        b"content_length",
        b"transfer_encoding",
    }
)
"""Names that need a look: framing, what belongs to one connection only, and what a backend that maps names to variables
(CGI, WSGI) would take for framing."""

NOT_IN_TRAILERS: Final = SPECIAL | frozenset(
    (b"authorization", b"proxy-authorization", b"proxy-authenticate", b"www-authenticate", b"authentication-info", b"cookie")
    + (b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"cache-control", b"max-forwards", b"range", b"age")
    + (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"date", b"expires", b"location")
    + (b"retry-after", b"vary", b"warning", b"pragma", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
    + (b"x-forwarded-port", b"x-real-ip", b"via")
)
"""Names that mean something before the body only: framing, routing, who asks, how to read it (RFC 9110 section 6.5.1).
Whoever merges trailers into the head must not find them there."""

TOKEN: Final = bytes(sorted(set(range(33, 127)) - set(b'"(),/:;<=>?@[\\]{}')))
"""tchar of RFC 9110 section 5.6.2."""

VALUE: Final = bytes([9, *range(32, 127), *range(128, 256)])
TARGET: Final = bytes(sorted(set(range(33, 127)) - set(b"#")))
"""Visible ASCII without the fragment mark, which no request target may have."""

READS_TRAILERS: Final = b"te: trailers\r\n"
"""The one line of TE that a request's block may have: it says that trailers are read (RFC 9110 section 10.1.4)."""
_READS_TRAILERS_LATER: Final = b"\r\n" + READS_TRAILERS

_HOST: Final = re.compile(rb"(?:[a-z0-9\-._~!$&'()*+,;=%]+|\[[0-9a-f:.]+(?:%25[a-z0-9\-._~]+)?\])(?::([0-9]{0,5}))?")
_UNSAFE_BLOCK: Final = re.compile(rb"\0|(?<!\r)\n|\r(?!\n)|\r\n[ \t]|\r\n[^:\r\n]*[ \t]:")
_CODINGS: Final = re.compile(rb"(?i)\r\ntransfer-encoding:([^\r\n]*)")
_LENGTHS: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_UNNAMED: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"host"))
_MOST_NAMED: Final = 64
_LAST_PORT: Final = 65535
_LONGEST_KNOWN: Final = 255
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z]+://[!-~]*?/")
_hosts: dict[bytes, bytes] = {}


def check_host(value: bytes) -> bytes:
    """Lower-case authority. Raises ProtocolError for one that is not `host[:port]`."""
    known = _hosts.get(value)
    if known is not None:
        return known
    host = value.lower()
    match = _HOST.fullmatch(host)
    if match is None or int(match[1] or 0) > _LAST_PORT:
        raise ProtocolError("bad_request", "malformed Host")
    if len(value) <= _LONGEST_KNOWN:  # longer ones are no names of the DNS: nobody shall fill the memory with them
        if len(_hosts) >= 4096:
            _hosts.clear()
        _hosts[value] = host
    return host


def reads_trailers(headers: bytes) -> bool:
    """A block in normal form has the line TE; a value that says the same, or `x-te`, is none."""
    return READS_TRAILERS in headers and (_READS_TRAILERS_LATER in headers or headers.startswith(READS_TRAILERS))


def head_too_large(data: bytes, limits: HeadLimits) -> ProtocolError:
    """For a head, perhaps unfinished, of more than `limits.head` bytes: 414 when its target alone is too long, else 431."""
    if data.find(b"\r\n", 0, limits.target + 32) < 0:
        return ProtocolError("target_too_long", "target too long")
    return ProtocolError("headers_too_large", "head too large")


def check_count(head: bytes, limits: HeadLimits) -> None:
    """Header lines are counted as they came: also those that are dropped cost a parser its time."""
    if len(head) > 4 * limits.headers and head.count(b"\n") > limits.headers + 2:
        raise ProtocolError("headers_too_large", "too many headers")


def check_block(head: bytes) -> None:
    """For a lenient parser: bare CR or LF, NUL, obsolete folding, white space before a colon."""
    line_end = head.find(b"\r\n")
    if head.find(b"\n") not in (line_end + 1, -1) or b"\r" in head[:line_end] or b"\0" in head:
        raise ProtocolError("bad_request", "malformed request line")
    if _UNSAFE_BLOCK.search(head, line_end):
        raise ProtocolError("bad_request", "malformed header line")


def parse_length(values: list[bytes]) -> int:
    """The one Content-Length. Lists and repetitions are refused even when they agree."""
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > 18 or not values[0].isascii():
        raise ProtocolError("bad_request", "malformed Content-Length")
    return int(values[0])


def tokens(value: bytes) -> list[bytes]:
    """A comma list in lower case, empty members dropped."""
    if b"," not in value:
        token = value.lower().strip(b" \t")
        return [token] if token else []
    return [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]


def drop_named(block: bytes, names: list[bytes]) -> bytes:
    """Without the lines that Connection names. Host is not the sender's to drop."""
    unwanted = set(names) - _UNNAMED
    if not unwanted:
        return block
    lines = block.split(b"\r\n")[:-1]
    return b"".join(line + b"\r\n" for line in lines if line.partition(b":")[0] not in unwanted)


class _EveryName:
    def __contains__(self, name: object) -> bool:
        return True


EVERY_NAME: Final = _EveryName()
"""Of a Connection that names more than is worth the memory for as long as the body takes: no trailer passes."""


def not_in_trailers(names: list[bytes]) -> Container[bytes]:
    """Of what Connection names, all that a trailer might have as its name: that is for one connection too."""
    unwanted = frozenset(names) - _UNNAMED - NOT_IN_TRAILERS
    return EVERY_NAME if len(unwanted) > _MOST_NAMED else unwanted or ()


def codings(head: bytes) -> list[bytes]:
    """Values of the Transfer-Encoding lines of a raw head, for what a parser has refused."""
    return _CODINGS.findall(head)


def lengths(head: bytes) -> list[bytes]:
    """Values of the Content-Length lines of a raw head, for a parser that makes one of several."""
    return _LENGTHS.findall(head)


def refused_coding(values: list[bytes]) -> ProtocolError:
    """RFC 9112 section 6.3: 400 unless chunked comes last, once; 501 for the codings that we do not know before it (6.1)."""
    names = tokens(b",".join(values))
    if len(names) > 1 and names[-1] == b"chunked" and names.count(b"chunked") == 1:
        return ProtocolError("not_implemented", "Transfer-Encoding other than chunked")
    return ProtocolError("bad_request", "malformed Transfer-Encoding")


class Special:
    """The special lines of one head, collected by a parser, and the verdict on them."""

    __slots__ = ("connection", "expect", "hosts", "lengths", "reads_trailers", "transfer", "upgrade")

    def __init__(self) -> None:
        self.hosts: list[bytes] = []
        self.lengths: list[bytes] = []
        self.transfer: list[bytes] = []
        self.connection: list[bytes] = []
        self.upgrade: list[bytes] = []
        self.expect: list[bytes] = []
        self.reads_trailers = False

    def take(self, name: bytes, value: bytes) -> None:
        """One special line; those not named here are dropped."""
        if name == b"content-length":
            self.lengths.append(value)
        elif name == b"transfer-encoding":
            self.transfer.append(value)
        elif name == b"connection":
            self.connection += tokens(value)
        elif name == b"upgrade":
            self.upgrade.append(value)
        elif name == b"expect":
            self.expect.append(value)
        elif name == b"te":
            self.reads_trailers = self.reads_trailers or b"trailers" in tokens(value)

    def request_length(self, version: int) -> int:
        """RFC 9112 section 6.3, and stricter: chunked alone, in 1.1 alone, with no Content-Length beside it."""
        if self.transfer:
            if len(self.transfer) != 1 or self.transfer[0].lower() != b"chunked":
                raise refused_coding(self.transfer)
            if version < 11:
                raise ProtocolError("bad_request", "Transfer-Encoding in HTTP/1.0")
            if self.lengths:
                raise ProtocolError("bad_request", "Content-Length with Transfer-Encoding")
            return UNKNOWN
        return parse_length(self.lengths) if self.lengths else 0

    def response_framing(self, version: int) -> tuple[int, bool]:
        """(length or UNKNOWN, chunked)."""
        if self.transfer:
            if len(self.transfer) != 1 or self.transfer[0].lower() != b"chunked" or self.lengths or version < 11:
                raise ProtocolError("bad_gateway", "backend's Transfer-Encoding")
            return UNKNOWN, True
        if not self.lengths:
            return UNKNOWN, False
        try:
            return parse_length(self.lengths), False
        except ProtocolError as error:
            raise ProtocolError("bad_gateway", "backend's Content-Length") from error

    def keep_alive(self, version: int) -> bool:
        if version >= 11:
            return b"close" not in self.connection
        return b"keep-alive" in self.connection and b"close" not in self.connection

    def expects_continue(self, version: int) -> bool:
        if not self.expect or version < 11:
            return False
        expected = tokens(b",".join(self.expect))
        if not expected:  # a list may be empty (RFC 9110 sections 5.6.1 and 10.1.1)
            return False
        if expected != [b"100-continue"]:
            raise ProtocolError("expectation_failed", "an expectation other than 100-continue")
        return True

    def upgraded(self) -> bytes:
        return b", ".join(self.upgrade).lower() if self.upgrade and b"upgrade" in self.connection else b""


def escaped(target: bytes) -> bytes:
    """A target whose path and query have their bytes beyond ASCII as %XX, as browsers write them; those of an authority stay.

    Nobody can take them for anything else then: RFC 9112 section 3.2 has no such byte, and who passes it on may be misread.
    """
    if target.startswith(b"/"):
        start = 0
    else:
        match = _ABSOLUTE.match(target)
        if match is None:
            return target
        start = match.end()
    return target[:start] + _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], target[start:])


def with_escaped_target(head: bytes) -> bytes:
    """The same for a whole request head; its method and version stay as they are."""
    end = head.find(b"\r\n")
    if end < 0 or head[:end].isascii():
        return head
    parts = head[:end].split(b" ")
    return b" ".join((parts[0], escaped(parts[1]), parts[2])) + head[end:] if len(parts) == 3 else head


def split_absolute(target: bytes) -> tuple[bytes, bytes]:
    """(authority, origin form) of an absolute-form target (RFC 9112 section 3.2.2)."""
    scheme, sep, rest = target.partition(b"://")
    if not sep or scheme.lower() not in (b"http", b"https"):
        raise ProtocolError("bad_request", "malformed request target")
    end = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority or b"@" in authority:
        raise ProtocolError("bad_request", "malformed request target")
    return authority, path if path.startswith(b"/") else b"/" + path
