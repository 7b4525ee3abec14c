"""Files as bodies of replies: read as the client takes them, their length told, cut off when they become shorter."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pingap.bus.members import READY, Members
from pingap.plugin import FileBody
from pingap.stages.messages import UNKNOWN, WINDOW, Cancel, Data, FileRef, Response, Taken
from tests.plugins.script import ACCEPT, Stage, bodies, credit
from tests.plugins.test_python_plugins import plugin, section

CONTENT = random.Random(7).randbytes(3_000_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def serves(file: Path, args: str = "") -> str:
    return plugin(f"def request(self, exchange): return reply(200, FileBody({str(file)!r}{args}), [('content-type', 'text/plain')])")


def is_open(path: Path) -> bool:
    """In this process."""
    return any(os.path.realpath(entry) == str(path) for entry in Path("/proc/self/fd").iterdir())


async def asked(stage: Stage, *envelopes: Any) -> list[Any]:
    """What goes out at first, to an accept that does not take files."""
    out = await stage.run(*envelopes)
    if any(isinstance(one, Response) and one.file is not None for one in out):
        out += await stage.run(credit(WINDOW))
    return out


async def taken(stage: Stage, *envelopes: Any) -> list[Any]:
    """All that goes out, to a client that reads; real time, for there are threads."""
    out = some = await asked(stage, *envelopes)
    while not any(getattr(one, "ended", False) or getattr(one, "error", "") for one in some):
        await asyncio.sleep(0.001)
        some = await stage.run(credit(size)) if (size := len(bodies(some))) else stage.out()
        out = out + some
    return out


@pytest.mark.parametrize(
    ("args", "part"),
    [("", CONTENT), (", 1_000_000", CONTENT[1_000_000:]), (", 10, 300_000", CONTENT[10:300_010]), (", 0, 0", b""), (", 3_000_000", b"")],
)
async def test_a_file_or_a_part_of_it_is_the_body(tmp_path: Path, file: Path, args: str, part: bytes) -> None:
    async with Stage({"p": section(tmp_path, serves(file, args))}) as stage:
        head, *rest = await taken(stage, stage.request())
        assert isinstance(head, Response) and (head.status, head.length) == (200, len(part))
        assert bodies([head, *rest]) == part
        assert stage.actor.held() == 0


async def test_no_more_is_read_than_the_client_takes(tmp_path: Path, file: Path) -> None:
    async with Stage({"p": section(tmp_path, serves(file))}) as stage:
        out = await asked(stage, stage.request())
        while len(bodies(out)) < WINDOW:
            await asyncio.sleep(0.001)
            out += stage.out()
        await asyncio.sleep(0.02)
        assert len(bodies(out + stage.out())) == WINDOW
        [stream] = stage.actor.streams.by_sid.values()
        assert stream.download is not None and stream.download.flow.ready <= 256 * 1024


async def test_the_file_is_named_to_accept_which_may_take_it(tmp_path: Path, file: Path) -> None:
    async with Stage({"p": section(tmp_path, serves(file, ", 10, 2_000_000"))}) as stage:
        head = await stage.one(stage.request())
        found = os.stat(file)
        assert (head.length, head.body, head.ended) == (2_000_000, b"", False)
        assert head.file == FileRef(bytes(file), 10, found.st_dev, found.st_ino, 3_000_000, found.st_mtime_ns)
        await asyncio.sleep(0.02)
        assert stage.out() == [] and stage.actor.held() == 1
        assert is_open(file)
        gc.disable()
        try:
            assert await stage.run(Taken(head.sid)) == []
            assert stage.actor.held() == 0
            assert not is_open(file)
        finally:
            gc.enable()


async def test_a_file_that_is_not_taken_is_read_here(tmp_path: Path, file: Path) -> None:
    async with Stage({"p": section(tmp_path, serves(file))}) as stage:
        head = await stage.one(stage.request())
        assert head.file is not None
        rest = await taken(stage, credit(WINDOW))
        assert bodies(rest) == CONTENT
        assert stage.actor.held() == 0


async def test_a_client_that_leaves_before_accept_says_which_leaves_nothing(tmp_path: Path, file: Path) -> None:
    async with Stage({"p": section(tmp_path, serves(file))}) as stage:
        head = await stage.one(stage.request())
        assert await stage.run(Cancel(head.sid, "gone")) == []
        assert stage.actor.held() == 0


@pytest.mark.parametrize("why", ["HTTP/2", "TLS", "small", "another host"])
async def test_where_accept_needs_the_bytes_no_file_is_named(tmp_path: Path, file: Path, why: str) -> None:
    async with Stage({"p": section(tmp_path, serves(file, ", 0, 100_000" if why == "small" else ""))}) as stage:
        request = stage.request(version=20 if why == "HTTP/2" else 11)
        if why == "TLS":
            request = replace(request, peer=request.peer._replace(scheme="https"))
        elif why == "another host":
            rows = [(one, "accept", 0, "tcp://192.0.2.9:7000", READY) for one in (ACCEPT,)]
            stage.context.members = Members.of(9, 99, rows)
        head = (await stage.run(request))[0]
        assert head.file is None


async def test_a_head_alone_tells_the_length(tmp_path: Path, file: Path) -> None:
    async with Stage({"p": section(tmp_path, serves(file))}) as stage:
        [head] = await stage.run(stage.request(method=b"HEAD"))
        assert (head.length, head.body, head.ended) == (len(CONTENT), b"", True)


async def test_one_that_is_compressed_has_no_length_to_tell(tmp_path: Path, file: Path) -> None:
    sections = {"p": section(tmp_path, serves(file, ", 0, 100_000")), "zip": {"category": "compression", "gzip_level": 1}}
    async with Stage(sections) as stage:
        head, *_ = await taken(stage, stage.request("/", "accept-encoding: gzip"))
        assert head.length == UNKNOWN and b"content-encoding: gzip" in head.headers


async def test_one_that_becomes_shorter_is_cut_off(tmp_path: Path, file: Path) -> None:
    lines = f"body = FileBody({str(file)!r})\nopen({str(file)!r}, 'w').close()\nreturn reply(200, body)"
    code = plugin("def request(self, exchange):\n" + textwrap.indent(lines, "    "))
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        *_, last = await taken(stage, stage.request())
        assert isinstance(last, Data) and last.error == "plugin_failed"
        assert stage.context.logged[-1][2]["plugin"] == "mine" and "shorter" in stage.context.logged[-1][2]["error"]


def test_what_is_no_file_or_no_part_of_it_is_an_error_at_once(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError):
        FileBody(tmp_path / "nothing")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ValueError, match="no regular file"):
            FileBody(path)
    for part in ((-1, None), (0, 3_000_001), (3_000_001, None), (5, -1)):
        with pytest.raises(ValueError, match="has 3000000 bytes"):
            FileBody(file, *part)


def test_nothing_stays_open(file: Path) -> None:
    bodies = [FileBody(file) for _ in range(3)]
    assert times_open(file) == 3
    del bodies
    gc.collect()
    assert times_open(file) == 0


def times_open(file: Path) -> int:
    """How often this process has it open; other tests' threads may open what they like."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{fd}") == str(file)
    return found
