"""PURGE requests and `pingap cache` on a running instance: with two replicas of plugins that share what is stored, in both placements."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from click.shell_completion import ShellComplete

from pingap import cli
from tests.e2e.certificate import section
from tests.e2e.client import Client, Response
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

REPLICAS = {"split": ("--scale", "plugins=2"), "colocated": ("--workers", "2")}
HOST = "test.local"


class Pages:
    """A backend whose answers say how often it was asked for them."""

    def __init__(self) -> None:
        self.origin = Origin(self.answer)
        self.gate = threading.Event()
        """Answers to /slow wait for it."""
        self.gate.set()
        self.version = 0
        """What /race answers."""
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def answer(self, exchange: Exchange) -> None:
        exchange.read_body()
        with self._lock:
            count = self._counts[exchange.target] = self._counts.get(exchange.target, 0) + 1
        if exchange.path == "/slow":
            self.gate.wait(10)
        lines = 'Cache-Control: max-age=600\r\nETag: "v"\r\nCache-Tag: all, ' + exchange.path.strip("/").replace("/", "-") + "\r\n"
        if exchange.path.startswith("/private"):
            lines = "Cache-Control: private\r\n"
        if exchange.path.startswith("/varied"):
            lines += "Vary: X-Color\r\n"
        if exchange.path == "/race":
            count = self.version
            time.sleep(0.002)  # what it says is old by then
        exchange.reply(f"{count}".encode(), headers=lines)

    def asked(self, target: str) -> int:
        with self._lock:
            return self._counts.get(target, 0)


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    one = Pages()
    yield one
    one.gate.set()
    one.origin.stop()
    assert not one.origin.errors, one.origin.errors


@pytest.fixture(scope="module")
def second_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def proxy(placement: str, pages: Pages, second_port: int, tls_port: int) -> Iterator[Pingap]:
    more = f"""
{section("own", HOST)}
[servers.secure]
addr = "127.0.0.1:{tls_port}"
locations = ["all"]
global_certificates = true
[servers.second]
addr = "127.0.0.1:{second_port}"
locations = ["all"]
[locations.guarded]
upstream = "origin"
path = "/guarded"
plugins = ["login", "pages"]
[locations.moved]
upstream = "origin"
path = "/moved"
rewrite = "^/moved/(.*)$ /page/$1"
plugins = ["pages"]
[locations.none]
upstream = "origin"
path = "/none"
[plugins.pages]
category = "cache"
namespace = "shop"
purge_ip_list = ["127.0.0.1"]
control_ip_list = ["10.0.0.0/8"]
skip = "^/skipped"
ignore_query = ["utm_*"]
[plugins.login]
category = "basic_auth"
authorizations = ["YWRtaW46MTIzMTIz"]
"""
    text = site([pages.origin.port], location='plugins = ["pages"]', locations='["all", "guarded", "moved", "none"]', more=more)
    with Pingap(text, placement, up=REPLICAS[placement]) as instance:
        yield instance


def get(proxy: Pingap, target: str, headers: dict[str, str] | None = None) -> str:
    """The body. Each on a connection of its own, so that now one replica gets it and now another."""
    with proxy.client() as client:
        response = client.get(target, headers=headers)
        assert response.status == 200, response
        return response.body.decode()


def purge(proxy: Pingap, target: str, **headers: str) -> Response:
    with proxy.client() as client:
        return client.get(target, "PURGE", {name.replace("_", "-"): value for name, value in headers.items()})


def cache(proxy: Pingap, *words: str) -> Any:
    done = proxy.command("cache", *words, "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def explained(proxy: Pingap, target: str, *words: str) -> Any:
    return cache(proxy, "explain", f"http://{HOST}:{proxy.port}{target}", "-H", f"Host: {HOST}", *words)


def kept(proxy: Pingap, target: str, body: str, headers: dict[str, str] | None = None) -> None:
    """All replicas give this answer now."""
    for _ in range(6):
        assert get(proxy, target, headers) == body


def filled(proxy: Pingap, target: str, headers: dict[str, str] | None = None) -> str:
    """The body that is stored now."""
    until(lambda: get(proxy, target, headers) == get(proxy, target, headers), 5, f"{target} is stored")
    body = get(proxy, target, headers)
    kept(proxy, target, body, headers)
    return body


def test_one_url_is_gone_in_all_replicas_when_purge_is_answered(proxy: Pingap) -> None:
    other = filled(proxy, "/page/other")
    for _ in range(5):
        before = int(filled(proxy, "/page/one?a=1&utm_x=2"))
        assert purge(proxy, "/page/one?utm_y=3&a=1").status == 204
        assert int(get(proxy, "/page/one?a=1")) > before
    kept(proxy, "/page/other", other)


def test_all_variants_of_a_url_go(proxy: Pingap) -> None:
    bodies = {color: int(filled(proxy, "/varied/x", {"X-Color": color})) for color in ("red", "blue")}
    assert purge(proxy, "/varied/x").status == 204
    for color, body in bodies.items():
        assert int(get(proxy, "/varied/x", {"X-Color": color})) > body


def test_a_prefix_tags_and_the_namespace(proxy: Pingap) -> None:
    for path, headers in (("/page/*", {}), ("/x", {"Cache_Tag": "page-a"}), ("/*", {}), ("/moved/*", {})):
        before = int(filled(proxy, "/page/a"))
        response = purge(proxy, path, **headers)
        assert response.status == 200 and response.body.startswith(b"purged: ") and response.body.endswith(b", fail: 0")
        assert int(get(proxy, "/page/a")) > before, path


def test_a_fetch_that_began_before_a_purge_is_neither_joined_nor_stored(proxy: Pingap, pages: Pages) -> None:
    began = pages.asked("/slow")
    pages.gate.clear()
    with Client(proxy.port) as first, Client(proxy.port) as second:
        try:
            first.request("/slow")
            until(lambda: pages.asked("/slow") == began + 1, 5, "the first fetch has begun")
            assert purge(proxy, "/slow").status == 204
            second.request("/slow")
            until(lambda: pages.asked("/slow") == began + 2, 5, "who asks after the purge is fetched for anew")
        finally:
            pages.gate.set()
        assert first.response().body == f"{began + 1}".encode()
        assert second.response().body == f"{began + 2}".encode()
    assert int(filled(proxy, "/slow")) >= began + 2


@pytest.mark.parametrize("how", ["url", "prefix", "tag"])
def test_nobody_gets_what_was_purged_however_many_ask_meanwhile(proxy: Pingap, pages: Pages, how: str) -> None:
    is_over = threading.Event()

    def ask() -> None:
        with proxy.client() as client:
            while not is_over.is_set():
                client.get("/race")

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for one in askers:
        one.start()
    try:
        for _ in range(40):
            pages.version += 1
            path, headers = {"url": ("/race", {}), "prefix": ("/*", {}), "tag": ("/", {"Cache_Tag": "race"})}[how]
            assert purge(proxy, path, **headers).status in (200, 204)
            for _ in range(2):
                assert int(get(proxy, "/race")) == pages.version
    finally:
        is_over.set()
        for one in askers:
            one.join(10)


def test_nobody_else_may(proxy: Pingap, second_port: int) -> None:
    with Client(second_port) as client:
        assert client.get("/page/x", "PURGE").status == 204, "by the other server as well"
    with proxy.client() as client:
        response = client.get("/guarded/x", "PURGE")
        assert response.status == 401, "plugins before the cache are asked"


def test_explain_says_miss_then_hit_and_what_is_stored(proxy: Pingap, pages: Pages) -> None:
    asked = pages.asked("/page/e")
    found = explained(proxy, "/page/e")
    assert (found["outcome"], found["rule"], found["location"], found["plugin"]) == ("miss", "nothing stored", "all", "pages")
    assert found["key"].startswith(f"shop\0http://{HOST}/page/e\0"), "as the client's Host names it"
    filled(proxy, "/page/e")
    found = explained(proxy, "/page/e")
    assert (found["outcome"], found["rule"]) == ("hit", "fresh")
    stored = found["stored"]
    assert (stored["status"], stored["size"], stored["lifetime"], stored["etag"]) == (200, 1, 600.0, '"v"')
    assert 0 < stored["ttl"] <= 600 and stored["tags"] == ["all", "page-e"] and "max-age" in stored["lifetime_rule"]
    assert pages.asked("/page/e") == asked + 1, "the backend has heard of none of it"


def test_explain_says_the_same_as_the_answer_does(proxy: Pingap) -> None:
    for target, headers in (("/page/same", {}), ("/varied/same", {"X-Color": "red"}), ("/skipped/x", {})):
        for _ in range(3):
            words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
            outcome = explained(proxy, target, *words)["outcome"]
            with proxy.client() as client:
                said = client.get(target, headers=headers).get("x-cache-status")
            assert said == outcome, (target, said, outcome)
            if said == "miss":
                filled(proxy, target, headers)


def test_explain_of_a_softly_purged_answer(proxy: Pingap) -> None:
    filled(proxy, "/page/soft")
    assert cache(proxy, "purge", f"http://{HOST}:{proxy.port}/page/soft", "--soft")["purged"] == 0, "another host than the key has"
    assert explained(proxy, "/page/soft")["outcome"] == "hit"
    assert purge(proxy, "/page/soft", Pingap_Purge="soft").status == 204
    found = explained(proxy, "/page/soft")
    assert (found["outcome"], found["rule"]) == ("expired", "purged softly")
    assert "purged softly" in found["stored"]["flags"]
    assert cache(proxy, "purge", f"http://{HOST}/page/soft", "--server", "plain", "--soft")["purged"] == 1


def test_explain_goes_by_the_request(proxy: Pingap) -> None:
    filled(proxy, "/page/r")
    found = explained(proxy, "/moved/r")
    assert (found["outcome"], found["location"], found["target"]) == ("miss", "moved", "/page/r"), "rewritten, in another location"
    assert explained(proxy, "/page/r", "--method", "POST")["rule"] == "method"
    assert explained(proxy, "/skipped/r")["rule"] == "skip"
    assert explained(proxy, "/none/r")["outcome"] == "uncached"
    found = explained(proxy, "/page/r", "-H", "Cache-Control: no-cache", "--client", "10.1.1.1")
    assert (found["outcome"], found["source"]) == ("expired", "RFC 9111 section 5.2.1.4")
    found = explained(proxy, "/guarded/r")
    assert (found["outcome"], found["plugin"], found["status"]) == ("answered", "login", 401)
    assert explained(proxy, "/guarded/r", "-H", "Authorization: Basic YWRtaW46MTIzMTIz")["outcome"] == "miss"


def test_explain_and_purge_by_another_server(proxy: Pingap, second_port: int) -> None:
    assert cache(proxy, "explain", f"http://127.0.0.1:{second_port}/page/s")["server"] == "second"
    assert cache(proxy, "explain", f"http://127.0.0.1:{proxy.port}/page/s")["server"] == "plain"
    assert explained(proxy, "/page/s", "--server", "second")["server"] == "second"
    done = proxy.command("cache", "explain", "http://127.0.0.1:1/")
    assert done.returncode == 2 and "--server" in done.stderr


def test_a_server_with_tls_is_asked_like_any_and_its_answers_are_purged_over_http(proxy: Pingap, pages: Pages, tls_port: int) -> None:
    def secure() -> str:
        with Client(tls_port, tls=True) as client:
            return client.get("/page/tls").body.decode()

    until(lambda: secure() == secure(), 5, "it is stored")
    before = secure()
    url = f"https://{HOST}:{tls_port}/page/tls"
    found = cache(proxy, "explain", url, "-H", f"Host: {HOST}")
    assert (found["outcome"], found["server"]) == ("hit", "secure")
    assert found["key"].startswith(f"shop\0https://{HOST}/page/tls\0")
    assert explained(proxy, "/page/tls")["outcome"] == "miss", "of http it is another"
    assert purge(proxy, "/page/tls").status == 204
    assert int(secure()) > int(before)
    assert cache(proxy, "explain", f"https://{HOST}/page/tls")["server"] == "secure", "the only one with TLS"


def test_a_shell_completes_servers_and_namespaces(proxy: Pingap) -> None:
    with mock.patch.dict(os.environ, {"PINGAP_RUN_DIR": str(proxy.run_dir)}):
        for words, found in (
            (["cache", "explain", "x", "--server"], ["plain", "second", "secure"]),
            (["cache", "purge", "--namespace"], ["shop"]),
        ):
            completer = ShellComplete(cli.commands, {}, "pingap", "_X")
            assert [one.value for one in completer.get_completions(words, "")] == found


def test_the_text_names_the_rule(proxy: Pingap) -> None:
    filled(proxy, "/page/t")
    done = proxy.command("cache", "explain", f"http://{HOST}:{proxy.port}/page/t", "-H", f"Host: {HOST}")
    assert done.returncode == 0 and ": hit\n" in done.stdout and "fresh (RFC 9111 section 4.2)" in done.stdout


def test_the_command_purges_past_a_login_and_by_prefix_tag_and_all(proxy: Pingap) -> None:
    login = {"Authorization": "Basic YWRtaW46MTIzMTIz"}
    url = f"http://{HOST}:{proxy.port}"
    with proxy.client() as client:
        client.get("/guarded/p", headers=login)
    words = ((f"http://{HOST}/page/p", "--server", "plain"), ("--prefix", f"http://{HOST}/page/", "--server", "plain"), ("--tag", "page-p"),
             ("--tag", "page-p", "--namespace", "shop"), ("--all",), ("--all", "--namespace", "shop"))  # fmt: skip
    for one in words:
        before = int(filled(proxy, "/page/p"))
        assert cache(proxy, "purge", *one)["purged"] >= 1
        assert int(get(proxy, "/page/p")) > before, one
    done = proxy.command("cache", "purge", f"{url}/none/p")
    assert done.returncode == 1 and "the location has no cache" in done.stderr
    done = proxy.command("cache", "purge", "--all", "--namespace", "none")
    assert done.returncode == 1 and "'shop'" in done.stderr


def test_stats_add_up_what_replicas_count(proxy: Pingap) -> None:
    before = cache(proxy, "stats")
    (cached,) = before["caches"]
    assert (cached["cache"], cached["namespace"], before["processes"], before["silent"]) == ("pages", "shop", 2, 0)
    filled(proxy, "/page/stats")
    hits = cached["requests"].get("hit", 0)
    for _ in range(20):
        get(proxy, "/page/stats")
    after = cache(proxy, "stats")
    assert after["caches"][0]["requests"]["hit"] >= hits + 20
    assert after["stores"][0]["objects"] >= 1 and 0 < after["stores"][0]["bytes"] <= after["stores"][0]["cap"]
    assert (after["fetching"], after["waiting"]) == (0, 0)
    done = proxy.command("cache", "stats")
    assert done.returncode == 0 and "pages" in done.stdout and "shop" in done.stdout
