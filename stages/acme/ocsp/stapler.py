"""Asks responders in threads, as core.py decides, and hands on what is to be stapled.

The run dir has it, too, so that after a restart of this stage, or of pingap, no client goes without while responders are asked
again: a certificate that demands a staple would be refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import Final

from pingap.bus.actor import Context
from pingap.stages.acme.aside import to_loop
from pingap.stages.acme.ocsp.core import OcspCore, OcspTelling
from pingap.stages.acme.ocsp.fetching import OcspUnreachable, ask
from pingap.stages.acme.ocsp.question import OcspQuestion
from pingap.stages.acme.run_dir_file import RunDirFile

LOOK: Final = 60.0
"""Seconds between two looks at the most: Unix time may jump."""

KEPT: Final = "staples.last"
"""In the run dir."""


class Stapler:
    """Of the acme stage. changed: called with all staples when they are others: SHA-256 of a certificate in hex → DER.

    revoked: called with all that were revoked when there are others: the same → names of the sections.
    """

    def __init__(
        self, context: Context, changed: Callable[[Mapping[str, bytes]], None], revoked: Callable[[Mapping[str, tuple[str, ...]]], None]
    ) -> None:
        self._context = context
        self._changed = changed
        self._tell_revoked = revoked
        self._revoked: dict[str, tuple[str, ...]] = {}
        self._core = OcspCore()
        self._staples: dict[str, bytes] = {}
        self._file = RunDirFile(context.run_dir, KEPT)
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def serve(self, chains: Mapping[str, str]) -> None:
        """These are served, and no others: name of the section → PEM, the server's own certificate first."""
        if not self._has_begun:
            self._has_begun = True
            self._core.recall(self._kept())
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
            threading.Thread(target=self._ask, args=(question, url, self._context.loop), name="ocsp", daemon=True).start()
        staples = self._core.staples(now)
        if staples != self._staples:
            self._staples = staples
            self._keep()
            self._changed(staples)
        revoked = self._core.revoked()
        if revoked != self._revoked:
            self._revoked = revoked
            self._tell_revoked(revoked)
        if self._timer is not None:
            self._timer.cancel()
        moment = self._core.next_at(now)
        self._timer = None if moment is None else self._context.loop.call_later(max(0.1, min(moment - now, LOOK)), self._look)

    def _kept(self) -> dict[str, bytes]:
        try:
            found = self._file.read()
        except OSError as error:
            self._context.log("warn", f"{KEPT} of the run dir cannot be used", error=str(error))
            return {}
        return {leaf: der for leaf, der in found.items() if isinstance(der, bytes)} if isinstance(found, dict) else {}

    def _keep(self) -> None:
        try:
            self._file.write(self._staples)
        except OSError as error:
            self._context.log("warn", f"{KEPT} cannot be written; a restart would need it", error=str(error))

    def _ask(self, question: OcspQuestion, url: str, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        der, reason = b"", ""
        try:
            der = ask(url, question.request)
        except OcspUnreachable as error:
            reason = str(error)
        except Exception as error:  # a thread that dies would be asked for again, and again
            reason = f"a fault of pingap: {error!r}"
        to_loop(loop, self._heard, question.leaf, der, reason)

    def _heard(self, leaf: str, der: bytes, reason: str) -> None:
        now = time()
        self._say(self._core.failed(leaf, reason, now) if reason else self._core.answered(leaf, der, now))
        self._look()

    def _say(self, tellings: Iterable[OcspTelling]) -> None:
        for level, message, fields in tellings:
            self._context.log(level, message, **fields)
