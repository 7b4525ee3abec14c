"""When an edit is read."""

from __future__ import annotations

from pingap.config.storage.notice import SHARE
from pingap.stages.config.watch import LOOK, PATIENCE, SETTLE, Watch


def looks(watch: Watch, *script: tuple[float, str]) -> list[float]:
    """The times at which the script (time, fingerprint) made it read."""
    return [at for at, seen in script if watch.look(seen, at)]


def test_files_that_stand_still_are_not_read() -> None:
    assert looks(Watch("a"), (1, "a"), (2, "a"), (3, "a")) == []


def test_a_change_is_read_once_it_has_settled() -> None:
    watch = Watch("a")
    assert watch.wait == LOOK
    assert looks(watch, (1.0, "b")) == []
    assert watch.wait == SETTLE
    assert looks(watch, (1.25, "b"), (1.5, "b"), (2.0, "b")) == [1.25]
    assert watch.wait == LOOK


def test_a_file_that_is_written_in_pieces_is_read_when_it_is_whole() -> None:
    assert looks(Watch("a"), (1.0, "b"), (1.2, "c"), (1.4, "d"), (1.6, "d")) == [1.6]


def test_a_file_that_is_gone_for_a_moment_while_an_editor_replaces_it_is_not_missed_nor_read_empty() -> None:
    assert looks(Watch("a"), (1.0, "gone"), (1.1, "b"), (1.35, "b"), (1.8, "b")) == [1.35]


def test_a_change_that_is_taken_back_at_once_is_none() -> None:
    assert looks(Watch("a"), (1.0, "b"), (1.1, "a"), (1.6, "a")) == []


def test_a_file_that_never_stands_still_is_read_all_the_same() -> None:
    script = [(1 + turn * 0.2, f"b{turn}") for turn in range(14)]
    assert looks(Watch("a"), *script)[0] <= 1 + PATIENCE + 0.2


def test_what_was_read_for_another_reason_is_not_read_again() -> None:
    watch = Watch("a")
    watch.read("b")
    assert looks(watch, (1.0, "b"), (1.3, "b")) == []


def test_where_a_look_takes_long_there_are_fewer_of_them() -> None:
    watch = Watch("a")
    watch.look("a", 1, cost=0.5)
    assert watch.wait == 0.5 / SHARE
    watch.look("b", 2, cost=0.5)
    assert watch.wait == SETTLE, "an edit is not kept waiting"
    watch.look("a", 3, cost=0.001)
    assert watch.wait == LOOK


def test_looks_for_which_something_calls_are_no_more_than_their_share() -> None:
    watch = Watch("a")
    assert watch.rest(1) == 0
    watch.look("a", 1, cost=0.5)
    assert (watch.rest(2), watch.rest(1000)) == (1 + 0.5 / SHARE - 2, 0)
    watch.look("b", 30, cost=0.5)
    assert watch.rest(30) == 0, "an edit is not kept waiting"
