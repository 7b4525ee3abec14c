"""What a request gets of a stored answer: whole, in parts, or not at all."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.caching.entry import CacheEntry, FileSpot, StoredAnswer
from pingap.stages.headers import value_of, values_of
from pingap.stages.plugins.cache import stored_bodies
from pingap.stages.plugins.cache.serving import answer, answer_growing
from pingap.stages.plugins.cache.stored_bodies import BodyGone
from pingap.stages.plugins.exchange import Reply
from pingap.stages.plugins.file_body import DividedBody, FileBody, UnreadBody
from tests.plugins.script import block

WHEN = 1_000_000_000
"""Of the Date line. The answer was changed an hour before."""
CHANGED, BEFORE, AFTER = (formatdate(WHEN - 3600 + shift, usegmt=True) for shift in (0, -1, 1))
HEAD = f'content-type: text/x\r\netag: "a"\r\nlast-modified: {CHANGED}\r\nvary: accept\r\nx-a: 1\r\n'.encode()
LINES = b"x-cache-status: hit\r\n"
CONTENT = b"0123456789"


def entry(**more: Any) -> CacheEntry:
    fields: dict[str, Any] = {"etag": b'"a"', "last_modified": CHANGED.encode(), "date": float(WHEN), "length": len(CONTENT)}
    fields = {"status": 200, "headers": HEAD, **fields, **more}
    return CacheEntry(key=b"k", born=100.0, stored=100.0, fresh_until=200.0, stale_while=0.0, stale_error=0.0, flags=0, **fields)


def got(headers: str = "", body: bytes | FileSpot = CONTENT, method: bytes = b"GET", now: float = 107.9, **more: Any) -> Any:
    return answer(StoredAnswer(entry(**more), body, 1), method, b"host: a\r\n" + block(headers), now, LINES)


class Growing(DividedBody):
    def __init__(self, content: bytes, offset: int = 0, length: int | None = None) -> None:
        self.content = content
        self.offset = offset
        self.length = len(content) - offset if length is None else length

    def part(self, offset: int, length: int) -> Self:
        return type(self)(self.content, offset, length)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(self.offset, self.offset + self.length):
            yield self.content[at : at + 1]


async def bytes_of(reply: Reply) -> bytes:
    body = reply.body
    if isinstance(body, bytes):
        return body
    content = b"".join([piece async for piece in body])
    assert len(content) == body.length  # type: ignore[attr-defined]
    return content


# -- whole ---------------------------------------------------------------------------------


def test_a_hit_is_what_was_stored_with_its_age() -> None:
    assert got() == Reply(200, HEAD + b"age: 7\r\n" + LINES, CONTENT, is_stored=True)


@pytest.mark.parametrize(("now", "age"), [(100.0, 0), (100.99, 0), (99.0, 0), (3_000_000_100.0, 3_000_000_000)])
def test_an_age_is_whole_seconds_and_never_negative(now: float, age: int) -> None:
    assert value_of(got(now=now).headers, b"age") == b"%d" % age


@pytest.mark.parametrize("line", ["user-agent: if-none-match: *, range: bytes=0-1", "x-if-none-match: *", "x-range: bytes=0-1"])
def test_what_only_looks_like_a_condition_is_none(line: str) -> None:
    assert got(line).status == 200


# -- conditions, as RFC 9110 section 13.2.2 orders them and RFC 9111 section 4.3.2 leaves them to a cache --------


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ('if-none-match: "a"', 304),
        ('if-none-match: W/"a"', 304),
        ("if-none-match: *", 304),
        ('if-none-match: "b", "a"', 304),
        ('if-none-match: "b"\nif-none-match: "a"', 304),
        ('if-none-match: "b"', 200),
        ("if-none-match: a", 200),
        (f"if-modified-since: {CHANGED}", 304),
        (f"if-modified-since: {AFTER}", 304),
        (f"if-modified-since: {BEFORE}", 200),
        ("if-modified-since: yesterday", 200),
        (f'if-none-match: "b"\nif-modified-since: {CHANGED}', 200),
        (f'if-none-match: "a"\nif-modified-since: {BEFORE}', 304),
        ('if-match: "b"', 200),  # these two are for the origin
        (f"if-unmodified-since: {BEFORE}", 200),
        ('if-match: "b"\nif-none-match: "a"', 304),
    ],
)
def test_conditions(lines: str, status: int, method: bytes) -> None:
    reply = got(lines, method=method)
    assert reply.status == status
    whole = got(method=method)
    if status == 200:
        assert reply == whole
    else:
        assert reply.body == b""
        assert reply.headers == whole.headers.replace(b"content-type: text/x\r\n", b""), "what tells the client which one it has"


@pytest.mark.parametrize(("status", "then"), [(200, 304), (203, 304), (404, 404), (301, 301), (500, 500)])
def test_only_answers_of_success_are_compared(status: int, then: int) -> None:
    assert got('if-none-match: "a"', status=status).status == then
    assert got("if-none-match: *", status=status).status == then


def test_without_last_modified_the_date_counts() -> None:
    date, earlier = (formatdate(WHEN + shift, usegmt=True) for shift in (0, -1))
    assert got(f"if-modified-since: {date}", last_modified=b"").status == 304
    assert got(f"if-modified-since: {earlier}", last_modified=b"junk").status == 200
    assert got(f"if-modified-since: {date}", last_modified=b"", date=0.0).status == 200
    assert got(f"range: bytes=0-1\nif-range: {date}", last_modified=b"").status == 200, "it is no strong validator"


@pytest.mark.parametrize("tag", ["a", 'w/"a"', 'W\\"a"', 'W"a"'])
def test_a_tag_that_an_origin_spelled_wrong_is_known_again(tag: str) -> None:
    assert got(f"if-none-match: {tag}", etag=tag.encode()).status == 304
    assert got(f'if-none-match: "x", {tag}', etag=tag.encode()).status == 304
    assert got(f"range: bytes=0-1\nif-range: {tag}", etag=tag.encode()).status == 200


# -- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status", "content"),
    [
        ("range: bytes=2-3", 206, b"23"),
        ("range: bytes=-3", 206, b"789"),
        ("range: bytes=0-", 206, CONTENT),
        ("range: bytes=5-1000", 206, b"56789"),
        ("range: bytes=10-", 416, b"Range Not Satisfiable"),
        ("range: bytes=-0", 416, b"Range Not Satisfiable"),
        ("range: lines=1-2", 200, CONTENT),
        ("range: bytes=3-2", 200, CONTENT),
        ("range: bytes=0-1\nrange: bytes=2-3", 200, CONTENT),
        ('range: bytes=0-1\nif-range: "a"', 206, b"01"),
        ('range: bytes=0-1\nif-range: "b"', 200, CONTENT),
        ('range: bytes=0-1\nif-range: W/"a"', 200, CONTENT),
        (f"range: bytes=0-1\nif-range: {CHANGED}", 206, b"01"),
        (f"range: bytes=0-1\nif-range: {AFTER}", 200, CONTENT),
        ('range: bytes=10-\nif-range: "b"', 200, CONTENT),
        ('range: bytes=0-1\nif-none-match: "a"', 304, b""),
        ('range: bytes=0-1\nif-none-match: "b"', 206, b"01"),
        ('range: bytes=0-1\nif-match: "a"', 206, b"01"),
        ('range: bytes=0-1\nif-match: "b"', 200, CONTENT),  # parts of two versions are never joined
        (f"range: bytes=0-1\nif-unmodified-since: {CHANGED}", 206, b"01"),
        (f"range: bytes=0-1\nif-unmodified-since: {BEFORE}", 200, CONTENT),
    ],
)
def test_ranges(lines: str, status: int, content: bytes) -> None:
    reply = got(lines)
    assert (reply.status, reply.body) == (status, content)
    assert LINES in reply.headers
    if status == 206:
        assert reply.headers.startswith(got().headers)
    if status == 416:
        assert (
            value_of(reply.headers, b"content-range") == b"bytes */10" and value_of(reply.headers, b"cache-control") == b"private, no-store"
        )


def test_head_and_what_is_no_200_have_no_parts() -> None:
    assert got("range: bytes=0-1", method=b"HEAD") == got(method=b"HEAD")
    assert got("range: bytes=0-1", status=404).body == CONTENT
    assert got("range: bytes=50-", status=404).status == 404
    assert got("range: bytes=0-", body=b"", length=0).status == 200


def test_a_date_shortly_before_the_answer_does_not_let_a_range_count() -> None:
    soon = formatdate(WHEN - 59, usegmt=True)
    assert got(f"range: bytes=0-1\nif-range: {soon}", last_modified=soon.encode()).status == 200


HOSTILE = [
    "bytes=" + ",".join(["0-"] * 300),
    "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 80, 2)),
    "bytes=0-" + "9" * 5000,
    "bytes=" + "," * 1000,
    "bytes=0-9,0-9",
    "bytes=-" + "9" * 30 + "," + "0-0",
    "bytes=\x00-1",
    "bytes=+1-2",
    "bytes=1-2;3-4",
    "bytes 0-1/10",
    "bytes=0-0,-0x5",
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_who_asks_for_too_much_gets_the_whole_once(value: str) -> None:
    assert got(f"range: {value}").body == CONTENT


SPEC = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda two: f"{min(two)}-{max(two)}")
OPEN = st.integers(0, 40).map(lambda first: f"{first}-")
SUFFIX = st.integers(0, 40).map(lambda count: f"-{count}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bodies")


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=36), st.lists(SPEC | OPEN | SUFFIX, min_size=1, max_size=6))
def test_parts_are_slices_whatever_the_body_is(folder: Path, content: bytes, specs: list[str]) -> None:
    """Beside a model that knows lists of bytes only; and from bytes, a file and a body that grows it is the same."""
    size = len(content)
    wanted: list[set[int]] = []
    for spec in specs:
        first, _, last = spec.partition("-")
        within = range(max(0, size - int(last)), size) if not first else range(int(first), min(size, int(last) + 1) if last else size)
        wanted.append(set(within))
    path = folder / "body"
    path.write_bytes(content)
    request = block(f"range: bytes={','.join(specs)}")
    one = entry(length=size)
    bodies: list[bytes | FileSpot] = [content, FileSpot(str(path), True)]
    replies: list[Any] = [answer(StoredAnswer(one, body, 1), b"GET", request, 100.0, b"") for body in bodies]
    replies.append(answer_growing(one, Growing(content), b"GET", request, 100.0, b""))

    async def check() -> None:
        for reply in replies:
            got = await bytes_of(reply)
            if reply.status == 200:
                assert got == content and sum(map(len, wanted)) > size
            elif reply.status == 416:
                assert not any(wanted) and value_of(reply.headers, b"content-range") == b"bytes */%d" % size
            else:
                assert reply.status == 206
                parts = parts_of(reply, got)
                taken = [at for first, end, _ in parts for at in range(first, end)]
                assert sorted(taken) == sorted(set().union(*wanted)), "each byte that was asked for, and once"
                assert all(content[first:end] == part and first < end for first, end, part in parts)

    asyncio.run(check())


def parts_of(reply: Reply, content: bytes) -> list[tuple[int, int, bytes]]:
    """(first, end, bytes) of each part, as a client reads them."""
    kind = value_of(reply.headers, b"content-type")
    assert kind is not None and len(values_of(reply.headers, b"content-type")) == 1
    if not kind.startswith(b"multipart/byteranges"):
        first, end, _ = span_of(reply.headers)
        return [(first, end, content)]
    assert value_of(reply.headers, b"content-range") is None
    mark = b"--" + kind.partition(b"boundary=")[2]
    before, *middle, after = content.split(mark)
    assert before == b"" and after == b"--\r\n"
    found = []
    for part in middle:
        head, _, rest = part.partition(b"\r\n\r\n")
        assert b"Content-Type: text/x" in head and rest.endswith(b"\r\n")
        first, end, _ = span_of(head.lower() + b"\r\n")
        found.append((first, end, rest[:-2]))
    return found


def span_of(head: bytes) -> tuple[int, int, int]:
    numbers = re.fullmatch(rb"bytes ([0-9]+)-([0-9]+)/([0-9]+)", value_of(head, b"content-range") or b"")
    assert numbers is not None
    first, last, size = map(int, numbers.groups())
    return first, last + 1, size


NAMES = ("range", "if-range", "if-none-match", "if-match", "if-modified-since", "if-unmodified-since")


VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4))
def test_any_lines_have_an_answer(lines: list[tuple[str, str]]) -> None:
    raw = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
    reply = answer(StoredAnswer(entry(), CONTENT, 1), b"GET", raw, 100.0, b"")
    assert isinstance(reply, Reply) and reply.status in (200, 206, 304, 416)
    assert reply.is_stored, "so that the response hooks of the other plugins see it"


# -- files -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(CONTENT)
    return path


async def test_a_file_in_memory_is_opened_at_once_and_one_on_a_disk_in_a_thread(file: Path) -> None:
    near = got(body=FileSpot(str(file), True))
    assert isinstance(near, Reply)
    far = await got(body=FileSpot(str(file)))
    for reply in (near, far):
        assert reply.headers == got().headers and isinstance(reply.body, FileBody), "so that it goes by sendfile"
        assert reply.body.ref.path == os.fsencode(file) and await bytes_of(reply) == CONTENT
    part = await got("range: bytes=2-3", FileSpot(str(file)))
    assert isinstance(part.body, FileBody) and await bytes_of(part) == b"23"


def test_what_needs_no_body_opens_no_file() -> None:
    nowhere = FileSpot("/nowhere", True)
    assert got('if-none-match: "a"', nowhere).status == 304
    assert got("range: bytes=10-", nowhere).status == 416
    head = got(body=nowhere, method=b"HEAD")
    assert isinstance(head.body, UnreadBody) and head.body.length == 10


@pytest.mark.parametrize("is_near", [True, False])
async def test_a_body_that_is_gone_or_cut_off_is_a_miss(file: Path, is_near: bool) -> None:
    async def serve(path: Path) -> Reply:
        reply = got(body=FileSpot(str(path), is_near))
        made: Reply = reply if isinstance(reply, Reply) else await reply
        return made

    with pytest.raises(BodyGone) as missing:
        await serve(file.with_name("none"))
    file.write_bytes(b"0123")
    with pytest.raises(BodyGone) as short:
        await serve(file)
    with pytest.raises(BodyGone):
        await serve(file.parent)
    assert missing.value.is_lost and short.value.is_lost


async def test_a_disk_that_hangs_is_not_waited_for_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_bodies, "PATIENCE", 0.01)
    fifo = file.with_name("fifo")
    os.mkfifo(fifo)
    monkeypatch.setattr(stored_bodies, "_opened", lambda *_: os.close(os.open(fifo, os.O_RDONLY)))  # until somebody writes
    with pytest.raises(BodyGone) as caught:
        await got(body=FileSpot(str(file)))
    assert not caught.value.is_lost
    os.close(os.open(fifo, os.O_WRONLY))


# -- bodies that grow ---------------------------------------------------------------------------


def growing(headers: str = "", method: bytes = b"GET", length: int | None = None, **more: Any) -> Reply:
    return answer_growing(entry(**more), Growing(CONTENT, 0, length), method, block(headers), 107.0, LINES)


async def test_who_joins_gets_the_same_as_of_a_stored_one() -> None:
    assert growing().headers == got().headers and await bytes_of(growing()) == CONTENT
    assert growing('if-none-match: "a"') == got('if-none-match: "a"')
    assert growing("range: bytes=10-") == got("range: bytes=10-")
    part = growing("range: bytes=2-3")
    assert part.headers == got("range: bytes=2-3").headers and await bytes_of(part) == b"23"
    assert growing('if-none-match: "a"', status=404).status == 404
    head = growing(method=b"HEAD")
    assert isinstance(head.body, UnreadBody) and head.body.length == 10


def test_of_one_that_nobody_knows_the_length_of_there_are_no_parts() -> None:
    for lines in ("range: bytes=0-1", "range: bytes=10-"):
        assert growing(lines, length=-1).status == 200
    assert growing('if-none-match: "a"', length=-1).status == 304
