"""Between hosts: only with the deployment's key, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
import zmq

from pingap.bus.link import Curve, Link
from pingap.bus.members import Members
from tests.bus.conftest import Net
from tests.bus.says import Said, say
from tests.kit.waiting import free_port

YOU = 2


def keys() -> Curve:
    return Curve(*zmq.curve_keypair())


class Inbox:
    def __init__(self, link: Link) -> None:
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.got: list[Any] = []
        link.attach(YOU, self.endpoint, {Said: self.got.append})
        self.table = Members.of(1, 9, [(YOU, "test", 0, self.endpoint, "ready")])


async def test_tcp_without_keys_is_refused_on_either_side(net: Net) -> None:
    with pytest.raises(PermissionError, match="CURVE"):
        Inbox(net.link())
    mine = net.link()
    mine.set_members(Members.of(1, 9, [(YOU, "test", 0, "tcp://127.0.0.1:1", "ready")]))
    mine.send(YOU, say(1))
    await net.until(lambda: net.failures)
    assert isinstance(net.failures[0]["exception"], PermissionError)
    net.failures.clear()


async def test_who_has_the_key_is_heard(net: Net) -> None:
    curve = keys()
    inbox = Inbox(net.link(curve))
    mine = net.link(curve)
    mine.set_members(inbox.table)
    for number in range(100):
        mine.send(YOU, say(number, bytes(100_000)))
    await net.until(lambda: len(inbox.got) == 100)
    assert [envelope.sid for envelope in inbox.got] == list(range(100))


async def test_who_has_no_key_or_another_one_or_only_the_public_half_is_not_heard(net: Net) -> None:
    curve, other = keys(), keys()
    inbox = Inbox(net.link(curve))
    message = b"\x01\x00" + msgpack.packb([[64, 666, b""]])
    with zmq.Context() as context:
        plain, foreign = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
        foreign.curve_serverkey, foreign.curve_publickey, foreign.curve_secretkey = curve.of_actor(YOU).public, other.public, other.secret
        for stranger in (plain, foreign):
            stranger.linger = 0
            stranger.connect(inbox.endpoint)
            stranger.send(message)
        mine = net.link(curve)
        mine.set_members(inbox.table)
        mine.send(YOU, say(1))
        await net.until(lambda: inbox.got)
        await asyncio.sleep(0.3)  # time enough for the strangers, had they been let in
        assert inbox.got == [say(1)]
        for stranger in (plain, foreign):
            stranger.close()


async def test_a_server_with_another_key_is_not_told_anything(net: Net) -> None:
    inbox = Inbox(net.link(keys()))
    mine = net.link(keys())
    mine.set_members(inbox.table)
    mine.send(YOU, say(1))
    await asyncio.sleep(0.3)
    assert inbox.got == []


async def test_what_was_for_an_actor_never_reaches_its_successor_at_the_same_address(net: Net) -> None:
    """A PUSH socket comes back to a tcp address by itself, before the table says whose it is now."""
    curve = keys()
    inbox = Inbox(first := net.link(curve))
    mine = net.link(curve)
    mine.set_members(inbox.table)
    mine.send(YOU, say(1))
    await net.until(lambda: inbox.got)
    net.close(first)
    successor, got = YOU + 1, list[Any]()
    net.link(curve).attach(successor, inbox.endpoint, {Said: got.append})
    mine.send(YOU, say(2))
    await asyncio.sleep(0.5)  # it reconnects within 0.1 s
    assert got == []
    mine.set_members(Members.of(2, 9, [(successor, "test", 0, inbox.endpoint, "ready")]))
    mine.send(successor, say(3))
    await net.until(lambda: got)
    assert got == [say(3)]
