"""The circuit breaker of all replicas, as scripts: what they report in, what they are told out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pingap.stages.circuit_states import CircuitState
from pingap.stages.discovery.circuit import Circuit, CircuitRules
from pingap.stages.discovery.circuits import Arranged, CircuitPlan, Circuits, Passed, Populated, PublishCircuits, Reported
from pingap.stages.messages import BackendRow
from tests.discovery.circuit_play import A, Counted, Play

FIVE = CircuitRules(max_failures=5)
HALF = CircuitRules(max_percent=50, least_requests=20)

OPENS_AT_FIVE = ["tell open", "open: 5 failures in a row"]


# -- closed → open --------------------------------------------------------------------------


def test_failures_in_a_row_at_one_replica_open_it_for_all() -> None:
    play = Play(FIVE)
    play.at(0.1).bad(11, 4) << []
    play.at(0.2).bad(11) << OPENS_AT_FIVE
    assert play.told == [1, 0, {}]


def test_failures_in_a_row_are_added_up_over_the_replicas() -> None:
    play = Play(FIVE)
    play.bad(11, 2) << []
    play.bad(12, 2) << []
    play.bad(11) << OPENS_AT_FIVE


def test_a_success_anywhere_ends_the_row() -> None:
    play = Play(FIVE)
    play.bad(11, 4) << []
    play.good(12) << []
    play.bad(11, 4) << []
    play.of[12].good()
    play.bad(12, 4) << []  # one report: a success, and four failures after it
    play.bad(12) << OPENS_AT_FIVE


def test_a_lone_failure_opens_it_where_one_is_enough() -> None:
    Play(CircuitRules(max_failures=1)).bad(11) << ["tell open", "open: a request failed"]


def test_a_percentage_says_nothing_before_there_are_enough_requests() -> None:
    play = Play(HALF)
    play.bad(11, 19) << []
    play.good(12, 19) << []
    play.bad(12) << ["tell open", "open: 51 % of 39 requests failed"]


def test_a_percentage_goes_by_the_window_alone() -> None:
    play = Play(HALF)
    play.at(0).bad(11, 19) << []
    play.at(65).bad(11, 1) << []
    play.at(66).good(11, 30) << []
    play.at(67).bad(11, 20) << []
    play.at(68).bad(11, 9) << ["tell open", "open: 50 % of 60 requests failed"]


@pytest.mark.parametrize("rules", [CircuitRules(), CircuitRules(max_failures=50)])
def test_a_percentage_that_is_not_set_never_opens_it(rules: CircuitRules) -> None:
    play = Play(rules)
    for _ in range(20):
        play.bad(11, 40) << []
        play.good(11, 1) << []
    assert play.figures.failures == 800


def test_both_rules_may_be_there() -> None:
    play = Play(replace(HALF, max_failures=30))
    play.good(11, 20) << []
    play.bad(11, 19) << []
    play.bad(11) << ["tell open", "open: 50 % of 40 requests failed"]


@pytest.mark.parametrize("rules", [FIVE, HALF])
def test_answers_that_are_cut_open_it_though_their_heads_were_good(rules: CircuitRules) -> None:
    play = Play(rules)
    number = 0
    while play.told is None and number < 50:
        number += 1
        replica = 11 + number % 2
        play.at(number).of[replica].begins()
        play.report(replica) << []
        play.of[replica].cut()
        play.report(replica)
    assert number == (5 if rules is FIVE else 20)


def test_an_answer_ends_the_row_when_it_has_come_whole() -> None:
    play = Play(FIVE)
    play.bad(11, 4) << []
    play.of[12].begins(3)
    play.report(12) << []
    play.of[12].ends()
    play.report(12) << []
    play.bad(11, 4) << []
    play.of[12].cut()
    play.report(12) << OPENS_AT_FIVE


def test_more_than_all_requests_of_a_window_never_fail() -> None:
    play = Play(HALF)
    play.of[11].begins(30)
    play.report(11) << []
    play.at(100).of[11].good(5)
    play.of[11].cut(30)
    play.report(11) << []
    assert play.figures.window == (5, 5)
    assert play.figures.window.percent == 100


# -- open → half-open ------------------------------------------------------------------------


def opened(rules: CircuitRules = FIVE, replicas: tuple[int, ...] = (11, 12)) -> Play:
    """It has opened at 0, and the time for which it is open is over."""
    play = Play(rules, replicas)
    play.bad(replicas[0], 5) << OPENS_AT_FIVE
    return play.at(10)


def test_it_is_open_for_as_long_as_it_is_told_to_be() -> None:
    play = opened().at(9.9)
    assert play.core.due == 1010
    play.passes() << []
    play.at(10).passes() << ["tell half-open 11:3 12:2", "half-open"]


def test_it_is_tried_at_once_when_its_checks_pass_again() -> None:
    play = opened().at(3)
    play.recovers() << ["tell half-open 11:3 12:2", "half-open"]
    play.recovers() << []
    Play(FIVE).recovers() << []


def test_what_comes_while_it_is_open_changes_nothing() -> None:
    play = opened().at(5)
    play.bad(11, 9) << []
    play.good(12, 3) << []
    assert play.figures.window == (17, 14)
    assert (play.figures.circuit, play.figures.since) == (CircuitState.OPEN, 1000)


def test_without_replicas_nothing_is_granted_until_there_are_some() -> None:
    play = opened().at(9) >> Populated((), (), (), 12)
    play.at(11).passes() << ["tell half-open", "half-open"]
    assert play.core.due is None
    play.at(20) >> Populated((), (13,), (), 13) << ["tell half-open 13:5"]


def test_there_are_never_more_probes_than_wanted_however_many_replicas() -> None:
    play = opened(replace(FIVE, probes=2), (11, 12, 13))
    play.passes() << ["tell half-open 11:1 12:1", "half-open"]


# -- half-open --------------------------------------------------------------------------------


def test_it_closes_when_as_many_probes_as_wanted_have_passed() -> None:
    play = opened().passes()
    play.probed(11, 3) << []
    play.probed(12, 1) << []
    play.probed(12, 1) << ["tell closed", "closed"]
    assert play.told is None
    assert (play.figures.circuit, play.figures.since) == (CircuitState.CLOSED, 1010)


def test_one_failed_probe_opens_it_again() -> None:
    play = opened().passes()
    play.probed(11, 2) << []
    play.at(10.2).probed(12, 1, 1) << ["tell open", "open: a probe failed"]
    play.at(20.1).passes() << []
    play.at(20.2).passes() << ["tell half-open 11:3 12:2", "half-open"]
    play.probed(11, 3) << []  # those of the time before count no more


def test_a_probe_that_is_cut_while_others_are_awaited_has_failed() -> None:
    play = opened().passes()
    play.probed(11, 3) << []
    counted = play.of[11]
    counted.failures, counted.failed, counted.streak = counted.failures + 1, 1, 1
    play.report(11) << ["tell open", "open: a probe failed"]


def test_failures_of_requests_that_are_no_probes_do_not_open_it_again() -> None:
    play = opened().passes()
    play.bad(11, 7) << []
    play.probed(11, 3) << []
    play.probed(12, 2) << ["tell closed", "closed"]


def test_what_has_opened_it_once_does_not_open_it_again() -> None:
    play = Play(replace(HALF, probes=2))
    play.bad(11, 20) << ["tell open", "open: 100 % of 20 requests failed"]
    play.at(10).passes() << ["tell half-open 11:1 12:1", "half-open"]
    play.probed(11, 1) << []
    play.probed(12, 1) << ["tell closed", "closed"]
    play.bad(11) << []
    assert play.figures.failures == 21, "an operator sees them all the same"
    play.good(11, 10) << []
    play.bad(11, 9) << ["tell open", "open: 50 % of 20 requests failed"]


def test_a_row_that_is_longer_than_wanted_begins_anew_when_it_closes() -> None:
    play = opened(replace(FIVE, probes=1), (11, 12)).passes()
    play.probed(11, 1) << ["tell closed", "closed"]
    play.bad(12, 4) << []
    play.bad(12) << OPENS_AT_FIVE


def test_probes_that_a_replica_has_no_requests_for_go_to_those_that_have() -> None:
    play = opened().passes()
    play.at(10.1).probed(11, 3) << []
    assert play.core.due == 1011
    first = play.round
    play.at(11).passes() << ["tell half-open 11:2"]
    assert play.round > first
    play.probed(11, 2) << ["tell closed", "closed"]


def test_among_more_replicas_than_probes_they_go_round_until_somebody_uses_them() -> None:
    play = opened(replace(FIVE, probes=2), (11, 12, 13)).passes()
    play.at(11).passes() << ["tell half-open 13:1 11:1"]
    play.at(13).passes() << ["tell half-open 12:1 13:1"]
    play.probed(12, 1) << []
    play.at(14).passes() << ["tell half-open 12:1"]
    play.probed(12, 1) << ["tell closed", "closed"]


def test_where_all_have_a_part_and_nobody_uses_it_nothing_is_told_each_second() -> None:
    play = opened().passes()
    told = 0
    for second in range(11, 611):
        told += bool(play.at(second).passes().lines)
    assert told <= 9


def test_who_has_no_part_waits_longer_each_time_while_nobody_uses_any() -> None:
    play = opened(replace(FIVE, probes=2), (11, 12, 13)).passes()
    assert [second for second in range(11, 90) if play.at(second).passes().lines] == [11, 13, 17, 25, 41, 57, 73, 89]
    (user, *_) = (play.told or [])[2]
    play.at(90).probed(user, 1) << [f"tell half-open {user}:1"]
    assert play.core.due == 1091, "a first use ends that"


def test_what_is_due_at_almost_the_same_time_is_told_at_once() -> None:
    addresses = tuple(f"10.0.{number >> 8}.{number & 255}:80" for number in range(300))
    core = Circuits()
    core.handle(Populated((), tuple(range(1, 9)), (), 8), 100.0)
    core.handle(Arranged({"api": CircuitPlan(replace(FIVE, max_failures=1), addresses)}), 100.0)
    for replica in range(1, 9):
        core.handle(Reported(replica, (), True), 100.0)
    for number, address in enumerate(addresses):
        core.handle(Reported(1, [BackendRow("api", address, 1, 1, 1, 0, 0, 0)]), 100 + number * 0.003)
    told = 0
    while core.due is not None and core.due < 160:
        now = core.due
        told += PublishCircuits() in core.handle(Passed(), now)
    assert len(core.value()["api"]) == 300
    assert told < 100


def test_what_a_replica_tells_of_backends_that_nobody_ever_hears_of_is_forgotten_and_bounded() -> None:
    before = Play(FIVE)
    play = restarted(before)
    rows = [Counted(requests=9).row("gone", f"a:{number}") for number in range(20_000)]
    play >> Reported(11, rows, True)
    assert len(play.core._heard[11]) <= 10_001
    play >> Arranged({"api": CircuitPlan(FIVE, (A,), True)})
    assert not play.core._heard[11]


def test_a_probe_under_way_is_waited_for_longer_each_time() -> None:
    play = opened(replace(FIVE, probes=1), (11,)).passes()
    play.flying(11, 1) << []
    assert [second for second in range(11, 80) if play.at(second).passes().lines] == [12, 16, 24, 40, 72]


def test_a_slow_answer_counts_though_there_was_another_round_meanwhile() -> None:
    play = opened(replace(FIVE, probes=2), (11,)).passes()
    slow = play.round
    play.flying(11, 2) << []
    play.at(12).passes() << ["tell half-open 11:2"]
    play.at(13).probed(11, 2, number=slow) << ["tell closed", "closed"]


def test_a_slow_failure_counts_too() -> None:
    play = opened(replace(FIVE, probes=2), (11,)).passes()
    slow = play.round
    play.flying(11, 2) << []
    play.at(12).passes() << ["tell half-open 11:2"]
    play.at(13).probed(11, 0, 1, number=slow) << ["tell open", "open: a probe failed"]


def test_rounds_from_before_it_opened_again_count_for_nothing() -> None:
    play = opened().passes()
    old = play.round
    play.probed(12, 0, 1) << ["tell open", "open: a probe failed"]
    play.at(20).passes() << ["tell half-open 11:3 12:2", "half-open"]
    play.probed(11, 3, 3, number=old) << []


def test_a_replica_cannot_pass_more_than_it_was_granted() -> None:
    play = opened().passes()
    play.probed(11, 99) << []


# -- replicas that die, and are born ------------------------------------------------------------


def test_a_dead_replica_loses_its_part() -> None:
    play = opened().passes()
    play.probed(11, 3) << []
    play >> Populated((), (11,), (), 12) << ["tell half-open 11:2"]
    play.probed(11, 2) << ["tell closed", "closed"]


def test_a_replica_that_drains_takes_no_probes_but_what_it_has_begun_counts() -> None:
    play = opened().passes()
    play >> Populated((), (12,), (11,), 12) << ["tell half-open 12:2"]
    number = play.round
    play.probed(11, 3) << []
    play.probed(12, 2, number=number) << ["tell closed", "closed"]


def test_a_replica_that_is_born_has_a_part_in_the_next_round() -> None:
    play = opened(FIVE, (11,)).passes() << ["tell half-open 11:5", "half-open"]
    play >> Populated((), (11, 13), (), 13) << []
    play.at(11).passes() << ["tell half-open 13:3 11:2"]


def test_the_last_word_of_a_dead_replica_is_not_taken() -> None:
    play = Play(FIVE)
    play >> Populated((), (12,), (), 12)
    play.bad(11, 9) << []
    assert play.figures.requests == 0
    play >> Reported(13, [Counted(requests=2, in_flight=1).row()])  # newer than the table: the table is late
    assert (play.figures.requests, play.figures.in_flight) == (2, 1)


def test_what_a_dead_replica_had_under_way_is_over() -> None:
    play = Play(FIVE)
    play.flying(11, 3)
    play.of[12].connections = 2
    play.flying(12, 1)
    assert (play.figures.in_flight, play.figures.connections) == (4, 2)
    assert play.core.loads() == {"api": {A: {11: 3, 12: 1}}}
    play >> Populated((), (12,), (), 12)
    assert play.figures.in_flight == 1
    assert play.core.loads() == {}, "who is alone knows by itself"


# -- discovery that dies --------------------------------------------------------------------------


def restarted(play: Play, rules: CircuitRules = FIVE) -> Play:
    """Another life of discovery, among the same replicas."""
    play.core = Circuits(play.core.kept(), 50)
    return play >> Populated((), tuple(play.of), (), max(play.of)) >> Arranged({"api": CircuitPlan(rules, (A,), True)})


def test_an_open_circuit_outlives_discovery() -> None:
    play = restarted(opened().at(4))
    assert play.told == [1, 0, {}]
    play >> Reported(11, [play.of[11].row()], True) << []
    play.bad(11, 3) << []
    play.at(9.9).passes() << []
    play.at(10).passes() << ["tell half-open 11:3 12:2", "half-open"]
    assert play.round > 50


def test_a_half_open_one_grants_its_probes_anew() -> None:
    before = opened().passes()
    before.probed(11, 2)
    play = restarted(before)
    assert (play.told or [])[2] == {11: 3, 12: 2}
    play >> Reported(11, [play.of[11].row()], True) << []  # where it stands, with a round of the life before
    play.probed(11, 3) << []
    play.probed(12, 2) << ["tell closed", "closed"]


def test_the_first_report_of_a_replica_that_was_there_before_only_says_where_it_stands() -> None:
    before = Play(replace(FIVE, max_failures=0))
    before.bad(11, 4)
    before.of[12].good(90)
    play = restarted(before)
    for replica in (11, 12):
        play >> Reported(replica, [play.of[replica].row()], True) << []
    assert (play.figures.requests, play.figures.window) == (94, (0, 0))
    play.bad(11, 4) << []
    play.bad(12) << OPENS_AT_FIVE
    assert (play.figures.requests, play.figures.window) == (99, (5, 5))


def test_a_word_that_comes_before_the_first_one_only_says_where_its_replica_stands() -> None:
    before = Play(replace(FIVE, max_failures=0))
    before.bad(11, 9)
    play = restarted(before)
    play.bad(11, 4) << []
    assert play.figures.window == (0, 0)
    play.bad(11, 4) << []
    play.bad(11) << OPENS_AT_FIVE


def test_what_is_told_before_the_table_of_replicas_or_the_backends_are_known_is_no_news_and_not_lost() -> None:
    play = Play(FIVE)
    play.of[11] = Counted(requests=90, failures=9, streak=9, in_flight=4, connections=6)
    play.core = Circuits()
    play >> Reported(11, [play.of[11].row()], True) << []
    play >> Populated((), (11, 12), (), 12) << []
    play >> configured(FIVE, A) << []
    assert play.figures[:5] == (90, 9, (0, 0), 4, 6)
    play.bad(11, 4) << []
    play.bad(11) << OPENS_AT_FIVE


def test_a_replica_that_is_newer_than_discovery_counts_from_its_first_request() -> None:
    play = Play(FIVE)
    play >> Populated((13,), (11, 12), (), 13)
    play.of[13] = Counted()
    play.bad(13, 5) << OPENS_AT_FIVE


def test_a_keepsake_of_a_backend_that_is_none_any_more_or_has_no_breaker_now_is_not_taken() -> None:
    kept = opened().core.kept()
    assert Play(CircuitRules(), core=Circuits(kept)).told is None
    assert Play(FIVE, core=Circuits(kept)).told
    assert Play(FIVE, core=Circuits({"api": {"gone:1": [1, 990.0]}})).core.value() == {}


# -- another configuration ------------------------------------------------------------------------


def configured(rules: CircuitRules, *addresses: str) -> Arranged:
    return Arranged({"api": CircuitPlan(rules, addresses, True)})


def test_other_keys_judge_from_the_next_failure_on_by_what_was_counted() -> None:
    play = Play(FIVE)
    play.bad(11, 4) << []
    play >> configured(replace(FIVE, max_failures=3), A) << []
    play.bad(11) << OPENS_AT_FIVE
    play = Play(CircuitRules())
    play.bad(11, 30) << []
    play >> configured(HALF, A) << []
    play.bad(11) << ["tell open", "open: 100 % of 31 requests failed"]


def test_an_open_circuit_goes_by_the_new_duration() -> None:
    play = opened().at(2)
    play >> configured(replace(FIVE, open_duration=3), A) << []
    play.at(3).passes() << ["tell half-open 11:3 12:2", "half-open"]


def test_fewer_probes_may_be_enough_at_once() -> None:
    play = opened().passes()
    play.probed(11, 3) << []
    play >> configured(replace(FIVE, probes=3), A) << ["tell closed", "closed"]


def test_without_a_breaker_all_is_closed() -> None:
    play = opened()
    play >> configured(CircuitRules(), A) << ["tell closed", "closed"]
    assert play.core.due is None


def test_a_backend_that_leaves_is_forgotten() -> None:
    play = opened()
    play >> configured(FIVE, "b:1") << ["tell closed"]
    assert list(play.core.figures(play.now)) == [("api", "b:1")]
    play.report(11) << []
    play >> configured(FIVE, A) << []
    assert play.figures.requests == 0
    play.of[11] = Counted()  # upstream has forgotten it too
    play.bad(11, 4) << []
    play.bad(11) << OPENS_AT_FIVE


def test_the_others_are_not_touched() -> None:
    play = opened().at(5) >> configured(FIVE, A, "b:1")
    assert play.lines == []
    assert play.told == [1, 0, {}]


# -- unreachable backends, figures -----------------------------------------------------------------


def test_a_backend_that_does_not_answer_is_checked_at_once_and_then_once_a_second() -> None:
    play = Play(CircuitRules())
    play.of[11].unreachable = 1
    play.bad(11) << [f"check {A}"]
    play.of[11].unreachable = 5
    play.at(0.4).bad(11, 4) << []
    play.of[12].unreachable = 1
    play.at(0.5).bad(12) << []
    assert play.core.due == 1001
    play.at(1).passes() << [f"check {A}"]
    play.at(2).passes() << []
    assert play.core.due is None


def test_figures_are_those_of_the_window_over_all_replicas() -> None:
    play = Play(FIVE)
    play >> configured(CircuitRules(interval=10), "b:1", A)
    play.at(1).good(11, 6)
    play.at(2).bad(12, 3)
    assert play.figures[:3] == (9, 3, (9, 3))
    assert play.core.figures(play.now)["api", "b:1"].requests == 0
    assert play.at(13).figures[:3] == (9, 3, (0, 0))


def test_figures_say_how_long_it_stays_open_yet() -> None:
    play = opened()
    assert [play.at(second).figures.open_for for second in (0, 4, 9)] == [10, 6, 1]
    play.at(10).passes()
    assert play.figures.open_for == 0


def test_a_report_that_is_repeated_or_was_lost_changes_no_sum() -> None:
    play = Play(FIVE)
    play.good(11, 3)
    play.report(11)
    play.of[11].bad(2)  # this one is lost
    play.good(11, 1)
    assert (play.figures.requests, play.figures.failures) == (6, 2)


def test_rows_of_what_is_not_known_do_no_harm() -> None:
    play = Play(FIVE)
    rows = [BackendRow("gone", A, 9, 9, 9, 9, 9, 9), BackendRow("api", "x:1", 9, 9, 9, 9, 9, 9)]
    play >> Reported(11, rows) << []
    assert play.core.loads() == {}


def test_loads_are_told_only_for_upstreams_that_go_by_them() -> None:
    play = Play(FIVE)
    play >> Arranged({"api": CircuitPlan(FIVE, (A,), False)})
    play.flying(11, 3)
    assert play.core.loads() == {}


def test_a_report_of_one_backend_looks_at_no_circuit_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(replace(FIVE, max_failures=1))
    addresses = tuple(f"10.0.0.{number}:80" for number in range(200))
    play >> Arranged({"api": CircuitPlan(replace(FIVE, max_failures=1), (A, *addresses), True)})
    play >> Reported(11, [BackendRow("api", address, 1, 1, 1, 0, 0, 0) for address in addresses])
    asked: list[Circuit] = []
    try_again = Circuit.try_again

    def is_asked(self: Circuit, now: float) -> bool:
        asked.append(self)
        return try_again(self, now)

    monkeypatch.setattr(Circuit, "try_again", is_asked)
    play.at(1).good(12) << []
    play.passes() << []
    assert not asked
    play.at(10).passes()
    assert len(asked) == 200
