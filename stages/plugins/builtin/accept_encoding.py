"""`accept_encoding`: leaves in the client's Accept-Encoding header only the codings that you name, in your order.

Caches before and behind see fewer variants, and a backend that compresses badly, or with a coding that you do not
want, is not asked to. A request without the header stays as it is. From one in which none of your codings is left the
header is taken away, and the answer is not compressed.

`compression` decides by what is left, wherever it stands in the list of plugins: with `encodings = "gzip"` a browser
that likes brotli gets gzip.

A coding is taken for one that the client likes when it lists it, or lists `*` and not it, with a quality above 0; that
is all that is looked at of qualities, for the order is yours. `x-gzip` is `gzip`. Several lines of the header are one list.

Unlike pingap 0.13.9: a TOML list is understood, where there it takes the header away from every request; `*` counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from pingap.plugin import CONTINUE, SKIP, Exchange, Plugin, Result, Settings, Trouble, Words, qualities

_LINE: Final = b"accept-encoding: "
_TOKEN: Final = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+")
_OTHER_NAMES: Final = {"gzip": "x-gzip", "compress": "x-compress"}
"""RFC 9110 section 8.4.1: recipients take the one for the other."""

_KEPT: Final = 1024
"""Values whose outcome is remembered; past it they are forgotten all at once."""

_LONGEST: Final = 256
"""Bytes of a value that is remembered. Browsers send about 30."""


class AcceptEncodingSettings(Settings):
    encodings: Words = Field(default_factory=list)
    """The codings that stay, the one that you prefer first: `"zstd, br, gzip"` or `["zstd", "br", "gzip"]`. Without any, every
    request loses the header."""
    only_one_encoding: bool = False
    """Only the first of them that the client takes stays."""


class AcceptEncoding(Plugin[AcceptEncodingSettings]):
    category = "accept_encoding"
    model = AcceptEncodingSettings

    def __init__(self, settings: AcceptEncodingSettings) -> None:
        super().__init__(settings)
        self._names = tuple(dict.fromkeys(name.lower() for name in settings.encodings))
        self._kept: dict[bytes, str] = {}

    def check(self) -> Iterator[Trouble]:
        for name in self.settings.encodings:
            if not _TOKEN.fullmatch(name):
                yield "encodings", f"{name!r} is not the name of a content coding", 'write "br, gzip": qualities and "*" have no place here'

    def early_request(self, exchange: Exchange) -> Result:
        asked = exchange.headers.joined(_LINE)
        if not asked:
            return SKIP  # an empty one asks for no coding, as it does
        kept = self._kept.get(asked)
        if kept is None:
            kept = self._left_of(asked)
            if len(asked) <= _LONGEST:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[asked] = kept
        if kept:
            exchange.headers["accept-encoding"] = kept
        else:
            exchange.headers.remove("accept-encoding")
        return CONTINUE

    def _left_of(self, asked: bytes) -> str:
        liked = qualities(asked)
        names = [name for name in self._names if _quality(liked, name) > 0]
        return ", ".join(names[:1] if self.settings.only_one_encoding else names)


def _quality(liked: dict[str, float], name: str) -> float:
    for listed in (name, _OTHER_NAMES.get(name, "")):
        if listed in liked:
            return liked[listed]
    return liked.get("*", 1.0 if name == "identity" else 0.0)
