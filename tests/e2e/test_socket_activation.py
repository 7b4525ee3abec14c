"""A service manager's sockets in a whole pingap: systemd's own tool listens first and starts it at the first connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.processes

TOOL = "systemd-socket-activate"
SITE = """
[servers.web]
addr = "127.0.0.1:{port}"
locations = ["ping"]
[locations.ping]
plugins = ["pingap:ping"]
"""


@pytest.fixture
def activated() -> Iterator[Pingap]:
    needs(TOOL, "systemd")
    one = Pingap(SITE)
    one.argv = [TOOL, "-l", f"127.0.0.1:{one.port}", *one.argv]
    yield one
    one.command("down", "--timeout", "0s")  # a daemon is in no session of ours
    one.discard()


def is_listening(port: int) -> bool:
    with open("/proc/net/tcp", encoding="ascii") as file:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in file.readlines()[1:])


def test_the_first_connection_starts_it_and_is_served(activated: Pingap) -> None:
    process = activated.launch()
    until(lambda: is_listening(activated.port), 5, "the manager listens")
    assert not activated.is_ready()
    assert activated.get("/ping").body == b"pong"
    until(activated.is_ready, 10, "all of it serves")
    for row in activated.ps():
        if row.pid != process.pid:
            with open(f"/proc/{row.pid}/environ", "rb") as file:
                assert b"LISTEN_FDS" not in file.read()
    assert activated.stop() == 0


def test_connections_wait_while_it_restarts(activated: Pingap) -> None:
    activated.launch()
    until(lambda: is_listening(activated.port), 5, "the manager listens")
    assert activated.get("/ping").status == 200
    done = activated.command("restart")
    assert done.returncode == 0, done.stderr
    assert activated.get("/ping").status == 200
    assert activated.stop() == 0


def test_a_daemon_takes_them_too(activated: Pingap) -> None:
    activated.argv.append("-d")
    process = activated.launch()
    until(lambda: is_listening(activated.port), 5, "the manager listens")
    assert activated.get("/ping").status == 200
    assert process.wait(15) == 0
    daemon = activated.ps()[0].pid
    assert daemon != process.pid
    assert activated.command("restart").returncode == 0
    assert activated.get("/ping").status == 200
    assert activated.command("down").returncode == 0
    assert not is_listening(activated.port)


def test_a_socket_that_nobody_serves_keeps_it_from_starting(activated: Pingap) -> None:
    wrong = free_port()
    activated.argv[2] = f"127.0.0.1:{wrong}"
    process = activated.launch()
    until(lambda: is_listening(wrong), 5, "the manager listens")
    with socket.create_connection(("127.0.0.1", wrong)):
        assert process.wait(15) == 1
    assert f"(127.0.0.1:{wrong}) is for no server: no server listens there" in activated.output()
