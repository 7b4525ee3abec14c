"""HTTP/2 with clients that others wrote: curl, nghttp, h2load, and python-hyper's h2."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.conformance.conftest import Server
from tests.conformance.peer import speaking
from tests.kit.peers import needs

BODY = bytes(range(256)) * 4096
"""1 MiB."""


@pytest.fixture(scope="session")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upload") / "body"
    path.write_bytes(BODY)
    return path


def run(*argv: object, seconds: float = 20) -> str:
    """A command's output, both streams; it must succeed."""
    needs(str(argv[0]))
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout + done.stderr


def urls(server: Server) -> Iterator[str]:
    yield f"http://127.0.0.1:{server.port}"
    yield f"https://127.0.0.1:{server.tls}"


# -- curl -----------------------------------------------------------------------


def curl(*argv: object) -> str:
    return run("curl", "-sk", "--max-time", "15", "-w", "\n%{http_version} %{http_code}", *argv)


def test_curl_by_prior_knowledge(server: Server, upload: Path) -> None:
    assert curl("--http2-prior-knowledge", f"http://127.0.0.1:{server.port}/") == "hello\n\n2 200"
    said = curl("--http2-prior-knowledge", "--data-binary", f"@{upload}", f"http://127.0.0.1:{server.port}/size")
    assert said.startswith(f"{len(BODY)} "), said
    assert said.endswith("\n2 200")


def test_curl_by_upgrade(server: Server) -> None:
    assert curl("--http2", f"http://127.0.0.1:{server.port}/") == "hello\n\n2 200"


def test_curl_by_upgrade_with_a_body_stays_with_http1(server: Server) -> None:
    assert curl("--http2", "-d", "some", f"http://127.0.0.1:{server.port}/size").endswith("\n1.1 200")


def test_curl_by_alpn(server: Server, upload: Path) -> None:
    assert curl("--http2", f"https://127.0.0.1:{server.tls}/") == "hello\n\n2 200"
    assert curl("--http2", "-T", upload, f"https://127.0.0.1:{server.tls}/size").startswith(f"{len(BODY)} ")
    assert curl("--http1.1", f"https://127.0.0.1:{server.tls}/") == "hello\n\n1.1 200"


def test_curl_gets_many_at_once_on_one_connection(server: Server) -> None:
    """Over TLS: curl 7.88 fails at this with prior knowledge, whoever the server is."""
    shows = "%{http_version} %{num_connects}\n"
    said = run("curl", "-sk", "--max-time", "15", "--http2", "-Z", "-w", shows, f"https://127.0.0.1:{server.tls}/nothing?[1-30]")
    lines = re.findall(r"(?m)^(\S+) (\d+)$", said)
    assert len(lines) == 30, said
    assert {version for version, _ in lines} == {"2"}
    assert sum(int(connects) for _, connects in lines) == 1


def test_curl_takes_a_large_answer(server: Server) -> None:
    for url in urls(server):
        flags = ["--http2-prior-knowledge"] if url.startswith("http:") else ["--http2"]
        said = run("curl", "-sk", "--max-time", "15", *flags, "-o", "/dev/null", "-w", "%{http_version} %{size_download}", f"{url}/big")
        assert said == f"2 {8 * 1024 * 1024}"


def test_curl_sees_trailers(server: Server) -> None:
    said = curl("--http2-prior-knowledge", "-H", "TE: trailers", "-D", "-", f"http://127.0.0.1:{server.port}/trailers")
    assert "some" in said
    assert "x-sum: 4" in said


# -- nghttp ---------------------------------------------------------------------


def test_nghttp(server: Server, upload: Path) -> None:
    for url in urls(server):
        said = run("nghttp", "-v", f"{url}/", f"{url}/seen", f"{url}/nothing")
        assert len(re.findall(r":status: 20[04]", said)) == 3, said
        assert "GOAWAY" in said
        said = run("nghttp", "-v", "-d", upload, f"{url}/size")
        assert f"{len(BODY)} " in said
        assert "RST_STREAM" not in said


def test_nghttp_by_upgrade(server: Server) -> None:
    said = run("nghttp", "-v", "-u", f"http://127.0.0.1:{server.port}/")
    assert "HTTP Upgrade success" in said, said
    assert "hello" in said


def test_nghttp_with_padding_and_continuation(server: Server) -> None:
    said = run("nghttp", "-v", "-b", "100", "--continuation", "-t", "5", f"http://127.0.0.1:{server.port}/")
    assert ":status: 200" in said
    assert "hello" in said


# -- h2load ---------------------------------------------------------------------


def test_h2load_has_no_failures(server: Server) -> None:
    for url, count in zip(urls(server), (2000, 500), strict=True):
        said = run("h2load", "-n", count, "-c", "10", "-m", "20", f"{url}/nothing", seconds=50)
        assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in said, said
        assert f"{count} 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said


def test_h2load_with_bodies_has_no_failures(server: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"s" * 20_000)
    said = run("h2load", "-n", "200", "-c", "4", "-m", "10", "-d", small, f"http://127.0.0.1:{server.port}/size", seconds=50)
    assert "200 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
    assert "200 2xx" in said, said


# -- h2 -------------------------------------------------------------------------


def test_h2_the_library(server: Server) -> None:
    """Python's h2 as a client over TLS: it checks all that a server sends, and breaks off at what is wrong."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    raw = socket.create_connection(("127.0.0.1", server.tls), 10)
    with speaking("h2").wrap_socket(raw, server_hostname="test.local") as sock:
        connection.initiate_connection()
        paths = ["/", "/trailers", "/nothing", "/seen", "/big"] * 2
        ended, statuses, taken = set[int](), list[bytes](), 0
        for number, path in enumerate(paths):
            head = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "test.local"), ("te", "trailers")]
            connection.send_headers(1 + 2 * number, head, end_stream=True)
        sock.sendall(connection.data_to_send())
        while len(ended) < len(paths):
            received = sock.recv(65536)
            assert received, "closed"
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses += [value for name, value in event.headers if name == b":status"]
                elif isinstance(event, h2.events.DataReceived):
                    taken += len(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
                assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated), event
            sock.sendall(connection.data_to_send())
    assert sorted(statuses) == [b"200"] * 8 + [b"204"] * 2
    assert taken > 2 * 8 * 1024 * 1024
