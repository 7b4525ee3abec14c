"""The logging actor: lines in files, publications, WANTED."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pingap.bus.envelope import pack
from pingap.bus.kinds import COUNT, LINES, NOTICE
from pingap.bus.members import Members
from pingap.bus.messages import Wanted
from pingap.config.model import Basic, Server, Snapshot
from pingap.config.parts import AccessLog, Listen
from pingap.stages.logging.actor import LoggingActor
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.observability.samples import access, log

Start = Callable[..., Any]


def lines(*texts: str, server: str = "web") -> tuple[Any, ...]:
    """Finished lines of an access log, as accept sends them."""
    return (LINES, server, len(texts), "\n".join(texts))


class Rig:
    """The actor with what a supervisor and a config actor would tell it."""

    def __init__(self, context: FakeContext, actor: LoggingActor) -> None:
        self.context, self.actor = context, actor
        self.generation = 0

    def commit(self, access_log: AccessLog | None = None, metrics: str | None = None, basic: Basic | None = None, **more: Server) -> None:
        server = Server(addr=(Listen("127.0.0.1", 1),), access_log=access_log, prometheus_metrics=metrics)
        self.commit_servers({"web": server, **more}, basic)

    def commit_servers(self, servers: dict[str, Server], basic: Basic | None = None) -> None:
        self.generation += 1
        say_config(self.context, (self.generation, Snapshot(basic=basic or Basic(), servers=servers), {}), oldest=self.generation)

    def members(self, *ids: int) -> None:
        seq = self.context.members.seq + 1
        rows = [(i, "config" if i == 9 else "accept", i, f"ipc://{i}", "ready") for i in ids]
        gone = frozenset(self.context.members.by_id) - frozenset(ids)
        self.context.members = Members.of(seq, max(ids, default=0), rows)
        self.actor.members_changed(self.context.members, gone)

    def batch(self, *envelopes: Any) -> bytes:
        raw = pack(list(envelopes))[0]
        self.actor.receive_batch()(raw, list(envelopes))
        return raw

    def wanted(self) -> list[tuple[int, list[str]]]:
        return [(to, message.topics) for to, message in self.context.sent if isinstance(message, Wanted)]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    rigs: list[Rig] = []

    async def make(**settings: Any) -> Rig:
        context = FakeContext("logging", 1, {"log": str(tmp_path / "app.log"), "level": None} | settings)
        actor = LoggingActor(context)
        await actor.start()
        rigs.append(Rig(context, actor))
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.actor.stop()


# -- access logs ---------------------------------------------------------------


async def test_each_server_has_its_own_access_log(tmp_path: Path, start: Start) -> None:
    rig = await start()
    other = Server(addr=(Listen("127.0.0.1", 2),), access_log=AccessLog("tiny", str(tmp_path / "b.log")))
    rig.commit(AccessLog("tiny", str(tmp_path / "a.log")), other=other, silent=Server(addr=(Listen("127.0.0.1", 3),)))
    rig.batch(lines("one", "two"), lines("three", server="other"), lines("-", server="silent"), lines("-", server="unknown"))
    assert rig.actor.figures() == {"lines": 3, "lost": 0}
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"
    assert (tmp_path / "b.log").read_text() == "three\n"


async def test_servers_that_share_a_file_write_to_it_in_order(tmp_path: Path, start: Start) -> None:
    rig = await start()
    path = str(tmp_path / "a.log")
    rig.commit(AccessLog("tiny", path), other=Server(addr=(Listen("127.0.0.1", 2),), access_log=AccessLog("short", path)))
    rig.batch(lines("1"), lines("2", server="other"), lines("3"))
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "1\n2\n3\n"


async def test_a_new_file_applies_with_its_generation(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(AccessLog("tiny", str(tmp_path / "a.log")))
    rig.batch(lines("1"))
    rig.commit(AccessLog("tiny", str(tmp_path / "b.log")))
    rig.batch(lines("2"))
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "1\n"
    assert (tmp_path / "b.log").read_text() == "2\n"


async def test_a_server_that_the_file_no_longer_names_is_logged_until_the_restart(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(AccessLog("tiny", str(tmp_path / "a.log")))
    rig.commit_servers({"other": Server(addr=(Listen("127.0.0.1", 2),))})
    rig.batch(lines("1"))
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "1\n"


async def test_lines_that_come_before_the_configuration_are_kept_for_it(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.batch(lines("1"), log("early"))
    assert not rig.context.is_ready
    rig.commit(AccessLog("tiny", str(tmp_path / "a.log")))
    assert rig.context.is_ready
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "1\n"
    assert "early" in (tmp_path / "app.log").read_text()


async def test_a_broken_event_costs_itself_only(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(AccessLog("tiny", str(tmp_path / "a.log")))
    rig.batch(lines("1"), (LINES, "web"), log()[:2], lines("2"))
    await rig.actor.stop()
    assert (tmp_path / "a.log").read_text() == "1\n2\n"
    assert [(level, "could not be written" in text) for level, text, _ in rig.context.logged] == [("error", True)]
    assert rig.actor.figures() == {"lines": 2, "lost": 2}


async def test_usr1_reopens_every_file(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(AccessLog("{status}", str(tmp_path / "a.log")))
    rig.batch(lines("200"), log("one"))
    for name in ("a.log", "app.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    rig.actor.told("reopen", None)
    rig.batch(lines("201"), log("two"))
    await rig.actor.stop()
    assert [(tmp_path / name).read_text() for name in ("a.log.1", "a.log")] == ["200\n", "201\n"]
    assert "one" in (tmp_path / "app.log.1").read_text()
    assert "two" in (tmp_path / "app.log").read_text()


# -- the application log ---------------------------------------------------------


async def test_records_below_the_level_are_not_written(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(basic=Basic(log_level="warn"))
    rig.batch(log("quiet"), log("loud", "error"))
    await rig.actor.stop()
    text = (tmp_path / "app.log").read_text()
    assert "loud" in text and "quiet" not in text


async def test_json_is_for_machines(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit(basic=Basic(log_format_json=True))
    rig.batch(log("x"))
    await rig.actor.stop()
    assert (tmp_path / "app.log").read_text().startswith('{"time": "2026-')


async def test_without_the_flag_the_log_goes_where_the_configuration_says(tmp_path: Path, start: Start) -> None:
    rig = await start(log=None)
    rig.commit(basic=Basic(error_log=str(tmp_path / "error.log")))
    rig.batch(log("here"))
    await rig.actor.stop()
    assert "here" in (tmp_path / "error.log").read_text()


async def test_a_level_from_the_environment_that_makes_no_sense_is_told(start: Start) -> None:
    rig = await start(level="verbose")
    assert rig.context.logged == [("warn", "a log level was not understood", {"word": "verbose"})]


@pytest.mark.parametrize("target", ["/tmp/a.log?rolling=daily", "syslog:///?format=3164"])
async def test_targets_that_are_not_there_yet_are_refused_at_the_start(start: Start, target: str) -> None:
    with pytest.raises(ValueError, match="not supported yet"):
        await start(log=target)


# -- publishing --------------------------------------------------------------------


async def test_without_subscribers_nothing_is_published(start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.batch(access())
    assert rig.context.events == []


async def test_a_batch_of_one_kind_is_forwarded_as_it_came(start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.context.topics_changed(frozenset({"access"}))
    raw = rig.batch(access(), access())
    rig.batch(log())
    assert rig.context.events == [("access", raw)]


async def test_a_mixed_batch_is_published_topic_by_topic(start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.context.topics_changed(frozenset({"access", "log"}))
    rig.batch(access(), log(), (COUNT, "accept", 0, [], {}), access(status=404))
    assert sorted(rig.context.events) == [("access", [access(), access(status=404)]), ("log", [log()])]


async def test_events_of_its_own_process_are_written_and_published_too(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.context.topics_changed(frozenset({"log"}))
    receivers = rig.actor.receivers()
    receivers[tuple](log("own"))
    await rig.actor.stop()
    assert rig.context.events == [("log", [log("own")])]
    assert "own" in (tmp_path / "app.log").read_text()


async def test_who_asks_for_recent_records_gets_those_that_were_written(start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.batch(log("one"), log("hidden", "debug"), access(), log("two"))
    rig.context.topics_changed(frozenset({"recent.1"}))
    rig.context.topics_changed(frozenset({"recent.1", "log"}))
    assert rig.context.events == [("recent.1", [log("one"), log("two")])]


# -- WANTED --------------------------------------------------------------------------


async def test_members_are_told_what_is_wanted_at_once_and_again_when_it_changes(start: Start) -> None:
    rig = await start()
    rig.members(1, 2)
    assert rig.wanted() == []  # before the configuration is known they keep what the predecessor said
    rig.commit(AccessLog("tiny"))  # its lines come from accept: that is no reason to want events
    assert rig.wanted() == [(1, ["log"]), (2, ["log"])]
    rig.members(1, 2, 3)
    assert rig.wanted()[2:] == [(3, ["log"])]
    rig.commit(None, metrics="/metrics")
    assert rig.wanted()[3:] == [(actor, ["access", "count", "log"]) for actor in (1, 2, 3)]
    rig.members(1, 4)
    assert rig.wanted()[6:] == [(4, ["access", "count", "log"])]


async def test_a_subscriber_makes_events_wanted_and_its_leaving_ends_it(start: Start) -> None:
    rig = await start()
    rig.members(2)
    rig.commit()
    rig.context.topics_changed(frozenset({"access"}))
    rig.context.topics_changed(frozenset())
    assert rig.wanted() == [(2, ["log"]), (2, ["access", "log"]), (2, ["log"])]


async def test_draining_waits_until_a_look_finds_no_new_events(start: Start) -> None:
    rig = await start()
    rig.commit()
    rig.actor.begin_drain(0.0)
    rig.batch(access())
    assert rig.actor.held() == 1
    rig.batch(access())
    assert rig.actor.held() == 1
    assert rig.actor.held() == 0


# -- targets that fail ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dev/full", "/nonexistent/app.log", "/"])
async def test_trouble_with_the_application_log_is_on_stderr_at_once(path: str, start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    rig = await start(log=path)
    rig.commit()
    rig.batch(log(message="hello"))
    rig.actor._flush()
    rig.actor._flush()
    assert f"log {path}: " in capfd.readouterr().err


@pytest.mark.parametrize("occasion", ["flush", "reopen", "tick", "stop"])
async def test_a_target_that_fails_breaks_nothing_whatever_the_occasion(
    occasion: str, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    rig = await start(log="/dev/full")
    full = AccessLog("combined", "/dev/full")
    rig.commit(full, other=Server(addr=(Listen("127.0.0.1", 2),), access_log=full))
    rig.batch(log(message="hello"), lines("one"), lines("two", server="other"))
    match occasion:
        case "flush":
            rig.actor._flush()
        case "reopen":
            rig.actor.told("reopen", ())
        case "tick":
            rig.actor._tick()
    await rig.actor.stop()
    assert "log /dev/full: No space left on device" in capfd.readouterr().err


async def test_notices_go_to_who_listens_and_into_no_log(tmp_path: Path, start: Start) -> None:
    rig = await start()
    rig.commit()
    notice: tuple[Any, ...] = (NOTICE, 1.0, "info", "config", 0, "reload_config", "taken", {})
    rig.batch(notice)
    rig.context.topics_changed(frozenset({"notice"}))
    rig.batch(notice, log("beside"))
    await rig.actor.stop()
    assert rig.context.events == [("notice", [notice])]
    assert "taken" not in (tmp_path / "app.log").read_text()
