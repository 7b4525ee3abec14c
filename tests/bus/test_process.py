"""Processes with their actors, on one loop but over real sockets; the test is the supervisor."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pingap.bus import process as module
from pingap.bus.actor import Actor, Context
from pingap.bus.kinds import BOOT_FAILED, DRAIN, DRAINED, HEARTBEAT, HELLO, MEMBERS, READY, REPORT, STOP, TELL
from pingap.bus.link import Link
from pingap.bus.members import Members
from pingap.bus.process import Process
from pingap.bus.seat import Seat
from tests.bus.conftest import Net
from tests.bus.says import Said, say

pytestmark = pytest.mark.alone


class Talker(Actor):
    """Remembers what happens to it."""

    stage = "talker"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.got: list[Any] = []
        self.values: list[Any] = []
        self.gone: list[frozenset[int]] = []
        self.words: list[str] = []
        self.load = 0
        self.is_stopped = False

    def receivers(self) -> dict[type, Callable[[Any], None]]:
        return {Said: self.got.append}

    async def start(self) -> None:
        if self.context.settings.get("fails"):
            raise RuntimeError("no such file")
        if self.context.settings.get("follows"):
            self.context.follow("health", "source", self.values.append)
        self.context.ready()

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self.gone.append(gone)

    def told(self, word: str, args: Any) -> None:
        self.words.append(word)

    def figures(self) -> dict[str, float]:
        return {"load": self.load}

    def begin_drain(self, reprieve: float) -> None:
        self.words.append("drain")

    def held(self) -> int:
        return self.load

    async def stop(self) -> None:
        self.is_stopped = True


class Supervisor:
    """The control socket and the table, as the test wants them."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.link: Link = net.link()
        self.router = self.link.router(net.at("control"), self._take)
        self.heard: list[Any] = []
        self.peers: dict[int, bytes] = {}
        self.rows: dict[int, tuple[int, str, int, str, str]] = {}
        self.seq = self.newest = 0
        self.running: dict[int, tuple[Process, asyncio.Task[int]]] = {}

    def _take(self, peer: bytes, envelopes: list[Any]) -> None:
        for envelope in envelopes:
            self.heard.append(envelope)
            if envelope[0] == HELLO:
                self.peers |= dict.fromkeys(envelope[1], peer)
                self.announce()

    def of(self, kind: int) -> list[Any]:
        return [envelope for envelope in self.heard if envelope[0] == kind]

    def announce(self) -> None:
        self.seq += 1
        for peer in set(self.peers.values()):
            self.router.send(peer, (MEMBERS, self.seq, self.newest, list(self.rows.values())))

    def start(self, stage: str, *more: str, supervisor: int = -1, **settings: Any) -> list[Talker]:
        """A process with an actor of each of these stages. supervisor: as in Process."""
        seats = []
        for name in (stage, *more):
            self.newest += 1
            endpoint = self.net.at(f"{name}.0.{self.newest}")
            self.rows[self.newest] = (self.newest, name, 0, endpoint, "ready")
            seats.append(Seat(self.newest, name, 0, endpoint, Talker, settings))
        self.announce()
        process = Process(self.net.run_dir, seats, asyncio.get_running_loop(), supervisor=supervisor)
        self.net.links.append(process.link)
        task = asyncio.get_running_loop().create_task(process.run())
        for seat in seats:
            self.running[seat.id] = (process, task)
        return [actor for actor in process.actors.values() if isinstance(actor, Talker)]

    async def end(self, actor: int, kill: bool = False) -> int:
        """Stops the process of an actor, or lets it vanish as after SIGKILL; then announces that it is gone."""
        process, task = self.running.pop(actor)
        if kill:
            await halt(process, task)
            self.net.close(process.link)
            code = -9
        else:
            self.router.send(self.peers[actor], (STOP,))
            code = await asyncio.wait_for(task, 5)
            self.net.links.remove(process.link)
        del self.rows[actor], self.peers[actor]
        self.announce()
        return code


async def halt(process: Process, task: asyncio.Task[int]) -> None:
    """Ends all that runs of a process, as its death would."""
    beats = [each for each in asyncio.all_tasks() if getattr(each.get_coro(), "cr_frame", None) is not None]
    beats = [each for each in beats if each.get_coro().cr_frame.f_locals.get("self") is process]  # type: ignore[union-attr]
    for each in {task, *beats}:
        each.cancel()
    await asyncio.gather(task, *beats, return_exceptions=True)


@pytest.fixture
async def supervisor(net: Net, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    monkeypatch.setattr(signal, "signal", lambda number, action: None)  # pytest's own are to stay
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    supervisor = Supervisor(net)
    yield supervisor
    for process, task in list(supervisor.running.values()):
        await halt(process, task)
    loop.set_exception_handler(handler)


async def test_a_process_says_hello_is_ready_beats_and_stops_when_told(net: Net, supervisor: Supervisor) -> None:
    (actor,) = supervisor.start("talker")
    actor.load = 3
    await net.until(lambda: supervisor.of(READY) and supervisor.of(HEARTBEAT))
    assert supervisor.of(HELLO)[0][1] == (1,)
    assert supervisor.of(READY)[0][1] == (1,)
    await net.until(lambda: any(beat[1] == {1: {"load": 3}} for beat in supervisor.of(HEARTBEAT)))
    actor.context.report("generation", {"number": 5})
    await net.until(lambda: supervisor.of(REPORT))
    assert supervisor.of(REPORT)[0][1:] == (1, "generation", {"number": 5})
    supervisor.router.send(supervisor.peers[1], (TELL, "reload", None))
    await net.until(lambda: actor.words == ["reload"])
    assert await supervisor.end(1) == 0
    assert actor.is_stopped


async def test_an_actor_that_cannot_start_is_a_boot_failure_with_the_reason(
    net: Net, supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    supervisor.start("talker", fails=True)
    process, task = supervisor.running.pop(1)
    assert await asyncio.wait_for(task, 5) == 1
    net.links.remove(process.link)
    await net.until(lambda: supervisor.of(BOOT_FAILED))
    assert supervisor.of(BOOT_FAILED)[0][2] == "RuntimeError: no such file"
    assert "no such file" in capfd.readouterr().err


async def test_actors_talk_across_processes_and_within_one(net: Net, supervisor: Supervisor) -> None:
    one, two = supervisor.start("a", "b")
    (three,) = supervisor.start("c")
    await net.until(lambda: len(supervisor.of(READY)) == 3)
    for actor in (one, three):
        for number in range(3):
            actor.context.send(two.context.id, Said(actor.context.id, b"%d" % number))
    two.context.send(three.context.id, Said(two.context.id, b"9"))
    await net.until(lambda: len(two.got) == 6 and three.got)
    assert [each.payload for each in two.got if each.sid == one.context.id] == [b"0", b"1", b"2"]
    assert [each.payload for each in two.got if each.sid == three.context.id] == [b"0", b"1", b"2"]


async def test_who_is_gone_is_told_and_gets_nothing_more(net: Net, supervisor: Supervisor) -> None:
    (one,) = supervisor.start("a")
    supervisor.start("b")
    await net.until(lambda: len(supervisor.of(READY)) == 2)
    await supervisor.end(2, kill=True)
    await net.until(lambda: frozenset((2,)) in one.gone)
    one.context.send(2, say(1))
    assert one.context.members.is_dead(2)


async def test_a_drain_ends_when_nothing_is_held_or_at_its_deadline(net: Net, supervisor: Supervisor) -> None:
    one, two = supervisor.start("a", "b")
    one.load, two.load = 1, 5
    await net.until(lambda: len(supervisor.of(READY)) == 2)
    supervisor.router.send(supervisor.peers[1], (DRAIN, [1], 30.0, 0.0))
    supervisor.router.send(supervisor.peers[1], (DRAIN, [2], 0.3, 0.0))
    await net.until(lambda: one.words == ["drain"] and two.words == ["drain"])
    assert supervisor.of(DRAINED) == []
    one.load = 0
    await net.until(lambda: len(supervisor.of(DRAINED)) == 2)
    assert sorted(drained[1:] for drained in supervisor.of(DRAINED)) == [((1,), 0), ((2,), 5)]


async def test_without_a_supervisor_a_process_finishes_what_it_holds_and_ends(
    net: Net, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 1.2)
    (actor,) = supervisor.start("talker")
    actor.load = 1
    await net.until(lambda: supervisor.of(READY))
    net.close(supervisor.link)
    await net.until(lambda: actor.words == ["drain"])
    process, task = supervisor.running.pop(1)
    assert not task.done()
    actor.load = 0
    assert await asyncio.wait_for(task, 5) == 0
    net.links.remove(process.link)


@pytest.mark.processes
async def test_a_supervisor_that_is_silent_but_alive_is_waited_for_and_a_dead_one_is_known_at_once(
    net: Net, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stands_for_it:
        handle = os.pidfd_open(stands_for_it.pid)
        (actor,) = supervisor.start("talker", supervisor=handle)
        actor.load = 1
        await net.until(lambda: supervisor.of(READY))
        process, task = supervisor.running.pop(1)
        process._heard = -1000.0
        net.close(supervisor.link)
        beats = process.beat
        count = 0

        def counted() -> dict[int, dict[str, float]]:
            nonlocal count
            count += 1
            return beats()

        monkeypatch.setattr(process, "beat", counted)
        await net.until(lambda: count >= 3)
        assert actor.words == []
        stands_for_it.kill()
        await net.until(lambda: actor.words == ["drain"], 0.4)
        actor.load = 0
        assert await asyncio.wait_for(task, 5) == 0
        net.links.remove(process.link)
        os.close(handle)


async def test_a_failed_heartbeat_is_told_and_the_next_one_comes(
    net: Net, supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    (actor,) = supervisor.start("talker")
    await net.until(lambda: supervisor.of(HEARTBEAT))
    figures, actor.figures = actor.figures, lambda: {"load": 1 / 0}  # type: ignore[method-assign]
    said = ""
    limit = asyncio.get_running_loop().time() + 5
    while "a heartbeat failed" not in said:
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.01)
        said += capfd.readouterr().err
    actor.figures, actor.load = figures, 7  # type: ignore[method-assign]
    await net.until(lambda: supervisor.of(HEARTBEAT)[-1][1] == {1: {"load": 7}})


# -- replicated state -----------------------------------------------------------------


async def test_followers_have_the_value_now_and_at_each_change_wherever_they_are(net: Net, supervisor: Supervisor) -> None:
    (source,) = supervisor.start("source")
    one, two = supervisor.start("a", "b", follows=True)
    publish = source.context.publish("health", {"n": 0})
    await net.until(lambda: one.values and two.values)
    for number in range(1, 50):
        publish({"n": number})
    await net.until(lambda: one.values[-1] == two.values[-1] == {"n": 49})
    (late,) = supervisor.start("c", follows=True)
    await net.until(lambda: late.values)
    assert late.values == [{"n": 49}]
    assert [value["n"] for value in one.values] == sorted({value["n"] for value in one.values})


async def test_followers_of_a_source_that_was_killed_keep_its_value_and_find_the_next_one(net: Net, supervisor: Supervisor) -> None:
    (source,) = supervisor.start("source")
    one, two = supervisor.start("a", "b", follows=True)
    source.context.publish("health", "first")
    await net.until(lambda: one.values and two.values)
    await supervisor.end(1, kill=True)
    (again,) = supervisor.start("source")
    await net.until(lambda: len(supervisor.of(READY)) == 4)
    await asyncio.sleep(0.05)
    assert (one.values[-1], two.values[-1]) == ("first", "first"), "a source that has not spoken yet takes nothing away"
    publish = again.context.publish("health", "second")
    await net.until(lambda: one.values[-1] == two.values[-1] == "second")
    publish("third")
    await net.until(lambda: one.values[-1] == two.values[-1] == "third")


async def test_a_follower_finds_a_new_source_although_it_missed_its_only_word(
    net: Net, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SUB is back up to 0.2 s after the publisher: what was said meanwhile is lost on it."""
    (source,) = supervisor.start("source")
    (follower,) = supervisor.start("a", follows=True)
    source.context.publish("health", "first")
    await net.until(lambda: follower.values)
    await supervisor.end(1, kill=True)
    (again,) = supervisor.start("source")
    again.context.publish("health", "second")  # at once: nobody has subscribed again
    await net.until(lambda: follower.values[-1] == "second", 2)


async def test_an_update_that_was_lost_is_made_good_by_the_next_one(net: Net, supervisor: Supervisor) -> None:
    (source,) = supervisor.start("source")
    (follower,) = supervisor.start("a", follows=True)
    publish = source.context.publish("health", 0)
    await net.until(lambda: follower.values)
    process, _ = supervisor.running[1]
    publisher = process.replication._publishers["source"]
    send, publisher.send = publisher.send, lambda topic, *envelopes: None  # type: ignore[method-assign]
    publish(1)
    publisher.send = send  # type: ignore[method-assign]
    publish(2)
    await net.until(lambda: follower.values[-1] == 2)
    assert 1 not in follower.values


async def test_an_update_that_was_lost_is_made_good_although_none_follows(net: Net, supervisor: Supervisor) -> None:
    """As it happens to a follower whose snapshot is older than the update and whose subscription is younger."""
    (source,) = supervisor.start("source")
    (follower,) = supervisor.start("a", follows=True)
    publish = source.context.publish("health", 0)
    await net.until(lambda: follower.values)
    process, _ = supervisor.running[1]
    publisher = process.replication._publishers["source"]
    send, publisher.send = publisher.send, lambda topic, *envelopes: None  # type: ignore[method-assign]
    publish(1)
    publisher.send = send  # type: ignore[method-assign]
    await net.until(lambda: follower.values == [0, 1], 1)


FACTORIES = [asyncio.new_event_loop, pytest.param("uvloop", id="uvloop")]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("factory", FACTORIES)
def test_nothing_but_its_own_end_ends_the_loop(factory: Any, error: type[BaseException]) -> None:
    if factory == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    loop: asyncio.AbstractEventLoop = factory()
    told: list[Any] = []
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def bad() -> None:
        raise error

    def raising() -> None:
        raise error

    async def work() -> str:
        for _ in range(2):
            loop.call_soon(raising)
            loop.call_later(0.001, raising)
            task = loop.create_task(bad())
            later = [loop.create_future() for _ in range(3)]
            for number, future in enumerate(later):
                loop.call_soon(future.set_result, number)  # what waits behind it is done all the same
            assert await asyncio.gather(*later) == [0, 1, 2]
            with pytest.raises(error):
                await task
            await asyncio.sleep(0.01)
        return "done"

    try:
        assert module.finished(loop, loop.create_task(work())) == "done"
        assert {type(one) for one in told} == {error}  # uvloop tells the last of several in one turn
        with pytest.raises(error):
            module.finished(loop, loop.create_task(bad()))
    finally:
        loop.close()


async def test_pipes_are_open_before_they_are_needed_and_to_those_only_that_it_speaks_to(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Talker, "speaks_to", ("friend",))
    (talker,) = supervisor.start("talker")
    supervisor.start("friend", "logging")
    (stranger,) = supervisor.start("stranger")
    process = supervisor.running[talker.context.id][0]
    await supervisor.net.until(lambda: len(process.link.members.by_id) == 4 and len(supervisor.peers) == 4)
    stages = {process.link.members.by_id[to].stage for to, outbox in process.link._outboxes.items() if outbox.socket is not None}
    assert stages == {"friend", "logging"}
    assert process.descriptors._peers == 4
    assert stranger.context.id not in process.link._outboxes
    for actor in (1, 2, 4):
        await supervisor.end(actor)


async def test_want_of_descriptors_is_told_once_a_minute_and_without_a_traceback(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (talker,) = supervisor.start("talker")
    await supervisor.net.until(lambda: supervisor.of(READY))
    process, _ = supervisor.running[1]
    told: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr(talker.context, "log", lambda level, message, **fields: told.append((level, message, fields)))
    for _ in range(3):
        process._failed(process.loop, {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")})
    ((level, message, fields),) = told
    assert (level, message) == ("error", "too few file descriptors: accept")
    assert fields["limit"] >= fields["in_use"] > 0
    process._failed(process.loop, {"message": "other", "exception": OSError(errno.ENOENT, "no")})
    assert "traceback" in told[1][2]
    await supervisor.end(1)


async def test_an_actor_that_finds_out_later_that_it_cannot_serve_is_a_boot_failure(supervisor: Supervisor) -> None:
    (talker,) = supervisor.start("talker")
    await supervisor.net.until(lambda: supervisor.of(READY))
    talker.context.boot_failed("no such address")
    _, task = supervisor.running.pop(1)
    assert await asyncio.wait_for(task, 5) == 1
    supervisor.net.links.remove(talker.context._link)  # type: ignore[attr-defined]
    await supervisor.net.until(lambda: supervisor.of(BOOT_FAILED))
    assert supervisor.of(BOOT_FAILED)[0][2] == "no such address"
