"""The socket at which one instance hands over to the next: what goes over it, and what becomes of a next one that fails."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pingap.succession import handover
from pingap.succession.handover import Handover, Successor
from pingap.succession.takeover import Predecessor, TakeoverFailed
from tests.kit.waiting import eventually, is_alive


class Old:
    """The instance that runs."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.locks = [os.open(run_dir, os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)]
        self.is_stopping = False
        self.handed: list[Successor] = []
        self.failed: list[str] = []
        self.handover = Handover(str(run_dir / "upgrade"), self.inventory, self.handed.append, self.failed.append)
        self.handover.listen()

    def inventory(self) -> list[Any]:
        if self.is_stopping:
            return []
        row = {"server": "web", "host": "127.0.0.1", "port": 0, "owner": ["accept", 1]}
        return [
            ({"say": "run_dir"}, self.locks),
            ({"say": "pid_file", "path": "/run/x.pid"}, [self.locks[1]]),
            ({"say": "scaled", "roles": {"upstream": (1, 3)}}, ()),
            ({"say": "listeners", "rows": [row]}, [self.sock.fileno()]),
        ]

    def close(self) -> None:
        self.handover.close()
        self.sock.close()
        for fd in self.locks:
            os.close(fd)


@pytest_asyncio.fixture
async def old(tmp_path: Path) -> AsyncIterator[Old]:
    made = Old(tmp_path)
    yield made
    made.close()


def let_go(new: Predecessor) -> None:
    pid_file = new.estate.pid_file_at("/run/x.pid")
    for fd in (*new.estate.run_dir, *([] if pid_file is None else [pid_file])):
        os.close(fd)
    for one in new.estate.listeners:
        one.sock.close()


async def test_all_of_it_is_handed_over_and_given_up_once_the_next_one_serves(old: Old) -> None:
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    assert new.pid == os.getpid()
    assert [os.path.sameopenfile(*pair) for pair in zip(new.estate.run_dir, old.locks, strict=True)] == [True, True]
    assert not any(os.get_inheritable(fd) for fd in new.estate.run_dir)
    [listener] = new.estate.listeners
    assert listener.sock.getsockname() == old.sock.getsockname()
    assert (listener.server, listener.owner, str(listener.asked)) == ("web", ("accept", 1), "127.0.0.1:0")
    assert new.estate.scaled == {"upstream": (1, 3)}
    assert old.handed == []
    relieved = asyncio.Event()
    new.relieve(relieved.set, lambda: None)
    await asyncio.wait_for(relieved.wait(), 5)
    assert [one.pid for one in old.handed] == [os.getpid()] and old.failed == []
    assert not old.handover.restore() and not (old.run_dir / "upgrade").exists(), "that name is the next one's"
    let_go(new)


async def test_a_next_one_that_says_why_it_fails_changes_nothing(old: Old) -> None:
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    new.failed("servers.web.addr: cannot listen")
    await eventually(lambda: old.failed == ["the next instance failed to start: servers.web.addr: cannot listen"])
    let_go(new)
    again = await asyncio.to_thread(Predecessor, str(old.run_dir))
    again.failed("")
    let_go(again)
    assert old.handed == []


async def test_one_at_a_time(old: Old) -> None:
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    with pytest.raises(TakeoverFailed, match=f"another upgrade is under way, to pid {os.getpid()}"):
        await asyncio.to_thread(Predecessor, str(old.run_dir))
    new.failed("enough")
    let_go(new)


async def test_who_stops_hands_nothing_over(old: Old) -> None:
    old.is_stopping = True
    with pytest.raises(TakeoverFailed, match="it is stopping"):
        await asyncio.to_thread(Predecessor, str(old.run_dir))


async def test_another_version_of_the_protocol_is_refused(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.succession.takeover.VERSION", 7)
    with pytest.raises(TakeoverFailed, match="by version 1 of the protocol, not 7"):
        await asyncio.to_thread(Predecessor, str(old.run_dir))


@pytest.mark.parametrize("said", [b"nonsense", json.dumps([1]).encode(), json.dumps({"say": "?"}).encode()])
async def test_who_talks_nonsense_is_shown_the_door(old: Old, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.setblocking(False)
        peer.connect(str(old.run_dir / "upgrade"))
        peer.send(said)
        await eventually(lambda: old.failed)
    assert old.handed == []


@pytest.mark.processes
async def test_a_process_that_ends_at_once_is_told_with_its_status(old: Old) -> None:
    old.handover.start([sys.executable, "-c", "import os; os._exit(len(os.environ['PINGAP_UPGRADE']) - 2)"], os.environ)
    assert old.handover.is_under_way
    await eventually(lambda: old.failed == ["the next instance ended with status 3"])
    assert not old.handover.is_under_way


@pytest.mark.processes
async def test_a_process_that_never_serves_is_given_up(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "DEADLINE", 0.2)
    old.handover.start([sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
    await eventually(lambda: old.failed == ["the next instance failed to start: it was not ready within 0.2 s"])
    assert not old.handover.is_under_way


async def test_where_nobody_is_there_is_nobody_to_take_over_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Predecessor(str(tmp_path))


async def test_the_socket_is_made_anew(old: Old) -> None:
    assert not old.handover.restore()
    os.unlink(old.run_dir / "upgrade")
    assert old.handover.restore()
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    new.failed("enough")
    let_go(new)


async def test_one_that_was_given_up_does_not_serve_beside_the_other(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "DEADLINE", 0.1)
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    await eventually(lambda: old.failed)
    said: list[str] = []
    new.relieve(lambda: said.append("relieved"), lambda: said.append("kept"))
    await eventually(lambda: said == ["kept"])
    assert old.handed == []
    let_go(new)


async def test_one_that_dies_as_it_is_ready_changes_nothing(old: Old) -> None:
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    new._say({"say": "ready"})
    new.close()
    await eventually(lambda: old.failed)
    assert old.handed == []
    let_go(new)
    again = await asyncio.to_thread(Predecessor, str(old.run_dir))
    again.failed("enough")
    let_go(again)


@pytest.mark.processes
async def test_who_stops_ends_the_one_that_it_has_started(old: Old) -> None:
    pid = old.handover.start([sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
    old.handover.close()
    assert not is_alive(pid) and not old.handover.is_under_way
    assert not (old.run_dir / "upgrade").exists() and not old.handover.restore()


async def test_hundreds_of_listening_sockets_are_handed_over(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"server": "web" * 20, "host": "127.0.0.1", "port": 0, "owner": None}
    packet = ({"say": "listeners", "rows": [row] * 200}, [old.sock.fileno()] * 200)
    monkeypatch.setattr(old.handover, "_inventory", lambda: [packet] * 15)
    new = await asyncio.to_thread(Predecessor, str(old.run_dir))
    assert len(new.estate.listeners) == 3000
    new.failed("enough")
    let_go(new)
