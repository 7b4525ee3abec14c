"""What a payload is, and the few shapes that most of them have.

Sources, named beside the lists: Linhart et al. "HTTP Request Smuggling" (2005); Kettle "HTTP Desync Attacks" (2019),
"HTTP/2: The Sequel is Always Worse" (2021), "Browser-Powered Desync Attacks" (2022), "HTTP/1.1 must die" (2025) and the
permutations of his tool http-request-smuggler; defparam's smuggler; Klein "HTTP Request Smuggling in 2020"; Jabiyev et al.
"T-Reqs" (2021); the HTTP Garden's list of bugs (Kallus, 2023 to 2025); Http11Probe; w4ke "Funky chunks" (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

MARK = b"mark0000"
"""Stands in every payload where a run puts a mark of its own, of the same length."""

SMUGGLED = b"GET /smuggled/mark0000 HTTP/1.1\r\nHost: a.example\r\nX-Mark: mark0000\r\n\r\n"
"""The request that an attacker hides: nobody may see it, unless the payload read by the book has it."""

PREFIX = b"GET /smuggled/mark0000 HTTP/1.1\r\nX-Mark: mark0000\r\nX-Ignore: "
"""The beginning of one, which would swallow the request line of whoever comes next."""


@dataclass(frozen=True, slots=True)
class Payload:
    family: str
    name: str
    wire: bytes
    verdict: str
    """What becomes of its first request: `passed` on to the origin, `answered` by pingap in the origin's place (OPTIONS), or
    `refused` by an error or a close."""
    only_raw: bool = False
    """One of a long sweep: said to the raw recorder only."""
    pauses: bool = False
    """The last line is incomplete on purpose: the refusal may come from a time-out."""
    only_recorders: bool = False
    """Some servers refuse it, before an application sees it."""


class Family:
    """Collects the payloads of one family; names may not repeat."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.payloads: dict[str, Payload] = {}

    def passed(self, name: str, wire: bytes, *, only_recorders: bool = False) -> None:
        self._add(Payload(self.name, name, wire, "passed", only_recorders=only_recorders))

    def answered(self, name: str, wire: bytes) -> None:
        self._add(Payload(self.name, name, wire, "answered"))

    def refused(self, name: str, wire: bytes, *, only_raw: bool = False, pauses: bool = False) -> None:
        self._add(Payload(self.name, name, wire, "refused", only_raw, pauses))

    def _add(self, payload: Payload) -> None:
        assert payload.name not in self.payloads, f"{self.name}: {payload.name} is there twice"
        self.payloads[payload.name] = payload


def head(start: bytes, *lines: bytes, host: bytes = b"Host: a.example") -> bytes:
    """A head with a Host line (host=b"" for none) and a marked line."""
    return b"\r\n".join([start, *([host] if host else []), b"X-Mark: mark0000", *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"", start: bytes = b"POST /mark0000 HTTP/1.1") -> bytes:
    return head(start, *lines) + body


def get(*lines: bytes, target: bytes = b"/mark0000", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return head(b"%b %b %b" % (method, target, version), *lines)


def chunked(*parts: bytes) -> bytes:
    """A plain chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


CL_TE_BODY = b"0\r\n\r\n" + SMUGGLED
"""Ends at once for who reads chunks; goes on for who counts."""

TE_CL_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
"""One chunk for who reads chunks; `Content-Length: 4` ends it before the hidden request."""


def cl_te(line: bytes, *more: bytes) -> bytes:
    return post(length(CL_TE_BODY), line, *more, body=CL_TE_BODY)


def te_cl(line: bytes, *more: bytes) -> bytes:
    return post(line, b"Content-Length: 4", *more, body=TE_CL_BODY)


def te_alone(line: bytes) -> bytes:
    """TE.0: who does not know the coding sees no body, and the hidden request behind the chunk's size line."""
    return post(line, body=chunked(SMUGGLED))
