"""Answers an authority that looks for a proof over HTTP, and whoever else asks below that path: nothing else is served there."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Final

from pingap.bus.actor import Context
from pingap.stages.acme.aside import to_loop
from pingap.stages.acme.http_proofs import HttpProofs, token_in
from pingap.stages.acme.store.base import StoreError
from pingap.stages.answers import OwnAnswers
from pingap.stages.error_page import ErrorPages
from pingap.stages.messages import Cancel, Done, Routed

LOOKUPS: Final = 16
"""Tokens of other instances that are looked up at the same time; whoever asks for more of them gets 404."""

_HEADERS: Final = b"content-type: application/octet-stream\r\ncache-control: no-store\r\n"


class ChallengeAnswers:
    """Each request is answered once; what the shelf does not say in time is answered by routing (`Answered` comes too late then)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._answers = OwnAnswers(context)
        self._lookups = 0
        self.pages = ErrorPages()
        self.proofs: HttpProofs | None = None
        """None while nothing is got."""

    def __len__(self) -> int:
        """Requests that have no whole answer yet."""
        return len(self._answers) + self._lookups

    def asked(self, routed: Routed) -> None:
        """ROUTED."""
        token = token_in(routed.target) if routed.method in (b"GET", b"HEAD") else ""
        if self.proofs is None or not token:
            self._answer(routed, "")
        elif proof := self.proofs.here(token):
            self._answer(routed, proof)
        elif self._lookups >= LOOKUPS:
            self._answer(routed, "")
        else:
            work = partial(self._look_up, self._context.loop, self.proofs, routed, token)
            self._lookups += 1
            try:
                threading.Thread(target=work, name="acme lookup", daemon=True).start()
            except RuntimeError:  # no more threads
                self._looked_up(routed, "")

    def _look_up(self, loop: asyncio.AbstractEventLoop, proofs: HttpProofs, routed: Routed, token: str) -> None:
        proof = ""
        try:
            proof = proofs.anywhere(token)
        except StoreError:
            pass  # the reader of the shelf tells of it
        finally:
            to_loop(loop, self._looked_up, routed, proof)

    def _looked_up(self, routed: Routed, proof: str) -> None:
        self._lookups -= 1
        self._answer(routed, proof)

    def _answer(self, routed: Routed, proof: str) -> None:
        if proof:
            self._answers.answer(routed, 200, _HEADERS, proof.encode())
        else:
            self._answers.answer(routed, *self.pages.page("not_found"), error="not_found")

    def ended(self, message: Cancel | Done) -> None:
        """CANCEL and DONE."""
        self._answers.ended(message)

    def forget(self, gone: frozenset[int]) -> None:
        """Actors are gone."""
        self._answers.forget(gone)
