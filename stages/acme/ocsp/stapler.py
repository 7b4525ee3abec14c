"""Asks responders in threads, as core.py decides, and hands on what is to be stapled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import Final

from pingap.bus.actor import Context
from pingap.stages.acme.ocsp.core import OcspCore, OcspTelling
from pingap.stages.acme.ocsp.fetching import OcspUnreachable, ask
from pingap.stages.acme.ocsp.question import OcspQuestion

LOOK: Final = 60.0
"""Seconds between two looks at the most: Unix time may jump."""


class Stapler:
    """Of the acme stage. changed: called with all staples when they are others: SHA-256 of a certificate in hex → DER."""

    def __init__(self, context: Context, changed: Callable[[Mapping[str, bytes]], None]) -> None:
        self._context = context
        self._changed = changed
        self._core = OcspCore()
        self._staples: dict[str, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def serve(self, chains: Mapping[str, str]) -> None:
        """These are served, and no others: name of the section → PEM, the server's own certificate first."""
        self._say(self._core.serve(chains, time()))
        self._look()

    def stapled_since(self) -> dict[str, float]:
        """By name of the section: Unix seconds at which the responder has said what is stapled."""
        return self._core.stapled_since(time())

    def stop(self) -> None:
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._is_stopped:
            return
        now = time()
        for question, url in list(self._core.due(now)):
            threading.Thread(target=self._ask, args=(question, url), name="ocsp", daemon=True).start()
        staples = self._core.staples(now)
        if staples != self._staples:
            self._staples = staples
            self._changed(staples)
        if self._timer is not None:
            self._timer.cancel()
        moment = self._core.next_at(now)
        self._timer = None if moment is None else self._context.loop.call_later(max(0.1, min(moment - now, LOOK)), self._look)

    def _ask(self, question: OcspQuestion, url: str) -> None:
        """In a thread."""
        der, reason = b"", ""
        try:
            der = ask(url, question.request)
        except OcspUnreachable as error:
            reason = str(error)
        except Exception as error:  # a thread that dies would be asked for again, and again
            reason = f"a fault of pingap: {error!r}"
        self._context.loop.call_soon_threadsafe(self._heard, question.leaf, der, reason)

    def _heard(self, leaf: str, der: bytes, reason: str) -> None:
        now = time()
        self._say(self._core.failed(leaf, reason, now) if reason else self._core.answered(leaf, der, now))
        self._look()

    def _say(self, tellings: Iterable[OcspTelling]) -> None:
        for level, message, fields in tellings:
            self._context.log(level, message, **fields)
