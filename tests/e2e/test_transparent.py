"""Discovery `transparent` end to end: clients choose the host, within what is allowed."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.client import Response
from tests.e2e.harness import PLACEMENTS, Pingap
from tests.e2e.origins import Exchange, Origin, TlsOrigin
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transparent")
    certificate, key = self_signed("localhost")
    (path / "crt").write_text(certificate)
    (path / "key").write_text(key)
    return path


def says_host(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(f"{exchange.target} {exchange.get('host')}".encode())


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin(says_host)
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def secure(root: Path) -> Iterator[Origin]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "crt", root / "key")
    server = TlsOrigin(context)
    server.answer = says_host
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module", params=PLACEMENTS)
def proxy(request: pytest.FixtureRequest, root: Path, origin: Origin, secure: Origin) -> Iterator[Pingap]:
    text = f"""
[servers.web]
addr = "127.0.0.1:{{port}}"
locations = ["secure", "closed", "only", "open"]
prometheus_metrics = "/metrics"
access_log = "{{dir}}/access.log {{path}} {{:upstream_addr}} {{status}}"
[locations.open]
upstream = "open"
[locations.only]
upstream = "open"
path = "/only"
host = "*.allowed.test"
[locations.closed]
upstream = "closed"
path = "/closed"
[locations.secure]
upstream = "secure"
path = "/secure"
[upstreams.open]
discovery = "transparent"
transparent_ports = [{origin.port}, {{port}}]
transparent_networks = ["127.0.0.0/8"]
[upstreams.closed]
discovery = "transparent"
transparent_ports = [{origin.port}]
[upstreams.secure]
discovery = "transparent"
sni = "$host"
transparent_ports = [{secure.port}]
transparent_networks = ["127.0.0.0/8"]
"""
    with Pingap(text, request.param, env={"SSL_CERT_FILE": str(root / "crt")}) as instance:
        yield instance


def ask(proxy: Pingap, host: str, target: str = "/", method: str = "GET", body: bytes | None = None) -> Response:
    with proxy.client() as client:
        client.request(target, method, body=body, host=host)
        return client.response()


def test_a_request_goes_to_the_host_that_it_asks_for(proxy: Pingap, origin: Origin) -> None:
    for host in ("localhost", "127.0.0.1", "127.1", "LOCALHOST."):
        response = ask(proxy, f"{host}:{origin.port}", "/a?b")
        assert (response.status, response.body) == (200, f"/a?b {host}:{origin.port}".encode())
    assert ask(proxy, f"localhost:{origin.port}", "/upload", "POST", b"x" * 300_000).status == 200
    log = proxy.dir / "access.log"
    until(lambda: log.exists() and f"/upload localhost:{origin.port} 200" in log.read_text(), 5, "the log has it")


def test_connections_are_kept(proxy: Pingap, origin: Origin) -> None:
    assert ask(proxy, f"localhost:{origin.port}").status == 200
    before = origin.connections
    for _ in range(5):
        assert ask(proxy, f"localhost:{origin.port}").status == 200
    assert origin.connections == before


def test_over_tls_the_host_has_to_prove_that_it_is_the_one(proxy: Pingap, secure: Origin) -> None:
    response = ask(proxy, f"localhost:{secure.port}", "/secure")
    assert (response.status, response.body) == (200, f"/secure localhost:{secure.port}".encode())
    assert ask(proxy, f"127.0.0.1:{secure.port}", "/secure").status == 502, "the certificate is not for that"


def test_what_is_not_public_and_not_listed_is_refused_and_told(proxy: Pingap, origin: Origin) -> None:
    seen = len(origin.requests)
    for host in ("localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"):
        response = ask(proxy, f"{host}:{origin.port}", "/closed")
        assert response.status == 403
        assert b"127.0" not in response.body
    assert ask(proxy, f"[::1]:{origin.port}").status == 403, "127.0.0.0/8 is listed there, and not ::1"
    assert ask(proxy, "localhost:22").status == 403
    assert ask(proxy, "localhost").status == 403
    assert len(origin.requests) == seen
    line = proxy.wait_output(r".*destination refused.*upstream=closed.*").group(0)
    assert re.search(r"addr=localhost:\d+ .*is loopback, and not in transparent_networks", line)


def test_a_loop_into_itself_is_refused(proxy: Pingap) -> None:
    assert ask(proxy, f"localhost:{proxy.port}").status == 403
    assert "is this proxy itself" in proxy.wait_output(r".*destination refused.*upstream=open.*itself.*").group(0)


def test_a_name_that_is_not_there_is_a_bad_gateway_and_no_host_at_all_a_bad_request(proxy: Pingap, origin: Origin) -> None:
    assert ask(proxy, f"nowhere.invalid:{origin.port}").status == 502
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().status == 400


def test_a_location_says_which_hosts_may_be_asked_for(proxy: Pingap, origin: Origin) -> None:
    assert ask(proxy, f"x.allowed.test:{origin.port}", "/only").status == 502, "there is none of that name"
    assert ask(proxy, f"localhost:{origin.port}", "/only").body.startswith(b"/only"), "that goes by the location behind"


def test_destinations_are_no_labels_and_no_backends(proxy: Pingap, origin: Origin) -> None:
    for number in range(2, 30):
        assert ask(proxy, f"127.0.0.{number}:{origin.port}").status == 502, "nobody listens there"
    page = proxy.get("/metrics").body.decode()
    assert "pingap_" in page and "127.0.0." not in page
    shown = proxy.command("upstreams", "--json")
    if "no command" not in shown.stderr:  # it is to come
        assert shown.returncode == 0 and '"transparent"' in shown.stdout and "127.0.0." not in shown.stdout, shown


def test_a_check_tells_of_a_location_that_is_open_to_all(proxy: Pingap) -> None:
    checked = proxy.command("check", "-c", str(proxy.config)).stderr
    assert "locations.open, locations.closed, locations.secure: has no host, and its upstream is transparent" in checked
