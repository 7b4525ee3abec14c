"""Which process listens on a port, as far as /proc shows it: for telling whom to ask, never for deciding what may be bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

_LISTENS: Final = "0A"
"""TCP_LISTEN in the tables of the kernel."""


class Holder(NamedTuple):
    """A process that listens on a port."""

    pid: int
    name: str
    """As the kernel has it: of 15 characters at most."""

    def __str__(self) -> str:
        return f"{self.name.partition(':')[0]} (pid {self.pid})"  # ours have a title: pingap: supervisor


def holder_of(port: int, first: int | None = None) -> Holder | None:
    """Who listens on a port, at whatever address; None when nobody does, or nobody that this user may look at.

    first: a process id that is looked at before all others, for a socket may be several processes'.
    """
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return None
    others = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    for pid in (*((first,) if first else ()), *others):
        with suppress(OSError):
            if not wanted.isdisjoint(_links(pid)):
                with open(f"/proc/{pid}/comm") as file:
                    return Holder(pid, file.read().strip())
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{table}") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTENS and fields[1].endswith(f":{port:04X}"):
                    yield fields[9]


def _links(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with suppress(OSError):
            yield os.readlink(f"{folder}/{name}")
