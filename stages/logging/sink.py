"""One target of lines: a file or stderr. Buffered, never blocking, never fatal."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pingap.bus.output import Target
from pingap.config.paths import LOG_MODE
from pingap.stages.logging.core import Trouble

KEPT: Final = 1024 * 1024
"""Bytes that wait for a target that takes nothing; the newest lines beyond it are lost."""

_INHERITED: Final = {"": 2, "/dev/stderr": 2, "/dev/stdout": 1}
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Write = Callable[[bytes], int]


class Sink:
    """Lines go to `lines`; `flush` hands them to the system in one write.

    path: of the file, created with mode 0640 and appended to; "" is stderr.
    tell: gets a sentence about this target when it fails (at most once a minute) and when it works again.
    """

    def __init__(self, path: str, tell: Callable[[str, str], None]) -> None:
        self.path = path
        self.lines: list[str] = []
        self.lost = 0
        """Lines thrown away so far."""
        self._tell = tell
        self._trouble = Trouble()
        self._left = b""
        self._fd = -1
        self._inherited: Target | None = None

    def open(self, now: float) -> None:
        """Opens the target. A failure is told, and tried again at each `tick`."""
        self._close()
        try:
            if self.path in _INHERITED:
                self._inherited = Target(_INHERITED[self.path])
                self._fd = self._inherited.fileno()
            else:
                self._fd = os.open(self.path, _FLAGS | os.O_CREAT, LOG_MODE)
        except OSError as error:
            self._failed(error.strerror or str(error), now)

    def flush(self, now: float) -> None:
        """Writes what waits, as far as the target takes it now."""
        lines = self.lines
        if lines:
            data = self._left + ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
            lines.clear()
        elif self._left:
            data = self._left
        else:
            return
        self._left = b""
        if self._fd >= 0:
            try:
                written = self._inherited.write(data) if self._inherited is not None else os.write(self._fd, data)
            except BlockingIOError:  # a slow reader: only lost lines are worth a word
                written = 0
            except OSError as error:
                written = 0
                self._failed(error.strerror or str(error), now)
            else:
                if self._trouble.is_on:
                    self._say(self._trouble.ended(), "info")
            if written == len(data):
                return
            data = data[written:]
        if len(data) > KEPT:
            end = data.rfind(b"\n", 0, KEPT) + 1
            lost = data.count(b"\n", end)
            self.lost += lost
            self._trouble.lost(lost)
            data = data[:end]
            self._failed("takes no lines", now)
        self._left = data

    def tick(self, now: float) -> None:
        """Once a second: tries a target again that failed, and finds a file that was deleted."""
        if self._fd < 0 or self._is_deleted():
            self.open(now)
        self.flush(now)

    def _is_deleted(self) -> bool:
        # Renamed is not deleted: logrotate renames, makes the new file itself, and says when to take it.
        try:
            return self.path not in _INHERITED and os.fstat(self._fd).st_nlink == 0
        except OSError:
            return True

    def reopen(self, now: float) -> None:
        """After logrotate: what waits still goes to the old file."""
        self.flush(now)
        self.open(now)

    def close(self, now: float) -> None:
        """Writes what can be written, and lets go."""
        self.flush(now)
        self._close()

    def _close(self) -> None:
        with suppress(OSError):  # a full disk may show only now; the next open tells
            if self._inherited is not None:
                self._inherited.close()
            elif self._fd >= 0:
                os.close(self._fd)
        self._inherited = None
        self._fd = -1

    def _failed(self, reason: str, now: float) -> None:
        self._say(self._trouble.failed(reason, now), "error")

    def _say(self, text: str, level: str) -> None:
        if text:
            self._tell(level, f"log {self.path or 'stderr'}: {text}")
