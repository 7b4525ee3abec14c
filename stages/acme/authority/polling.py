"""Asking an authority how far it is."""

from __future__ import annotations

from typing import Final

from pingap.stages.acme.authority.failures import AuthorityUnreachable
from pingap.stages.acme.authority.link import AuthorityLink, AuthorityReply
from pingap.stages.acme.authority.patience import AuthorityTime, OrderPatience
from pingap.stages.acme.authority.retrying import after

TRIES: Final = 4


class Poller:
    """For one order. What only looks may be repeated, so an authority that fails now and then does not fail an order."""

    def __init__(self, link: AuthorityLink, clocks: AuthorityTime, patience: OrderPatience) -> None:
        self.link = link
        self.patience = patience
        self.now = clocks.now

    def ask(self, url: str) -> AuthorityReply:
        """Raises IssueFailed, AuthorityRefused."""
        for left in reversed(range(TRIES)):
            try:
                return self.link.fetch(url)
            except AuthorityUnreachable as error:
                if not left:
                    raise
                self.patience.pause(error.retry_at, str(error))
        raise AssertionError("the last one returns or raises")

    def pause(self, reply: AuthorityReply | None, what: str) -> None:
        """Before the next question, as long as the reply says. Raises IssueFailed."""
        self.patience.pause(after(reply.retry_after if reply else None, self.now()), what)
