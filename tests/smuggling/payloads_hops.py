"""What belongs to one connection: Expect, Upgrade, Connection, Keep-Alive, and several requests in a row."""

from __future__ import annotations

from tests.smuggling.payload import PREFIX, SMUGGLED, Family, chunked, get, head, length, post

expect = Family("Expect")
for _name, _line in (
    ("y 100-continue", b"Expect: y 100-continue"),
    ("x 100-continue", b"Expect: x 100-continue"),
    ("100-continue y", b"Expect: 100-continue y"),
    ("list", b"Expect: 100-continue, 100-continue"),
    ("list with another", b"Expect: 100-continue, x"),
    ("twice", b"Expect: 100-continue\r\nExpect: 100-continue"),
    ("parameter", b"Expect: 100-continue;q=1"),
    ("quoted", b'Expect: "100-continue"'),
    ("101-continue", b"Expect: 101-continue"),
    ("200-ok", b"Expect: 200-ok"),
    ("space before the colon", b"Expect : 100-continue"),
    ("folded", b"Expect:\r\n 100-continue"),
    ("CR", b"Expect: 100-continue\r"),
    ("vertical tab", b"Expect: \x0b100-continue"),
    ("no-break space", b"Expect: \xa0100-continue"),
):
    expect.refused(_name, post(_line, length(SMUGGLED), body=SMUGGLED))
    expect.refused(f"GET: {_name}", get(_line) + SMUGGLED)
for _name, _line in (("plain", b"Expect: 100-continue"), ("capitals", b"EXPECT: 100-CONTINUE"), ("no blank", b"Expect:100-continue")):
    expect.passed(_name, post(_line, length(SMUGGLED), body=SMUGGLED))
    expect.passed(f"chunked: {_name}", post(_line, b"Transfer-Encoding: chunked", body=chunked(SMUGGLED)))
    expect.passed(f"GET with a body: {_name}", post(_line, length(PREFIX), body=PREFIX, start=b"GET /mark0000 HTTP/1.1"))
    expect.passed(f"HEAD with a body: {_name}", post(_line, length(PREFIX), body=PREFIX, start=b"HEAD /mark0000 HTTP/1.1"))
    expect.passed(f"GET without: {_name}", get(_line))
    expect.passed(f"length of zero: {_name}", post(_line, b"Content-Length: 0") + SMUGGLED)
    expect.passed(f"HTTP/1.0: {_name}", post(_line, length(SMUGGLED), body=SMUGGLED, start=b"POST /mark0000 HTTP/1.0"))
expect.refused("with both lengths", post(b"Expect: 100-continue", b"Content-Length: 5", b"Transfer-Encoding: chunked", body=chunked()))
expect.refused("with a bad length", post(b"Expect: 100-continue", b"Content-Length: +5", body=b"hello"))
expect.refused("with a bad chunk", post(b"Expect: 100-continue", b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n"))
expect.passed("empty", post(b"Expect:", length(SMUGGLED), body=SMUGGLED))
expect.passed("empty list", post(b"Expect: ,", length(SMUGGLED), body=SMUGGLED))
expect.passed("early answer", post(b"Expect: 100-continue", length(SMUGGLED), b"X-Early: 1", body=SMUGGLED))

upgrade = Family("Upgrade")
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13")
for _name, _lines in (
    ("h2c", H2C),
    ("h2c without settings", H2C[:2]),
    ("h2c not named by Connection", H2C[1:]),
    ("h2c, named by close", (b"Connection: close, Upgrade", *H2C[1:])),
    ("h2c in capitals", (b"Connection: UPGRADE, HTTP2-SETTINGS", b"UPGRADE: H2C", H2C[2])),
    ("h2", (b"Connection: Upgrade", b"Upgrade: h2")),
    ("h2c behind another", (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: x, h2c", H2C[2])),
    ("TLS", (b"Connection: Upgrade", b"Upgrade: TLS/1.2")),
    ("HTTP/2.0", (b"Connection: Upgrade", b"Upgrade: HTTP/2.0")),
    ("websocket", WEBSOCKET),
    ("websocket of version 777", (*WEBSOCKET[:3], b"Sec-WebSocket-Version: 777")),
    ("websocket without a version", WEBSOCKET[:3]),
    ("websocket without a key", WEBSOCKET[:2]),
    ("websocket not named by Connection", WEBSOCKET[1:]),
    ("websocket twice", (b"Upgrade: websocket", *WEBSOCKET)),
    ("empty", (b"Connection: Upgrade", b"Upgrade:")),
    ("commas", (b"Connection: Upgrade", b"Upgrade: ,,")),
    ("unknown", (b"Connection: Upgrade", b"Upgrade: smuggle/1")),
):
    upgrade.passed(_name, get(*_lines))
    upgrade.passed(f"and a request behind it: {_name}", get(*_lines) + SMUGGLED)
    upgrade.passed(f"with a body: {_name}", post(*_lines, length(SMUGGLED), body=SMUGGLED))
upgrade.passed("websocket with chunks", post(*WEBSOCKET, b"Transfer-Encoding: chunked", body=chunked(SMUGGLED)))
upgrade.passed("HTTP/1.0", get(*WEBSOCKET, version=b"HTTP/1.0"))
upgrade.refused("websocket with both lengths", post(*WEBSOCKET, b"Transfer-Encoding: chunked", b"Content-Length: 5", body=chunked()))
upgrade.refused("folded", get(b"Connection: Upgrade", b"Upgrade:\r\n websocket"))

hops = Family("Hop-by-hop lines")
for _names in (
    b"X-Real-IP",
    b"X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto",
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"X-Real-IP, Host, Content-Length, transfer-encoding",
    b"keep-alive, Connection",
    b"Connection",
    b"Cookie, Authorization",
    b"close, Content-Length",
    b"Keep-Alive, x-mark-not",
    b",,, ,close-not,",
    b"upgrade",
    b"TE, Trailer",
    b"\xff",
):
    _name = _names.decode("latin-1")
    hops.passed(f"length: {_name}", post(b"Connection: " + _names, length(SMUGGLED), body=SMUGGLED))
    hops.passed(f"chunks: {_name}", post(b"Connection: " + _names, b"Transfer-Encoding: chunked", body=chunked(SMUGGLED)))
    hops.passed(f"none: {_name}", get(b"Connection: " + _names))
for _name, _line in (
    ("space before the colon", b"Connection : close"),
    ("folded", b"Connection: keep-alive,\r\n close"),
    ("hidden behind CR", b"Connection: keep-alive\rContent-Length: 5"),
    ("NUL", b"Connection: close\0"),
):
    hops.refused(_name, get(_line) + SMUGGLED)
for _name, _line in (
    ("Keep-Alive", b"Keep-Alive: timeout=5, max=1000"),
    ("Proxy-Connection", b"Proxy-Connection: close"),
    ("Proxy-Connection names a line", b"Proxy-Connection: X-Real-IP, Content-Length"),
    ("TE", b"TE: trailers, chunked;q=0.5"),
    ("Trailer", b"Trailer: Content-Length, Transfer-Encoding"),
    ("HTTP2-Settings", b"HTTP2-Settings: x"),
    ("lines that pingap sets and removes", b"X-Set: forged\r\nX-Gone: 1\r\nx-set: 2"),
    ("those named by Connection", b"X-Set: forged\r\nX-Gone: 1\r\nConnection: X-Set, X-Gone"),
    ("forged client", b"X-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9"),
    ("Max-Forwards", b"Max-Forwards: 0"),
    ("Max-Forwards of no number", b"Max-Forwards: -1"),
    ("Max-Forwards twice", b"Max-Forwards: 0\r\nMax-Forwards: 5"),
    ("Via", b"Via: x (comment)"),
):
    hops.passed(_name, post(_line, length(SMUGGLED), body=SMUGGLED))
hops.answered("OPTIONS at the last hop", get(b"Max-Forwards: 0", method=b"OPTIONS"))
_OPTIONS = b"OPTIONS /mark0000 HTTP/1.1"
hops.answered("OPTIONS with a body at the last hop", post(b"Max-Forwards: 0", length(SMUGGLED), body=SMUGGLED, start=_OPTIONS))

rows = Family("Requests in a row")
TWO = get(target=b"/mark0000/2")
rows.passed("three", get() + TWO + get(target=b"/mark0000/3"))
rows.passed("bodies between", post(length(SMUGGLED), body=SMUGGLED) + post(length(SMUGGLED), body=SMUGGLED) + TWO)
rows.passed("chunks between", post(b"Transfer-Encoding: chunked", body=chunked(SMUGGLED)) * 3)
rows.passed("empty lines between", get() + b"\r\n\r\n" + TWO)
rows.passed("close first", get(b"Connection: close") + SMUGGLED)
rows.passed("close among others", get(b"Connection: foo, close, bar") + SMUGGLED)
rows.passed("HTTP/1.0 first", get(version=b"HTTP/1.0") + SMUGGLED)
rows.passed("HEAD first", get(method=b"HEAD") + TWO)
rows.passed("fifty", get() + b"".join(get(target=b"/mark0000/%d" % number) for number in range(2, 50)))
for _name, _bad in (
    ("garbage", b"Invalid\r\n\r\n"),
    ("chunk size", b"5\r\nhello\r\n"),
    ("bare LF", b"\nGET /smuggled/mark0000 HTTP/1.1\r\n\r\n"),
    ("bad length", post(b"Content-Length: x", body=SMUGGLED)),
    ("two lengths", post(b"Content-Length: 0", b"Content-Length: 9", body=SMUGGLED)),
    ("both framings", post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=chunked())),
    ("bad method", b"trace /smuggled/mark0000 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad version", b"GET /smuggled/mark0000 HTTP/2.2\r\nHost: a\r\n\r\n"),
    ("no Host", b"GET /smuggled/mark0000 HTTP/1.1\r\n\r\n"),
    ("folded", get(b"X-A:\r\n b")),
    ("bad chunk", post(b"Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n")),
    ("expectation", get(b"Expect: x")),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("PROXY header", b"PROXY TCP4 9.9.9.9 9.9.9.9 1 2\r\n\r\n"),
):
    rows.refused(f"first {_name}, then two", _bad + SMUGGLED + SMUGGLED)
    rows.passed(f"second {_name}, then two", get() + _bad + SMUGGLED + SMUGGLED)
    rows.passed(f"behind a body {_name}", post(length(b"hello"), body=b"hello") + _bad + SMUGGLED)
rows.refused("TRACE first", get(method=b"TRACE") + TWO)
rows.refused("CONNECT first", head(b"CONNECT a.example:80 HTTP/1.1") + SMUGGLED)

FAMILIES = (expect, upgrade, hops, rows)
