"""Keeps the secret of session tickets: what tickets.py decides is done here, in threads, at a place of ticket_places.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from secrets import token_bytes
from time import time
from typing import Final

from pingap.bus.actor import Context
from pingap.config.problems import ConfigRefused
from pingap.stages.acme.aside import to_loop
from pingap.stages.acme.store.base import StoreError
from pingap.stages.acme.ticket_places import TicketPlace
from pingap.stages.acme.tickets import SECRET, TicketSecrets

LOOK: Final = 10.0
"""Seconds between two looks at whether it is time, or another instance has made one."""


class TicketKeeper:
    """Of the acme stage.

    place: gives where it is kept now, in a thread; a reload may move it. changed: called with all secrets, the newest first, when
    they are others.
    """

    def __init__(self, context: Context, place: Callable[[], TicketPlace], changed: Callable[[tuple[bytes, ...]], None]) -> None:
        self._context = context
        self._place = place
        self._changed = changed
        self._decides: Final = TicketSecrets()
        """Of one thread at a time."""
        self._secrets: tuple[bytes, ...] = ()
        self._reason = ""
        self._timer: asyncio.TimerHandle | None = None
        self._has_begun = self._is_stopped = False

    def begin(self) -> None:
        """There is a server that speaks TLS."""
        if not self._has_begun:
            self._has_begun = True
            self._look()

    def stop(self) -> None:
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        threading.Thread(target=self._look_aside, args=(self._context.loop,), name="tickets", daemon=True).start()

    def _look_aside(self, loop: asyncio.AbstractEventLoop) -> None:
        reason, now = "", time()
        try:
            self._look_there(now)
        except (StoreError, ConfigRefused) as error:
            reason = str(error)
        except Exception as error:  # a thread that dies would end the change of secrets for good
            reason = f"a fault of pingap: {error!r}"
        if self._decides.is_due(now):  # the place is away
            self._decides.rotate(token_bytes(SECRET), now)
        to_loop(loop, self._looked, self._decides.secrets, reason)

    def _look_there(self, now: float) -> None:
        """Raises StoreError, ConfigRefused."""
        place = self._place()
        packed = place.read()
        self._decides.found(packed, now)
        if self._decides.is_due(now):
            place.write(self._decides.rotate(token_bytes(SECRET), now))
        elif packed is None:  # it is another place than before, or somebody has tidied up
            place.write(self._decides.packed())

    def _looked(self, secrets: tuple[bytes, ...], reason: str) -> None:
        if self._is_stopped:
            return
        if reason and reason != self._reason:
            message = "the secret of session tickets cannot be kept: sessions end with this run, and other instances do not take them"
            self._context.log("info", message, reason=reason)
        self._reason = reason
        if secrets != self._secrets:
            self._secrets = secrets
            self._changed(secrets)
        self._timer = self._context.loop.call_later(LOOK, self._look)
