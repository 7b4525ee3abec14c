"""RFC 9113 section 8: HTTP in HTTP/2, and RFC 8441: extended CONNECT."""

from __future__ import annotations

from pingap.stages.http2.engine import PROTOCOL_ERROR, STREAM_CLOSED, Fields
from tests.conformance.peer import Peer
from tests.conformance.steps import GET, POST, Case, Step, answers, breaks, case, fields, get, lives, only_breaks, post, refuses, request
from tests.http2.wire import END, HEADERS, data

CONNECT: Fields = ((b":method", b"CONNECT"), (b":authority", b"test.local:443"))
WEBSOCKET = request(b"CONNECT", b"/socket", (b"sec-websocket-version", b"13"))
X_TEST = ((b"x-test", b"ok"),)


def without(name: bytes, them: Fields = GET) -> Fields:
    return tuple(field for field in them if field[0] != name)


def with_value(name: bytes, value: bytes, them: Fields = GET) -> Fields:
    return tuple((known, value if known == name else old) for known, old in them)


def malformed(name: str, them: Fields, h2spec: str = "") -> Case:
    """A request of these fields is a stream error PROTOCOL_ERROR, and nothing of it reaches anybody (section 8.1.1)."""
    return case(name, fields(1, them, END), only_breaks(1, PROTOCOL_ERROR), h2spec=h2spec)


def refused(name: str, them: Fields) -> Case:
    """A request of these fields is answered with 400, unless the engine has reset it as malformed; nothing of it reaches anybody."""
    return case(name, fields(1, them, END), refuses(1))


def passes(name: str, *more: tuple[bytes, bytes]) -> Case:
    return case(name, get(1, *more), answers(1))


def reaches(stream: int, *lines: bytes, never: bytes = b"\0") -> Step:
    """The origin has seen each of these; /seen answers with all that it read of a request."""

    def check(peer: Peer) -> None:
        answer = peer.answer(stream)
        assert answer.status == 200
        for line in lines:
            assert line in answer.body, answer.body
        assert never not in answer.body, answer.body

    return check


def only_head(peer: Peer) -> None:
    answer = peer.answer(1)
    assert (answer.status, bytes(answer.body)) == (200, b"")
    assert int(answer.get(b"content-length") or 0) > 0
    assert not [seen for seen in peer.seen if seen.kind == 0 and seen.body], peer.history()


def no_connection_fields(peer: Peer) -> None:
    answer = peer.answer(1)
    names = {name for name, _ in answer.fields}
    assert not names & {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}, names
    assert all(name == name.lower() for name in names)


def trailers_come_last(peer: Peer) -> None:
    answer = peer.answer(1)
    assert answer.body == b"some"
    assert answer.trailers == ((b"x-sum", b"4"),)


def continues(peer: Peer) -> None:
    peer.until(lambda seen: seen.kind == HEADERS, "the interim answer")
    assert peer.answers[1].interim == [100]
    peer.send(data(1, b"body", True))
    assert peer.answer(1).status == 200


def announces_connect(peer: Peer) -> None:
    assert peer.remote.get(8) == 1, peer.remote


def opens_a_tunnel(peer: Peer) -> None:
    peer.until(lambda seen: seen.kind == HEADERS and seen.stream == 1, "the tunnel opens")
    answer = peer.answers[1]
    assert answer.status == 200
    peer.send(data(1, b"hello"))
    peer.until(lambda _: answer.body == b"HELLO", "what the backend says")
    peer.send(data(1, b"bye", True))
    peer.until(lambda _: answer.ended, "the tunnel ends")
    assert answer.body == b"HELLOBYE"


def bad_value(name: str, value: bytes) -> Case:
    return malformed(f"8.2.1 {name} in a value is malformed", (*GET, (b"x-test", value)))


def bad_name(name: str, field_name: bytes) -> Case:
    return malformed(f"8.2.1 {name} in a name is malformed", (*GET, (field_name, b"ok")))


CASES: list[Case] = [
    # -- 8.1 -------------------------------------------------------------------
    case("8.1 GET is answered", get(1), answers(1), h2spec="generic/4/1"),
    case("8.1 HEAD is answered without a body", fields(1, request(b"HEAD"), END), only_head, h2spec="generic/4/2"),
    case("8.1 POST is answered", post(1) + data(1, b"test", True), answers(1), h2spec="generic/4/3"),
    case(
        "8.1 POST with trailers is answered",
        post(1, (b"trailer", b"x-test")) + data(1, b"test") + fields(1, X_TEST, END),
        answers(1),
        h2spec="generic/4/4",
    ),
    case(
        "8.1 a second HEADERS without END_STREAM is malformed",
        post(1) + data(1, b"test") + fields(1, X_TEST),
        breaks(1, PROTOCOL_ERROR),
        h2spec="http2/8.1/1",
    ),
    case("8.1 trailers may come without a body", post(1) + fields(1, X_TEST, END), answers(1)),
    case("8.1 nothing follows trailers: DATA", post(1) + fields(1, X_TEST, END) + data(1, b"more", True), breaks(1, STREAM_CLOSED)),
    case("8.1 nothing follows trailers: HEADERS", post(1) + fields(1, X_TEST, END) + fields(1, X_TEST, END), breaks(1, STREAM_CLOSED)),
    case(
        "8.1 trailers reach the origin",
        fields(1, request(b"POST", b"/seen", (b"te", b"trailers"))) + data(1, b"body") + fields(1, X_TEST, END),
        reaches(1, b"x-test: ok\r\n"),
    ),
    case(
        "8.1 an answer's trailers end the stream", fields(1, request(b"GET", b"/trailers", (b"te", b"trailers")), END), trailers_come_last
    ),
    case("8.1 Expect: 100-continue gets 100", post(1, (b"expect", b"100-continue")), continues),
    case("8.1 an answer without a body ends with its HEADERS", fields(1, request(b"GET", b"/nothing"), END), answers(1, 204, b""), lives),
    # -- 8.1.1 -----------------------------------------------------------------
    case(
        "8.1.1 a body longer than Content-Length is malformed",
        post(1, (b"content-length", b"1")) + data(1, b"test", True),
        only_breaks(1, PROTOCOL_ERROR),
        h2spec="http2/8.1.2.6/1",
    ),
    case(
        "8.1.1 several DATA frames longer than Content-Length are malformed",
        post(1, (b"content-length", b"1")) + data(1, b"test") + data(1, b"test", True),
        only_breaks(1, PROTOCOL_ERROR),
        h2spec="http2/8.1.2.6/2",
    ),
    case(
        "8.1.1 a body shorter than Content-Length is malformed",
        post(1, (b"content-length", b"5")) + data(1, b"test", True),
        only_breaks(1, PROTOCOL_ERROR),
    ),
    case(
        "8.1.1 so is one that trailers cut short",
        post(1, (b"content-length", b"5")) + data(1, b"test") + fields(1, X_TEST, END),
        only_breaks(1, PROTOCOL_ERROR),
    ),
    malformed("8.1.1 Content-Length without a body is malformed", (*POST, (b"content-length", b"1"))),
    case("8.1.1 Content-Length 0 without a body is fine", fields(1, (*POST, (b"content-length", b"0")), END), answers(1)),
    case("8.1.1 padding is not of the body", post(1, (b"content-length", b"4")) + b"\0\0\x0a\0\x09\0\0\0\1\5test" + bytes(5), answers(1)),
    malformed("8.1.1 two lengths are malformed", (*POST, (b"content-length", b"0"), (b"content-length", b"0"))),
    malformed("8.1.1 a length with a sign is malformed", (*POST, (b"content-length", b"+0"))),
    malformed("8.1.1 a length that is no number is malformed", (*POST, (b"content-length", b"four"))),
    case("8.1.1 a malformed request leaves others alone", get(1, (b"X", b"y")) + get(3), only_breaks(1, PROTOCOL_ERROR), answers(3)),
    # -- 8.2.1 -----------------------------------------------------------------
    malformed("8.2 a field name in upper case is malformed", (*GET, (b"X-TEST", b"ok")), "http2/8.1.2/1"),
    bad_name("an upper-case letter", b"x-Test"),
    bad_name("a space", b"x test"),
    bad_name("a colon", b"x:test"),
    bad_name("NUL", b"x\0test"),
    bad_name("CR LF", b"x: y\r\nz"),
    bad_name("a byte above 0x7f", b"x-\xe9"),
    malformed("8.2.1 an empty name is malformed", (*GET, (b"", b"ok"))),
    bad_value("NUL", b"a\0b"),
    bad_value("CR", b"a\rb"),
    bad_value("LF", b"a\nb"),
    bad_value("CR LF and a field", b"a\r\nx-injected: 1"),
    bad_value("a space at the beginning", b" ok"),
    bad_value("a space at the end", b"ok "),
    bad_value("a tab at the end", b"ok\t"),
    passes("8.2.1 an empty value is fine", (b"x-test", b"")),
    passes("8.2.1 so are tabs and bytes above 0x7f in a value", (b"x-test", b"a\tb \xe9\xff")),
    passes("8.2.1 and every character of a token in a name", (b"!#$%&'*+-.^_`|~09az", b"ok")),
    # -- 8.2.2 -----------------------------------------------------------------
    malformed("8.2.2 Connection is malformed", (*GET, (b"connection", b"keep-alive")), "http2/8.1.2.2/1"),
    malformed(
        "8.2.2 TE with anything but trailers is malformed", (*GET, (b"trailers", b"test"), (b"te", b"trailers, deflate")), "http2/8.1.2.2/2"
    ),
    malformed("8.2.2 Keep-Alive is malformed", (*GET, (b"keep-alive", b"timeout=5"))),
    malformed("8.2.2 Proxy-Connection is malformed", (*GET, (b"proxy-connection", b"close"))),
    malformed("8.2.2 Transfer-Encoding is malformed", (*POST, (b"transfer-encoding", b"chunked"))),
    malformed("8.2.2 Upgrade is malformed", (*GET, (b"upgrade", b"websocket"))),
    passes("8.2.2 TE: trailers is fine", (b"te", b"trailers")),
    case("8.2.2 answers have no connection-specific fields", get(1), no_connection_fields),
    # -- 8.2.3 -----------------------------------------------------------------
    case(
        "8.2.3 cookies are one line to the origin",
        get(1, (b"cookie", b"a=1"), (b"x-between", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3"), path=b"/seen"),
        reaches(1, b"ookie: a=1; b=2; c=3\r\n"),
    ),
    # -- 8.3 -------------------------------------------------------------------
    malformed("8.3 an unknown pseudo field is malformed", (*GET, (b":test", b"ok")), "http2/8.1.2.1/1"),
    malformed("8.3 a pseudo field of responses is malformed", (*GET, (b":status", b"200")), "http2/8.1.2.1/2"),
    case(
        "8.3 a pseudo field in trailers is malformed",
        post(1) + data(1, b"test") + fields(1, ((b":method", b"POST"),)),
        only_breaks(1, PROTOCOL_ERROR),
        h2spec="http2/8.1.2.1/3",
    ),
    case(
        "8.3 also when the trailers end the stream",
        post(1) + data(1, b"test") + fields(1, ((b":path", b"/"),), END),
        only_breaks(1, PROTOCOL_ERROR),
    ),
    malformed("8.3 a pseudo field after another field is malformed", (*X_TEST, *GET), "http2/8.1.2.1/4"),
    malformed("8.3 also the last of them", (*GET[:3], *X_TEST, GET[3])),
    # -- 8.3.1 -----------------------------------------------------------------
    malformed("8.3.1 an empty :path is malformed", with_value(b":path", b""), "http2/8.1.2.3/1"),
    malformed("8.3.1 no :method is malformed", without(b":method"), "http2/8.1.2.3/2"),
    malformed("8.3.1 no :scheme is malformed", without(b":scheme"), "http2/8.1.2.3/3"),
    malformed("8.3.1 no :path is malformed", without(b":path"), "http2/8.1.2.3/4"),
    malformed("8.3.1 two :method are malformed", (*GET, (b":method", b"GET")), "http2/8.1.2.3/5"),
    malformed("8.3.1 two :scheme are malformed", (*GET, (b":scheme", b"http")), "http2/8.1.2.3/6"),
    malformed("8.3.1 two :path are malformed", (*GET, (b":path", b"/")), "http2/8.1.2.3/7"),
    malformed("8.3.1 two :authority are malformed", (*GET, (b":authority", b"test.local"))),
    refused("8.3.1 neither :authority nor Host is refused", without(b":authority")),
    refused("8.3.1 an empty :authority is refused", with_value(b":authority", b"")),
    refused("8.3.1 user information in :authority is refused", with_value(b":authority", b"me@test.local")),
    refused("8.3.1 a space in :authority is refused", with_value(b":authority", b"test local")),
    refused("8.3.1 Host unlike :authority is refused", (*GET, (b"host", b"other.local"))),
    refused("8.3.1 two Host are refused", (*without(b":authority"), (b"host", b"test.local"), (b"host", b"test.local"))),
    case("8.3.1 Host alone is fine", fields(1, (*without(b":authority"), (b"host", b"test.local")), END), answers(1)),
    case("8.3.1 Host like :authority is fine", fields(1, (*GET, (b"host", b"test.local")), END), answers(1)),
    case(
        "8.3.1 :authority becomes the origin's Host",
        get(1, path=b"/seen"),
        reaches(1, b"\r\nhost: test.local\r\n", never=b":authority"),
    ),
    refused("8.3.1 a :path without a slash is refused", with_value(b":path", b"relative")),
    refused("8.3.1 a :path with a space is refused", with_value(b":path", b"/a b")),
    malformed("8.3.1 a :path with CR LF is malformed", with_value(b":path", b"/ HTTP/1.1\r\nx: y")),
    malformed("8.3.1 a :method with a space is malformed", with_value(b":method", b"GET /x")),
    refused("8.3.1 an asterisk is for OPTIONS only", with_value(b":path", b"*")),
    case("8.3.1 OPTIONS has an asterisk for the server itself", fields(1, request(b"OPTIONS", b"*"), END), answers(1)),
    # -- 8.5 -------------------------------------------------------------------
    case("8.5 CONNECT is well-formed and not for us", fields(1, CONNECT), answers(1, 501)),
    malformed("8.5 CONNECT with :scheme and :path is malformed", (*CONNECT, (b":scheme", b"http"), (b":path", b"/"))),
    malformed("8.5 CONNECT without :authority is malformed", CONNECT[:1]),
    # -- 8441 ------------------------------------------------------------------
    case("8441 3 the server says that it takes extended CONNECT", announces_connect),
    case(
        "8441 5 a WebSocket is a tunnel on a stream",
        fields(1, (*WEBSOCKET[:1], (b":protocol", b"websocket"), *WEBSOCKET[1:])),
        opens_a_tunnel,
    ),
    case(
        "8441 4 a protocol that we do not speak is refused",
        fields(1, (*WEBSOCKET[:1], (b":protocol", b"other"), *WEBSOCKET[1:])),
        answers(1, 501),
    ),
    malformed("8441 4 :protocol without CONNECT is malformed", (*GET, (b":protocol", b"websocket"))),
    case(
        "8441 4 extended CONNECT without :path is malformed",
        fields(1, (*CONNECT, (b":protocol", b"websocket"), (b":scheme", b"http"))),
        only_breaks(1, PROTOCOL_ERROR),
    ),
    # -- 8.6 (Upgrade), ends of answers ---------------------------------------------
    case(
        "8.1 an answer before the body's end is whole, and the rest is cut off with NO_ERROR or CANCEL",
        fields(1, request(b"POST", b"/early")) + data(1, b"part"),
        answers(1, 403),
        lives,
    ),
]
