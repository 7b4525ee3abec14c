"""Transfer-Encoding and Content-Length: which of the two counts, and what either is."""

from __future__ import annotations

from tests.smuggling.payload import (
    PREFIX,
    SMUGGLED,
    Family,
    chunked,
    cl_te,
    get,
    head,
    length,
    post,
    te_alone,
    te_cl,
)

CODING = b"Transfer-Encoding: chunked"

CODINGS: tuple[tuple[str, bytes], ...] = (
    # another name (http-request-smuggler, smuggler, Klein 2020)
    ("space1", b"Transfer-Encoding : chunked"),
    ("tab before the colon", b"Transfer-Encoding\t:\tchunked"),
    ("nameprefix1", b"Foo: bar\r\n Transfer-Encoding: chunked"),
    ("nameprefix2", b"Foo: bar\r\n\tTransfer-Encoding: chunked"),
    ("spacejoin1", b"Transfer Encoding: chunked"),
    ("smashed", b"Transfer Encoding:chunked"),
    ("no colon", b"Transfer-Encoding chunked"),
    ("equals sign", b"Transfer-Encoding= chunked"),
    ("two colons", b"Transfer-Encoding:: chunked"),
    ("spjunk", b"Transfer-Encoding x: chunked"),
    ("backslash", b"Transfer\\Encoding: chunked"),
    ("quoted name", b'"Transfer-Encoding": chunked'),
    ("bracket", b"Transfer-Encoding]: chunked"),
    ("0dspam", b"Tra\rnsfer-Encoding: chunked"),
    ("LF in the name", b"Tra\nnsfer-Encoding: chunked"),
    ("CRLF in the name", b"Transfer-\r\nEncoding: chunked"),
    ("NUL in the name", b"Transfer-\0Encoding: chunked"),
    ("nel", b"Transfer-Encoding\x85: chunked"),
    ("nel in UTF-8", b"Transfer-Encoding\xc2\x85: chunked"),
    ("nbsp", b"Transfer-Encoding\xa0: chunked"),
    ("nbsp in UTF-8", b"Transfer-Encoding\xc2\xa0: chunked"),
    ("shy", b"Transfer\xadEncoding: chunked"),
    ("shy2", b"Transfer-Encoding\xad: chunked"),
    ("accentTE", b"Transf\x82r-Encoding: chunked"),
    ("byte order mark", b"\xef\xbb\xbfTransfer-Encoding: chunked"),
    ("UTF-8 hyphen", "Transfer\u2010Encoding: chunked".encode()),
    ("long s", "Tran\u017ffer-Encoding: chunked".encode()),
    ("comment", b"Transfer-Encoding(x): chunked"),
    # hidden behind another line
    ("badsetupCR", b"Foo: bar\rTransfer-Encoding: chunked"),
    ("badsetupLF", b"Foo: bar\nTransfer-Encoding: chunked"),
    ("0dwrap", b"Foo: bar\r\n\rTransfer-Encoding: chunked"),
    ("LF CR", b"Foo: bar\n\rTransfer-Encoding: chunked"),
    ("CR CR LF", b"Foo: bar\r\r\nTransfer-Encoding: chunked"),
    ("NUL before it", b"Foo: bar\0Transfer-Encoding: chunked"),
    ("bodysplit", b"Foo: bar\n\nTransfer-Encoding: chunked"),
    ("behind an empty name", b": x\r\nTransfer-Encoding: chunked"),
    ("behind a lone colon", b":\r\nTransfer-Encoding: chunked"),
    ("behind a space line", b"Foo: bar\r\n \r\nTransfer-Encoding: chunked"),
    ("behind a name without colon", b"Foo\r\nTransfer-Encoding: chunked"),
    ("behind a bad name", b"X-Invalid Y: \r\nTransfer-Encoding: chunked"),
    ("te in a folded value", b"Foo: bar,\r\n TE: x\r\nTransfer-Encoding:\r\n\tchunked"),
    # another value
    ("xchunked", b"Transfer-Encoding: xchunked"),
    ("chunkedx", b"Transfer-Encoding: chunkedx"),
    ("lazygrep", b"Transfer-Encoding: chunk"),
    ("vertwrap", b"Transfer-Encoding: \n\x0bchunked"),
    ("tabwrap", b"Transfer-Encoding: \r\n\tchunked"),
    ("linewrapped1", b"Transfer-Encoding:\n chunked"),
    ("linewrapped by CRLF", b"Transfer-Encoding:\r\n chunked"),
    ("doublewrapped", b"Transfer-Encoding:\r\n \r\n chunked"),
    ("wrapped inside", b"Transfer-Encoding: chun\r\n ked"),
    ("gareth1", b"Transfer-Encoding\n : chunked"),
    ("spaceFF", b"Transfer-Encoding:\xffchunked"),
    ("unispace", b"Transfer-Encoding:\xa0chunked"),
    ("FF around it", b"Transfer-Encoding: \xffchunked\xff"),
    ("A0 around it", b"Transfer-Encoding: \xa0chunked\xa0"),
    ("85 around it", b"Transfer-Encoding: \x85chunked\x85"),
    ("accentCH", b"Transfer-Encoding: ch\x96nked"),
    ("Kelvin sign", "Transfer-Encoding: chun\u212aed".encode()),
    ("quoted", b'Transfer-Encoding: "chunked"'),
    ("aposed", b"Transfer-Encoding: 'chunked'"),
    ("0dsuffix", b"Transfer-Encoding: chunked\r"),
    ("qencode", b"Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?="),
    ("qencodeutf", b"Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?="),
    ("bracketed", b"Transfer-Encoding: [chunked]"),
    ("comment before", b"Transfer-Encoding: (x)chunked"),
    ("parameter", b"Transfer-Encoding: chunked;q=0"),
    ("extension", b"Transfer-Encoding: chunked;ext=val"),
    ("semicolon", b"Transfer-Encoding: chunked;"),
    ("comma before", b"Transfer-Encoding: ,chunked"),
    ("comma after", b"Transfer-Encoding: chunked,"),
    ("colon before", b"Transfer-Encoding: :chunked"),
    ("empty", b"Transfer-Encoding:"),
    ("blanks", b"Transfer-Encoding: \t "),
    ("identity", b"Transfer-Encoding: identity"),
    ("gzip", b"Transfer-Encoding: gzip"),
    ("unknown", b"Transfer-Encoding: blegh"),
    ("commaCow", b"Transfer-Encoding: chunked, cow"),
    ("chunked, identity", b"Transfer-Encoding: chunked, identity"),
    ("cowComma", b"Transfer-Encoding: cow, chunked"),
    ("identity, chunked", b"Transfer-Encoding: identity, chunked"),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked"),
    ("nested", b"Transfer-Encoding: identity, chunked, identity"),
    ("nested by spaces", b"Transfer-Encoding: cow chunked bar"),
    ("chunked, chunked", b"Transfer-Encoding: chunked, chunked"),
    # several lines
    ("dualchunk", b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity"),
    ("dual cow", b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow"),
    ("revdualchunk", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    ("two chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("empty and chunked", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked"),
    ("chunked and empty", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
    ("chunked and spaced", b"Transfer-Encoding: chunked\r\nTransfer-Encoding : x"),
    ("spaced and chunked", b"Transfer-Encoding : x\r\nTransfer-Encoding: chunked"),
    ("chunked and xchunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: xchunked"),
    ("chunked, folded, chunked", b"Transfer-Encoding: chunked\r\n , chunked"),
)
"""No server may take one of these for anything; pingap refuses them with and without a length."""

PLAIN: tuple[tuple[str, bytes], ...] = (
    ("vanilla", CODING),
    ("nospace1", b"Transfer-Encoding:chunked"),
    ("valueprefix1", b"Transfer-Encoding:  chunked"),
    ("tabprefix1", b"Transfer-Encoding:\tchunked"),
    ("tabsuffix", b"Transfer-Encoding: chunked\t"),
    ("space suffix", b"Transfer-Encoding: chunked "),
    ("multiCase", b"tRANSFER-ENCODING: chunked"),
    ("yelling", b"TRANSFER-ENCODING: CHUNKED"),
    ("sarcasm", b"TrAnSFer-EnCODinG: cHuNkeD"),
    ("connection", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
)
"""Chunked by the book: taken alone, refused beside a length."""

OTHER_NAMES: tuple[tuple[str, bytes], ...] = (
    ("underjoin1", b"Transfer_Encoding: chunked"),
    ("x prefix", b"X-Transfer-Encoding: chunked"),
    ("z prefix", b"ZTransfer-Encoding: chunked"),
    ("plural", b"Transfer-Encodings: chunked"),
    ("contentEnc", b"Content-Encoding: chunked"),
    ("encode", b"Transfer-%45ncoding: chunked"),
    ("dot", b"Transfer.Encoding: chunked"),
    ("apostrophe", b"Transfer'Encoding: chunked"),
    ("te", b"TE: chunked"),
    ("trailer", b"Trailer: Transfer-Encoding"),
    ("in a value", b"Foo: Transfer-Encoding: chunked"),
)
"""Names of no meaning: the length beside them counts, for everybody."""

cl_te_family = Family("CL.TE")
te_cl_family = Family("TE.CL")
te_te_family = Family("TE.TE, TE.0")
for _name, _line in CODINGS:
    cl_te_family.refused(_name, cl_te(_line))
    te_cl_family.refused(_name, te_cl(_line))
    te_te_family.refused(_name, te_alone(_line))
for _name, _line in PLAIN:
    cl_te_family.refused(_name, cl_te(_line))
    te_cl_family.refused(_name, te_cl(_line))
    te_te_family.passed(_name, te_alone(_line))
for _name, _line in OTHER_NAMES:
    cl_te_family.passed(_name, cl_te(_line))
te_te_family.refused("http1.0", post(CODING, body=chunked(SMUGGLED), start=b"POST /mark0000 HTTP/1.0"))
te_te_family.refused("http1.0 kept alive", post(CODING, b"Connection: keep-alive", body=chunked(b"x"), start=b"POST /mark0000 HTTP/1.0"))
for _method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
    _start = b"%b /mark0000 HTTP/1.1" % _method
    te_te_family.passed(f"{_method.decode()} with chunks", post(CODING, body=chunked(SMUGGLED), start=_start))
    te_te_family.refused(f"{_method.decode()} with chunks and a length", post(CODING, b"Content-Length: 5", body=chunked(), start=_start))
_REST = b"\r\nHost: a\r\n\r\n" + chunked()
te_te_family.refused("folded behind the request line", b"POST /mark0000 HTTP/1.1\r\n Transfer-Encoding: chunked" + _REST)
te_te_family.refused("before the request line", b"Transfer-Encoding: chunked\r\nPOST /mark0000 HTTP/1.1" + _REST)

# The sweeps of smuggler's "exhaustive" and "doubles" lists: each odd byte in each place.
sweep = Family("TE with each odd byte")
for _byte in (*range(0x21), *range(0x7F, 0x100)):
    _b = bytes([_byte])
    for _place, _line in (
        ("mid", b"Transfer-Encoding:%bchunked" % _b),
        ("post", b"Transfer-Encoding%b: chunked" % _b),
        ("pre", b"%bTransfer-Encoding: chunked" % _b),
        ("end", b"Transfer-Encoding: chunked%b" % _b),
        ("pre and post", b"%bTransfer-Encoding%b: chunked" % (_b, _b)),
        ("around the value", b"Transfer-Encoding:%bchunked%b" % (_b, _b)),
        ("around the colon", b"Transfer-Encoding%b:%bchunked" % (_b, _b)),
    ):
        sweep.refused(f"{_place} {_byte:02x}", cl_te(_line), only_raw=True)

# Content-Length
BAD_LENGTHS: tuple[tuple[str, bytes], ...] = (
    ("CL-plus", b"Content-Length: +5"),
    ("CL-minus", b"Content-Length: -5"),
    ("minus zero", b"Content-Length: -0"),
    ("CL-e", b"Content-Length: 5e0"),
    ("CL-dec", b"Content-Length: 5.0"),
    ("CL-commaprefix", b"Content-Length: 0, 5"),
    ("CL-commasuffix", b"Content-Length: 5, 0"),
    ("CL-spacepad", b"Content-Length: 0 5"),
    ("CL-error", b"X-Invalid Y: \r\nContent-Length: 5"),
    ("agreeing list", b"Content-Length: 5, 5"),
    ("agreeing list of three", b"Content-Length: 5,5,5"),
    ("comma before", b"Content-Length: ,5"),
    ("comma after", b"Content-Length: 5,"),
    ("hex prefix", b"Content-Length: 0x5"),
    ("hex digit", b"Content-Length: a"),
    ("octal prefix", b"Content-Length: 0o5"),
    ("binary prefix", b"Content-Length: 0b101"),
    ("underscore", b"Content-Length: 0_5"),
    ("letter behind", b"Content-Length: 5Z"),
    ("semicolon", b"Content-Length: 5;"),
    ("slash", b"Content-Length: 5/5"),
    ("quoted", b'Content-Length: "5"'),
    ("not a number", b"Content-Length: NaN"),
    ("empty", b"Content-Length:"),
    ("blanks", b"Content-Length: \t "),
    ("empty and one", b"Content-Length:\r\nContent-Length: 5"),
    ("one and empty", b"Content-Length: 5\r\nContent-Length:"),
    ("two that agree", b"Content-Length: 5\r\nContent-Length: 5"),
    ("two: 0 and 5", b"Content-Length: 0\r\nContent-Length: 5"),
    ("two: 5 and 0", b"Content-Length: 5\r\nContent-Length: 0"),
    ("two in two cases", b"Content-Length: 5\r\ncontent-length: 0"),
    ("two spellings", b"Content-Length: 5\r\nContent-Length: 05"),
    ("list and one", b"Content-Length: 5,5\r\nContent-Length: 5"),
    ("space before the colon", b"Content-Length : 5"),
    ("tab before the colon", b"Content-Length\t: 5"),
    ("no colon", b"Content-Length 5"),
    ("name with a space", b"Content Length: 5"),
    ("folded", b"Content-Length:\r\n 5"),
    ("folded number", b"Content-Length: 5\r\n 0"),
    ("behind a fold", b"Foo: bar\r\n Content-Length: 5"),
    ("behind LF", b"Foo: bar\nContent-Length: 5"),
    ("behind CR", b"Foo: bar\rContent-Length: 5"),
    ("behind NUL", b"Foo: bar\0Content-Length: 5"),
    ("vertical tab", b"Content-Length: \x0b5"),
    ("form feed", b"Content-Length: 5\x0c"),
    ("NUL", b"Content-Length: 5\0"),
    ("CR", b"Content-Length: 5\r"),
    ("CR inside", b"Content-Length: 5\r0"),
    ("nel in the name", b"Content-Length\x85: 5"),
    ("no-break space", b"Content-Length: \xa05"),
    ("Arabic digit", "Content-Length: \u0665".encode()),
    ("full-width digit", "Content-Length: \uff15".encode()),
    ("superscript", b"Content-Length: \xb9"),
    ("19 digits", b"Content-Length: 1000000000000000000"),
    ("2 to the 32nd and 5, signed", b"Content-Length: +4294967301"),
    ("2 to the 64th and 5", b"Content-Length: 18446744073709551621"),
    ("minus the rest", b"Content-Length: -48"),
    ("bigpad of a thousand", b"Content-Length: " + b"0" * 1000 + b"5"),
)

lengths = Family("Content-Length")
for _name, _line in BAD_LENGTHS:
    lengths.refused(_name, post(_line, body=b"hello" + SMUGGLED))
    lengths.refused(f"GET: {_name}", post(_line, body=b"hello" + SMUGGLED, start=b"GET /mark0000 HTTP/1.1"))
for _name, _line in (
    ("vanilla", b"Content-Length: 5"),
    ("no blank", b"Content-Length:5"),
    ("tab", b"Content-Length:\t5"),
    ("blanks around", b"Content-Length:   5  "),
    ("CL-pad", b"Content-Length: 05"),
    ("CL-bigpad", b"Content-Length: 000000000005"),
    ("octal look", b"Content-Length: 0000005"),
    ("multiCase", b"cONTENT-LENGTH: 5"),
    ("underscore name beside it", b"Content_Length: 0\r\nContent-Length: 5"),
    ("CGI name beside it", b"CONTENT_LENGTH: 99\r\nContent-Length: 5"),
    ("named by Connection", b"Connection: Content-Length\r\nContent-Length: 5"),
    ("named by Connection after", b"Content-Length: 5\r\nConnection: keep-alive, content-length"),
):
    lengths.passed(_name, post(_line, body=b"hello"))
    lengths.passed(f"with a hidden request: {_name}", post(_line, body=b"hello" + SMUGGLED))

# A body where some server expects none, and none where some server expects one.
zero = Family("CL.0, 0.CL")
for _method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"PATCH", b"PROPFIND", b"QUERY"):
    _start = b"%b /mark0000 HTTP/1.1" % _method
    _name = _method.decode()
    zero.passed(f"{_name} with a body", post(length(SMUGGLED), body=SMUGGLED, start=_start))
    zero.passed(f"{_name} with half a request", post(length(PREFIX), body=PREFIX, start=_start))
    zero.passed(f"{_name} with none", post(b"Content-Length: 0", start=_start))
zero.passed("POST without a length", post(body=SMUGGLED))
zero.passed("POST with a hidden request", post(length(SMUGGLED), body=SMUGGLED))
zero.passed("POST with half a request", post(length(PREFIX), body=PREFIX))
zero.passed("static path", post(length(PREFIX), body=PREFIX, start=b"POST /mark0000/logo.png HTTP/1.1"))
zero.passed("folder without a slash", post(length(PREFIX), body=PREFIX, start=b"POST /mark0000/folder HTTP/1.1"))
zero.passed("range", post(length(PREFIX), b"Range: bytes=0-0", body=PREFIX, start=b"GET /mark0000 HTTP/1.1"))
zero.passed("Windows device names", post(length(PREFIX), body=PREFIX, start=b"GET /mark0000/con HTTP/1.1"))
zero.passed("close", post(length(PREFIX), b"Connection: close", body=PREFIX))
zero.passed("HTTP/1.0", post(length(SMUGGLED), body=SMUGGLED, start=b"POST /mark0000 HTTP/1.0"))
zero.passed("HTTP/1.0 kept alive", post(length(SMUGGLED), b"Connection: keep-alive", body=SMUGGLED, start=b"POST /mark0000 HTTP/1.0"))
zero.passed("early answer", post(length(SMUGGLED), b"X-Early: 1", body=SMUGGLED) + get(target=b"/mark0000/2"))
zero.passed("early answer to chunks", post(CODING, b"X-Early: 1", body=chunked(SMUGGLED, PREFIX)) + get(target=b"/mark0000/2"))
zero.passed("early answer to a large body", post(length(SMUGGLED * 2000), b"X-Early: 1", body=SMUGGLED * 2000))
zero.passed("length for the next as well", post(b"Content-Length: 1", body=b"x") + get(target=b"/mark0000/2"))
zero.refused("length beyond what comes", post(b"Content-Length: 5000", body=SMUGGLED), pauses=True)
zero.refused("chunks that do not end", post(CODING, body=b"5\r\nhel"), pauses=True)
zero.refused("no Host at all", head(b"POST /mark0000 HTTP/1.1", length(SMUGGLED), host=b"") + SMUGGLED)

FAMILIES = (cl_te_family, te_cl_family, te_te_family, sweep, lengths, zero)
