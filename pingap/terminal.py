"""Standard input, output and error of a command: they are there, they can say everything, and no failure of them is an error of ours.

A closed pipe, a full disk behind `>`, a descriptor that the caller closed, a terminal of another character set: none
of them is a reason for a traceback, or for a command that did its work to fail. What is written to a stream that
takes nothing is lost, and `lost` knows why.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import Final, TextIO

_PLAIN: Final = {"→": "->", "…": "..."}
"""What our own texts have beyond ASCII, for a terminal without it."""

_ERRORS: Final = "pingap.plain"


class _Forgiving(io.RawIOBase):
    """A descriptor that takes everything; what it cannot hand on is lost, and noted."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.lost = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        if not self.lost:
            try:
                return os.write(self._fd, view)
            except BlockingIOError:
                return self._waited(view)
            except OSError as error:
                self.lost = error.errno or errno.EIO
        return view.nbytes

    def _waited(self, view: memoryview) -> int:
        """Somebody else made the shared terminal or pipe non-blocking."""
        import select

        select.select([], [self._fd], [])
        with suppress(BlockingIOError):
            return os.write(self._fd, view)
        return 0


_streams: dict[int, _Forgiving] = {}


def prepare() -> None:
    """Makes descriptors 0 to 2 what this module promises. Streams that something put in the place of Python's own stay."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # the caller closed it: the next file or socket that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error(_ERRORS, _in_plain_letters)
    sys.stdout = _stream(1, sys.stdout, sys.__stdout__)
    sys.stderr = _stream(2, sys.stderr, sys.__stderr__)


def _stream(fd: int, now: TextIO | None, own: TextIO | None) -> TextIO:
    if now is not None and now is not own:
        return now
    raw = _streams[fd] = _Forgiving(fd)
    encoding = now.encoding if now is not None else "utf-8"
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, _ERRORS, line_buffering=fd == 2 or raw.isatty())


def _in_plain_letters(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of codecs: our own signs by their like, anything else as Python would write it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    text = "".join(_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in found)
    return text, error.end


def lost(stream: int = 1) -> int:
    """The errno with which a stream (1 or 2) stopped taking what is written; 0 while it does."""
    return _streams[stream].lost if stream in _streams else 0


def flush() -> None:
    """Hands on what was written so far."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def is_terminal() -> bool:
    """Whether stdout is one."""
    return sys.stdout.isatty()


def width() -> int:
    """Columns of the terminal (COLUMNS wins); 80 when that is not known."""
    import shutil

    return max(20, shutil.get_terminal_size((80, 24)).columns)


def fitted(text: str, columns: int | None = None) -> str:
    """A text for stderr, whose lines are broken between words where that is a terminal; what follows is indented more than the line.

    columns: to fit it into so many in any case.
    """
    if columns is None:
        if not sys.stderr.isatty():
            return text
        columns = width()
    import textwrap

    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line.strip(), columns, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def coloured(text: str, colour: str) -> str:
    """The text in a colour of click's, where stdout is a terminal that may show some."""
    if not colour or not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    import click

    return click.style(text, fg=colour)


def say(text: str) -> None:
    """A line or several on stdout."""
    print(text, file=sys.stdout)
    flush()


def warn(text: str) -> None:
    """The same on stderr."""
    print(text, file=sys.stderr)
    flush()
