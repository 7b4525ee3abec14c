"""Whether an answer gets a content coding, which, and what its head says then. Decides; does nothing itself.

One set of rules for whoever codes: upstream and plugins hold the same `CodingRules` of a `compression` section, so that an answer
looks the same wherever it was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap.stages.header_view import Headers
from pingap.stages.headers import cutter, joined, value_of

CATEGORY: Final = "compression"
"""Of the plugin whose sections are read here."""

GZIP: Final = "gzip"
BR: Final = "br"
ZSTD: Final = "zstd"

PRIORITY: Final = (ZSTD, BR, GZIP)
"""Among codings that the client likes equally."""

SLOW: Final[Mapping[str, int]] = {GZIP: 8, BR: 9, ZSTD: 12}
"""From this level on 64 KiB take about 2 ms and more (Brotli 12 from 9 on, where 8 takes 1.3): they are compressed in a thread."""

DECODED: Final = frozenset((GZIP, "x-gzip", BR))
"""Codings that can be undone. Not zstd: one block of a few bytes may unpack to 128 KiB, and its library takes no limit."""

BUILTIN: Final[Mapping[str, dict[str, Any]]] = {
    "pingap:compression": {"category": CATEGORY, "gzip_level": 6, "br_level": 6, "zstd_level": 6},
    "pingap:compressionUpstream": {"category": CATEGORY, "gzip_level": 6, "br_level": 6, "zstd_level": 6, "mode": "upstream"},
}
"""Sections that a location may name without there being one; one of the same name takes its place."""

UPSTREAM_TYPES: Final = ("application/json", "application/xml", "text/*")
USUAL_TYPES: Final = (
    *UPSTREAM_TYPES,
    "application/javascript",
    "application/x-javascript",
    "application/wasm",
    "application/xhtml+xml",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
    "image/x-icon",
)
EVENTS: Final = "text/event-stream"

ACCEPT_RANGES: Final = b"accept-ranges: "
"""The line that a coded answer must not have, nor get by its trailers."""

_CUT_RANGES: Final = cutter((b"accept-ranges",))
_CUT_CODING: Final = cutter((b"content-encoding", b"accept-ranges"))

_LEAST: Final = 20
"""Bytes; whatever is shorter only grows. Upstream mode compresses all, as documented."""

_KEPT: Final = 1024
"""Values of Accept-Encoding and Content-Type whose verdict is remembered."""


class CodingVerdict(NamedTuple):
    """What becomes of an answer."""

    headers: bytes
    """Its header block as it goes on."""
    coding: str = ""
    """Its body is to get this coding; "" for none."""
    decoding: str = ""
    """Its body is to lose this coding first; "" for none."""


class CodingRules:
    """What a `compression` section says."""

    __slots__ = ("_chosen", "_decodes", "_families", "_is_early", "_is_usual", "_least", "_types", "_verdicts", "is_cheap", "levels")

    def __init__(self, section: Mapping[str, Any]) -> None:
        """section: checked, as it is written; keys may be missing."""
        self.levels: Final[Mapping[str, int]] = {
            GZIP: section.get("gzip_level", 0),
            BR: section.get("br_level", 0),
            ZSTD: section.get("zstd_level", 0),
        }
        """Coding → level; 0 is off."""
        self._is_early = section.get("mode", "") == "upstream"
        least: int = section.get("min_length", 0)
        self._least = least if self._is_early else max(least, _LEAST)
        self._decodes: bool = section.get("decompression", False)
        own: Sequence[str] = section.get("content_types", ())
        types = own or (UPSTREAM_TYPES if self._is_early else USUAL_TYPES)
        self._is_usual = not own and not self._is_early
        self._types = frozenset([name.lower() for name in types if not name.endswith("/*")])
        self._families = frozenset([name[:-1].lower() for name in types if name.endswith("/*")])
        self._chosen: dict[bytes, str] = {}
        self._verdicts: dict[bytes, bool] = {}
        self.is_cheap = not self._decodes and all(level < SLOW[coding] for coding, level in self.levels.items())
        """Nothing takes long, and nothing is unpacked: no thread is needed, and no more comes out than went in."""

    def decide(self, is_head: bool, request: bytes, status: int, headers: bytes, length: int) -> CodingVerdict:
        """is_head: the request is HEAD. request, headers: the header blocks of request and answer.
        length: bytes of the answer's body, negative when it is not known.
        """
        if status == 204 or status < 200:
            return CodingVerdict(headers)
        if headers.find(b"cache-control: ") >= 0:  # `in` costs twice a find, for it makes an exception
            control = joined(headers, b"cache-control")
            if control is not None and b"no-transform" in control.lower():
                return CodingVerdict(headers)
        accepted = joined(request, b"accept-encoding") or b""
        if status == 304:
            return CodingVerdict(self._not_modified(request, headers, accepted))
        if status == 206:  # a part of what is not coded has the Vary that the whole has (section 15.3.7)
            may_be_coded = any(self.levels.values()) and headers.find(b"content-encoding: ") < 0
            is_told = may_be_coded and self._is_compressible(value_of(headers, b"content-type") or b"")
            return CodingVerdict(varying(headers) if is_told else headers)
        decoding = ""
        if headers.find(b"content-encoding: ") >= 0 and (coded := codings_of(headers)):
            decoding = self._decoding(coded)
            if not decoding:
                return CodingVerdict(headers)
            headers = varying(headers)
            wanted = qualities(accepted)
            if is_head or wanted.get(decoding, wanted.get("*", 0.0)) > 0:
                return CodingVerdict(headers)
            headers = weakened(_CUT_CODING(headers))
        if not self._is_compressible(value_of(headers, b"content-type") or b""):
            return CodingVerdict(headers, "", decoding)
        if 0 <= length < self._least and not decoding:
            return CodingVerdict(headers)
        headers = varying(headers)
        coding = self._choose(accepted)
        if not coding:
            return CodingVerdict(headers, "", decoding)
        headers = weakened(headers)  # of HEAD too: it tells what GET would get
        if is_head:
            return CodingVerdict(headers)
        if headers.find(ACCEPT_RANGES) >= 0:
            headers = _CUT_RANGES(headers)
        return CodingVerdict(_with_coding(headers, coding), coding, decoding)

    def _not_modified(self, request: bytes, headers: bytes, accepted: bytes) -> bytes:
        """A 304 has the Vary and the ETag that the 200 would have had (RFC 9110 section 15.4.5), which it seldom tells the type of."""
        tag = value_of(headers, b"etag")
        was_weak = tag is not None and b"W/" + tag in (joined(request, b"if-none-match") or b"")  # the client has it from us
        content_type = value_of(headers, b"content-type")
        may_be_coded = any(self.levels.values()) and (content_type is None or self._is_compressible(content_type))
        is_coded = was_weak or (may_be_coded and bool(self._choose(accepted)))
        if was_weak or may_be_coded:
            headers = varying(headers)
        return weakened(headers) if is_coded else headers

    def _decoding(self, coded: list[str]) -> str:
        """The coding that may be undone; "" for none."""
        return coded[0] if self._decodes and len(coded) == 1 and coded[0] in DECODED else ""

    def _choose(self, accepted: bytes) -> str:
        chosen = self._chosen.get(accepted)
        if chosen is None:
            if len(self._chosen) >= _KEPT:
                self._chosen.clear()
            chosen = self._chosen[accepted] = choose(accepted, self.levels)
        return chosen

    def _is_compressible(self, content_type: bytes) -> bool:
        verdict = self._verdicts.get(content_type)
        if verdict is None:
            name = content_type.partition(b";")[0].strip().lower().decode("latin-1")
            verdict = name in self._types or (name.partition("/")[0] + "/" in self._families and name != EVENTS)
            if self._is_usual:
                verdict = verdict or name.endswith(("+json", "+xml"))
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            self._verdicts[content_type] = verdict
        return verdict


def coding_section(names: Sequence[str], sections: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first `compression` section among the plugins of a location; None when it has none. sections: of all plugins, by name."""
    for name in names:
        section = sections.get(name) or BUILTIN.get(name)
        if section is not None and section.get("category") == CATEGORY:
            return section
    return None


def qualities(accepted: bytes) -> dict[str, float]:
    """Name, in lower case → quality, of the value of an Accept-Encoding or another such header (RFC 9110 section 12.4.2); a malformed
    quality counts as 0."""
    found: dict[str, float] = {}
    for part in accepted.decode("latin-1").lower().split(","):
        name, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if name.strip():
            found[name.strip()] = quality
    return found


def choose(accept_encoding: bytes, levels: Mapping[str, int]) -> str:
    """The coding to use, "" for none: what the client likes best, then by our priority."""
    wanted = qualities(accept_encoding)
    best, best_quality = "", wanted.get("identity", 0.0)
    for coding in PRIORITY:
        quality = wanted.get(coding, 0.0)
        if levels[coding] and quality > 0 and (quality > best_quality or (not best and quality == best_quality)):
            best, best_quality = coding, quality
    return best


def codings_of(headers: bytes) -> list[str]:
    """The codings of a body, lower case, in the order in which they were applied; `identity` is none."""
    names = [name.strip() for name in (joined(headers, b"content-encoding") or b"").decode("latin-1").lower().split(",")]
    return [name for name in names if name not in ("", "identity")]


def weakened(headers: bytes) -> bytes:
    """The bytes are no longer those that a strong validator names (RFC 9110 section 8.8.1)."""
    at = _end_of_name(headers, b"etag: ")
    if at < 0 or headers.startswith(b"W/", at):
        return headers
    if headers.find(b"\netag: ", at) >= 0:  # there is to be one, and the first counts
        view = Headers(headers)
        view.set("etag", b"W/" + headers[at : headers.index(b"\r\n", at)])
        return view.raw
    return b"%bW/%b" % (headers[:at], headers[at:])


def varying(headers: bytes, name: bytes = b"accept-encoding") -> bytes:
    """Caches must know that the answer depends on a line of the request, also where that changed nothing. name: in lower case."""
    if headers.find(b"vary: ") >= 0:
        names = [listed.strip() for listed in (joined(headers, b"vary") or b"").lower().split(b",")]
        if name in names or b"*" in names:
            return headers
    return b"%bvary: %b\r\n" % (headers, name)


def _end_of_name(headers: bytes, line: bytes) -> int:
    """Where the value of the first line begins that begins with `line`; -1 when there is none."""
    if headers.startswith(line):
        return len(line)
    at = headers.find(b"\n" + line)
    return at + 1 + len(line) if at >= 0 else -1


def _with_coding(headers: bytes, coding: str) -> bytes:
    if headers.find(b"content-encoding: ") < 0:
        return b"%bcontent-encoding: %b\r\n" % (headers, coding.encode())
    view = Headers(headers)  # it says `identity`
    view.set("content-encoding", coding)
    return view.raw
