"""The ways of a request through the cache, on a real store: answered, fetched and stored, validated, waited for, or let pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Cancel, Credit, Data, Response, Routed
from pingap.stages.plugins.cache.store.part_file import PartFile
from tests.plugins.cache.site import FRESH, Site, line, status_of
from tests.plugins.script import ACCEPT, CONFIG, PLUGINS, ROUTING, credit, data

STALE = 'cache-control: max-age=10\nage: 100\netag: "v1"'
BEHIND = 'cache-control: max-age=10, stale-while-revalidate=1000\nage: 100\netag: "v1"'
ON_ERROR = 'cache-control: max-age=10, stale-if-error=1000\nage: 100\netag: "v1"'


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Site(tmp_path) as one:
        yield one


# -- hits and misses -----------------------------------------------------------------


async def test_what_is_stored_is_answered_without_the_origin(site: Site) -> None:
    first = await site.stored(body=b"hello")
    assert (status_of(first), first.body) == ("miss", b"hello")
    hit = await site.ask()
    assert (status_of(hit), hit.body, hit.status) == ("hit", b"hello", 200)
    assert line(hit, "age") == ["0"]
    assert hit.report.context["cache_status"] == "hit"
    assert hit.report.context["cache_lookup_time"] > 0
    assert "cache_lock_time" not in hit.report.context


async def test_another_target_host_scheme_or_location_is_another_answer(site: Site) -> None:
    await site.stored()
    https = site.stage.request().peer._replace(scheme="https")
    for more in ({"target": "/b"}, {"target": "/a?"}, {"host": b"other"}, {"host": b"example.com:81"}, {"peer": https}):
        other = await site.ask(**more)
        assert isinstance(other, Routed), more
        await site.answer(other, "cache-control: no-store")


async def test_head_is_answered_from_what_get_stored_and_never_poisons_it(site: Site) -> None:
    head = await site.ask(method=b"HEAD")
    assert isinstance(head, Routed)
    assert head.method == b"HEAD"
    answer = await site.answer(head, FRESH, b"", length=5)
    assert answer.length == 5
    await site.settle()
    get = await site.ask()
    assert isinstance(get, Routed), "an answer to HEAD was stored for GET"
    await site.answer(get, body=b"hello")
    await site.settle()
    hit = await site.ask(method=b"HEAD")
    assert (status_of(hit), hit.body, hit.length) == ("hit", b"", 5)


async def test_a_part_that_is_missed_is_cut_out_of_the_whole(site: Site) -> None:
    asked = await site.ask(headers="range: bytes=1-2")
    assert line(asked, "range") == []
    first = await site.answer(asked, body=b"hello")
    assert (first.status, first.body, line(first, "content-range")) == (206, b"el", ["bytes 1-2/5"])
    await site.settle()
    assert (await site.ask()).body == b"hello"
    beyond = await site.ask(headers="range: bytes=9-")
    assert (beyond.status, line(beyond, "content-range")) == (416, ["bytes */5"])


async def test_a_part_that_the_origin_sends_unasked_is_not_stored(site: Site) -> None:
    await site.answer(await site.ask(), FRESH + "\ncontent-range: bytes 0-1/5", b"he", status=206)
    await site.settle()
    again = await site.ask()
    assert isinstance(again, Routed)
    await site.answer(again)


async def test_conditions_of_a_client_are_answered_here_and_not_by_the_origin(site: Site) -> None:
    asked = await site.ask(headers='if-none-match: "v1"')
    assert line(asked, "if-none-match") == []
    first = await site.answer(asked, FRESH + '\netag: "v1"', b"hello")
    assert (first.status, first.body) == (304, b"")
    await site.settle()
    assert (await site.ask()).body == b"hello"
    assert (await site.ask(headers='if-none-match: "v1"')).status == 304
    assert (await site.ask(headers='if-none-match: "v0"')).status == 200


async def test_vary_keeps_an_answer_for_each_choice(site: Site) -> None:
    for language in ("de", "en", "fr"):
        await site.stored(headers=FRESH + "\nvary: accept-language", body=language.encode(), asked=f"accept-language: {language}")
    for language in ("de", "en", "fr"):
        hit = await site.ask(headers=f"accept-language: {language}")
        assert (status_of(hit), hit.body) == ("hit", language.encode())
    other = await site.ask(headers="accept-language: it")
    assert isinstance(other, Routed)
    await site.answer(other, "vary: *")


@pytest.mark.parametrize(
    "said", ["cache-control: no-store", "cache-control: private, max-age=9", FRESH + "\nset-cookie: a=b", FRESH + "\nvary: *"]
)
async def test_what_is_not_for_all_is_not_stored_and_remembered(site: Site, said: str) -> None:
    first = await site.answer(await site.ask(), said, b"mine")
    assert first.body == b"mine"
    assert status_of(first) == "uncacheable"
    await site.settle()
    asked = [await site.ask(), await site.ask()]
    assert all(isinstance(one, Routed) for one in asked), "requests for what cannot be stored wait for each other"
    for one in asked:
        again = await site.answer(one, said, b"yours")
        assert (again.body, status_of(again)) == (b"yours", "uncacheable"), "it was known before"


# -- validation, stale -------------------------------------------------------------------


async def test_an_expired_answer_is_validated_and_freshened_by_its_304(site: Site) -> None:
    await site.stored(headers=STALE, body=b"old")
    asked = await site.ask()
    assert line(asked, "if-none-match") == ['"v1"']
    answer = await site.answer(asked, FRESH + '\netag: "v1"', b"", status=304)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"old", "revalidated")
    await site.settle()
    assert status_of(await site.ask()) == "hit"


async def test_an_expired_answer_is_replaced_by_a_new_one(site: Site) -> None:
    await site.stored(headers=STALE, body=b"old")
    answer = await site.answer(await site.ask(), FRESH, b"new")
    assert (answer.body, status_of(answer)) == (b"new", "expired")
    await site.settle()
    assert (await site.ask()).body == b"new"


async def test_what_is_stale_is_given_out_while_it_is_validated_behind(site: Site) -> None:
    await site.stored(headers=BEHIND, body=b"old")
    out = await site.stage.run(site.stage.request("/a", sid=site.next()))
    [answer] = [one for one in out if isinstance(one, Response)]
    [behind] = [one for one in out if isinstance(one, Routed)]
    assert (answer.body, status_of(answer)) == (b"old", "stale-updating")
    assert (behind.sid >> 32, line(behind, "if-none-match")) == (PLUGINS, ['"v1"'])
    again = await site.ask()
    assert status_of(again) == "stale-updating", "a second request asks the origin, too"
    assert await site.origin(behind, FRESH, b"new") == []
    await site.settle()
    assert (await site.ask()).body == b"new"


async def test_the_origin_sees_a_request_behind_as_plugins_of_the_way_to_it_make_it(tmp_path: Path) -> None:
    name = {"category": "request_id"}
    async with Site(tmp_path, more={"id": name}) as site:
        await site.stored(headers=BEHIND, body=b"old")
        [behind] = [one for one in await site.stage.run(site.stage.request("/a", sid=site.next())) if isinstance(one, Routed)]
        assert await site.origin(behind, FRESH + '\netag: "v1"', b"", status=304) == []
        await site.settle()
        assert status_of(await site.ask()) == "hit"


async def test_a_request_behind_that_fails_leaves_what_there_is_and_backs_off(site: Site) -> None:
    await site.stored(headers=BEHIND, body=b"old")
    [behind] = [one for one in await site.stage.run(site.stage.request("/a", sid=site.next())) if isinstance(one, Routed)]
    assert await site.origin(behind, "", b"", status=503) == []
    await site.settle()
    for _ in range(3):
        answer = await site.ask()
        assert (answer.body, status_of(answer)) == (b"old", "stale-updating")


@pytest.mark.parametrize("how", [{"status": 503}, {"status": 502, "error": "connect_failed"}])
async def test_where_the_origin_fails_what_is_stale_is_used(site: Site, how: dict[str, Any]) -> None:
    await site.stored(headers=ON_ERROR, body=b"old")
    answer = await site.answer(await site.ask(), "", b"broken", **how)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"old", "stale")
    again = await site.ask()
    assert status_of(again) == "stale", "the next request rushes to an origin that has just failed"


@pytest.mark.slow  # a back-off of a second
async def test_a_failing_origin_is_asked_by_one_after_the_other_and_never_by_all(site: Site) -> None:
    asked = await site.ask()
    for _ in range(3):
        assert await site.ask() is None
    out = await site.origin(asked, "", b"broken", status=502, error="connect_failed")
    [second] = [one for one in out if isinstance(one, Routed)]  # the first may have failed by itself
    out += await site.origin(second, "", b"broken", status=502, error="connect_failed")
    async with asyncio.timeout(20):
        while len(answers := [one for one in out if isinstance(one, Response)]) < 4:
            await asyncio.sleep(0.001)
            out += site.stage.out()
    assert [one.status for one in answers] == [502] * 4, "who waited hears of the failure, too"
    again = await site.got()
    if isinstance(again, Response):
        again = await site.got()
    assert (await site.answer(again, FRESH, b"well")).body == b"well"


async def test_a_request_that_its_backend_does_not_bear_keeps_nobody_from_the_page(site: Site) -> None:
    bad = await site.ask(headers="x-broken: 1")
    assert await site.ask() is None
    out = await site.origin(bad, "", b"oops", status=500)
    for _ in range(3):
        [answer] = [one for one in out if isinstance(one, Response)]
        assert (answer.status, answer.body) == (500, b"oops"), "each gets what the backend says to it"
        [asked] = [one for one in out if isinstance(one, Routed)]
        assert await site.ask(headers="x-broken: 1") is None
        out = await site.origin(asked, "", b"oops", status=500)
    [last] = [one for one in out if isinstance(one, Routed)]
    assert (await site.answer(last, FRESH, b"well")).body == b"well"


# -- several at once ----------------------------------------------------------------------


async def test_of_many_requests_at_once_one_goes_to_the_origin(site: Site) -> None:
    asked = await site.ask()
    for _ in range(20):
        assert await site.ask() is None
    out = await site.origin(asked, FRESH, b"hello")
    await site.settle()
    out += await site.stage.run()
    answers = [one for one in out if isinstance(one, Response)]
    assert [one.body for one in answers] == [b"hello"] * 21
    assert not [one for one in out if isinstance(one, Routed)]
    waited = [one for one in answers if status_of(one) == "hit"]
    assert len(waited) == 20
    assert all(one.report and one.report.context["cache_lock_time"] >= 0 for one in waited)
    assert all(line(one, "x-cache-lock") for one in waited)


async def test_a_client_that_leaves_before_the_head_leaves_its_fetch_to_others(site: Site) -> None:
    asked = await site.ask()
    assert await site.ask() is None
    out = await site.stage.run(Cancel(asked.sid, "client_closed", True))
    assert not [one for one in out if isinstance(one, Cancel | Routed)], "upstream is cancelled, or asked again"
    out = await site.origin(asked, FRESH, b"hello")
    await site.settle()
    out += await site.stage.run()
    [answer] = [one for one in out if isinstance(one, Response)]
    assert answer.body == b"hello"
    assert answer.sid != asked.sid


async def test_who_waits_and_leaves_is_forgotten(site: Site) -> None:
    asked = await site.ask()
    sid = site.next()
    assert await site.ask(sid=sid) is None
    assert await site.stage.run(Cancel(sid, "client_closed", True)) == []
    await site.answer(asked)


# -- long bodies ------------------------------------------------------------------------------

BODY = bytes(range(256)) * 2048
"""512 KiB: more than one window."""


async def pour(site: Site, asked: Routed, body: bytes = BODY, ended: bool = True, at: int = 0) -> list[Any]:
    """Upstream sends as much as it has credit for, until all is sent; what went out."""
    out: list[Any] = []
    room = 256 * 1024
    async with asyncio.timeout(20):
        while at < len(body):
            piece = body[at : at + min(65536, room)]
            if piece:
                at += len(piece)
                room -= len(piece)
                site.stage.give(data(piece, ended and at == len(body), sid=asked.sid))
            await asyncio.sleep(0.001)
            new = site.stage.out()
            room += sum(one.bytes for one in new if isinstance(one, Credit) and one.sid == asked.sid)
            out += new
            if any(isinstance(one, Cancel) for one in new):
                break
    return out


def of(out: list[Any], sid: int) -> list[Any]:
    """What a client got."""
    return [one for one in out if isinstance(one, Response | Data) and one.sid == sid]


@pytest.mark.parametrize("length", [len(BODY), None])
async def test_a_long_body_is_read_at_each_clients_own_pace(site: Site, length: int | None) -> None:
    asked = await site.ask()
    joins = site.next()
    assert await site.ask(sid=joins) is None
    out = await site.origin(asked, FRESH, b"", ended=False, length=length)
    out += await pour(site, asked)  # nobody has read a byte more than a window: upstream does not wait for them
    await site.settle()
    assert status_of(of(out, joins)[0]) == "hit"
    for sid in (asked.sid, joins):
        body, last = await site.whole(sid, of(out, sid))
        assert body == BODY
        assert last.ended
    hit = await site.got()
    assert (await site.whole(hit.sid, [hit]))[0] == BODY


async def test_a_part_of_a_body_that_grows_is_cut_out_of_it(site: Site) -> None:
    asked = await site.ask(headers="range: bytes=10-19")
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    out += await pour(site, asked)
    body, _ = await site.whole(asked.sid, of(out, asked.sid))
    assert (of(out, asked.sid)[0].status, body) == (206, BODY[10:20])


async def test_a_fill_goes_on_when_its_client_leaves(site: Site) -> None:
    asked = await site.ask()
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    out += await pour(site, asked, BODY[:131072], ended=False)
    out += await site.stage.run(Cancel(asked.sid, "client_closed", True))
    out += await pour(site, asked, at=131072)
    assert not [one for one in out if isinstance(one, Cancel)], "upstream is cancelled"
    await site.settle()
    hit = await site.got()
    assert status_of(hit) == "hit"
    assert (await site.whole(hit.sid, [hit]))[0] == BODY


@pytest.mark.slow  # a back-off of a second
async def test_a_body_that_breaks_off_is_not_stored_and_cuts_who_reads_it(site: Site) -> None:
    asked = await site.ask()
    joins = site.next()
    assert await site.ask(sid=joins) is None
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    out += await pour(site, asked, BODY[:131072], ended=False)
    out += await site.stage.run(data(b"", False, "upstream_closed", sid=asked.sid))
    for sid in (asked.sid, joins):
        body, last = await site.whole(sid, of(out, sid))
        assert body == BODY[: len(body)]
        assert last.error
    await site.settle()
    again = await site.ask()
    assert not isinstance(again, Response) or again.status == 503
    if again is None:
        async with asyncio.timeout(5):
            while not (found := [one for one in site.stage.out() if isinstance(one, Routed)]):
                await asyncio.sleep(0.01)
        [again] = found
    await site.answer(again)


async def test_upstream_that_is_lost_in_mid_body_cuts_who_reads_it(site: Site) -> None:
    asked = await site.ask()
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    out += await pour(site, asked, BODY[:131072], ended=False)
    site.stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
    _, last = await site.whole(asked.sid, of(out, asked.sid))
    assert last.error == "stage_lost"


@pytest.mark.slow
@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_body_without_a_length_that_outgrows_the_cache_is_sent_whole_and_not_stored(tmp_path: Path, is_slow: bool) -> None:
    async with Site(tmp_path, max_file_size=100_000) as site:
        asked = await site.ask()
        out = await site.origin(asked, FRESH, b"", ended=False)
        big = BODY * 6
        if is_slow:  # reads nothing yet: no more than a window or two is taken of upstream
            pouring = asyncio.ensure_future(pour(site, asked, big))
            await asyncio.sleep(0.3)
            assert not pouring.done(), "3 MiB were taken for a client that reads nothing"
            pouring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pouring
            out = await site.stage.run(Cancel(asked.sid, "client_closed", True))
            async with asyncio.timeout(5):
                while not any(isinstance(one, Cancel) for one in out):
                    await asyncio.sleep(0.01)
                    out += site.stage.out()
            return
        body = await read_and_pour(site, asked, out, big)
        assert body == big
        await site.settle()
        again = await site.ask()
        assert isinstance(again, Routed)
        await site.answer(again)


async def read_and_pour(site: Site, asked: Routed, out: list[Any], body: bytes) -> bytes:
    """A client that reads all the while."""
    got, at, room = b"", 0, 256 * 1024
    async with asyncio.timeout(20):
        while True:
            for one in out:
                if isinstance(one, Credit) and one.sid == asked.sid:
                    room += one.bytes
                elif isinstance(one, Response | Data) and one.sid == asked.sid:
                    piece = one.payload if isinstance(one, Data) else one.body
                    got += piece
                    if piece:
                        site.stage.give(credit(len(piece), sid=asked.sid))
                    if one.ended:
                        return got
                    assert not (isinstance(one, Data) and one.error), one
            piece = body[at : at + min(65536, room)]
            if piece:
                at += len(piece)
                room -= len(piece)
                site.stage.give(data(piece, at == len(body), sid=asked.sid))
            await asyncio.sleep(0.001)
            out = site.stage.out()


async def test_a_body_whose_length_is_too_much_goes_past_the_cache(tmp_path: Path) -> None:
    async with Site(tmp_path, max_file_size=100_000) as site:
        answer = await site.answer(await site.ask(), FRESH, b"x" * 100_001)
        assert answer.body == b"x" * 100_001
        await site.settle()
        again = [await site.ask(), await site.ask()]
        assert all(isinstance(one, Routed) for one in again)
        for one in again:
            await site.answer(one)


@pytest.mark.parametrize(("first", "last"), [(0, 99), (70_000, 400_001), (450_000, 524_287)])
async def test_a_part_of_what_is_not_stored_is_cut_out_of_what_goes_past(tmp_path: Path, first: int, last: int) -> None:
    async with Site(tmp_path, max_file_size=100_000) as site:
        asked = await site.ask(headers=f"range: bytes={first}-{last}")
        assert line(asked, "range") == []
        out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
        [answer] = [one for one in out if isinstance(one, Response)]
        assert (answer.status, answer.length) == (206, last - first + 1)
        assert line(answer, "content-range") == [f"bytes {first}-{last}/{len(BODY)}"]
        assert await read_and_pour(site, asked, out, BODY) == BODY[first : last + 1]
        await site.settle()
        again = await site.ask(headers="range: bytes=5-6")
        assert line(again, "range") == ["bytes=5-6"], "the whole of it is fetched again for a part"
        await site.answer(again, "content-range: bytes 5-6/524288", BODY[5:7], status=206)


@pytest.mark.parametrize(
    ("asked", "said", "status", "body"),
    [
        ("range: bytes=1-2", "", 206, b"el"),
        ("range: bytes=9-", "", 416, b"Range Not Satisfiable"),
        ('range: bytes=1-2\nif-range: "v1"', 'etag: "v1"', 206, b"el"),
        ('range: bytes=1-2\nif-range: "v0"', 'etag: "v1"', 200, b"hello"),
        ("range: bytes=x", "", 200, b"hello"),
    ],
)
async def test_a_part_of_what_may_not_be_stored_is_cut_out_too(site: Site, asked: str, said: str, status: int, body: bytes) -> None:
    answer = await site.answer(await site.ask(headers=asked), f"cache-control: private\n{said}", b"hello")
    assert (answer.status, answer.body) == (status, body)
    assert line(answer, "content-range") == {206: ["bytes 1-2/5"], 416: ["bytes */5"], 200: []}[status]
    assert line(answer, "cache-control") == (["private"] if status != 416 else ["private, no-store"])


async def test_nobody_waits_for_what_is_behind_the_part(tmp_path: Path) -> None:
    async with Site(tmp_path, max_file_size=100_000) as site:
        asked = await site.ask(headers="range: bytes=10-19")
        out = await site.origin(asked, FRESH, BODY[:15], ended=False, length=len(BODY))
        site.stage.give(data(BODY[15:100], False, sid=asked.sid))
        assert (await site.whole(asked.sid, out))[0] == BODY[10:20]
        await asyncio.sleep(0)
        assert site.stage.actor.held() == 0

        for is_client in (True, False):
            asked = await site.ask(f"/{is_client}", headers="range: bytes=10-99")
            out = await site.origin(asked, FRESH, BODY[:15], ended=False, length=len(BODY))
            if is_client:
                out = await site.stage.run(Cancel(asked.sid, "client_closed", True))
                out = await site.stage.run(data(BODY[15:20], False, sid=asked.sid))
                assert any(isinstance(one, Cancel) for one in out)
            else:
                site.stage.give(Data(asked.sid, b"", False, "gateway_timeout"))
                body, end = await site.whole(asked.sid, out)
                assert (body, end.error) == (BODY[10:15], "gateway_timeout")


async def test_a_disk_that_is_full_in_mid_body_harms_no_client(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await site.ask()
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    write = PartFile.write

    def full(self: PartFile, piece: bytes) -> Any:
        if self.size > 100_000:
            self.failure = "No space left on device"
            return None
        return write(self, piece)

    monkeypatch.setattr(PartFile, "write", full)
    assert await read_and_pour(site, asked, out, BODY) == BODY
    await site.settle()
    again = await site.ask()
    assert isinstance(again, Routed)
    await site.answer(again)


async def test_a_part_file_that_cannot_be_opened_is_no_part_of_the_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await site.ask()
    assert await site.ask() is None

    def broken(*args: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("pingap.stages.plugins.cache.flights.lease.Growth", broken)
    out = await site.origin(asked, FRESH, b"", ended=False, length=len(BODY))
    assert await read_and_pour(site, asked, out, BODY) == BODY
    monkeypatch.undo()
    async with asyncio.timeout(5):
        while not (found := [one for one in site.stage.out() + out if isinstance(one, Routed)]):
            await asyncio.sleep(0.01)
    await site.answer(found[0])


# -- other plugins -----------------------------------------------------------------------------

ZIP = {"category": "compression", "gzip_level": 6}
HEADER = {"category": "response_headers", "add_headers": ["x-made:here"]}


async def test_response_hooks_of_other_plugins_run_for_hits(tmp_path: Path) -> None:
    async with Site(tmp_path, more={"h": HEADER}) as site:
        first = await site.stored(body=b"hello")
        assert line(first, "x-made") == ["here"]
        hit = await site.ask()
        assert status_of(hit) == "hit"
        assert line(hit, "x-made") == ["here"], "once, for it is not stored with it"


async def test_a_plugin_that_replies_on_the_way_to_the_origin_gives_the_lease_back(tmp_path: Path) -> None:
    mock = {"category": "mock", "path": "/a", "step": "proxy_upstream", "status": 418, "data": "no"}
    async with Site(tmp_path, more={"m": mock}) as site:
        for _ in range(2):
            answer = await site.ask()
            assert isinstance(answer, Response), "a request waits for one that was answered by a plugin"
            assert (answer.status, status_of(answer)) == (418, "")


async def test_several_caches_of_a_location_are_asked_one_after_another(tmp_path: Path) -> None:
    second = {"category": "cache", "directory": str(tmp_path / "second"), "skip": "^/b"}
    async with Site(tmp_path, more={"d": second}, skip="^/a") as site:
        for target in ("/a", "/b"):
            await site.stored(target, body=target.encode())
            hit = await site.ask(target)
            assert (status_of(hit), hit.body) == ("hit", target.encode())


@pytest.mark.parametrize(
    ("first", "second", "target", "headers", "status", "body"),
    [
        ({"skip": "^/a"}, {}, "/a", "", 204, b""),
        ({}, {"skip": "^/a"}, "/a", "", 204, b""),
        ({"skip": "^/a"}, {"skip": "^/a"}, "/a", "", 204, b""),
        ({"purge_ip_list": ["192.0.2.1"], "bypass_cookies": ["in"]}, {}, "/*", "", 200, b"purged: 1, fail: 0"),
        ({"purge_ip_list": []}, {"purge_ip_list": []}, "/a", "", 403, b"Forbidden, ip is not allowed"),
        ({"bypass_cookies": ["in"]}, {}, "/*", "", 200, b"purged: 2, fail: 0"),
        ({}, {}, "/a", "pingap-purge: never", 400, b"Pingap-Purge is soft or hard"),
    ],
)
async def test_a_purge_goes_through_all_caches_of_a_location(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], target: str, headers: str, status: int, body: bytes
) -> None:
    purgers = {"purge_ip_list": ["0.0.0.0/0", "::/0"]}
    behind = {"category": "cache", "directory": str(tmp_path / "second"), **purgers, **second}
    async with Site(tmp_path, more={"d": behind}, **purgers | first) as site:
        for asked in ("", "cookie: in=1"):
            found = await site.ask("/a", asked)
            if isinstance(found, Routed):
                await site.answer(found)
                await site.settle()
        answer = await site.got(target, headers, method=b"PURGE")
        assert (answer.status, answer.body) == (status, body)
        for asked in ("cookie: in=1", "")[: 0 if status > 300 else 1 if body.startswith(b"purged: 1") else 2]:
            again = await site.ask("/a", asked)
            assert isinstance(again, Routed), "a cache has not purged it"
            await site.answer(again, "cache-control: no-store")


@pytest.mark.parametrize("said", [FRESH, "cache-control: no-store"])
@pytest.mark.parametrize("asked", ["", "cookie: in=1"])
async def test_what_a_cache_of_the_backends_says_of_itself_is_not_taken_for_ours(tmp_path: Path, said: str, asked: str) -> None:
    async with Site(tmp_path, bypass_cookies=["in"]) as site:
        answer = await site.answer(await site.ask(headers=asked), f"x-cache-status: HIT\nx-cache-lock: 7ms\n{said}")
        expected = ["bypass"] if asked else ["miss"] if said == FRESH else ["uncacheable"]
        assert line(answer, "x-cache-status") == expected
        assert line(answer, "x-cache-lock") == []


async def test_a_reload_that_changes_the_section_keeps_what_is_stored(site: Site, tmp_path: Path) -> None:
    await site.stored()
    asked = await site.ask("/b")
    site.stage.load({"c": {"category": "cache", "directory": str(tmp_path / "store"), "max_ttl": "1h"}})
    await site.stage.run()
    assert status_of(await site.ask()) == "hit"
    await site.answer(asked, body=b"of the generation before")
    await site.settle()
    assert (await site.ask("/b")).body == b"of the generation before"


async def test_a_reload_without_the_cache_lets_its_requests_end(site: Site) -> None:
    asked = await site.ask("/b")
    site.stage.load({"h": HEADER})
    await site.stage.run()
    assert (await site.answer(asked)).body == b"one"
    assert isinstance(await site.ask("/b", sid=site.next()), Routed)
    site.stage.actor.streams.stop()


# -- methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"MADEUP"])
async def test_an_unsafe_method_makes_what_is_stored_invalid(site: Site, method: bytes) -> None:
    await site.stored()
    asked = await site.ask(method=method)
    assert isinstance(asked, Routed)
    answer = await site.answer(asked, FRESH, b"done")
    assert (answer.body, status_of(answer)) == (b"done", "bypass")
    await site.settle()
    again = await site.ask()
    assert isinstance(again, Routed), "the answer of before is still given out"
    await site.answer(again)


async def test_an_unsafe_method_that_failed_changes_nothing(site: Site) -> None:
    await site.stored()
    await site.answer(await site.ask(method=b"POST"), "", b"no", status=500)
    await site.settle()
    assert status_of(await site.ask()) == "hit"


async def test_an_answer_that_was_asked_for_before_a_change_is_not_stored_after_it(site: Site) -> None:
    asked = await site.ask()
    await site.answer(await site.ask(method=b"POST"), "", b"done")
    await site.settle()
    await site.answer(asked, body=b"of before")
    await site.settle()
    again = await site.ask()
    assert isinstance(again, Routed), "an answer of before the change was stored after it"
    await site.answer(again)


@pytest.mark.parametrize("said", ["authorization: Basic eDp5", "authorization: Bearer t\ncookie: a=b"])
async def test_an_answer_to_authorization_is_nobody_elses(site: Site, said: str) -> None:
    await site.answer(await site.ask(headers=said), FRESH, b"mine")
    await site.settle()
    other = await site.ask()
    assert isinstance(other, Routed)
    await site.answer(other, FRESH + ", public", b"all")
