"""What the operator sees: access log, application log, metrics, ps, tap, logs, and consumers of one's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.peers import needs
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    server = 'access_log = "{dir}/access.log combined"\nprometheus_metrics = "/metrics"'
    with Pingap(site([shared_origin.port], server=server, basic='log_level = "debug"'), placement) as instance:
        yield instance


def log_lines(proxy: Pingap, word: str, name: str = "access.log", count: int = 1) -> list[str]:
    """Lines of a log with a word in it, once there are `count` of them."""
    path = proxy.dir / name

    def found() -> list[str]:
        lines = [line for line in path.read_text().splitlines() if word in line] if path.exists() else []
        return lines if len(lines) >= count else []

    return until(found, 5, f"{count} lines with {word} in {name}")


def test_every_request_leaves_one_line_in_the_combined_format(proxy: Pingap) -> None:
    proxy.get("/combined?a=1", headers={"Referer": "http://ref/", "User-Agent": "agent/1.0"})
    (line,) = log_lines(proxy, "/combined")
    pattern = r'127\.0\.0\.1 .*"GET /combined\?a=1 HTTP/1\.1" 200 13B "http://ref/" "agent/1\.0"'
    assert re.search(pattern, line), line


def test_a_line_cannot_be_forged(proxy: Pingap) -> None:
    proxy.get("/forged", headers={"User-Agent": 'x" 200 1 "evil\\', "Referer": "\xe2\x80\xae"})
    (line,) = log_lines(proxy, "/forged")
    assert line.endswith(r'"\u202e" "x\" 200 1 \"evil\\"'), line


def test_refused_requests_are_logged_too(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"GET /refused-line HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.response().status == 400
    until(lambda: any(" 400 " in line for line in (proxy.dir / "access.log").read_text().splitlines()), 5, "the refusal is logged")


@pytest.mark.parametrize("name", ["combined", "common", "short", "tiny"])
def test_the_named_formats_work(shared_origin: Origin, name: str) -> None:
    with Pingap(site([shared_origin.port], server=f'access_log = "{name}"')) as proxy:
        proxy.get("/named-format")
        assert "GET" in proxy.wait_output(".*/named-format.*").group(0)


def test_a_template_shows_what_it_names(placement: str, shared_origin: Origin) -> None:
    shared_origin.on["/template"] = lambda exchange: exchange.reply(b"12345", headers="X-Answer: 42\r\n")
    tags = ["host", "method", "path", "query", "uri", "proto", "scheme", "client_ip", "status", "size", "~who", ">X-Ask", "<X-Answer"]
    tags += [":upstream_addr", ":upstream_reused", ":upstream_status", ":location", "latency", "payload_size", ":processing"]
    template = "{" + ",".join(f'"{tag}":"{{{tag}}}"' for tag in tags) + "}"
    with Pingap(site([shared_origin.port], server=f"access_log = '{{dir}}/t.log {template}'"), placement) as proxy:
        with proxy.client() as client:
            client.request("/template?q=1", "POST", headers={"Cookie": "who=ann", "X-Ask": "why"}, body=b"abc", host="shop.example")
            assert client.response().status == 200
        (line,) = log_lines(proxy, "/template", "t.log")
        fields = json.loads(line)
        expected = {
            "host": "shop.example",
            "method": "POST",
            "path": "/template",
            "query": "q=1",
            "uri": "/template?q=1",
            "proto": "HTTP/1.1",
            "scheme": "http",
            "client_ip": "127.0.0.1",
            "status": "200",
            "size": "5",
            "~who": "ann",
            ">X-Ask": "why",
            "<X-Answer": "42",
            ":upstream_addr": f"127.0.0.1:{shared_origin.port}",
            ":upstream_status": "200",
            ":upstream_reused": "false",
            ":location": "all",
            "payload_size": "3",
        }
        assert {name: fields[name] for name in expected} == expected
        assert int(fields["latency"]) < 2000


def test_the_metrics_page_counts_requests_and_keeps_its_labels_bounded(proxy: Pingap, shared_origin: Origin) -> None:
    for number in range(50):
        proxy.get(f"/metric/{number}")

    def page() -> str:
        response = proxy.get("/metrics")
        assert response.status == 200
        assert (response.get("content-type") or "").startswith("text/plain")
        return response.body.decode()

    def total() -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in page().splitlines() if line.startswith("pingap_http_requests_total"))

    until(lambda: total() >= 50, 5, "fifty requests are counted", every=0.2)
    text = page()
    assert "/metric/1" not in text
    assert not shared_origin.seen("/metrics"), "the page is the proxy's own"


def test_metrics_that_do_not_answer_are_503_and_told(placement: str, shared_origin: Origin) -> None:
    server = 'access_log = "{dir}/access.log combined"\nprometheus_metrics = "/metrics"'
    with Pingap(site([shared_origin.port], server=server), placement) as proxy:
        assert proxy.get("/metrics").status == 200
        pid = proxy.pid("metrics")
        os.kill(pid, signal.SIGSTOP)  # before the supervisor misses it, and after
        try:
            assert proxy.get("/metrics").status == 503
            assert proxy.get("/any").status == 200
        finally:
            proxy.wait_restarted("metrics", pid, seconds=10)
        until(lambda: proxy.get("/metrics").status == 200, 5, "the new one answers")
        proxy.wait_output("internal destination metrics (was silent|died|has nobody)")
        assert len(log_lines(proxy, '"GET /metrics HTTP/1.1" 503')) == 1


def test_prometheus_itself_can_read_the_metrics(proxy: Pingap) -> None:
    needs("promtool")
    text = proxy.get("/metrics").body.decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: readable, with opinions about names


def test_a_page_tells_what_discovery_knows_and_does_not_wait_for_one_that_is_stopped(proxy: Pingap, shared_origin: Origin) -> None:
    healthy = f'pingap_upstream_backend_healthy{{backend="127.0.0.1:{shared_origin.port}",upstream="origin"}} 1.0'
    until(lambda: healthy in proxy.get("/metrics").body.decode(), 5, "the backend is told to be healthy")
    pid = proxy.pid("discovery")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        page = proxy.get("/metrics")
        assert page.status == 200 and healthy not in page.body.decode()
        assert time.monotonic() - began < 2
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: healthy in proxy.get("/metrics").body.decode(), 15, "it is told again")


def test_tap_shows_live_requests_with_the_time_of_each_stage(proxy: Pingap) -> None:
    with proxy.follow("tap") as tap:

        def seen() -> bool:
            return proxy.get("/tapped").status == 200 and any("/tapped" in line for line in tap.lines())

        until(seen, 8, "tap shows the request", every=0.2)
        line = tap.wait_line("/tapped")
        for stage in ("accept", "routing", "upstream"):
            assert stage in line.lower() or any(stage in other.lower() for other in tap.lines()), tap.lines()


def test_tap_filters(proxy: Pingap) -> None:
    with proxy.follow("tap", "--path", "/wanted", "--host", "test.local", "--status", "2xx") as tap:

        def seen() -> bool:
            proxy.get("/wanted")
            proxy.get("/unwanted")
            return any("/wanted" in line for line in tap.lines())

        until(seen, 8, "tap shows the request", every=0.2)
        assert not any("/unwanted" in line for line in tap.lines())


def test_logs_follows_as_text_and_as_json(proxy: Pingap) -> None:
    with proxy.follow("logs", "-f") as text, proxy.follow("logs", "-f", "--json") as lines:

        def seen() -> bool:
            proxy.get("/followed")
            return all(any("/followed" in line for line in one.lines()) for one in (text, lines))

        until(seen, 10, "both show the request", every=0.2)
        parsed = [json.loads(line) for line in lines.lines()]
        assert any("/followed" in json.dumps(record) for record in parsed)


def test_a_consumer_of_ones_own_takes_ten_lines(proxy: Pingap) -> None:
    program = f"""
from pingap import events
for event in events.stream(topics=("access",), run_dir={str(proxy.run_dir)!r}):
    print(event.status, event.path, round(event.duration, 3), flush=True)
"""
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.1):
            proxy.get("/consumed")

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as consumer:
        assert consumer.stdout is not None
        asking = threading.Thread(target=ask)
        asking.start()
        watchdog = threading.Timer(8, consumer.kill)
        watchdog.start()
        try:
            assert any(line.startswith("200 /consumed") for line in consumer.stdout)
        finally:
            done.set()
            watchdog.cancel()
            consumer.kill()
            asking.join(5)


def test_the_application_log_goes_to_its_file(placement: str, shared_origin: Origin) -> None:
    with Pingap(site([shared_origin.port]), placement, up=["--log", "app.log"]) as proxy:
        log_lines(proxy, "", "app.log")
        proxy.write_config("broken [")
        proxy.command("reload")
        log_lines(proxy, "pingap.toml", "app.log")


def test_the_access_log_is_complete_after_a_stop(placement: str, nginx: Nginx) -> None:
    with Pingap(site([nginx.port], server='access_log = "{dir}/a.log {uri}"'), placement) as proxy:
        for number in range(200):
            proxy.get(f"/echo/{number}")
        assert proxy.stop() == 0
        lines = (proxy.dir / "a.log").read_text().splitlines()
        assert sorted(lines) == sorted(f"/echo/{number}" for number in range(200))


def test_a_slow_request_is_timed_where_it_was_slow(placement: str, shared_origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.reply(b"ok")

    shared_origin.on["/timed"] = slow
    tags = "{uri} {latency} {:upstream_processing_time} {:upstream_response_time} {:upstream_connect_time}"
    with Pingap(site([shared_origin.port], server=f'access_log = "{{dir}}/t.log {tags}"'), placement) as proxy:
        proxy.get("/timed")
        (line,) = log_lines(proxy, "/timed", "t.log")
        _, latency, processing, *_ = line.split(" ")
        assert 300 <= float(latency.removesuffix("ms")) < 900
        assert 290 <= float(processing.removesuffix("ms")) < 900
