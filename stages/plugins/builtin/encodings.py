"""Content codings: which of them a client takes, and bodies coded and decoded on their way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, Final, cast

import brotli
import zstandard
from zlib_ng import zlib_ng

from pingap.stages.header_view import Headers
from pingap.stages.plugins.api import Host
from pingap.stages.plugins.exchange import Exchange, Transformer

GZIP: Final = "gzip"
BR: Final = "br"
ZSTD: Final = "zstd"

PRIORITY: Final = (ZSTD, BR, GZIP)
"""Among codings that the client likes equally."""

_SLOW: Final = {GZIP: 8, BR: 6, ZSTD: 12}
"""From this level on 64 KiB take more than about 2 ms: they are compressed in a thread."""

_LONG: Final = 64 * 1024
_WINDOW_LOG: Final = 18
"""Brotli and zstd look back 256 KiB: the usual 4 to 8 MiB for each body would be too much memory."""

_GZIP_ERROR: Final = cast("type[Exception]", zlib_ng.error)
"""Its types have an instance here. It is no `zlib.error`."""

_OUT: Final = 64 * 1024
"""Most bytes that a decoder gives out at once, whatever a few bytes may unpack to."""


def qualities(accept_encoding: bytes) -> dict[str, float]:
    """Coding → quality of an Accept-Encoding value (RFC 9110 section 12.5.3); a malformed quality counts as 0."""
    found: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
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


def choose(accept_encoding: bytes, levels: dict[str, int]) -> str:
    """The coding to use, "" for none: what the client likes best, then by our priority."""
    wanted = qualities(accept_encoding)
    best, best_quality = "", wanted.get("identity", 0.0)
    for coding in PRIORITY:
        quality = wanted.get(coding, 0.0)
        if levels[coding] and quality > 0 and (quality > best_quality or (not best and quality == best_quality)):
            best, best_quality = coding, quality
    return best


def codings_of(headers: Headers) -> list[str]:
    """The codings of a body, lower case, in the order in which they were applied; `identity` is none."""
    names = [name.strip() for name in (headers.joined(b"content-encoding: ") or b"").decode("latin-1").lower().split(",")]
    return [name for name in names if name not in ("", "identity")]


def weaken(headers: Headers) -> None:
    """The bytes are no longer those that a strong validator names (RFC 9110 section 8.8.1)."""
    tag = headers.first(b"etag: ")
    if tag is not None and not tag.startswith(b"W/"):
        headers.set("etag", b"W/" + tag)


_zstd_whole: Final[dict[int, zstandard.ZstdCompressor]] = {}


def _compress_whole(coding: str, level: int, data: bytes) -> bytes:
    if coding == GZIP:
        return zlib_ng.compress(data, level, 31)
    if coding == BR:
        compressed: bytes = brotli.compress(data, quality=level, lgwin=_WINDOW_LOG)
        return compressed
    # A context of one's own for each call from a thread: they are not made to be shared.
    compressor = _zstd_whole.get(level) if level < _SLOW[ZSTD] else _zstd(level)
    if compressor is None:
        compressor = _zstd_whole[level] = _zstd(level)
    return compressor.compress(data)


def _zstd(level: int) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=_WINDOW_LOG, write_content_size=1)
    return zstandard.ZstdCompressor(compression_params=parameters)


class _Coder:
    """zlib-ng, brotli and zstandard in one form."""

    __slots__ = ("finish", "flush", "process")

    def __init__(self, coding: str, level: int) -> None:
        coder: Any
        self.process: Callable[[bytes], bytes]
        self.flush: Callable[[], bytes]
        self.finish: Callable[[], bytes]
        if coding == GZIP:
            coder = zlib_ng.compressobj(level, zlib_ng.DEFLATED, 31)
            self.process, self.finish = coder.compress, coder.flush
            self.flush = lambda: coder.flush(zlib_ng.Z_SYNC_FLUSH)
        elif coding == BR:
            coder = brotli.Compressor(quality=level, lgwin=_WINDOW_LOG)
            self.process, self.flush, self.finish = coder.process, coder.flush, coder.finish
        else:
            coder = _zstd(level).compressobj()
            self.process, self.finish = coder.compress, coder.flush
            self.flush = lambda: coder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


class Encoder(Transformer):
    """Compresses a body; says in the context how long that took and how well it went."""

    def __init__(self, exchange: Exchange, coding: str, level: int, host: Host | None) -> None:
        self._exchange = exchange
        self._coding = coding
        self._level = level
        self._host = host if level >= _SLOW[coding] else None
        self._coder: _Coder | None = None
        self._came = 0
        self._made = 0
        self._seconds = 0.0

    def feed(self, data: bytes, ended: bool) -> bytes | Awaitable[bytes]:
        if self._host is not None and len(data) >= _LONG:
            return self._aside(self._host, data, ended)
        return self._note(len(data), ended, *self._work(data, ended))

    async def _aside(self, host: Host, data: bytes, ended: bool) -> bytes:
        out, seconds = await host.in_thread(self._work, data, ended)
        return self._note(len(data), ended, out, seconds)

    def _work(self, data: bytes, ended: bool) -> tuple[bytes, float]:
        began = perf_counter()
        coder = self._coder
        if coder is None:
            if ended:  # the whole body at once, as most answers are
                out = _compress_whole(self._coding, self._level, data)
                return out, perf_counter() - began
            coder = self._coder = _Coder(self._coding, self._level)
        out = coder.process(data) if data else b""
        if ended:
            out += coder.finish()
        return out, perf_counter() - began

    def _note(self, came: int, ended: bool, out: bytes, seconds: float) -> bytes:
        self._came += came
        self._made += len(out)
        self._seconds += seconds
        if ended:
            context = self._exchange.context
            context["compression_time"] = self._seconds
            context["compression_ratio"] = self._came / self._made if self._made else 0.0
        return out

    def flush(self) -> bytes:
        if self._coder is None:
            return b""
        began = perf_counter()
        out = self._coder.flush()
        self._made += len(out)
        self._seconds += perf_counter() - began
        return out


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


DECODERS: Final[dict[str, Callable[[], Transformer]]] = {GZIP: GzipDecoder, "x-gzip": GzipDecoder, BR: BrotliDecoder}
"""zstd is missing: one block of a few bytes may unpack to 128 KiB, and its library takes no limit."""
