"""What hooks make of a stored body is made once, and kept with it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pingap.stages.caching.derived import derived_entry, derived_key, is_made_of
from pingap.stages.caching.entry import CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.vary import variant_key
from pingap.stages.headers import value_of
from pingap.stages.messages import Response
from pingap.stages.plugins.builtin import compression, encodings
from pingap.stages.plugins.cache import derivations, derived_keeper
from pingap.stages.plugins.cache.serving import answer
from pingap.stages.plugins.exchange import Exchange, Reply
from tests.plugins.script import Stage, bodies, credit
from tests.plugins.test_python_plugins import section

TEXT = b"All work and no play makes Jack a dull boy.\n" * 100
HEAD = b'content-type: text/plain\r\netag: "a"\r\naccept-ranges: bytes\r\n'


def entry(body: bytes = TEXT, **more: Any) -> CacheEntry:
    fields = {"etag": b'"a"', "body_id": 7, **more}
    return CacheEntry(b"n\0http://h/", 200, HEAD, len(body), 0.0, 0.0, 60.0, 0.0, 0.0, 0, **fields)


class Part:
    """A part file, in memory."""

    def __init__(self) -> None:
        self.content = b""
        self.failure = ""
        self.is_discarded = False

    def write(self, data: bytes) -> Awaitable[None]:
        return self._later(data)

    async def _later(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.content += data

    def discard(self) -> None:
        self.is_discarded = True


class Store:
    """Of the store what is used of it."""

    def __init__(self, folder: Path, waits: bool = False) -> None:
        self.folder = folder
        self.kept: dict[bytes, StoredAnswer] = {}
        self.parts: list[Part] = []
        self.waits = waits
        self.has_room = True
        self.number = 7

    def now(self) -> float:
        return 10.0

    def mark(self) -> int:
        return 3

    def get(self, key: bytes) -> Any:
        async def later() -> StoredAnswer | None:
            await asyncio.sleep(0)
            return self.kept.get(key)

        return later() if self.waits else self.kept.get(key)

    def part(self, expected: int | None) -> Part | None:
        if self.has_room:
            self.parts.append(Part())
            return self.parts[-1]
        return None

    def put(self, key: bytes, entry: CacheEntry, body: bytes | Part, mark: int) -> None:
        assert mark == 3
        content = body if isinstance(body, bytes) else body.content
        assert entry.length == len(content)
        kept: bytes | FileSpot = content
        if not isinstance(body, bytes):
            (self.folder / "kept").write_bytes(content)
            kept = FileSpot(str(self.folder / "kept"), not self.waits)
        self.kept[key] = StoredAnswer(entry, kept, self.number)


STORE: list[Any] = []
STORED: list[StoredAnswer] = []


def serve(exchange: Exchange) -> Reply | Awaitable[Reply]:
    """What the cache does with a hit."""
    return answer(STORED[-1], exchange._routed.method, exchange.headers.raw, 5.0, b"", STORE[-1])


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    derived_keeper._begun.clear()
    STORE.append(Store(tmp_path, request.param))
    STORED.append(StoredAnswer(entry(), TEXT, 5))
    yield STORE[-1]
    STORE.clear()
    STORED.clear()


CODE = """
from tests.plugins.cache.test_derivations import serve

class Mine(Plugin):
    def request(self, exchange):
        return serve(exchange)
"""
COMPRESSION = {"category": "compression", "gzip_level": 6, "zstd_level": 3}


class Coded:
    """A stage with a hit and compression behind it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str = CODE, **keys: Any) -> None:
        self.stage = Stage({"p": section(tmp_path, code), "c": {**COMPRESSION, **keys}})
        self.made = 0
        make = encodings.Compressor

        def counted(*args: Any) -> Any:
            self.made += 1
            return make(*args)

        monkeypatch.setattr(compression, "Compressor", counted)

    async def ask(self, headers: str = "accept-encoding: gzip", **more: Any) -> tuple[Response, bytes]:
        stage = self.stage
        out = some = await stage.run(stage.request(headers=headers, **more))
        for _ in range(1000):
            if any(getattr(one, "ended", False) or getattr(one, "error", "") for one in out):
                break
            await asyncio.sleep(0.001)
            some = await stage.run(credit(len(bodies(some)) or 1))
            out = out + some
        head = next(one for one in out if isinstance(one, Response))
        return head, bodies(out)


async def test_a_hit_is_compressed_once_for_each_coding(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        for _ in range(3):
            head, body = await coded.ask()
            assert gzip.decompress(body) == TEXT and head.length in (len(body), -1)
            assert head.headers == (
                b'content-type: text/plain\r\netag: W/"a"\r\nage: 5\r\nvary: accept-encoding\r\ncontent-encoding: gzip\r\n'
            )
        assert head.length == len(body) and coded.made == 1
        for _ in range(2):
            head, body = await coded.ask("accept-encoding: zstd")
            assert zstandard.ZstdDecompressor().decompress(body) == TEXT and value_of(head.headers, b"content-encoding") == b"zstd"
        assert coded.made == 2 and len(store.kept) == 2
        head, body = await coded.ask("accept-encoding: br")
        assert body == TEXT and coded.made == 2


async def test_a_newer_version_is_compressed_anew(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        await coded.ask()
        other = TEXT[::-1]
        STORED.append(StoredAnswer(entry(other, body_id=8), other, 6))
        for _ in range(2):
            assert gzip.decompress((await coded.ask())[1]) == other
        assert coded.made == 2 and len(store.kept) == 1, "in the place of the one before"


async def test_parts_are_never_of_the_coded_form(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        await coded.ask()
        head, body = await coded.ask("accept-encoding: gzip\nrange: bytes=4-7")
        assert (head.status, body) == (206, TEXT[4:8]) and value_of(head.headers, b"content-encoding") is None
        head, body = await coded.ask('accept-encoding: gzip\nrange: bytes=4-7\nif-range: W/"a"')
        assert head.status == 200 and gzip.decompress(body) == TEXT, "the tag of the coded form is weak: nobody joins parts by it"
        head, body = await coded.ask('accept-encoding: gzip\nif-none-match: W/"a"')
        assert (head.status, body, value_of(head.headers, b"etag")) == (304, b"", b'W/"a"')
        head, body = await coded.ask(method=b"HEAD")
        assert (head.status, body) == (200, b"") and value_of(head.headers, b"etag") == b'W/"a"'
        assert coded.made == 1


async def test_long_bodies_are_kept_as_they_come(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived_keeper, "IN_MEMORY", 100)
    long = b"".join(b"%d\n" % number for number in range(100_000))
    STORED.append(StoredAnswer(entry(long), long, 5))
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        for _ in range(3):
            assert gzip.decompress((await coded.ask())[1]) == long
    assert coded.made == 1 and len(store.parts) == 1


async def test_without_room_all_get_it_and_nobody_keeps_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived_keeper, "IN_MEMORY", 100)
    store.has_room = False
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        for _ in range(3):
            assert gzip.decompress((await coded.ask())[1]) == TEXT
    assert coded.made == 3 and not store.kept


async def test_a_body_that_is_gone_is_made_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = Coded(tmp_path, monkeypatch)
    async with coded.stage:
        await coded.ask()
        (key,) = store.kept
        store.kept[key] = StoredAnswer(store.kept[key].entry, FileSpot("/nowhere", not store.waits), 7)
        assert gzip.decompress((await coded.ask())[1]) == TEXT
    assert coded.made == 2


async def test_what_another_hook_has_changed_is_not_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        CODE
        + """
    def response(self, exchange):
        class Upper(Transformer):
            def feed(self, data, ended):
                return data.upper()
        exchange.transform_response(Upper())
"""
    )
    coded = Coded(tmp_path, monkeypatch, code)
    async with coded.stage:
        for _ in range(2):
            assert gzip.decompress((await coded.ask())[1]) == TEXT.upper()
    assert coded.made == 2 and not store.kept


async def test_what_is_undone_is_kept_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(TEXT)
    head = b"content-type: text/plain\r\ncontent-encoding: gzip\r\n"
    STORED.append(StoredAnswer(CacheEntry(b"k", 200, head, len(packed), 0.0, 0.0, 60.0, 0.0, 0.0, 0, body_id=9), packed, 5))
    coded = Coded(tmp_path, monkeypatch, decompression=True)
    async with coded.stage:
        for _ in range(2):
            assert (await coded.ask("accept: */*"))[1] == TEXT
            assert (await coded.ask())[1] == packed
    assert len(store.kept) == 1


async def test_one_at_a_time_keeps_it_and_one_that_leaves_lets_go(tmp_path: Path) -> None:
    derived_keeper._begun.clear()
    store: Any = Store(tmp_path)
    source = derivations.Derivations(store, StoredAnswer(entry(), TEXT, 5))
    keeper = source.keeper("a")
    assert keeper is not None and source.keeper("a") is None and source.keeper("b") is not None
    out = keeper.feed(b"x" * (derived_keeper.IN_MEMORY + 1), False)
    assert isinstance(out, Awaitable) and len(await out) == derived_keeper.IN_MEMORY + 1
    del keeper, out
    assert store.parts[0].is_discarded and not store.kept


def test_derived_keys_go_with_their_url_and_are_nobody_elses() -> None:
    plain, varied = entry(), entry(vary=((b"accept",),), chosen_by=b"x")
    variant = variant_key(plain.key, (b"accept",), b"x")
    keys = [plain.key, variant, *(derived_key(one, name) for one in (plain, varied) for name in (">gzip6", "gzip>"))]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(plain.key + b"\0\0") and len(key) == len(variant) for key in keys[1:]), "as the store expects variants"
    made = derived_entry(plain, 9, 1.0)
    assert is_made_of(made, plain) and not is_made_of(made, entry(body_id=6)) and not is_made_of(plain, plain)
    assert not is_made_of(derived_entry(entry(body_id=0), 9, 1.0), entry(body_id=0)), "nobody knows"


async def test_for_an_answer_that_is_not_stored_it_is_a_transformer_as_others(tmp_path: Path) -> None:
    code = """
class Upper(Transformer):
    def feed(self, data, ended):
        return data.upper()

class Mine(Plugin):
    def request(self, exchange):
        return reply(200, b"abc") if exchange.query else None
    def response(self, exchange):
        assert exchange.derive_response("upper", lambda: [Upper()]) is None
"""
    async with Stage({"p": section(tmp_path, code)}) as stage:
        assert (await stage.exchange(body=b"abc")).body == b"ABC"
