"""An edited configuration is taken over while the proxy runs; a broken one is not."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.alone

GOOD = 'proxy_set_headers = ["X-Version:{}"]'


def version(proxy: Pingap, origin: Origin) -> str | None:
    origin.requests.clear()
    assert proxy.get("/version").status == 200
    return origin.requests[-1].get("x-version")


def test_an_edited_route_is_served_within_two_seconds_without_being_told(placement: str, origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1)), placement) as proxy:
        assert version(proxy, origin) == "1"
        proxy.write_config(site([origin.port], location=GOOD.format(2)))
        until(lambda: version(proxy, origin) == "2", 2.5, "the edit is in use")


def test_reload_answers_when_the_new_generation_is_in_use(placement: str, origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1)), placement) as proxy:
        for turn in range(2, 6):
            proxy.write_config(site([origin.port], location=GOOD.format(turn)))
            done = proxy.command("reload")
            assert done.returncode == 0, done.stderr
            assert version(proxy, origin) == str(turn)


def test_without_autoreload_an_edit_waits_for_a_reload(origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1)), env={"PINGAP_AUTORELOAD": "false"}) as proxy:
        assert version(proxy, origin) == "1"
        proxy.write_config(site([origin.port], location=GOOD.format(2)))
        time.sleep(2)  # within which an edit is taken over where it is followed
        assert version(proxy, origin) == "1"
        assert proxy.command("reload").returncode == 0
        assert version(proxy, origin) == "2"


def test_hup_reloads(origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1))) as proxy:
        proxy.write_config(site([origin.port], location=GOOD.format(2)))
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGHUP)
        until(lambda: version(proxy, origin) == "2", 2.5, "the edit is in use")


def test_a_broken_edit_leaves_everything_as_it_was_and_says_why(placement: str, origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1)), placement) as proxy:
        for broken, word in [
            ("[locations.all\n", "pingap.toml"),
            (site([origin.port], location='path = "~ (("'), "locations.all.path"),
            (site([origin.port], location='plugins = ["unknown"]'), "unknown"),
            (site([origin.port]).replace('upstream = "origin"', 'upstream = "gone"'), "gone"),
        ]:
            mark = len(proxy.output())
            proxy.write_config(broken)
            done = proxy.command("reload")
            assert done.returncode == 1
            assert word in done.stderr + done.stdout
            proxy.wait_output(word.replace("(", r"\("), 3, mark)
            assert version(proxy, origin) == "1"
        proxy.write_config(site([origin.port], location=GOOD.format(2)))
        until(lambda: version(proxy, origin) == "2", 3, "the mended file is in use")


def test_a_changed_address_is_named_as_needing_a_restart(origin: Origin) -> None:
    with Pingap(site([origin.port], location=GOOD.format(1))) as proxy:
        text = site([origin.port], location=GOOD.format(2)).replace("{port}", str(free_port()))
        proxy.write_config(text)
        done = proxy.command("reload")
        assert "restart" in (done.stdout + done.stderr).lower()
        assert "servers.plain.addr" in done.stdout + done.stderr
        until(lambda: version(proxy, origin) == "2", 3, "the rest of the edit is in use, on the old address")


def test_locations_upstreams_and_plugins_come_and_go(placement: str, origin: Origin, nginx: Nginx) -> None:
    more = f"""
[locations.new]
upstream = "static"
path = "/new"
rewrite = "^/new /who"
[upstreams.static]
addrs = ["127.0.0.1:{nginx.port}"]
[plugins.hello]
category = "mock"
path = "/hello"
status = 200
data = "hello"
"""
    with Pingap(site([origin.port]), placement) as proxy:
        assert proxy.get("/new").body == b"/new"
        proxy.write_config(site([origin.port], more=more, locations='["all", "new"]', location='plugins = ["hello"]'))
        assert proxy.command("reload").returncode == 0
        assert proxy.get("/new").body == str(nginx.port).encode()
        assert proxy.get("/hello").body == b"hello"
        proxy.write_config(site([origin.port]))
        assert proxy.command("reload").returncode == 0
        assert proxy.get("/new").body == b"/new"
        assert proxy.get("/hello").body == b"/hello"


def test_a_long_answer_lives_on_across_reloads_on_its_own_generation(placement: str, origin: Origin, nginx: Nginx) -> None:
    go = threading.Semaphore(0)

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            assert go.acquire(timeout=20)
            exchange.send(b"data: %d\n\n" % number)
        exchange.close()

    origin.on["/events"] = events
    with Pingap(site([origin.port]), placement) as proxy, proxy.client() as client:
        client.request("/events")
        assert client.head().status == 200
        for number in range(3):
            proxy.write_config(site([nginx.port], location=GOOD.format(number)))  # its upstream is not even there any more
            assert proxy.command("reload").returncode == 0
            go.release()
            seen = b""
            while b"data: %d\n\n" % number not in seen:
                seen += client.exactly(1)
        assert proxy.get("/who").body == str(nginx.port).encode()


def test_a_request_waiting_for_its_answer_is_not_disturbed_by_a_reload(placement: str, origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(1.5)
        exchange.reply(b"done")

    origin.on["/slow"] = slow
    with Pingap(site([origin.port], location=GOOD.format(1)), placement) as proxy, proxy.client() as client:
        client.request("/slow")
        assert origin.wait("/slow").get("x-version") == "1"
        for turn in range(2, 5):
            proxy.write_config(site([origin.port], location=GOOD.format(turn)))
            assert proxy.command("reload").returncode == 0
        assert client.response().body == b"done"


def test_no_request_sees_half_of_an_edit(placement: str, origin: Origin) -> None:
    """Two settings of two stages change together: header rules (routing) and request id header (plugins)."""

    def text(turn: int) -> str:
        plugin = f'[plugins.mark]\ncategory = "response_headers"\nset_headers = ["X-Plugin:{turn}"]'
        return site([origin.port], location=f'proxy_set_headers = ["X-Version:{turn}"]\nplugins = ["mark"]', more=plugin)

    def echo_version(exchange: Exchange) -> None:
        exchange.reply(b"ok", headers=f"X-Routing: {exchange.get('x-version')}\r\n")

    origin.on["/both"] = echo_version
    halves: list[tuple[str | None, str | None]] = []
    stop = threading.Event()
    with Pingap(text(0), placement) as proxy, Load(proxy.port, connections=4):

        def watch() -> None:
            with proxy.client() as client:
                while not stop.is_set():
                    response = client.get("/both")
                    halves.append((response.get("x-routing"), response.get("x-plugin")))

        thread = threading.Thread(target=watch)
        thread.start()
        for turn in range(1, 8):
            proxy.write_config(text(turn))
            assert proxy.command("reload").returncode == 0
        stop.set()
        thread.join(10)
        last = proxy.get("/both")
    assert len(halves) > 50
    assert all(routing == plugin for routing, plugin in halves)
    assert (last.get("x-routing"), last.get("x-plugin")) == ("7", "7")


def test_usr1_reopens_every_log_file(placement: str, origin: Origin) -> None:
    text = site([origin.port], server='access_log = "{dir}/access.log {uri}"', basic='error_log = "{dir}/error.log"')
    with Pingap(text, placement) as proxy:
        access, errors = proxy.dir / "access.log", proxy.dir / "error.log"
        proxy.get("/before")
        until(lambda: "/before" in access.read_text(), 3, "the access log is written")
        access.rename(proxy.dir / "access.old")
        errors.rename(proxy.dir / "error.old")
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGUSR1)
        until(lambda: access.exists() and errors.exists(), 3, "both are opened anew")
        proxy.get("/after")
        until(lambda: "/after" in access.read_text(), 3, "the new access log is written")
        assert "/after" not in (proxy.dir / "access.old").read_text()
