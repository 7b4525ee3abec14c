"""A process that may have no more sockets goes on: nobody is cut, new replicas are reached, and who waits is served later."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx
from tests.kit.waiting import until

LIMIT = 256
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def limited(placement: str, nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pingap]:
    """May have few descriptors from its start on."""
    proxy = Pingap(site([nginx.port]), placement)
    proxy.argv = ["prlimit", f"--nofile={LIMIT}:{LIMIT}", *proxy.argv]
    with proxy:
        yield proxy


def is_open(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return client.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def answer(client: socket.socket) -> bytes:
    client.settimeout(5)
    client.sendall(GET)
    return client.recv(12)


def test_beyond_the_last_descriptor_clients_wait_replicas_come_and_nobody_is_cut(limited: Pingap) -> None:
    scaled = "upstream" if limited.placement == "split" else "worker"
    clients = [socket.create_connection(("127.0.0.1", limited.port), timeout=5) for _ in range(LIMIT)]
    accept = limited.row("accept")
    until(lambda: "no more connections are accepted" in limited.output(), 5, "it is told")
    assert limited.command("scale", f"{scaled}=2").returncode == 0
    assert all(is_open(client) for client in clients)
    assert [answer(client) for client in clients[:20]] == [b"HTTP/1.1 200"] * 20
    assert limited.row("accept").pid == accept.pid
    assert limited.row("accept").restarts == 0
    if limited.placement == "split":  # the other worker would take them
        waiting = clients[-1]
        waiting.settimeout(5)
        waiting.sendall(GET)
        assert is_open(waiting)
        for client in clients[: LIMIT // 2]:
            client.close()
        waiting.settimeout(5)
        assert waiting.recv(12) == b"HTTP/1.1 200"
    assert limited.output().count("no more connections are accepted") <= 2
    for client in clients:
        client.close()
    assert resource.prlimit(accept.pid, resource.RLIMIT_NOFILE) == (LIMIT, LIMIT)
