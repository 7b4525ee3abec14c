"""What a server's keys make of its sockets, asked of the kernel: on connections that pingap itself has accepted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.alone

HAS_IPV6 = Path("/proc/net/if_inet6").exists() and "lo" in Path("/proc/net/if_inet6").read_text()
PIDFD_GETFD = 438
"""Number of the system call, on every architecture (Linux 5.6)."""

OPTIONS = """
tcp_idle = "41s"
tcp_interval = "7s"
tcp_probe_count = 5
tcp_user_timeout = "12s500ms"
tcp_fastopen = 33
downstream_write_timeout = "1s"
max_connections = 3
"""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("second", "six", "dual", "own")}


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, ports: dict[str, int]) -> Iterator[Pingap]:
    addresses = [f"127.0.0.1:{ports['second']}"]
    if HAS_IPV6:
        addresses += [f"[::1]:{ports['six']}", f"[::]:{ports['dual']}"]
    more = f"""
[servers.many]
addr = "{", ".join(addresses)}"
locations = ["all"]
[servers.own]
addr = "127.0.0.1:{ports["own"]}"
reuse_port = true
locations = ["all"]
"""
    text = site([shared_origin.port], server=OPTIONS, more=more, location="enable_reverse_proxy_headers = true")
    scale = ["--scale", "accept=2"] if placement == "split" else ["--workers", "2"]
    with Pingap(text, placement, up=scale) as instance:
        yield instance


def inode_of(local: int, remote: int) -> str:
    """Of the socket with these ports, as /proc/net/tcp has it; remote: 0 for one that listens."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if [int(end.rpartition(":")[2], 16) for end in fields[1:3]] == [local, remote]:
                return fields[9]
    raise AssertionError(f"no socket {local} - {remote}")


@contextlib.contextmanager
def copy_of(proxy: Pingap, local: int, remote: int) -> Iterator[socket.socket]:
    """A socket of pingap's, in this process too."""
    name = f"socket:[{inode_of(local, remote)}]"
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in {row.pid for row in proxy.replicas("accept")}:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") == name:
                    process = os.pidfd_open(pid)
                    fd = libc.syscall(PIDFD_GETFD, process, int(number), 0)
                    os.close(process)
                    if fd < 0:
                        pytest.skip(f"the kernel gives no copy: {os.strerror(ctypes.get_errno())}")
                    with socket.socket(fileno=fd) as sock:
                        yield sock
                    return
    raise AssertionError("no accept process has that socket")


def option(sock: socket.socket, name: str) -> int:
    return sock.getsockopt(socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP, getattr(socket, name))


def test_tcp_options_hold_on_accepted_connections(proxy: Pingap) -> None:
    with proxy.client() as client:
        assert client.get("/").status == 200
        with copy_of(proxy, proxy.port, client.sock.getsockname()[1]) as sock:
            names = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_NODELAY")
            assert [option(sock, name) for name in names] == [1, 41, 7, 5, 12_500, 1]
    with copy_of(proxy, proxy.port, 0) as sock:
        assert option(sock, "TCP_FASTOPEN") == 33
        assert option(sock, "SO_REUSEPORT") == 0


def test_without_the_keys_the_systems_settings_hold(proxy: Pingap, ports: dict[str, int]) -> None:
    with Client(ports["second"]) as client:
        assert client.get("/").status == 200
        with copy_of(proxy, ports["second"], client.sock.getsockname()[1]) as sock, socket.socket() as fresh:
            for name in ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
                assert option(sock, name) == option(fresh, name), name


def test_fast_open_serves_a_request_that_comes_with_the_first_packet(proxy: Pingap) -> None:
    if not int(Path("/proc/sys/net/ipv4/tcp_fastopen").read_text()) & 2:
        pytest.skip("net.ipv4.tcp_fastopen does not allow it to servers here")
    for _ in range(2):  # the first connection gets the cookie
        with socket.socket() as sock:
            sock.sendto(b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n", socket.MSG_FASTOPEN, ("127.0.0.1", proxy.port))
            sock.settimeout(5)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_a_server_listens_on_several_addresses_of_both_families(proxy: Pingap, ports: dict[str, int], shared_origin: Origin) -> None:
    shared_origin.requests.clear()
    for target, host, port, seen_as in (
        ("/four", "127.0.0.1", ports["second"], "127.0.0.1"),
        ("/six", "::1", ports["six"], "::1"),
        ("/dual-six", "::1", ports["dual"], "::1"),
        ("/dual-four", "127.0.0.1", ports["dual"], "127.0.0.1"),
    ):
        with socket.create_connection((host, port), 5) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        (seen,) = shared_origin.seen(target)
        assert seen.get("x-real-ip") == seen_as, target
        assert seen.get("x-forwarded-port") == str(port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports["six"]), 5).close()


def test_with_reuse_port_each_replica_has_a_socket_of_its_own_and_all_serve(proxy: Pingap, ports: dict[str, int]) -> None:
    found = [
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{ports['own']:04X}") and line.split()[3] == "0A"
    ]
    assert len(set(found)) == 2
    before = {row.name: row.requests for row in proxy.replicas("accept")}
    assert len(before) == 2
    for _ in range(40):
        with Client(ports["own"]) as client:
            assert client.get("/").status == 200
    until(lambda: all(row.requests > before[row.name] for row in proxy.replicas("accept")), 5, "both replicas have served")


def test_over_the_cap_a_connection_is_closed_at_once_and_the_others_go_on(placement: str, shared_origin: Origin) -> None:
    with Pingap(site([shared_origin.port], server="max_connections = 2"), placement) as proxy:
        with proxy.client() as one, proxy.client() as two:
            assert one.get("/").status == two.get("/").status == 200
            began = time.monotonic()
            with proxy.client() as three:
                assert three.is_closed(2)
            assert time.monotonic() - began < 1
            assert one.get("/").status == two.get("/").status == 200
        until(lambda: served(proxy), 3, "there is room once the others have left")


def served(proxy: Pingap) -> bool:
    with contextlib.suppress(Closed, ConnectionError):
        return proxy.get("/").status == 200
    return False


def test_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_a_little_is_not(proxy: Pingap, shared_origin: Origin) -> None:
    size = 64 * 1024 * 1024
    gone: list[float] = []

    def large(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        try:
            for _ in range(size // 65536):
                exchange.send(bytes(65536))
        except OSError:
            gone.append(time.monotonic())
            raise

    shared_origin.on["/large"] = large
    with proxy.client(receive_buffer=65536) as client:
        client.request("/large")
        assert client.head().status == 200
        began = time.monotonic()
        while time.monotonic() - began < 4:  # slower than any buffer could hide for four time-outs
            client.exactly(65536)
            time.sleep(0.05)
        assert not gone, "it is slow, but it reads"
        began = time.monotonic()
        until(lambda: gone, 5, "the backend hears that the client is cut off")
        assert gone[0] - began > 0.8
