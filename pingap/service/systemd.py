"""What a service manager is told: that it serves, reloads, stops and lives (sd_notify(3)).

A datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. Without one everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

NAMES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that are this process's alone: one that plugins start must not speak for it."""

KEPT: Final = 16
"""Messages that wait for a manager whose socket is full."""


class Service:
    """This process as a unit of the service manager that started it."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        """Takes NAMES out of env."""
        self._given = {name: env.pop(name) for name in NAMES if name in env}
        self.problem = ""
        """Why the manager cannot be told anything, "" when it can or when there is none."""
        self._address = ""
        self._socket: socket.socket | None = None
        self._waiting: list[bytes] = []
        self._fed = 0.0
        self.every = self._watchdog()
        """Seconds between two signs of life; 0 when nobody waits for them."""
        if address := self._given.get("NOTIFY_SOCKET", ""):
            self._open(address)

    def _watchdog(self) -> float:
        whose, text = self._given.get("WATCHDOG_PID", ""), self._given.get("WATCHDOG_USEC", "")
        if not text.isdigit() or (whose and whose != str(os.getpid())):
            return 0.0
        return int(text) / 2_000_000

    def _open(self, address: str) -> None:
        if address[0] not in "/@":
            self.problem = f"NOTIFY_SOCKET is {address!r}, and only unix sockets are spoken to: the service manager is told nothing"
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def environment(self) -> dict[str, str]:
        """What was taken, for who takes this process's place: after an exec, or with `main_pid`."""
        return dict(self._given)

    def ready(self, status: str) -> None:
        """It serves, for the first time or after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", "STATUS=reads its configuration")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stops: finishes what is in flight")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def main_pid(self, pid: int) -> None:
        """From now on another process is the service. To be said by the one that was: others are not believed."""
        self._send(f"MAINPID={pid}")

    def beat(self, now: float, is_alive: bool) -> None:
        """To be called at least twice as often as `every`: says again what has not been heard, and that it lives if it does."""
        waiting, self._waiting = self._waiting, []
        for message in waiting if self._socket is not None else ():
            self._hand_over(message)
        if self.every and is_alive and now - self._fed >= self.every:
            self._fed = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Nothing more is said."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            self._hand_over("\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "replace"))

    def _hand_over(self, message: bytes) -> None:
        assert self._socket is not None
        try:
            if self._waiting:
                raise BlockingIOError
            self._socket.sendto(message, self._address)
        except BlockingIOError:
            if message != b"WATCHDOG=1":
                self._waiting = [*self._waiting, message][-KEPT:]
        except OSError:
            pass  # a manager that is being started anew; what counts is said again: the sign of life
