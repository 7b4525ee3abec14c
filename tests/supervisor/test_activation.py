"""Sockets of a service manager: taken, matched with servers, told when they are for none, and handed on to a restart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pingap.config.model import Server
from pingap.config.parts import Listen
from pingap.listeners import BindFailed, Listeners
from pingap.service.activation import Activation, shared


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def listening(stack: ExitStack, host: str = "127.0.0.1", **more: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family, **more))


def given(stack: ExitStack, *socks: tuple[str, socket.socket]) -> Activation:
    """As if the manager had given copies of these; it does not touch descriptors 3 and on of the tests' own process."""
    from pingap.service.activation import Given

    one = Activation({})
    one._given += [Given(name, stack.enter_context(sock.dup())) for name, sock in socks]
    return one


def at(*addrs: Listen, reuse_port: bool = False) -> Server:
    return Server(addr=addrs, reuse_port=reuse_port)


def matched(stack: ExitStack, activation: Activation, servers: dict[str, Server]) -> list[tuple[str, Listen]]:
    found = activation.inherited(servers)
    for one in found:
        stack.enter_context(one.sock)
    return [(one.server, one.asked) for one in found]


def test_a_socket_is_for_the_server_with_its_address(stack: ExitStack) -> None:
    first, second = listening(stack), listening(stack, "::1")
    servers = {"six": at(Listen(*second.getsockname()[:2])), "four": at(Listen("127.0.0.1", 1), Listen(*first.getsockname()))}
    assert matched(stack, given(stack, ("x", first), ("y", second)), servers) == [
        ("four", servers["four"].addr[1]),
        ("six", servers["six"].addr[0]),
    ]


def test_a_host_name_is_its_addresses(stack: ExitStack) -> None:
    sock = listening(stack)
    addr = Listen("localhost", sock.getsockname()[1])
    assert matched(stack, given(stack, ("x", sock)), {"web": at(addr)}) == [("web", addr)]


def test_a_port_alone_is_all_addresses_for_systemd_too(stack: ExitStack) -> None:
    sock = listening(stack, "::", dualstack_ipv6=True)
    addr = Listen("0.0.0.0", sock.getsockname()[1])
    assert matched(stack, given(stack, ("x", sock)), {"web": at(addr)}) == [("web", addr)]
    only_six = listening(stack, "::")
    with pytest.raises(BindFailed, match="no server listens there"):
        given(stack, ("x", only_six)).inherited({"web": at(Listen("0.0.0.0", only_six.getsockname()[1]))})


def test_a_name_says_which_server_where_the_address_does_not(stack: ExitStack) -> None:
    sock, exact = listening(stack), listening(stack)
    servers = {"other": at(Listen(*exact.getsockname())), "web": at(Listen("127.0.0.1", 1), Listen("127.0.0.1", 2))}
    # The exact address wins over the name, whatever comes first.
    activation = given(stack, ("web", sock), ("web", exact))
    assert matched(stack, activation, servers) == [("web", servers["web"].addr[0]), ("other", servers["other"].addr[0])]


def test_one_for_nobody_is_an_error_with_a_hint(stack: ExitStack) -> None:
    sock = listening(stack)
    with pytest.raises(BindFailed) as failed:
        given(stack, ("pingap.socket", sock)).inherited({"web": at(Listen("127.0.0.1", 1))})
    text = str(failed.value)
    assert f"'pingap.socket' (127.0.0.1:{sock.getsockname()[1]}) is for no server" in text
    assert "servers.web.addr 127.0.0.1:1" in text and "FileDescriptorName=" in text


def test_what_is_no_listening_tcp_socket_is_an_error_that_says_so(stack: ExitStack) -> None:
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    unbound = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    local = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    with pytest.raises(BindFailed) as failed:
        given(stack, ("web", datagrams), ("web", unbound), ("web", local)).inherited({"web": at(Listen("127.0.0.1", 1))})
    said = "\n".join(failed.value.reasons)
    assert said.count("no TCP socket") == 2 and said.count("does not listen") == 1


def test_a_server_with_one_is_not_bound_again_and_its_replicas_share_it(stack: ExitStack) -> None:
    sock = listening(stack)
    addr = Listen(*sock.getsockname())
    servers = {"web": at(addr, reuse_port=True), "other": at(Listen("127.0.0.1", 0), reuse_port=True)}
    inherited = given(stack, ("x", sock)).inherited(servers)
    changed, notes = shared(servers, inherited)
    assert not changed["web"].reuse_port and changed["other"].reuse_port
    assert notes == ["servers.web.reuse_port: without effect, for the service manager has bound its socket"]
    listeners = Listeners(changed, inherited)
    listeners.bind([("accept", 0), ("accept", 1)])
    assert [(one.server, one.owner) for one in listeners.all()] == [("web", None), ("other", ("accept", 0)), ("other", ("accept", 1))]
    listeners.close(listeners.all())
    with socket.create_connection(addr_of(sock)):
        pass  # the manager's own copy listens on


def addr_of(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


def test_those_for_another_process_are_not_taken() -> None:
    env = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "web", "HOME": "/"}
    assert Activation(env).inherited({}) == []
    assert env == {"HOME": "/"}


EXEC = """
import os, socket, sys
from pingap.service.activation import Activation
if len(sys.argv) > 1:
    for number in (3, 4):
        sock = socket.create_server(("127.0.0.1", 0))
        os.dup2(sock.fileno(), 60 + number)
    for number in (3, 4):
        os.dup2(60 + number, number)
    os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
    one = Activation(os.environ)
    assert not os.get_inheritable(3) and "LISTEN_FDS" not in os.environ
    print([str(given) for given in one._given], flush=True)
    one.hand_on(os.environ)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
one = Activation(os.environ)
print([str(given) for given in one._given])
"""


@pytest.mark.processes
def test_a_restart_is_given_the_same_under_the_same_names() -> None:
    done = subprocess.run([sys.executable, "-c", EXEC, EXEC], capture_output=True, text=True, check=False, env={**os.environ})
    before, after = done.stdout.splitlines()
    assert before == after and "'a' (127.0.0.1:" in before, done.stderr
