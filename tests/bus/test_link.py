"""Envelopes from one actor to another over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import msgpack
import pytest
import zmq

from pingap.bus import envelope as wire
from pingap.bus import link as module
from pingap.bus import sockets
from pingap.bus.link import Link
from pingap.bus.members import Members
from tests.bus.conftest import Net
from tests.bus.says import Said, say

ME, YOU, OTHER = 1, 2, 3


class Inbox:
    """What an actor received, in order."""

    def __init__(self, net: Net, link: Link, actor: int, receive: Callable[[Any], None] | None = None) -> None:
        self.got: list[Any] = []
        self.endpoint = net.at(f"test.0.{actor}")
        link.attach(actor, self.endpoint, {Said: receive or self.got.append})

    @property
    def numbers(self) -> list[int]:
        return [said.sid for said in self.got]


def table(net: Net, *actors: int, seq: int = 1, newest: int = 9) -> Members:
    return Members.of(seq, newest, [(actor, "test", 0, net.at(f"test.0.{actor}"), "ready") for actor in actors])


def pair(net: Net) -> tuple[Link, Link, Inbox]:
    """A sender that knows YOU, the receiver, and its inbox."""
    mine, yours = net.link(), net.link()
    inbox = Inbox(net, yours, YOU)
    mine.set_members(table(net, YOU))
    return mine, yours, inbox


def counted(link: Link, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that leave from now on."""
    sizes: list[int] = []
    pack = wire.pack

    def packing(batch: list[Any]) -> list[bytes]:
        sizes.append(len(batch))
        return pack(batch)

    monkeypatch.setattr(wire, "pack", packing)
    return sizes


async def test_envelopes_arrive_in_order_with_their_fields_named(net: Net) -> None:
    mine, _, inbox = pair(net)
    for number in range(5000):
        mine.send(YOU, say(number))
        if number % 700 == 0:
            await asyncio.sleep(0)
    await net.until(lambda: len(inbox.got) == 5000)
    assert inbox.numbers == list(range(5000))
    assert isinstance(inbox.got[0], Said)


async def test_what_is_sent_in_one_turn_of_the_loop_leaves_as_one_message(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _, inbox = pair(net)
    sizes = counted(mine, monkeypatch)
    for number in range(200):
        mine.send(YOU, say(number))
    assert sizes == []
    await net.until(lambda: len(inbox.got) == 200)
    assert sizes == [200]


async def test_a_large_batch_is_split_where_attachments_could_not_be_counted(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _, inbox = pair(net)
    sizes = counted(mine, monkeypatch)
    for number in range(600):
        mine.send(YOU, say(number, bytes(wire.ATTACH) if number % 2 else b"short"))
    await net.until(lambda: len(inbox.got) == 600)
    assert sizes == [255, 255, 90]
    assert inbox.numbers == list(range(600))
    assert [len(said.payload) for said in inbox.got[:2]] == [5, wire.ATTACH]


async def test_large_payloads_arrive_whole_among_small_ones(net: Net) -> None:
    mine, _, inbox = pair(net)
    payloads = [b"a" * 256 * 1024, b"", b"b" * wire.ATTACH, b"c" * (wire.ATTACH - 1)]
    for number, payload in enumerate(payloads):
        mine.send(YOU, say(number, payload))
    await net.until(lambda: len(inbox.got) == 4)
    assert [said.payload for said in inbox.got] == payloads


async def test_two_receivers_get_what_is_theirs(net: Net) -> None:
    mine, yours = net.link(), net.link()
    one, two = Inbox(net, yours, YOU), Inbox(net, yours, OTHER)
    mine.set_members(table(net, YOU, OTHER))
    for number in range(100):
        mine.send(YOU if number % 2 else OTHER, say(number))
    await net.until(lambda: len(one.got) + len(two.got) == 100)
    assert (one.numbers, two.numbers) == (list(range(1, 100, 2)), list(range(0, 100, 2)))


async def test_what_is_sent_before_the_receiver_exists_reaches_it(net: Net) -> None:
    mine, yours = net.link(), net.link()
    mine.set_members(table(net, YOU))
    mine.send(YOU, say(1))
    await asyncio.sleep(0)
    inbox = Inbox(net, yours, YOU)
    await net.until(lambda: inbox.numbers == [1])


async def test_what_is_for_an_actor_that_no_table_names_yet_waits_for_the_table(net: Net) -> None:
    mine, yours = net.link(), net.link()
    inbox = Inbox(net, yours, YOU)
    mine.set_members(table(net, seq=1, newest=YOU - 1))
    mine.send(YOU, say(1))
    await asyncio.sleep(0)
    mine.send(YOU, say(2))
    mine.set_members(table(net, YOU, seq=2))
    mine.send(YOU, say(3))
    await net.until(lambda: inbox.numbers == [1, 2, 3])
    assert mine.dropped == 0


@pytest.mark.interpreted
async def test_what_waits_for_a_table_is_bounded(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_ENVELOPES", 10)
    mine = net.link()
    for number in range(25):
        mine.send(YOU, say(number))
    await asyncio.sleep(0)
    assert mine.dropped == 15
    assert not mine.can_send(YOU)
    for turn in range(3):  # what comes later is bounded as well
        for number in range(25, 30):
            mine.send(YOU, say(number))
        await asyncio.sleep(0)
        assert mine.dropped == 15 + 5 * (turn + 1)
    yours = net.link()
    inbox = Inbox(net, yours, YOU)
    mine.set_members(table(net, YOU, seq=2))
    mine.send(YOU, say(99))
    await net.until(lambda: inbox.numbers == [*range(10), 99])


async def test_nothing_is_sent_to_the_dead_nor_kept_for_them(net: Net) -> None:
    mine, yours, inbox = pair(net)
    mine.send(YOU, say(1))
    await net.until(lambda: inbox.numbers == [1])
    mine.send(YOU, say(2))
    mine.set_members(table(net, OTHER, seq=2))
    mine.send(YOU, say(3))
    assert mine.dropped == 2
    survivor = Inbox(net, yours, OTHER)
    mine.send(OTHER, say(4))
    await net.until(lambda: survivor.numbers == [4])
    assert inbox.numbers == [1]


@pytest.mark.interpreted
async def test_a_full_pipe_blocks_nobody_and_loses_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIPE_MESSAGES", 4)
    mine, yours = net.link(), net.link()
    other = Inbox(net, yours, OTHER)
    mine.set_members(table(net, YOU, OTHER))
    sent = 0
    while mine.can_send(YOU):  # nobody reads there: it does not even exist
        mine.send(YOU, say(sent, bytes(wire.ATTACH)))
        sent += 1
        await asyncio.sleep(0)
        assert sent < 100
    for _ in range(20):  # envelopes of streams in flight are still taken
        mine.send(YOU, say(sent))
        sent += 1
        await asyncio.sleep(0)
    mine.offer(YOU, say(-1))
    assert mine.dropped == 1, "an event is dropped rather than kept"
    mine.send(OTHER, say(7))
    await net.until(lambda: other.numbers == [7])
    inbox = Inbox(net, yours, YOU)
    await net.until(lambda: len(inbox.got) == sent)
    assert inbox.numbers == list(range(sent))
    assert mine.can_send(YOU)


async def test_an_envelope_that_cannot_travel_costs_no_other(net: Net) -> None:
    mine, _, inbox = pair(net)
    mine.send(YOU, say(1, bytes(wire.ATTACH)))
    mine.send(YOU, (64, 2, object()))
    mine.send(YOU, say(2**70))
    mine.send(YOU, say(3))
    await net.until(lambda: inbox.numbers == [1, 3])
    assert len(inbox.got[0].payload) == wire.ATTACH
    assert mine.dropped == 2
    assert len(net.failures) == 2
    net.failures.clear()


async def test_a_peer_that_cannot_be_reached_at_all_costs_no_other(net: Net) -> None:
    mine, yours = net.link(), net.link()
    inbox = Inbox(net, yours, YOU)
    mine.set_members(Members.of(1, 9, [(OTHER, "test", 0, "nonsense://", "ready"), (YOU, "test", 0, inbox.endpoint, "ready")]))
    mine.send(OTHER, say(1))
    mine.send(YOU, say(2))
    await net.until(lambda: inbox.numbers == [2])
    assert len(net.failures) == 1
    net.failures.clear()


async def test_an_inbox_that_cannot_be_bound_says_so_and_closing_does_not_hang(net: Net) -> None:
    link = net.link()
    with pytest.raises(zmq.ZMQError):
        link.attach(ME, net.at("no/such/dir/test"), {})
    net.close(link)


async def test_what_other_sockets_have_brought_by_then_comes_before_a_message(net: Net) -> None:
    """Upstream relies on it: bytes of a backend that came before a request did are no answer to it."""
    loop = asyncio.get_running_loop()
    order: list[str] = []
    link, mine = net.link(), net.link()
    Inbox(net, link, YOU, lambda said: order.append("message"))
    mine.set_members(table(net, YOU))
    mine.send(YOU, say(1))
    await net.until(lambda: order == ["message"])
    await asyncio.sleep(0.1)  # ZeroMQ also wakes a receiver for matters of its own; then it takes what is there
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: order.append(ours.recv(10).decode()))

        def both_arrive() -> None:
            time.sleep(0.05)  # the message is here
            theirs.send(b"bytes")

        mine.send(YOU, say(2))  # it leaves in the turn that both_arrive is in
        loop.call_soon(both_arrive)
        await net.until(lambda: len(order) == 3)
        loop.remove_reader(ours)
    assert order == ["message", "bytes", "message"]


async def test_a_busy_peer_does_not_starve_another(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "DRAIN", 4)
    mine, yours = net.link(), net.link()
    order: list[int] = []
    Inbox(net, yours, YOU, lambda said: order.append(YOU))
    Inbox(net, yours, OTHER, lambda said: order.append(OTHER))
    mine.set_members(table(net, YOU, OTHER))
    for _ in range(50):
        mine.send(YOU, say(0))
        await asyncio.sleep(0)  # a message each
    mine.send(OTHER, say(0))
    await net.until(lambda: len(order) == 51)
    assert order.index(OTHER) <= 50


def test_messages_with_much_in_them_do_not_keep_the_loop_from_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is bounded in time as well: it goes on in the next one."""
    now, taken = 100.0, 0
    monkeypatch.setattr(sockets, "monotonic", lambda: now)
    socket = mock.Mock(getsockopt=lambda option: sockets.READABLE)
    loop = mock.Mock()

    def take() -> None:
        nonlocal now, taken
        now += sockets.LONGEST_TURN / 2
        taken += 1

    sockets.Watched(loop, socket, take)
    (drain,) = loop.call_soon.call_args.args
    drain()
    assert taken == 4, "the clock is read after the first message"
    assert loop.call_soon.call_count == 2
    drain()
    assert taken == 8


async def test_a_receiver_that_fails_costs_its_envelope_only(net: Net) -> None:
    mine, yours = net.link(), net.link()
    got: list[int] = []

    def receive(said: Said) -> None:
        if said.sid in (2, 3):
            raise [ValueError("two"), KeyError("three")][said.sid - 2]
        got.append(said.sid)

    Inbox(net, yours, YOU, receive)
    mine.set_members(table(net, YOU))
    for number in range(6):
        mine.send(YOU, say(number))
    await net.until(lambda: got == [0, 1, 4, 5])
    assert [failure["message"] for failure in net.failures] == ["the receiver of Said failed"] * 2
    assert yours.refused == 0
    net.failures.clear()


GARBAGE: list[list[bytes]] = [
    [b""],
    [b"\x02\x00" + msgpack.packb([[64, 666]])],
    [b"\x01\x00\xc1"],
    [b"\x01\x00" + msgpack.packb({"a": 1})],
    [b"\x01\x02" + msgpack.packb([[64, 666, None]])],
    [b"\x01\x02" + msgpack.packb([[64, 666, None]]), b"one"],
    [b"\x01\x01" + msgpack.packb([[64, 666, None]]), b"one", b"two"],
    [b"\x01\x00" + msgpack.packb([[99, 666], [], 5, "x", [None], [[]], [{}], [64]])],
]


@pytest.mark.parametrize("frames", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_dropped_counted_and_told_once_and_what_follows_is_received(net: Net, frames: list[bytes]) -> None:
    yours = net.link()
    inbox = Inbox(net, yours, YOU)
    with zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
        stranger.connect(inbox.endpoint)
        for number in range(3):
            stranger.send_multipart(frames)
            stranger.send(b"\x01\x00" + msgpack.packb([[64, number, b""]]))
        await net.until(lambda: len(inbox.got) >= 3)
    assert inbox.numbers == [0, 1, 2]
    assert yours.refused >= 3 or any("receiver of" in failure["message"] for failure in net.failures)
    assert sum("refused" in failure["message"] for failure in net.failures) <= 1, "a flood of it does not flood the log"
    net.failures.clear()


async def test_a_whole_batch_can_be_handed_on_as_it_came(net: Net) -> None:
    mine, yours = net.link(), net.link()
    batches: list[tuple[bytes, list[Any]]] = []
    yours.attach(YOU, net.at(f"test.0.{YOU}"), {}, lambda raw, envelopes: batches.append((raw, envelopes)))
    mine.set_members(table(net, YOU))
    mine.send(YOU, (96, 1, "a"))
    mine.send(YOU, (97, 2, "b"))
    await net.until(lambda: batches)
    raw, envelopes = batches[0]
    assert envelopes == [(96, 1, "a"), (97, 2, "b")]
    assert wire.unpack(raw) == envelopes


async def test_what_is_queued_at_the_end_still_leaves(net: Net) -> None:
    mine, _, inbox = pair(net)
    mine.send(YOU, say(1))
    await net.until(lambda: inbox.numbers == [1])
    mine.send(YOU, say(2))
    net.close(mine)
    await net.until(lambda: inbox.numbers == [1, 2])


async def test_closing_does_not_wait_for_a_peer_that_is_gone(net: Net) -> None:
    mine = net.link()
    mine.set_members(table(net, YOU))
    mine.send(YOU, say(1))
    began = asyncio.get_running_loop().time()
    net.close(mine)
    assert asyncio.get_running_loop().time() - began < 1


# -- control -----------------------------------------------------------------------


async def test_control_goes_both_ways_and_the_router_tells_peers_apart(net: Net) -> None:
    supervisor, one, two = net.link(), net.link(), net.link()
    heard: list[tuple[bytes, Any]] = []
    router = supervisor.router(net.at("control"), lambda peer, envelopes: heard.extend((peer, each) for each in envelopes))
    answers: dict[int, list[Any]] = {1: [], 2: []}
    dealers = {1: one.dealer(net.at("control"), answers[1].extend), 2: two.dealer(net.at("control"), answers[2].extend)}
    for number, dealer in dealers.items():
        assert dealer.send((1, [number], 4242, 1))
    await net.until(lambda: len(heard) == 2)
    for peer, envelope in heard:
        assert router.send(peer, (8, envelope[1][0]))
    await net.until(lambda: all(answers.values()))
    assert answers == {1: [(8, 1)], 2: [(8, 2)]}


async def test_what_is_long_goes_over_the_control_connection_too(net: Net) -> None:
    supervisor, other = net.link(), net.link()
    heard: list[tuple[bytes, Any]] = []
    router = supervisor.router(net.at("control"), lambda peer, envelopes: heard.extend((peer, each) for each in envelopes))
    answers: list[Any] = []
    dealer = other.dealer(net.at("control"), answers.extend)
    long = bytes(wire.ATTACH)
    assert dealer.send(say(1, long))
    await net.until(lambda: heard)
    assert router.send(heard[0][0], say(2, long))
    await net.until(lambda: answers)
    assert (heard[0][1], answers) == ((64, 1, long), [(64, 2, long)])


async def test_a_peer_that_is_gone_is_told_to_the_sender_and_stops_nobody(net: Net) -> None:
    supervisor, other = net.link(), net.link()
    heard: list[bytes] = []
    router = supervisor.router(net.at("control"), lambda peer, envelopes: heard.append(peer))
    assert not router.send(b"nobody", (8,))
    dealer = other.dealer(net.at("control"), lambda envelopes: None)
    dealer.send((1,))
    await net.until(lambda: heard)
    net.close(other)
    await net.until(lambda: not router.send(heard[0], (8,)))


async def test_a_burst_in_both_directions_loses_no_edge(net: Net) -> None:
    """The descriptor is edge-triggered: a send swallows the edge of what came meanwhile."""
    supervisor, other = net.link(), net.link()
    turns: list[int] = []

    def heard(peer: bytes, envelopes: list[Any]) -> None:
        for envelope in envelopes:
            turns.append(envelope[1])
            router.send(peer, (2, envelope[1]))

    router = supervisor.router(net.at("control"), heard)
    back: list[int] = []
    dealer = other.dealer(net.at("control"), lambda envelopes: back.extend(envelope[1] for envelope in envelopes))
    for number in range(500):
        dealer.send((2, number))
        if number % 7 == 0:
            await asyncio.sleep(0)
    await net.until(lambda: len(back) == 500)
    assert back == turns == list(range(500))


async def test_garbage_on_the_control_socket_is_refused_and_others_go_on(net: Net) -> None:
    supervisor = net.link()
    heard: list[Any] = []
    supervisor.router(net.at("control"), lambda peer, envelopes: heard.extend(envelopes))
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(net.at("control"))
        for frames in ([b"nonsense"], [b"one", b"two", b"three"], [b"", b"\x01\x00" + msgpack.packb([[1]])]):
            stranger.send_multipart(frames)
        stranger.send(b"\x01\x00" + msgpack.packb([[1, 7]]))
        await net.until(lambda: heard)
    assert heard == [(1, 7)]
    assert supervisor.refused == 3
    net.failures.clear()


# -- events -----------------------------------------------------------------------


async def test_subscribers_get_their_topics_and_the_publisher_sees_who_wants_what(net: Net) -> None:
    logging, reader = net.link(), net.link()
    wanted: list[bytes] = []
    publisher = logging.publisher(net.at("events.pub"), wanted.append)
    got: list[tuple[bytes, Any]] = []
    watched = reader.subscriber(net.at("events.pub"), [b"access"], lambda topic, envelopes: got.append((topic, envelopes)))
    await net.until(lambda: wanted)
    assert wanted == [b"\x01access"]
    publisher.send(b"log", (97, "not for it"))
    publisher.send(b"access", (96, 1), (96, 2, bytes(wire.ATTACH)))
    publisher.forward(b"access", wire.pack([(96, 3)])[0])
    await net.until(lambda: len(got) == 2)
    assert got == [(b"access", [(96, 1), (96, 2, bytes(wire.ATTACH))]), (b"access", [(96, 3)])]
    watched.close()
    await net.until(lambda: wanted[-1] == b"\x00access")


async def test_a_subscriber_that_does_not_read_never_holds_the_publisher_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIPE_MESSAGES", 2)
    logging = net.link()
    wanted: list[bytes] = []
    publisher = logging.publisher(net.at("events.pub"), wanted.append)
    with zmq.Context() as context, context.socket(zmq.SUB) as sleeper:
        sleeper.setsockopt(zmq.RCVHWM, 1)
        sleeper.setsockopt(zmq.SUBSCRIBE, b"")
        sleeper.connect(net.at("events.pub"))
        await net.until(lambda: wanted)
        for number in range(200):
            publisher.send(b"log", (97, number, bytes(wire.ATTACH)))
