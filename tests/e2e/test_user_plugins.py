"""Plugins that a user wrote: they work, are replaced live, and cannot take the proxy down when they misbehave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.client import Response
from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import is_alive, until

HEAD = "from pingap.plugin import Plugin, Settings, Transformer, CONTINUE, SKIP\n"

TAGGER = (
    HEAD
    + """
class Own(Settings):
    word: str = "none"

class Tagger(Plugin[Own]):
    model = Own

    def request(self, exchange):
        exchange.headers.set("x-word", self.settings.word)
        if exchange.path == "/answer":
            return exchange.respond(418, "VERSION")
        return CONTINUE

    def response(self, exchange):
        exchange.response.headers.set("x-version", "VERSION")
        return CONTINUE
"""
)

BODIES = (
    HEAD
    + """
class Upper(Transformer):
    def feed(self, data, ended):
        return data.upper()

class Bodies(Plugin):
    reads_request_body = True

    def request(self, exchange):
        if exchange.path == "/stream":
            exchange.transform_request(Upper())
        elif exchange.path == "/whole":
            exchange.collect_request(lambda exchange, body: body[::-1], limit=300_000)
        return CONTINUE

    def response(self, exchange):
        if exchange.path == "/stream":
            exchange.transform_response(Upper())
        elif exchange.path == "/whole":
            exchange.collect_response(lambda exchange, body: body + b"!")
        return CONTINUE
"""
)

VILLAIN = (
    HEAD
    + """
import asyncio, os, sys, time

class Villain(Plugin):
    async def leave(self):
        sys.exit(3)

    def request(self, exchange):
        what = exchange.path
        if what == "/raise":
            raise RuntimeError("boom")
        if what == "/loop":
            while True:
                pass
        if what == "/swallow":
            while True:
                try:
                    while True:
                        pass
                except Exception:
                    pass
        if what == "/exit":
            os._exit(3)
        if what == "/sys-exit":
            sys.exit(3)
        if what == "/nonsense":
            return 42
        if what == "/bad-header":
            exchange.headers.set("x-a", "1\\r\\nx-b: 2")
        if what == "/sleep":
            time.sleep(30)
        if what == "/cancel":
            raise asyncio.CancelledError
        if what == "/task-exit":
            return asyncio.create_task(self.leave())
        if what == "/hold":
            time.sleep(1)
        if what == "/patient":
            return asyncio.sleep(0.1)
        if what == "/await":
            return asyncio.sleep(30)
        return CONTINUE
"""
)


def chain(origin: Origin, path: Path, more: str = "") -> str:
    return site([origin.port], location='plugins = ["own"]', more=f'[plugins.own]\ncategory = "python"\npath = "{path}"\n{more}')


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path / "own.py"


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_plugin_from_a_file_sees_requests_and_answers(placement: str, origin: Origin, code: Path) -> None:
    replace(code, TAGGER.replace("VERSION", "one"))
    with Pingap(chain(origin, code, 'word = "hello"'), placement) as proxy:
        response = proxy.get("/x")
        assert (response.status, response.get("x-version")) == (200, "one")
        assert origin.seen("/x")[0].get("x-word") == "hello"
        answer = proxy.get("/answer")
        assert (answer.status, answer.body) == (418, b"one")
        assert not origin.seen("/answer")


def test_a_changed_plugin_file_is_taken_over_without_dropping_a_connection(placement: str, origin: Origin, code: Path) -> None:
    replace(code, TAGGER.replace("VERSION", "one"))
    with Pingap(chain(origin, code), placement) as proxy, Load(proxy.port, connections=8) as load, proxy.client() as client:
        assert client.get("/x").get("x-version") == "one"
        replace(code, TAGGER.replace("VERSION", "two"))
        until(lambda: client.get("/x").get("x-version") == "two", 5, "the new plugin is in use, on the same connection")
        replace(code, TAGGER.replace("VERSION", "three"))
        done = proxy.command("reload")
        assert done.returncode == 0, done.stderr
        assert client.get("/x").get("x-version") == "three"
        load.advance(50)
        tally = load.stop()
        assert set(tally.statuses) == {200}, tally
        assert tally.dropped == tally.hung == 0, tally


def test_a_plugin_that_no_longer_compiles_leaves_the_old_one_at_work(placement: str, origin: Origin, code: Path) -> None:
    replace(code, TAGGER.replace("VERSION", "one"))
    with Pingap(chain(origin, code), placement) as proxy:
        for broken in ("def (", "raise RuntimeError('not today')", "x = 1"):
            replace(code, broken)
            done = proxy.command("reload")
            assert done.returncode == 1, done
            assert "plugins.own" in done.stderr or "own.py" in done.stderr
            assert proxy.get("/x").get("x-version") == "one"
        replace(code, TAGGER.replace("VERSION", "two"))
        until(lambda: proxy.get("/x").get("x-version") == "two", 5, "the mended plugin is in use")


def test_processes_that_start_while_the_file_is_broken_run_the_accepted_code(placement: str, origin: Origin, code: Path) -> None:
    replace(code, TAGGER.replace("VERSION", "one"))
    more = chain(origin, code).replace('locations = ["all"]', 'locations = ["bare", "all"]')
    more += '[locations.bare]\npath = "/bare"\nupstream = "origin"\n'
    with Pingap(more, placement) as proxy:
        replace(code, "def (")
        assert proxy.command("reload").returncode == 1
        for stage in ("config", "plugins"):
            pid = proxy.pid(stage)
            os.kill(pid, signal.SIGKILL)
            proxy.wait_restarted(stage, pid)
        if placement == "split":
            assert proxy.command("scale", "plugins=2").returncode == 0
        for _ in range(4):
            assert proxy.get("/x").get("x-version") == "one"
            assert proxy.get("/bare").status == 200
        replace(code, TAGGER.replace("VERSION", "two"))
        until(lambda: proxy.get("/x").get("x-version") == "two", 5, "the mended plugin is in use")


@pytest.mark.slow
def test_the_modules_beside_a_plugin_are_replaced_with_it_and_kept_with_it(placement: str, origin: Origin, code: Path) -> None:
    words = code.with_name("words") / "more.py"
    words.parent.mkdir()
    text = TAGGER.replace('"VERSION"', "WORD")
    assert text != TAGGER
    replace(code, f"from words.more import WORD\n{text}")
    replace(words, 'WORD = "one"\n')
    with Pingap(chain(origin, code), placement) as proxy, Load(proxy.port, connections=4) as load:
        assert proxy.get("/x").get("x-version") == "one"
        replace(words, 'WORD = "two"\n')
        until(lambda: proxy.get("/x").get("x-version") == "two", 5, "the new module is in use")
        replace(words, "WORD = \n")
        done = proxy.command("reload")
        assert done.returncode == 1 and "words/more.py:1: SyntaxError" in done.stderr, done
        load.advance(50)
        tally = load.stop()
        assert set(tally.statuses) == {200} and tally.dropped == tally.hung == 0, tally
        pid = proxy.pid("plugins")
        os.kill(pid, signal.SIGKILL)
        proxy.wait_restarted("plugins", pid)
        assert proxy.get("/x").get("x-version") == "two", "what was accepted, not what is on disk"
        words.unlink()
        replace(words, 'WORD = "three"\n')
        until(lambda: proxy.get("/x").get("x-version") == "three", 5, "the mended module is in use")


STARTS_ONCE = (
    HEAD
    + """
from pathlib import Path

class Once(Plugin):
    def start(self, host):
        flag = Path(__file__).with_suffix(".flag")
        if flag.exists():
            raise OSError("no second time")
        flag.touch()

    def request(self, exchange):
        return CONTINUE
"""
)


def test_locations_without_plugins_need_no_plugins_process(origin: Origin, code: Path) -> None:
    replace(code, STARTS_ONCE)
    more = chain(origin, code).replace('locations = ["all"]', 'locations = ["bare", "all"]')
    more += '[locations.bare]\npath = "/bare"\nupstream = "origin"\n'
    with Pingap(more) as proxy:
        assert proxy.get("/x").status == 200
        os.kill(proxy.pid("plugins"), signal.SIGKILL)
        proxy.wait_output("no second time", 10)
        for _ in range(3):
            assert proxy.get("/bare").status == 200
        code.with_suffix(".flag").unlink()
        replace(code, STARTS_ONCE + "# mended")
        until(lambda: proxy.get("/x").status == 200, 10, "a generation that it can start is taken")


def test_settings_of_a_plugin_are_checked(origin: Origin, code: Path) -> None:
    replace(code, TAGGER)
    proxy = Pingap(chain(origin, code, "wrod = 1"))
    process = proxy.launch()
    try:
        assert process.wait(15) == 2
        assert "wrod" in proxy.output()
    finally:
        proxy.discard()


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_bodies_stream_through_a_plugin_and_are_collected_by_it(placement: str, origin: Origin, code: Path, size: int) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.reply(exchange.read_body())

    origin.on["/stream"] = origin.on["/whole"] = echo
    replace(code, BODIES)
    body = (b"abcdefghij" * 20_000)[:size]
    with Pingap(chain(origin, code), placement) as proxy, proxy.client() as client:
        for _ in range(2):
            assert client.get("/stream", method="POST", body=body).body == body.upper()
            assert origin.seen("/stream")[-1].body == body.upper()
            assert client.get("/whole", method="POST", body=body).body == body[::-1] + b"!"
            client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
            assert client.response().body == b"ABCDEF"


def test_a_collected_body_has_a_bound(placement: str, origin: Origin, code: Path) -> None:
    replace(code, BODIES)
    with Pingap(chain(origin, code), placement) as proxy:
        assert proxy.get("/whole", method="POST", body=b"a" * 300_001).status == 413
        assert not origin.seen("/whole")
        assert proxy.get("/x").status == 200


def test_a_large_body_streams_through_a_plugin_in_bounded_memory(placement: str, origin: Origin, code: Path, big_file: bytes) -> None:
    def echo_length(exchange: Exchange) -> None:
        seen = exchange.read_body()
        exchange.reply(b"same" if seen == big_file.upper() else b"different")

    origin.on["/stream"] = echo_length
    replace(code, BODIES)
    with Pingap(chain(origin, code), placement) as proxy, proxy.client(timeout=40) as client:
        proxy.get("/warm")
        before = proxy.memory()
        assert client.get("/stream", method="POST", body=big_file).body == b"SAME"
        assert proxy.memory() - before < 24 * 1024 * 1024


MISDEEDS = ["raise", "nonsense", "bad-header", "loop", "swallow", "sys-exit", "cancel", "task-exit", "sleep", "await", "exit"]


@pytest.mark.parametrize("what", MISDEEDS)
def test_a_misbehaving_plugin_fails_its_own_request_within_its_deadline(placement: str, origin: Origin, code: Path, what: str) -> None:
    replace(code, VILLAIN)
    with Pingap(chain(origin, code, 'timeout = "1s"'), placement) as proxy:
        for path in ("/fine", "/fine"):
            assert proxy.get(path).status == 200
        with proxy.client(timeout=15) as client:
            began = time.monotonic()
            try:
                status = client.get(f"/{what}").status
            except Exception:
                assert what == "exit", "no answer at all"
                assert placement == "colocated", "accept lives on when plugins is a process of its own"
                status = 502
            took = time.monotonic() - began
        assert status in (500, 502), "a plugin that failed never lets its request pass"
        assert took < 6, took
        assert not origin.seen(f"/{what}")
        until(lambda: served(proxy), 5, "others go on")
        assert proxy.process is not None
        assert is_alive(proxy.process.pid)


def test_hooks_that_hold_the_process_one_after_the_other_do_not_cost_it(placement: str, origin: Origin, code: Path) -> None:
    replace(code, VILLAIN)
    with Pingap(chain(origin, code), placement) as proxy:
        pids = proxy.stage_pids()
        clients = [proxy.client(timeout=30) for _ in range(6)]
        try:
            for number, client in enumerate(clients):
                client.request("/patient" if number in (1, 4) else "/hold")
            assert [client.response().status for client in clients] == [200] * 6
        finally:
            for client in clients:
                client.close()
        assert proxy.stage_pids() == pids


def served(proxy: Pingap) -> bool:
    try:
        return proxy.get("/fine").status == 200
    except OSError:
        return False


def test_others_are_served_while_a_plugin_loops(origin: Origin, code: Path) -> None:
    replace(code, VILLAIN)
    text = chain(origin, code, 'timeout = "1s"').replace('locations = ["all"]', 'locations = ["all", "plain"]')
    text += '\n[locations.plain]\nupstream = "origin"\npath = "/plain"\n'
    with Pingap(text) as proxy, proxy.client() as victim:
        victim.request("/loop")
        time.sleep(0.1)
        began = time.monotonic()
        answer: Response = proxy.get("/plain")
        assert answer.status == 200
        assert time.monotonic() - began < 0.5, "a location without plugins does not even notice"
        assert victim.response().status == 500


def test_a_plugin_may_be_a_module(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "my_company_plugin.py").write_text(TAGGER.replace("VERSION", "module"))
    more = '[plugins.own]\ncategory = "python"\nmodule = "my_company_plugin"\n'
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    with Pingap(site([origin.port], location='plugins = ["own"]', more=more), env=env) as proxy:
        assert proxy.get("/x").get("x-version") == "module"
