"""The listening sockets: what is bound, shared and set on them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pingap.config.model import Server
from pingap.config.parts import Listen
from pingap.listeners import BindFailed, Inherited, Listener, Listeners
from tests.kit.waiting import free_port

LOCAL = Listen("127.0.0.1", 0)
HAS_IPV6 = Path("/proc/net/if_inet6").exists() and bool(Path("/proc/net/if_inet6").read_text())


def port_of(listener: object) -> int:
    return int(str(listener.addr).rpartition(":")[2])  # type: ignore[attr-defined]


def test_all_replicas_share_a_socket_unless_reuse_port_is_asked_for() -> None:
    listeners = Listeners({"shared": Server(addr=(LOCAL,)), "own": Server(addr=(LOCAL,), reuse_port=True)})
    listeners.bind([("accept", 0), ("accept", 1)])
    zero, one = listeners.of(("accept", 0)), listeners.of(("accept", 1))
    assert [x.server for x in zero] == [x.server for x in one] == ["shared", "own"]
    assert zero[0].key == one[0].key and zero[1].key != one[1].key
    assert port_of(zero[1]) == port_of(one[1]), "a port that the system chose is chosen once"
    assert listeners.urls() == [f"http://{zero[0].addr}", f"http://{zero[1].addr}"]
    listeners.close(listeners.all())


def test_a_replica_that_comes_later_gets_sockets_of_its_own_once() -> None:
    listeners = Listeners({"own": Server(addr=(LOCAL,), reuse_port=True)})
    listeners.bind([("accept", 0)])
    assert len(listeners.bind_own(("accept", 1))) == 1
    assert listeners.bind_own(("accept", 1)) == []
    keys = listeners.close(listeners.own(("accept", 1)))
    assert len(keys) == 1 and listeners.own(("accept", 1)) == []
    listeners.close(listeners.all())


def test_every_address_that_fails_is_named_and_none_stays_bound() -> None:
    good = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bad = Server(addr=(Listen("127.0.0.1", port), Listen("no-such-host.invalid", 80)))
        servers = {"a": Server(addr=(Listen("127.0.0.1", good),)), "b": bad}
        with pytest.raises(BindFailed) as failed:
            Listeners(servers).bind([])
    assert failed.value.reasons[0] == f"servers.b.addr: cannot listen on 127.0.0.1:{port}: address already in use"
    assert failed.value.reasons[1].startswith("servers.b.addr: cannot listen on no-such-host.invalid:80: ")
    with socket.socket() as free:
        free.bind(("127.0.0.1", good))


def test_tcp_options_of_a_server_reach_its_connections() -> None:
    server = Server(addr=(LOCAL,), tcp_idle=30.0, tcp_interval=5.0, tcp_probe_count=4, tcp_user_timeout=9.5, tcp_fastopen=16)
    listeners = Listeners({"a": server})
    listeners.bind([])
    (listener,) = listeners.all()
    listener.sock.setblocking(True)
    with socket.create_connection(listener.sock.getsockname()), listener.sock.accept()[0] as connection:

        def option(name: int, level: int = socket.IPPROTO_TCP) -> int:
            return connection.getsockopt(level, name)

        assert option(socket.SO_KEEPALIVE, socket.SOL_SOCKET) == 1
        assert [option(socket.TCP_KEEPIDLE), option(socket.TCP_KEEPINTVL), option(socket.TCP_KEEPCNT)] == [30, 5, 4]
        assert option(socket.TCP_USER_TIMEOUT) == 9500
        assert option(socket.TCP_NODELAY)
    assert listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 16
    listeners.close(listeners.all())


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_the_ipv6_wildcard_takes_ipv4_too_unless_another_address_does() -> None:
    port = free_port()
    alone = Listeners({"a": Server(addr=(Listen("::", port),))})
    alone.bind([])
    socket.create_connection(("127.0.0.1", port)).close()
    alone.close(alone.all())
    both = Listeners({"a": Server(addr=(Listen("::", port), Listen("0.0.0.0", port)))})
    both.bind([])
    assert len(both.all()) == 2
    both.close(both.all())


def test_a_name_is_listened_on_at_every_address_that_the_machine_has() -> None:
    listeners = Listeners({"a": Server(addr=(Listen("localhost", free_port()),))})
    listeners.bind([])
    assert "127.0.0.1" in {listener.sock.getsockname()[0] for listener in listeners.all()}
    listeners.close(listeners.all())


# -- from the instance before ----------------------------------------------------------


def inherited(listeners: Listeners) -> list[Inherited]:
    """As they come out of the socket of a handover: other descriptors of the same sockets."""
    return [Inherited(one.asked, one.server, one.owner, one.sock.dup()) for one in listeners.all()]


def inode(listener: Listener) -> int:
    return os.fstat(listener.sock.fileno()).st_ino


def test_sockets_are_taken_over_by_their_address_whatever_the_server_is_called() -> None:
    old = Listeners({"old": Server(addr=(LOCAL,))})
    old.bind([])
    new = Listeners({"new": Server(addr=(LOCAL,), tcp_idle=33)}, inherited(old))
    new.bind([])
    assert [(one.server, one.addr, inode(one)) for one in new.all()] == [("new", old.all()[0].addr, inode(old.all()[0]))]
    assert new.all()[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
    for listeners in (old, new):
        listeners.close(listeners.all())


def test_an_address_that_is_not_configured_any_more_is_let_go_of() -> None:
    old = Listeners({"old": Server(addr=(LOCAL,))})
    old.bind([])
    handed = inherited(old)
    new = Listeners({"new": Server(addr=(Listen("127.0.0.2", 0),))}, handed)
    new.bind([])
    assert [one.addr.partition(":")[0] for one in new.all()] == ["127.0.0.2"]
    assert handed[0].sock.fileno() == -1
    for listeners in (old, new):
        listeners.close(listeners.all())


def test_sockets_of_replicas_that_are_no_more_are_everybodys_for_connections_may_wait_there() -> None:
    server = Server(addr=(LOCAL,), reuse_port=True)
    old = Listeners({"own": server})
    old.bind([("accept", replica) for replica in range(3)])
    new = Listeners({"own": server}, inherited(old))
    new.bind([("accept", 0)])
    assert {inode(one) for one in new.of(("accept", 0))} == {inode(one) for one in old.all()}
    [own] = new.own(("accept", 0))
    assert inode(own) == inode(old.own(("accept", 0))[0])
    for listeners in (old, new):
        listeners.close(listeners.all())


def test_sockets_of_replicas_become_one_for_all_when_reuse_port_goes() -> None:
    old = Listeners({"web": Server(addr=(LOCAL,), reuse_port=True)})
    old.bind([("accept", replica) for replica in range(2)])
    new = Listeners({"web": Server(addr=(LOCAL,))}, inherited(old), is_beside=True)
    new.bind([("accept", 0)])
    assert {inode(one) for one in new.of(("accept", 9))} == {inode(one) for one in old.all()}
    for listeners in (old, new):
        listeners.close(listeners.all())


def test_what_is_bound_beside_an_instance_that_serves_takes_no_connections_yet() -> None:
    beside = Listeners({"web": Server(addr=(LOCAL,))}, is_beside=True)
    beside.bind([])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(beside.all()[0])), 1)
    beside.close(beside.all())
