"""In a process that the spawner forked for `host.in_process`: does one job after the other until nobody wants any.

A job comes as its size, its seconds and a pickle of (module, name, arguments); its outcome goes back as a size and a
pickle of (whether it worked, result or exception). Both ends are pingap's own, under the same user.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import socket
import struct
from typing import Any, Final

HEAD: Final = struct.Struct("!Qd")
SIZE: Final = struct.Struct("!Q")
CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid, gid of SO_PEERCRED."""

LATER: Final = 1.0
"""Seconds after the deadline of a job at which it ends itself. Whoever waits kills it before; but should they die, nobody would."""


def work(at: str) -> int:
    """Takes jobs from the abstract socket `at`. The exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(f"\0{at}")
        except OSError:
            return 0  # the actor that wanted it is gone
        if peer_of(sock)[1] != os.geteuid():
            return 1
        while head := _receive(sock, HEAD.size):
            size, seconds = HEAD.unpack(head)
            order = _receive(sock, size)
            if len(order) < size:
                break
            faulthandler.dump_traceback_later(seconds + LATER, exit=True, file=nowhere)
            said = _do(order)
            faulthandler.cancel_dump_traceback_later()
            try:
                sock.sendall(SIZE.pack(len(said)) + said)
            except OSError:
                break
    return 0


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end."""
    pid, uid, _ = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return pid, uid


def _receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes; fewer at the end of the connection."""
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(size - len(parts), 1 << 20))
        if not part:
            break
        parts += part
    return bytes(parts)


def _do(order: bytes) -> bytes:
    outcome: tuple[bool, Any]
    try:
        module, name, args = pickle.loads(order)
        call: Any = importlib.import_module(module)
        for part in name.split("."):
            call = getattr(call, part)
        outcome = True, call(*args)
    except BaseException as error:  # SystemExit, too, is the job's failure: the process goes on
        outcome = False, error
    try:
        said = pickle.dumps(outcome)
        if not outcome[0]:
            pickle.loads(said)  # some exceptions can be packed, and not be made again
        return said
    except Exception as error:
        what = f"its result cannot be sent: {error}" if outcome[0] else f"{type(outcome[1]).__name__}: {outcome[1]}"
        return pickle.dumps((False, RuntimeError(what)))
