"""What a stage keeps of each generation, and what it tells config."""

from __future__ import annotations

from time import sleep
from typing import Any

import pytest

from pingap.bus.members import Members
from pingap.config.model import Basic, Snapshot
from pingap.stages.generations import Generations
from pingap.stages.messages import Accepted, InUse, Refused
from pingap.stages.slices import LOOK, SLICE
from pingap.stages.steps import Steps
from tests.kit.context import FakeContext
from tests.kit.generations import Generation, blobs_of, say_config, value_of
from tests.kit.loop import Turns

ME, CONFIG = 7, 2


class WithTurns(FakeContext):
    """Its loop is the test's."""

    turns = Turns()

    @property
    def loop(self) -> Any:
        return self.turns


def content(number: int, name: str) -> Generation:
    return number, Snapshot(basic=Basic(name=name)), {"all": 3}


class Stage:
    """A stage that compiles a generation to the name in it; `bad` does not compile."""

    def __init__(self, stage: str = "routing", context: type[FakeContext] = FakeContext) -> None:
        self.context = context(stage, ME)
        self.members(CONFIG)
        self.committed: list[tuple[int, str]] = []
        self.compiled: list[str] = []
        sections, committed = ("basic", "plans"), lambda *what: self.committed.append(what)
        self.generations: Generations[str] = Generations(self.context, sections, self.compile, committed)
        self.generations.start()

    def members(self, *config: int) -> None:
        self.context.members = Members.of(1, 99, [(actor, "config", 0, "", "ready") for actor in config])

    def compile(self, snapshot: Snapshot, plans: dict[str, int]) -> str:
        assert plans == {"all": 3}
        if snapshot.basic.name == "bad":
            raise ValueError("bad name")
        self.compiled.append(snapshot.basic.name)
        return snapshot.basic.name

    def hears(self, committed: int = 0, candidate: int = 0, oldest: int = 0, **names: str) -> list[Any]:
        """A value of topic config; names: current, next. Returns what was sent."""
        self.context.sent.clear()
        current = content(committed, names.get("current", f"g{committed}")) if committed else None
        then = content(candidate, names.get("next", f"g{candidate}")) if candidate else None
        say_config(self.context, current, then, oldest)
        return list(self.context.sent)


def test_a_candidate_is_compiled_and_accepted_but_not_used_before_it_is_committed() -> None:
    stage = Stage()
    assert stage.hears(candidate=5) == [(CONFIG, Accepted(ME, 5))]
    assert (stage.generations.get(5), stage.generations.newest, stage.committed) == ("g5", 0, [])
    assert stage.hears(committed=5) == []
    assert (stage.generations.newest, stage.committed, stage.compiled) == (5, [(5, "g5")], ["g5"])


def test_a_candidate_that_does_not_compile_is_refused_with_the_reason_and_what_runs_stays() -> None:
    stage = Stage()
    stage.hears(committed=5, oldest=5)
    assert stage.hears(committed=5, candidate=6, oldest=5, next="bad") == [(CONFIG, Refused(ME, 6, "bad name"))]
    assert (stage.generations.newest, stage.generations.get(5), stage.generations.get(6)) == (5, "g5", None)


def test_a_stage_that_comes_late_takes_what_runs_and_the_candidate_at_once() -> None:
    stage = Stage()
    sent = stage.hears(committed=5, candidate=6, oldest=5)
    assert sent == [(CONFIG, Accepted(ME, 5)), (CONFIG, Accepted(ME, 6))]
    assert stage.committed == [(5, "g5")]


def test_a_generation_is_compiled_and_answered_once_however_often_it_is_announced() -> None:
    stage = Stage()
    stage.hears(committed=5, candidate=6, oldest=5)
    assert stage.hears(committed=5, candidate=6, oldest=5) == []
    assert stage.compiled == ["g5", "g6"]
    assert stage.committed == [(5, "g5")]


def test_old_generations_stay_until_they_are_retired() -> None:
    stage = Stage()
    stage.hears(committed=5, oldest=5)
    stage.hears(committed=6, oldest=5)
    assert [stage.generations.get(number) for number in (5, 6)] == ["g5", "g6"]
    stage.hears(committed=6, oldest=6)
    assert [stage.generations.get(number) for number in (5, 6)] == [None, "g6"]


def test_a_replica_that_has_just_started_serves_what_is_older_than_it_by_the_newest() -> None:
    stage = Stage()
    assert stage.generations.instead_of(4) is None
    stage.hears(committed=5, candidate=6, oldest=3)
    assert [stage.generations.instead_of(number) for number in (3, 4)] == ["g5", "g5"]
    assert stage.generations.instead_of(7) is None, "of what is to come nobody knows anything"
    assert stage.generations.instead_of(6) is None
    assert stage.generations.get(6) == "g6"


def test_a_withdrawn_candidate_is_forgotten() -> None:
    stage = Stage()
    stage.hears(committed=5, candidate=6, oldest=5)
    stage.hears(committed=5, oldest=5)
    assert stage.generations.get(6) is None
    stage.hears(committed=5, candidate=7, oldest=5)
    stage.hears(committed=7, oldest=5)
    assert [stage.generations.get(number) for number in (5, 6, 7)] == ["g5", None, "g7"]


def test_without_a_config_actor_and_with_a_new_one_that_has_nothing_yet_the_stage_goes_on() -> None:
    stage = Stage()
    stage.hears(committed=5, oldest=5)
    stage.members()
    stage.hears()
    assert (stage.generations.newest, stage.generations.get(5)) == (5, "g5")
    stage.members(CONFIG + 1)
    assert stage.hears(candidate=900) == [(CONFIG + 1, Accepted(ME, 900))]
    assert stage.generations.get(5) == "g5"
    stage.hears(committed=900, oldest=900)
    assert stage.committed == [(5, "g5"), (900, "g900")]


def test_a_new_config_actor_hears_of_a_candidate_that_the_old_one_knew_to_be_accepted() -> None:
    stage = Stage()
    stage.hears(committed=5, candidate=6, oldest=5)
    stage.members(CONFIG + 1)
    assert (CONFIG + 1, Accepted(ME, 6)) in stage.hears(committed=5, candidate=6, oldest=5)
    assert stage.compiled == ["g5", "g6"]


def in_use(sent: list[Any]) -> list[tuple[int, int]]:
    return [(to, envelope.oldest) for to, envelope in sent if isinstance(envelope, InUse)]


def test_accept_tells_the_oldest_generation_that_a_stream_carries_whenever_it_changes() -> None:
    stage = Stage("accept")
    assert in_use(stage.hears(committed=5, oldest=5)) == [(CONFIG, 5)]
    stage.generations.in_use(5)
    assert in_use(stage.hears(committed=6, oldest=5)) == [], "its streams still carry 5, as far as accept has said"
    stage.generations.in_use(6)
    stage.generations.in_use(6)
    assert in_use(stage.context.sent) == [(CONFIG, 6)]


def test_what_streams_may_carry_is_in_use_before_accept_has_looked_for_the_first_time() -> None:
    stage = Stage("accept")
    assert in_use(stage.hears(committed=5, oldest=5)) == [(CONFIG, 5)]
    assert in_use(stage.hears(committed=6, oldest=5)) == [], "a stream that began with 5 may be on its way"


def test_accept_tells_a_new_config_actor_what_it_told_the_old_one() -> None:
    stage = Stage("accept")
    stage.hears(committed=5, oldest=5)
    stage.members(CONFIG + 1)
    assert in_use(stage.hears(committed=5)) == [(CONFIG + 1, 5)]


def test_only_accept_tells_what_is_in_use() -> None:
    stage = Stage("upstream")
    assert in_use(stage.hears(committed=5, oldest=5)) == []


def test_the_message_names_its_kind() -> None:
    stage = Stage("accept")
    kinds = {type(envelope) for _, envelope in stage.hears(committed=5)}
    assert kinds == {Accepted, InUse}


@pytest.mark.parametrize("oldest", [0, 5])
def test_what_runs_here_is_never_retired_even_when_the_clock_went_back(oldest: int) -> None:
    stage = Stage()
    stage.hears(committed=900, oldest=900)
    stage.hears(committed=5, oldest=oldest)
    assert (stage.generations.newest, stage.generations.get(5)) == (5, "g5")


# -- bundles that come later, compiling that takes long ------------------------------------


def hears_without_bundles(stage: Stage, committed: Generation | None = None, candidate: Generation | None = None) -> None:
    stage.context.blobs = {}
    stage.context.following["config"](value_of(committed, candidate))


def test_a_generation_is_fetched_once_and_compiled_when_its_bundles_are_there() -> None:
    stage = Stage()
    fifth = content(5, "g5")
    hears_without_bundles(stage, candidate=fifth)
    hears_without_bundles(stage, candidate=fifth)
    assert (len(stage.context.fetching), stage.compiled) == (1, [])
    stage.context.blobs_came(blobs_of(fifth))
    assert stage.compiled == ["g5"]
    assert stage.context.sent == [(CONFIG, Accepted(ME, 5))]


def test_only_bundles_that_are_not_known_are_fetched() -> None:
    stage = Stage()
    stage.hears(committed=5)
    hears_without_bundles(stage, content(5, "g5"), content(6, "g6"))
    ((wanted, _),) = stage.context.fetching
    assert wanted == blobs_of(content(6, "g6")).keys() - blobs_of(content(5, "g5")).keys()
    assert len(wanted) == 1, "the plans are the same"


def test_a_candidate_that_is_withdrawn_while_it_is_fetched_holds_up_nothing() -> None:
    stage = Stage()
    stage.hears(committed=5)
    hears_without_bundles(stage, content(5, "g5"), content(6, "g6"))
    hears_without_bundles(stage, content(5, "g5"), content(7, "g7"))
    assert len(stage.context.fetching) == 1
    stage.context.blobs_came(blobs_of(content(7, "g7")))
    assert stage.compiled == ["g5", "g7"]


def test_what_is_compiled_in_steps_is_accepted_when_it_is_done() -> None:
    stage, turns = Stage(context=WithTurns), WithTurns.turns

    def compile(snapshot: Snapshot, plans: dict[str, int]) -> Steps[str]:
        for _ in range(3):
            sleep(SLICE)  # so that each step takes a slice of its own
            yield LOOK
        if snapshot.basic.name == "bad":
            raise ValueError("bad name")
        return snapshot.basic.name

    stage.generations = Generations(stage.context, ("basic", "plans"), compile, lambda *what: stage.committed.append(what))
    stage.generations.start()
    assert stage.hears(committed=5) == []
    assert stage.hears(committed=5, candidate=6, next="bad") == []
    while turns.take():
        pass
    assert stage.context.sent == [(CONFIG, Accepted(ME, 5)), (CONFIG, Refused(ME, 6, "bad name"))]
    assert (stage.committed, stage.generations.get(5)) == ([(5, "g5")], "g5")


def test_a_stage_that_stops_compiles_no_further() -> None:
    stage = Stage()
    hears_without_bundles(stage, candidate=content(5, "g5"))
    stage.generations.stop()
    assert stage.context.fetching == []


def test_a_candidate_that_compiled_is_kept_until_it_is_committed() -> None:
    stage = Stage()
    stage.hears(committed=5, oldest=5)
    stage.hears(committed=5, candidate=6, oldest=5)
    stage.hears(committed=5, candidate=6, oldest=5)
    stage.hears(committed=6, oldest=6)
    assert (stage.compiled, stage.generations.get(6)) == (["g5", "g6"], "g6")
