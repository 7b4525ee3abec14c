"""stdout and stderr of the processes that serve: nobody who does not read them makes one wait.

They are a pipe to a program that hangs, a terminal that Ctrl-S has stopped, the journal's socket: a plain write to one
that is full waits for as long as its reader likes, and with it every request of the process. A write here takes what there is
room for. The rest, up to KEPT bytes, is written when there is room; lines beyond it are dropped, and their number is written
in their place.

`O_NONBLOCK` belongs to the open file description, which the shell and other programs share: it is not set on theirs. Pipes
and terminals are opened anew and the new description takes the number of the old one, so that what C code, a plugin's own
subprocess or Python at its end writes does not wait either.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import Final, TextIO

KEPT: Final = 64 * 1024
"""Bytes that wait for a reader, for each of the two."""

PIECE: Final = 256
"""Bytes written after each look whether there is room, to what is no description of our own and cannot be asked not to wait."""

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_POSSIBLE: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESPIPE)


class Target:
    """A descriptor that others write to as well, written to without waiting and without a change for them.

    Pipes and terminals are opened anew, sockets are asked not to wait. A regular file (`2>file`) is shared as it is, for only
    so do all its writers share their place in it; it never blocks for long. What may not be opened anew, another user's
    terminal or a container's pipe, is shared too: a pipe is asked not to wait, a terminal gets small pieces when it has room.
    """

    def __init__(self, number: int) -> None:
        """Raises OSError when nothing is open there."""
        self._socket: socket.socket | None = None
        self._is_own = self._is_shared = False
        mode = os.fstat(number).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(number))
            self._fd = self._socket.fileno()
            return
        if not stat.S_ISREG(mode):
            try:
                self._fd = os.open(f"/proc/self/fd/{number}", _FLAGS)
                self._is_own = True
                return
            except OSError:
                self._is_shared = True
        self._fd = os.dup(number)

    def fileno(self) -> int:
        return self._fd

    def take_place_of(self, number: int) -> None:
        """From now on `number` names the description of our own, where there is one."""
        if self._socket is None:
            if self._is_own:
                os.dup2(self._fd, number)
            os.close(self._fd)
            self._fd = number

    def write(self, data: bytes) -> int:
        """Bytes written. Raises BlockingIOError when it takes none now, and OSError."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if not self._is_shared:
            return os.write(self._fd, data)
        try:
            return os.pwritev(self._fd, [data], -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in _NOT_POSSIBLE:
                raise
        written = 0
        with suppress(BlockingIOError):
            while written < len(data) and _has_room(self._fd, 0):
                written += os.write(self._fd, data[written : written + PIECE])
        if not written:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return written

    def release(self) -> None:
        """Lets go of what is beside the number whose place it took."""
        if self._socket is not None:
            self._socket.close()

    def close(self) -> None:
        """Raises OSError, as of a full disk that shows only now."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)


class Output(io.RawIOBase):
    """One of the two, for a text stream over it. It takes everything and never raises."""

    def __init__(self, number: int) -> None:
        """Raises OSError when nothing is open there."""
        super().__init__()
        self._number = number
        self._target = Target(number)
        self._target.take_place_of(number)
        self._kept = b""
        self._dropped = 0
        self._lock = threading.RLock()  # a plugin's threads print too, and finalizers anywhere

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: object) -> int:
        fresh = bytes(data)  # type: ignore[call-overload]
        with self._lock:
            self._hand_on(fresh)
        return len(fresh)

    def retry(self) -> None:
        """Writes what is kept and the number of lines dropped, if there is room by now."""
        if self._kept or self._dropped:
            with self._lock:
                self._hand_on(b"")

    def drain(self, seconds: float) -> None:
        """Gives a reader so long to take what is kept."""
        until = time.monotonic() + seconds
        while self._kept and (left := until - time.monotonic()) > 0 and _has_room(self._target.fileno(), left):
            before = len(self._kept)
            self.retry()
            if len(self._kept) == before:
                return  # no reader, or an error

    def go_to(self, fd: int) -> None:
        """From now on what is written goes to that file; what nobody has read until now is lost."""
        with self._lock:
            self._target.release()
            self._kept, self._dropped = b"", 0
            os.dup2(fd, self._number)
            self._target = Target(self._number)
            self._target.take_place_of(self._number)

    def forget(self) -> None:
        """In a forked child: what is kept is the parent's to write."""
        self._kept, self._dropped = b"", 0
        self._lock = threading.RLock()

    def close(self) -> None:
        """The number stays open: it is the process's."""
        super().close()
        with suppress(AttributeError):  # none when there was nothing open
            self._target.release()

    def _hand_on(self, fresh: bytes) -> None:
        if self._kept:
            self._kept = self._kept[self._write(self._kept) :]
        if self._dropped and not self._kept:
            lines = "1 line" if self._dropped == 1 else f"{self._dropped} lines"
            fresh = f"pingap (pid {os.getpid()}): {lines} dropped here, for nobody read them\n".encode() + fresh
            self._dropped = 0
        if fresh and not self._kept and not self._dropped:
            fresh = fresh[self._write(fresh) :]
        room = 0 if self._dropped else KEPT - len(self._kept)
        if len(fresh) > room:
            end = fresh.rfind(b"\n", 0, room) + 1
            self._dropped += max(1, fresh.count(b"\n", end))
            fresh = fresh[:end]
        self._kept += fresh

    def _write(self, data: bytes) -> int:
        try:
            return self._target.write(data)
        except OSError:  # full, or with nobody at its other end: there is no better place to tell that
            return 0


def _has_room(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(seconds * 1000))


_outputs: dict[int, Output] = {}


def never_wait() -> None:
    """From now on no write of this process to stdout and stderr waits, nor one of the children that it forks."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        now: TextIO | None = getattr(sys, name)
        if number in _outputs or not _is_on(now, number):
            continue  # somebody put a stream of another kind in its place
        with suppress(OSError):
            _outputs[number] = Output(number)
            stream = _text(_outputs[number], now)
            if now is not None:
                with suppress(OSError, ValueError):
                    now.flush()
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    if _outputs:
        os.register_at_fork(after_in_child=_forget)


def _is_on(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is None or stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def _text(output: Output, like: TextIO | None) -> TextIO:
    encoding = like.encoding if like is not None else "utf-8"
    errors = like.errors if like is not None else None
    # A plugin's print() of a letter that the locale has not is no reason to fail a request.
    errors = "backslashreplace" if errors in (None, "strict") else errors
    return io.TextIOWrapper(io.BufferedWriter(output), encoding, errors, line_buffering=True)


def _forget() -> None:
    for output in _outputs.values():
        output.forget()


_paths: list[str] = []
"""The file of `go_to`, if there is one."""


def go_to(path: str) -> None:
    """From now on stdout and stderr of this process, and of those that it forks, are a file, appended to; else /dev/null."""
    is_known = _paths == [path]
    _paths[:] = [path]
    if not _gone_to(path) and not is_known:
        _gone_to(os.devnull)


def reopen() -> None:
    """After logrotate: the file of `go_to` anew, where there is one. One that cannot be opened now stays the old one."""
    for path in list(_paths):
        go_to(path)


def _gone_to(path: str) -> bool:
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT, 0o640)
    except OSError:
        return False
    for output in _outputs.values():
        output.go_to(fd)
    os.close(fd)
    return True


def retry() -> None:
    """To be called now and then: writes what waits for room."""
    for output in _outputs.values():
        output.retry()


def drain(seconds: float) -> None:
    """At the end: what is not read within so many seconds is lost."""
    for output in _outputs.values():
        output.drain(seconds)
