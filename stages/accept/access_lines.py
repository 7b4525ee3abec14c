"""Access log lines, made where the stream ends and sent on in bundles.

An event costs about 8 µs on its way to a file (packed, copied through two pipes,
unpacked, formatted), its finished line 3: so the line is made here, and the whole
event leaves only when metrics or another consumer reads those
(docs/decisions/0005).
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.kinds import LINES
from pingap.config.model import Snapshot
from pingap.observability.access_format import Render, compile_format
from pingap.observability.records import Access
from pingap.stages.accept.event import access_event
from pingap.stages.accept.hidden import Hidden
from pingap.stages.stream import OwnedStream

GATHER: Final = 0.02
"""Seconds that a line waits for others."""

MOST: Final = 256
"""Lines that leave at once."""


def compile_lines(snapshot: Snapshot) -> dict[str, Render]:
    """Server → the function that writes its lines. Raises ValueError for a format with a mistake in it."""
    renders: dict[str, Render] = {}
    for name, server in snapshot.servers.items():
        if server.access_log is not None:
            try:
                renders[name] = compile_format(server.access_log.format)
            except ValueError as error:
                raise ValueError(f"servers.{name}.access_log: {error}") from error
    return renders


class AccessLines:
    """The finished lines of all servers of this replica, by server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lines: dict[str, list[str]] = {}
        self._count = 0
        self.renders: dict[str, Render] = {}
        """Of the committed generation: servers that write an access log."""
        self.hidden: Hidden | None = None
        """The credentials that are not shown; None for none."""

    def record(self, stream: OwnedStream, now: float, left: Sized) -> None:
        """Makes of an ended stream what somebody reads: its line, the event. left: the streams of this replica that go on."""
        render = self.renders.get(stream.request.server)
        is_wanted = "access" in self._context.wanted
        if render is not None or is_wanted:
            event = access_event(stream, now, len(left))
            if self.hidden:
                event = self.hidden.cover(event)
            if render is not None:
                self.add(event, render)
            if is_wanted:
                self._context.emit(event)

    def add(self, event: Access, render: Callable[[Access], str]) -> None:
        try:
            line = render(event)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # A plugin's odd context value, say: it costs its line, not the stream.
            self._context.count("access_lines_lost")
            self._context.log("debug", "an access log line could not be written", error=repr(error))
            return
        lines = self._lines.get(event.server)
        if lines is None:
            lines = self._lines[event.server] = []
        lines.append(line)
        self._count += 1
        if self._count == 1:
            self._context.loop.call_later(GATHER, self.ship)
        elif self._count >= MOST:
            self.ship()

    def ship(self) -> None:
        """Sends what has gathered."""
        self._count = 0
        for server, lines in self._lines.items():
            if lines:
                self._context.emit((LINES, server, len(lines), "\n".join(lines)))
                lines.clear()
