"""`directory`, as a client meets it: every key, what is never served, files that change."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import random
import socket
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import Problem
from pingap.stages.messages import WINDOW, Data, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.files import finder, remembered, searches, served_file, tree
from pingap.stages.plugins.builtin.files.finder import Route
from tests.kit.waiting import eventually
from tests.plugins.script import Stage, bodies, credit, lines

OLD = 1_000_000_000
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"
LONG = bytes(range(256)) * 1200
"""A file that is named to accept where that may take it."""


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that tests have just made count as old."""
    monkeypatch.setattr(served_file, "UNSETTLED", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, content in {
        "index.html": "home",
        "a.txt": "0123456789",
        "style.css": "body{}",
        "sub/index.html": "sub",
        "sub/default.htm": "default",
        "empty/.keep": "",
        ".env": "SECRET",
        ".well-known/acme": "token",
        ".well-known/.git": "SECRET",
        "about.html": "about",
    }.items():
        write(root / name, content.encode())
    write(root / "long.bin", LONG)
    write(tmp_path / "secret.txt", b"SECRET")
    return root


def write(path: Path, content: bytes, when: int = OLD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))


class Client:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def ask(self, target: str = "/", *headers: str, **more: Any) -> tuple[Response, bytes]:
        """The head, and all of the body."""
        head, *rest = await self.envelopes(target, *headers, **more)
        assert isinstance(head, Response), head
        assert not any(isinstance(one, Data) and one.error for one in rest)
        body = bodies([head, *rest])
        assert head.length in (len(body), -1) or more.get("method") == b"HEAD"
        return head, body

    async def envelopes(self, target: str = "/", *headers: str, **more: Any) -> list[Any]:
        stage = self.stage
        out = stage.feed(stage.request(target, "\n".join(headers), **more))
        given = len(bodies(out))
        async with asyncio.timeout(20):
            while not out or not (isinstance(out[-1], Routed) or out[-1].ended or getattr(out[-1], "error", "")):
                if isinstance(out[0] if out else None, Response) and out[0].file is not None and len(out) == 1:
                    out += stage.feed(credit(WINDOW))
                await asyncio.sleep(0.001)
                out += stage.out()
                if (size := len(bodies(out)) - given) > 0:
                    given += size
                    stage.give(credit(size))
        return out

    async def status(self, target: str, *headers: str, **more: Any) -> int:
        return (await self.ask(target, *headers, **more))[0].status

    async def body(self, target: str, *headers: str, **more: Any) -> bytes:
        return (await self.ask(target, *headers, **more))[1]

    async def header(self, name: str, target: str, *headers: str, **more: Any) -> str | None:
        return value(name, (await self.ask(target, *headers, **more))[0])


def value(name: str, head: Response) -> str | None:
    found = [line.partition(": ")[2] for line in lines(head.headers) if line.startswith(f"{name}: ")]
    return found[0] if found else None


@asynccontextmanager
async def site(root: Path, **keys: Any) -> AsyncIterator[Client]:
    section = {"category": "directory", "path": str(root), **{key.rstrip("_"): value for key, value in keys.items()}}
    async with Stage({"files": section}) as stage:
        yield Client(stage)


def troubles(**keys: Any) -> list[str]:
    section = {"category": "directory", "path": "/srv", **{key.rstrip("_"): value for key, value in keys.items()}}
    return [f"{one.path} {one.message}" for one in checking.check("p", section)]


# -- files ------------------------------------------------------------------------------------


async def test_a_file_is_answered_with_all_that_is_to_be_known_of_it(root: Path) -> None:
    async with site(root) as client:
        for _ in range(2):  # found, and remembered
            head, body = await client.ask("/a.txt?x=1")
            assert (head.status, head.length, body) == (200, 10, b"0123456789")
            assert sorted(lines(head.headers)) == [
                "accept-ranges: bytes",
                "cache-control: private, no-cache",
                "content-type: text/plain",
                'etag: "de0b6b3a7640000-a"',
                f"last-modified: {DATE}",
            ]


async def test_head_is_get_without_a_body(root: Path) -> None:
    async with site(root) as client:
        for target in ("/a.txt", "/long.bin", "/sub/"):
            got, _ = await client.ask(target)
            head, body = await client.ask(target, method=b"HEAD")
            assert (head.status, head.length, head.headers, body) == (200, got.length, got.headers, b"")
        assert await client.status("/a.txt", "range: bytes=0-1", method=b"HEAD") == 200
        assert client.stage.actor.held() == 0


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"])
async def test_other_methods_are_not_for_files(root: Path, method: bytes) -> None:
    async with site(root) as client:
        for target in ("/a.txt", "/nothing"):
            head, _ = await client.ask(target, method=method)
            assert (head.status, value("allow", head)) == (405, "GET, HEAD")
    assert (root / "a.txt").exists()


async def test_a_long_file_is_named_and_comes_whole_where_it_is_not_taken(root: Path) -> None:
    async with site(root) as client:
        for _ in range(2):
            head, *rest = await client.envelopes("/long.bin")
            assert head.file is not None and head.file.path == bytes(root / "long.bin")
            assert bodies([head, *rest]) == LONG and head.length == len(LONG)
        head, body = await client.ask("/long.bin", "range: bytes=1000-290000")
        assert (head.status, value("content-range", head)) == (206, f"bytes 1000-290000/{len(LONG)}")
        assert body == LONG[1000:290001]
        assert head.file is not None and head.file.offset == 1000


async def test_no_such_file_and_no_permission(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(root) as client:
        head, body = await client.ask("/nothing")
        assert (head.status, body, value("cache-control", head)) == (404, b"Not Found", "private, no-store")
        for target in ("/a.txt/", "/a.txt/b", "/" + "a" * 300, "/" + "b/" * 3000, "/nothing/"):
            assert await client.status(target) == 404, target[:20]
        assert await client.status("/%00") == 400
        for code, status in ((errno.EACCES, 403), (errno.EIO, 500), (errno.EMFILE, 503), (errno.ENFILE, 503), (errno.ESTALE, 500)):

            def fails(*args: Any, code: int = code) -> Any:
                raise OSError(code, os.strerror(code))

            monkeypatch.setattr(tree.Tree, "at", fails)
            assert await client.status("/a.txt") == status, code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_forbidden(root: Path) -> None:
    (root / "a.txt").chmod(0)
    (root / "sub").chmod(0o600)
    async with site(root) as client:
        assert await client.status("/a.txt") == 403
        assert await client.status("/sub/index.html") == 403
    (root / "sub").chmod(0o700)


async def test_what_is_no_file_is_not_there_and_holds_up_nobody(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(root / "sock"))
        (root / "null").symlink_to("/dev/null")
        (root / "loop").symlink_to("loop")
        for follows in (True, False):
            async with site(root, follow_symlinks=follows) as client:
                for name in ("fifo", "sock", "loop"):
                    assert await client.status(f"/{name}") == 404, name
                assert await client.status("/null") == (404 if follows else 403)


async def test_names_of_any_bytes(root: Path) -> None:
    cases = [(b"\xff\xfe.txt", "/%FF%FE.txt"), ("ü ä.txt".encode(), "/%C3%BC%20%C3%A4.txt")]
    cases += [(b"a\\b?c#%", "/a%5Cb%3Fc%23%25"), (b"~\x01", "/~%01")]
    for name, path in cases:
        write(Path(os.fsdecode(os.fsencode(root) + b"/" + name)), name)
        async with site(root) as client:
            assert await client.body(path) == name


async def test_a_time_that_all_files_have_tells_nothing(root: Path) -> None:
    write(root / "built.js", b"1", when=1)
    async with site(root) as client:
        head, _ = await client.ask("/built.js")
        assert value("etag", head) is None and value("last-modified", head) is None


async def test_what_was_changed_just_now_has_a_weak_tag_and_is_not_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_file, "UNSETTLED", 10**12)
    async with site(root) as client:
        head, _ = await client.ask("/a.txt")
        assert value("etag", head) == 'W/"de0b6b3a7640000-a"'
        assert plugin_of(client)._remembered.figures() == (0, 0, 0)
        assert await client.status("/a.txt", "range: bytes=0-1", f"if-range: {DATE}") == 200


# -- conditions and ranges: that they are asked here; test_file_requests.py has the tables --------


async def test_conditions(root: Path) -> None:
    async with site(root, headers=["X-A: 1"], download=True) as client:
        tag = await client.header("etag", "/a.txt")
        head, body = await client.ask("/a.txt", f"if-none-match: {tag}")
        assert (head.status, body, head.length) == (304, b"", -1)
        assert sorted(lines(head.headers)) == ["cache-control: private, no-cache", f"etag: {tag}", f"last-modified: {DATE}", "x-a: 1"]
        assert await client.status("/a.txt", f"if-modified-since: {DATE}") == 304
        assert await client.status("/a.txt", f"if-modified-since: {DATE}", method=b"HEAD") == 304
        assert await client.status("/a.txt", 'if-match: "other"') == 412
        assert await client.status("/a.txt", "if-unmodified-since: Sat, 08 Sep 2001 01:46:40 GMT") == 412
        assert await client.status("/nothing", "if-none-match: *") == 404


async def test_ranges(root: Path) -> None:
    async with site(root) as client:
        tag = await client.header("etag", "/a.txt")
        head, body = await client.ask("/a.txt", "range: bytes=2-4")
        assert (head.status, body, value("content-range", head), value("etag", head)) == (206, b"234", "bytes 2-4/10", tag)
        head, body = await client.ask("/a.txt", "range: bytes=20-")
        assert (head.status, value("content-range", head)) == (416, "bytes */10")
        for ignored in (
            "range: lines=1-2",
            "range: bytes=x",
            "range: bytes=0-1\nrange: bytes=4-5",
            f"range: bytes=0-1\nif-range: {DATE[:-4]}",
        ):
            assert (await client.ask("/a.txt", ignored))[0].status == 200
        for meant in (f"if-range: {tag}", f"if-range: {DATE}"):
            assert await client.status("/a.txt", "range: bytes=0-1", meant) == 206
        assert await client.status("/a.txt", "range: bytes=0-1", 'if-match: "x"') == 412
        assert await client.status("/a.txt", "range: bytes=0-1", f"if-none-match: {tag}") == 304


@pytest.mark.parametrize("target", ["/a.txt", "/long.bin"])
async def test_several_ranges(root: Path, target: str) -> None:
    content = (root / target[1:]).read_bytes()
    async with site(root) as client:
        head, body = await client.ask(target, "range: bytes=7-8,0-1,-1")
        kind = value("content-type", head)
        assert head.status == 206 and kind is not None and value("content-range", head) is None
        assert head.length == len(body)
        mark = kind.removeprefix("multipart/byteranges; boundary=").encode()
        first, *parts, end = body.split(b"--" + mark)
        assert (first, end) == (b"", b"--\r\n")
        got = [part.removesuffix(b"\r\n").partition(b"\r\n\r\n") for part in parts]
        size = len(content)
        ranges = [b"bytes 7-8/%d" % size, b"bytes 0-1/%d" % size, b"bytes %d-%d/%d" % (size - 1, size - 1, size)]
        assert [data for _, _, data in got] == [content[7:9], content[0:2], content[-1:]]
        assert all(b"Content-Range: " + one in head for one, (head, _, _) in zip(ranges, got, strict=True))


async def test_parts_of_a_file_that_shrinks_are_cut_off(root: Path) -> None:
    async with site(root) as client:
        stage = client.stage
        stage.give(stage.request("/long.bin", "range: bytes=0-1,5000-290000", version=20))
        out: list[Any] = []
        while not out:
            await asyncio.sleep(0.001)
            out = stage.out()
        os.truncate(root / "long.bin", 6000)
        while not getattr(out[-1], "error", ""):
            stage.give(credit(WINDOW))
            await asyncio.sleep(0.001)
            out += stage.out()
        assert len(bodies(out)) < out[0].length


# -- files that change --------------------------------------------------------------------------


async def test_a_change_is_seen_by_the_next_request(root: Path) -> None:
    async with site(root) as client:
        assert await client.body("/a.txt") == b"0123456789"
        for count, content in enumerate((b"9876543210", b"short", b"")):
            write(root / "new", content, OLD + count)
            (root / "new").rename(root / "a.txt")
            assert await client.body("/a.txt") == content
        (root / "a.txt").write_bytes(b"in place")
        assert await client.body("/a.txt") == b"in place"
        (root / "a.txt").unlink()
        assert await client.status("/a.txt") == 404
        write(root / "a.txt", b"back")
        assert await client.body("/a.txt") == b"back"
        (root / "a.txt").unlink()
        (root / "a.txt").mkdir()
        assert await client.status("/a.txt") == 301


async def test_a_root_that_is_switched_is_seen_by_the_next_request(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "two" / "a.txt", b"second")
    (tmp_path / "current").symlink_to(root)
    async with site(tmp_path / "current") as client:
        assert await client.body("/a.txt") == b"0123456789"
        (tmp_path / "next").symlink_to(tmp_path / "two")
        (tmp_path / "next").rename(tmp_path / "current")
        assert await client.body("/a.txt") == b"second"


async def test_a_file_that_appears_where_something_else_was_answered_is_seen(root: Path) -> None:
    async with site(root, try_=["$path", "/index.html"], precompressed=["br"]) as client:
        for _ in range(2):
            assert await client.body("/new") == b"home"
        write(root / "new", b"new")
        assert await client.body("/new") == b"new"
        assert await client.body("/a.txt", "accept-encoding: br") == b"0123456789"
        write(root / "a.txt.br", b"coded")
        assert await client.body("/a.txt", "accept-encoding: br") == b"coded"
        (root / "a.txt.br").unlink()
        assert await client.body("/a.txt", "accept-encoding: br") == b"0123456789"
        os.mkfifo(root / "odd")
        assert await client.body("/odd") == b"home"
        (root / "odd").unlink()
        write(root / "odd", b"odd")
        assert await client.body("/odd") == b"odd"


def plugin_of(client: Client) -> Any:
    [live] = client.stage.actor._compiler._live.values()
    return live.plugin


def calls_of_stat(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Path and thread of each from now on."""
    real, calls = os.stat, []

    def call(path: Any, **more: Any) -> os.stat_result:
        calls.append((path, threading.get_ident()))
        return real(path, **more)

    monkeypatch.setattr(os, "stat", call)
    return calls


async def test_what_is_remembered_is_answered_at_once_and_costs_one_look(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(root) as client:
        await client.ask("/a.txt")
        looks = calls_of_stat(monkeypatch)
        [answer] = client.stage.feed(client.stage.request("/a.txt"))
        assert (answer.body, [path for path, _ in looks]) == (b"0123456789", [bytes(root / "a.txt")])


async def test_what_is_not_local_is_looked_at_in_threads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.builtin.files.finder.is_local", lambda path: False)
    async with site(root) as client:
        await client.ask("/a.txt")
        looks = calls_of_stat(monkeypatch)
        assert await client.body("/a.txt") == b"0123456789"
        assert looks and threading.get_ident() not in {thread for _, thread in looks}
        write(root / "a.txt", b"other")
        assert await client.body("/a.txt") == b"other"


async def test_what_is_remembered_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.builtin.directory.MOST_FILES", 3)
    for name in range(9):
        write(root / f"{name}.txt", b"x" * name)
    async with site(root, try_=["$path", "/index.html"]) as client:
        for _ in range(2):
            for name in range(9):
                assert await client.body(f"/{name}.txt") == b"x" * name
            for name in range(20):
                await client.ask(f"/route/{name}")
        routes, files, size = plugin_of(client)._remembered.figures()
        assert files <= 3 and routes >= 20 and size <= 100
        assert sum(is_open(path) for path in root.glob("*")) == files
        await client.ask("/" + "r" * 2000)
        assert plugin_of(client)._remembered.figures()[0] == routes
    gc.collect()
    assert not any(is_open(path) for path in root.glob("*"))


def is_open(path: Path) -> bool:
    return str(path) in open_paths()


def open_paths() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def route_to(path: bytes, identity: int, size: int = 10) -> Route:
    file: Any = served_file.ServedFile.__new__(served_file.ServedFile)
    file.identity, file.content, file.lines = (identity, 0, 0, 0, 0), b"x" * size, []
    return Route(((path, file.identity),), file, True, True)


class Timers:
    """A loop's, as far as they are needed."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_later(self, seconds: float, call: Any) -> Any:
        assert seconds == remembered.UNUSED
        self.calls.append(call)
        timers = self

        class Handle:
            def cancel(self) -> None:
                timers.calls.remove(call)

        return Handle()

    def are_up(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def test_what_nobody_asks_for_is_given_up_and_then_there_is_no_timer() -> None:
    timers = Timers()
    budget = remembered.Budget(99, 9999)
    kept = remembered.Remembered(budget, 9, timers.call_later)
    assert timers.calls == []
    for key in range(3):
        kept.put(key, route_to(b"%d" % key, 1))
    timers.are_up()
    assert kept.figures() == (3, 3, 30)
    assert kept.get(1) is not None
    kept.put(3, route_to(b"3", 1))
    assert len(timers.calls) == 1
    timers.are_up()
    assert kept.figures() == (2, 2, 20) and kept.get(0) is None and kept.get(3) is not None
    timers.are_up()
    assert kept.figures() == (1, 1, 10) and len(timers.calls) == 1
    timers.are_up()
    assert kept.figures() == (0, 0, 0) and (budget.files, budget.bytes) == (0, 0) and timers.calls == []
    kept.put(1, route_to(b"1", 1))
    timers.are_up()
    kept.put(1, route_to(b"1", 2))  # in place of one that has aged
    assert kept.figures() == (1, 1, 10) and len(timers.calls) == 1
    kept.clear()
    assert timers.calls == [] and kept.figures() == (0, 0, 0)


def test_of_those_that_have_aged_the_oldest_goes_first() -> None:
    timers = Timers()
    kept = remembered.Remembered(remembered.Budget(99, 9999), 3, timers.call_later)
    for key in range(3):
        kept.put(key, route_to(b"%d" % key, 1))
    timers.are_up()
    kept.get(0)
    for key in (3, 4):
        kept.put(key, route_to(b"%d" % key, 1))
    assert kept.get(0) is not None and kept.get(1) is kept.get(2) is None and kept.figures()[1] == 3
    kept.forget(4)
    assert kept.figures() == (2, 2, 20)


async def test_a_deleted_file_is_closed_when_nobody_asks_for_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "UNUSED", 0.02)
    async with site(root) as client:
        await client.body("/long.bin", "range: bytes=0-1")
        assert is_open(root / "long.bin")
        (root / "long.bin").unlink()
        async with asyncio.timeout(20):
            while any(path.startswith(f"{root}/long.bin") for path in open_paths()):
                await asyncio.sleep(0.01)


async def test_sections_and_generations_of_a_process_keep_to_one_budget(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = remembered.Budget(6, 1_000_000)
    monkeypatch.setattr("pingap.stages.plugins.builtin.directory.budget_of_all", lambda: budget)

    def sections(**keys: Any) -> dict[str, Any]:
        ways = {f"d{at}": {"category": "directory", "path": str(root / f"r{at}"), "try": ["$path", "@upstream"]} for at in range(5)}
        return {name: section | keys for name, section in ways.items()}

    for at in range(5):
        for number in range(8):
            write(root / f"r{at}" / f"{at}{number}", b"x")
    async with Stage(sections()) as stage:
        client = Client(stage)
        for generation in range(3):
            for at in range(5):
                for number in range(8):
                    assert await client.body(f"/{at}{number}") == b"x"
                    # The thread that has opened one may still hold it when it is given up.
                    await eventually(lambda: len([path for path in open_paths() if path.startswith(str(root))]) <= 6)
            assert budget.files == 6
            stage.load(sections(max_age=f"{generation + 1}s"))
            while not stage.answers_to_config():
                await asyncio.sleep(0.001)
    assert budget.files == 0


async def test_with_no_descriptors_left_what_is_remembered_is_closed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = os.open

    def few(*args: Any, **more: Any) -> int:
        if len([path for path in open_paths() if path.startswith(str(root))]) >= 3:
            raise OSError(errno.EMFILE, "too many")
        return opens(*args, **more)

    monkeypatch.setattr(os, "open", few)
    for name in range(9):
        write(root / f"{name}.txt", b"x")
    async with site(root) as client:
        for name in range(9):
            assert await client.body(f"/{name}.txt") == b"x"
        held = [opens(root / f"{name}.txt", os.O_RDONLY) for name in range(3)]
        assert await client.status("/4.txt") == 503
        for descriptor in held:
            os.close(descriptor)
        assert await client.status("/4.txt") == 200


def test_all_of_a_process_keep_to_one_budget() -> None:
    budget = remembered.Budget(most_files=4, most_bytes=1000)
    first, second = (remembered.Remembered(budget, 3, Timers().call_later) for _ in range(2))
    for key in range(3):
        first.put(key, route_to(b"%d" % key, 1))
    for key in range(3):
        second.put(key, route_to(b"%d" % key, 1))
    assert (first.figures()[1] + second.figures()[1], budget.files, budget.bytes) == (4, 4, 40)
    assert first.figures()[1] == second.figures()[1] == 2  # whoever keeps most gives up
    second.put("long", route_to(b"long", 1, 995))
    assert budget.bytes <= 1000 and second.get("long") is None and first.figures()[1] == 2
    first.clear()
    second.clear()
    assert (budget.files, budget.bytes) == (0, 0)


def test_routes_and_bytes_are_bounded_and_a_file_is_kept_once() -> None:
    route = route_to
    kept = remembered.Remembered(remembered.Budget(99, 9999), 3, Timers().call_later, most_bytes=100, most_routes=5)
    for key in range(4):
        kept.put(key, route(b"a", 1))
    assert kept.figures() == (4, 1, 10)
    assert kept.get(0) is not None and kept.get(0).file is kept.get(3).file  # type: ignore[union-attr]
    kept.put(9, route(b"a", 2))  # changed: what leads to the old one is of no use
    assert kept.figures() == (1, 1, 10) and kept.get(0) is None
    for key in range(5):
        kept.put(key, route(b"%d" % key, 1))
    assert kept.figures() == (3, 3, 30) and kept.get(9) is None
    kept.put("big", route(b"big", 1, 95))
    assert kept.figures() == (1, 1, 95)
    kept.put("huge", route(b"huge", 1, 200))
    assert kept.figures() == (0, 0, 0)
    kept.put("x", route(b"x", 1))
    kept.forget("x")
    kept.forget("x")
    assert kept.figures() == (0, 0, 0)


async def test_a_disk_that_hangs_holds_up_who_waits_for_it_and_nobody_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    real = tree.Tree.at

    def at(self: tree.Tree, names: Any) -> Any:
        if b"hangs" in names:
            hangs.wait(20)
        return real(self, names)

    monkeypatch.setattr(tree.Tree, "at", at)
    monkeypatch.setattr(searches, "MOST_WAITING", 12)
    try:
        async with site(root, timeout="50ms") as client:
            assert await client.body("/a.txt") == b"0123456789"
            assert await client.status("/hangs") == 503
            assert await client.body("/a.txt") == b"0123456789"  # remembered
            assert await client.body("/style.css") == b"body{}"  # another thread
            stage = client.stage
            stage.give(*(stage.request(f"/hangs/{n}", sid=n + (1 << 32)) for n in range(30)))
            assert len(await stage.run()) >= 18  # told at once
            assert await client.body("/a.txt") == b"0123456789"
            hangs.set()
            while plugin_of(client)._searches._count:
                await asyncio.sleep(0.001)
            await stage.run()
            assert await client.body("/about.html") == b"about"
    finally:
        hangs.set()


async def test_a_flood_of_what_is_not_there_does_not_keep_known_files_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    real = tree.Tree.at

    def at(self: tree.Tree, names: Any) -> Any:
        if b"hangs" in names:
            hangs.wait(20)
        return real(self, names)

    monkeypatch.setattr(tree.Tree, "at", at)
    monkeypatch.setattr(finder, "is_local", lambda path: False)  # so that each look is in a thread
    monkeypatch.setattr(searches, "MOST_WAITING", 4)
    try:
        async with site(root) as client:
            assert await client.body("/a.txt") == b"0123456789"
            stage = client.stage
            stage.give(*(stage.request(f"/hangs/{n}", sid=n + (1 << 32)) for n in range(4)))
            assert await client.status("/style.css") == 503
            assert await client.body("/a.txt") == b"0123456789"
            hangs.set()
            while plugin_of(client)._searches._count:
                await asyncio.sleep(0.001)
            await stage.run()
    finally:
        hangs.set()


async def test_a_disk_that_hangs_within_a_body_cuts_it_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    real = os.pread

    def read(fd: int, count: int, at: int) -> bytes:
        if at:
            hangs.wait(20)
        return real(fd, count, at)

    monkeypatch.setattr(os, "pread", read)
    try:
        async with site(root, timeout="50ms") as client:
            head, *_, last = await client.envelopes("/long.bin", version=20)
            assert (head.status, last.error) == (200, "plugin_failed")
            assert [fields["plugin"] for _, message, fields in client.stage.context.logged if message == "a plugin failed"] == ["files"]
    finally:
        hangs.set()


async def test_who_asks_the_same_at_the_same_time_shares_a_look(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    real = tree.Tree.at
    go = threading.Event()

    def at(self: tree.Tree, names: Any) -> Any:
        looks.append(names)
        go.wait(5)
        return real(self, names)

    monkeypatch.setattr(tree.Tree, "at", at)
    async with site(root) as client:
        stage = client.stage
        stage.give(*(stage.request(f"/no/{n}", sid=n + (1 << 32)) for n in range(8)))  # all threads
        await stage.run()
        stage.give(*(stage.request("/a.txt", sid=n + (2 << 32)) for n in range(20)))
        await stage.run()
        go.set()
        out: list[Any] = []
        while len(out) < 28:
            await asyncio.sleep(0.001)
            out += stage.out()
        assert [one.body for one in out].count(b"0123456789") == 20
        assert looks.count((b"a.txt",)) == 1


# -- directories --------------------------------------------------------------------------------


async def test_directories_have_an_index_and_a_slash(root: Path) -> None:
    async with site(root) as client:
        assert await client.body("/") == b"home"
        assert await client.body("/sub/") == b"sub"
        assert await client.status("/empty/") == 404
        head, _ = await client.ask("/sub?a=b")
        assert (head.status, value("location", head)) == (301, "./sub/?a=b")


async def test_index_names_one_file_or_several(root: Path) -> None:
    async with site(root, index="/default.htm") as client:
        assert await client.body("/sub/") == b"default"
        assert await client.status("/") == 404
    async with site(root, index=["no.html", "default.htm", "index.html"]) as client:
        assert (await client.body("/sub/"), await client.body("/")) == (b"default", b"home")
        write(root / "sub/no.html", b"now")
        assert await client.body("/sub/") == b"now"


async def test_autoindex_lists_what_has_no_index(root: Path) -> None:
    write(root / "list/<b>&.txt", b"12345")
    write(root / "list/.hidden", b"")
    (root / "list/folder").mkdir()
    (root / "list/nowhere").symlink_to("nothing")
    async with site(root, autoindex=True) as client:
        assert await client.body("/sub/") == b"sub"
        assert await client.status("/list") == 301
        head, page = await client.ask("/list/")
        assert value("content-type", head) == "text/html; charset=utf-8"
        assert b'<a href="./folder/">folder/</a>' in page and b'<a href="./%3Cb%3E&amp;.txt">&lt;b&gt;&amp;.txt</a>' in page
        assert page.index(b"folder") < page.index(b"&lt;b") and b"hidden" not in page and b"nowhere" not in page
        assert b"<title>Index of /list/</title>" in page and b"../" in page
        rows = json.loads(await client.body("/list/?format=json"))["entries"]
        assert [(row["name"], row.get("size")) for row in rows] == [("folder/", None), ("<b>&.txt", 5)]
        assert b"<b>&.txt" in await client.body("/list/", "accept: text/plain")
        assert (await client.ask("/list/", method=b"HEAD"))[0].length == len(page)
    async with site(root) as client:
        assert await client.status("/list/") == 404
    async with site(root, autoindex=True, hidden=True) as client:
        assert b".hidden" in await client.body("/list/")


async def test_a_long_list_has_an_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_ENTRIES", 3)
    async with site(root, autoindex=True, index="none") as client:
        assert json.loads(await client.body("/?format=json"))["complete"] is False


# -- headers ------------------------------------------------------------------------------------


async def test_max_age_and_private_make_cache_control_but_not_of_html(root: Path) -> None:
    for keys, said in (
        ({"max_age": "1h"}, "public, max-age=3600"),
        ({"max_age": "1h", "private": True}, "private, max-age=3600"),
        ({"max_age": "0s"}, "private, no-cache"),
        ({"private": True}, "private, no-cache"),
    ):
        async with site(root, **keys) as client:
            assert await client.header("cache-control", "/a.txt") == said
            assert await client.header("cache-control", "/") == "private, no-cache"
            assert await client.header("cache-control", "/a.txt", f"if-modified-since: {DATE}") == said


async def test_charset_is_of_text(root: Path) -> None:
    write(root / "a.json", b"{}")
    async with site(root, charset="utf-8") as client:
        assert await client.header("content-type", "/a.txt") == "text/plain; charset=utf-8"
        assert await client.header("content-type", "/a.json") == "application/json"
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in await client.body("/a.txt", "range: bytes=0-0,5-5")


async def test_headers_are_added_or_stand_in_place_of_ours(root: Path) -> None:
    section = ["X-A: 1", "Set-Cookie: a=1", "Set-Cookie: b=2", "Cache-Control: no-store", "Content-Type: text/x-own"]
    async with site(root, headers=section, autoindex=True, index="none") as client:
        head, _ = await client.ask("/a.txt")
        said = lines(head.headers)
        for line in ("x-a: 1", "set-cookie: a=1", "set-cookie: b=2", "cache-control: no-store", "content-type: text/x-own"):
            assert said.count(line) == 1
        assert len([line for line in said if line.startswith(("cache-control", "content-type"))]) == 2
        listed, _ = await client.ask("/")
        assert "x-a: 1" in lines(listed.headers) and "content-type: text/html; charset=utf-8" in lines(listed.headers)
        assert await client.header("x-a", "/nothing") is None


async def test_download_names_the_file(root: Path) -> None:
    async with site(root, download=True) as client:
        assert await client.header("content-disposition", "/a.txt") == 'attachment; filename="a.txt"'
        assert await client.header("content-disposition", "/") == 'attachment; filename="index.html"'
    async with site(root) as client:
        assert await client.header("content-disposition", "/a.txt") is None


async def test_types_are_the_users_first(root: Path) -> None:
    write(root / "a.GLB", b"")
    async with site(root, types={".glb": "model/x", "txt": "text/x"}) as client:
        assert (await client.header("content-type", "/a.GLB"), await client.header("content-type", "/a.txt")) == ("model/x", "text/x")
        assert await client.header("content-type", "/style.css") == "text/css"


async def test_chunk_size_is_what_is_read_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.pread

    def read(fd: int, count: int, at: int) -> bytes:
        sizes.append(count)
        return real(fd, count, at)

    monkeypatch.setattr(os, "pread", read)
    for size, most in (("16KiB", 16384), (1, 4096), ("10MB", 262144), (None, 262144)):
        async with site(root, **({} if size is None else {"chunk_size": size})) as client:
            sizes.clear()
            assert await client.body("/long.bin", version=20) == LONG
            assert max(sizes) == most


# -- precompressed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, br, zstd", "br"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("*", "br"),
        ("br;q=0, *", "gzip"),
        ("zstd", ""),
        ("identity, br;q=0.5", ""),
        ("br;q=0, gzip;q=0", ""),
        ("", ""),
        ("deflate", ""),
    ],
)
async def test_a_coded_file_beside_the_plain_one_is_sent_to_who_likes_it(root: Path, accept: str, coding: str) -> None:
    for ending in ("br", "gz"):
        write(root / f"a.txt.{ending}", ending.encode())
    async with site(root, precompressed=["zstd", "br", "gzip"], charset="utf-8") as client:
        plain = await client.header("etag", "/a.txt")
        for _ in range(2):
            head, body = await client.ask("/a.txt", *([f"accept-encoding: {accept}"] if accept else []))
            assert value("content-encoding", head) == (coding or None)
            assert body == {"br": b"br", "gzip": b"gz", "": b"0123456789"}[coding]
            assert value("vary", head) == "accept-encoding"
            assert value("content-type", head) == "text/plain; charset=utf-8"
            assert (value("etag", head) == plain) is (not coding)
        tag = value("etag", head)
        assert await client.status("/a.txt", f"accept-encoding: {accept or 'x'}", f"if-none-match: {tag}") == 304
        part, first = await client.ask("/a.txt", f"accept-encoding: {accept or 'x'}", "range: bytes=0-0", f"if-range: {tag}")
        assert (part.status, first, value("content-encoding", part)) == (206, body[:1], coding or None)


async def test_without_the_key_no_coded_file_is_looked_for(root: Path) -> None:
    write(root / "a.txt.gz", b"gz")
    async with site(root) as client:
        head, body = await client.ask("/a.txt", "accept-encoding: gzip")
        assert (body, value("vary", head), value("content-encoding", head)) == (b"0123456789", None, None)
        head, body = await client.ask("/a.txt.gz")
        assert (body, value("content-type", head), value("content-encoding", head)) == (b"gz", "application/gzip", None)


async def test_only_what_has_a_plain_file_has_a_coded_one(root: Path) -> None:
    write(root / "lonely.js.br", b"br")
    (root / "sub.br").mkdir()
    async with site(root, precompressed=["br"]) as client:
        assert await client.status("/lonely.js", "accept-encoding: br") == 404
        assert await client.body("/sub/", "accept-encoding: br") == b"sub"


# -- try --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "target", "found"),
    [
        (["$path", "$path/", "/index.html"], "/a.txt", b"0123456789"),
        (["$path", "$path/", "/index.html"], "/some/where", b"home"),
        (["$path", "$path/", "/index.html"], "/some/where/", b"home"),
        (["$path", "$path/", "/index.html"], "/sub/", b"sub"),
        (["$path", "$path/", "/index.html"], "/sub", 301),
        (["$path", "$path/", "/index.html"], "/empty/", b"home"),
        (["$path", "$path/", "/index.html"], "/.env", b"home"),
        (["$path", "$path/", "/index.html"], "/a/../b", 403),
        (["$uri", "$uri.html", "=404"], "/about", b"about"),
        (["{path}", "{path}.html", "=410"], "/other", 410),
        (["$path", "$path.html"], "/about/", 404),
        (["$path", "$path.html"], "/", 404),
        (["$path"], "/sub/", 404),
        (["$path/"], "/a.txt", 404),
        (["/sub/"], "/x", b"sub"),
        (["/sub$path"], "/default.htm", b"default"),
        (["$path", "@upstream"], "/a.txt", b"0123456789"),
        (["$path", "@upstream"], "/api", None),
        (["/.env"], "/x", b"SECRET"),  # who writes it means it
    ],
)
async def test_try_goes_through_its_entries(root: Path, attempts: list[str], target: str, found: bytes | int | None) -> None:
    async with site(root, try_=attempts) as client:
        for _ in range(2):
            [*_, last] = out = await client.envelopes(target)
            if found is None:
                assert isinstance(last, Routed)
                client.stage.give(client.stage.response())
            elif isinstance(found, int):
                assert out[0].status == found
            else:
                assert (out[0].status, bodies(out)) == (200, found)


async def test_what_goes_on_to_the_upstream_may_have_any_method(root: Path) -> None:
    async with site(root, try_=["$path", "@upstream"]) as client:
        [routed] = await client.envelopes("/a.txt", method=b"POST")
        assert isinstance(routed, Routed)


# -- prefixes, rewrites ----------------------------------------------------------------------------------


async def test_strip_prefix_takes_a_prefix_away(root: Path) -> None:
    async with site(root, strip_prefix="/st%C3%A4tic/x") as client:
        assert await client.body("/st%C3%A4tic/x/a.txt") == b"0123456789"
        assert await client.body("/a.txt") == b"0123456789"
        assert await client.body("/st%C3%A4tic/x/") == b"home"
        assert await client.header("location", "/st%C3%A4tic/x") == "./x/"
        assert await client.status("/st%C3%A4tic/xa.txt") == 404
    async with site(root) as client:
        assert await client.status("/static/a.txt") == 404


async def test_a_rewrite_is_what_counts_and_redirects_are_of_what_the_client_asked_for(root: Path) -> None:
    async with site(root) as client:
        assert await client.body("/a.txt", original=b"/old/a.txt") == b"0123456789"
        assert await client.header("location", "/sub", original=b"/pages/s?x") == "./s/?x"
        for _ in range(2):
            assert await client.body("/sub", original=b"/pages/s/") == b"sub"
            assert await client.status("/sub") == 301


@pytest.mark.parametrize("original", ["//evil.com", "//evil.com/sub", "/\\evil.com", "/%5cevil.com/x", "https://evil.com/a", "/a//b.com"])
async def test_no_redirect_leads_to_another_host(root: Path, original: str) -> None:
    async with site(root) as client:
        head, _ = await client.ask("/sub", original=original.encode())
        location = value("location", head)
        if location is not None:
            assert location.startswith("./")
            assert urlsplit(urljoin("http://own.example/a/b", location.replace("\\", "/"))).netloc == "own.example"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/%61.txt", "./a.txt"),
        ("/s%75b/index.html?q=%61", "../sub/index.html?q=%61"),
        ("/sub/%69ndex.html", "./index.html"),
        ("/caf%c3%a9", "./caf%C3%A9"),
        ("/a%40b%2B(1).txt", "./a@b+(1).txt"),
        ("/%73ub/", "../sub/"),
        ('/a"b', "./a%22b"),
        ("/nobody/%6Bnows", "./knows"),
    ],
)
async def test_another_spelling_of_escapes_is_redirected_and_so_comes_to_its_own_location(root: Path, target: str, location: str) -> None:
    write(root / "a@b+(1).txt", b"1")
    for keys in ({}, {"try_": ["$path", "$path/"]}, {"try_": ["$path", "$path/", "=404"]}):
        async with site(root, **keys) as client:
            head, body = await client.ask(target)
            assert (head.status, value("location", head), body) == (301, location, b"")


async def test_another_spelling_is_no_path_to_try(root: Path) -> None:
    async with site(root, try_=["$path", "/index.html"]) as client:
        assert await client.body("/%61.txt") == b"home" and await client.body("/users/a%40b") == b"home"
    async with site(root, try_=["$path", "@upstream"]) as client:
        assert isinstance((await client.envelopes("/%61.txt"))[0], Routed)
    async with site(root) as client:  # what a rewrite spells otherwise is not there: a redirect would come back to it
        assert await client.status("/%61.txt", original=b"/old/a.txt") == 404
        assert await client.header("location", "/sub", original=b"/%73ub") == "./sub/"


async def test_of_all_spellings_of_a_path_one_is_served(root: Path) -> None:
    """And the others lead to it."""
    write(root / "p@v" / "s~(ü).txt", b"1")
    names = [os.fsencode("p@v"), os.fsencode("s~(ü).txt")]
    rnd = random.Random(1)

    def spelling(byte: int, how: int) -> str:
        return chr(byte) if how == 0 and byte < 0x80 else f"%{byte:02x}" if how == 1 else f"%{byte:02X}"

    served = set()
    async with site(root) as client:
        paths = {
            "/" + "/".join("".join(spelling(byte, rnd.choice((0, 0, 0, 1, 2))) for byte in name) for name in names) for _ in range(150)
        }
        for path in paths | {"/p@v/s~(%C3%BC).txt"}:
            head, _ = await client.ask(path)
            if head.status == 200:
                served.add(path)
            else:
                assert head.status == 301 and urljoin(path, value("location", head)) == "/p@v/s~(%C3%BC).txt"
    assert served == {"/p@v/s~(%C3%BC).txt"}


# -- what is never served ------------------------------------------------------------------------------


async def test_dot_files_are_not_there_but_for_well_known(root: Path) -> None:
    async with site(root) as client:
        for target in ("/.env", "/%2eenv", "/%2Eenv", "/.well-known/.git", "/empty/.keep", "/.git/config"):
            assert await client.status(target) == 404, target
        assert await client.body("/.well-known/acme") == b"token"
    async with site(root, hidden=True) as client:
        assert await client.body("/.env") == b"SECRET"


DOTS = ["..", "%2e%2e", ".%2E", "%2e.", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%%32%65%%32%65", ".%%32%65", "%u002e%u002e"]
DOTS += ["..;", "..%00", "..%20", "..%09", "..%0d%0a", "....", "%uff0e%uff0e", "%ef%bc%8e%ef%bc%8e", "%25%32%65%25%32%65", "..."]
SLASHES = [
    "/",
    "//",
    "/./",
    "%2f",
    "%2F%2f",
    "%5c",
    "\\",
    "\\/",
    "/%5c",
    "%252f",
    "%255c",
    "%c0%af",
    "%c1%9c",
    "%e0%80%af",
    "%u2215",
    "%ef%bc%8f",
]
SLASHES += ["%%32%66", ";/", "/;/"]
"""As they are in advisories (CVE-2021-41773, CVE-2021-42013, CVE-2021-43798, CVE-2000-0884, …) and in the lists of dotdotpwn and
PayloadsAllTheThings."""
OTHERS = """//etc/passwd
///etc/passwd
/%2fetc/passwd
/%2f%2fetc%2fpasswd
/\\etc\\passwd
/file:///etc/passwd
/a.txt/../../secret.txt
/a.txt%00/../../secret.txt
/../secret.txt%00.html
/..././..././secret.txt
/....//....//secret.txt
/....\\/....\\/secret.txt
/sub../secret.txt
/sub..%2fsecret.txt
/cgi-bin/.%2e/.%2e/.%2e/.%2e/etc/passwd
/public/plugins/text/../../../../../../../../etc/passwd
/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd?raw
/proc/self/root/etc/passwd
/~root/../etc/passwd
/.../.../secret.txt
/sub/..
/..
/%2e%2e
/.."""


async def test_no_published_traversal_leads_anywhere(root: Path) -> None:
    targets_of_all = []
    for dots in DOTS:
        for slash in SLASHES:
            way = dots + slash
            targets_of_all += [f"/{way}secret.txt", f"/sub/{way}{way}secret.txt", f"/{slash}{way * 9}etc{slash}passwd"]
    async with site(root, autoindex=True, strip_prefix="/sub") as client:
        stage = client.stage
        for lot in range(0, len(targets_of_all), 100):
            targets = targets_of_all[lot : lot + 100] + OTHERS.splitlines()
            out = stage.feed(*(stage.request(target, sid=number + (1 << 32)) for number, target in enumerate(targets)))
            async with asyncio.timeout(20):
                while len(out) < len(targets):
                    await asyncio.sleep(0.001)
                    out += stage.out()
            for one in out:
                target = targets[one.sid - (1 << 32)]
                if one.status == 301:  # to the one spelling, and no further
                    one, _ = await client.ask(urljoin(target, value("location", one)))
                assert one.status in (400, 403, 404), target
                assert b"SECRET" not in one.body and b"root:" not in one.body, target


async def test_links_may_lead_out_or_not(root: Path, tmp_path: Path) -> None:
    (root / "out").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret.txt")
    (root / "relative").symlink_to("../secret.txt")
    (root / "in").symlink_to("sub")
    (root / "absolute").symlink_to(root / "sub" / "index.html")
    (root / "chain").symlink_to("in/../in/index.html")
    (root / "sub/back").symlink_to("../sub/../a.txt")
    (root / "round").symlink_to("../root/a.txt")
    write(root / "x.txt", b"plain")
    (root / "x.txt.br").symlink_to(tmp_path / "secret.txt")
    async with site(root, autoindex=True) as client:
        for target in ("/out/secret.txt", "/file", "/relative"):
            assert await client.body(target) == b"SECRET"
        assert await client.body("/round") == b"0123456789"
    async with site(root, follow_symlinks=False, autoindex=True, index="none", precompressed=["br"]) as client:
        for target in ("/out/secret.txt", "/out/", "/out", "/file", "/relative", "/round", "/out/nothing"):
            head, body = await client.ask(target)
            assert (head.status, body) == (403, f"You do not have permission to access this resource, file: {target}".encode())
        assert await client.body("/in/index.html") == b"sub"
        assert await client.body("/absolute") == b"sub"
        assert await client.body("/chain") == b"sub"
        assert await client.body("/sub/back") == b"0123456789"
        assert await client.body("/x.txt", "accept-encoding: br") == b"plain"
        names = {row["name"] for row in json.loads(await client.body("/?format=json"))["entries"]}
        assert "in/" in names and not names & {"out/", "file", "relative", "round", "x.txt.br"}
        (root / "sub/back").unlink()
        (root / "sub/back").symlink_to(tmp_path / "secret.txt")
        assert await client.status("/sub/back") == 403


NAMES = [b"a", b"b", b"up", b"top", b"abs", b"self", b"out", b"file", b"nothing"]


@given(st.lists(st.sampled_from(NAMES), max_size=7))
def test_a_walk_finds_what_the_system_finds_as_long_as_that_is_inside(linked: Path, names: list[bytes]) -> None:
    path = os.path.join(os.fsencode(linked), *names)
    real = os.path.realpath(path)
    is_inside = (real + b"/").startswith(bytes(linked) + b"/")
    try:
        place = tree.Tree(bytes(linked), False).at(names)
    except tree.Outside:
        assert not is_inside
    except OSError:
        assert not os.path.exists(path)
    else:
        assert is_inside
        assert tree.identity_of(place.status) == tree.identity_of(os.stat(real))
        if place.descriptor >= 0:
            os.close(place.descriptor)


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories with files and links, each of which stays inside, or leaves for good."""
    root = Path(os.path.realpath(tmp_path_factory.mktemp("linked"))) / "root"
    for folder in (root, root / "a", root / "a/a", root / "a/a/b", root / "b"):
        folder.mkdir(parents=True)
    for folder in (root, root / "a", root / "a/a/b"):
        (folder / "file").write_text(str(folder))
        (folder / "self").symlink_to(".")
        (folder / "abs").symlink_to(root / "a" / "self" / "a")
        (folder / "out").symlink_to("/etc")
    (root / "a/up").symlink_to("../b")
    (root / "a/a/b/up").symlink_to("../../self/../a/./a//b")
    (root / "b/top").symlink_to("../a/a/../../a/abs/b")
    return root


def test_a_walk_of_many_links_has_an_end(root: Path) -> None:
    place = root / "deep"
    for _ in range(50):
        place.mkdir()
        place = place / "d"
    for number in range(60):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    (root / "l60").symlink_to("a.txt")
    (root / "wide").symlink_to("deep/d/d/d/d/d/" + "../d/" * 780)
    found = tree.Tree(bytes(root), False)
    for name in (b"l0", b"wide"):
        with pytest.raises(OSError) as caught:
            found.at((name,))
        assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    place_of = found.at((b"l30",))
    assert stat.S_ISREG(place_of.status.st_mode)
    os.close(place_of.descriptor)


def test_nothing_stays_open_when_a_walk_fails(root: Path, tmp_path: Path) -> None:
    (root / "out").symlink_to(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    found = tree.Tree(bytes(root), False)
    for names in ((b"out", b"secret.txt"), (b"sub", b"x"), (b"a.txt", b"b"), (b"nothing",), (b"sub",)):
        with suppress(OSError, tree.Outside):
            found.at(names)
    assert len(os.listdir("/proc/self/fd")) == before


def test_which_file_systems_answer_from_memory(root: Path) -> None:
    assert tree.is_local(bytes(root / "nothing" / "there")) == tree.is_local(bytes(root))
    assert not tree.is_local(b"/proc/self")
    assert not tree.is_local(b"/proc/self/root/etc")  # which is on another, but not found without asking this one


# -- settings -----------------------------------------------------------------------------------------


def test_the_reference_s_step_is_there(root: Path) -> None:
    assert troubles(step="proxy_upstream") == [] and "cannot be put at" in troubles(step="response")[0]


async def test_at_proxy_upstream_it_answers_what_would_go_to_one(root: Path) -> None:
    async with site(root, step="proxy_upstream") as client:
        assert await client.body("/a.txt") == b"0123456789"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"path": ""}, "p.path must not be empty"),
        ({"path": "a\0b"}, "path has no NUL"),
        ({"index": "../x"}, "p.index '../x' is not the name of a file"),
        ({"index": ["a", "/"]}, "p.index[1]"),
        ({"headers": ["ETag: x"]}, "p.headers[0] etag is told"),
        ({"charset": "utf-8\r\nx"}, "p.charset"),
        ({"types": {"x": "nothing"}}, "p.types"),
        ({"types": {".": "a/b"}}, "p.types '.' is not the ending"),
        ({"strip_prefix": "/a/../b"}, "p.strip_prefix"),
        ({"timeout": "0s"}, "p.timeout must be more than 0"),
        ({"try_": ["$path", "=200"]}, "p.try[1] '=200' is not a status"),
        ({"try_": ["=404", "$path"]}, "p.try[0] '=404' is an answer already"),
        ({"try_": ["@backend"]}, "p.try[0] '@backend'"),
        ({"try_": ["index.html"]}, "p.try[0] 'index.html' is not a file to try"),
        ({"try_": ["/../x"]}, "p.try[0]"),
        ({"try_": ["$host/x"]}, "p.try[0]"),
        ({"try_": ["$path$path"]}, "p.try[0]"),
        ({"precompressed": ["deflate"]}, "p.precompressed[0]"),
        ({"max_age": "soon"}, "p.max_age"),
        ({"attempts": []}, "p.attempts unknown key"),
    ],
)
def test_mistakes_are_told_with_their_key(keys: dict[str, Any], told: str) -> None:
    assert any(told in one for one in troubles(**keys)), troubles(**keys)


def test_all_mistakes_are_told_at_once() -> None:
    assert len(troubles(index="..", timeout="0s", try_=["x"], headers=["ETag: x", "Last-Modified: y"])) == 5


def test_relative_paths_begin_where_those_of_the_configuration_do(tmp_path: Path) -> None:
    section = {"category": "directory", "path": "www/"}
    assert not [one for one in checking.Checker(str(tmp_path))("p", section) if isinstance(one, Problem)]
    assert section["path"] == str(tmp_path / "www")


async def test_a_home_directory_and_a_root_that_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    async with site(Path("~/sub")) as client:
        assert await client.body("/index.html") == b"sub"
    async with site(root / "later") as client:
        assert await client.status("/x") == 404
        assert any("no such directory" in str(entry) for entry in client.stage.context.logged)
        write(root / "later/x", b"there")
        assert await client.body("/x") == b"there"
