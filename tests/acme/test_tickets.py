"""When session tickets are made of another secret."""

from __future__ import annotations

import msgpack
import pytest

from pingap.stages.acme.tickets import AHEAD, ROTATION, SECRET, TicketSecrets

NOW = 1_800_000_000.0
ONE, TWO = b"1" * SECRET, b"2" * SECRET


def test_one_is_used_for_twelve_hours_and_then_no_more() -> None:
    secrets = TicketSecrets()
    assert not secrets.secrets and secrets.is_due(NOW)
    secrets.rotate(ONE, NOW)
    assert list(secrets.secrets) == [ONE]
    assert not secrets.is_due(NOW + ROTATION - 1)
    assert secrets.is_due(NOW + ROTATION)
    secrets.rotate(TWO, NOW + ROTATION)
    assert list(secrets.secrets) == [TWO], "who gets hold of it later cannot read what was recorded under the one before"


def test_a_restart_goes_on_with_what_is_on_the_shelf_as_long_as_it_is_young() -> None:
    packed = TicketSecrets().rotate(ONE, NOW)
    for later, is_found in ((0, True), (ROTATION - 1, True), (ROTATION, False), (-AHEAD, True), (-AHEAD - 1, False)):
        secrets = TicketSecrets()
        secrets.found(packed, NOW + later)
        assert secrets.is_due(NOW + later) is not is_found
        assert bool(secrets.secrets) is is_found


def test_of_two_instances_that_rotate_at_once_both_come_to_use_what_was_put_last() -> None:
    shelf = None
    one, other = TicketSecrets(), TicketSecrets()
    shelf = one.rotate(ONE, NOW)
    shelf = other.rotate(TWO, NOW)
    for each in (one, other):
        each.found(shelf, NOW + 1)
    assert one.secrets == other.secrets == (TWO,)


@pytest.mark.parametrize(
    "packed",
    [
        None,
        b"",
        b"\xc1",
        b"garbage",
        msgpack.packb([1]),
        msgpack.packb({"at": NOW}),
        msgpack.packb({"at": NOW, "secret": b"short"}),
        msgpack.packb({"at": "x", "secret": ONE}),
        msgpack.packb({"at": float("nan"), "secret": ONE}),
        msgpack.packb({"at": NOW, "secret": "s" * SECRET}),
    ],
)
def test_what_is_no_secret_is_as_nothing(packed: bytes | None) -> None:
    secrets = TicketSecrets()
    secrets.found(packed, NOW)
    assert not secrets.secrets and secrets.is_due(NOW)
    secrets.rotate(ONE, NOW)
    secrets.found(packed, NOW)
    assert list(secrets.secrets) == [ONE]
