"""What clients get of the cache, the machine and its store between: bodies that are gone, and coded forms that are made once."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.headers import value_of
from pingap.stages.messages import Data, Response, Routed
from pingap.stages.plugins.builtin import compression, encodings
from pingap.stages.plugins.cache import derived_keeper
from tests.plugins.script import SID, Stage, bodies, credit, data

TEXT = b"All work and no play makes Jack a dull boy.\n" * 100
LONG = b"".join(b"%d is a number.\n" % number for number in range(40_000))
"""So long that it is a file of the store's."""

FRESH = 'content-type: text/plain\ncache-control: max-age=60\netag: "a"'
STALE = 'content-type: text/plain\ncache-control: max-age=0, stale-if-error=60\netag: "a"'


class Site:
    """A cache with compression behind it, on a disk; and a backend."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        cache = {"category": "cache", "directory": str(folder), "max_file_size": "100mb", **keys}
        self.stage = Stage({"k": cache, "c": {"category": "compression", "gzip_level": 6}})
        self.folder = folder
        self.body = LONG
        self.head = FRESH
        self.status = 200
        self.error = ""
        self.fetched = 0
        self.before_answer: Any = None

    async def ask(self, headers: str = "") -> tuple[Response, bytes]:
        """A request, until all of its answer is there."""
        stage = self.stage
        out: list[Any] = []
        some = await stage.run(stage.request(headers=headers))
        for _ in range(2000):
            out += some
            if any(isinstance(one, Response | Data) and (one.ended or getattr(one, "error", "")) for one in some):
                head = next(one for one in out if isinstance(one, Response))
                return head, bodies(out)
            if any(isinstance(one, Routed) for one in some):
                some = await self._answered()
                continue
            wants = sum(len(one.body if isinstance(one, Response) else one.payload) for one in some if isinstance(one, Response | Data))
            named = any(isinstance(one, Response) and one.file is not None for one in some)
            some = await stage.run(credit(1 << 20)) if wants or named else stage.out()
            await asyncio.sleep(0.001)
        raise AssertionError(f"no end of it: {out}")

    async def _answered(self) -> list[Any]:
        stage = self.stage
        self.fetched += 1
        if self.before_answer is not None:
            self.before_answer()
        if self.error:
            return await stage.run(stage.response(status=502, error=self.error))
        if self.status == 304:
            return await stage.run(stage.response(self.head, status=304))
        out = await stage.run(stage.response(self.head, self.body[:1000], len(self.body) <= 1000, length=len(self.body)))
        for at in range(1000, len(self.body), 60_000):
            out += await stage.run(data(self.body[at : at + 60_000], at + 60_000 >= len(self.body)))
        return out

    async def settled(self) -> None:
        """Until what was ordered of the store is done."""
        (parts,) = self.stage.actor._caches.all()
        for _ in range(5000):
            if not parts.store._orders and not parts.stage.fills:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the store does not come to an end")

    def files(self) -> list[Path]:
        """Bodies that are files."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size == len(self.body)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    derived_keeper._begun.clear()
    made = Site(tmp_path / "cache")
    async with made.stage:
        yield made


async def test_a_long_hit_is_a_file_for_sendfile(site: Site) -> None:
    assert (await site.ask())[1] == LONG
    await site.settled()
    for _ in range(2):
        head, body = await site.ask()
        assert value_of(head.headers, b"x-cache-status") == b"hit" and body == LONG and head.length == len(LONG)
        assert head.file is not None and head.file.path == os.fsencode(site.files()[0])
    head, body = await site.ask("range: bytes=5-9")
    assert (head.status, body) == (206, LONG[5:10])
    assert site.fetched == 1


async def test_a_body_that_has_been_taken_away_is_fetched_again(site: Site) -> None:
    await site.ask()
    await site.settled()
    site.files()[0].unlink()
    head, body = await site.ask()
    assert body == LONG and value_of(head.headers, b"x-cache-status") == b"miss" and site.fetched == 2
    await site.settled()
    assert (await site.ask())[1] == LONG and site.fetched == 2


async def test_a_body_that_goes_while_the_backend_is_asked_is_given_all_the_same(site: Site) -> None:
    site.head = STALE
    await site.ask()
    await site.settled()
    site.status = 304
    site.before_answer = site.files()[0].unlink
    head, body = await site.ask()
    assert (head.status, body) == (200, LONG)
    site.status, site.before_answer = 200, None
    assert (await site.ask())[1] == LONG


async def test_a_body_that_is_gone_when_the_backend_is_to_be_asked_is_fetched(site: Site) -> None:
    site.head = STALE
    await site.ask()
    await site.settled()
    site.files()[0].unlink()
    head, body = await site.ask()
    assert (head.status, body, site.fetched) == (200, LONG, 2)
    assert value_of(head.headers, b"x-cache-status") == b"miss"


async def test_a_stale_file_is_given_when_the_backend_fails(site: Site) -> None:
    site.head = STALE
    await site.ask()
    await site.settled()
    site.error = "connect_failed"
    head, body = await site.ask()
    assert head.status == 200 and body == LONG and value_of(head.headers, b"x-cache-status") == b"stale"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The coding of each body that is compressed from now on."""
    made: list[str] = []
    make = encodings.Compressor

    def one_more(exchange: Any, coding: str, level: int, host: Any) -> Any:
        made.append(coding)
        return make(exchange, coding, level, host)

    monkeypatch.setattr(compression, "Compressor", one_more)
    return made


@pytest.mark.parametrize("content", [TEXT, LONG], ids=["short", "long"])
async def test_a_page_is_compressed_once(site: Site, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    site.body = content
    assert (await site.ask())[1] == content
    await site.settled()
    for _ in range(4):
        head, body = await site.ask("accept-encoding: gzip")
        assert gzip.decompress(body) == content
        assert (value_of(head.headers, b"content-encoding"), value_of(head.headers, b"etag")) == (b"gzip", b'W/"a"')
        await site.settled()
    assert made == ["gzip"] and head.length == len(body)
    assert (await site.ask())[1] == content and site.fetched == 1


@pytest.mark.parametrize("way", ["url", "tag"])
async def test_a_coded_form_goes_with_its_answer(site: Site, way: str) -> None:
    site.head, site.body = FRESH + "\ncache-tag: news", TEXT
    await site.ask()
    await site.settled()
    await site.ask("accept-encoding: gzip")
    await site.settled()
    (parts,) = site.stage.actor._caches.all()
    store = parts.store
    found = store.entries(b"", 9)
    assert len(found) == 2
    key = found[0][1].key
    gone = await (store.purge_url(key, False) if way == "url" else store.purge_tag(key.partition(b"\0")[0], b"news", False))
    assert gone == 2 and store.entries(b"", 9) == []
    site.body = TEXT[::-1]
    assert (await site.ask())[1] == TEXT[::-1]
    await site.settled()
    assert gzip.decompress((await site.ask("accept-encoding: gzip"))[1]) == TEXT[::-1]


async def test_a_coded_form_stays_when_its_answer_is_validated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    site.head, site.body = STALE, TEXT
    await site.ask()
    await site.settled()
    site.status = 304
    for _ in range(4):
        head, body = await site.ask("accept-encoding: gzip")
        assert gzip.decompress(body) == TEXT and value_of(head.headers, b"x-cache-status") == b"revalidated"
        await site.settled()
    assert made == ["gzip"] and site.fetched == 5


async def test_who_jumps_far_ahead_of_a_fetch_asks_the_backend(site: Site) -> None:
    stage, size = site.stage, 64 << 20
    await stage.run(stage.request(sid=SID))
    await stage.run(stage.response(FRESH, b"x" * 1000, False, length=size, sid=SID))
    far = await stage.run(stage.request(headers=f"range: bytes={size - 10}-", sid=SID + 1))
    (asked,) = [one for one in far if isinstance(one, Routed)]
    assert value_of(asked.headers, b"range") == b"bytes=%d-" % (size - 10)
    near = await stage.run(stage.request(headers="range: bytes=10-19", sid=SID + 2))
    (head,) = [one for one in near if isinstance(one, Response)]
    assert head.status == 206 and value_of(head.headers, b"content-range") == b"bytes 10-19/%d" % size
