"""The fleet's decisions, as scripts with a fake clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pingap.plan_state import REPRIEVE
from pingap.plan_words import (
    BecameReady,
    Began,
    BootFailed,
    Drain,
    Drained,
    Exited,
    Forked,
    Heard,
    ScaleAsked,
    SpawnerLost,
    StopAsked,
    TimePassed,
    Timings,
    TimingsChanged,
)
from tests.supervisor.playbook import ACCEPT, CONFIG, LOGGING, UPSTREAM, WORKER, Play

# -- start ------------------------------------------------------------------------


def test_all_processes_are_forked_at_once_each_announced_before_its_fork() -> None:
    play = Play(CONFIG, UPSTREAM)
    (
        play
        >> Began()
        << [
            "announce config.0#1=starting",
            "fork config.0 as 1",
            "announce config.0#1=starting upstream.0#2=starting",
            "fork upstream.0 as 2",
        ]
    )


def test_pingap_is_ready_when_every_process_is_and_says_so_once() -> None:
    play = Play(CONFIG, UPSTREAM)
    play >> Began() >> Forked(1, 101) >> Forked(2, 102)
    play >> BecameReady((2,)) << ["announce config.0#1=starting upstream.0#2=ready"]
    play >> BecameReady((1,)) << ["announce config.0#1=ready upstream.0#2=ready", "ready"]
    play >> TimePassed() << []


def test_who_accepts_connections_is_started_last_when_another_instance_serves_meanwhile() -> None:
    play = Play(replace(ACCEPT, is_last=True), CONFIG, UPSTREAM)
    play >> Began() >> Forked(1, 101) >> Forked(2, 102)
    play >> BecameReady((1,)) << ["announce config.0#1=ready upstream.0#2=starting"]
    play >> BecameReady((2,)) << ["announce config.0#1=ready upstream.0#2=ready accept.0#3=starting", "fork accept.0 as 3"]
    play >> Forked(3, 103)
    play >> BecameReady((3,)) << ["announce config.0#1=ready upstream.0#2=ready accept.0#3=ready", "ready"]
    play >> Exited(3, "was killed by SIGKILL") << ["fork accept.0 as 4"]


def test_what_was_scaled_is_known_however_often_it_was_handed_on() -> None:
    play = Play(replace(UPSTREAM, replicas=3, before=1), CONFIG)
    play >> Began()
    assert play.fleet.scaled() == {"upstream": (1, 3)}


def test_only_who_is_replaced_has_patience_with_idle_connections() -> None:
    for has_successor, reprieve in ((True, REPRIEVE), (False, 0.0)):
        play = Play(ACCEPT)
        play >> Began() >> Forked(1, 101) >> BecameReady((1,))
        commands = play.fleet.handle(StopAsked(True, has_successor=has_successor), play.now)
        assert [command.reprieve for command in commands if isinstance(command, Drain)] == [reprieve]


def test_a_worker_is_ready_when_all_four_of_its_actors_are() -> None:
    play = Play(WORKER)
    play >> Began() >> Forked(1, 101)
    (
        play
        >> BecameReady((1,))
        >> BecameReady((2,))
        >> BecameReady((3,))
        << ["announce accept.0#1=ready routing.0#2=ready plugins.0#3=ready upstream.0#4=starting"]
    )
    play >> BecameReady((4,)) << ["ready"]


def test_a_boot_that_fails_three_times_stops_everything_with_its_reason() -> None:
    play = Play(CONFIG, UPSTREAM)
    play >> Began() >> Forked(1, 101) >> Forked(2, 102)
    play >> BootFailed(2, "OSError: no such disk")
    play >> Exited(2, "exited with status 1") << ["fork upstream.0 as 3"]
    play >> Forked(3, 103) >> BootFailed(3, "OSError: no such disk")
    play >> Exited(3, "exited with status 1") << ["say error: upstream.0 failed to start: OSError: no such disk: again in 0.1 s"]
    play.at(0.1) >> TimePassed() << ["fork upstream.0 as 4"]
    play >> Forked(4, 104) >> BootFailed(4, "OSError: no such disk")
    play >> Exited(4, "exited with status 1") << ["close listeners", "stop 1"]
    play >> Exited(1, "exited with status 0") << ["finish 1: upstream.0 failed to start: OSError: no such disk"]


def test_a_process_that_dies_before_it_is_ready_counts_as_a_failed_boot() -> None:
    play = Play(UPSTREAM)
    play >> Began() >> Forked(1, 101) >> Exited(1, "was killed by SIGSEGV")
    play >> Forked(2, 102) >> Exited(2, "was killed by SIGSEGV")
    play.at(0.1) >> TimePassed() >> Forked(3, 103)
    play >> Exited(3, "was killed by SIGSEGV") << ["close listeners", "finish 1: upstream.0 was killed by SIGSEGV"]


def test_once_up_a_stage_that_fails_to_boot_is_tried_again_without_end() -> None:
    play = Play(UPSTREAM).up()
    key = 1
    for _ in range(20):
        play >> Exited(key, "exited with status 1")
        play.quiet(play.now - 1000 + 5)
        key = max(play.fleet.processes)
        play >> Forked(key, 100 + key) >> BootFailed(key, "no")
    assert not play.fleet.is_stopping


def test_a_process_that_is_not_ready_in_time_is_killed_and_replaced() -> None:
    play = Play(UPSTREAM)
    play >> Began() >> Forked(1, 101)
    play.quiet(10)
    play.at(10.1) >> TimePassed() << ["kill 1", "fork upstream.0 as 2"]


# -- death ---------------------------------------------------------------------------


def test_a_dead_process_is_announced_without_and_replaced_at_once() -> None:
    play = Play(CONFIG, UPSTREAM).up()
    play.quiet(60)
    (
        play
        >> Exited(2, "was killed by SIGKILL")
        << [
            "say error: upstream.0 was killed by SIGKILL: started again at once",
            "announce config.0#1=ready upstream.0#3=starting",
            "fork upstream.0 as 3",
        ]
    )


def test_restarts_are_delayed_by_doubling_while_the_process_keeps_dying_young() -> None:
    play = Play(UPSTREAM).up()
    play.quiet(60)
    delays = []
    for key in range(1, 10):
        died = play.now
        play >> Exited(key, "was killed by SIGKILL")
        while key + 1 not in play.fleet.processes:
            play.now = play.fleet.deadline(play.now)
            play >> TimePassed()
        delays.append(round(play.now - died, 2))
        play >> Forked(key + 1, 200 + key) >> BecameReady((key + 1,))
    assert delays == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]


def test_a_process_that_lived_long_is_replaced_at_once_again() -> None:
    play = Play(UPSTREAM).up()
    play >> Exited(1, "was killed by SIGKILL") >> Forked(2, 102) >> BecameReady((2,))
    play.quiet(10.5)
    play >> Exited(2, "was killed by SIGKILL") << ["fork upstream.0 as 3"]


def test_ids_are_never_used_again() -> None:
    play = Play(UPSTREAM).up()
    play >> Exited(1, "died") << ["announce upstream.0#2=starting", "fork upstream.0 as 2"]


def test_restarts_are_counted() -> None:
    play = Play(UPSTREAM).up()
    play >> Exited(1, "died") >> Forked(2, 102)
    assert play.fleet.processes[2].restarts == 1


def test_a_silent_process_is_killed_and_replaced_without_waiting_for_its_end() -> None:
    play = Play(CONFIG, UPSTREAM).up()
    for moment in (1.0, 2.0, 3.0):
        play.at(moment) >> Heard(1) << []
    play.at(3.1) >> Heard(1) << ["kill 2", "fork upstream.0 as 3"]


def test_after_a_pause_of_its_own_the_supervisor_blames_nobody() -> None:
    play = Play(CONFIG, UPSTREAM).up()
    play.quiet(1)
    play.at(60) >> TimePassed() << []
    play.at(63.1) >> Heard(1) << []  # again a pause
    play.at(64) >> Heard(1) << []
    play.at(65) >> Heard(1) << []
    play.at(66) >> Heard(1) << []
    play.at(67) >> Heard(1) << ["kill 2", "fork upstream.0 as 3"]


def test_forks_that_a_dead_spawner_owed_are_asked_of_its_successor_and_count_as_no_restart() -> None:
    play = Play(CONFIG, UPSTREAM)
    play >> Began() >> Forked(1, 101)
    play >> SpawnerLost() << ["fork upstream.0 as 3"]
    assert play.fleet.processes[3].restarts == 0


def test_a_spawner_that_makes_no_process_is_killed() -> None:
    play = Play(UPSTREAM)
    play >> Began()
    play.at(10.1) >> TimePassed() << ["kill spawner"]
    play.at(10.2) >> SpawnerLost() << ["fork upstream.0 as 2"]


def test_a_process_that_comes_after_it_was_given_up_is_killed() -> None:
    play = Play(UPSTREAM)
    play >> Began()
    play >> SpawnerLost()
    play >> Forked(1, 101) << ["kill 1"]


# -- scaling --------------------------------------------------------------------------


def test_scaling_up_adds_the_next_replicas_and_answers_when_they_are_ready() -> None:
    play = Play(UPSTREAM).up()
    play >> ScaleAsked(7, "upstream", 3) << ["fork upstream.1 as 2", "fork upstream.2 as 3"]
    (
        play
        >> Forked(2, 102)
        >> Forked(3, 103)
        >> BecameReady((2,))
        << [
            "announce upstream.0#1=ready upstream.1#2=ready upstream.2#3=starting",
        ]
    )
    play >> BecameReady((3,)) << ["answer 7 yes: {'stage': 'upstream', 'before': 1, 'replicas': 3, 'starting': 0, 'draining': 0}"]


def test_scaling_up_answers_in_time_even_when_the_new_ones_are_not_ready() -> None:
    play = Play(UPSTREAM).up()
    play >> ScaleAsked(7, "upstream", 2) >> Forked(2, 102)
    assert play.quiet(4) == []
    assert play.quiet(4.6) == ["answer 7 yes: {'stage': 'upstream', 'before': 1, 'replicas': 2, 'starting': 1, 'draining': 0}"]


def test_scaling_down_announces_the_highest_as_draining_then_drains_then_stops_it() -> None:
    play = Play(UPSTREAM, graceful=30).up()
    play >> ScaleAsked(1, "upstream", 2) >> Forked(2, 102) >> BecameReady((2,))
    (
        play
        >> ScaleAsked(2, "upstream", 1)
        << [
            "retire upstream.1",
            "announce upstream.0#1=ready upstream.1#2=draining",
            "answer 2 yes: {'stage': 'upstream', 'before': 2, 'replicas': 1, 'starting': 0, 'draining': 1}",
        ]
    )
    play.at(0.3) >> TimePassed() << ["drain 2 (2) for 30"]
    play.at(2) >> Drained((2,), 0) << ["stop 2", "announce upstream.0#1=ready"]
    play >> Exited(2, "exited with status 0") << []


def test_a_replica_that_does_not_drain_in_time_is_stopped_all_the_same() -> None:
    play = Play(UPSTREAM, graceful=30).up()
    play >> ScaleAsked(1, "upstream", 2) >> Forked(2, 102) >> BecameReady((2,)) >> ScaleAsked(2, "upstream", 1)
    done = play.quiet(32)
    assert [text for text in done if text.startswith(("drain", "stop"))] == ["drain 2 (2) for 29.8", "stop 2"]


def test_a_replica_that_dies_while_it_drains_is_not_replaced() -> None:
    play = Play(UPSTREAM).up()
    play >> ScaleAsked(1, "upstream", 2) >> Forked(2, 102) >> BecameReady((2,)) >> ScaleAsked(2, "upstream", 1)
    play >> Exited(2, "was killed by SIGKILL") << ["announce upstream.0#1=ready"]


def test_scaling_up_while_an_old_replica_of_that_number_drains_starts_a_new_one_beside_it() -> None:
    play = Play(UPSTREAM).up()
    play >> ScaleAsked(1, "upstream", 2) >> Forked(2, 102) >> BecameReady((2,)) >> ScaleAsked(2, "upstream", 1)
    (
        play
        >> ScaleAsked(3, "upstream", 2)
        << [
            "announce upstream.0#1=ready upstream.1#2=draining upstream.1#3=starting",
            "fork upstream.1 as 3",
        ]
    )
    play >> Forked(3, 103) >> BecameReady((3,)) >> Exited(2, "exited with status 0")
    assert play.fleet.processes.keys() == {1, 3}


def test_a_replica_that_waits_for_its_restart_is_scaled_away_without_a_process() -> None:
    play = Play(UPSTREAM).up()
    play >> ScaleAsked(1, "upstream", 2) >> Forked(2, 102) >> BecameReady((2,))
    play >> Exited(2, "died") >> Forked(3, 103) >> Exited(3, "died")
    play >> ScaleAsked(2, "upstream", 1)
    assert play.quiet(10) == []


def test_a_worker_drains_its_clients_only() -> None:
    play = Play(WORKER, graceful=30).up()
    play >> ScaleAsked(1, "worker", 2) >> Forked(5, 105) >> BecameReady((5, 6, 7, 8)) >> ScaleAsked(2, "worker", 1)
    play.at(0.3) >> TimePassed() << ["drain 5 (5) for 30"]
    play >> Drained((5,), 0) << ["stop 5"]


@pytest.mark.parametrize(
    ("role", "count", "reason"),
    [
        ("config", 2, "'config' cannot be scaled here: upstream can"),
        ("nothing", 2, "'nothing' cannot be scaled here: upstream can"),
        ("upstream", 0, "upstream can have 1 to 1024 replicas"),
        ("upstream", 1025, "upstream can have 1 to 1024 replicas"),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_the_reason(role: str, count: int, reason: str) -> None:
    play = Play(CONFIG, UPSTREAM).up()
    play >> ScaleAsked(1, role, count) << [f"answer 1 no: {reason}"]


# -- stopping ---------------------------------------------------------------------------


def everything() -> Play:
    return Play(LOGGING, CONFIG, ACCEPT, UPSTREAM, fast=5, graceful=60).up()


def test_a_stop_drains_the_clients_side_then_ends_the_rest_then_those_who_write_it_down() -> None:
    play = everything()
    play >> StopAsked(False) << ["close listeners", "drain 3 (3) for 5"]
    play.at(1) >> Drained((3,), 0) << ["stop 3"]
    play >> Exited(3, "exited with status 0") << ["stop 2", "stop 4"]
    play >> Exited(2, "exited with status 0") << []
    play >> Exited(4, "exited with status 0") << ["drain 1 (1) for 1"]
    play >> Drained((1,), 0) << ["stop 1"]
    play >> Exited(1, "exited with status 0") << ["finish 0"]


def test_a_graceful_stop_gives_the_grace_period() -> None:
    everything() >> StopAsked(True) << ["close listeners", "drain 3 (3) for 60"]


def test_term_after_quit_shortens_the_drain() -> None:
    play = everything()
    play >> StopAsked(True)
    play.at(1) >> StopAsked(False) << []
    assert "stop 3" in play.quiet(6.6)


def test_a_second_term_ends_at_once() -> None:
    play = everything()
    play >> StopAsked(False)
    play.at(0.1) >> StopAsked(False) << []  # the same one, passed on by another process of the group
    play.at(0.6) >> StopAsked(False) << ["kill 1", "kill 2", "kill 3", "kill 4"]
    play >> Exited(1, "") >> Exited(2, "") >> Exited(3, "") >> Exited(4, "") << ["finish 0"]


RESTART = StopAsked(True, 1, is_restart=True)


@pytest.mark.parametrize(
    ("asked", "starts_again"),
    [
        ([RESTART], True),
        ([RESTART, RESTART], True),
        ([StopAsked(True)], False),
        ([RESTART, StopAsked(False)], False),
        ([RESTART, StopAsked(True, 2)], False),
        ([RESTART, StopAsked(False, 2), RESTART], False),
        ([StopAsked(False), RESTART], False),
    ],
)
def test_it_starts_again_if_everybody_who_stopped_it_wanted_that(asked: list[StopAsked], starts_again: bool) -> None:
    play = everything()
    assert not play.fleet.starts_again
    for one in asked:
        play >> one
    assert (play.fleet.is_stopping, play.fleet.starts_again) == (True, starts_again)


@pytest.mark.parametrize("first", [StopAsked(False), StopAsked(True), StopAsked(False, 1), StopAsked(True, 1), StopAsked(False, 1, 30)])
@pytest.mark.parametrize("second", [StopAsked(False, 2), StopAsked(True, 2), StopAsked(False, 2, 40), StopAsked(True, 2, 40)])
def test_a_command_never_cuts_off_at_once(first: StopAsked, second: StopAsked) -> None:
    """Whatever began the stop, and however often: who only asks joins the wait."""
    play = everything()
    play >> first
    for number in range(1, 4):
        play.at(number) >> second
        assert not any(text.startswith(("kill", "stop")) for text in play.lines)
        assert play.lines[-1].startswith("answer 2 yes: ")
    play >> Drained((3,), 0) << ["stop 3"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (StopAsked(False), StopAsked(False, 2), 4),  # down after TERM
        (StopAsked(False, 1), StopAsked(False, 2), 4),
        (StopAsked(False, 1), StopAsked(True, 2), 4),
        (StopAsked(False, 1), StopAsked(False, 2, 90), 4),  # nothing is lengthened
        (StopAsked(True, 1), StopAsked(True, 2), 59),
        (StopAsked(True, 1), StopAsked(False, 2), 5),  # as TERM after QUIT
        (StopAsked(False, 1, 30), StopAsked(False, 2), 29),  # who named a time knew why
        (StopAsked(False, 1, 30), StopAsked(True, 2), 29),
        (StopAsked(False, 1, 30), StopAsked(False, 2, 7), 7),
        (StopAsked(True, 1), StopAsked(True, 2, 7), 7),
    ],
)
def test_who_asks_again_is_told_what_is_left(first: StopAsked, second: StopAsked, left: float) -> None:
    play = everything()
    play >> first
    play.at(1) >> second << [f"answer 2 yes: {float(left)}"]
    assert not [text for text in play.quiet(left + 0.9) if text.startswith("stop")]
    assert "stop 3" in play.quiet(left + 2)


def test_it_takes_two_signals_to_end_at_once_however_many_commands() -> None:
    play = everything()
    play >> StopAsked(False, 1) >> StopAsked(False, 2)
    play.at(1) >> StopAsked(False) << []
    play.at(2) >> StopAsked(False, 3) << ["answer 3 yes: 3.0"]
    play.at(3) >> StopAsked(False) << ["kill 1", "kill 2", "kill 3", "kill 4"]


def test_a_signal_shortens_what_a_command_gave() -> None:
    play = everything()
    play >> StopAsked(False, 1, 90)
    play.at(1) >> StopAsked(True) << []
    play.at(2) >> StopAsked(False) << []
    assert "stop 3" in play.quiet(7.6)


def test_a_drain_that_does_not_end_is_cut_off_at_its_deadline() -> None:
    play = everything()
    play >> StopAsked(False)
    assert [text for text in play.quiet(5.4) if not text.startswith("say")] == []
    assert "stop 3" in play.quiet(5.6)


def test_a_process_that_does_not_stop_is_killed() -> None:
    play = Play(UPSTREAM).up()
    play >> StopAsked(False) << ["close listeners", "stop 1"]
    done = play.quiet(2.6)
    assert "kill 1" in done
    play >> Exited(1, "was killed by SIGKILL") << ["finish 0"]


def test_nobody_waits_for_ever_for_a_process_that_cannot_be_killed() -> None:
    play = Play(UPSTREAM).up()
    play >> StopAsked(False)
    assert "finish 0" in play.quiet(6)


def test_what_dies_during_a_stop_is_not_replaced() -> None:
    play = everything()
    play >> StopAsked(False)
    play >> Exited(4, "was killed by SIGKILL") << ["announce logging.0#1=ready config.0#2=ready accept.0#3=draining"]


def test_a_stop_while_starting_ends_without_drain() -> None:
    play = Play(ACCEPT, UPSTREAM)
    play >> Began() >> Forked(1, 101) >> Forked(2, 102)
    play >> StopAsked(False) << ["close listeners", "stop 1"]
    play >> Exited(1, "") << ["stop 2"]
    play >> Exited(2, "") << ["finish 0"]


def test_a_process_that_is_forked_after_it_was_told_to_stop_is_killed() -> None:
    play = Play(UPSTREAM)
    play >> Began() >> StopAsked(False) << ["close listeners", "stop 1"]
    play >> Forked(1, 101) << ["kill 1"]
    play >> Exited(1, "was killed by SIGKILL") << ["finish 0"]


def test_scaling_is_refused_while_pingap_stops() -> None:
    play = everything()
    play >> StopAsked(False)
    play >> ScaleAsked(1, "upstream", 2) << ["answer 1 no: pingap is stopping"]


def test_who_waits_for_a_scale_hears_of_the_stop() -> None:
    play = everything()
    play >> ScaleAsked(1, "upstream", 2)
    play >> StopAsked(False)
    assert "answer 1 no: pingap is stopping" in play.lines


def test_a_new_generation_changes_how_long_a_drain_may_take() -> None:
    play = everything()
    play >> TimingsChanged(Timings(9, 90))
    play >> StopAsked(False) << ["close listeners", "drain 3 (3) for 9"]


def test_the_clock_is_wanted_when_something_is_due() -> None:
    play = Play(UPSTREAM).up()
    play >> Exited(1, "died") >> Forked(2, 102) >> Exited(2, "died")
    assert play.fleet.deadline(play.now) == pytest.approx(play.now + 0.1)


def test_a_scale_beyond_the_limit_of_descriptors_is_refused_with_the_limit() -> None:
    play = Play(ACCEPT, UPSTREAM, too_many=lambda actors: "too many" if actors > 4 else "").up()
    play >> ScaleAsked(1, "upstream", 4) << ["answer 1 no: too many"]
    play >> ScaleAsked(2, "upstream", 3) << ["fork upstream.1 as 3", "fork upstream.2 as 4"]
    play >> ScaleAsked(3, "upstream", 2)
    assert not any("too many" in line for line in play.lines)
