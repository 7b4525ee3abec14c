"""The proof over HTTP (RFC 8555 section 8.3): an authority fetches what we say of a token, on whichever instance it comes to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from pingap.stages.acme.presenter import Challenge
from pingap.stages.acme.store.base import Shelf, StoreError

PREFIX: Final = "/.well-known/acme-challenge/"

LIFETIME: Final = 3600.0
"""Seconds for which a proof is there at most: who put it there may be gone."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
"""base64url (RFC 8555 section 8.3): a token can name nothing else on the shelf, and no file."""


def token_in(target: bytes) -> str:
    """The token that a request target asks for; "" when that is none."""
    path = target.partition(b"?")[0].decode("latin-1")
    token = path.removeprefix(PREFIX)
    return token if token != path and _TOKEN.fullmatch(token) else ""


class HttpProofs:
    """A Presenter of http-01, and what answers."""

    def __init__(self, shelf: Shelf, warn: Callable[[str], None]) -> None:
        """warn: takes a line for the operator, in whatever thread."""
        self._shelf = shelf
        self._warn = warn
        self._here: dict[str, str] = {}
        """Token → key authorization, of tries of this instance."""
        self._there: dict[str, str] = {}
        """The same of all instances, when it was looked last."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Other instances find them on the shelf; without it, this one answers still, and may be the only one."""
        for challenge in challenges:
            self._here[challenge.token] = challenge.key_authorization
            try:
                self._shelf.put("challenges", challenge.token, challenge.key_authorization.encode(), LIFETIME)
            except StoreError as error:
                self._warn(f"a proof over HTTP cannot be stored, so this instance alone answers the authority: {error}")

    def remove(self, challenge: Challenge) -> None:
        """See Presenter."""
        self._here.pop(challenge.token, None)
        try:
            self._shelf.drop("challenges", challenge.token)
        except StoreError:
            return  # it goes by itself after LIFETIME

    def close(self) -> None:
        """All tries share it."""

    def here(self, token: str) -> str:
        """What is said of a token of this instance; "" for others."""
        return self._here.get(token, "")

    def anywhere(self) -> dict[str, str]:
        """Token → key authorization, of all instances: few, as each stands for a minute. Blocks; in one thread. Raises StoreError.

        What is said of a token never changes, so that only what is new is read.
        """
        there = {}
        for token in self._shelf.names("challenges"):
            said = self._there.get(token)
            if said is None:
                value = self._shelf.get("challenges", token)
                said = value.decode("ascii", "replace") if value is not None else ""
            if said:
                there[token] = said
        self._there = there
        return there
