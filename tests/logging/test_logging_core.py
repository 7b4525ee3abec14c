"""Who wants what, which levels show, when trouble is told."""

from __future__ import annotations

import pytest

from pingap.stages.logging.core import Audience, Recent, Threshold, Trouble


def test_without_readers_only_log_records_are_wanted() -> None:
    assert Audience().wanted() == ["log"]


def test_without_metrics_the_configuration_wants_no_events() -> None:
    audience = Audience()
    audience.configured(has_metrics=False)
    assert audience.wanted() == ["log"]
    assert audience.published == frozenset()


def test_metrics_want_access_events_and_counts() -> None:
    audience = Audience()
    audience.configured(has_metrics=True)
    assert audience.wanted() == ["access", "count", "log"]


def test_a_subscriber_makes_its_topic_wanted_until_it_leaves() -> None:
    audience = Audience()
    audience.subscribed(frozenset({"access"}))
    assert (audience.wanted(), audience.published) == (["access", "log"], frozenset({"access"}))
    audience.subscribed(frozenset())
    assert (audience.wanted(), audience.published) == (["log"], frozenset())


def test_a_topic_is_a_prefix_as_zeromq_has_it() -> None:
    audience = Audience()
    audience.subscribed(frozenset({""}))
    assert audience.published == {"access", "log", "count", "notice"}


def test_each_asker_for_recent_records_is_named_once() -> None:
    audience = Audience()
    assert audience.subscribed(frozenset({"log", "recent.b", "recent.a"})) == ["recent.a", "recent.b"]
    assert audience.subscribed(frozenset({"log", "recent.b", "recent.c"})) == ["recent.c"]
    assert audience.published == {"log"}


def test_recent_records_are_bounded_and_in_order() -> None:
    recent = Recent(kept=3)
    for number in range(5):
        recent.add(number)
    assert recent.all() == [2, 3, 4]


def test_the_configured_level_is_the_least_shown() -> None:
    threshold = Threshold(None)
    assert threshold.is_shown("info", "accept") and not threshold.is_shown("debug", "accept")
    threshold.configure("error")
    assert threshold.is_shown("error", "accept") and not threshold.is_shown("warn", "accept")


@pytest.mark.parametrize("given", ["debug", "DEBUG", "error,debug", "trace"])
def test_a_level_from_outside_wins_over_the_configuration(given: str) -> None:
    threshold = Threshold(given)
    threshold.configure("error")
    assert threshold.is_shown("debug", "accept")


def test_a_level_may_be_given_for_one_stage() -> None:
    threshold = Threshold("warn,pingap::routing=DEBUG,upstream=off")
    assert [threshold.is_shown("debug", stage) for stage in ("routing", "accept")] == [True, False]
    assert not threshold.is_shown("error", "upstream")
    assert threshold.not_understood == ()


def test_a_stage_of_the_configuration_keeps_its_level_unless_one_for_all_is_given() -> None:
    for given, shown in ((None, True), ("accept=error", True), ("warn", False)):
        threshold = Threshold(given)
        threshold.configure("error,routing=debug")
        assert threshold.is_shown("debug", "routing") is shown
        assert not threshold.is_shown("info", "accept")


def test_the_level_of_pingap_is_that_of_all_stages() -> None:
    threshold = Threshold("pingap=debug,info")
    assert threshold.is_shown("debug", "accept")
    assert threshold.not_understood == ()


def test_words_that_are_no_levels_are_named_and_change_nothing() -> None:
    threshold = Threshold("pingora_core=loud, verbose, hyper=debug")
    assert threshold.not_understood == ("pingora_core=loud", "verbose", "hyper=debug")
    assert threshold.is_shown("info", "accept") and not threshold.is_shown("debug", "accept")


def test_lasting_trouble_is_told_once_a_minute() -> None:
    trouble = Trouble()
    assert trouble.failed("No space left on device", 100.0) == "No space left on device"
    assert trouble.failed("No space left on device", 101.0) == ""
    trouble.lost(7)
    assert trouble.failed("No space left on device", 160.0) == "No space left on device, 7 lines lost"
    assert trouble.ended() == "writes again, 7 lines lost"
    assert trouble.ended() == ""


def test_trouble_that_comes_and_goes_is_told_once_a_minute_too() -> None:
    trouble = Trouble()
    assert trouble.failed("x", 100.0)
    assert trouble.ended()
    assert trouble.failed("x", 110.0) == ""
