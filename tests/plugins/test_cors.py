"""`cors`, as browsers meet it. What a browser makes of an answer is written down here from the Fetch standard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.problems import Note, Problem
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.origins import Origins, parse_origin
from tests.plugins.script import Stage, lines

Section = dict[str, Any]
APP, OTHER = "https://app.example.com", "https://evil.example.org"
SAFE_METHODS = ("GET", "HEAD", "POST")
SAFE_HEADERS = ("accept", "accept-language", "content-language")


def cors(**settings: Any) -> Section:
    return {"category": "cors", **settings}


def values(answered: Response, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answered.headers) if line.startswith(f"{name}: ")]


def one(answered: Response, name: str) -> str | None:
    """The one value of a line; a browser takes none where there are two."""
    found = values(answered, name)
    assert len(found) < 2, found
    return found[0] if found else None


@dataclass
class Page:
    """What a browser does for a page: `fetch(url, {method, headers, credentials})`. Fetch standard, sections 4.8 to 4.10."""

    origin: str
    stage: Stage
    credentials: bool = False
    preflights: int = 0

    async def send(self, method: str, headers: str, **more: Any) -> Response | Routed:
        raw = "".join(f"{line.strip()}\r\n" for line in headers.splitlines() if line.strip())
        return await self.stage.one(  # type: ignore[no-any-return]
            replace(self.stage.request(method=method.encode(), **more), headers=b"host: example.com\r\n" + raw.encode("latin-1"))
        )

    def passes(self, answered: Response) -> bool:
        """The CORS check."""
        allowed = one(answered, "access-control-allow-origin")
        if allowed is None:
            return False
        if not self.credentials and allowed == "*":
            return True
        return allowed == self.origin and (not self.credentials or one(answered, "access-control-allow-credentials") == "true")

    def list_of(self, answered: Response, name: str) -> set[str]:
        return {item.strip() for item in (one(answered, name) or "").split(",") if item.strip()}

    async def may_send(self, method: str, headers: dict[str, str], **more: Any) -> bool:
        """The CORS preflight, where one is needed."""
        unsafe = sorted(name.lower() for name in headers if name.lower() not in SAFE_HEADERS)
        if method in SAFE_METHODS and not unsafe:
            return True
        self.preflights += 1
        asks = f"origin: {self.origin}\naccess-control-request-method: {method}\n"
        asks += f"access-control-request-headers: {','.join(unsafe)}\n" if unsafe else ""
        answered = await self.send("OPTIONS", asks, **more)
        assert isinstance(answered, Response), "a preflight never gets to the backend"
        if not self.passes(answered) or not 200 <= answered.status <= 299:
            return False
        methods, names = self.list_of(answered, "access-control-allow-methods"), self.list_of(answered, "access-control-allow-headers")
        any_of = {"*"} if not self.credentials else set()
        if method not in methods and method not in SAFE_METHODS and not any_of & methods:
            return False
        lower = {name.lower() for name in names}
        return all(name in lower or (any_of & names and name != "authorization") for name in unsafe)

    async def fetch(self, method: str = "GET", headers: dict[str, str] | None = None, answer: str = "", **more: Any) -> Response | None:
        """The answer, if the page may read it."""
        if not await self.may_send(method, headers or {}, **more):
            return None
        said = "".join(f"{name.lower()}: {value}\n" for name, value in (headers or {}).items())
        answered = await self.send(method, f"origin: {self.origin}\n{said}", **more)
        if isinstance(answered, Routed):
            answered = await self.stage.one(self.stage.response(answer, b"hello"))
        assert isinstance(answered, Response)
        return answered if self.passes(answered) else None


# -- what pages may do -------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "origin", "may"),
    [
        ({}, APP, True),
        ({"allow_origin": ""}, APP, True),
        ({"allow_origin": "*"}, "null", True),
        ({"allow_origin": APP}, APP, True),
        ({"allow_origin": APP}, OTHER, False),
        ({"allow_origin": APP}, "null", False),
        ({"allow_origin": f"{OTHER}, {APP}"}, APP, True),
        ({"allow_origin": [OTHER, APP]}, APP, True),
        ({"allow_origin": [f"{OTHER},{APP}", "https://c.example"]}, "https://c.example", True),
        ({"allow_origin": "HTTPS://App.Example.COM:443"}, APP, True),
        ({"allow_origin": "https://app.example.com:8443"}, APP, False),
        ({"allow_origin": "http://app.example.com"}, APP, False),
        ({"allow_origin": "https://bücher.example"}, "https://xn--bcher-kva.example", True),
        ({"allow_origin": "http://[2001:DB8::1]:80"}, "http://[2001:db8::1]", True),
        ({"allow_origin": "https://*.example.com"}, APP, True),
        ({"allow_origin": "https://*.example.com"}, "https://a.b.example.com", True),
        ({"allow_origin": "https://*.example.com"}, "https://example.com", False),
        ({"allow_origin": "https://*.example.com"}, "https://notexample.com", False),
        ({"allow_origin": "https://*.example.com"}, "https://app.example.com.evil.org", False),
        ({"allow_origin": "https://*.example.com"}, "https://evil.org/.example.com", False),
        ({"allow_origin": "https://*.example.com"}, "https://app.example.com:444", False),
        ({"allow_origin": "https://*.example.com"}, "http://app.example.com", False),
        ({"allow_origin": "https://*.exa-mple.com"}, "https://a.exaxmple.com", False),
        ({"allow_origin": "http://localhost:*"}, "http://localhost:5173", True),
        ({"allow_origin": "http://localhost:*"}, "http://localhost", True),
        ({"allow_origin": "http://localhost:*"}, "http://localhost:5173.evil.org", False),
        ({"allow_origin": [r"~^https://pr-[0-9]+\.example\.com$"]}, "https://pr-12.example.com", True),
        ({"allow_origin": r"~https://pr-[0-9]{1,3}\.example\.com"}, "https://pr-12.example.com", True),
        ({"allow_origin": [r"~https://pr-[0-9]+\.example\.com"]}, "https://pr-12.example.com.evil.org", False),
        ({"allow_origin": [r"~example\.com"]}, APP, False),
        ({"allow_origin": "null"}, "null", True),
        ({"allow_origin": "null"}, APP, False),
        ({"allow_origin": "$http_origin"}, OTHER, True),
        ({"allow_origin": "$http_origin"}, "null", True),
        ({"allow_origin": "https://$host"}, "https://example.com", True),
        ({"allow_origin": "https://$host"}, APP, False),
        ({"allow_origin": "chrome-extension://abcdef"}, "chrome-extension://abcdef", True),
    ],
)
@pytest.mark.parametrize("credentials", [False, True])
async def test_a_page_may_read_what_its_origin_may(settings: Section, origin: str, may: bool, credentials: bool) -> None:
    if credentials:
        settings = {**settings, "allow_credentials": True}
        if settings.get("allow_origin", "*") in ("*", ""):
            return
    async with Stage({"p": cors(**settings)}) as stage:
        page = Page(origin, stage, credentials)
        for method in ("GET", "POST", "PUT", "DELETE"):
            answered = await page.fetch(method, {"Accept": "text/plain"})
            assert (answered is not None and answered.body == b"hello") is may, method
        assert page.preflights == 2
        assert page.credentials is credentials
        vary = {} if settings.get("allow_origin", "*") in ("*", "") and not credentials else {"origin"}
        assert isinstance(await page.send("GET", f"origin: {origin}"), Routed)
        varied = await stage.one(stage.response("vary: accept"))
        assert set(", ".join(values(varied, "vary")).split(", ")) == {"accept", *vary}


async def test_a_page_without_credentials_is_told_nothing_of_them() -> None:
    async with Stage({"p": cors(allow_origin=APP)}) as stage:
        assert await Page(APP, stage).fetch() is not None
        assert await Page(APP, stage, credentials=True).fetch() is None


@pytest.mark.parametrize("credentials", [False, True])
async def test_methods_and_headers_are_those_that_are_named(credentials: bool) -> None:
    named = cors(allow_origin=APP, allow_methods="GET, QUERY", allow_headers="X-Reader, Content-Type", allow_credentials=credentials)
    async with Stage({"p": named}) as stage:
        page = Page(APP, stage, credentials)
        assert await page.fetch("QUERY", {"X-Reader": "1", "Content-Type": "application/json"}) is not None
        assert await page.fetch("PUT") is None
        assert await page.fetch("GET", {"X-Ticket": "1"}) is None
    every = cors(allow_origin=APP, allow_methods="*", allow_headers=["*"], allow_credentials=credentials)
    async with Stage({"p": every}) as stage:
        page = Page(APP, stage, credentials)
        assert await page.fetch("PROPFIND", {"Authorization": "x", "X-Any": "1"}) is not None
        asks = f"origin: {APP}\naccess-control-request-method: PUT\naccess-control-request-headers: x-a,"
        told = await page.send("OPTIONS", asks + "\x01b" + "a" * 300)
        assert isinstance(told, Response) and one(told, "access-control-allow-headers") is None
        assert one(told, "vary") == "origin, access-control-request-method, access-control-request-headers"


# -- preflights ------------------------------------------------------------------------

PREFLIGHT = f"origin: {APP}\naccess-control-request-method: PUT\n"


async def test_a_preflight_is_answered_as_the_reference_does() -> None:
    settings = cors(
        allow_origin="$http_origin", allow_methods="GET, PUT", allow_headers="X-Reader, X-Ticket", allow_credentials=True,
        expose_headers="X-Hall", max_age="20m",
    )  # fmt: skip
    async with Stage({"p": settings}) as stage:
        answered = await Page(APP, stage).send("OPTIONS", PREFLIGHT)
        assert isinstance(answered, Response)
        assert (answered.status, answered.body) == (204, b"")
        assert lines(answered.headers) == [
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: X-Reader, X-Ticket",
            "access-control-max-age: 1200",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: X-Hall",
            f"access-control-allow-origin: {APP}",
            "vary: origin",
            "cache-control: private, no-cache",
        ]


@pytest.mark.parametrize(("max_age", "told"), [("1h", "3600"), ("90500ms", "90"), ("0s", None), (None, "3600")])
async def test_its_answer_may_be_remembered_for_whole_seconds(max_age: str | None, told: str | None) -> None:
    async with Stage({"p": cors(**({"max_age": max_age} if max_age else {}))}) as stage:
        answered = await Page(APP, stage).send("OPTIONS", PREFLIGHT)
        assert isinstance(answered, Response) and one(answered, "access-control-max-age") == told
        assert one(answered, "access-control-allow-methods") == "GET, POST, PUT, PATCH, DELETE, OPTIONS"
        assert one(answered, "vary") is None


async def test_one_of_an_origin_that_may_not_is_refused() -> None:
    async with Stage({"p": cors(allow_origin=APP)}) as stage:
        answered = await Page(OTHER, stage).send("OPTIONS", PREFLIGHT.replace(APP, OTHER))
        assert isinstance(answered, Response)
        assert (answered.status, answered.body, values(answered, "vary")) == (403, b"Origin is not allowed", ["origin"])
        assert b"access-control" not in answered.headers
        twice = await Page(APP, stage).send("OPTIONS", f"origin: {APP}\n{PREFLIGHT}")
        assert isinstance(twice, Response) and twice.status == 403


@pytest.mark.parametrize("headers", ["", f"origin: {APP}\n", "access-control-request-method: PUT\n"])
async def test_another_options_gets_to_the_backend(headers: str) -> None:
    async with Stage({"p": cors()}) as stage:
        assert isinstance(await Page(APP, stage).send("OPTIONS", headers), Routed)
    async with Stage({"p": cors(path="^/api/")}) as stage:
        assert isinstance(await Page(APP, stage).send("OPTIONS", PREFLIGHT), Routed)
        assert isinstance(await Page(APP, stage).send("OPTIONS", PREFLIGHT, target="/api/x?y"), Response)
        assert isinstance(await Page(APP, stage).send("GET", PREFLIGHT, target="/api/x?y"), Routed)


@pytest.mark.parametrize("names", [["a", "p"], ["p", "a"]])
async def test_no_other_plugin_stands_in_its_way(names: list[str]) -> None:
    accounts = {"category": "basic_auth", "authorizations": ["YTpi"]}
    settings = cors(allow_origin=APP, allow_headers="authorization", allow_credentials=True)
    async with Stage({"a": accounts, "p": settings}, names=names) as stage:
        page = Page(APP, stage, credentials=True)
        refused = await page.fetch("GET")
        assert refused is not None and refused.status == 401, "the page can read that it has to log in"
        passed = await page.fetch("PUT", {"Authorization": "Basic YTpi"})
        assert passed is not None and passed.status == 200
        assert await Page(OTHER, stage).fetch("GET") is None


async def test_a_private_network_may_be_asked_if_it_says_so() -> None:
    asks = f"{PREFLIGHT}access-control-request-private-network: true\n"
    for settings, told in (({"private_network": True}, "true"), ({}, None)):
        async with Stage({"p": cors(**settings)}) as stage:
            answered = await Page(APP, stage).send("OPTIONS", asks)
            assert isinstance(answered, Response) and one(answered, "access-control-allow-private-network") == told
            answered = await Page(APP, stage).send("OPTIONS", PREFLIGHT)
            assert isinstance(answered, Response) and one(answered, "access-control-allow-private-network") is None


# -- answers -----------------------------------------------------------------------------


async def test_what_a_backend_says_of_it_is_replaced() -> None:
    said = "access-control-allow-origin: *\naccess-control-allow-credentials: true\naccess-control-expose-headers: x-a\nx-b: 1"
    async with Stage({"p": cors(allow_origin=APP, expose_headers=["X-Hall", "X-Desk"])}) as stage:
        answered = await Page(APP, stage).fetch(answer=said)
        assert answered is not None
        assert one(answered, "access-control-expose-headers") == "X-Hall, X-Desk"
        assert one(answered, "access-control-allow-credentials") is None
        assert await Page(OTHER, stage).fetch(answer=said) is None, "it is not the backend that decides"
        plain = await stage.exchange(answer=said)
        assert [*lines(plain.headers)] == [*said.split("\n"), "vary: origin"], "without an origin nothing but Vary is added"


async def test_with_a_star_answers_do_not_depend_on_the_origin() -> None:
    async with Stage({"p": cors(expose_headers="*")}) as stage:
        plain = await stage.exchange(answer="x-b: 1")
        assert lines(plain.headers) == ["x-b: 1", "access-control-expose-headers: *", "access-control-allow-origin: *"]
        assert lines((await stage.exchange(headers=f"origin: {APP}", answer="x-b: 1")).headers) == lines(plain.headers)


@pytest.mark.parametrize(
    ("before", "after"), [("", ["origin"]), ("vary: Origin", ["Origin"]), ("vary: *", ["*"]), ("vary: accept", ["accept", "origin"])]
)
async def test_caches_are_told_that_the_answer_depends_on_the_origin(before: str, after: list[str]) -> None:
    async with Stage({"p": cors(allow_origin=APP)}) as stage:
        for headers in ("", f"origin: {APP}", f"origin: {OTHER}"):
            assert values(await stage.exchange(headers=headers, answer=before), "vary") == after
        for status in (304, 404, 500):
            assert values(await stage.exchange(answer=before, status=status), "vary") == after


async def test_other_paths_are_left_alone() -> None:
    async with Stage({"p": cors(allow_origin=APP, path="^/api/")}) as stage:
        assert lines((await stage.exchange("/web", f"origin: {APP}", "x-b: 1")).headers) == ["x-b: 1"]
        assert await Page(APP, stage).fetch(target="/api/") is not None


async def test_of_several_the_first_one_for_the_path_is_asked() -> None:
    plugins = {"api": cors(path="^/api/", allow_origin=APP), "rest": cors(allow_origin=OTHER)}
    async with Stage(plugins) as stage:
        assert await Page(APP, stage).fetch("PUT", target="/api/") is not None
        assert await Page(OTHER, stage).fetch("PUT", target="/api/") is None
        assert await Page(OTHER, stage).fetch("GET", target="/api/") is None
        assert await Page(OTHER, stage).fetch("PUT", target="/") is not None


@pytest.mark.parametrize("names", [["m", "p", "c"], ["c", "p", "m"]])
async def test_answers_of_plugins_can_be_read_and_are_compressed_as_well(names: list[str]) -> None:
    page = {"category": "mock", "headers": ["Content-Type: text/html"], "data": "hello " * 100}
    packed = {"category": "compression", "gzip_level": 6}
    async with Stage({"m": page, "p": cors(allow_origin=APP), "c": packed}, names=names) as stage:
        answered = await Page(APP, stage).fetch(headers={"Accept-Language": "de"})
        assert answered is not None and answered.status == 200
        coded = await Page(APP, stage).send("GET", f"origin: {APP}\naccept-encoding: gzip")
        assert isinstance(coded, Response)
        assert one(coded, "content-encoding") == "gzip"
        assert sorted(values(coded, "vary")) == ["accept-encoding", "origin"]
        assert one(coded, "access-control-allow-origin") == APP


async def test_error_pages_can_be_read() -> None:
    async with Stage({"p": cors(allow_origin=APP)}, upstream="") as stage:
        missed = await Page(APP, stage).send("GET", f"origin: {APP}", upstream="")
        assert isinstance(missed, Response) and missed.status == 404
        assert one(missed, "access-control-allow-origin") == APP
    async with Stage({"p": cors(allow_origin=APP)}) as stage:
        for origin, told in ((APP, APP), (OTHER, None)):
            assert isinstance(await Page(origin, stage).send("GET", f"origin: {origin}"), Routed)
            page = await stage.one(stage.response("content-type: text/html", b"<h1>502", status=502, error="connect_failed"))
            assert (page.status, page.body) == (502, b"<h1>502")
            assert (one(page, "access-control-allow-origin"), values(page, "vary")) == (told, ["origin"])


async def test_a_page_of_a_request_that_failed_later_can_be_read_too() -> None:
    """The answer had its lines already when another plugin failed on its body."""
    broken = {"category": "compression", "gzip_level": 6, "decompression": True}
    async with Stage({"c": broken, "p": cors(allow_origin=APP)}) as stage:
        answered = await Page(APP, stage).fetch(answer="content-type: text/html\ncontent-encoding: gzip")
        assert answered is not None and answered.status == 500
        assert one(answered, "access-control-allow-origin") == APP


async def test_an_upgrade_is_no_matter_of_it() -> None:
    async with Stage({"p": cors(allow_origin=APP)}) as stage:
        routed = await Page(OTHER, stage).send("GET", f"origin: {OTHER}", upgrade=b"websocket")
        assert isinstance(routed, Routed)
        answered = await stage.one(stage.response("upgrade: websocket", ended=False, status=101))
        assert lines(answered.headers) == ["upgrade: websocket"]


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "keys"),
    [
        ({"allow_origin": "app.example.com"}, ["allow_origin"]),
        ({"allow_origin": "*.example.com"}, ["allow_origin"]),
        ({"allow_origin": "https://app.example.com/"}, ["allow_origin"]),
        ({"allow_origin": ["https://a b"]}, ["allow_origin"]),
        ({"allow_origin": [5]}, ["allow_origin"]),
        ({"allow_origin": 5}, ["allow_origin"]),
        ({"allow_origin": ["~("]}, ["allow_origin"]),
        ({"allow_origin": "https://[::g]"}, ["allow_origin"]),
        ({"allow_origin": []}, ["allow_origin"]),
        ({"allow_origin": [""]}, ["allow_origin"]),
        ({"allow_origin": ["", " , "]}, ["allow_origin"]),
        ({"allow_origin": ","}, ["allow_origin"]),
        ({"allow_origin": "https://a:0"}, ["allow_origin"]),
        ({"allow_origin": "https://*.a:65536"}, ["allow_origin"]),
        ({"allow_credentials": True}, ["allow_origin"]),
        ({"allow_origin": [APP, "*"], "allow_credentials": True}, ["allow_origin"]),
        ({"allow_origin": APP, "expose_headers": "*", "allow_credentials": True}, ["expose_headers"]),
        ({"allow_methods": "GET;PUT", "allow_headers": "X-Ä"}, ["allow_methods", "allow_headers"]),
        ({"expose_headers": "a:b"}, ["expose_headers"]),
        ({"allow_credentials": "true"}, ["allow_credentials"]),
        ({"max_age": "soon"}, ["max_age"]),
        ({"path": "("}, ["path"]),
        ({"step": "proxy_upstream"}, ["step"]),
        ({"private_network": 1}, ["private_network"]),
    ],
)  # fmt: skip
def test_mistakes_are_refused(wrong: Section, keys: list[str]) -> None:
    assert [problem.path for problem in checking.check("p", cors(**wrong))] == [f"plugins.p.{key}" for key in keys]


@pytest.mark.parametrize(
    ("taken", "noted"),
    [
        ({"step": "request"}, []),
        ({"allow_origin": ""}, ['an empty text is taken for "*"']),
        ({"allow_origin": " "}, ['an empty text is taken for "*"']),
        ({"allow_origin": "$http_origin"}, []),
        ({"allow_origin": "$http_origin", "allow_credentials": True}, ["any page in the world may ask as its reader"]),
        ({"allow_origin": [APP, "null"], "allow_credentials": True}, ["any page in the world may ask as its reader"]),
        ({"allow_origin": [APP, "*"]}, ['without effect beside "*"']),
    ],
)
def test_what_should_be_known_is_noted(taken: Section, noted: list[str]) -> None:
    told = checking.Checker()("p", cors(**taken))
    assert not [found for found in told if isinstance(found, Problem)]
    notes = [found.message for found in told if isinstance(found, Note)]
    assert len(notes) == len(noted) and all(part in note for part, note in zip(noted, notes, strict=True))


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?(\.[a-z]{1,4}){0,2}", fullmatch=True)


@given(st.sampled_from(["http", "https"]), NAMES, st.sampled_from(["", ":81", ":8443"]))
def test_an_origin_is_on_the_list_that_has_it_alone(scheme: str, host: str, port: str) -> None:
    origin = f"{scheme}://{host}{port}"
    assert Origins([parse_origin(origin.upper().replace("HTTP", "http").replace("httpS", "https"))]).has(origin.encode(), None)
    below = Origins([parse_origin(f"{scheme}://*.{host}{port}")])
    assert below.has(f"{scheme}://x.{host}{port}".encode(), None)
    for other in (origin, f"{scheme}://x{host}{port}", f"{scheme}://.{host}{port}", f"{origin}x", f"x{origin}"):
        assert not below.has(other.encode(), None)


@given(st.binary(max_size=60))
def test_no_origin_breaks_it(value: bytes) -> None:
    found = Origins([parse_origin("https://*.example.com"), parse_origin("http://localhost:*"), parse_origin("null")])
    for text in (value, b"https://" + value + b".example.com", b"http://localhost:" + value):
        if found.has(text, None):
            assert re.fullmatch(rb"null|https://([a-z0-9_-]+\.)+example\.com|http://localhost(:[0-9]{1,5})?", text)


def test_origins_that_clients_make_up_are_not_all_kept() -> None:
    found = Origins([parse_origin(APP)])
    for number in range(3000):
        found.has(b"https://a%d" % number, None)
    assert not found.has(b"https://" + b"a" * 600, None)
    assert sum(map(len, found._verdicts)) < 40_000
