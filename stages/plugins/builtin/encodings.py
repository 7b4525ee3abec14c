"""Bodies coded and decoded on their way through plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, cast

import brotli
from zlib_ng import zlib_ng

from pingap.plugin import Exchange, Host, Transformer
from pingap.stages.coding.encoders import Encoder
from pingap.stages.coding.rules import BR, GZIP, SLOW

_LONG: Final = 64 * 1024

_GZIP_ERROR: Final = cast("type[Exception]", zlib_ng.error)
"""Its types have an instance here. It is no `zlib.error`."""

_OUT: Final = 64 * 1024
"""Most bytes that a decoder gives out at once, whatever a few bytes may unpack to."""


class Compressor(Transformer):
    """Compresses a body; says in the context how long that took and how well it went."""

    def __init__(self, exchange: Exchange, coding: str, level: int, host: Host | None) -> None:
        self._exchange = exchange
        self._encoder = Encoder(coding, level)
        self._host = host if level >= SLOW[coding] else None

    def feed(self, data: bytes, ended: bool) -> bytes | Awaitable[bytes]:
        if self._host is not None and len(data) >= _LONG:
            return self._aside(self._host, data, ended)
        return self._told(self._encoder.feed(data, ended), ended)

    def whole(self, body: bytes) -> bytes | None:
        if self._host is not None and len(body) >= _LONG:
            return None
        return self._told(self._encoder.feed(body, True), True)

    async def _aside(self, host: Host, data: bytes, ended: bool) -> bytes:
        return self._told(await host.in_thread(self._encoder.feed, data, ended), ended)

    def _told(self, out: bytes, ended: bool) -> bytes:
        if ended:
            self._exchange.context.update(self._encoder.figures)
        return out

    def flush(self) -> bytes:
        return self._encoder.flush()


class BadCoding(Exception):
    """A body is not what its Content-Encoding says."""


class GzipDecoder(Transformer):
    """Gunzips a body, however many members it has."""

    def __init__(self) -> None:
        self._decoder = zlib_ng.decompressobj(31)
        self._is_begun = False

    def feed(self, data: bytes, ended: bool) -> Iterator[bytes]:
        while data:
            if self._decoder.eof:
                self._decoder = zlib_ng.decompressobj(31)
            self._is_begun = True
            try:
                out = self._decoder.decompress(data, _OUT)
            except _GZIP_ERROR as error:
                raise BadCoding(str(error)) from error
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
            if out:
                yield out
        while not self._decoder.eof and self._is_begun and (out := self._more()):
            yield out
        if ended and self._is_begun and not self._decoder.eof:
            raise BadCoding("a gzip body ends before its end")

    def _more(self) -> bytes:
        """What zlib-ng still has inside: with `_OUT` bytes given out there may be more without further input."""
        try:
            return self._decoder.decompress(b"", _OUT)
        except _GZIP_ERROR as error:
            raise BadCoding(str(error)) from error


class BrotliDecoder(Transformer):
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._is_begun = False

    def feed(self, data: bytes, ended: bool) -> Iterator[bytes]:
        try:
            if data:
                self._is_begun = True
                out: bytes = self._decoder.process(data, output_buffer_limit=_OUT)
                if out:
                    yield out
                while not self._decoder.can_accept_more_data():
                    if out := self._decoder.process(b"", output_buffer_limit=_OUT):
                        yield out
        except brotli.error as error:
            raise BadCoding(str(error)) from error
        if ended and self._is_begun and not self._decoder.is_finished():
            raise BadCoding("a brotli body ends before its end")


DECODERS: Final[Mapping[str, Callable[[], Transformer]]] = {GZIP: GzipDecoder, "x-gzip": GzipDecoder, BR: BrotliDecoder}
"""Of the codings that `coding.rules.DECODED` names."""
