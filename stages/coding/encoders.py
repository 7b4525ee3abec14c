"""Bodies in gzip, brotli and zstd: whole ones at once, others piece by piece."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

import brotli
import zstandard
from zlib_ng import zlib_ng

from pingap.stages.coding.rules import BR, GZIP, SLOW, ZSTD

_WINDOW_LOG: Final = 18
"""Brotli and zstd look back 256 KiB: the usual 4 to 8 MiB for each body would be too much memory."""

_GZIP: Final = 31
"""What zlib calls a window of 32 KiB in gzip's framing."""

_SYNC: Final[int] = zlib_ng.Z_SYNC_FLUSH
_BLOCK: Final[int] = zstandard.COMPRESSOBJ_FLUSH_BLOCK

_zstd_whole: Final[dict[int, zstandard.ZstdCompressor]] = {}
"""Level → one for all whole bodies: it keeps its tables. Not of levels that work in threads: these are not made to be shared."""


def compress(coding: str, level: int, data: bytes) -> bytes:
    """A whole body."""
    if coding == GZIP:
        return zlib_ng.compress(data, level, _GZIP)
    if coding == BR:
        compressed: bytes = brotli.compress(data, quality=level, lgwin=_WINDOW_LOG)
        return compressed
    compressor = _zstd_whole.get(level) if level < SLOW[ZSTD] else _zstd(level)
    if compressor is None:
        compressor = _zstd_whole[level] = _zstd(level)
    return compressor.compress(data)


def _zstd(level: int) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=_WINDOW_LOG, write_content_size=1)
    return zstandard.ZstdCompressor(compression_params=parameters)


class Encoder:
    """One body; knows how long it took and how well it went."""

    __slots__ = ("_coder", "_coding", "_level", "came", "made", "seconds")

    def __init__(self, coding: str, level: int) -> None:
        self._coding = coding
        self._level = level
        self._coder: Any = None
        """Of the library; none yet, and none at all for a body that comes whole."""
        self.came = 0
        """Bytes of the body so far."""
        self.made = 0
        """Bytes that came out."""
        self.seconds = 0.0

    def feed(self, data: bytes, ended: bool) -> bytes:
        """More of the body. Maybe b"" while it has not ended: `flush` makes the library give out what it keeps back."""
        began = perf_counter()
        coder = self._coder
        if coder is None and ended:  # the whole body at once, as most answers are
            out = compress(self._coding, self._level, data)
        else:
            if coder is None:
                coder = self._coder = self._begin()
            out = self._process(coder, data) if data else b""
            if ended:
                out += coder.finish() if self._coding == BR else coder.flush()
        self.came += len(data)
        self.made += len(out)
        self.seconds += perf_counter() - began
        return out

    def flush(self) -> bytes:
        """So that all of the body that has come can be read from what has gone out."""
        coder = self._coder
        if coder is None:
            return b""
        began = perf_counter()
        out: bytes
        if self._coding == GZIP:
            out = coder.flush(_SYNC)
        elif self._coding == BR:
            out = coder.flush()
        else:
            out = coder.flush(_BLOCK)
        self.made += len(out)
        self.seconds += perf_counter() - began
        return out

    def _begin(self) -> Any:
        if self._coding == GZIP:
            return zlib_ng.compressobj(self._level, zlib_ng.DEFLATED, _GZIP)
        if self._coding == BR:
            return brotli.Compressor(quality=self._level, lgwin=_WINDOW_LOG)
        return _zstd(self._level).compressobj()

    def _process(self, coder: Any, data: bytes) -> bytes:
        out: bytes = coder.process(data) if self._coding == BR else coder.compress(data)
        return out

    @property
    def figures(self) -> dict[str, float]:
        """For the access log, by the names of its variables: seconds of work, and how many bytes became one."""
        return {"compression_time": self.seconds, "compression_ratio": self.came / self.made if self.made else 0.0}
