"""What a shelf is, whatever is behind it: bytes under a kind and a name, and leases that end with their holders."""

from __future__ import annotations

from typing import Final, Literal, Protocol

Kind = Literal["certificates", "accounts", "orders", "records", "challenges", "tickets"]

KINDS: Final[tuple[Kind, ...]] = ("certificates", "accounts", "orders", "records", "challenges", "tickets")
"""Certificates with their keys, by the id of what was asked for; accounts by directory; orders under way, by id of what was asked
for; records of attempts, likewise; key authorizations of http-01, by token; keys of session tickets."""


class StoreError(Exception):
    """The store cannot be read or written; the text says why, and what to do. No secret is in it."""


class ValueUnreadable(StoreError):
    """This one value cannot be read; others can."""


class Lease(Protocol):
    """What one instance alone has at a time. It ends by itself when its holder dies. Methods block, and raise nothing."""

    def renew(self) -> bool:
        """To be called at least every third of its seconds. False: it is lost, for good."""

    def release(self) -> None:
        """Somebody else may have it at once. Also of one that is lost."""


class Shelf(Protocol):
    """Bytes under a kind and a name, any text of 1 to 1024 bytes. Threads may share it. All methods block, and raise StoreError."""

    def get(self, kind: Kind, name: str) -> bytes | None:
        """None: there is none, or it was to be forgotten. Raises ValueUnreadable besides."""

    def put(self, kind: Kind, name: str, value: bytes, seconds: float | None = None) -> None:
        """Others find either all of it or what was there before, and it outlives a crash once this has returned.

        seconds: after which it is forgotten.
        """

    def drop(self, kind: Kind, name: str) -> None:
        """Also of one that is not there."""

    def names(self, kind: Kind) -> list[str]:
        """Of what `get` finds; sorted. What cannot be read is left out."""

    def values(self, kind: Kind) -> dict[str, bytes]:
        """All that `get` finds, by name, in one go. What cannot be read is left out."""

    def version(self) -> str:
        """Cheap; another one when anybody has put or dropped anything."""

    def lease(self, name: str, seconds: float) -> Lease | None:
        """None: another instance has it. seconds: after which others may have it when its holder has died, or does not renew it."""

    def holder(self, name: str) -> str:
        """Who has a lease, for messages: `host:pid`; "" when nobody has."""
