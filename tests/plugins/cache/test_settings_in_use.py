"""Each key of a cache's settings has its effect, in the stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from pingap.plugin_testing import BackendRequest, PluginStage, StageAnswer
from pingap.stages.plugins.exchange import Reply, reply

FRESH = [("cache-control", "max-age=60")]


def cached(**section: Any) -> PluginStage:
    return PluginStage({"c": {"category": "cache", **section}})


def status(answer: StageAnswer) -> str | None:
    return answer.headers.get("x-cache-status")


async def seen(stage: PluginStage, *asked: str | tuple[str, Mapping[str, str]]) -> list[str | None]:
    """x-cache-status of each, in turn."""
    found = []
    for one in asked:
        target, headers = (one, {}) if isinstance(one, str) else one
        found.append(status(await stage.get(target, headers=headers)))
    return found


def targets(stage: PluginStage) -> list[str]:
    return [request.target for request in stage.backends["backend"].requests]


async def test_what_is_ignored_or_sorted_is_so_for_the_backend_too() -> None:
    async with cached(ignore_query=["utm_*"], sort_query=True) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        asked = ("/a?b=2&utm_source=%3Cscript%3E&a=1", "/a?a=1&b=2", "/a?a=1&b=2&utm_x", "/a?a=2&b=2", "/a?UTM_source=1")
        assert await seen(stage, *asked) == ["miss", "hit", "hit", "miss", "miss"]
        assert targets(stage) == ["/a?a=1&b=2", "/a?a=2&b=2", "/a?UTM_source=1"]


async def test_headers_are_in_the_key_and_a_missing_one_is_not_an_empty_one() -> None:
    async with cached(headers=["X-Device"]) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        devices = [{"x-device": "a"}, {"x-device": "b"}, {}, {"x-device": ""}, {"X-Device": "a"}]
        found = await seen(stage, *[("/", headers) for headers in devices])
        assert found == ["miss", "miss", "miss", "miss", "hit"]


async def test_hosts_and_schemes_have_answers_of_their_own() -> None:
    async with cached() as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        found = [status(await stage.get("/", host=host, scheme=scheme)) for scheme in ("http", "https") for host in ("a.test", "b.test")]
        assert found == ["miss"] * 4
        assert status(await stage.get("/", host="A.test:80", scheme="http")) == "hit"


async def test_skip_and_bypass_cookies_leave_requests_alone() -> None:
    async with cached(skip="^/api/", bypass_cookies="session, wp_*") as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        assert await seen(stage, "/api/a", "/api/a") == ["bypass", "bypass"]
        assert await seen(stage, "/a", "/a") == ["miss", "hit"]
        for cookie in ("session=1", "a=b; wp_0af=1"):
            answer = await stage.get("/a", headers={"cookie": cookie})
            assert (status(answer), answer.headers.get("cache-status")) == ("bypass", "pingap; fwd=bypass")
        assert status(await stage.get("/a", headers={"cookie": "a=session"})) == "hit"
        assert targets(stage) == ["/api/a", "/api/a", "/a", "/a", "/a"]


async def test_skip_does_not_skip_purge() -> None:
    async with cached(namespace="n", purge_ip_list=["10.0.0.7"]) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        await seen(stage, "/api/a")
        section = {"category": "cache", "namespace": "n", "purge_ip_list": ["10.0.0.7"]}
        await stage.reload({"c": {**section, "skip": "^/api/"}})
        found = [(await stage.request("PURGE", "/api/a", client_ip=ip)).status for ip in ("192.0.2.9", "10.0.0.7")]
        assert found == [403, 204]
        assert targets(stage) == ["/api/a"]
        await stage.reload({"c": section})
        assert await seen(stage, "/api/a") == ["miss"]


async def test_a_reload_lifts_the_bound_of_a_namespace() -> None:
    section = {"category": "cache", "namespace": "n", "max_file_size": "500kb"}
    async with PluginStage({"c": {**section, "namespace_max_size": "1mb"}}) as stage:
        stage.backends["backend"].answers(200, b"x" * 300_000, FRESH)
        pages = [f"/{number}" for number in range(6)]
        assert (await seen(stage, *pages, *pages)).count("hit") < 6
        await stage.reload({"c": section})
        await seen(stage, *pages)
        assert await seen(stage, *pages) == ["hit"] * 6


async def test_only_trusted_clients_have_the_backend_asked() -> None:
    async with cached(control_ip_list=["10.0.0.7"]) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        await stage.get("/")
        for ip, count in (("10.0.0.8", 1), ("10.0.0.7", 2)):
            await stage.get("/", headers={"cache-control": "no-cache"}, client_ip=ip)
            assert len(targets(stage)) == count


async def test_who_may_not_come_in_gets_nothing_that_is_stored_wherever_the_cache_stands() -> None:
    sections: dict[str, dict[str, Any]] = {
        "c": {"category": "cache"},
        "key": {"category": "key_auth", "header": "X-Key", "keys": ["sesame"]},
    }
    async with PluginStage(sections) as stage:
        stage.backends["backend"].answers(200, b"secret", FRESH)
        assert await seen(stage, *[("/", {"x-key": "sesame"})] * 2) == ["miss", "hit"]
        answer = await stage.get("/")
        assert (answer.status, b"secret" in answer.body) == (401, False)


async def test_a_limit_at_proxy_upstream_counts_misses_alone() -> None:
    limit = {"category": "limit", "step": "proxy_upstream", "max": 2, "interval": "1h", "weight": 100}
    async with PluginStage({"limit": limit, "c": {"category": "cache"}}) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        assert await seen(stage, "/a", "/a", "/a", "/b", "/b") == ["miss", "hit", "hit", "miss", "hit"]
        assert (await stage.get("/c")).status == 429
        assert (await stage.get("/a")).status == 200


async def test_default_ttl_and_max_file_size() -> None:
    async with cached(default_ttl="1m", max_file_size=1000) as stage:
        stage.backends["backend"].answers_with(_sized)
        assert await seen(stage, "/900", "/900", "/1100", "/1100") == ["miss", "hit", "uncacheable", "uncacheable"]
    async with cached() as stage:
        stage.backends["backend"].answers(200, b"page")
        assert await seen(stage, "/", "/") == ["uncacheable"] * 2


def _sized(request: BackendRequest) -> Reply:
    return reply(200, b"x" * int(request.path[1:]), [("cache-control", "public")])


async def test_check_cache_control_and_set_cookie() -> None:
    async with cached(check_cache_control=True, default_ttl="1m") as stage:
        stage.backends["backend"].answers(200, b"page", [("expires", "Thu, 01 Jan 2060 00:00:00 GMT")])
        assert await seen(stage, "/", "/") == ["uncacheable"] * 2
    for keys, first in (({}, "uncacheable"), ({"strip_set_cookie": True}, "miss"), ({"keep_set_cookie": True}, "miss")):
        async with cached(**keys) as stage:
            stage.backends["backend"].answers(200, b"page", [*FRESH, ("set-cookie", "sid=1")])
            assert await seen(stage, "/") == [first]
            again = await stage.get("/")
            assert again.headers.get("set-cookie") == (None if "strip_set_cookie" in keys else "sid=1")


async def test_cache_status_may_be_left_out() -> None:
    async with cached(cache_status=False) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        answers = [await stage.get("/"), await stage.get("/")]
        assert [answer.headers.get("cache-status") for answer in answers] == [None, None]
    async with cached() as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        answers = [await stage.get("/"), await stage.get("/")]
        first, second = [answer.headers.get("cache-status") or "" for answer in answers]
        assert first in ("pingap; fwd=uri-miss; ttl=60; stored", "pingap; fwd=uri-miss; ttl=59; stored")
        # Asked for while the store had not yet said that it has it, it is another's fetch that is waited for.
        assert re.fullmatch("pingap; (hit; ttl=(59|60)|fwd=uri-miss; ttl=(59|60); collapsed)", second)


async def test_namespaces_know_nothing_of_each_other() -> None:
    sections = {name: {"category": "cache", "namespace": name, "purge_ip_list": ["10.0.0.7"]} for name in ("one", "two")}
    async with PluginStage(sections, order=["one"]) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        assert await seen(stage, "/", "/") == ["miss", "hit"]
        await stage.reload(sections, order=["two"])
        assert await seen(stage, "/", "/") == ["miss", "hit"]
        assert (await stage.request("PURGE", "/*", client_ip="10.0.0.7")).text == "purged: 1, fail: 0"
        await stage.reload(sections, order=["one"])
        assert await seen(stage, "/") == ["hit"]
        assert (await stage.request("PURGE", "/*", client_ip="10.0.0.8")).status == 403


async def test_who_the_backend_is_told_to_be_keeps_answers_apart() -> None:
    sections: dict[str, dict[str, Any]] = {
        "c": {"category": "cache"},
        "auth": {"category": "forward_auth", "auth_url": "upstream://judge/", "add_headers": ["X-User"]},
    }
    async with PluginStage(sections, upstreams=["judge"]) as stage:
        stage.backends["judge"].answers_with(lambda asked: reply(200, b"", [("x-user", asked.headers.get("cookie") or "nobody")]))
        stage.backends["backend"].answers_with(lambda asked: reply(200, f"of {asked.headers['x-user']}", FRESH))
        for state in ("miss", "hit"):
            for name in ("ada", "bob"):
                answer = await stage.get("/", headers={"cookie": name})
                assert (answer.text, status(answer)) == (f"of {name}", state)


async def test_a_plugin_that_splits_traffic_splits_what_is_stored() -> None:
    sections: dict[str, dict[str, Any]] = {
        "c": {"category": "cache"},
        "split": {"category": "traffic_splitting", "upstream": "canary", "weight": 50},
    }
    async with PluginStage(sections, upstreams=["canary"]) as stage:
        for name, backend in stage.backends.items():
            backend.answers(200, name, FRESH)
        answers = [await stage.get("/") for _ in range(40)]
        assert {(answer.text, status(answer)) for answer in answers} == {
            (name, state) for name in ("backend", "canary") for state in ("miss", "hit")
        }
        assert len(stage.backends["backend"].requests) == len(stage.backends["canary"].requests) == 1


@pytest.mark.parametrize("directory", ["", "memory://x?max_size=5mb", "DISK?max_size=5mb"])
async def test_every_place_keeps_answers(directory: str, tmp_path: Any) -> None:
    async with cached(directory=directory.replace("DISK", str(tmp_path / "cache"))) as stage:
        stage.backends["backend"].answers(200, b"page", FRESH)
        assert await seen(stage, "/", "/") == ["miss", "hit"]
