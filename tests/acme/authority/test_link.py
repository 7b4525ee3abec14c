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
from pingap.stages.acme.authority.directory import why_not_led
from pingap.stages.acme.authority.patience import LONGEST
from tests.acme.authority.desk import Desk
from tests.kit.dnsmasq import Silence
from tests.kit.pebble import own_tls
from tests.kit.small_authority import Said, SignedRequest, SmallAuthority, problem
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


@pytest.mark.parametrize(
    ("directory", "url", "is_led"),
    [
        ("https://ca.example/dir", "https://ca.example/new", True),
        ("https://ca.example/dir", "https://other.example:14000/new", True),
        ("https://ca.example/dir", "http://127.0.0.1:2379/v3/kv/range", False),
        ("https://ca.example/dir", "http://localhost/", False),
        ("https://ca.example/dir", "https://127.0.0.1/", False),
        ("https://ca.example/dir", "https://2130706433/", False),
        ("https://ca.example/dir", "https://10.0x1/", False),
        ("https://ca.example/dir", "https://[fd00::1]/", False),
        ("https://ca.example/dir", "https://x.localhost./", False),
        ("https://127.0.0.1:14000/dir", "http://127.0.0.1:14000/new", False),
        ("https://127.0.0.1:14000/dir", "https://127.0.0.1:14000/new", True),
        ("https://10.0.0.7/dir", "https://10.0.0.7/new", True),
        ("http://127.0.0.1:4000/dir", "http://127.0.0.1:4000/new", True),
        ("http://127.0.0.1:4000/dir", "http://ca.example/new", False),
    ],
)
def test_no_directory_leads_into_the_inside_of_a_network(directory: str, url: str, is_led: bool) -> None:
    assert (not why_not_led(directory, url)) == is_led


def test_what_answers_and_is_no_authority_is_not_shown(desk: Desk, small: SmallAuthority) -> None:
    for body in ("the secret of a service", {"detail": "the secret of a service", "type": "about:blank"}):
        small.wrong["new-account"] = [Said(403, body)] * 3
        assert "secret" not in str(desk.fails())
    small.wrong["new-account"] = [
        Said(403, {"detail": "no more today", "type": "about:blank"}, {"Content-Type": "application/problem+json"})
    ]
    assert "no more today" in str(desk.fails())


def test_however_much_is_said_little_is_shown(desk: Desk, small: SmallAuthority) -> None:
    parts = [{"type": "urn:ietf:params:acme:error:dns", "detail": f"{number} " + "x\n" * 1000} for number in range(100)]
    small.wrong["new-order"] = [problem("rateLimited", "long", 429, subproblems=parts)]
    text = str(desk.fails())
    assert len(text) < 5000 and "\n" not in text


def test_a_limit_that_only_the_status_tells_is_one(desk: Desk, small: SmallAuthority) -> None:
    small.wrong["new-account"] = [Said(429, "slowly", {"Retry-After": "600"})]
    assert desk.fails().problem_type == "rateLimited"


def test_an_order_has_an_end_however_each_request_goes(desk: Desk, small: SmallAuthority) -> None:
    real = small._authorization

    def slow(request: SignedRequest) -> Said:
        desk.time.ahead += LONGEST / 2
        return real(request)

    small.__dict__["_authorization"] = slow
    error = desk.fails(desk.wanted(*(f"n{number}.test" for number in range(20))))
    assert "was not through within" in str(error) and len(small.paths("authorization")) < 5


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


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX:", b"HTTP/1.1 "])
def test_answers_that_never_end_are_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(link, "SECONDS", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(start)
            while not done.wait(0.05):
                try:
                    peer.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    try:
        error = desk.fails(desk.wanted(directory=f"http://127.0.0.1:{listener.getsockname()[1]}/dir"))
    finally:
        done.set()
        thread.join(5)
        listener.close()
    assert "has not answered within" in str(error) and time.monotonic() - began < 5


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
