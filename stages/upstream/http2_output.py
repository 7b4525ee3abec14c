"""The writing half of an HTTP/2 connection to a backend: when bytes leave, and which streams go on when there is room again.

What the engine has to say leaves once a turn of the loop, however many exchanges had a part in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pingap.stages.http2.engine import Engine
from pingap.stages.http2.guard import Guard
from pingap.stages.upstream.pool import BackendState

if TYPE_CHECKING:
    from pingap.stages.upstream.http2_flow import Http2Flow
    from pingap.stages.upstream.http2_stream import Http2Stream


class Http2Output(asyncio.Protocol):
    """Its state is set by who reads: most of what is written comes of that, or of the streams."""

    __slots__ = (
        "_calls_line",
        "_guard",
        "_is_flushing",
        "_loop",
        "_sent",
        "_streams",
        "_write",
        "backend",
        "blocked",
        "choked",
        "engine",
        "is_closed",
        "transport",
    )

    transport: asyncio.Transport
    backend: BackendState
    engine: Engine
    choked: bool
    """The socket takes less than it is sent."""
    blocked: dict[Http2Flow, None]
    """Those that hold bytes for want of room, in the order of their turns."""
    is_closed: bool
    _streams: dict[int, Http2Stream]
    _guard: Guard
    _loop: asyncio.AbstractEventLoop
    _write: Callable[[bytes], None]
    _sent: int
    """Bytes handed to the socket."""
    _is_flushing: bool
    """What the engine has leaves at the end of this turn, or of this read."""
    _calls_line: bool
    """A stream has ended, and others wait."""

    def pause_writing(self) -> None:
        self.choked = True
        for stream in list(self._streams.values()):
            stream.watch()

    def resume_writing(self) -> None:
        self.choked = False
        self.blocked.clear()
        for stream in list(self._streams.values()):
            stream.go_on()
        self.flush_soon()

    def _make_use_of_room(self, stream_id: int) -> None:
        """The backend has made some, on a stream or (0) on the connection."""
        if not self.blocked:
            return
        if stream_id:
            stream = self._streams.get(stream_id)
            if stream is not None and stream in self.blocked:
                del self.blocked[stream]
                stream.go_on()
            return
        blocked, self.blocked = self.blocked, {}
        for waiting in blocked:
            waiting.go_on()

    @property
    def taken(self) -> int:
        """Bytes that the socket has taken."""
        return self._sent - self.transport.get_write_buffer_size()

    def flush_soon(self) -> None:
        """What the engine has for the backend leaves at the end of this turn of the loop."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._calls_line:
            self._calls_line = False
            self.backend.serve_line()
            if self.is_unused and (self.backend.pending or not self.backend.keeps_idle):
                self.close()  # those who wait want another name, or have gone
        self._is_flushing = False
        if self.is_closed or self.transport.is_closing():
            return
        data = self.engine.outgoing()
        if data:
            self._sent += len(data)
            self._guard.sent(len(data))
            self._write(data)

    def _end(self) -> None:
        """The last frames, and no more."""
        if self.transport.is_closing():
            return
        data = self.engine.outgoing()
        if data:
            self._write(data)
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it takes nothing: not to be waited for
        else:
            self.transport.close()

    # -- done by who reads ------------------------------------------------------------

    @property
    def is_unused(self) -> bool:
        """It has no streams."""
        raise NotImplementedError

    def close(self) -> None:
        """Says so and closes."""
        raise NotImplementedError
