"""Orders under way, kept from before they are made until their certificate is fetched (docs/decisions/0045)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgpack

from pingap.stages.acme.authority.failures import IssueFailed
from pingap.stages.acme.authority.keys import new_key, read_key, signing_request
from pingap.stages.acme.presenter import Challenge
from pingap.stages.acme.store.base import Shelf
from pingap.stages.acme.wanted import WantedCertificate

KEPT: Final = 30 * 86400.0
"""Seconds, longer than authorities keep an order open: one that nobody wants any more is then forgotten, with its key."""


@dataclass(slots=True)
class StoredOrder:
    """One order."""

    domains: tuple[str, ...]
    directory: str
    key: str = field(repr=False)
    """PEM, of the certificate to be."""
    request: bytes
    """The signing request, DER: the same one each time."""
    account: str = ""
    """URL."""
    url: str = ""
    """"": it may not have been made."""
    presented: list[Challenge] = field(default_factory=list)
    """Proofs that may still be out."""


class StoredOrders:
    """On a shelf, one for each wanted certificate."""

    def __init__(self, shelf: Shelf, now: Callable[[], float]) -> None:
        """now: seconds since 1970."""
        self._shelf = shelf
        self._now = now

    def begin(self, wanted: WantedCertificate) -> StoredOrder:
        """Raises IssueFailed: what was written is no name for a certificate."""
        key = new_key(wanted.key_type)
        try:
            request = signing_request(key, wanted.domains)
        except ValueError as error:
            names = ", ".join(wanted.domains)
            raise IssueFailed(f"{names}: {error}; letters of other scripts are written as xn--…", is_final=True) from None
        order = StoredOrder(wanted.domains, wanted.directory, key, request)
        self.save(wanted, order)
        return order

    def load(self, wanted: WantedCertificate) -> StoredOrder | None:
        """None: there is none, or it is for something else."""
        value = self._shelf.get("orders", wanted.id)
        try:
            table = msgpack.unpackb(value) if value is not None else {}
            order = StoredOrder(
                tuple(table["domains"]),
                str(table["directory"]),
                str(table["key"]),
                bytes(table["request"]),
                str(table["account"]),
                str(table["url"]),
                [Challenge(*one) for one in table["presented"]],
            )
            read_key(order.key)
        except (ValueError, KeyError, TypeError, msgpack.UnpackException):
            order = None
        if order is not None and (order.domains, order.directory) == (wanted.domains, wanted.directory):
            return order
        if value is not None:
            self.drop(wanted)
        return None

    def save(self, wanted: WantedCertificate, order: StoredOrder) -> None:
        table = {
            "domains": order.domains,
            "directory": order.directory,
            "key": order.key,
            "request": order.request,
            "account": order.account,
            "url": order.url,
            "presented": order.presented,
            "at": self._now(),
        }
        self._shelf.put("orders", wanted.id, msgpack.packb(table), KEPT)

    def drop(self, wanted: WantedCertificate) -> None:
        self._shelf.drop("orders", wanted.id)
