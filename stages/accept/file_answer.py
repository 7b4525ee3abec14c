"""An answer over plain HTTP/1.x whose body is a file: what comes of it for its stream and its connection."""

from __future__ import annotations

import asyncio
from typing import Protocol, Self

from pingap.stages.accept.connections import Connections
from pingap.stages.accept.file_sender import FileSender
from pingap.stages.accept.outlet import Outlet
from pingap.stages.messages import FileRef
from pingap.stages.stream import OwnedStream


class FileClient(Protocol):
    """The connection. It calls `stop` when the stream ends before the file does."""

    transport: asyncio.Transport

    def file_over(self, is_sent: bool) -> None:
        """All of it is sent, or none, for its bytes are asked for."""

    def cut(self) -> None: ...


class FileAnswer:
    """Owner of a FileSender."""

    __slots__ = ("_client", "_connections", "_outlet", "_sender", "_stream")

    def __init__(self, client: FileClient, outlet: Outlet, connections: Connections, stream: OwnedStream, ref: FileRef) -> None:
        """Raises OSError when there are no descriptors left."""
        assert stream.response is not None
        self._client = client
        self._outlet = outlet
        self._connections = connections
        self._stream = stream
        self._sender = FileSender(connections.loop, outlet.writer.socket, ref, stream.response.length, self)
        connections.files += 1

    @classmethod
    def begun(cls, client: FileClient, outlet: Outlet, connections: Connections, stream: OwnedStream, ref: FileRef) -> Self | None:
        """None where it must go as bytes. The head of the answer is written."""
        if outlet.writer.socket < 0 or stream.bodiless or stream.chunked or not connections.may_send_file():
            return None
        try:
            return cls(client, outlet, connections, stream, ref)
        except OSError:
            return None

    def stop(self) -> None:
        """The rest is not wanted, or there is none. To be called once."""
        self._stream.sent = self._sender.sent
        self._sender.stop()
        self._connections.files -= 1
        self._outlet.file_waits(False)

    # -- what the sender says ---------------------------------------------------------

    def file_begun(self) -> None:
        self._connections.streams.file_taken(self._stream)

    def file_refused(self) -> None:
        self.stop()
        self._client.file_over(False)
        self._connections.streams.ask_for_data(self._stream)

    def file_waits(self, waits: bool) -> None:
        self._outlet.file_waits(waits)

    def file_sent(self) -> None:
        self.stop()
        self._client.file_over(True)

    def file_broke(self, error: BaseException) -> None:
        if isinstance(error, ConnectionError | TimeoutError):
            self._client.transport.abort()  # what is lost is heard of there
            return
        stream = self._stream
        report = stream.response.report if stream.response is not None else None
        location = "" if report is None else report.location
        self._connections.streams.repeats.log("error", "a file could not be sent to its end", location=location, error=str(error))
        stream.failed = "plugin_failed"
        self._client.cut()
