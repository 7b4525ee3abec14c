"""A file that a stage names as the body of an answer, on its way to a plain connection: sendfile(2), in threads.

sendfile reads the disk while it runs, so it is never called on the loop: a thread sends until the socket is full, and the
loop waits for room. The thread has descriptors of its own, the file's and a copy of the socket's; so a connection may be
lost in the middle of a call, and its number be given to another.
"""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from pingap.stages.messages import FileRef

CALL: Final = 1024 * 1024
"""Most bytes of one system call: after each is counted what has gone."""

TURN: Final = 8 * 1024 * 1024
"""Most bytes that a thread sends before others have their turn."""

_CANNOT: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""The file is on a file system without sendfile."""

_senders: Final = ThreadPoolExecutor(8, "files to clients")
"""Of their own, for all connections of the process: a disk that hangs must hold up nothing else."""


class FileOwner(Protocol):
    """The connection that it is for. All is called on the loop."""

    def file_begun(self) -> None:
        """The file is open here, and some of it may have been sent. Said first, unless it is refused."""

    def file_refused(self) -> None:
        """It cannot be had here, or is another one. Nothing has been sent, and nothing will be."""

    def file_waits(self, waits: bool) -> None:
        """For the client to take some; or no more."""

    def file_sent(self) -> None:
        """All of it."""

    def file_broke(self, error: BaseException) -> None:
        """The rest cannot be sent. ConnectionError, TimeoutError: for the client has gone."""


class FileSender:
    """One file on its way."""

    __slots__ = (
        "_file",
        "_is_begun",
        "_is_over",
        "_is_waiting",
        "_is_working",
        "_left",
        "_loop",
        "_offset",
        "_owner",
        "_ref",
        "_socket",
        "sent",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: int, ref: FileRef, length: int, owner: FileOwner) -> None:
        """socket: a descriptor that stays the caller's. length: bytes to send. Raises OSError when there are no descriptors left."""
        self._loop = loop
        self._ref = ref
        self._offset = ref.offset
        self._left = length
        self._owner = owner
        self._file = -1
        self._is_begun = False
        self._is_waiting = False
        self._is_over = False
        self._is_working = False
        """A thread has the descriptors."""
        self.sent = 0
        """Bytes that the socket has taken."""
        self._socket = os.dup(socket)
        self._send_on()

    def stop(self) -> None:
        """The rest is not wanted. Nothing is said any more."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_waiting:
            self._loop.remove_writer(self._socket)
        if not self._is_working:  # else when the thread is done with them
            self._close()

    def _close(self) -> None:
        for descriptor in (self._file, self._socket):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._socket = -1

    # -- in a thread ----------------------------------------------------------------

    def _send(self) -> bool:
        """Until the socket is full, the turn is over or all is sent. False: this file is not the one that was named."""
        if self._file < 0 and not self._open():
            return False
        most = min(self._left, TURN)
        while most > 0 and not self._is_over:
            try:
                count = os.sendfile(self._socket, self._file, self._offset, min(most, CALL))
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _CANNOT and not (self._is_begun or self.sent):
                    return False
                raise
            if not count:
                raise EOFError(f"it has become shorter: {self._left} bytes are missing")
            self._offset += count
            self._left -= count
            self.sent += count
            most -= count
        return True

    def _open(self) -> bool:
        ref = self._ref
        try:
            self._file = os.open(ref.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        found = os.fstat(self._file)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) == (ref.device, ref.inode, ref.size, ref.mtime_ns)

    # -- on the loop ------------------------------------------------------------------

    def _send_on(self) -> None:
        self._is_waiting = False
        self._is_working = True
        self._loop.run_in_executor(_senders, self._send).add_done_callback(self._worked)

    def _has_room(self) -> None:
        self._loop.remove_writer(self._socket)
        self._send_on()
        self._owner.file_waits(False)

    def _worked(self, work: asyncio.Future[bool]) -> None:
        self._is_working = False
        error = work.exception()
        if self._is_over:
            self._close()
            return
        if error is None and not work.result():
            self.stop()
            self._owner.file_refused()
            return
        if not self._is_begun:
            self._is_begun = True
            self._owner.file_begun()
        if error is not None:
            self.stop()
            self._owner.file_broke(error)
        elif not self._left:
            self.stop()
            self._owner.file_sent()
        else:
            self._is_waiting = True
            self._loop.add_writer(self._socket, self._has_room)
            self._owner.file_waits(True)
