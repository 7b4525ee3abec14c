"""Replicated state, decided: the copy ends up as the original, whatever is lost on the way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pingap.bus.replica import Copy, Original

EPOCH = 77


def original(value: Any = "zero", epoch: int = EPOCH) -> Original:
    return Original("config", epoch, value)


def synced() -> tuple[Original, Copy]:
    source, copy = original(), Copy("config")
    assert copy.take(source.snapshot())
    return source, copy


def test_a_new_copy_wants_a_snapshot_and_has_the_value_with_it() -> None:
    source, copy = original("x"), Copy("config")
    assert copy.needs_snapshot
    assert copy.take(source.snapshot())
    assert (copy.value, copy.needs_snapshot) == ("x", False)


def test_an_update_before_the_snapshot_is_no_value_yet() -> None:
    source, copy = original(), Copy("config")
    assert not copy.take(source.change("one"))
    assert copy.take(source.snapshot())
    assert copy.value == "one"


def test_updates_are_taken_in_order_and_each_once() -> None:
    source, copy = synced()
    first = source.change("one")
    assert copy.take(first)
    assert not copy.take(first)
    assert copy.take(source.change("two"))
    assert copy.value == "two"


def test_an_update_older_than_the_snapshot_is_dropped() -> None:
    source, copy = original(), Copy("config")
    late = source.change("one")
    source.change("two")
    copy.take(source.snapshot())
    assert not copy.take(late)
    assert (copy.value, copy.needs_snapshot) == ("two", False)


def test_a_gap_asks_for_a_snapshot_and_keeps_the_old_value_until_it_comes() -> None:
    source, copy = synced()
    source.change("lost")
    assert not copy.take(source.change("two"))
    assert (copy.value, copy.needs_snapshot) == ("zero", True)
    assert copy.take(source.snapshot())
    assert (copy.value, copy.needs_snapshot) == ("two", False)


def test_a_restarted_publisher_is_noticed_by_its_epoch_though_its_numbers_start_anew() -> None:
    source, copy = synced()
    for value in range(5):
        copy.take(source.change(value))
    again = original("again", EPOCH + 1)
    assert not copy.take(again.change("again"))
    assert copy.needs_snapshot
    assert copy.take(again.snapshot())
    assert copy.value == "again"


def test_a_snapshot_that_was_overtaken_by_updates_does_not_turn_back_time() -> None:
    source, copy = synced()
    late = source.snapshot()
    copy.take(source.change("one"))
    assert not copy.take(late)
    assert copy.value == "one"


def test_a_snapshot_of_what_is_known_is_no_change() -> None:
    source, copy = synced()
    assert not copy.take(source.snapshot())


def test_a_repeat_asks_only_for_what_is_not_known() -> None:
    source, copy = synced()
    assert not copy.take(source.repeat()) and not copy.needs_snapshot
    copy.take(source.change("one"))
    assert not copy.take(source.repeat()) and not copy.needs_snapshot
    source.change("lost")
    assert not copy.take(source.repeat()) and copy.needs_snapshot
    assert copy.take(source.snapshot())
    assert copy.value == "lost"
    assert not copy.take(original(epoch=EPOCH + 1).repeat()) and copy.needs_snapshot


@given(st.lists(st.sampled_from(["change", "lose", "ask", "restart"]), max_size=40))
def test_after_any_losses_and_restarts_one_answered_question_makes_the_copy_true(script: list[str]) -> None:
    epoch = EPOCH
    source, copy = original(), Copy("config")
    for number, step in enumerate(script):
        if step == "change":
            copy.take(source.change(number))
        elif step == "lose":
            source.change(number)
        elif step == "restart":
            epoch += 1
            source = original(number, epoch)
        elif copy.needs_snapshot:
            copy.take(source.snapshot())
        if not copy.needs_snapshot and (copy.value != source.value):
            assert "lose" in script or "restart" in script
    copy.take(source.change("last"))
    if copy.needs_snapshot:
        copy.take(source.snapshot())
    assert copy.value == "last"
