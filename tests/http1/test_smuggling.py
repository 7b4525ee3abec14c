"""Published request-smuggling tricks, and the verdict on each.

From public research: Linhart et al. "HTTP Request Smuggling" (2005), Kettle "HTTP Desync Attacks" (2019) and its
follow-ups, the http-desync "TE.TE" lists, Chen et al. "Host of Troubles", Grenfeldt et al. "Attacking Websites Using
HTTP Request Smuggling" (2021), Jabiyev et al. "T-Reqs" (2021), and the advisories of llhttp, HAProxy and pingora.
Verdict: the kind of the refusal, or the length that every server must see.
"""

from __future__ import annotations

import pytest

from pingap.stages.http1.body import MAX_LINE, ChunkedBody
from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.rules import ProtocolError, RequestHead
from pingap.stages.messages import UNKNOWN
from tests.http1.heads import crlf, every_engine, post, request, rows

CODINGS = rows(
    # what any server must agree on
    ("plain", b"Transfer-Encoding: chunked", UNKNOWN),
    ("no blank", b"Transfer-Encoding:chunked", UNKNOWN),
    ("tab after the colon", b"Transfer-Encoding:\tchunked", UNKNOWN),
    ("blanks before the value", b"Transfer-Encoding:    chunked", UNKNOWN),
    ("capitals", b"TRANSFER-ENCODING: CHUNKED", UNKNOWN),
    ("mixed case", b"tRANSFER-eNCODING: cHuNkEd", UNKNOWN),
    # another name
    ("space before the colon", b"Transfer-Encoding : chunked", "bad_request"),
    ("tab before the colon", b"Transfer-Encoding\t: chunked", "bad_request"),
    ("space before the name", b" Transfer-Encoding: chunked", "bad_request"),
    ("tab before the name", b"\tTransfer-Encoding: chunked", "bad_request"),
    ("space inside the name", b"Transfer Encoding: chunked", "bad_request"),
    ("no colon", b"Transfer-Encoding chunked", "bad_request"),
    ("NUL in the name", b"Transfer-Encoding\0: chunked", "bad_request"),
    ("vertical tab in the name", b"Transfer-Encoding\x0b: chunked", "bad_request"),
    ("form feed in the name", b"\x0cTransfer-Encoding: chunked", "bad_request"),
    ("CR in the name", b"Transfer-Encoding\r: chunked", "bad_request"),
    ("CR before the name", b"\rTransfer-Encoding: chunked", "bad_request"),
    ("LF before the name", b"\nTransfer-Encoding: chunked", "bad_request"),
    ("a no-break space in the name", b"Transfer-Encoding\xa0: chunked", "bad_request"),
    ("a soft hyphen in the name", b"Transfer\xadEncoding: chunked", "bad_request"),
    ("UTF-8 in the name", "Transfer\u2010Encoding: chunked".encode(), "bad_request"),
    ("a byte order mark before the name", b"\xef\xbb\xbfTransfer-Encoding: chunked", "bad_request"),
    ("a quoted name", b'"Transfer-Encoding": chunked', "bad_request"),
    ("a bracket in the name", b"Transfer-Encoding]: chunked", "bad_request"),
    ("two colons", b"Transfer-Encoding:: chunked", "bad_request"),
    ("an equals sign instead of the colon", b"Transfer-Encoding= chunked", "bad_request"),
    ("hidden after a bare LF", b"X: x\nTransfer-Encoding: chunked", "bad_request"),
    ("hidden after a bare CR", b"X: x\rTransfer-Encoding: chunked", "bad_request"),
    ("hidden after LF CR", b"X: x\n\rTransfer-Encoding: chunked", "bad_request"),
    ("hidden after CR CR LF", b"X: x\r\r\nTransfer-Encoding: chunked", "bad_request"),
    ("hidden after NUL", b"X: x\0Transfer-Encoding: chunked", "bad_request"),
    ("hidden in a folded line", b"X: x\r\n Transfer-Encoding: chunked", "bad_request"),
    # another value
    ("xchunked", b"Transfer-Encoding: xchunked", "bad_request"),
    ("chunkedx", b"Transfer-Encoding: chunkedx", "bad_request"),
    ("chunk", b"Transfer-Encoding: chunk", "bad_request"),
    ("a letter repeated", b"Transfer-Encoding: chunkedd", "bad_request"),
    ("vertical tab before the value", b"Transfer-Encoding:\x0bchunked", "bad_request"),
    ("vertical tab after the value", b"Transfer-Encoding: chunked\x0b", "bad_request"),
    ("form feed before the value", b"Transfer-Encoding:\x0cchunked", "bad_request"),
    ("NUL before the value", b"Transfer-Encoding:\0chunked", "bad_request"),
    ("NUL after the value", b"Transfer-Encoding: chunked\0", "bad_request"),
    ("backspace before the value", b"Transfer-Encoding: \x08chunked", "bad_request"),
    ("a no-break space before the value", b"Transfer-Encoding:\xa0chunked", "bad_request"),
    ("a next-line mark before the value", b"Transfer-Encoding:\x85chunked", "bad_request"),
    ("byte 255 before the value", b"Transfer-Encoding: \xffchunked", "bad_request"),
    ("the Kelvin sign", "Transfer-Encoding: chun\u212aed".encode(), "bad_request"),
    ("CR before the value", b"Transfer-Encoding:\rchunked", "bad_request"),
    ("CR after the value", b"Transfer-Encoding: chunked\r", "bad_request"),
    ("LF before the value", b"Transfer-Encoding:\nchunked", "bad_request"),
    ("folded", b"Transfer-Encoding:\r\n chunked", "bad_request"),
    ("folded by a tab", b"Transfer-Encoding:\r\n\tchunked", "bad_request"),
    ("double quotes", b'Transfer-Encoding: "chunked"', "bad_request"),
    ("single quotes", b"Transfer-Encoding: 'chunked'", "bad_request"),
    ("a half quote", b"Transfer-Encoding: 'chunked", "bad_request"),
    ("a comment", b"Transfer-Encoding: (x)chunked", "bad_request"),
    ("a parameter", b"Transfer-Encoding: chunked;q=0", "bad_request"),
    ("a semicolon", b"Transfer-Encoding: chunked;", "bad_request"),
    ("a comma after", b"Transfer-Encoding: chunked,", "bad_request"),
    ("a comma before", b"Transfer-Encoding: ,chunked", "bad_request"),
    ("a colon before", b"Transfer-Encoding: :chunked", "bad_request"),
    ("empty", b"Transfer-Encoding:", "bad_request"),
    ("identity", b"Transfer-Encoding: identity", "bad_request"),
    ("gzip", b"Transfer-Encoding: gzip", "bad_request"),
    ("chunked then identity", b"Transfer-Encoding: chunked, identity", "bad_request"),
    ("identity then chunked", b"Transfer-Encoding: identity, chunked", "not_implemented"),
    ("cow then chunked", b"Transfer-Encoding: cow, chunked", "not_implemented"),
    ("chunked in one word with another", b"Transfer-Encoding: identity chunked", "bad_request"),
    ("chunked twice in a list", b"Transfer-Encoding: chunked, chunked", "bad_request"),
    # two lines
    ("chunked and chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "bad_request"),
    ("chunked and cow", b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow", "bad_request"),
    ("cow and chunked", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", "not_implemented"),
    ("empty and chunked", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", "bad_request"),
    ("chunked and empty", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:", "bad_request"),
    ("chunked and a spaced one", b"Transfer-Encoding: chunked\r\nTransfer-Encoding : x", "bad_request"),
)


@every_engine
@pytest.mark.parametrize(("line", "verdict"), CODINGS)
def test_a_coding_is_plainly_chunked_or_the_request_is_refused(engine: HeadParser, line: bytes, verdict: str | int) -> None:
    parsed = request(engine, post(line))
    assert (parsed.length if isinstance(parsed, RequestHead) else parsed) == verdict


@every_engine
@pytest.mark.parametrize(("line", "verdict"), CODINGS)
@pytest.mark.parametrize("first", [True, False], ids=["length-first", "coding-first"])
def test_no_coding_whatsoever_is_taken_beside_a_length(engine: HeadParser, line: bytes, verdict: str | int, first: bool) -> None:
    length = b"Content-Length: 6"
    parsed = request(engine, post(length, line) if first else post(line, length))
    assert parsed in ("bad_request", "not_implemented")


@every_engine
@pytest.mark.parametrize(("line", "verdict"), CODINGS)
def test_no_coding_whatsoever_is_taken_in_http_1_0(engine: HeadParser, line: bytes, verdict: str | int) -> None:
    parsed = request(engine, crlf(b"POST / HTTP/1.0", b"Host: a", line))
    assert parsed in ("bad_request", "not_implemented")


@every_engine
@pytest.mark.parametrize("name", [b"X-Transfer-Encoding", b"Transfer-Encodings", b"Transfer-Encodin", b"Transfer.Encoding"])
def test_a_name_that_only_looks_like_it_frames_nothing_and_is_passed_on_as_it_is(engine: HeadParser, name: bytes) -> None:
    parsed = request(engine, post(name + b": chunked"))
    assert isinstance(parsed, RequestHead)
    assert parsed.length == 0
    assert parsed.headers == b"host: a.example\r\n%b: chunked\r\n" % name.lower()


@every_engine
@pytest.mark.parametrize("line", [b"Transfer_Encoding: chunked", b"Content_Length: 5", b"CONTENT_LENGTH: 5"])
def test_a_name_that_a_backend_could_map_to_the_same_variable_is_dropped(engine: HeadParser, line: bytes) -> None:
    parsed = request(engine, post(line, b"Content-Length: 7"))
    assert isinstance(parsed, RequestHead)
    assert (parsed.length, parsed.headers) == (7, b"host: a.example\r\n")


LENGTHS = rows(
    ("plain", b"Content-Length: 5", 5),
    ("no blank", b"Content-Length:5", 5),
    ("a blank more", b"Content-Length:  5", 5),
    ("a tab", b"Content-Length:\t5", 5),
    ("blank after", b"Content-Length: 5 ", 5),
    ("zeros before", b"Content-Length: 0000000005", 5),
    ("a plus sign", b"Content-Length: +5", "bad_request"),
    ("a minus sign", b"Content-Length: -5", "bad_request"),
    ("minus zero", b"Content-Length: -0", "bad_request"),
    ("hex", b"Content-Length: 0x5", "bad_request"),
    ("hex digits", b"Content-Length: a", "bad_request"),
    ("octal", b"Content-Length: 0o5", "bad_request"),
    ("an exponent", b"Content-Length: 5e0", "bad_request"),
    ("a fraction", b"Content-Length: 5.0", "bad_request"),
    ("an underscore", b"Content-Length: 1_0", "bad_request"),
    ("a list that agrees", b"Content-Length: 5,5", "bad_request"),
    ("a list with a blank", b"Content-Length: 5, 5", "bad_request"),
    ("a list that disagrees", b"Content-Length: 5,6", "bad_request"),
    ("a comma after", b"Content-Length: 5,", "bad_request"),
    ("a comma before", b"Content-Length: ,5", "bad_request"),
    ("two numbers", b"Content-Length: 5 6", "bad_request"),
    ("a semicolon", b"Content-Length: 5;", "bad_request"),
    ("quotes", b'Content-Length: "5"', "bad_request"),
    ("empty", b"Content-Length:", "bad_request"),
    ("blanks", b"Content-Length:   ", "bad_request"),
    ("vertical tab", b"Content-Length: \x0b5", "bad_request"),
    ("NUL", b"Content-Length: 5\0", "bad_request"),
    ("digits of another script", "Content-Length: \u0665".encode(), "bad_request"),
    ("full-width digits", "Content-Length: \uff15".encode(), "bad_request"),
    ("superscript", b"Content-Length: \xb2", "bad_request"),
    ("19 digits", b"Content-Length: 1000000000000000000", "bad_request"),
    ("2 to the 64th", b"Content-Length: 18446744073709551616", "bad_request"),
    ("2 to the 64th and five", b"Content-Length: 18446744073709551621", "bad_request"),
    ("a thousand digits", b"Content-Length: " + b"9" * 1000, "bad_request"),
    ("two that agree", b"Content-Length: 5\r\nContent-Length: 5", "bad_request"),
    ("two that disagree", b"Content-Length: 5\r\nContent-Length: 6", "bad_request"),
    ("two with other cases", b"Content-Length: 5\r\ncontent-length: 5", "bad_request"),
    ("two in other spellings", b"Content-Length: 5\r\nContent-Length: 05", "bad_request"),
    ("a list and one", b"Content-Length: 5,5\r\nContent-Length: 5", "bad_request"),
    ("one and an empty one", b"Content-Length: 5\r\nContent-Length:", "bad_request"),
    ("space before the colon", b"Content-Length : 5", "bad_request"),
    ("folded", b"Content-Length:\r\n 5", "bad_request"),
    ("CR inside", b"Content-Length: 5\r6", "bad_request"),
    ("space before the name", b" Content-Length: 5", "bad_request"),
    ("a byte beyond ASCII in the name", b"Content-Length\xa0: 5", "bad_request"),
)


@every_engine
@pytest.mark.parametrize(("line", "verdict"), LENGTHS)
def test_a_length_is_plainly_a_number_or_the_request_is_refused(engine: HeadParser, line: bytes, verdict: str | int) -> None:
    parsed = request(engine, post(line))
    assert (parsed.length if isinstance(parsed, RequestHead) else parsed) == verdict


CHUNKS = rows(
    ("plain", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("zeros before the size", b"0005\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("a capital digit", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("several zeros at the end", b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("an extension", b"5;ext\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("an extension with a value", b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    ("a blank before the extension", b"5 ;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("a tab before the extension", b"5\t;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("a trailer", b"5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n", b"hello"),
    ("a sign", b"+5\r\nhello\r\n0\r\n\r\n", None),
    ("a minus sign", b"-5\r\nhello\r\n0\r\n\r\n", None),
    ("a prefix", b"0x5\r\nhello\r\n0\r\n\r\n", None),
    ("a blank before the size", b" 5\r\nhello\r\n0\r\n\r\n", None),
    ("a blank after the size", b"5 \r\nhello\r\n0\r\n\r\n", None),
    ("a tab after the size", b"5\t\r\nhello\r\n0\r\n\r\n", None),
    ("an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", None),
    ("another letter", b"5g\r\nhello\r\n0\r\n\r\n", None),
    ("a comma", b"5,\r\nhello\r\n0\r\n\r\n", None),
    ("no size", b"\r\nhello\r\n0\r\n\r\n", None),
    ("a lone semicolon", b";a\r\nhello\r\n0\r\n\r\n", None),
    ("bytes beyond ASCII as digits", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", None),
    ("NUL after the size", b"5\0\r\nhello\r\n0\r\n\r\n", None),
    ("a vertical tab after the size", b"5\x0b\r\nhello\r\n0\r\n\r\n", None),
    ("bare LF after the size", b"5\nhello\r\n0\r\n\r\n", None),
    ("bare CR after the size", b"5\rhello\r\n0\r\n\r\n", None),
    ("CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n", None),
    ("bare LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", None),
    ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", None),
    ("a chunk hidden in an extension by LF", b"5;a\n2\r\nhello\r\n0\r\n\r\n", None),
    ("bare LF after the chunk", b"5\r\nhello\n0\r\n\r\n", None),
    ("bare CR after the chunk", b"5\r\nhello\r0\r\n\r\n", None),
    ("nothing after the chunk", b"5\r\nhello0\r\n\r\n", None),
    ("a byte too many", b"5\r\nhello!\r\n0\r\n\r\n", None),
    ("two bytes instead of CRLF", b"5\r\nhelloXX0\r\n\r\n", None),
    ("bare LF after the last chunk", b"5\r\nhello\r\n0\n\n", None),
    ("bare LF at the very end", b"5\r\nhello\r\n0\r\n\n", None),
    ("a stray byte after the last chunk", b"5\r\nhello\r\n0\r\nX\r\n\r\n", None),
    ("a request in place of the trailers", b"5\r\nhello\r\n0\r\nGET /x HTTP/1.1\r\n\r\n", None),
    ("a trailer with a space before the colon", b"0\r\nX-A : 1\r\n\r\n", None),
    ("a folded trailer", b"0\r\nX-A: 1\r\n 2\r\n\r\n", None),
    ("a trailer without name", b"0\r\n: 1\r\n\r\n", None),
    ("NUL in a trailer", b"0\r\nX-A: \0\r\n\r\n", None),
    ("bare CR in a trailer", b"0\r\nX-A: 1\r2\r\n\r\n", None),
    ("16 digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", None),
    ("2 to the 64th and five", b"10000000000000005\r\nhello\r\n0\r\n\r\n", None),
    ("an endless size", b"0" * 10_000, None),
    ("an endless extension", b"5;" + b"a" * (MAX_LINE + 1), None),
    ("an endless trailer", b"0\r\nX-A: " + b"a" * (MAX_LINE + 1), None),
)


def _read(portions: list[bytes]) -> tuple[bytes, bool] | None:
    body = ChunkedBody()
    try:
        payload = b"".join(body.feed(portion) for portion in portions if not body.done)
    except ProtocolError as error:
        assert error.kind == "bad_request"
        return None
    return payload, body.done


@pytest.mark.parametrize(("wire", "payload"), CHUNKS)
def test_a_chunked_body_is_plain_or_refused(wire: bytes, payload: bytes | None) -> None:
    assert _read([wire]) == (None if payload is None else (payload, True))


@pytest.mark.parametrize(("wire", "payload"), [row for row in CHUNKS if len(row.values[0]) < 200])
def test_the_verdict_on_a_chunked_body_does_not_depend_on_how_it_is_cut(wire: bytes, payload: bytes | None) -> None:
    expected = None if payload is None else (payload, True)
    assert _read([wire[at : at + 1] for at in range(len(wire))]) == expected
    for at in range(1, len(wire)):
        assert _read([wire[:at], wire[at:]]) == expected
