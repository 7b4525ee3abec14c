"""Authorities that are down, are none, or are not believed."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pingap.stages.acme.authority import link
from tests.acme.authority.desk import Desk
from tests.kit.dnsmasq import Silence
from tests.kit.pebble import own_tls
from tests.kit.small_authority import Said, SmallAuthority
from tests.kit.waiting import free_port

WRONG = [
    (Said(200, "<html><h1>Welcome</h1></html>"), "does not speak ACME"),
    (Said(404, "<html>Not Found</html>"), "404 Not Found"),
    (Said(500, "<html>oops</html>"), "500 Internal Server Error: the authority has trouble"),
    (Said(500, {"oops": 1}), "500 Internal Server Error"),
    (Said(200, '{"status": "pend'), "does not speak ACME"),
    (Said(200, []), "does not speak ACME"),
    (Said(200, {}), "does not speak ACME"),
    (Said(400, {"type": 7, "detail": []}), "does not speak ACME"),
    (Said(200, {"status": "valid"}, {"Replay-Nonce": ""}), "does not speak ACME"),
    (Said(301, "", {"Location": "https://elsewhere.test/dir"}), "https://elsewhere.test/dir"),
]


RESOURCES = ["new-account", "new-order", "order", "authorization", "challenge", "finalize", "certificate"]
CASES = [
    pytest.param(resource, said, text, id=f"{resource}{number}")
    for resource in RESOURCES
    for number, (said, text) in enumerate(WRONG)
    if resource != "challenge" or said.status != 200  # nothing of that answer is used
]


@pytest.mark.parametrize(("resource", "said", "text"), CASES)
def test_answers_that_are_no_acme_are_told_and_forgotten(desk: Desk, small: SmallAuthority, resource: str, said: Said, text: str) -> None:
    if resource == "certificate" and said.status == 200 and not said.headers:
        text = "is not used"
    small.wrong[resource] = [said] * 50
    error = desk.fails()
    assert text in str(error) and not error.is_final, str(error)
    assert "\n" not in str(error) and len(str(error)) < 500
    small.wrong.clear()
    desk.time.ahead = 0
    desk.authority._clocks = desk.time.clocks()
    assert desk.issue()


@pytest.mark.parametrize(("body", "text"), [("<html>", "does not speak ACME"), ({}, "no newNonce"), ({"newNonce": 1}, "no newNonce")])
def test_a_url_that_is_no_directory_is_told(desk: Desk, small: SmallAuthority, body: object, text: str) -> None:
    small.__dict__["_open"] = lambda path, start: Said(200, body)
    assert text in str(desk.fails())


def test_an_authority_that_leads_elsewhere_in_the_clear_is_not_followed(desk: Desk, small: SmallAuthority) -> None:
    real = small._open
    small.__dict__["_open"] = lambda path, start: Said(200, {**real(path, start).body, "newAccount": "http://192.0.2.1/new"})
    assert "http://192.0.2.1/new" in str(desk.fails())


def test_retry_after_of_an_authority_in_trouble_is_kept(desk: Desk, small: SmallAuthority) -> None:
    small.wrong["new-account"] = [Said(503, "later", {"Retry-After": "600"})]
    when = desk.fails().retry_at
    assert when is not None and abs(when - time.time() - 600) < 60


def test_an_authority_that_is_down_is_told(desk: Desk) -> None:
    error = desk.fails(desk.wanted(directory=f"http://127.0.0.1:{free_port()}/dir"))
    assert "is not reached: Connection refused" in str(error) and not error.is_final


def test_a_name_that_is_none_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "ca.invalid is not reached: " in str(desk.fails(desk.wanted(directory="https://ca.invalid/dir")))


def test_silence_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SECONDS", 0.2)
    with Silence() as nobody:
        start = time.monotonic()
        error = desk.fails(desk.wanted(directory=f"http://127.0.0.1:{nobody.port}/dir"))
        assert "has not answered within" in str(error) and time.monotonic() - start < 3


def test_answers_that_never_end_are_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SECONDS", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not done.wait(0.05):
                try:
                    peer.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    start = time.monotonic()
    try:
        error = desk.fails(desk.wanted(directory=f"http://127.0.0.1:{listener.getsockname()[1]}/dir"))
    finally:
        done.set()
        thread.join(5)
        listener.close()
    assert "has not answered within" in str(error) and time.monotonic() - start < 5


def test_answers_that_are_too_large_are_not_read(desk: Desk, small: SmallAuthority) -> None:
    small.__dict__["_open"] = lambda path, start: Said(200, "x" * 3_000_000)
    assert "more than 1048576 bytes" in str(desk.fails())


@pytest.mark.parametrize("url", ["http://ca.example/dir", "ftp://ca.example/dir", "ca.example", "http://[::1", "https:///dir"])
def test_only_https_is_spoken_to_others(desk: Desk, url: str) -> None:
    error = desk.fails(desk.wanted(directory=url))
    assert "is no https:// URL" in str(error) and error.is_final


def test_an_authority_whose_tls_is_not_believed_is_told_with_what_to_do(desk: Desk, tmp_path: Path) -> None:
    certificate, key = own_tls(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/dir"
        error = desk.fails(desk.wanted(directory=url))
        assert "is not believed: self-signed certificate" in str(error) and "acme_ca" in str(error)
        assert "404 Not Found" in str(desk.fails(desk.wanted(directory=url, authority_ca=certificate.read_text())))
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
    assert "acme_ca has no certificate" in str(desk.fails(desk.wanted(directory=url, authority_ca="nothing")))


def test_one_order_takes_one_connection(desk: Desk, small: SmallAuthority) -> None:
    desk.issue()
    assert small.connections == 1


@pytest.mark.processes
def test_the_libraries_are_loaded_when_something_is_issued() -> None:
    code = "import sys; import pingap.stages.acme.authority.authority; print(sorted({'acme', 'requests', 'josepy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
