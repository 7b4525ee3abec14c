"""`compression`: gzip, brotli and zstd for answers that gain by it.

What the client likes best wins; among equals zstd, then br, then gzip. It runs at `response`, after all other plugins and on
what they answer, too; in upstream mode at `upstream_response`. (`step = "early_request"` is accepted, as existing files have
it.)

Left alone: answers that have a Content-Encoding, `Cache-Control: no-transform`,
HEAD, 204, 206, 304, and `text/event-stream` unless `content_types` names it. A
compressed answer has `Vary: accept-encoding` (so has one that could have been
compressed, and a part of one), a weak ETag and no Accept-Ranges. Each piece that a slow backend sends
can be unpacked as soon as it arrives; an answer of up to 64 KiB whose length the backend tells is
compressed in one piece and has a Content-Length, unless the backend pauses for 20 ms within it. What the `cache` plugin of the location
has stored is compressed once for each coding: the result is kept there, too. For the access log:
`{:compression_ratio}`, `{:compression_time}`.

Where this is all that a location's plugins do with answers, upstream does it and the answer does not
visit plugins ([0015](decisions/0015-who-compresses.md)); with `decompression`, with gzip from level 8,
br from 9 or zstd from 12 on, and beside other plugins that look at answers, plugins does.

Unlike pingap 0.13.9: quality values are honoured, `min_length` holds in both modes, event streams are left alone, and brotli and
zstd use a window of 256 KiB. zstd is not unpacked by `decompression`. A section that would compress nothing is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from pingap.plugin import CONTINUE, Exchange, Hook, Host, Plugin, Result, Settings, Step, Transformer, Trouble
from pingap.stages.coding.rules import ACCEPT_RANGES, CATEGORY, CodingRules
from pingap.stages.plugins.builtin.encodings import DECODERS, Compressor


class CompressionSettings(Settings):
    gzip_level: Annotated[int, Field(ge=0, le=9)] = 0
    """0 is off; 6 costs up to 13 µs a KB of text, 2 half of that for about a tenth more bytes; 1 costs a quarter, for half as many bytes
    again."""
    br_level: Annotated[int, Field(ge=0, le=11)] = 0
    """0 is off; from 9 on, long pieces are compressed in a thread."""
    zstd_level: Annotated[int, Field(ge=0, le=22)] = 0
    """0 is off."""
    mode: Literal["", "upstream"] = ""
    """`"upstream"`: compress the backend's answer before other plugins see it; only JSON, XML and `text/*`."""
    min_length: Annotated[int, Field(ge=0)] = 0
    """Bytes; answers that are known to be shorter are left alone; outside upstream mode never less than 20."""
    decompression: bool = False
    """Unpack gzip and brotli answers for clients that do not take them."""
    content_types: list[str] = Field(default_factory=list)
    """What is compressed, as `"text/*"` or `"application/json"`, instead of the usual types. Ours."""


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

    def respond(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Decides about one answer."""
        response = exchange.response
        assert response is not None
        headers, rules = response.headers, self.rules
        length = response.length
        size = -1 if length is None else length
        block, coding, decoding = rules.decide(exchange.method == "HEAD", exchange.headers.raw, response.status, headers.raw, size)
        headers.raw = block
        if not coding and not decoding:
            return CONTINUE
        if ACCEPT_RANGES not in headers.removed:
            headers.removed = (*headers.removed, ACCEPT_RANGES)
        level = rules.levels[coding] if coding else 0
        waits = exchange.derive_response(f"{decoding}>{coding}{level}", partial(self._coders, exchange, coding, decoding))
        return CONTINUE if waits is None else _go_on(waits)

    def _coders(self, exchange: Exchange, coding: str, decoding: str) -> Iterator[Transformer]:
        if decoding:
            yield DECODERS[decoding]()
        if coding:
            yield Compressor(exchange, coding, self.rules.levels[coding], self._host)


async def _go_on(waits: Awaitable[None]) -> Result:
    await waits
    return CONTINUE
