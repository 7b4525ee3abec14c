"""Health checks of every kind against real servers: nginx with and without TLS, and grpcio; and who is told when one turns."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap import events
from tests.discovery.health_peer import NOT_SERVING, SERVING, HealthPeer, health_peer
from tests.e2e.certificate import self_signed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import accepts
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

SOON = "check_frequency=300ms&read_timeout=2s"


class HealthyNginx:
    """`/healthz` answers 200 under the name app.example alone, and 503 while `down` is there; TLS is refused to other names."""

    def __init__(self, root: Path) -> None:
        self.plain, self.tls = free_port(), free_port()
        self.down = root / "down"
        certificate, key = self_signed("app.example")
        (root / "site.pem").write_text(certificate + key)
        config = root / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        config.write_text(f"""{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;
  fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  ssl_certificate {root}/site.pem; ssl_certificate_key {root}/site.pem;
  server {{ listen 127.0.0.1:{self.plain} default_server; return 421; }}
  server {{ listen 127.0.0.1:{self.tls} ssl default_server; ssl_reject_handshake on; }}
  server {{
    listen 127.0.0.1:{self.plain}; listen 127.0.0.1:{self.tls} ssl; server_name app.example;
    location = /healthz {{ if (-f {self.down}) {{ return 503; }} return 200 'well'; }}
  }}
}}""")
        self.process = subprocess.Popen(["nginx", "-c", config, "-e", root / "error.log"])
        until(lambda: accepts(self.plain), 10, "nginx accepts connections")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def nginx_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HealthyNginx]:
    needs("nginx")
    server = HealthyNginx(tmp_path_factory.mktemp("checked"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def peers() -> Iterator[tuple[HealthPeer, HealthPeer]]:
    """(plain, TLS)."""
    with health_peer() as plain, health_peer(tls=self_signed("app.example")) as secure:
        for peer in (plain, secure):
            peer.statuses |= {"shop.Cart": SERVING, "shop.Till": NOT_SERVING}
        yield plain, secure


@pytest.fixture(scope="module")
def proxy(placement: str, nginx_site: HealthyNginx, peers: tuple[HealthPeer, HealthPeer]) -> Iterator[Pingap]:
    plain, secure = peers
    kinds = {
        "http": (nginx_site.plain, f"http://app.example/healthz?{SOON}"),
        "http_kept": (nginx_site.plain, f"http://app.example/healthz?{SOON}&reuse"),
        "http_other": (nginx_site.plain, f"http://other.example/healthz?{SOON}"),
        "https": (nginx_site.tls, f"https://app.example/healthz?{SOON}"),
        "https_kept": (nginx_site.tls, f"https://app.example/healthz?{SOON}&reuse"),
        "https_other": (nginx_site.tls, f"https://other.example/healthz?{SOON}"),
        "https_verified": (nginx_site.tls, f"https://app.example/healthz?{SOON}&verify_cert"),
        "grpc": (plain.port, f"grpc://app.example?{SOON}"),
        "grpc_cart": (plain.port, f"grpc://app.example?{SOON}&service=shop.Cart&reuse"),
        "grpc_till": (plain.port, f"grpc://app.example?{SOON}&service=shop.Till"),
        "grpc_none": (plain.port, f"grpc://app.example?{SOON}&service=shop.Cat"),
        "grpc_tls": (secure.port, f"grpc://app.example?{SOON}&tls"),
        "grpc_http1": (nginx_site.plain, f"grpc://app.example?{SOON}"),
        "tcp": (nginx_site.plain, f"tcp://x?{SOON.partition('&')[0]}"),
    }
    more = "".join(f'[upstreams.{name}]\naddrs = ["127.0.0.1:{port}"]\nhealth_check = "{url}"\n' for name, (port, url) in kinds.items())
    with Pingap(site([nginx_site.plain], more=more), placement) as instance:
        yield instance


def backends(proxy: Pingap) -> dict[str, dict[str, Any]]:
    """By the upstream; each has one."""
    done = proxy.command("upstreams", "--json")
    assert done.returncode == 0, done.stderr
    return {each["upstream"]: each["backends"][0] for each in json.loads(done.stdout)}


WHY = {
    "http_other": "answered with status 421",
    "https_other": "it has no certificate for that name",
    "https_verified": "its certificate is not accepted",
    "grpc_till": "service 'shop.Till' is not serving (NOT_SERVING)",
    "grpc_none": "does not know service 'shop.Cat' (NOT_FOUND)",
    "grpc_http1": "it does not speak HTTP/2 here",
}


def test_every_kind_of_check_finds_who_is_well_and_says_why_the_others_are_not(proxy: Pingap) -> None:
    until(lambda: all(one["health"] != "unchecked" for one in backends(proxy).values()), 10, "all are judged")
    for name, one in backends(proxy).items():
        error = one["check"]["error"]
        assert one["health"] == ("unhealthy" if name in WHY else "healthy"), (name, error)
        assert WHY[name] in error if name in WHY else error is None, (name, error)
        assert one["check"]["seconds"] < 3


def test_a_turn_is_told_to_consumers_and_in_the_log(proxy: Pingap, nginx_site: HealthyNginx, peers: tuple[HealthPeer, HealthPeer]) -> None:
    names = {"http", "http_kept", "https", "https_kept", "grpc"}
    until(lambda: all(one["health"] != "unchecked" for one in backends(proxy).values()), 10, "all are judged")
    heard: list[events.NoticeEvent] = []

    def listen() -> None:
        for event in events.stream(str(proxy.run_dir), topics=("notice",)):
            if isinstance(event, events.NoticeEvent):
                heard.append(event)

    threading.Thread(target=listen, daemon=True).start()

    def is_heard() -> bool:
        for word in ("drain", "enable"):
            assert proxy.command("upstream", word, "tcp", f"127.0.0.1:{nginx_site.plain}", *["--force"][: word == "drain"]).returncode == 0
        return bool(heard)

    until(is_heard, 10, "notices are heard")

    def said(category: str, state: str, level: str) -> set[str]:
        those = [event for event in heard if event.category == category and event.fields["state"] == state]
        assert all(event.level == level and event.stage == "discovery" for event in those)
        if category == "backend_status":
            return {event.fields["upstream"] for event in those}
        return {name for event in those for name in event.fields["upstreams"]}

    def turn(is_well: bool) -> None:
        if is_well:
            nginx_site.down.unlink(missing_ok=True)
        else:
            nginx_site.down.touch()
        peers[0].statuses[""] = SERVING if is_well else NOT_SERVING

    turn(False)
    try:
        until(lambda: said("backend_status", "unhealthy", "error") >= names, 10, "all fell")
        until(lambda: said("upstream_status", "unhealthy", "error") >= names, 5, "their upstreams are down")
        address = f"127.0.0.1:{nginx_site.tls}"
        messages = {event.message for event in heard}
        assert f"upstream https({address}) becomes unhealthy: answered with status 503" in messages
        assert backends(proxy)["https"]["check"]["error"] == "answered with status 503"
    finally:
        turn(True)
    until(lambda: said("backend_status", "healthy", "info") >= names, 10, "all are back")
    until(lambda: said("upstream_status", "healthy", "info") >= names, 5, "their upstreams are back")
    assert "upstreams have no healthy backend" in proxy.output()
    assert f"upstream https({address}) becomes healthy" in {event.message for event in heard}
    assert "tcp" not in said("backend_status", "unhealthy", "error"), "it takes connections all the same"


def test_a_restart_of_the_stage_tells_nothing_twice(proxy: Pingap) -> None:
    until(lambda: all(one["health"] != "unchecked" for one in backends(proxy).values()), 10, "all are judged")
    mark = len(proxy.output())
    old = proxy.pid("discovery")
    assert proxy.command("kill", "discovery").returncode == 0
    proxy.wait_restarted("discovery", old)
    until(lambda: all(one["check"] is not None for one in backends(proxy).values()), 10, "all were checked again")
    assert {name: one["health"] for name, one in backends(proxy).items() if name in WHY} == dict.fromkeys(WHY, "unhealthy")
    assert "upstreams have no healthy backend" not in proxy.output()[mark:]
