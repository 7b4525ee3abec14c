"""Chunked bodies: sizes, extensions, line ends, trailers."""

from __future__ import annotations

from tests.smuggling.payload import SMUGGLED, Family, post

CODING = b"Transfer-Encoding: chunked"


def body(wire: bytes, method: bytes = b"POST") -> bytes:
    return post(CODING, body=wire, start=b"%b /mark0000 HTTP/1.1" % method)


def hello(size: bytes, end: bytes = b"\r\n") -> bytes:
    """`hello` behind a size line of one's own, then the last chunk and a hidden request."""
    return body(size + end + b"hello\r\n0\r\n\r\n" + SMUGGLED)


sizes = Family("Chunk sizes")
for _name, _size in (
    ("plain", b"5"),
    ("zeros before", b"0005"),
    ("15 digits", b"000000000000005"),
    ("extension", b"5;ext"),
    ("extension with a value", b'5;a=b;c="d e"'),
    ("extension that looks like a size", b"5;0"),
    ("extension that looks like a coding", b"5;Transfer-Encoding: chunked"),
):
    sizes.passed(_name, hello(_size))
for _name, _size in (
    ("0x", b"0x5"),
    ("0X", b"0X5"),
    ("plus", b"+5"),
    ("minus", b"-5"),
    ("minus 0x0", b"-0x0"),
    ("underscore", b"0_5"),
    ("underscore by the Garden", b"0_2e"),
    ("blank before", b" 5"),
    ("blanks before", b"           5"),
    ("tab before", b"\t5"),
    ("blank behind", b"5 "),
    ("blanks behind, as old Apache pads", b"5         "),
    ("tab behind", b"5\t"),
    ("vertical tab behind", b"5\x0b"),
    ("form feed behind", b"5\x0c"),
    ("NUL behind", b"5\0"),
    ("NUL before", b"\x005"),
    ("no-break space behind", b"5\xa0"),
    ("letter behind", b"5g"),
    ("h", b"5h"),
    ("words behind", b"5these-bytes-never-get-validated"),
    ("word", b"INVALID!!!"),
    ("comma", b"5,5"),
    ("dot", b"5.0"),
    ("colon", b"5:5"),
    ("quotes", b'"5"'),
    ("empty", b""),
    ("semicolon alone", b";a"),
    ("full-width digit", "\uff15".encode()),
    ("Arabic digit", "\u0665".encode()),
    ("superscript", b"\xb5"),
    ("16 digits", b"0000000000000005"),
    ("17 digits, 2 to the 64th and 5", b"10000000000000005"),
    ("2 to the 64th less 1", b"ffffffffffffffff"),
    ("2 to the 63rd", b"8000000000000005"),
    ("2 to the 32nd and 5 with blanks", b"100000005 "),
    ("endless zeros", b"0" * 5000),
    ("two sizes", b"5 5"),
    ("NUL in an extension", b"5;\0ext"),
    ("CR in an extension", b"5;a\rb"),
    ("control byte in an extension", b"5;a\x01b"),
    ("DEL in an extension", b"5;a\x7fb"),
    ("endless extension", b"5;" + b"a" * 5000),
    ("quoted CRLF in an extension", b'5;a="\r\n'),
    ("quoted LF in an extension", b'5;a="\n"'),
    ("percent", b"%35"),
):
    sizes.refused(_name, hello(_size))
sizes.refused("more overhead than payload", body(b"".join(b"1;%b\r\nx\r\n" % (b"a" * 4000) for _ in range(20)) + b"0\r\n\r\n"))
sizes.passed("many small chunks", body(b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"))
sizes.passed("capital digits", body(b"A\r\n0123456789\r\n0\r\n\r\n" + SMUGGLED))
sizes.passed("several zeros at the end", body(b"5\r\nhello\r\n000\r\n\r\n" + SMUGGLED))
sizes.passed("blank before the extension", body(b"5 ;a=b\r\nhello\r\n0 ;x\r\n\r\n" + SMUGGLED))
sizes.passed("tabs before the extension", body(b"5\t\t;a=b\r\nhello\r\n0\r\n\r\n" + SMUGGLED))
sizes.passed("extension at the end", body(b"5\r\nhello\r\n0;x=y\r\n\r\n" + SMUGGLED))
sizes.passed("a chunk that looks like an end", body(b"17\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n" + SMUGGLED))
for _method in (b"GET", b"HEAD", b"OPTIONS"):
    sizes.refused(f"{_method.decode()}: 0x", body(b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, _method))
    sizes.refused(f"{_method.decode()}: minus zero", body(b"-0\r\n\r\n" + SMUGGLED, _method))

# w4ke 2025, and the scan for it in http-request-smuggler. TERM.EXT, EXT.TERM: the end of an extension in the front server's
# eyes is none in the back server's, and the other way round. TERM.SPILL, SPILL.TERM: the same with the end of a chunk.
funky = Family("Funky chunks")
for _name, _end in (
    ("LF", b"\n"),
    ("CR", b"\r"),
    ("CR X", b"\rX"),
    ("CR CR", b"\r\r"),
    ("CR CR LF", b"\r\r\n"),
    ("LF CR", b"\n\r"),
    ("NUL CRLF", b"\0\r\n"),
    ("vertical tab", b"\x0b"),
    ("U+2028", b"\xe2\x80\xa8"),
    ("nel", b"\x85"),
):
    if _name not in ("U+2028", "nel"):  # those two may stand in an extension, where they end nothing for anybody
        funky.refused(f"TERM.EXT {_name}", body(b"2;%bxx\r\n4b\r\n0\r\n\r\n" % _end + SMUGGLED + b"0\r\n\r\n"))
        funky.refused(f"EXT.TERM {_name}", body(b"5;%bAB\r\n2a\r\n0\r\n\r\n" % _end + SMUGGLED))
    funky.refused(f"TERM without extension, {_name}", body(b"5%bhello\r\n0\r\n\r\n" % _end + SMUGGLED))
    funky.refused(f"TERM.SPILL {_name}", body(b"5\r\nhello%b0\r\n\r\n" % _end + SMUGGLED))
    funky.refused(f"SPILL.TERM {_name}", body(b"5\r\nhello%b\r\n0\r\n\r\n" % (_end + b"2f\r\n") + SMUGGLED))
    funky.refused(f"last chunk ended by {_name}", body(b"5\r\nhello\r\n0%b\r\n" % _end + SMUGGLED))
    if _name != "CR":
        funky.refused(f"body ended by {_name}", body(b"5\r\nhello\r\n0\r\n%b" % _end + SMUGGLED))
funky.refused("body ended by CR and G", body(b"5\r\nhello\r\n0\r\n\r" + SMUGGLED))
funky.refused("spill of two bytes", body(b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED))
funky.refused("nothing behind the chunk", body(b"5\r\nhello0\r\n\r\n" + SMUGGLED))
funky.refused("one byte too many", body(b"5\r\nhello!\r\n0\r\n\r\n" + SMUGGLED))
funky.refused("one byte too few", body(b"6\r\nhello\r\n0\r\n\r\n" + SMUGGLED))
funky.refused("h2o: CR CR behind an extension", body(b"41;a=b\r\r" + b"X" * 65 + b"\r\n0\r\n\r\n" + SMUGGLED))
funky.refused("CR CR before an extension", body(b"5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n" + SMUGGLED))
funky.refused("2 CR CR ;a", body(b"2\r\r;a\r\n02\r\n41\r\n0\r\n\r\n" + SMUGGLED))
funky.refused("1 CR 0 LF", body(b"1\r0\n" + SMUGGLED))
funky.refused("no chunk at all", body(b"\r\n\r\n" + SMUGGLED))
funky.refused("three Zs", body(b"Z\r\nZZ\r\nZZZ\r\n\r\n" + SMUGGLED))
funky.refused("chunk within an extension", body(b"5;a\n2\r\nhello\r\n0\r\n\r\n" + SMUGGLED))
funky.passed("U+2028 in an extension", body(b"5;a\xe2\x80\xa8b\r\nhello\r\n0\r\n\r\n" + SMUGGLED))
funky.passed("nel in an extension", body(b"5;a\x85b\r\nhello\r\n0\r\n\r\n" + SMUGGLED))

trailers = Family("Trailer section")
for _name, _line in (
    ("plain", b"X-A: 1"),
    ("two", b"X-A: 1\r\nX-B: 2"),
    ("Content-Length", b"Content-Length: 50"),
    ("Transfer-Encoding", b"Transfer-Encoding: chunked"),
    ("Host", b"Host: evil.example"),
    ("Authorization", b"Authorization: Basic eA=="),
    ("Content-Type", b"Content-Type: text/evil"),
    ("X-Forwarded-For", b"X-Forwarded-For: 9.9.9.9"),
    ("X-Real-IP", b"X-Real-IP: 9.9.9.9"),
    ("Connection", b"Connection: close"),
    ("TE", b"TE: trailers"),
    ("Expect", b"Expect: 100-continue"),
    ("Cookie", b"Cookie: a=b"),
    ("a line that pingap sets", b"X-Set: forged"),
    ("a line that pingap removes", b"X-Gone: 1"),
    ("a line of the head", b"X-Mark: forged"),
):
    trailers.passed(_name, body(b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % _line + SMUGGLED))
    trailers.passed(
        f"announced: {_name}",
        post(CODING, b"TE: trailers", b"Connection: TE", b"Trailer: X-A", body=b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % _line + SMUGGLED),
    )
for _name, _line in (
    ("request line", b"GET /smuggled/mark0000 HTTP/1.1"),
    ("request line behind a colon", b"X:POST /smuggled/mark0000 HTTP/1.1\n"),
    ("no colon", b"X-A"),
    ("no name", b": 1"),
    ("space before the colon", b"X-A : 1"),
    ("space before the name", b" X-A: 1"),
    ("folded", b"X-A: 1\r\n 2"),
    ("LF inside", b"X-A: 1\nX-B: 2"),
    ("CR inside", b"X-A: 1\rX-B: 2"),
    ("NUL inside", b"X-A: \0"),
    ("ended by LF LF", b"X-A: 1\n\n" + SMUGGLED),
    ("high byte in the name", b"X\xa0: 1"),
    ("endless", b"X-A: " + b"a" * 5000),
):
    trailers.refused(_name, body(b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % _line + SMUGGLED))
trailers.refused("too many", body(b"0\r\n" + b"X-A: %b\r\n" % (b"a" * 4000) * 20 + b"\r\n" + SMUGGLED))
trailers.refused("no end", body(b"5\r\nhello\r\n0\r\n" + SMUGGLED))
trailers.passed("bytes behind the end", body(b"5\r\nhello\r\n0\r\n\r\n") + b"\r\n\r\n" + SMUGGLED)
trailers.passed("NUL behind the end", body(b"5\r\nhello\r\n0\r\n\r\n") + b"\0" + SMUGGLED)
trailers.passed("a chunk behind the end", body(b"5\r\nhello\r\n0\r\n\r\n0\r\n\r\n") + SMUGGLED)

FAMILIES = (sizes, funky, trailers)
