"""Opening connections to UNIX sockets and IPv6 addresses: real sockets, both event loops."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import uvloop

from pingap.config.parts import Backend
from pingap.stages.lookups import Address, Lookups, literal
from pingap.stages.tcp import is_here, open_socket

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def on_loop(body: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await body()

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    return on_loop


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as the path of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="pingap") as name:
        yield Path(name)


async def connected(host: str, port: int = 0, seconds: float = 5.0, **more: Any) -> socket.socket:
    loop = asyncio.get_running_loop()
    return await open_socket(loop, Lookups(loop, most=0), host, port, ipv4_only=more.pop("ipv4_only", False), seconds=seconds, **more)


def listening(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        server.listen(1)
    return server


def test_a_unix_socket_is_connected_to_without_a_lookup_and_without_options_of_tcp(run: Run, folder: Path) -> None:
    async def body() -> None:
        with listening(folder / "s") as server:
            options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)]
            for ipv4_only in (False, True):
                with await connected(str(folder / "s"), options=options, ipv4_only=ipv4_only) as sock:
                    peer, _ = server.accept()
                    peer.sendall(b"hello")
                    peer.close()
                    assert await asyncio.get_running_loop().sock_recv(sock, 10) == b"hello"

    run(body)


@pytest.mark.parametrize(
    ("prepare", "error", "reason"),
    [
        (lambda path: None, FileNotFoundError, "there is no such socket"),
        (lambda path: listening(path).close(), ConnectionRefusedError, "nobody listens"),
        (lambda path: path.touch(), ConnectionRefusedError, "nobody listens"),
        (lambda path: listening(path, socket.SOCK_DGRAM), OSError, "for datagrams"),
        (lambda path: path.parent.rmdir() or path.parent.touch(), NotADirectoryError, "no directory"),
    ],
    ids=["missing", "left over", "a file", "datagrams", "below a file"],
)
def test_a_connect_that_fails_says_why(
    run: Run, folder: Path, prepare: Callable[[Path], socket.socket | None], error: type[OSError], reason: str
) -> None:
    (folder / "in").mkdir()
    path = folder / "in" / "s"
    with ExitStack() as stack:
        server = prepare(path)
        if server is not None:
            stack.enter_context(server)
        with pytest.raises(error, match=reason):
            run(lambda: connected(str(path)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_socket_that_may_not_be_written_to_is_told_of(run: Run, folder: Path) -> None:
    with listening(folder / "s"):
        (folder / "s").chmod(0o600)
        folder.chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="may not write to the socket"):
                run(lambda: connected(str(folder / "s")))
        finally:
            os.seteuid(0)


def test_while_its_queue_is_full_a_socket_is_waited_for_until_the_deadline(run: Run, folder: Path) -> None:
    async def body() -> None:
        with listening(folder / "s") as server, ExitStack() as stack:
            while True:
                filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                try:
                    filler.connect(str(folder / "s"))
                except BlockingIOError:
                    break
            began = monotonic()
            with pytest.raises(TimeoutError):
                await connected(str(folder / "s"), seconds=0.05)
            assert monotonic() - began < 2
            waiting = asyncio.create_task(connected(str(folder / "s")))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            server.accept()[0].close()
            stack.enter_context(await waiting)

    run(body)


def test_a_path_that_is_too_long_is_an_error_and_no_crash(run: Run) -> None:
    with pytest.raises(OSError, match="too long"):
        run(lambda: connected(f"/{'a' * 200}"))


# -- IPv6 ---------------------------------------------------------------------------------------


def links() -> list[str]:
    """Link-local addresses of this host, with their zone."""
    found = []
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, flags, interface = line.split()
        if scope == "20" and not int(flags, 16) & 0x48:  # tentative, or a duplicate
            found.append(f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))}%{interface}")
    return found


def test_an_ipv6_address_is_connected_to(run: Run) -> None:
    async def body() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server, await connected("::1", server.getsockname()[1]) as sock:
            assert sock.getpeername()[0] == "::1"

    run(body)


def test_a_link_local_address_is_reached_through_its_interface(run: Run) -> None:
    addresses = links()
    if not addresses:
        pytest.skip("this host has no link-local IPv6 address")
    address = literal(addresses[0], 0)
    assert address is not None and address.host == addresses[0].replace(*zone_as_number(addresses[0]))

    async def body() -> None:
        with socket.socket(socket.AF_INET6) as server:
            server.bind(address.sockaddr)
            server.listen()
            with await connected(addresses[0], server.getsockname()[1]) as sock:
                assert sock.getpeername()[3] == address.sockaddr[3]

    run(body)


def zone_as_number(host: str) -> tuple[str, str]:
    zone = host.partition("%")[2]
    return f"%{zone}", f"%{socket.if_nametoindex(zone)}"


def test_an_interface_that_is_not_there_is_told_of_and_not_looked_up(run: Run) -> None:
    with pytest.raises(OSError, match="no network interface nowhere0"):
        run(lambda: connected("fe80::1%nowhere0", 80))


def test_an_address_with_a_zone_has_one_name_however_it_is_found() -> None:
    """By its number, as the system has it, unlike what `addrs` says: discovery names no addresses of literal entries."""
    address = literal("fe80::1%lo", 80)
    assert address is not None
    assert Backend(address.host, 80).address == f"[fe80::1%{socket.if_nametoindex('lo')}]:80"


# -- this host's own ------------------------------------------------------------------------------


def test_addresses_of_this_host_are_known_as_its_own() -> None:
    assert is_here("127.0.0.1") and is_here("::1") and is_here("::ffff:127.0.0.1")
    for address in links():
        assert is_here(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.77", 9))
        except OSError:
            return  # it has no route there, so none of its own either
        assert is_here(sock.getsockname()[0])


@pytest.mark.parametrize(
    "host", ["192.0.2.77", "1.1.1.1", "2606:4700:4700::1111", "fe80::1:2:3%lo", "fe80::1%nowhere0", "224.0.0.1", "/run/a"]
)
def test_those_of_others_are_not(host: str) -> None:
    assert not is_here(host)


def test_who_asks_may_say_which_addresses_are_connected_to(run: Run) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            asked: list[Address] = []

            def admit(addresses: list[Address]) -> list[Address]:
                asked.extend(addresses)
                return [one for one in addresses if one.host == "127.0.0.1"]

            loop = asyncio.get_running_loop()
            lookups = Lookups(loop, lambda host, family: [Address(socket.AF_INET, (ip, 0)) for ip in ("127.0.0.9", "127.0.0.1")])
            with await open_socket(loop, lookups, "many.test", port, ipv4_only=False, seconds=5, admit=admit) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
            assert [one.sockaddr for one in asked] == [("127.0.0.9", port), ("127.0.0.1", port)]

    run(body)
