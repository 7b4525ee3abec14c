"""`compression`: gzip, brotli and zstd for answers that gain by it.

Two modes that differ in when they look at an answer: the usual one after all other
plugins have had it (and at what plugins answer themselves), `mode = "upstream"` as soon as
the backend's head has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from pingap.stages.header_view import Headers
from pingap.stages.plugins.api import Host, Plugin, Settings, Step, Trouble
from pingap.stages.plugins.builtin.encodings import BR, DECODERS, GZIP, ZSTD, Encoder, choose, codings_of, qualities, weaken
from pingap.stages.plugins.exchange import CONTINUE, SKIP, Exchange, Hook, ResponseHead, Result

_KEPT: Final = 1024
"""Values of Accept-Encoding and Content-Type whose verdict is remembered."""

_LEAST: Final = 20
"""Bytes; whatever is shorter only grows. Upstream mode compresses all, as documented."""

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


class CompressionSettings(Settings):
    gzip_level: Annotated[int, Field(ge=0, le=9)] = 0
    """0 is off."""
    br_level: Annotated[int, Field(ge=0, le=11)] = 0
    """0 is off."""
    zstd_level: Annotated[int, Field(ge=0, le=22)] = 0
    """0 is off."""
    mode: Literal["", "upstream"] = ""
    min_length: Annotated[int, Field(ge=0)] = 0
    """Bytes; answers that are known to be shorter are left alone."""
    decompression: bool = False
    """Unpack gzip and brotli answers for clients that do not take them."""
    content_types: list[str] = Field(default_factory=list)
    """What is compressed, as `text/*` and `application/json`, instead of the usual. Ours, not the reference's."""


class Compression(Plugin[CompressionSettings]):
    category = "compression"
    model = CompressionSettings
    steps = ("early_request",)
    is_outermost = True

    def __init__(self, settings: CompressionSettings) -> None:
        super().__init__(settings)
        self._levels = {GZIP: settings.gzip_level, BR: settings.br_level, ZSTD: settings.zstd_level}
        self._is_upstream = settings.mode == "upstream"
        self._least = settings.min_length if self._is_upstream else max(settings.min_length, _LEAST)
        types = settings.content_types or (UPSTREAM_TYPES if self._is_upstream else USUAL_TYPES)
        self._types = frozenset(name.lower() for name in types if not name.endswith("/*"))
        self._families = frozenset(name[:-1].lower() for name in types if name.endswith("/*"))
        self._chosen: dict[bytes, str] = {}
        self._verdicts: dict[bytes, bool] = {}
        self._host: Host | None = None

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if not any(self._levels.values()) and not settings.decompression:
            yield "gzip_level", "all levels are 0, so that nothing would be compressed", "gzip_level = 6"
        for index, name in enumerate(settings.content_types):
            if name.count("/") != 1 or name.startswith("/") or name.endswith("/"):
                yield f"content_types[{index}]", f"{name!r} is not a media type", 'write "text/html" or "text/*"'

    def start(self, host: Host) -> None:
        self._host = host

    def hooks(self) -> Mapping[Step, Hook]:
        return {"upstream_response" if self._is_upstream else "response": self.respond}

    def respond(self, exchange: Exchange) -> Result:
        """Decides about one answer."""
        response = exchange.response
        assert response is not None
        headers = response.headers
        if response.status in (204, 206) or response.status < 200:
            return SKIP
        control = headers.joined(b"cache-control: ")
        if control is not None and b"no-transform" in control.lower():
            return SKIP
        accepted = exchange.headers.joined(b"accept-encoding: ") or b""
        if response.status == 304:
            self._not_modified(exchange, headers, accepted)
            return CONTINUE
        coded = codings_of(headers)
        if coded and not self._unpack(exchange, response, coded, accepted):
            return SKIP
        if not self._is_compressible(headers.first(b"content-type: ") or b""):
            return CONTINUE
        length = response.length
        if length is not None and not coded and length < self._least:
            return CONTINUE
        self._vary(headers)
        coding = self._choose(accepted)
        if not coding:
            return CONTINUE
        weaken(headers)  # of HEAD too: it tells what GET would get
        if not exchange.has_response_body:
            return CONTINUE
        headers.set("content-encoding", coding)
        headers.remove("accept-ranges")
        exchange.transform_response(Encoder(exchange, coding, self._levels[coding], self._host))
        return CONTINUE

    def _not_modified(self, exchange: Exchange, headers: Headers, accepted: bytes) -> None:
        """A 304 has the Vary and the ETag that the 200 would have had (RFC 9110 section 15.4.5), which it seldom tells the type of."""
        tag = headers.first(b"etag: ")
        was_weak = tag is not None and b"W/" + tag in (exchange.headers.joined(b"if-none-match: ") or b"")  # the client has it from us
        content_type = headers.first(b"content-type: ")
        may_be_coded = any(self._levels.values()) and (content_type is None or self._is_compressible(content_type))
        if was_weak or may_be_coded:
            self._vary(headers)
        if was_weak or (may_be_coded and self._choose(accepted)):
            weaken(headers)

    def _unpack(self, exchange: Exchange, response: ResponseHead, coded: list[str], accepted: bytes) -> bool:
        """True if the answer goes on uncoded."""
        name = coded[0]
        decoder = DECODERS.get(name) if len(coded) == 1 else None
        if decoder is None or not self.settings.decompression:
            return False
        self._vary(response.headers)
        wanted = qualities(accepted)
        if wanted.get(name, wanted.get("*", 0.0)) > 0 or not exchange.has_response_body:
            return False
        response.headers.remove("content-encoding")
        response.headers.remove("accept-ranges")
        weaken(response.headers)
        exchange.transform_response(decoder())
        return True

    def _choose(self, accepted: bytes) -> str:
        chosen = self._chosen.get(accepted)
        if chosen is None:
            if len(self._chosen) >= _KEPT:
                self._chosen.clear()
            chosen = self._chosen[accepted] = choose(accepted, self._levels)
        return chosen

    def _is_compressible(self, content_type: bytes) -> bool:
        verdict = self._verdicts.get(content_type)
        if verdict is None:
            name = content_type.partition(b";")[0].strip().lower().decode("latin-1")
            verdict = name in self._types or (name.partition("/")[0] + "/" in self._families and name != EVENTS)
            if not self.settings.content_types and not self._is_upstream:
                verdict = verdict or name.endswith(("+json", "+xml"))
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            self._verdicts[content_type] = verdict
        return verdict

    @staticmethod
    def _vary(headers: Headers) -> None:
        """Caches must know that the answer depends on Accept-Encoding, also where it was not compressed."""
        names = [name.strip() for name in (headers.joined(b"vary: ") or b"").lower().split(b",")]
        if b"accept-encoding" not in names and b"*" not in names:
            headers.add("vary", "accept-encoding")
