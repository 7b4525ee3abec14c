"""Waiting for descriptors of any number: select.select takes none above 1023."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Final

READABLE: Final = select.POLLIN
WRITABLE: Final = select.POLLOUT


def ready(fds: Iterable[int], seconds: float | None = None, events: int = READABLE) -> list[int]:
    """Those for which something has happened, an error or an end included; [] after so many seconds. None waits for ever."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, events)
    return [fd for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000)]
