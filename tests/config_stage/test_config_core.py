"""The config stage's decisions, as scripts: what happens, and what is to be done about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.model import Basic, Code, Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, Listen
from pingap.config.problems import Note
from pingap.stages.config import last
from pingap.stages.config.core import (
    DEADLINE,
    KEPT,
    ROLLBACK,
    AnswerCame,
    Command,
    Core,
    Event,
    Keep,
    Loaded,
    MembersCame,
    Publish,
    Read,
    ReadFailed,
    RollbackAsked,
    Stored,
    Tell,
    Ticked,
    UseTold,
    Who,
)

FIRST = 1000
ACCEPT, ROUTING, UPSTREAM = 11, 12, 13


def members(*states: tuple[int, str, str]) -> MembersCame:
    return MembersCame({actor: Who(stage, 0, state) for actor, stage, state in states})


STARTING = members((ACCEPT, "accept", "starting"), (ROUTING, "routing", "starting"), (2, "config", "starting"))
READY = members((ACCEPT, "accept", "ready"), (ROUTING, "routing", "ready"), (2, "config", "ready"))


def loaded(addr: str = "10.0.0.1", listen: int = 80, code: bytes = b"") -> Loaded:
    snapshot = Snapshot(
        basic=Basic(name="test"),
        servers={"web": Server(addr=(Listen("127.0.0.1", listen),))},
        locations={"all": Location(upstream="api")},
        upstreams={"api": Upstream(addrs=(Backend(addr),))},
        code={"mine": Code("/etc/mine.py", code)} if code else {},
    )
    return Loaded.of(snapshot, {"all": 0})


class Script:
    """Feeds events at times and remembers what came of them."""

    def __init__(self, core: Core | None = None) -> None:
        self.core = core or Core(FIRST)
        self.commands: list[Command] = []

    def on(self, *events: Event, at: float = 0.0) -> list[Command]:
        self.commands = [command for event in events for command in self.core.handle(event, at)]
        return self.commands

    def accept(self, number: int, *actors: int) -> list[Command]:
        return self.on(*(AnswerCame(actor, number) for actor in actors))

    @property
    def published(self) -> dict[str, Any]:
        return [c.value for c in self.commands if isinstance(c, Publish)][-1]

    @property
    def told(self) -> list[Tell]:
        return [c for c in self.commands if isinstance(c, Tell)]


def running(content: Loaded | None = None) -> Script:
    """A script whose first generation is committed, with all stages ready."""
    script = Script()
    script.on(STARTING, Read(content or loaded()))
    script.accept(FIRST, ACCEPT, ROUTING)
    script.on(READY, UseTold(ACCEPT, FIRST))
    return script


def test_the_first_configuration_is_offered_and_committed_when_every_stage_accepted_it() -> None:
    script = Script()
    script.on(STARTING, Read(loaded()))
    assert (script.published["committed"], script.published["candidate"]) == (0, FIRST)
    assert script.published["next"] == loaded().packed.contents
    assert script.accept(FIRST, ACCEPT) == []
    script.accept(FIRST, ROUTING)
    assert (script.published["committed"], script.published["candidate"], script.published["next"]) == (FIRST, 0, None)
    assert script.published["current"] == loaded().packed.contents


def test_it_is_kept_for_the_next_life_before_anybody_hears_of_the_commit() -> None:
    script = Script()
    script.on(STARTING, Read(loaded()))
    script.accept(FIRST, ACCEPT, ROUTING)
    assert [type(command) for command in script.commands] == [Keep, Publish, Tell]


def test_nothing_is_committed_before_the_members_are_known() -> None:
    script = Script()
    script.on(Read(loaded()))
    assert script.published["committed"] == 0
    assert script.on(Ticked(), at=DEADLINE + 1) == []


def test_an_actor_that_joins_while_a_candidate_waits_is_waited_for_too() -> None:
    script = Script()
    script.on(STARTING, Read(loaded()))
    script.on(members((ACCEPT, "accept", "starting"), (ROUTING, "routing", "starting"), (UPSTREAM, "upstream", "starting")))
    assert script.accept(FIRST, ACCEPT, ROUTING) == []
    script.accept(FIRST, UPSTREAM)
    assert script.published["committed"] == FIRST


def test_an_actor_that_dies_or_drains_is_no_longer_waited_for() -> None:
    for gone in (members((ACCEPT, "accept", "ready")), members((ACCEPT, "accept", "ready"), (ROUTING, "routing", "draining"))):
        script = running()
        script.on(Read(loaded("10.0.0.2")))
        script.accept(FIRST + 1, ACCEPT)
        script.on(gone)
        assert script.published["committed"] == FIRST + 1


def test_one_refusal_withdraws_the_candidate_and_the_running_generation_goes_on() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT)
    script.on(AnswerCame(ROUTING, FIRST + 1, "bad regex"))
    assert (script.published["committed"], script.published["candidate"]) == (FIRST, 0)
    assert script.published["problems"] == ["routing.0: bad regex"]
    assert script.told == [
        Tell("error", f"configuration withdrawn: generation {FIRST} goes on", FIRST, ("routing.0: bad regex",)),
    ]


def test_a_ready_stage_that_stays_silent_withdraws_the_candidate_at_the_deadline() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")), at=100)
    script.on(AnswerCame(ACCEPT, FIRST + 1), at=101)
    assert script.core.deadline == 100 + DEADLINE
    assert script.on(Ticked(), at=100 + DEADLINE - 0.1) == []
    script.on(Ticked(), at=100 + DEADLINE)
    assert script.published["committed"] == FIRST
    assert "routing.0" in script.told[0].problems[0]
    assert script.core.deadline is None


def test_a_stage_that_does_not_come_up_holds_an_edit_up_until_the_deadline_only() -> None:
    script = running()
    script.on(members((ACCEPT, "accept", "ready"), (ROUTING, "routing", "starting")), Read(loaded("10.0.0.2")))
    assert script.accept(FIRST + 1, ACCEPT) == []
    script.on(Ticked(), at=DEADLINE)
    assert script.published["committed"] == FIRST + 1


def test_the_answer_to_an_older_candidate_counts_for_nothing() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.on(AnswerCame(ROUTING, FIRST + 1, "no"))
    script.on(Read(loaded("10.0.0.3")))
    assert script.accept(FIRST + 1, ACCEPT, ROUTING) == []
    assert script.on(AnswerCame(ROUTING, FIRST + 1, "no")) == []
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    assert script.published["current"] == loaded("10.0.0.3").packed.contents


def test_of_several_edits_during_a_candidate_only_the_last_is_tried_after_it() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    assert script.on(Read(loaded("10.0.0.3"), asked=True), Read(loaded("10.0.0.4"))) == []
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    assert script.published["candidate"] == FIRST + 2
    assert script.published["next"] == loaded("10.0.0.4").packed.contents
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    assert [told.asked for told in script.told] == [True], "who asked for the edit in between is answered by the last"


def test_an_edit_that_breaks_the_file_during_a_candidate_drops_what_waited() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.on(ReadFailed(("nonsense",)))
    script.on(Read(loaded("10.0.0.3")), ReadFailed(("nonsense",)))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    assert (script.published["committed"], script.published["candidate"]) == (FIRST + 1, 0)
    assert script.published["problems"] == ["nonsense"]


def test_a_broken_file_is_told_once_and_again_for_who_asks() -> None:
    script = running()
    script.on(ReadFailed(("a", "b")))
    assert script.told == [Tell("error", f"configuration refused: generation {FIRST} goes on", FIRST, ("a", "b"))]
    assert script.published["committed"] == FIRST
    assert script.on(ReadFailed(("a", "b"))) == []
    assert len(script.on(ReadFailed(("a", "b"), asked=True))) == 2


def test_a_file_that_is_mended_to_what_runs_is_no_new_generation() -> None:
    script = running()
    script.on(ReadFailed(("a",)))
    script.on(Read(loaded()))
    assert (script.published["problems"], script.published["candidate"]) == ([], 0)
    assert script.told[0].message == "configuration unchanged"
    assert script.on(Read(loaded())) == []


def test_a_reload_without_a_change_says_so() -> None:
    script = running()
    script.on(Read(loaded(), asked=True))
    assert script.commands == [Tell("info", "configuration unchanged", FIRST, (), (), "nothing changed", True)]


def test_new_code_of_a_plugin_is_a_new_generation_though_the_configuration_is_the_same() -> None:
    script = running(loaded(code=b"one"))
    script.on(Read(loaded(code=b"two")))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    assert script.published["committed"] == FIRST + 1
    assert script.told[0].changed == "the code of plugins.mine"
    script.on(Read(loaded("10.0.0.2", code=b"three")))
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    assert script.told[0].changed == "changed upstreams.api.addrs; the code of plugins.mine"


def test_what_changed_is_named_and_a_changed_address_waits_for_a_restart_until_it_is_taken_back() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2", listen=81)))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    told = script.told[0]
    assert (told.level, told.notes) == ("warn", ("servers.web.addr: needs a restart of pingap",))
    assert "upstreams.api.addrs" in told.changed
    script.on(Read(loaded("10.0.0.3", listen=81)))
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    assert script.told[0].notes == told.notes, "it still waits"
    script.on(Read(loaded("10.0.0.3")))
    script.accept(FIRST + 3, ACCEPT, ROUTING)
    assert script.told[0].notes == ()


def test_what_is_said_in_vain_is_told_at_every_commit_and_reload() -> None:
    content = replace(loaded(), notes=("certificates.site: without effect",))
    script = Script()
    script.on(STARTING, Read(content))
    script.accept(FIRST, ACCEPT, ROUTING)
    (told,) = script.told
    assert (told.level, told.message) == ("warn", "configuration committed")
    assert told.notes == ("certificates.site: without effect",)
    script.on(Read(content, asked=True))
    assert script.told[0].notes == told.notes


def test_generations_are_retired_once_no_stream_carries_them() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    assert script.published["oldest"] == FIRST
    script.on(UseTold(ACCEPT, FIRST + 1))
    assert script.published["oldest"] == FIRST + 1
    assert script.on(UseTold(ACCEPT, FIRST + 1)) == []


def test_an_accept_actor_that_died_holds_no_generation() -> None:
    script = running()
    script.on(members((ACCEPT, "accept", "ready"), (14, "accept", "ready")), UseTold(14, FIRST), UseTold(ACCEPT, FIRST))
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT, 14)
    assert script.on(UseTold(ACCEPT, FIRST + 1)) == []
    script.on(members((ACCEPT, "accept", "ready")))
    assert script.published["oldest"] == FIRST + 1


def test_a_stream_that_clings_to_an_old_generation_cannot_keep_more_than_a_few() -> None:
    script = running()
    for number in range(1, 3 * KEPT):
        script.on(Read(loaded(f"10.0.1.{number}")))
        script.accept(FIRST + number, ACCEPT, ROUTING)
    assert script.published["committed"] - script.published["oldest"] == KEPT - 1


def stored() -> Stored:
    return Stored(FIRST + 5, loaded(), loaded().snapshot)


def test_a_restarted_actor_goes_on_with_what_was_committed_and_with_higher_numbers() -> None:
    script = Script(Core(FIRST, stored()))  # the clock may even have gone back
    assert script.core.value()["committed"] == FIRST + 5
    assert script.core.value()["current"] == loaded().packed.contents
    assert script.on(READY, Read(loaded())) == []
    script.on(Read(loaded("10.0.0.2")))
    assert script.published["candidate"] == FIRST + 6


def test_a_restarted_actor_keeps_old_generations_until_accept_has_told_which_are_in_use() -> None:
    script = Script(Core(FIRST + 100, stored()))
    assert script.on(READY) == []
    assert script.core.value()["oldest"] == 0
    script.on(UseTold(ACCEPT, FIRST + 5))
    assert script.published["oldest"] == FIRST + 5


def test_a_restarted_actor_that_finds_a_broken_file_says_so_and_keeps_what_runs() -> None:
    script = Script(Core(FIRST + 100, stored()))
    script.on(READY, ReadFailed(("nonsense",)))
    assert script.published["committed"] == FIRST + 5
    assert "goes on" in script.told[0].message


def test_a_new_actor_that_refuses_what_runs_is_told_to_the_operator() -> None:
    script = running()
    script.on(AnswerCame(ROUTING, FIRST, "no memory"))
    assert script.told[0].problems == ("routing.0: no memory",)


EDITS = st.lists(
    st.one_of(
        st.builds(Read, st.builds(loaded, st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]))),
        st.builds(ReadFailed, st.tuples(st.sampled_from(["x", "y"]))),
        st.builds(AnswerCame, st.sampled_from([ACCEPT, ROUTING]), st.integers(FIRST, FIRST + 8), st.sampled_from([None, None, "no"])),
        st.builds(UseTold, st.just(ACCEPT), st.integers(FIRST, FIRST + 8)),
        st.sampled_from([READY, STARTING, members((ACCEPT, "accept", "ready"))]),
        st.just(Ticked()),
    ),
    max_size=40,
)


@given(EDITS)
def test_whatever_happens_numbers_rise_and_the_value_is_consistent(events: list[Event]) -> None:
    script, last = Script(), {"committed": 0, "candidate": 0}
    highest = 0
    for second, event in enumerate(events):
        script.on(event, at=second)
        for command in script.commands:
            if isinstance(command, Publish):
                value = command.value
                assert value["committed"] >= last["committed"]
                assert (value["current"] is None) == (value["committed"] == 0)
                assert (value["next"] is None) == (value["candidate"] == 0)
                assert value["oldest"] <= value["committed"]
                if value["candidate"] and value["candidate"] != last["candidate"]:
                    assert value["candidate"] > highest
                    highest = value["candidate"]
                if value["committed"] != last["committed"]:
                    assert value["committed"] == last["candidate"], "only what was a candidate is ever committed"
                last = value
    assert (script.core.deadline is not None) == bool(last["candidate"])


def test_a_changed_remark_is_no_new_generation() -> None:
    script = running()
    snapshot = replace(loaded().snapshot, locations={"all": Location(upstream="api", remark="hello")})
    assert script.on(Read(Loaded.of(snapshot, {"all": 0}))) == []


# -- going back ---------------------------------------------------------------------


def rolled_back() -> Script:
    """Generation FIRST + 2 is what FIRST was; the files still say what FIRST + 1 was."""
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    script.on(RollbackAsked())
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    return script


def test_a_rollback_is_a_generation_like_any_other() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    script.on(RollbackAsked())
    assert script.published["candidate"] == FIRST + 2 and script.published["next"] == loaded().packed.contents
    script.accept(FIRST + 2, ACCEPT, ROUTING)
    assert script.published["current"] == loaded().packed.contents and script.published["committed"] == FIRST + 2
    [told] = script.told
    assert (told.word, told.asked, told.message) == (ROLLBACK, True, "configuration rolled back")
    assert told.changed == "changed upstreams.api.addrs"


def test_without_a_generation_before_there_is_no_rollback() -> None:
    script = running()
    [told] = script.on(RollbackAsked())
    assert isinstance(told, Tell) and told.problems and told.word == ROLLBACK and told.number == FIRST
    assert script.core.committed == FIRST


def test_while_a_candidate_waits_nothing_is_rolled_back() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    [told] = script.on(RollbackAsked())
    assert isinstance(told, Tell) and "ask again" in told.problems[0]
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    assert script.published["committed"] == FIRST + 1


def test_a_rollback_that_a_stage_refuses_is_withdrawn() -> None:
    script = running()
    script.on(Read(loaded("10.0.0.2")))
    script.accept(FIRST + 1, ACCEPT, ROUTING)
    script.on(RollbackAsked())
    script.on(AnswerCame(ROUTING, FIRST + 2, "no"))
    assert script.published["committed"] == FIRST + 1
    assert [(told.word, told.asked) for told in script.told] == [(ROLLBACK, True)]


@pytest.mark.parametrize("comes_back", [False, True])
def test_the_files_that_were_gone_back_from_are_taken_by_a_reload_or_an_edit_only(comes_back: bool) -> None:
    script = rolled_back()
    if comes_back:  # the config stage died meanwhile, and reads all that is there
        [stored] = [command.stored for command in script.commands if isinstance(command, Keep)]
        script = Script(Core(FIRST, stored))
        script.on(READY)
    assert script.on(Read(loaded("10.0.0.2"))) == []
    script.on(Read(loaded("10.0.0.2"), asked=True))
    assert script.published["candidate"] == FIRST + 3
    script.accept(FIRST + 3, ACCEPT, ROUTING)
    assert script.published["current"] == loaded("10.0.0.2").packed.contents

    script = rolled_back()
    script.on(Read(loaded("10.0.0.3")))
    assert script.published["candidate"] == FIRST + 3


def test_two_rollbacks_go_forth_again() -> None:
    script = rolled_back()
    script.on(RollbackAsked())
    script.accept(FIRST + 3, ACCEPT, ROUTING)
    assert script.published["current"] == loaded("10.0.0.2").packed.contents


def test_a_comparison_changes_nothing() -> None:
    script = running()
    before = script.core.value()
    lines = ("[MODIFIED] upstreams.api", '- addrs = ["10.0.0.1"]', '+ addrs = ["10.0.0.2"]')
    assert script.core.compare(loaded("10.0.0.2")) == ("changed upstreams.api.addrs", lines, ())
    assert script.core.compare(loaded())[0] == "nothing changed"
    assert script.core.compare(loaded(listen=81))[2] == ("servers.web.addr: needs a restart of pingap",)
    assert script.core.value() == before


def test_what_was_noted_while_reading_is_told_and_outlives_the_actor(tmp_path: Path) -> None:
    content = replace(loaded(), notes=("basic.x: without effect\n    leave it out",))
    content = replace(content, snapshot=replace(content.snapshot, notes=(Note("basic.x", "without effect", "leave it out"),)))
    script = Script()
    script.on(STARTING, Read(content.anew()))
    script.accept(FIRST, ACCEPT, ROUTING)
    assert script.told[0].notes == ("basic.x: without effect\n    leave it out",)
    last.save(str(tmp_path), Stored(FIRST, content, content.snapshot))
    found = last.restore(str(tmp_path))
    assert found is not None
    assert found.loaded.snapshot.notes == content.snapshot.notes
    assert found.loaded.notes == content.notes


def test_what_a_rollback_needs_outlives_the_actor(tmp_path: Path) -> None:
    kept = Stored(FIRST, loaded(), loaded().snapshot, loaded("10.0.0.2", code=b"x"), loaded("10.0.0.3"))
    last.save(str(tmp_path), kept)
    found = last.restore(str(tmp_path))
    assert found is not None and found.previous is not None and found.rejected is not None
    assert (found.previous.snapshot, found.rejected.snapshot) == (loaded("10.0.0.2", code=b"x").snapshot, loaded("10.0.0.3").snapshot)
    last.save(str(tmp_path), Stored(FIRST, loaded(), loaded().snapshot))
    found = last.restore(str(tmp_path))
    assert found is not None and found.previous is None and found.rejected is None
