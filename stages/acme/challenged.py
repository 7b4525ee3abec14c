"""Answers an authority that looks for a proof over HTTP, and whoever else asks below that path: nothing else is served there."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Final

from pingap.bus.actor import Context
from pingap.stages.acme.aside import AsideWork, to_loop
from pingap.stages.acme.http_proofs import HttpProofs, token_in
from pingap.stages.acme.store.base import StoreError
from pingap.stages.answers import OwnAnswers
from pingap.stages.error_page import ErrorPages
from pingap.stages.messages import Cancel, Done, Routed, owner_of

PAUSE: Final = 1.0
"""Seconds between two looks at what other instances have on the shelf. One look answers all who have come before it, so that
strangers who ask for whatever tokens take one call a second from the store, and no answer from an authority."""

FRESH: Final = 10.0
"""Seconds for which what was found is said without another look: authorities ask several times, from several places."""

WAITING: Final = 20_000
"""Requests that may wait for a look; whoever comes then gets 404."""

_HEADERS: Final = b"content-type: application/octet-stream\r\ncache-control: no-store\r\n"


class ChallengeAnswers:
    """Each request is answered once; what the shelf does not say in time is answered by routing (`Answered` comes too late then)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._answers = OwnAnswers(context)
        self._work = AsideWork("acme lookup")
        self._there: dict[str, str] = {}
        """Proofs of all instances when it was looked last."""
        self._waiting: dict[int, tuple[Routed, str]] = {}
        """By stream: those that the next look answers, with their tokens."""
        self._looking: dict[int, tuple[Routed, str]] = {}
        """Those that the one under way answers."""
        self._is_looking = False
        self._next: asyncio.TimerHandle | None = None
        self._looked = float("-inf")
        self.pages = ErrorPages()
        self.proofs: HttpProofs | None = None
        """None while nothing is got."""
        self.is_proved_here = False
        """Something is got that is proved over HTTP: else other instances, of the same configuration, have no proofs either."""

    def __len__(self) -> int:
        """Requests that have no whole answer yet."""
        return len(self._answers) + len(self._waiting) + len(self._looking)

    def asked(self, routed: Routed) -> None:
        """ROUTED."""
        token = token_in(routed.target) if routed.method in (b"GET", b"HEAD") else ""
        if self.proofs is None or not token:
            self._answer(routed, "")
        elif proof := self.proofs.here(token) or self._known(token):
            self._answer(routed, proof)
        elif not self.is_proved_here or len(self._waiting) >= WAITING:
            self._answer(routed, "")
        else:
            self._waiting[routed.sid] = (routed, token)
            self._look_soon()

    def _known(self, token: str) -> str:
        return self._there.get(token, "") if monotonic() < self._looked + FRESH else ""

    def _look_soon(self) -> None:
        """Those who wait have come after the look before was begun: their proofs may be newer."""
        if self._next is None and not self._is_looking:
            self._next = self._context.loop.call_later(max(self._looked + PAUSE - monotonic(), 0.0), self._look)

    def _look(self) -> None:
        self._next = None
        if self.proofs is None or not self._waiting:
            return
        self._looked, self._is_looking = monotonic(), True
        self._looking, self._waiting = self._waiting, {}
        try:
            self._work.do(partial(self._look_up, self._context.loop, self.proofs))
        except RuntimeError:  # no more threads
            self._looked_up(self._there)

    def _look_up(self, loop: asyncio.AbstractEventLoop, proofs: HttpProofs) -> None:
        there: dict[str, str] = {}
        try:
            there = proofs.anywhere()
        except StoreError:
            pass  # the reader of the shelf tells of it
        finally:
            to_loop(loop, self._looked_up, there)

    def _looked_up(self, there: dict[str, str]) -> None:
        answered, self._looking = self._looking, {}
        self._there, self._is_looking = there, False
        for routed, token in answered.values():
            self._answer(routed, there.get(token, ""))
        if self._waiting:
            self._look_soon()

    def _answer(self, routed: Routed, proof: str) -> None:
        if proof:
            self._answers.answer(routed, 200, _HEADERS, proof.encode())
        else:
            self._answers.answer(routed, *self.pages.page("not_found"), error="not_found")

    def ended(self, message: Cancel | Done) -> None:
        """CANCEL and DONE."""
        for waiting in (self._waiting, self._looking):
            waiting.pop(message.sid, None)
        self._answers.ended(message)

    def forget(self, gone: frozenset[int]) -> None:
        """Actors are gone."""
        for waiting in (self._waiting, self._looking):
            for sid in [sid for sid in waiting if owner_of(sid) in gone]:
                del waiting[sid]
        self._answers.forget(gone)

    def stop(self) -> None:
        """Looks no more."""
        self._work.stop()
        if self._next is not None:
            self._next.cancel()
