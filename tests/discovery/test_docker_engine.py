"""Docker's API, by a server that answers as we want over a UNIX socket. A real engine: test_dockerd.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pingap.stages.discovery.containers import engine as module
from pingap.stages.discovery.containers.engine import Engine, EngineFailed
from pingap.stages.discovery.containers.listing import DockerHost, Listing
from tests.e2e.as_user import USER, needs_root, open_python
from tests.kit.peers import required
from tests.kit.waiting import free_port, until

Answer = Callable[[socket.socket], None]
"""What the server does once a request has come; then it closes the connection."""

VERSION = json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12"})


def answer(body: str | bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data


class Fake:
    """An engine on a UNIX socket; `paths` says what it answers to what, /version aside."""

    def __init__(self, root: Path) -> None:
        required("docker")
        self.host = f"unix://{root}/fake.sock"
        self.paths: dict[str, bytes | Answer] = {"/version": answer(VERSION)}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"{root}/fake.sock")
        self._socket.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.is_over = threading.Event()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                target = line.split()[1].decode()
                while lines.readline().strip():
                    pass
                self.asked.append(target)
                path = target.partition("?")[0].removeprefix("/v1.41")
                said = self.paths.get(path, answer('{"message": "page not found"}', "404 Not Found"))
                try:
                    if isinstance(said, bytes):
                        connection.sendall(said)
                    else:
                        said(connection)
                        return
                except OSError:
                    return

    def close(self) -> None:
        self.is_over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    server = Fake(tmp_path)
    yield server
    server.close()


@contextmanager
def engine(host: str, quiet: float = 5) -> Iterator[Engine]:
    made = Engine(host, quiet)
    try:
        yield made
    finally:
        made.interrupt()
        made.close()


def failure(host: str) -> str:
    with engine(host) as one, pytest.raises(EngineFailed) as failed:
        one.listing()
    return str(failed.value)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Until `call` has ended, or failed."""

    def run() -> None:
        with suppress(EngineFailed):
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_list_is_asked_for_by_the_version_of_the_engine_and_over_one_connection(fake: Fake) -> None:
    fake.paths["/containers/json"] = answer('[{"Id": "a", "State": "running"}]')
    with engine(fake.host) as one:
        assert [container.id for container in one.listing().containers] == ["a"]
        one.listing()
    assert fake.asked == ["/version", "/v1.41/containers/json", "/v1.41/containers/json"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer('{"message": "no"}', "403 Forbidden"), "refused /containers/json with status 403: no"),
        (answer("<h1>Bad</h1>", "502 Bad Gateway"), "with status 502: <h1>Bad</h1>"),
        (answer("", "500 Internal Server Error"), "with status 500: without a word"),
        (answer("[]", "200 OK", length=100), "fake.sock: "),
        (answer("{}"), "sent what is no list of containers"),
        (answer(b"\xff\xfe"), "sent what is no list of containers"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "fake.sock: "),
    ],
)
def test_an_answer_that_is_no_list_is_told_with_what_was_asked(fake: Fake, said: bytes, expected: str) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(said)

    fake.paths["/containers/json"] = send
    assert expected in failure(fake.host)


def test_a_silent_engine_costs_a_time_out_and_an_endless_list_so_many_bytes(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.1)
    monkeypatch.setattr(module, "MOST_LIST", 1 << 20)

    def silent(_: socket.socket) -> None:
        fake.is_over.wait(5)

    fake.paths["/containers/json"] = silent
    assert failure(fake.host) == f"no answer from {fake.host} within 0.1 s"

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not fake.is_over.is_set():
            connection.sendall(b" " * 65536)

    fake.paths["/containers/json"] = endless
    assert failure(fake.host) == f"the list of {fake.host} has more than 1 MiB"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK", b"HTTP/1.1 302 Found\r\nLocation: /containers/json", b"HTTP/1.1 500 Oh"])
@pytest.mark.parametrize("path", ["/version", "/containers/json"])
def test_no_answer_is_read_without_bounds(fake: Fake, monkeypatch: pytest.MonkeyPatch, path: str, head: bytes) -> None:
    monkeypatch.setattr(module, "MOST_LIST", 1 << 20)
    sent: list[int] = []

    def endless(connection: socket.socket) -> None:
        connection.sendall(head + b"\r\n\r\n")
        while not fake.is_over.is_set() and len(sent) < 1000:
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    fake.paths[path] = endless
    said = failure(fake.host)
    assert ("has more than" if b"200" in head else f"refused {path} with status {head[9:12].decode()}") in said
    assert sum(sent) < 4 << 20  # what was read, and what sockets hold


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{}", "does not say its version"),
        ("[" * 50_000, "does not say its version"),
        ('{"ApiVersion": "1.41/../../x"}', "does not say its version"),
        ('{"ApiVersion": 1.41}', "does not say its version"),
        ('{"ApiVersion": "1.12"}', "has version 1.12 of the API, and 1.24 is the least"),
    ],
)
def test_a_version_that_is_none_is_told(fake: Fake, said: str, expected: str) -> None:
    fake.paths["/version"] = answer(said)
    assert expected in failure(fake.host)
    assert fake.asked == ["/version"]


def test_a_list_that_drips_ends_when_it_is_interrupted(fake: Fake) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not fake.is_over.wait(0.01):
            connection.sendall(b" ")

    fake.paths["/containers/json"] = drip
    with engine(fake.host) as one:
        thread = in_thread(one.listing)
        until(lambda: len(fake.asked) == 2, 5, "asked")
        time.sleep(0.05)  # its head is there
        one.interrupt()
        thread.join(2)
        assert not thread.is_alive()


def chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def test_each_event_is_heard_as_it_comes_and_so_is_the_beginning(fake: Fake) -> None:
    gates = [threading.Event() for _ in range(2)]
    heard: list[int] = []

    def events(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for gate in gates:
            gate.wait(5)
            connection.sendall(chunk('{"Type": "container"}\n'))

    fake.paths["/events"] = events
    with engine(fake.host) as one:
        thread = in_thread(lambda: one.follow(lambda: heard.append(1)))
        for count in range(1, 3):
            until(lambda count=count: len(heard) == count, 5, f"heard {count} times")  # type: ignore[misc]
            gates[count - 1].set()
        until(lambda: len(heard) == 3, 5, "heard of both events")
        thread.join(2)  # cut off in the middle
        assert not thread.is_alive()


def test_events_end_when_they_are_quiet_for_long_and_at_once_when_nobody_listens(fake: Fake) -> None:
    def quiet(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        fake.is_over.wait(10)

    fake.paths["/events"] = quiet
    heard: list[int] = []
    with engine(fake.host, quiet=0.1) as one:
        one.follow(lambda: heard.append(1))  # no failure
        assert heard == [1]
    with engine(fake.host, quiet=30) as one:
        thread = in_thread(lambda: one.follow(lambda: heard.append(1)))
        until(lambda: len(heard) == 2, 5, "begun")
        one.interrupt()
        thread.join(2)
        assert not thread.is_alive()
        one.follow(lambda: heard.append(1))  # none follows
        assert len(heard) == 2


def test_why_an_engine_cannot_be_asked_is_said_in_words(tmp_path: Path) -> None:
    required("docker")
    assert f"{tmp_path}/none does not exist: Docker does not run, or its socket is elsewhere" in failure(f"unix://{tmp_path}/none")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    assert failure(f"unix://{tmp_path}/left") == f"nobody listens at unix://{tmp_path}/left"
    port = free_port()
    assert failure(f"tcp://127.0.0.1:{port}") == f"nobody listens at tcp://127.0.0.1:{port}"
    assert "nowhere.invalid" in failure("tcp://nowhere.invalid:2375")


def test_docker_host_is_what_nobody_says_in_the_configuration(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.paths["/containers/json"] = answer("[]")
    monkeypatch.setenv("DOCKER_HOST", fake.host)
    with engine("") as one:
        assert one.listing() == Listing((), DockerHost())
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/nonexistent")
    assert "TLS" in failure("tcp://127.0.0.1:1")


@needs_root
@pytest.mark.processes
def test_who_may_not_open_the_socket_is_told_the_group(fake: Fake, tmp_path: Path) -> None:
    python, env = open_python()
    path = fake.host.removeprefix("unix://")
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.geteuid() and str(directory) != "/" and not directory.stat().st_mode & 1:
            directory.chmod(directory.stat().st_mode | 0o011)
    os.chmod(path, 0o660)
    script = f"from pingap.stages.discovery.containers.engine import Engine\nEngine({fake.host!r}).listing()"
    done = subprocess.run([python, "-c", script], user=USER, group="nogroup", cwd="/", env=env, capture_output=True, text=True, check=False)
    assert f"EngineFailed: permission denied on {path}: let {USER} into the group root" in done.stderr
