"""Answers that are files: taken and sent by sendfile to what is a socket, asked for as DATA where that cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pingap.stages.messages import STREAM_WINDOW, WINDOW, Cancel, Credit, Data, FileRef, Request, Response, Taken
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Client, ClientTransport, Play, get

CONTENT = random.Random(3).randbytes(3_000_000)


class Ends:
    """Both ends of a client's connection: accept's transport has `near` as its descriptor."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.heard = b""

    async def hears(self, size: int) -> bytes:
        """Body bytes, as soon as so many are there, behind the head."""
        await until(lambda: len(self._reads().partition(b"\r\n\r\n")[2]) >= size)
        return self.heard.partition(b"\r\n\r\n")[2]

    def _reads(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            self.heard += self.far.recv(1 << 20)
        return self.heard


async def until(is_so: Callable[[], bool]) -> None:
    """Real time: there are threads."""
    end = time.perf_counter() + 20
    while not is_so():
        assert time.perf_counter() < end, "it never came"
        await asyncio.sleep(0.001)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    ends = Ends()
    monkeypatch.setattr(ClientTransport, "fileno", lambda transport: ends.near.fileno())
    yield ends
    ends.near.close()
    ends.far.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def ref_of(path: Path, offset: int = 0) -> FileRef:
    found = os.stat(path)
    return FileRef(bytes(path), offset, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def asks(play: Play, version: bytes = b"1.1") -> tuple[Client, Request]:
    client = play.connects()
    client.says(get(version=version))
    return client, play.hears_request()


def names(play: Play, request: Request, ref: FileRef, length: int) -> None:
    play.tell(Response(request.sid, PLUGINS, 200, b"", length, b"", False, None, (), file=ref))


async def stages_hear(play: Play) -> list[tuple[int, object]]:
    """The first that they hear."""
    while not (heard := play.stages_hear()):
        await asyncio.sleep(0.001)
    return list(heard)


def open_files(path: Path) -> int:
    """How often this process has it open."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # for that of the listing itself
            found += os.readlink(f"/proc/self/fd/{entry}") == str(path)
    return found


async def begins(play: Play, ends: Ends, file: Path) -> tuple[Client, Request]:
    """A file that is taken and waits for a client that does not read."""
    client, request = asks(play)
    names(play, request, ref_of(file), len(CONTENT))
    assert await stages_hear(play) == [(PLUGINS, Taken(request.sid))]
    await until(lambda: client.connection._outlet.has_file)
    return client, request


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize(("offset", "length"), [(0, 3_000_000), (1_000_000, 2_000_000), (10, 300_000)])
async def test_a_file_is_sent_and_whoever_named_it_may_go(
    play: Play, ends: Ends, file: Path, version: bytes, offset: int, length: int
) -> None:
    client, request = asks(play, version)
    names(play, request, ref_of(file, offset), length)
    assert await ends.hears(length) == CONTENT[offset : offset + length]
    await until(lambda: not play.is_holding)
    assert b"\r\ncontent-length: %d\r\n" % length in ends.heard
    assert play.stages_hear() == [(PLUGINS, Taken(request.sid))]
    assert (play.event.sent, play.event.error, open_files(file), play.actor.connections.files) == (length, "", 0, 0)
    assert client.is_closed == (version == b"1.0")
    if version == b"1.1":
        client.says(get(b"/next"))
        play.answers(play.hears_request(), body=b"next")
        await until(lambda: ends._reads().endswith(b"\r\n\r\nnext"))


@pytest.mark.parametrize("why", ["touched", "replaced", "longer", "gone", "fifo"])
async def test_a_file_that_is_not_the_one_that_was_seen_is_asked_for(play: Play, ends: Ends, file: Path, why: str) -> None:
    ref = ref_of(file)
    if why == "touched":
        os.utime(file, (1, 1))
    elif why == "longer":
        file.write_bytes(CONTENT + b"more")
    else:
        file.unlink()
        if why == "replaced":
            (file.parent / "other").write_bytes(CONTENT)
            os.rename(file.parent / "other", file)
        elif why == "fifo":
            os.mkfifo(file)
    client, request = asks(play)
    names(play, request, ref, len(CONTENT))
    assert await stages_hear(play) == [(PLUGINS, Credit(request.sid, WINDOW, play.context.id))]
    play.tell(Data(request.sid, b"x" * 100_000, False, ""))
    assert await ends.hears(100_000) == b"x" * 100_000
    assert open_files(file) == 0
    client.resets()


async def test_a_connection_without_a_socket_of_its_own_asks_for_bytes(play: Play, file: Path) -> None:
    client, request = asks(play)
    names(play, request, ref_of(file), len(CONTENT))
    assert play.stages_hear() == [(PLUGINS, Credit(request.sid, WINDOW, play.context.id))]
    client.resets()


async def test_a_file_that_cannot_be_sent_so_is_asked_for(play: Play, ends: Ends, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sendfile(*args: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sendfile", sendfile)
    client, request = asks(play)
    names(play, request, ref_of(file), len(CONTENT))
    assert await stages_hear(play) == [(PLUGINS, Credit(request.sid, WINDOW, play.context.id))]
    assert open_files(file) == 0
    client.resets()


async def test_when_too_many_files_are_on_their_way_bytes_are_asked_for(play: Play, ends: Ends, file: Path) -> None:
    play.actor.connections.files = 1 << 20
    client, request = asks(play)
    names(play, request, ref_of(file), len(CONTENT))
    assert play.stages_hear() == [(PLUGINS, Credit(request.sid, WINDOW, play.context.id))]
    client.resets()


async def test_one_that_becomes_shorter_is_cut_off(play: Play, ends: Ends, file: Path) -> None:
    client, _ = await begins(play, ends, file)
    os.truncate(file, 1_000_000)
    body = await ends.hears(1_000_000)
    await until(lambda: client.is_closed)
    assert body == CONTENT[:1_000_000]
    assert (play.event.sent, play.event.error) == (1_000_000, "plugin_failed")
    assert [(level, fields["error"]) for level, _, fields in play.context.logged] == [
        ("error", "it has become shorter: 2000000 bytes are missing")
    ]
    assert open_files(file) == 0


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(play: Play, ends: Ends, file: Path) -> None:
    client, _ = await begins(play, ends, file)
    assert open_files(file) == 1
    client.resets()
    await play.turn()
    assert (open_files(file), play.is_holding, play.actor.connections.files) == (0, 0, 0)
    body = await ends.hears(play.event.sent)
    assert body == CONTENT[: play.event.sent]
    ends.near.close()
    assert ends.far.recv(1) == b"", "a copy of the socket is still open"


async def test_one_that_leaves_while_a_thread_is_at_work_leaves_nothing_open(
    play: Play, ends: Ends, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_there, may_go, sendfile = threading.Event(), threading.Event(), os.sendfile

    def held_up(*args: int) -> int:
        is_there.set()
        may_go.wait(20)
        return sendfile(*args)

    monkeypatch.setattr(os, "sendfile", held_up)
    client, request = asks(play)
    names(play, request, ref_of(file), len(CONTENT))
    await until(is_there.is_set)
    client.resets()
    await play.turn()
    assert not play.is_holding
    assert (PLUGINS, Cancel(request.sid, "client")) in play.stages_hear()
    may_go.set()
    await until(lambda: open_files(file) == 0)
    ends.near.close()
    ends.far.settimeout(20)
    while ends.far.recv(1 << 20):  # until the copy of the socket is closed, too
        pass


async def test_a_client_that_takes_nothing_is_given_up(play: Play, ends: Ends, file: Path) -> None:
    client, _ = await begins(play, ends, file)
    await play.passes(client.connection.door.settings.downstream_write_timeout + 1)
    assert client.transport.was_reset
    await play.turn()
    assert (open_files(file), play.is_holding) == (0, 0)


async def test_an_answer_goes_on_when_the_stage_that_named_the_file_dies(play: Play, ends: Ends, file: Path) -> None:
    await begins(play, ends, file)
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"))
    assert await ends.hears(len(CONTENT)) == CONTENT
    await until(lambda: not play.is_holding)
    assert (play.event.error, play.event.sent) == ("", len(CONTENT))


@pytest.mark.parametrize("engine", ["h2", "ngh2"])
async def test_over_http2_bytes_are_asked_for_should_a_file_be_named_all_the_same(play: Play, ends: Ends, file: Path, engine: str) -> None:
    client = play.connects(enabled_h2=True, http2_engine=engine)
    client.says(get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"))
    request = play.hears_request()
    names(play, request, ref_of(file), len(CONTENT))
    assert play.stages_hear() == [(PLUGINS, Credit(request.sid, STREAM_WINDOW, play.context.id))]
    assert open_files(file) == 0
    client.resets()
