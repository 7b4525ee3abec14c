"""HTTP/2 to HTTP/1.1: what may not be written down as it came (Kettle 2021, RFC 9113 sections 8.1 to 8.5 and 10.3)."""

from __future__ import annotations

from dataclasses import dataclass

from pingap.stages.http2.engine import Fields
from tests.http2.wire import data, headers
from tests.smuggling.book import Request
from tests.smuggling.payload import SMUGGLED

START: Fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/mark0000"))
GET: Fields = ((b":method", b"GET"), *START[1:])
MARKED = (b"x-mark", b"mark0000")
CODING = b"transfer-encoding: chunked"


@dataclass(frozen=True, slots=True)
class Http2Payload:
    family: str
    name: str
    wire: bytes
    """Frames of stream 1."""
    verdict: str
    meant: Request | None
    """What the origin may see of it; None when it may see nothing."""


class Http2Family:
    def __init__(self, name: str) -> None:
        self.name = name
        self.payloads: dict[str, Http2Payload] = {}

    def passed(self, name: str, wire: bytes, method: bytes = b"POST", body: bytes = b"", target: bytes = b"/mark0000") -> None:
        self._add(Http2Payload(self.name, name, wire, "passed", Request(method, target, body)))

    def either(self, name: str, wire: bytes, body: bytes = b"") -> None:
        """The engines differ, and both are right: one drops what the other calls malformed."""
        self._add(Http2Payload(self.name, name, wire, "either", Request(b"POST", b"/mark0000", body)))

    def refused(self, name: str, wire: bytes) -> None:
        self._add(Http2Payload(self.name, name, wire, "refused", None))

    def _add(self, payload: Http2Payload) -> None:
        assert payload.name not in self.payloads, f"{self.name}: {payload.name} is there twice"
        self.payloads[payload.name] = payload


def get(*fields: tuple[bytes, bytes], start: Fields = GET) -> bytes:
    return headers(1, (*start, MARKED, *fields), True)


def post(*fields: tuple[bytes, bytes], body: tuple[bytes, ...] = (SMUGGLED,), start: Fields = START) -> bytes:
    """body: the payloads of its DATA frames."""
    frames = b"".join(data(1, part, at == len(body) - 1) for at, part in enumerate(body))
    return headers(1, (*start, MARKED, *fields), not body) + frames


def ended_by(trailers: Fields) -> bytes:
    return headers(1, (*START, MARKED)) + data(1, SMUGGLED) + headers(1, trailers, True)


def but(name: bytes, value: bytes | None, start: Fields = GET) -> Fields:
    """A start with another value of one pseudo field, or without it."""
    changed = ((known, value if known == name else old) for known, old in start)
    return tuple((known, new) for known, new in changed if new is not None)


injected = Http2Family("H2: bytes in names and values")
for _name, _bytes in (
    ("CRLF", b"\r\n"),
    ("LF", b"\n"),
    ("CR", b"\r"),
    ("NUL", b"\0"),
    ("CRLF CRLF", b"\r\n\r\n"),
    ("LF CR", b"\n\r"),
    ("CR CR LF", b"\r\r\n"),
    ("vertical tab", b"\x0b"),
    ("DEL", b"\x7f"),
    ("escape", b"\x1b"),
):
    injected.refused(f"line behind {_name} in a value", post((b"foo", b"bar" + _bytes + CODING)))
    injected.refused(f"request behind {_name} in a value", get((b"foo", b"bar" + _bytes * 2 + SMUGGLED)))
    injected.refused(f"line behind {_name} in a name", post((b"foo: bar" + _bytes + CODING + _bytes + b"x", b"x")))
    injected.refused(f"{_name} in a name", get((b"fo" + _bytes + b"o", b"bar")))
    injected.refused(f"{_name} at the end of a name", get((b"foo" + _bytes, b"bar")))
    injected.refused(f"{_name} at the beginning of a value", get((b"foo", _bytes + b"bar")))
    injected.refused(f"{_name} at the end of a value", get((b"foo", b"bar" + _bytes)))
    injected.refused(f"{_name} in a value of a marked line", get((b"cookie", b"a=b" + _bytes + CODING)))
    for _pseudo, _value in (
        (b":path", b"/mark0000 HTTP/1.1" + _bytes + CODING + _bytes + b"x: x"),
        (b":method", b"GET /smuggled/mark0000 HTTP/1.1" + _bytes + CODING + _bytes + b"x: x"),
        (b":authority", b"a.example" + _bytes + CODING),
        (b":scheme", b"http" + _bytes + CODING),
    ):
        injected.refused(f"line behind {_name} in {_pseudo.decode()}", post(start=but(_pseudo, _value, START)))
for _name, _field in (
    ("h2colon", (b"transfer-encoding:chunked ", b"chunked")),
    ("colon in a name", (b"transfer-encoding: chunked", b"")),
    ("colon at the end of a name", (b"transfer-encoding:", b"chunked")),
    ("colon first in a name", (b":transfer-encoding", b"chunked")),
    ("h2space", (b"transfer-encoding chunked ", b"chunked")),
    ("h2name", (b"transfer-encoding chunked", b"x")),
    ("space in a name", (b"foo bar", b"x")),
    ("space behind a name", (b"transfer-encoding ", b"chunked")),
    ("space before a name", (b" transfer-encoding", b"chunked")),
    ("tab behind a name", (b"transfer-encoding\t", b"chunked")),
    ("http2case", (b"transfer-Encoding", b"chunked")),
    ("upper case", (b"FOO", b"x")),
    ("empty name", (b"", b"x")),
    ("empty name and value", (b"", b"")),
    ("high byte in a name", (b"foo\xa0", b"x")),
    ("UTF-8 in a name", ("f\u00f6\u00f6".encode(), b"x")),
    ("quotes in a name", (b'"foo"', b"x")),
    ("slash in a name", (b"foo/bar", b"x")),
    ("space before a value", (b"foo", b" x")),
    ("space behind a value", (b"foo", b"x ")),
    ("tab before a value", (b"foo", b"\tx")),
    ("tab behind a value", (b"foo", b"x\t")),
    ("blank value", (b"foo", b" ")),
    ("request line as a name", (b"GET /smuggled/mark0000 HTTP/1.1", b"")),
):
    injected.refused(_name, post(_field))
for _name, _field in (
    ("tab in a value", (b"foo", b"a\tb")),
    ("empty value", (b"foo", b"")),
    ("high bytes in a value", (b"foo", b"\x80\xff")),
    ("U+010D U+010A in a value", (b"foo", "x\u010d\u010atransfer-encoding: chunked".encode())),
    ("backslash r backslash n", (b"foo", b"x\\r\\ntransfer-encoding: chunked")),
    ("percent-encoded CRLF", (b"foo", b"x%0d%0atransfer-encoding: chunked")),
    ("caret and tilde, which stand for CRLF in a tool", (b"foo", b"b^~transfer-encoding: chunked^~x: x")),
    ("underscores", (b"transfer_encoding", b"chunked")),
    ("CGI length", (b"content_length", b"0")),
    ("odd tokens", (b"!#$%&'*+-.^_`|~", b"x")),
):
    injected.passed(_name, post(_field), body=SMUGGLED)

coding = Http2Family("H2.TE and other lines of a connection")
for _name, _field in (
    ("transfer-encoding", (b"transfer-encoding", b"chunked")),
    ("transfer-encoding in capitals", (b"transfer-encoding", b"CHUNKED")),
    ("transfer-encoding: identity", (b"transfer-encoding", b"identity")),
    ("transfer-encoding, empty", (b"transfer-encoding", b"")),
    ("transfer-encoding: trailers", (b"transfer-encoding", b"trailers")),
    ("connection: close", (b"connection", b"close")),
    ("connection: keep-alive", (b"connection", b"keep-alive")),
    ("connection: transfer-encoding", (b"connection", b"transfer-encoding")),
    ("connection: content-length", (b"connection", b"content-length")),
    ("keep-alive", (b"keep-alive", b"timeout=5")),
    ("proxy-connection", (b"proxy-connection", b"keep-alive")),
    ("upgrade", (b"upgrade", b"websocket")),
    ("upgrade: h2c", (b"upgrade", b"h2c")),
    ("te: gzip", (b"te", b"gzip")),
    ("te: chunked", (b"te", b"chunked")),
    ("te: trailers and more", (b"te", b"trailers, chunked")),
):
    coding.refused(_name, post(_field, body=(b"0\r\n\r\n" + SMUGGLED,)))
    coding.refused(f"on GET: {_name}", get(_field))
_BOTH = ((b"transfer-encoding", b"chunked"), (b"content-length", b"5"))
coding.refused("transfer-encoding and content-length", post(*_BOTH, body=(b"0\r\n\r\n",)))
coding.passed("te: trailers", post((b"te", b"trailers")), body=SMUGGLED)
coding.passed("http2-settings", post((b"http2-settings", b"x")), body=SMUGGLED)
coding.passed("content-encoding: chunked", post((b"content-encoding", b"chunked")), body=SMUGGLED)

lengths = Http2Family("H2.CL")
SIZE = len(SMUGGLED)
for _name, _fields in (
    ("0", [(b"content-length", b"0")]),
    ("too short", [(b"content-length", b"%d" % (SIZE - 1))]),
    ("too long", [(b"content-length", b"%d" % (SIZE + 1))]),
    ("much too long", [(b"content-length", b"5000")]),
    ("two that agree", [(b"content-length", b"%d" % SIZE)] * 2),
    ("two that differ", [(b"content-length", b"0"), (b"content-length", b"%d" % SIZE)]),
    ("list that agrees", [(b"content-length", b"%d, %d" % (SIZE, SIZE))]),
    ("list that differs", [(b"content-length", b"0, %d" % SIZE)]),
    ("plus", [(b"content-length", b"+%d" % SIZE)]),
    ("minus", [(b"content-length", b"-1")]),
    ("hex", [(b"content-length", b"0x%x" % SIZE)]),
    ("empty", [(b"content-length", b"")]),
    ("not a number", [(b"content-length", b"x")]),
    ("underscore", [(b"content-length", b"1_0")]),
    ("exponent", [(b"content-length", b"1e1")]),
    ("fraction", [(b"content-length", b"%d.0" % SIZE)]),
    ("space inside", [(b"content-length", b"0 %d" % SIZE)]),
    ("Arabic digits", [(b"content-length", "\u0665".encode())]),
    ("superscript", [(b"content-length", b"\xb2")]),
    ("2 to the 64th and more", [(b"content-length", b"%d" % ((1 << 64) + SIZE))]),
    ("19 digits", [(b"content-length", b"1" + b"0" * 18)]),
    ("CRLF", [(b"content-length", b"%d\r\n\r\n" % SIZE)]),
):
    lengths.refused(_name, post(*_fields))
    lengths.refused(f"in two frames: {_name}", post(*_fields, body=(SMUGGLED[:10], SMUGGLED[10:])))
    if _name != "0":
        lengths.refused(f"no body: {_name}", get(*_fields))
    lengths.refused(f"on GET with a body: {_name}", post(*_fields, start=GET))
lengths.passed("right", post((b"content-length", b"%d" % SIZE)), body=SMUGGLED)
lengths.passed("zeros before", post((b"content-length", b"000%d" % SIZE)), body=SMUGGLED)
_PARTS = (SMUGGLED[:1], b"", SMUGGLED[1:50], SMUGGLED[50:])
lengths.passed("right, in frames", post((b"content-length", b"%d" % SIZE), body=_PARTS), body=SMUGGLED)
lengths.passed("0 and no body", post((b"content-length", b"0"), body=()))
lengths.passed("0 and an empty frame", post((b"content-length", b"0"), body=(b"",)))
lengths.passed("none", post(), body=SMUGGLED)
lengths.passed("none, GET with a body", post(start=GET), b"GET", SMUGGLED)
lengths.passed("none, HEAD with a body", post(start=but(b":method", b"HEAD")), b"HEAD", SMUGGLED)
lengths.passed("none, DELETE with a body", post(start=but(b":method", b"DELETE")), b"DELETE", SMUGGLED)
lengths.passed("body that looks like chunks", post(body=(b"0\r\n\r\n" + SMUGGLED,)), body=b"0\r\n\r\n" + SMUGGLED)
lengths.passed("expectation", post((b"expect", b"100-continue"), (b"content-length", b"%d" % SIZE)), body=SMUGGLED)
lengths.refused("obfuscated expectation", post((b"expect", b"y 100-continue"), (b"content-length", b"%d" % SIZE)))

pseudo = Http2Family("H2: pseudo fields")
for _name, _start in (
    ("no :method", but(b":method", None)),
    ("no :path", but(b":path", None)),
    ("no :scheme", but(b":scheme", None)),
    ("no :authority and no Host", but(b":authority", None)),
    ("empty :method", but(b":method", b"")),
    ("empty :path", but(b":path", b"")),
    ("empty :scheme", but(b":scheme", b"")),
    ("empty :authority", but(b":authority", b"")),
    ("two :path", (*GET, (b":path", b"/smuggled/mark0000"))),
    ("two :method", (*GET, (b":method", b"POST"))),
    ("two :authority", (*GET, (b":authority", b"b.example"))),
    ("two :scheme", (*GET, (b":scheme", b"http"))),
    ("unknown", (*GET, (b":foo", b"bar"))),
    (":status", (*GET, (b":status", b"200"))),
    ("a lone colon", (*GET, (b":", b"x"))),
    (":protocol without CONNECT", (*GET, (b":protocol", b"websocket"))),
    ("h2method", but(b":method", b"GET /smuggled/mark0000 HTTP/1.1")),
    ("method with an absolute target", but(b":method", b"GET http://b.example/ HTTP/1.1")),
    ("lower-case TRACE", but(b":method", b"trace")),
    ("a method that is too long", but(b":method", b"A" * 33)),
    ("CONNECT with a path", but(b":method", b"CONNECT")),
    ("CONNECT", ((b":method", b"CONNECT"), (b":authority", b"b.example:443"))),
    ("TRACE", but(b":method", b"TRACE")),
    ("h2path", but(b":path", b"/mark0000 HTTP/1.1")),
    ("space in :path", but(b":path", b"/mark0000 x")),
    ("tab in :path", but(b":path", b"/mark0000\tx")),
    ("space before :path", but(b":path", b" /mark0000")),
    ("absolute :path", but(b":path", b"http://b.example/mark0000")),
    ("relative :path", but(b":path", b"mark0000")),
    ("fragment in :path", but(b":path", b"/mark0000#x")),
    ("asterisk for GET", but(b":path", b"*")),
    ("query alone", but(b":path", b"?mark0000")),
    ("h2scheme", but(b":scheme", b"http://b.example/smuggled?")),
    ("scheme with a slash", but(b":scheme", b"http://")),
    ("scheme file", but(b":scheme", b"file")),
    ("scheme with a space", but(b":scheme", b"http x")),
    ("h2auth", but(b":authority", b"a.example:443:80")),
    ("user information", but(b":authority", b"x@a.example")),
    ("path in :authority", but(b":authority", b"a.example/smuggled")),
    ("space in :authority", but(b":authority", b"a.example b.example")),
    ("list in :authority", but(b":authority", b"a.example, b.example")),
    ("scheme in :authority", but(b":authority", b"http://a.example")),
    ("high byte in :authority", but(b":authority", b"a\xff.example")),
):
    pseudo.refused(_name, get(start=_start))
pseudo.refused("high bytes and a control byte in :path", get(start=but(b":path", b"/mark0000/\xff\x01")))
pseudo.refused("late :path", get((b":path", b"/smuggled/mark0000"), start=but(b":path", None)))
pseudo.refused("late and repeated :path", get((b":path", b"/smuggled/mark0000")))
pseudo.refused("late :method", get((b":method", b"POST")))
pseudo.refused("upper-case pseudo field", get(start=((b":Method", b"GET"), *GET[1:])))
pseudo.refused("Host unlike :authority", get((b"host", b"b.example")))
pseudo.refused("Host twice", get((b"host", b"a.example"), (b"host", b"a.example")))
pseudo.refused("Host twice without :authority", get((b"host", b"a.example"), (b"host", b"b.example"), start=but(b":authority", None)))
pseudo.refused("Host with a path", get((b"host", b"a.example/x"), start=but(b":authority", None)))
pseudo.refused("empty Host", get((b"host", b""), start=but(b":authority", None)))
pseudo.refused("Host with CRLF", get((b"host", b"a.example\r\nx: x"), start=but(b":authority", None)))
pseudo.passed("Host alone", get((b"host", b"a.example"), start=but(b":authority", None)), b"GET")
pseudo.passed("Host like :authority", get((b"host", b"A.example")), b"GET")
pseudo.passed("scheme https on a plain connection", get(start=but(b":scheme", b"https")), b"GET")
pseudo.passed("high bytes in :path", get(start=but(b":path", b"/mark0000/\xff")), b"GET", target=b"/mark0000/%FF")
pseudo.passed("two slashes", get(start=but(b":path", b"//b.example/mark0000")), b"GET", target=b"//b.example/mark0000")
pseudo.passed("query of a URL", get(start=but(b":path", b"/mark0000?http://b.example/")), b"GET", target=b"/mark0000?http://b.example/")
pseudo.passed("encoded CRLF", get(start=but(b":path", b"/mark0000%0d%0ax:x")), b"GET", target=b"/mark0000%0d%0ax:x")
pseudo.passed("backslashes", get(start=but(b":path", b"/mark0000\\..\\x")), b"GET", target=b"/mark0000\\..\\x")
for _name, _protocol in (
    ("unknown", b"smuggle"),
    ("h2c", b"h2c"),
    ("connect-udp", b"connect-udp"),
    ("space", b"websocket x"),
    ("CRLF", b"websocket\r\nx: x"),
    ("empty", b""),
    ("list", b"websocket, h2c"),
):
    pseudo.refused(f"extended CONNECT: {_name}", headers(1, (*but(b":method", b"CONNECT"), (b":protocol", _protocol), MARKED)))
_CONNECT = (*but(b":method", b"CONNECT"), (b":protocol", b"websocket"), MARKED)
pseudo.refused("extended CONNECT that ends at once", headers(1, _CONNECT, True))
pseudo.refused("extended CONNECT with a length", headers(1, (*_CONNECT, (b"content-length", b"5"))) + data(1, b"hello", True))

trailers = Http2Family("H2: trailers and cookies")
for _name, _trailers in (
    ("pseudo field", ((b":path", b"/smuggled/mark0000"),)),
    (":status", ((b":status", b"200"),)),
    ("transfer-encoding", ((b"transfer-encoding", b"chunked"),)),
    ("connection", ((b"connection", b"close"),)),
    ("upper case", ((b"X-A", b"1"),)),
    ("CRLF in a value", ((b"x-a", b"1\r\n\r\n" + SMUGGLED),)),
    ("LF in a name", ((b"x-a\nx-b", b"1"),)),
    ("NUL", ((b"x-a", b"\0"),)),
    ("empty name", ((b"", b"1"),)),
    ("colon in a name", ((b"x-a:", b"1"),)),
):
    trailers.refused(_name, ended_by(_trailers))
for _name, _trailers in (
    ("plain", ((b"x-a", b"1"),)),
    ("host", ((b"host", b"b.example"),)),
    ("authorization", ((b"authorization", b"x"),)),
    ("x-forwarded-for", ((b"x-forwarded-for", b"9.9.9.9"),)),
    ("x-real-ip", ((b"x-real-ip", b"9.9.9.9"),)),
    ("te", ((b"te", b"trailers"),)),
    ("expect", ((b"expect", b"100-continue"),)),
    ("cookie", ((b"cookie", b"a=b"),)),
    ("a line that pingap sets", ((b"x-set", b"forged"),)),
    ("a line that pingap removes", ((b"x-gone", b"1"),)),
    ("a line of the head", ((b"x-mark", b"forged"),)),
):
    trailers.passed(_name, ended_by(_trailers), body=SMUGGLED)
trailers.either("content-length", ended_by(((b"content-length", b"5"),)), body=SMUGGLED)
X_A: Fields = ((b"x-a", b"1"),)
trailers.refused("without END_STREAM", headers(1, (*START, MARKED)) + data(1, SMUGGLED) + headers(1, X_A))
trailers.refused("twice", headers(1, (*START, MARKED)) + headers(1, X_A) + headers(1, X_A, True) + data(1, b"x", True))
trailers.passed("cookies in pieces", get((b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")), b"GET")
trailers.refused("cookie in pieces with CRLF", get((b"cookie", b"a=1"), (b"cookie", b"\r\nx: x")))

FAMILIES = (injected, coding, lengths, pseudo, trailers)
PAYLOADS = [payload for family in FAMILIES for payload in family.payloads.values()]
