"""`compression`: gzip, brotli and zstd for answers that gain by it.

Two modes that differ in when they look at an answer: the usual one after all other
plugins have had it (and at what plugins answer themselves), `mode = "upstream"` as soon as
the backend's head has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from pingap.plugin import CONTINUE, Exchange, Hook, Host, Plugin, Result, Settings, Step, Trouble
from pingap.stages.coding.rules import ACCEPT_RANGES, CATEGORY, CodingRules
from pingap.stages.plugins.builtin.encodings import DECODERS, Compressor


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
    category = CATEGORY
    model = CompressionSettings
    steps = ("early_request",)
    is_outermost = True

    def __init__(self, settings: CompressionSettings) -> None:
        super().__init__(settings)
        self.rules = CodingRules(settings.model_dump())
        self._host: Host | None = None

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if not any(self.rules.levels.values()) and not settings.decompression:
            yield "gzip_level", "all levels are 0, so that nothing would be compressed", "gzip_level = 6"
        for index, name in enumerate(settings.content_types):
            if name.count("/") != 1 or name.startswith("/") or name.endswith("/"):
                yield f"content_types[{index}]", f"{name!r} is not a media type", 'write "text/html" or "text/*"'

    def start(self, host: Host) -> None:
        self._host = host

    def hooks(self) -> Mapping[Step, Hook]:
        return {"upstream_response" if self.settings.mode == "upstream" else "response": self.respond}

    def respond(self, exchange: Exchange) -> Result:
        """Decides about one answer."""
        response = exchange.response
        assert response is not None
        headers, rules = response.headers, self.rules
        length = response.length
        size = -1 if length is None else length
        block, coding, decoding = rules.decide(exchange.method == "HEAD", exchange.headers.raw, response.status, headers.raw, size)
        headers.raw = block
        if decoding:
            exchange.transform_response(DECODERS[decoding]())
        if coding:
            exchange.transform_response(Compressor(exchange, coding, rules.levels[coding], self._host))
        if (coding or decoding) and ACCEPT_RANGES not in headers.removed:
            headers.removed = (*headers.removed, ACCEPT_RANGES)
        return CONTINUE
