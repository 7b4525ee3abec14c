"""An end for all of an exchange: a time-out of a socket begins anew with each byte that comes. Blocks nobody."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Timer
from types import TracebackType


class SocketCutter:
    """A context manager: what is under way in there fails when its time is over, or seems to end, so `is_cut` is to be looked at."""

    def __init__(self, seconds: float, sockets: Callable[[], Iterable[socket.socket | None]]) -> None:
        """sockets: those in use by then; called in another thread."""
        self._sockets = sockets
        self._cut = Event()
        self._timer = Timer(seconds, self._do)
        self._timer.daemon = True

    @property
    def is_cut(self) -> bool:
        """Its time was over."""
        return self._cut.is_set()

    def __enter__(self) -> SocketCutter:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()

    def _do(self) -> None:
        self._cut.set()
        for one in self._sockets():
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
