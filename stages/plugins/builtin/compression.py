"""`compression`: gzip, brotli and zstd for answers that gain by it.

Two modes that differ in when they look at an answer: the usual one after all other
plugins have had it (and at what plugins answer themselves), `mode = "upstream"` as soon as
the backend's head has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from stages.plugins.api import Host, Plugin, Settings, Step, Trouble
from stages.plugins.builtin.encodings import BR, DECODERS, GZIP, ZSTD, Encoder, choose, qualities
from stages.plugins.exchange import CONTINUE, SKIP, Exchange, Hook, ResponseHead, Result

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
        if response.status in (204, 206, 304) or response.status < 200:
            return SKIP
        control = headers.first(b"cache-control: ")
        if control is not None and b"no-transform" in control.lower():
            return SKIP
        coded = headers.first(b"content-encoding: ")
        accepted = self._accepted(exchange)
        is_coded = coded is not None and coded.lower() != b"identity"
        if is_coded and not self._unpack(exchange, response, coded or b"", accepted):
            return SKIP
        if not self._is_compressible(headers.first(b"content-type: ") or b""):
            return CONTINUE
        length = response.length
        if length is not None and coded is None and length < self._least:
            return CONTINUE
        self._vary(response)
        coding = self._choose(accepted)
        if not coding or not exchange.has_response_body:
            return CONTINUE
        headers.set("content-encoding", coding)
        headers.remove("accept-ranges")
        _weaken(response)
        exchange.transform_response(Encoder(exchange, coding, self._levels[coding], self._host))
        return CONTINUE

    def _unpack(self, exchange: Exchange, response: ResponseHead, coded: bytes, accepted: bytes) -> bool:
        """True if the answer goes on uncoded."""
        name = coded.decode("latin-1").strip().lower()
        decoder = DECODERS.get(name)
        if decoder is None or not self.settings.decompression:
            return False
        self._vary(response)
        wanted = qualities(accepted)
        if wanted.get(name, wanted.get("*", 0.0)) > 0 or not exchange.has_response_body:
            return False
        response.headers.remove("content-encoding")
        response.headers.remove("accept-ranges")
        _weaken(response)
        exchange.transform_response(decoder())
        return True

    @staticmethod
    def _accepted(exchange: Exchange) -> bytes:
        values = exchange.headers.get_all("accept-encoding")
        return ", ".join(values).encode("latin-1") if len(values) > 1 else values[0].encode("latin-1") if values else b""

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
    def _vary(response: ResponseHead) -> None:
        """Caches must know that the answer depends on Accept-Encoding, also where it was not compressed."""
        said = ",".join(response.headers.get_all("vary")).lower()
        names = [name.strip() for name in said.split(",")]
        if "accept-encoding" not in names and "*" not in names:
            response.headers.add("vary", "accept-encoding")


def _weaken(response: ResponseHead) -> None:
    """The bytes are no longer those that a strong validator names (RFC 9110 section 8.8.1)."""
    tag = response.headers.first(b"etag: ")
    if tag is not None and not tag.startswith(b"W/"):
        response.headers.set("etag", b"W/" + tag)
