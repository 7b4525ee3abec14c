"""Certificates on a shelf, and what of it is thrown away: nothing that might be asked for."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued
from tests.e2e.certificate import self_signed

DAY = 86400.0


@pytest.fixture
def keeper(tmp_path: Path) -> CertificateKeeper:
    return CertificateKeeper(FileShelf(str(tmp_path / "acme")))


def put(keeper: CertificateKeeper, name: str, days: float, at: float = 1_700_000_000.5) -> Issued:
    issued = Issued(*self_signed("a.example", days=days))
    keeper.put_issued(name, issued, at)
    return issued


def test_a_certificate_is_got_as_it_was_put(keeper: CertificateKeeper) -> None:
    issued = put(keeper, "a.example-1", 90)
    assert keeper.get_issued("a.example-1") == issued
    assert keeper.get_issued("b") is None
    assert msgspec.msgpack.decode(keeper.shelf.get("certificates", "a.example-1") or b"") == {
        "cert": issued.cert,
        "key": issued.key,
        "at": 1_700_000_000.5,
    }


@pytest.mark.parametrize(
    "value", [b"", b"\x80", b"rubbish", msgspec.msgpack.encode({"cert": "x"}), msgspec.msgpack.encode(["a", "b", 1.0])]
)
def test_what_is_no_certificate_is_none(keeper: CertificateKeeper, value: bytes) -> None:
    keeper.shelf.put("certificates", "a", value)
    assert keeper.get_issued("a") is None
    assert keeper.tidy((), time.time() + 1000 * DAY) == []
    assert keeper.shelf.names("certificates") == ["a"]


def test_what_ended_long_ago_and_nobody_asks_for_goes_and_nothing_else(keeper: CertificateKeeper) -> None:
    now = time.time()
    for name, days in (("ended", 10), ("asked for", 10), ("ended lately", 60), ("good", 90)):
        put(keeper, name, days)
    keeper.shelf.put("certificates", "odd", msgspec.msgpack.encode({"cert": "no PEM", "key": "", "at": 0}))
    later = now + 41 * DAY
    for kind in ("orders", "records"):
        keeper.shelf.put(kind, "old", msgspec.msgpack.encode({"at": now, "more": [1]}))
        keeper.shelf.put(kind, "asked for", msgspec.msgpack.encode({"at": now}))
        keeper.shelf.put(kind, "lately", msgspec.msgpack.encode({"at": later - 29 * DAY}))
        keeper.shelf.put(kind, "without a time", msgspec.msgpack.encode({"url": "x"}))
        keeper.shelf.put(kind, "not msgpack", b"{}x")
    keeper.shelf.put("accounts", "old", msgspec.msgpack.encode({"at": 0}))
    keeper.shelf.put("tickets", "old", msgspec.msgpack.encode({"at": 0}))
    assert sorted(keeper.tidy({"asked for"}, later)) == [("certificates", "ended"), ("orders", "old"), ("records", "old")]
    assert keeper.shelf.names("certificates") == ["asked for", "ended lately", "good", "odd"]
    assert keeper.shelf.names("orders") == keeper.shelf.names("records") == ["asked for", "lately", "not msgpack", "without a time"]
    assert keeper.shelf.names("accounts") == keeper.shelf.names("tickets") == ["old"]
    assert keeper.tidy({"asked for"}, later) == []


@pytest.mark.parametrize("days", [35, 200])
def test_nothing_goes_by_a_clock_that_the_certificates_belie(keeper: CertificateKeeper, days: int) -> None:
    """Good ones of other instances, which this one does not know."""
    now = time.time()
    put(keeper, "anothers", 3)
    assert keeper.tidy((), now + days * DAY) == [], "none would be good: the clock is ahead"
    put(keeper, "newest", 300, now + days * DAY + 3600)
    assert keeper.tidy((), now + days * DAY) == [], "got in the future: the clock is behind, or one was"
    put(keeper, "newest", 300, now)
    put(keeper, "lately", 3, now + (days - 2) * DAY)
    assert keeper.tidy((), now + days * DAY) == [("certificates", "anothers")], "and what was got lately stays"
