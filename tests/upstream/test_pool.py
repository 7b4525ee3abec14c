"""What a pool decides, without a loop, a socket or a clock: it says what is to be closed and who is to be served, and does nothing."""

from __future__ import annotations

from typing import Any

from pingap.config.model import Upstream
from pingap.config.parts import Backend, Balance
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.waiting import Place


class Idler:
    """A connection of either kind."""

    def __init__(self, name: str = "", since: float = 0.0, room: int = 1) -> None:
        self.name, self.idle_since, self.room = name, since, room
        self.backend: BackendState | None = None
        self.transport: Any = self
        self.is_unused = True

    def is_closing(self) -> bool:
        return False

    def channel(self) -> Any:
        self.room -= 1
        if not self.room and self.backend is not None:
            self.backend.forget(self)
        return self

    def close(self, why: str = "") -> None:
        raise AssertionError("a pool closes nothing")


class Asker:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a pool calls nobody back: {name}")


def group_of(addrs: str = "a b", **settings: Any) -> Group:
    backends = tuple(Backend(host, 1) for host in addrs.split())
    return Group("api", Upstream(addrs=backends, algo=Balance(kind="round_robin"), **settings), lambda n: 0)


def lines_up(backend: BackendState, *names: str, needs_http1: bool = False) -> list[Any]:
    waiters: list[Any] = [Asker() for _ in names]
    for since, (waiter, name) in enumerate(zip(waiters, names, strict=True)):
        Place(backend.pending, waiter, name, needs_http1, float(since))
    return waiters


def test_the_line_is_let_in_as_far_as_there_is_room() -> None:
    group = group_of("a", max_connections=1, alpn="h2")
    backend = group.backends[0]
    shared: Any = Idler(room=2)
    shared.backend = backend
    backend.connections.add(shared)
    backend.shared.append(shared)
    first, second, third = lines_up(backend, "", "", "")
    assert list(backend.assign()) == [(first, shared), (second, shared)]
    assert group.pending == 1
    assert next(iter(backend.pending)).waiter is third


def test_where_a_connection_may_be_opened_they_are_told_so_one_after_the_other() -> None:
    """Each is served before the next is asked for: what the first opens is one less for the others."""
    backend = group_of("a", max_connections=2).backends[0]
    first, second, _ = lines_up(backend, "", "", "")
    served = []
    for waiter, channel in backend.assign():
        served.append(waiter)
        assert channel is None
        backend.connections.add(object())
    assert served == [first, second]


def test_who_wants_another_name_is_passed_over() -> None:
    backend = group_of("a", max_connections=1, alpn="h2", sni="$host").backends[0]
    shared: Any = Idler("x", room=9)
    backend.connections.add(shared)
    backend.shared.append(shared)
    _, second, _ = lines_up(backend, "y", "x", "y")
    assert list(backend.assign()) == [(second, shared)]


def test_late_ones_leave_the_line() -> None:
    backend = group_of("a").backends[0]
    waiters = lines_up(backend, "", "", "")
    assert backend.waited_since(1.0) == waiters[:2]
    assert backend.waited_since(1.0) == []
    assert len(backend.pending) == 1


def test_the_oldest_idle_connection_gives_way() -> None:
    backend = group_of("a").backends[0]
    old, new = Idler(since=1.0), Idler(since=2.0)
    kept: Any = [old, new]
    backend.idle += kept
    assert backend.give_way() is old
    kept = [new]
    assert backend.idle == kept
    assert backend.give_way() is new
    assert backend.give_way() is None


def test_idle_connections_that_are_kept_no_more_are_to_be_closed() -> None:
    group = group_of()
    for backend in group.backends:
        idle: Any = Idler()
        backend.idle.append(idle)
    assert group.keep_idle(True) == []
    assert len(group.keep_idle(False)) == 2
    assert not any(backend.idle for backend in group.backends)


def test_of_a_backend_that_leaves_its_idle_connections_and_those_in_line() -> None:
    group = group_of("many")
    assert group.set_addresses({"many:1": [("10.0.0.1", 1, 1), ("10.0.0.2", 1, 1)]}, 0.0) == ([], [])
    leaves = group.backends[0]
    idle: Any = Idler()
    leaves.idle.append(idle)
    leaves.connections |= {idle, object()}
    waiters = lines_up(leaves, "", "")
    assert group.set_addresses({"many:1": [("10.0.0.2", 1, 1)]}, 0.0) == ([idle], waiters)
    assert not leaves.pending
    assert group.leaving == [leaves], "until what it has begun is done"
    assert group.set_addresses({"many:1": [("10.0.0.2", 1, 1)]}, 0.0) == ([], [])
