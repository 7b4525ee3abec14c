"""Certificates on a shelf, and what of a shelf is no longer needed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from pingap.config.certificates import leaf_of
from pingap.stages.acme.store.base import Kind, Shelf
from pingap.stages.acme.wanted import Issued

AFTER: Final = 30 * 86400.0
"""Seconds for which what is of no use any more is kept all the same: a section may come back, and people want to look."""

SKEW: Final = 300.0
"""Seconds by which the clocks of instances may differ."""

OVERTAKEN: Final[tuple[Kind, ...]] = ("orders", "records")
SHORT_LIVED: Final[tuple[Kind, ...]] = ("challenges", "tickets")


class _Certificate(msgspec.Struct):
    cert: str
    key: str
    at: float
    """Unix time at which it was got."""


class _Dated(msgspec.Struct):
    """What all orders and records have among other things."""

    at: float
    """Unix time of the last change."""


_CERTIFICATE: Final = msgspec.msgpack.Decoder(_Certificate)
_DATED: Final = msgspec.msgpack.Decoder(_Dated)


class CertificateKeeper:
    """Blocks, and raises StoreError, as a shelf does. Threads may share it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def get_issued(self, wanted: str) -> Issued | None:
        """By the id of what was asked for. None also for what is no certificate with a key: then another is got."""
        value = self.shelf.get("certificates", wanted)
        return None if value is None else issued_in(value)

    def put_issued(self, wanted: str, issued: Issued, at: float) -> None:
        """at: Unix time."""
        self.shelf.put("certificates", wanted, msgspec.msgpack.encode(_Certificate(issued.cert, issued.key, at)))

    def tidy(self, known: Collection[str], now: float) -> list[tuple[Kind, str]]:
        """Takes away what nobody asks for any more; kinds and names of that.

        Certificates that were got, and ended, 30 days ago; orders and records whose `at` is as old, of msgpack. Accounts stay,
        and what cannot be read. Nothing goes by a clock that others' certificates belie: one got later than now, or none that is
        good now. known: ids of what is asked for, as far as this instance knows: others may ask for more. now: Unix time.
        """
        found = {name: one for name, value in self.shelf.values("certificates").items() if (one := _read(value)) is not None}
        ends = {name: _end_of(one.cert) for name, one in found.items()}
        dated = ((kind, name, _time_of(value)) for kind in OVERTAKEN for name, value in self.shelf.values(kind).items())
        times: dict[tuple[Kind, str], float] = {(kind, name): at for kind, name, at in dated if at is not None}
        times |= {("certificates", name): one.at for name, one in found.items()}
        if not any(now < end < float("inf") for end in ends.values()) or any(at > now + SKEW for at in times.values()):
            return []
        gone = [
            (kind, name)
            for (kind, name), at in times.items()
            if name not in known and at + AFTER < now and (kind != "certificates" or ends[name] + AFTER < now)
        ]
        for kind in SHORT_LIVED:
            self.shelf.names(kind)  # a shelf of files takes away what is over when it is looked at
        for kind, name in gone:
            self.shelf.drop(kind, name)
        return gone


def issued_in(value: bytes) -> Issued | None:
    """Of a value that is on the shelf; None as of `get_issued`."""
    found = _read(value)
    return None if found is None else Issued(found.cert, found.key)


def _read(value: bytes) -> _Certificate | None:
    try:
        return _CERTIFICATE.decode(value)
    except msgspec.DecodeError:
        return None


def _end_of(pem: str) -> float:
    """Unix time; never, for what is no certificate: it is left to people."""
    try:
        return leaf_of(pem).not_valid_after_utc.timestamp()
    except ValueError:
        return float("inf")


def _time_of(value: bytes) -> float | None:
    try:
        return _DATED.decode(value).at
    except msgspec.DecodeError:
        return None
