"""gRPC-Web of browsers translated to gRPC: raw requests over HTTP/1.1 and HTTP/2, and the library that pages use."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client, Response
from tests.e2e.grpc_peer import SERVICE, Peer
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.kit.peers import lacks, needs

WITHIN = 20.0
TRAILING = {"x-trailing": "last", "x-trailing-bin": "AP8A"}
BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    server = Peer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(placement: str, peer: Peer, shared_origin: Origin) -> Iterator[Pingap]:
    more = f"""
[locations.plain]
upstream = "plain"
host = "plain.local"
[upstreams.plain]
addrs = ["127.0.0.1:{shared_origin.port}"]
[locations.nowhere]
upstream = "nowhere"
path = "/{SERVICE}/Nowhere"
grpc_web = true
[upstreams.nowhere]
addrs = ["127.0.0.1:1"]
health_check = "tcp://x?failure=1000"
alpn = "h2"
"""
    config = site(
        [peer.port],
        server='enabled_h2 = true\nmodules = ["grpc-web"]',
        location="grpc_web = true",
        upstream='alpn = "h2"',
        locations='["nowhere", "plain", "all"]',
        more=more,
    )
    with Pingap(config, placement) as instance:
        yield instance


Call = Callable[..., Response]


@pytest.fixture(params=["http/1.1", "h2"])
def call(request: pytest.FixtureRequest, proxy: Pingap) -> Call:
    """Posts to a method; over HTTP/2 with curl."""
    if request.param == "h2":
        needs("curl")

    def over_http1(method: str, body: bytes, headers: dict[str, str]) -> Response:
        with proxy.client(timeout=WITHIN) as client:
            return client.get(f"/{SERVICE}/{method}", "POST", headers, body)

    def over_http2(method: str, body: bytes, headers: dict[str, str]) -> Response:
        lines = [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]
        url = f"http://127.0.0.1:{proxy.port}/{SERVICE}/{method}"
        argv = ["curl", "-sS", "-i", "--http2-prior-knowledge", "--max-time", str(WITHIN), "--data-binary", "@-", *lines, url]
        done = subprocess.run(argv, input=body, capture_output=True, timeout=2 * WITHIN, check=True)
        head, _, payload = done.stdout.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        version, status, *_ = first.split(" ")
        assert version == "HTTP/2"
        headers_read = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        return Response(int(status), "", version, headers_read, payload)

    return over_http2 if request.param == "h2" else over_http1


@pytest.fixture(params=[BINARY, TEXT])
def form(request: pytest.FixtureRequest) -> str:
    """The content type of requests and answers."""
    name: str = request.param
    return name


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def written(form: str, *messages: bytes) -> bytes:
    """A request body; in text, each message as a text of its own."""
    frames = [frame(message) for message in messages]
    return b"".join(map(b64encode, frames) if form == TEXT else frames)


def plain(form: str, body: bytes) -> bytes:
    """An answer's body out of base64, group by group: padding may end any of them."""
    if form != TEXT:
        return body
    return b"".join(b64decode(body[at : at + 4], validate=True) for at in range(0, len(body), 4))


def read(form: str, body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """(messages, trailers) of an answer's body; the trailers must be the last frame."""
    body = plain(form, body)
    messages: list[bytes] = []
    while body:
        flags, size = body[0], int.from_bytes(body[1:5], "big")
        payload, body = body[5 : 5 + size], body[5 + size :]
        assert len(payload) == size, "the body ends within a frame"
        if flags & 0x80:
            assert not body, "something comes after the trailers"
            assert payload.endswith(b"\r\n")
            return messages, dict(line.split(": ", 1) for line in payload.decode().split("\r\n")[:-1])
        messages.append(payload)
    return messages, {}


def status_of(response: Response) -> tuple[str | None, str | None]:
    return response.get("grpc-status"), response.get("grpc-message")


# -- answers ------------------------------------------------------------------------------------


def test_a_unary_call(call: Call, form: str, peer: Peer) -> None:
    headers = {"content-type": form, "accept": form, "x-grpc-web": "1", "x-asked": "yes", "grpc-timeout": "10S"}
    response = call("Echo", written(form, b"hello"), headers)
    assert (response.status, response.get("content-type")) == (200, form)
    assert response.get("x-initial") == "first" and response.get("content-length") is None
    messages, trailers = read(form, response.body)
    assert messages == [b"hello"]
    assert trailers.items() >= {"grpc-status": "0", **TRAILING}.items()
    assert peer.seen["Echo"]["x-asked"] == "yes"


def test_a_large_message_passes_both_ways(call: Call, form: str) -> None:
    message = bytes(range(256)) * 8192
    response = call("Echo", written(form, message), {"content-type": form})
    messages, trailers = read(form, response.body)
    assert messages == [message] and trailers["grpc-status"] == "0"


def test_a_server_streams(call: Call, form: str) -> None:
    response = call("Count", written(form, b"100"), {"content-type": form, "size": "1000"})
    messages, trailers = read(form, response.body)
    assert [message.rstrip(b"\0") for message in messages] == [b"%d" % number for number in range(100)]
    assert trailers.items() >= {"grpc-status": "0", **TRAILING}.items()


def test_a_client_may_stream_within_one_body(call: Call, form: str) -> None:
    response = call("Collect", written(form, b"a", b"", b"ccc"), {"content-type": form})
    assert read(form, response.body)[0] == [b"a||ccc"]


def test_text_may_be_asked_for_by_one_who_sends_bytes(call: Call) -> None:
    response = call("Echo", written(BINARY, b"x"), {"content-type": BINARY, "accept": f"{TEXT}, */*"})
    assert response.get("content-type") == f"{TEXT}+proto"
    assert read(TEXT, response.body)[0] == [b"x"]


# -- statuses --------------------------------------------------------------------------------------


def test_a_status_without_messages_is_in_the_head(call: Call, form: str) -> None:
    response = call("Fail", written(form, b"not today"), {"content-type": form, "code": "7"})
    assert (response.status, response.get("content-type")) == (200, form)
    assert (*status_of(response), response.body) == ("7", "not today", b"")
    assert response.get("grpc-status-details-bin") == b64encode(b"\x08\x05details").rstrip(b"=").decode()


def test_a_status_after_messages_is_in_the_last_frame(call: Call, form: str) -> None:
    response = call("FailLate", written(form, b"enough"), {"content-type": form, "code": "9"})
    messages, trailers = read(form, response.body)
    assert messages == [b"one", b"two"]
    assert trailers.items() >= {"grpc-status": "9", "grpc-message": "enough", **TRAILING}.items()


def test_a_body_that_is_not_base64_is_a_bad_request(call: Call) -> None:
    response = call("Echo", b"not base64!", {"content-type": TEXT})
    assert response.get("x-pingap-etype") == "bad_request"
    assert (response.status, *status_of(response)) == (200, "13", "The request is malformed.")


def test_an_error_of_ours_is_told_as_a_status(call: Call, form: str) -> None:
    response = call("Nowhere", written(form, b"x"), {"content-type": form})
    assert (response.status, response.get("content-type"), response.body) == (200, form, b"")
    assert (response.get("x-pingap-etype"), *status_of(response)) == ("connect_failed", "14", "No connection to the backend.")


# -- what passes untouched ----------------------------------------------------------------------------


def test_a_request_that_is_not_grpc_web_passes_as_it_is(call: Call) -> None:
    response = call("Echo", frame(b"x"), {"content-type": "application/json"})
    assert (response.status, response.get("x-pingap-etype")) == (502, "bad_gateway")  # gRPC's server resets what is not for it


def test_a_location_without_the_key_translates_nothing(proxy: Pingap, shared_origin: Origin, form: str) -> None:
    shared_origin.requests.clear()
    with proxy.client() as client:
        client.request("/x", "POST", {"content-type": form}, b"any body", host="plain.local")
        assert client.response().status == 200
    (seen,) = shared_origin.requests
    assert (seen.get("content-type"), seen.raw.endswith(b"any body"), seen.get("te")) == (form, True, None)


# -- streaming ---------------------------------------------------------------------------------------------


def test_each_message_of_a_stream_passes_at_once(proxy: Pingap, form: str) -> None:
    with proxy.client(timeout=WITHIN) as client:
        # A bidirectional call over HTTP/1.1: no browser can do it, but it shows that nothing waits for what comes after.
        client.send(f"POST /{SERVICE}/Chat HTTP/1.1\r\nHost: a\r\nContent-Type: {form}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for number in range(10):
            message = b"message %d" % number * (number % 3 + 1)
            sent = written(form, message)
            client.send(b"%x\r\n%b\r\n" % (len(sent), sent))
            if not number:
                assert client.head().get("content-type") == form
            expected = written(form, message.upper())
            came = b""
            while len(came) < len(expected):
                came += one_chunk(client)
            assert came == expected
        client.send(b"0\r\n\r\n")
        assert read(form, one_chunk(client))[1]["grpc-status"] == "0"
        assert one_chunk(client) == b""


def one_chunk(client: Client) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += client.exactly(1)
    payload = client.exactly(int(line, 16))
    client.exactly(2)
    return payload


def test_a_client_that_leaves_is_heard_of_at_the_backend(proxy: Pingap, form: str, peer: Peer) -> None:
    message = f"left {proxy.placement} {form}".encode()
    with proxy.client() as client:
        client.request(f"/{SERVICE}/Hang", "POST", {"content-type": form}, written(form, message))
        assert peer.started_event(message).wait(WITHIN)
        assert not peer.ended_event(message).is_set()
    assert peer.ended_event(message).wait(WITHIN)


# -- the library that pages use -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages grpc-web and xhr2 (node has no XMLHttpRequest), and the script beside them."""
    needs("node")
    needs("npm")
    place = tmp_path_factory.mktemp("grpc-web")
    (place / "package.json").write_text("{}")
    argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "grpc-web@2", "xhr2@0.2"]
    try:
        done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=45, check=False)
        reason = "" if done.returncode == 0 else (done.stderr or done.stdout)[-500:]
    except subprocess.TimeoutExpired:
        reason = "npm install took too long"
    if reason:
        lacks(f"npm could not install grpc-web: {reason}")
    script = place / "client.cjs"
    script.write_text(Path(__file__).with_name("grpc_web_client.cjs").read_text())
    return script


@pytest.mark.parametrize("format", ["text", "binary"])
def test_the_library_of_browsers_is_served(proxy: Pingap, library: Path, format: str) -> None:
    argv = ["node", str(library), f"http://127.0.0.1:{proxy.port}", format]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["echo"] == {"answer": "grüß dich", "initial": "first", "status": 0, "trailing": "last"}
    assert (seen["fail"]["code"], seen["fail"]["message"]) == (7, "nicht möglich")
    assert seen["unknown"]["code"] == 12
    assert (seen["nowhere"]["code"], seen["nowhere"]["message"]) == (14, "No connection to the backend.")
    if format == "text":  # the library streams in text only
        assert seen["count"] == {"messages": ["0", "1", "2", "3", "4"], "status": 0, "trailing": "last"}
        assert seen["failLate"] == {"messages": ["one", "two"], "status": 9, "trailing": "last", "code": 9, "message": "enough"}
