"""The signals that a supervisor hears (docs/running.md): THE list of them."""

from __future__ import annotations

import signal
from typing import Final

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

WISHES: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Reload, reopen, upgrade: with their default action they would end a process that is not ready for them."""

SIGNALS: Final = (*STOPS, *WISHES)


def ignore_wishes() -> None:
    """There is nothing yet, or nothing any more, to reload, to reopen or to hand over."""
    for number in WISHES:
        signal.signal(number, signal.SIG_IGN)
