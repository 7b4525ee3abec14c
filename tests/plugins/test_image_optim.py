"""image_optim, as a client meets it: what it gets, what is said of it, and what is left alone."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pingap.config.problems import Problem
from pingap.plugin import JobFailed, Overloaded
from pingap.stages.messages import UNKNOWN, Cancel, Data, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin import image_optim
from pingap.stages.plugins.builtin.images import results as image_results
from pingap.stages.plugins.builtin.images.budget import ImageBudget
from pingap.stages.plugins.builtin.images.results import ImageResults
from pingap.stages.plugins.builtin.images.work import ConvertedImage, Qualities, convert_image
from pingap.stages.plugins.processes import JobProcesses
from pingap.stages.plugins.work import work
from tests.kit.context import FakeContext
from tests.kit.images import file, opened, photo
from tests.plugins.script import SID, Stage, bodies, data, lines

Section = dict[str, Any]
SECTION: Section = {"category": "image_optim", "output_types": "avif, webp"}
JPEG = file(photo(), "JPEG", quality=97)
PNG = file(photo(), "PNG")
WEBP = "accept: image/webp,image/*"
TOLD = 'content-type: image/jpeg\netag: "abc"\naccept-ranges: bytes\nlast-modified: Sat, 28 Nov 2026 10:00:00 GMT'

Job = Callable[..., Awaitable[Any]]


class Images:
    """A stage whose jobs are done in threads here, as processes would do them."""

    def __init__(self, section: Section) -> None:
        self.stage = Stage({"p": section})
        self.jobs: list[tuple[Any, ...]] = []
        self.job: Job = self._in_thread

    async def __aenter__(self) -> Images:
        await self.stage.__aenter__()
        self.stage.actor._processes.run = self._run  # type: ignore[method-assign,assignment]
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.stage.__aexit__(*why)

    def _run(self, call: Any, *args: Any, timeout: float) -> Awaitable[Any]:
        args = pickle.loads(pickle.dumps(args))
        self.jobs.append(args)
        return self.job(call, *args)

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, call, *args)

    async def get(
        self,
        headers: str = WEBP,
        answer: str = TOLD,
        body: bytes = JPEG,
        sid: int = SID,
        method: bytes = b"GET",
        path: str = "/i.jpg",
        **more: Any,
    ) -> Response:
        """The whole answer to one request."""
        stage = self.stage
        routed = await stage.one(stage.request(path, headers, sid=sid, method=method))
        assert isinstance(routed, Routed)
        more.setdefault("length", len(body))
        stage.give(stage.response(answer, body, sid=sid, **more))
        return await self.answer(sid)

    async def answer(self, sid: int = SID) -> Response:
        stage = self.stage
        found: list[Any] = []
        async with asyncio.timeout(20):
            while not (found and (found[-1].ended or isinstance(found[-1], Data))):
                found += [one for _, one in stage.context.sent if one.sid == sid]
                stage.context.sent = [(to, one) for to, one in stage.context.sent if one.sid != sid]
                await asyncio.sleep(0.002)
        assert isinstance(found[0], Response)
        self.body = bodies(found)
        return found[0]

    @property
    def outcomes(self) -> float:
        return self.stage.context.counted.get("image_optim_images", 0)


def said(answer: Response, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answer.headers) if line.startswith(f"{name}: ")]


# -- what is converted ----------------------------------------------------------------------------------


async def test_an_image_comes_as_the_type_that_the_client_likes() -> None:
    async with Images(SECTION) as images:
        answer = await images.get()
        assert (answer.status, answer.length) == (200, len(images.body))
        assert opened(images.body).format == "WEBP"
        assert len(images.body) < len(JPEG)
        assert said(answer, "content-type") == ["image/webp"]
        assert said(answer, "vary") == ["accept"]
        assert said(answer, "accept-ranges") == []
        assert said(answer, "last-modified") == ["Sat, 28 Nov 2026 10:00:00 GMT"]
        (etag,) = said(answer, "etag")
        assert etag.startswith('W/"abc-')
        assert answer.report is not None
        assert answer.report.context["image_optim"] == "webp"
        assert images.outcomes == 1


@pytest.mark.parametrize(
    ("accept", "types", "form"),
    [
        ("accept: image/avif,image/webp", "avif, webp", "AVIF"),
        ("accept: image/avif,image/webp", ["webp", "avif"], "WEBP"),
        ("accept: image/avif;q=0,image/webp", "avif, webp", "WEBP"),
        ("accept: image/*,*/*", "avif, webp", "JPEG"),
        ("", "avif, webp", "JPEG"),
        ("accept: image/webp", "", "JPEG"),
        ("accept: image/avif\naccept: image/webp;q=0.5", "webp,avif", "AVIF"),
    ],
)
async def test_the_accept_header_and_the_order_of_the_types_decide(accept: str, types: Any, form: str) -> None:
    async with Images(SECTION | {"output_types": types, "avif_speed": 6}) as images:
        await images.get(accept)
        assert opened(images.body).format == form
        assert len(images.body) < len(JPEG)


@pytest.mark.parametrize(
    ("key", "value", "index"),
    [("png_quality", 50, 0), ("jpeg_quality", 50, 1), ("webp_quality", 50, 2), ("avif_quality", 50, 3), ("avif_speed", 2, 4)],
)
async def test_qualities_go_to_the_encoder(key: str, value: int, index: int) -> None:
    async with Images(SECTION) as images:
        await images.get()
        before = images.jobs[0][3]
        assert tuple(before) == (90, 80, 80, 75, 8)
    async with Images(SECTION | {key: value}) as images:
        await images.get()
        after = images.jobs[0][3]
        assert [place for place in range(5) if before[place] != after[place]] == [index]
        assert after[index] == (7 if key == "avif_speed" else value)


async def test_a_long_body_that_comes_in_pieces_is_one_image() -> None:
    large = file(photo(640, 480), "JPEG", quality=97)
    assert len(large) > 128 * 1024
    async with Images(SECTION) as images:
        stage = images.stage
        await stage.one(stage.request("/i.jpg", WEBP))
        stage.give(stage.response("content-type: image/jpeg", large[:60_000], ended=False))
        for at in range(60_000, len(large), 60_000):
            stage.give(data(large[at : at + 60_000], at + 60_000 >= len(large)))
        answer = await images.answer()
        assert opened(images.body).size == (640, 480)
        assert answer.length == len(images.body)


@pytest.mark.parametrize("vary", ["vary: Accept", "vary: *", "vary: Cookie, ACCEPT"])
async def test_vary_is_said_once(vary: str) -> None:
    async with Images(SECTION) as images:
        assert len(said(await images.get(answer=TOLD + "\n" + vary), "vary")) == 1


async def test_digests_of_the_original_are_left_out_and_a_broken_etag_too() -> None:
    async with Images(SECTION) as images:
        told = "content-type: image/jpeg\netag: abc\ncontent-md5: x\ndigest: x\ncontent-digest: x\nrepr-digest: x"
        answer = await images.get(answer=told)
        assert [line.partition(":")[0] for line in lines(answer.headers)] == ["content-type", "vary"]


# -- what is left alone -----------------------------------------------------------------------------------


def untouched(images: Images, answer: Response, body: bytes = JPEG) -> None:
    assert images.body == body
    assert answer.length == len(body)
    for line in TOLD.splitlines()[1:]:
        assert line in lines(answer.headers)


@pytest.mark.parametrize(
    "more",
    [
        {"status": 206},
        {"status": 404},
        {"status": 203},
        {"answer": TOLD + "\ncontent-encoding: gzip"},
        {"answer": TOLD + "\ncache-control: public, No-Transform"},
        {"answer": TOLD.replace("image/jpeg", "image/gif")},
        {"answer": TOLD.replace("image/jpeg", "image/svg+xml")},
        {"answer": TOLD.replace("content-type: image/jpeg", "x-a: b")},
        {"method": b"POST"},
    ],
    ids=lambda more: str(more)[-40:],
)
async def test_other_answers_pass_untouched(more: dict[str, Any]) -> None:
    async with Images(SECTION) as images:
        answer = await images.get(**more)
        untouched(images, answer)
        assert images.jobs == []
        assert said(answer, "vary") == []


@pytest.mark.parametrize("content_type", ["IMAGE/JPEG", "image/jpeg; charset=x", "image/jpg"])
async def test_types_are_read_as_they_are_meant(content_type: str) -> None:
    async with Images(SECTION) as images:
        await images.get(answer=f"content-type: {content_type}")
        assert opened(images.body).format == "WEBP"


async def test_head_says_of_a_converted_image_what_get_says_or_nothing() -> None:
    told = TOLD + "\ncontent-digest: x\ncache-control: max-age=60"
    for types, accept in (("avif, webp", WEBP), ("avif, webp", "accept: image/png"), ("", WEBP), ("jpeg", "accept: image/jpeg")):
        async with Images(SECTION | {"output_types": types}) as images:
            whole = await images.get(accept, told)
            head = await images.get(accept, told, method=b"HEAD", body=b"", length=len(JPEG), sid=SID + 1)
            assert (head.status, head.length, images.body) == (200, UNKNOWN, b"")
            assert set(lines(head.headers)) <= set(lines(whole.headers))
            left_out = {"etag"} if accept != WEBP or not types else {"etag", "content-type"}
            assert {line.partition(":")[0] for line in set(lines(whole.headers)) - set(lines(head.headers))} == left_out
            assert len(images.jobs) == 1


async def test_head_of_what_is_not_converted_stays() -> None:
    async with Images(SECTION) as images:
        for told, size in ((TOLD, 100), (TOLD.replace("image/jpeg", "image/gif"), 5000), (TOLD + "\ncache-control: no-transform", 5000)):
            answer = await images.get(answer=told, method=b"HEAD", body=b"", length=size)
            assert answer.length == size
            assert set(told.splitlines()) <= set(lines(answer.headers))


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"GIF89a" + bytes(600), "unreadable"),
        (PNG, "unreadable"),
        (JPEG[:-300], "unreadable"),
        (file(photo().convert("CMYK"), "JPEG", quality=97), "unsuitable"),
        (file(photo(), "JPEG", quality=5), "larger"),
    ],
    ids=["GIF", "PNG", "cut", "CMYK", "small"],
)
async def test_an_image_of_no_use_passes_untouched(body: bytes, outcome: str) -> None:
    async with Images(SECTION | {"webp_quality": 100}) as images:
        answer = await images.get(body=body)
        untouched(images, answer, body)
        assert said(answer, "vary") == ["accept"]
        assert answer.report is not None
        assert answer.report.context["image_optim"] == outcome
        assert images.outcomes == 1


async def test_more_bytes_than_allowed_pass_untouched() -> None:
    async with Images(SECTION | {"max_bytes": len(JPEG) - 1}) as images:
        untouched(images, await images.get())
        stage = images.stage  # of a length that is not known before
        await stage.one(stage.request("/i.jpg", WEBP, sid=SID + 1))
        stage.give(stage.response(TOLD, JPEG[:9000], ended=False, sid=SID + 1), data(JPEG[9000:], True, sid=SID + 1))
        await images.answer(SID + 1)
        assert images.body == JPEG
        assert images.jobs == []
    async with Images(SECTION | {"max_bytes": len(JPEG)}) as images:
        await images.get()
        assert len(images.jobs) == 1


async def test_more_pixels_than_allowed_pass_untouched() -> None:
    async with Images(SECTION | {"max_pixels": 160 * 120 - 1}) as images:
        answer = await images.get()
        untouched(images, answer)
        assert answer.report is not None
        assert answer.report.context["image_optim"] == "too_large"
    async with Images(SECTION | {"max_pixels": 160 * 120}) as images:
        await images.get()
        assert opened(images.body).format == "WEBP"


@pytest.mark.parametrize("body", [b"", b"\xff\xd8" + bytes(200)], ids=["nothing", "tiny"])
async def test_tiny_ones_are_not_worth_it(body: bytes) -> None:
    async with Images(SECTION) as images:
        assert (await images.get(body=body)).status == 200
        stage = images.stage
        await stage.one(stage.request("/i.jpg", WEBP, sid=SID + 1))
        stage.give(stage.response(TOLD, b"", ended=False, sid=SID + 1), data(body, True, sid=SID + 1))
        await images.answer(SID + 1)
        assert images.body == body
        assert images.jobs == []


# -- conditional requests ----------------------------------------------------------------------------------


async def test_a_client_comes_back_with_its_own_etag() -> None:
    async with Images(SECTION) as images:
        (etag,) = said(await images.get(), "etag")
        stage = images.stage
        routed = await stage.one(stage.request("/i.jpg", f'{WEBP}\nif-none-match: "other", {etag}', sid=SID + 1))
        assert 'if-none-match: "other", W/"abc"' in lines(routed.headers)
        stage.give(stage.response('etag: "abc"', status=304, sid=SID + 1))
        answer = await images.answer(SID + 1)
        assert (answer.status, said(answer, "etag"), said(answer, "vary")) == (304, [etag], ["accept"])


async def test_a_client_of_other_types_does_not_get_that_304() -> None:
    async with Images(SECTION) as images:
        (etag,) = said(await images.get(), "etag")
        stage = images.stage
        routed = await stage.one(stage.request("/i.jpg", f"accept: image/avif\nif-none-match: {etag}", sid=SID + 1))
        assert f"if-none-match: {etag}" in lines(routed.headers), "no backend knows it"


SINCE = "if-modified-since: Sat, 28 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("asked", "told", "path", "heard"),
    [
        ('if-none-match: "x", W/"abc"', 'etag: "abc"', "/i.JPG", ['etag: "abc"', "vary: accept"]),
        ('if-none-match: "abc"', 'etag: "abc"\ncontent-type: image/png', "/i", ['etag: "abc"', "content-type: image/png", "vary: accept"]),
        ('if-none-match: "abc"', 'etag: "abc"', "/page", ['etag: "abc"']),
        (SINCE, 'etag: "abc"\nlast-modified: x', "/i.png", ["last-modified: x", "vary: accept"]),
        (SINCE, 'etag: "abc"\nlast-modified: x', "/i", ["last-modified: x"]),
        (SINCE, 'etag: "abc"\ncontent-type: text/html', "/i.png", ['etag: "abc"', "content-type: text/html"]),
        ("if-none-match: *", 'etag: "abc"', "/i.jpeg", ["vary: accept"]),
        (SINCE, "cache-control: max-age=60", "/i.jpg", ["cache-control: max-age=60", "vary: accept"]),
    ],
)
async def test_a_304_is_about_what_the_client_has(asked: str, told: str, path: str, heard: list[str]) -> None:
    async with Images(SECTION) as images:
        answer = await images.get(f"{WEBP}\n{asked}", told, status=304, body=b"", path=path)
        assert lines(answer.headers) == heard


# -- many, overload, time ------------------------------------------------------------------------------------


async def test_one_image_is_converted_once_for_all_who_ask() -> None:
    async with Images(SECTION) as images:
        gate = asyncio.Event()

        async def slow(call: Any, *args: Any) -> Any:
            await gate.wait()
            return call(*args)

        images.job = slow
        stage = images.stage
        for number in range(6):
            await stage.one(stage.request("/i.jpg", WEBP, sid=SID + number))
            stage.give(stage.response(TOLD, JPEG, sid=SID + number))
        while not images.jobs:
            await asyncio.sleep(0.002)
        stage.feed(Cancel(SID, "the one that began it leaves"))
        gate.set()
        for number in range(1, 6):
            await images.answer(SID + number)
            assert opened(images.body).format == "WEBP"
        assert len(images.jobs) == 1
        await images.get(sid=SID + 9)
        assert len(images.jobs) == 1, "kept"
        await images.get(sid=SID + 10, headers="accept: image/*")
        await images.get(sid=SID + 11, body=file(photo(seed=2), "JPEG", quality=97))
        assert len(images.jobs) == 3, "another type, another image"


async def test_without_room_nothing_is_kept() -> None:
    async with Images(SECTION | {"keep_bytes": 0}) as images:
        await images.get()
        await images.get(sid=SID + 1)
        assert len(images.jobs) == 2


async def test_who_has_waited_gets_the_original_and_the_next_one_the_result() -> None:
    async with Images(SECTION | {"wait": "30ms"}) as images:
        gate = asyncio.Event()

        async def slow(call: Any, *args: Any) -> Any:
            await gate.wait()
            return call(*args)

        images.job = slow
        began = time.monotonic()
        answer = await images.get()
        assert time.monotonic() - began < 4, "the usual wait is 5 s"
        untouched(images, answer)
        assert answer.report is not None
        assert answer.report.context["image_optim"] == "late"
        gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        await images.get(sid=SID + 1)
        assert opened(images.body).format == "WEBP"
        assert len(images.jobs) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "tries"),
    [(JobFailed("its process died"), "failed", 1), (Overloaded("no"), "overloaded", 2), (RuntimeError("x"), "failed", 1)],
)
async def test_a_process_that_dies_costs_nobody_his_image(error: Exception, outcome: str, tries: int) -> None:
    async with Images(SECTION) as images:

        async def fails(*args: Any) -> Any:
            raise error

        images.job = fails
        for number in range(2):
            answer = await images.get(sid=SID + number)
            untouched(images, answer)
            assert answer.report is not None
            assert answer.report.context["image_optim"] == outcome
        assert len(images.jobs) == tries, "one that kills processes is not tried again at once"
        logged = [message for level, message, _ in images.stage.context.logged if level == "warn"]
        assert len(logged) == (1 if outcome == "failed" else 0)


async def test_more_at_once_than_can_be_done_pass_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    async with Images(SECTION) as images:
        never = asyncio.Event()

        async def hangs(*args: Any) -> Any:
            await never.wait()

        images.job = hangs
        stage = images.stage
        for number in range(2):
            await stage.one(stage.request("/i.jpg", WEBP, sid=SID + number))
            stage.give(stage.response(TOLD, JPEG + bytes(number), sid=SID + number))
        while len(images.jobs) < 2:
            await asyncio.sleep(0.002)
        answer = await images.get(sid=SID + 5, body=JPEG + b"  ")
        untouched(images, answer, JPEG + b"  ")
        assert answer.report is not None
        assert answer.report.context["image_optim"] == "overloaded"


async def test_bytes_that_are_held_are_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_optim, "HELD", 1)
    async with Images(SECTION | {"max_bytes": len(JPEG) * 3 // 2}) as images:
        stage = images.stage
        await stage.one(stage.request("/i.jpg", WEBP, sid=SID + 1))
        stage.give(stage.response(TOLD, JPEG[:9000], ended=False, length=len(JPEG), sid=SID + 1))
        untouched(images, await images.get())
        assert images.jobs == []
        stage.feed(Cancel(SID + 1, "left"))
        for _ in range(5):
            await asyncio.sleep(0)
        await images.get(sid=SID + 2)
        assert len(images.jobs) == 1
        await images.get(sid=SID + 3)
        assert opened(images.body).format == "WEBP"


def test_a_budget_is_given_back_by_whoever_forgets_his_share() -> None:
    budget = ImageBudget(10)
    first, second = budget.take(6), budget.take(4)
    assert first and second
    assert budget.take(1) is None
    del first
    assert budget.used == 4
    assert budget.take(7) is None
    assert second


# -- results ----------------------------------------------------------------------------------------------------


async def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    results = ImageResults(asyncio.get_running_loop(), 3000, 10)
    made: list[int] = []

    async def ask(number: int, size: int = 1000) -> int:
        async def convert() -> ConvertedImage:
            made.append(number)
            return ConvertedImage("converted", "webp", bytes(size))

        return len((await results.get(b"%d" % number, convert, 5)).data)

    for number in (1, 2, 1, 3, 1):
        assert await ask(number) == 1000
    assert made == [1, 2, 3]
    assert results.kept_bytes <= 3000
    await ask(2)
    assert made == [1, 2, 3, 2], "1 was asked for since"
    await ask(9, 5000)
    await ask(9, 5000)
    assert made[4:] == [9, 9], "what is larger than all that may be kept is not"
    assert results.kept_bytes <= 3000


async def test_a_failure_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_results, "AGAIN", -1.0)
    results = ImageResults(asyncio.get_running_loop(), 3000, 10)
    made: list[int] = []

    async def convert() -> ConvertedImage:
        made.append(1)
        return ConvertedImage("failed")

    for _ in range(3):
        assert (await results.get(b"x", convert, 5)).outcome == "failed"
    assert len(made) == 3
    assert results.kept_bytes < 1000


async def test_at_the_end_nobody_waits() -> None:
    results = ImageResults(asyncio.get_running_loop(), 3000, 10)

    async def convert() -> ConvertedImage:
        await asyncio.Event().wait()
        raise AssertionError

    waiting = asyncio.create_task(results.get(b"x", convert, 60))
    await asyncio.sleep(0)
    results.stop()
    assert (await waiting).outcome == "late"


# -- the section ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"output_types": "avif, jpg"}, "output_types"),
        ({"output_types": ["image/webp"]}, "output_types"),
        ({"png_quality": 0}, "png_quality"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
        ({"webp_quality": 0}, "webp_quality"),
        ({"avif_quality": -1}, "avif_quality"),
        ({"avif_speed": 11}, "avif_speed"),
        ({"max_bytes": "511"}, "max_bytes"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"wait": "0s"}, "wait"),
        ({"wait": "31s"}, "wait"),
        ({"quality": 3}, "quality"),
    ],
)
def test_mistakes_are_refused(change: dict[str, Any], key: str) -> None:
    problems = [one for one in checking.Checker()("p", SECTION | change) if isinstance(one, Problem)]
    assert [problem.path for problem in problems] == [f"plugins.p.{key}"]


def test_a_number_that_is_a_text_is_taken() -> None:
    section = SECTION | {"png_quality": "85"}
    assert not [one for one in checking.Checker()("p", section) if isinstance(one, Problem)]
    assert section["png_quality"] == 85


@pytest.mark.parametrize(("missing", "keys"), [("PIL", ["category"]), ("PIL._avif", ["output_types"]), ("PIL._webp", ["output_types"])])
def test_a_pillow_that_is_not_there_is_a_problem_of_the_configuration(
    missing: str, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = image_optim._has
    monkeypatch.setattr(image_optim, "_has", lambda module: module != missing and real(module))
    problems = [one for one in checking.Checker()("p", dict(SECTION)) if isinstance(one, Problem)]
    assert [problem.path for problem in problems] == [f"plugins.p.{key}" for key in keys]
    assert all("pingap[images]" in problem.hint for problem in problems)


# -- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_who_checks_does_not_load_pillow() -> None:
    code = (
        "import sys; from pingap.stages.plugins import checking;"
        "assert not checking.check('p', {'category': 'image_optim', 'output_types': 'avif,webp'});"
        "print(sorted(name for name in sys.modules if name.startswith('PIL.') and name != 'PIL._version'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


class Forks(FakeContext):
    """Starts a process whenever one is asked for, as the spawner would fork it."""

    def __init__(self) -> None:
        super().__init__("plugins", 3)
        self.started: list[subprocess.Popen[bytes]] = []

    def report(self, word: str, value: Any) -> None:
        code = f"import sys; from {work.__module__} import work; sys.exit(work(sys.argv[1]))"
        self.started.append(subprocess.Popen([sys.executable, "-c", code, value]))


@pytest.fixture
async def jobs() -> AsyncIterator[JobProcesses]:
    context = Forks()
    processes = JobProcesses(context, 1)
    yield processes
    await processes.stop()
    for process in context.started:
        process.wait(20)


@pytest.mark.processes
async def test_a_process_of_ours_converts(jobs: JobProcesses) -> None:
    qualities = Qualities(90, 80, 80, 75, 8)
    made = await jobs.run(convert_image, JPEG, "jpeg", ("webp", "jpeg"), qualities, 1_000_000, timeout=30)
    assert opened(made.data).format == "WEBP"
    assert await jobs.run(convert_image, b"x", "jpeg", ("webp",), qualities, 1_000_000, timeout=30) == ConvertedImage("unreadable")
