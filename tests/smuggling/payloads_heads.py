"""Heads: line ends, names, Host, request lines, targets and methods."""

from __future__ import annotations

from tests.smuggling.payload import MARK, SMUGGLED, Family, chunked, get, head, length, post

HIDDEN = b"X-Smuggled: 1"
"""A line that no origin may get from a value."""

ends = Family("Line ends, folding, NUL")
for _name, _line in (
    ("CR in a value", b"X-A: a\rb"),
    ("CR CR in a value", b"X-A: a\r\rb"),
    ("CR at the end of a value", b"X-A: a\r"),
    ("LF in a value", b"X-A: a\nb"),
    ("line behind LF", b"X-A: a\n" + HIDDEN),
    ("line behind CR", b"X-A: a\r" + HIDDEN),
    ("line behind LF CR", b"X-A: a\n\r" + HIDDEN),
    ("line behind CR CR LF", b"X-A: a\r\r\n" + HIDDEN),
    ("line behind NUL", b"X-A: a\0" + HIDDEN),
    ("line behind NUL CRLF", b"X-A: a\0\r\n" + HIDDEN),
    ("line behind NUL LF", b"X-A: a\0\n" + HIDDEN),
    ("line behind an escaped NUL", b"X-A: a\r\0\n" + HIDDEN),
    ("request behind LF LF", b"X-A: a\n\n" + SMUGGLED),
    ("request behind CR CR", b"X-A: a\r\r" + SMUGGLED),
    ("request behind CR LF LF", b"X-A: a\r\n\n" + SMUGGLED),
    ("request behind LF CR LF", b"X-A: a\n\r\n" + SMUGGLED),
    ("request behind LF CR LF CR", b"X-A: a\n\r\n\r" + SMUGGLED),
    ("request behind CRLF CR Z", b"X-A: a\r\n\rZ" + SMUGGLED),
    ("request behind LF space LF", b"X-A: a\n \n" + SMUGGLED),
    ("request behind CRLF space CRLF", b"X-A: a\r\n \r\n" + SMUGGLED),
    ("empty value and LF LF", b"Useless:\n\n" + SMUGGLED),
    ("folded by a space", b"X-A: a\r\n b"),
    ("folded by a tab", b"X-A: a\r\n\tb"),
    ("folded by LF", b"X-A: a\n b"),
    ("folded to nothing", b"X-A: a\r\n "),
    ("folded from nothing", b"X-A:\r\n a"),
    ("folded twice", b"X-A: a\r\n b\r\n c"),
    ("cookie with an end of head", b'Cookie: foo="\n\n"'),
    ("NUL in a value", b"X-A: a\0b"),
    ("NUL alone", b"X-A: \0"),
    ("NUL as a name", b"\0: a"),
    ("SOH in a value", b"X-A: a\x01b"),
    ("backspace in a value", b"X-A: a\x08b"),
    ("escape in a value", b"X-A: \x1b[0m"),
    ("DEL in a value", b"X-A: a\x7fb"),
):
    ends.refused(_name, get(_line))
for _name, _line in (
    ("tab in a value", b"X-A: a\tb"),
    ("high bytes in a value", b"X-A: \x85\xa0\xff"),
    ("empty value", b"X-A:"),
    ("colons in a value", b"X-A: :a::b:"),
    ("percent-encoded CRLF", b"X-A: a%0d%0aX-Smuggled: 1"),
    ("backslash r backslash n", b"X-A: a\\r\\nX-Smuggled: 1"),
    ("U+010D U+010A, whose low bytes are CR LF", "X-A: a\u010d\u010aX-Smuggled: 1".encode()),
):
    ends.passed(_name, get(_line))
ends.refused("bare LF all through", get().replace(b"\r\n", b"\n"))
ends.refused("bare CR all through", get().replace(b"\r\n", b"\r"), pauses=True)
ends.refused("LF CR all through", get().replace(b"\r\n", b"\n\r"))
ends.refused("head ended by LF", get()[:-2] + b"\n" + SMUGGLED)
ends.refused("head ended by CR", get()[:-2] + b"\r" + SMUGGLED)
ends.refused("head ended by CR LF LF", get()[:-2] + b"\n\n" + SMUGGLED)
ends.refused("request line ended by LF", get().replace(b"\r\n", b"\n", 1))
ends.refused("request line ended by CR", get().replace(b"\r\n", b"\r", 1))
ends.refused("request line ended by CR CR LF", get().replace(b"\r\n", b"\r\r\n", 1))
ends.refused("only one line end", b"GET /mark0000 HTTP/1.1\r\nHost: a.example\r\nX-Mark: mark0000\r\n", pauses=True)
ends.refused("space line first", b"GET /mark0000 HTTP/1.1\r\n \r\nHost: a.example\r\n\r\n")
ends.refused("folded first line", b"GET /mark0000 HTTP/1.1\r\n X-A: 1\r\nHost: a.example\r\n\r\n")
ends.refused("tab before the first line", b"GET /mark0000 HTTP/1.1\r\n\tContent-Length: 1\r\nHost: a.example\r\n\r\nX")
ends.passed("empty lines first", b"\r\n\r\n\r\n" + get())
ends.refused("bare LF first", b"\n" + get())
ends.refused("bare CR first", b"\r" + get())
ends.refused("space first", b" " + get())
ends.refused("NUL first", b"\0" + get())
ends.refused("byte order mark first", b"\xef\xbb\xbf" + get())
ends.refused("line of blanks first", b"  \r\n" + get())

names = Family("Header names")
for _name, _text in (
    ("empty", b": a"),
    ("lone colon", b":"),
    ("no colon", b"X-A"),
    ("space before the colon", b"X-A : a"),
    ("tab before the colon", b"X-A\t: a"),
    ("space inside", b"X A: a"),
    ("space before", b" X-A: a"),
    ("two colons first", b":: a"),
    ("pseudo field", b":path: /smuggled/mark0000"),
    ("quotes", b'"X-A": a'),
    ("parentheses", b"X(A): a"),
    ("slash", b"X/A: a"),
    ("semicolon", b"X;A: a"),
    ("comma", b"X,A: a"),
    ("less than", b"<X>: a"),
    ("at", b"X@A: a"),
    ("brackets", b"X[A]: a"),
    ("braces", b"X{A}: a"),
    ("backslash", b"X\\A: a"),
    ("equals", b"X=A: a"),
    ("question mark", b"X?A: a"),
    ("high byte", b"\xefoo: a"),
    ("nel", b"X-A\x85: a"),
    ("no-break space", b"X-A\xa0: a"),
    ("UTF-8", "X-\u00e4: a".encode()),
    ("NUL at the end", b"X-A\0: a"),
    ("LF inside", b"Te\nst: a"),
    ("CR inside", b"Te\rst: a"),
    ("vertical tab", b"X\x0bA: a"),
    ("DEL", b"X\x7fA: a"),
    ("all that are forbidden", bytes(range(1, 9)) + b' "(),/;<=>?@[]{}: a'),
    ("request line", b"GET /smuggled/mark0000 HTTP/1.1"),
):
    names.refused(_name, get(_text))
for _name, _text in (
    ("all that are allowed", b"X!#$%&'*+-.^_`|~0aZ: a"),
    ("digits", b"123: a"),
    ("a dash", b"-: a"),
    ("underscore of framing", b"Content_Length: 99"),
    ("underscore of the client", b"X_Real_IP: 9.9.9.9"),
    ("dot", b"X.Forwarded.For: 9.9.9.9"),
    ("long", b"X" * 300 + b": a"),
    ("value that looks like a request", b"X-A: GET /smuggled/mark0000 HTTP/1.1"),
):
    names.passed(_name, get(_text))
names.refused("too many lines", get(*[b"X-A: a"] * 120))
names.refused("too large", get(b"X-A: " + b"a" * 70_000))

hosts = Family("Host")
for _name, _line in (
    ("missing", b""),
    ("empty", b"Host:"),
    ("two that agree", b"Host: a.example\r\nHost: a.example"),
    ("two that differ", b"Host: a.example\r\nHost: b.example"),
    ("two, one spaced", b"Host: a.example\r\nHost : b.example"),
    ("two, one folded", b"Host: a.example\r\n Host: b.example"),
    ("folded", b"Host:\r\n a.example"),
    ("list", b"Host: a.example, b.example"),
    ("two words", b"Host: a.example b.example"),
    ("path", b"Host: a.example/smuggled"),
    ("query", b"Host: a.example?x"),
    ("fragment", b"Host: a.example#x"),
    ("user information", b"Host: x@a.example"),
    ("scheme", b"Host: http://a.example"),
    ("NUL", b"Host: a.example\0.evil.example"),
    ("backslash", b"Host: a.example\\evil"),
    ("high byte", b"Host: \xffa\xff"),
    ("port of letters", b"Host: a.example:x"),
    ("two ports", b"Host: a.example:80:81"),
    ("port too long", b"Host: a.example:8080808"),
    ("signed port", b"Host: a.example:+80"),
    ("open bracket", b"Host: [::1"),
    ("quotes", b'Host: "a.example"'),
    ("tab inside", b"Host: a\texample"),
    ("angle", b"Host: <a>"),
):
    hosts.refused(_name, head(b"GET /mark0000 HTTP/1.1", host=_line))
for _name, _line in (
    ("port", b"Host: a.example:80"),
    ("capitals", b"HOST: A.EXAMPLE"),
    ("blanks around", b"Host: \t a.example \t"),
    ("IPv6", b"Host: [::1]:8080"),
    ("final dot", b"Host: a.example."),
    ("named by Connection", b"Host: a.example\r\nConnection: Host"),
    ("other names", b"Host: a.example\r\nX-Host: b.example\r\nX-Forwarded-Host: c.example\r\nForwarded: host=d.example"),
):
    hosts.passed(_name, head(b"GET /mark0000 HTTP/1.1", host=_line))

targets = Family("Request targets")
for _name, _target in (
    ("absolute with another Host", b"http://b.example/mark0000"),
    ("absolute in capitals", b"HTTP://B.EXAMPLE/mark0000"),
    ("absolute https", b"https://b.example/mark0000"),
    ("absolute with a port", b"http://b.example:8080/mark0000"),
    ("absolute with a query only", b"http://b.example?mark0000"),
    ("two schemes, of which one is a host", b"http://http://b.example/mark0000"),
    ("absolute in the query", b"/mark0000?http://b.example/"),
    ("two slashes", b"//b.example/mark0000"),
    ("three slashes", b"///mark0000"),
    ("dots", b"/x/../mark0000/./y"),
    ("encoded slash and dots", b"/mark0000/%2e%2e%2fadmin"),
    ("encoded NUL", b"/mark0000/%00"),
    ("encoded CRLF", b"/mark0000%20HTTP/1.1%0d%0aX-Smuggled:%201"),
    ("bad percent", b"/mark0000/%zz%"),
    ("overlong UTF-8", b"/mark0000/%c0%af"),
    ("semicolon", b"/mark0000;/../admin"),
    ("backslash", b"/mark0000\\..\\admin"),
    ("question marks", b"/mark0000??a?b"),
    ("at", b"/mark0000@b.example"),
    ("colon", b"/mark0000:80"),
    ("quotes and brackets", b'/mark0000"<>[]{}|^`'),
    ("long", b"/mark0000/" + b"a" * 6000),
):
    targets.passed(_name, get(target=_target))
targets.answered("asterisk", get(target=b"*", method=b"OPTIONS"))
targets.answered("absolute without a path for OPTIONS", get(target=b"http://b.example", method=b"OPTIONS"))
targets.answered("asterisk with a body", post(length(SMUGGLED), body=SMUGGLED, start=b"OPTIONS * HTTP/1.1"))
targets.answered("asterisk with chunks", post(b"Transfer-Encoding: chunked", body=chunked(SMUGGLED), start=b"OPTIONS * HTTP/1.1"))
for _name, _target in (
    ("user information", b"http://x@b.example/mark0000"),
    ("user and password", b"http://x:y@b.example/mark0000"),
    ("no authority", b"http:///mark0000"),
    ("one slash", b"http:/mark0000"),
    ("no slash", b"http:mark0000"),
    ("another scheme", b"ftp://b.example/mark0000"),
    ("file", b"file:///mark0000"),
    ("javascript", b"javascript://b.example/mark0000"),
    ("backslashes", b"http:\\\\b.example\\mark0000"),
    ("backslash in the authority", b"http://b.example\\@c.example/mark0000"),
    ("fragment in the authority", b"http://b.example#@c.example/mark0000"),
    ("percent in the port", b"http://b.example:%38%30/mark0000"),
    ("asterisk for GET", b"*"),
    ("authority form for GET", b"b.example:80"),
    ("relative", b"mark0000"),
    ("dot first", b"./mark0000"),
    ("at first", b"@b.example/mark0000"),
    ("question mark first", b"?mark0000"),
    ("fragment", b"/mark0000#x"),
    ("exclamation mark", b"!"),
    ("empty", b""),
    ("high bytes in an authority", b"http://b\xc3\xa4.example/mark0000"),
    ("high bytes before a path", b"\xc3\xa4/mark0000"),
    ("high bytes and a control byte", b"/mark0000/\xc3\xa4\x1f"),
    ("space inside", b"/mark0000 /x"),
    ("tab inside", b"/mark0000\t/x"),
    ("two spaces", b" /mark0000"),
    ("trailing space", b"/mark0000 "),
    ("tab before", b"\t/mark0000"),
    ("NUL", b"/mark0000\0/x"),
    ("CR", b"/mark0000\r/x"),
    ("LF", b"/mark0000\nHTTP/1.1"),
    ("LF and a line", b"/mark0000 HTTP/1.1\nX-Smuggled: 1\nX: "),
    ("vertical tab", b"/mark0000\x0b/x"),
    ("form feed", b"/mark0000\x0cHTTP/1.1"),
    ("DEL", b"/mark0000\x7f"),
    ("two request lines in one", b"/mark0000 HTTP/1.1 GET /smuggled/mark0000"),
    ("too long", b"/mark0000/" + b"a" * 17_000),
):
    targets.refused(_name, get(target=_target))
for _name, _target in (
    ("high bytes", b"/mark0000/\xc3\xa4"),
    ("high bytes in a query", b"/mark0000?a=\xe4&b"),
    ("absolute with high bytes", b"http://b.example/mark0000/\xff"),
    ("nel", b"/mark0000/\x85"),
    ("no-break space", b"/mark0000\xa0HTTP/1.1"),
):
    targets.passed(_name, get(target=_target))
for _name, _target in (("authority", b"b.example:443"), ("origin form", b"/mark0000"), ("absolute", b"http://b.example/mark0000")):
    targets.refused(f"CONNECT {_name}", get(target=_target, method=b"CONNECT"))
targets.refused("OPTIONS and two asterisks", get(target=b"**", method=b"OPTIONS"))
targets.refused("absolute, Host missing, two hosts", head(b"GET http://b.example/mark0000 HTTP/1.1", host=b"Host: a\r\nHost: b"))
targets.refused("absolute without Host", head(b"GET http://b.example/mark0000 HTTP/1.1", host=b""))

versions = Family("Versions")
for _name, _version in (
    ("none", b""),
    ("0.9", b"HTTP/0.9"),
    ("1.2", b"HTTP/1.2"),
    ("1.9", b"HTTP/1.9"),
    ("2.0", b"HTTP/2.0"),
    ("2", b"HTTP/2"),
    ("2.2", b"HTTP/2.2"),
    ("3", b"HTTP/3.0"),
    ("1.10", b"HTTP/1.10"),
    ("1.32", b"HTTP/1.32"),
    ("01.1", b"HTTP/01.1"),
    ("1.01", b"HTTP/1.01"),
    ("1", b"HTTP/1"),
    ("1.", b"HTTP/1."),
    (".1", b"HTTP/.1"),
    ("11", b"HTTP/11"),
    ("1,1", b"HTTP/1,1"),
    ("lower case", b"http/1.1"),
    ("mixed case", b"Http/1.1"),
    ("other name", b"HTTPS/1.1"),
    ("short name", b"HTP/1.1"),
    ("ICE", b"ICE/1.0"),
    ("RTSP", b"RTSP/1.0"),
    ("sign", b"HTTP/+1.1"),
    ("minus", b"HTTP/-1.1"),
    ("overflow", b"HTTP/4294967297.1"),
    ("overflow of both", b"HTTP/4294967295.255"),
    ("dots", b"HTTP/............0596.7407."),
    ("space inside", b"HTTP/1.1 x"),
    ("space behind", b"HTTP/1.1 "),
    ("tab behind", b"HTTP/1.1\t"),
    ("CR CR inside", b"HTTP/\r\r1.1"),
    ("NUL behind", b"HTTP/1.1\0"),
    ("full-width", "HTTP/1.\uff11".encode()),
    ("twice", b"HTTP/1.1 HTTP/1.1"),
    ("letter behind", b"HTTP/1.1a"),
    ("no slash", b"HTTP1.1"),
    ("backslash", b"HTTP\\1.1"),
):
    versions.refused(_name, get(version=_version))
versions.refused("0.9 without a version", b"GET /mark0000\r\n\r\n")
versions.refused("0.9 ended by LF", b"GET /mark0000\n")
versions.refused("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED)
versions.passed("1.0", get(version=b"HTTP/1.0"))
versions.passed("1.0 kept alive", get(b"Connection: keep-alive", version=b"HTTP/1.0"))
versions.passed("1.0 with Keep-Alive only", get(b"Keep-Alive: timeout=5, max=1000", version=b"HTTP/1.0"))
versions.passed("1.0 without Host", head(b"GET /mark0000 HTTP/1.0", host=b""))

methods = Family("Methods")
for _name, _method in (
    ("lower case trace", b"trace"),
    ("mixed case connect", b"Connect"),
    ("long", b"A" * 300),
    ("very long", b"A" * 20_000),
    ("quotes", b'G=":<>(e),[T];?"'),
    ("at", b"G@ET"),
    ("NUL", b"GE\0T"),
    ("high byte", b"G\xcbT"),
    ("space first", b" GET"),
    ("tab first", b"\tGET"),
    ("tab behind", b"GET\t"),
    ("two spaces behind", b"GET "),
    ("two words", b"GET GET"),
    ("CR first", b"\rGET"),
    ("vertical tab behind", b"GET\x0b"),
    ("empty", b""),
    ("PRI", b"PRI"),
):
    methods.refused(_name, get(method=_method))
for _override in (b"X-HTTP-Method-Override: HEAD", b"X-HTTP-Method: HEAD", b"X-Method-Override: CONNECT", b"Method: HEAD"):
    methods.passed(_override.decode(), get(_override))
for _method in (b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"):
    methods.passed(_method.decode(), get(method=_method))
    methods.passed(f"{_method.decode()} and two more", get(method=_method) + get(target=b"/mark0000/2") + get(target=b"/mark0000/3"))
for _name, _method in (
    ("lower case", b"get"),
    ("mixed case", b"Get"),
    ("lower case HEAD", b"head"),
    ("longer", b"GETS"),
    ("prefix", b"GETGET"),
    ("unknown", b"SLUDGE"),
    ("digit", b"0"),
    ("token characters", b"!#$%&'*+-.^_`|~"),
    ("dot", b"G.ET"),
    ("chunk size", b"5"),
    ("SOURCE", b"SOURCE"),
    ("DEBUG", b"DEBUG"),
):
    _start = b"%b /mark0000 HTTP/1.1" % _method
    _both = post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=chunked(), start=_start)
    for _case, _wire in (
        ("and two more", get(method=_method) + get(target=b"/mark0000/2") + get(target=b"/mark0000/3")),
        ("with a length", post(length(SMUGGLED), body=SMUGGLED, start=_start)),
        ("with chunks", post(b"Transfer-Encoding: chunked", body=chunked(SMUGGLED), start=_start)),
    ):
        methods.passed(f"{_name} {_case}", _wire, only_recorders=True)
    methods.refused(f"{_name} with both", _both)
methods.refused("TRACE", get(method=b"TRACE"))
methods.passed("HEAD with chunks", post(b"Transfer-Encoding: chunked", body=chunked(b"x"), start=b"HEAD /mark0000 HTTP/1.1"))
methods.passed("HEAD with a length", post(length(SMUGGLED), body=SMUGGLED, start=b"HEAD /mark0000 HTTP/1.1"))

FAMILIES = (ends, names, hosts, targets, versions, methods)
assert MARK in SMUGGLED
