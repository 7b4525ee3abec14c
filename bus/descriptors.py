"""How many files and sockets this process may have open, and what part of them connections may take.

ZeroMQ ends the whole process when it gets no descriptor at the wrong moment (its listener's accept, its mailboxes), and
libuv closes what it cannot accept without telling anybody. So those who take descriptors by the thousand, for
connections, stop at `most`; the rest is kept for the bus, for files, lookups and plugins.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

PER_PEER: Final = 4
"""Of each other actor: a socket with its mailbox to it, its connection and the one from it, one more while it is replaced."""

LEAST_KEPT, MOST_KEPT = 64, 1024
"""For everything else: an eighth of the limit within these bounds."""

NEARLY: Final = 0.97
"""Of the limit: more than connections can take by themselves is worth a word."""

SHORT: Final = (errno.EMFILE, errno.ENFILE)
"""What the system says when there is none left: in this process, or in all of it."""

UNBOUNDED: Final = 1 << 30


class Exhausted(OSError):
    """Connections have all the descriptors that they may have."""

    def __init__(self) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))


class Descriptors:
    """Those of one process. `most` is what each of those who `join` may take."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._peers = self._held = self._takers = 0
        self.most = 0
        self.slack = kept(limit) // 2
        """More than `most` that may stay where there were fewer peers before."""
        self._count()

    def join(self) -> None:
        """One more actor of this process has many connections."""
        self._takers += 1
        self._count()

    def hold(self, descriptors: int) -> None:
        """So many are taken for as long as the process lives, beside the bus."""
        self._held += descriptors
        self._count()

    def has_peers(self, actors: int) -> None:
        """How many actors the table names."""
        self._peers = actors
        self._count()

    def _count(self) -> None:
        room = self.limit - kept(self.limit) - PER_PEER * self._peers - self._held
        self.most = max(0, room) // max(1, self._takers)


def kept(limit: int) -> int:
    """What connections leave alone, peers aside."""
    return max(LEAST_KEPT, min(MOST_KEPT, limit // 8))


def limit_now() -> int:
    """What this process may have open now (RLIMIT_NOFILE)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNBOUNDED if soft == resource.RLIM_INFINITY else soft


def in_use(pid: int | str = "self") -> int:
    """How many a process has open; 0 where it is gone or not ours to look at."""
    path = f"/proc/{pid}/fd"
    try:
        # Since Linux 6.2 the size says it; before, it is 0, and they are counted.
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return 0


def is_short(error: BaseException | None) -> bool:
    """Whether it is for want of a descriptor that something failed."""
    return getattr(error, "errno", None) in SHORT  # OSError's, or zmq.ZMQError's
