"""How many connections leave enough descriptors to the bus."""

from __future__ import annotations

import errno
import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.bus import descriptors as module
from pingap.bus.descriptors import PER_PEER, Descriptors, kept


@given(limit=st.integers(0, 1 << 21), peers=st.integers(0, 2000), held=st.integers(0, 5000), takers=st.integers(0, 2))
def test_what_connections_may_take_always_leaves_what_the_rest_needs(limit: int, peers: int, held: int, takers: int) -> None:
    descriptors = Descriptors(limit)
    for _ in range(takers):
        descriptors.join()
    descriptors.has_peers(peers)
    descriptors.hold(held)
    taken = descriptors.most * max(1, takers)
    assert taken >= 0
    assert taken == 0 or taken + kept(limit) + PER_PEER * peers + held <= limit
    assert descriptors.slack < kept(limit)


def test_the_usual_limits_leave_most_to_connections() -> None:
    for limit, least in ((1024, 800), (4096, 3500), (1 << 20, 1_000_000)):
        descriptors = Descriptors(limit)
        descriptors.join()
        descriptors.has_peers(9)
        assert descriptors.most > least


def test_how_many_are_in_use_is_known_whatever_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module.in_use()
    more = [os.dup(0) for _ in range(20)]
    assert module.in_use() - before == 20

    class Old:
        st_size = 0

    monkeypatch.setattr(os, "stat", lambda path: Old)
    assert abs(module.in_use() - before - 20) <= 1  # the listing is one itself
    for fd in more:
        os.close(fd)
    assert module.in_use(1 << 30) == 0


def test_a_limit_of_any_number_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert Descriptors(module.limit_now()).most > 1_000_000_000


def test_a_shortage_is_known_by_its_errno_whoever_tells() -> None:
    zmq = pytest.importorskip("zmq")
    assert module.is_short(OSError(errno.EMFILE, "x"))
    assert module.is_short(OSError(errno.ENFILE, "x"))
    assert module.is_short(zmq.ZMQError(errno.EMFILE))
    assert module.is_short(module.Exhausted())
    assert not module.is_short(OSError(errno.ECONNREFUSED, "x"))
    assert not module.is_short(None)
