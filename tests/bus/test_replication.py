"""Topics between processes: what is sent how often, what is lost and made good. Sockets and clock are the test's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pingap.bus.envelope import Reader, pack
from pingap.bus.members import Members
from pingap.bus.messages import Blob, BlobAsk, Repeat, SnapshotAsk, TopicSnapshot, Update
from pingap.bus.replica import Copy
from pingap.bus.replication import Replication

SOURCE = 1


def carried(message: Any) -> Any:
    """As it is after its way over a socket."""
    refused: list[Any] = []
    (read,) = Reader([Update, Repeat, TopicSnapshot, SnapshotAsk, Blob, BlobAsk], refused.append).unpack(pack([message])[0])
    assert not refused
    return read


class Net:
    """Processes by the id of their first actor; what is published is told to all, but for what the test loses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Any]] = []
        self.sent: list[tuple[int, Any]] = []
        self.published: list[Any] = []
        self.lost: list[type] = []
        """Kinds whose next message on the publisher's socket reaches nobody."""
        self.deaf = False
        """What is sent to actors reaches nobody."""
        self.takes: list[Any] = []
        self.processes: dict[int, Replication] = {}
        self.members = Members.of(1, 9, [(SOURCE, "source", 0, "", "ready")])
        self.failures: list[Any] = []

    def process(self, actor: int) -> Replication:
        self.processes[actor] = Replication(self, "/run", self)  # type: ignore[arg-type]
        return self.processes[actor]

    # -- a link

    def send(self, to: int, message: Any) -> None:
        self.sent.append((to, message))
        if not self.deaf and to in self.processes:
            self.processes[to].receivers()[type(message)](carried(message))

    def publisher(self, endpoint: str) -> Any:
        return SimpleNamespace(send=self._publish)

    def _publish(self, topic: bytes, message: Any) -> None:
        self.published.append(message)
        if type(message) in self.lost:
            self.lost.remove(type(message))
            return
        for take in list(self.takes):
            take(topic, [carried(message)])

    def subscriber(self, endpoint: str, topics: list[bytes], take: Any, messages: list[type]) -> Any:
        self.takes.append(take)

    # -- a loop

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Any, *args: Any) -> None:
        self.timers.append((self.now + delay, lambda: call(*args)))

    def call_soon(self, call: Any, *args: Any) -> None:
        call(*args)

    def call_exception_handler(self, context: Any) -> None:
        self.failures.append(context)

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((at, number) for number, (at, _) in enumerate(self.timers) if at <= end):
            self.now = due[0][0]
            self.timers.pop(due[0][1])[1]()
        self.now = end

    def of(self, kind: type) -> list[tuple[int, Any]]:
        return [(to, message) for to, message in self.sent if type(message) is kind]


@pytest.fixture
def net() -> Net:
    return Net()


def test_a_repeat_is_a_number_alone_and_who_has_it_asks_for_nothing(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    change = source.publish("source", "t", "zero")
    follower.follow(2, "t", "source", values.append)
    change({"n": 1})
    asked = len(net.of(SnapshotAsk))
    net.passes(5)
    assert values == ["zero", {"n": 1}]
    assert [type(message) for message in net.published] == [Update, Update, *[Repeat] * 5]
    assert len(net.of(SnapshotAsk)) == asked


@pytest.mark.parametrize("repeats", [0, 1, 4])
def test_who_missed_the_update_and_some_of_its_repeats_asks_at_the_next_one(net: Net, repeats: int) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    change = source.publish("source", "t", 0)
    follower.follow(2, "t", "source", values.append)
    net.lost = [Update, *[Repeat] * repeats]
    change(1)
    net.passes(0.051 * 2**repeats - 0.05 + 0.051 * 2**repeats)
    assert values == [0, 1]


def test_the_number_is_looked_at_before_the_value_is_unpacked(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    unpacked: list[bytes] = []

    def counted(raw: bytes) -> int:
        unpacked.append(raw)
        return len(unpacked)

    monkeypatch.setattr("pingap.bus.replica._unpacked", counted)
    source.publish("source", "t", "zero")
    follower.follow(2, "t", "source", values.append)
    for _ in range(3):
        net.send(SOURCE, SnapshotAsk(2, "t"))
    assert (values, len(unpacked)) == ([1], 1)


def test_several_actors_of_a_process_share_a_subscription_and_each_hears_of_every_value(net: Net) -> None:
    source, worker = net.process(SOURCE), net.process(2)
    one, two, late = list[Any](), list[Any](), list[Any]()
    change = source.publish("source", "t", 0)
    worker.follow(2, "t", "source", one.append)
    worker.follow(3, "t", "source", two.append)
    change(1)
    worker.follow(4, "t", "source", late.append)
    assert (len(net.takes), len(net.of(TopicSnapshot))) == (1, 1)
    assert (one, two, late) == ([0, 1], [0, 1], [1])


def test_a_follower_that_fails_does_not_keep_the_value_from_others(net: Net) -> None:
    def fails(value: Any) -> None:
        raise ZeroDivisionError

    source, worker = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    source.publish("source", "t", "value")
    worker.follow(2, "t", "source", fails)
    worker.follow(3, "t", "source", values.append)
    assert values == ["value"]
    assert [type(failure["exception"]) for failure in net.failures] == [ZeroDivisionError]


def test_a_new_publisher_is_asked_although_none_of_its_words_came(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    source.publish("source", "t", "first")
    follower.follow(2, "t", "source", values.append)
    net.takes.clear()  # the subscriber has not found the next one yet
    net.members = Members.of(2, 9, [(5, "source", 0, "", "ready")])
    net.process(5).publish("source", "t", "second")
    net.passes(5)
    follower.members_changed(frozenset({"other"}))
    assert values == ["first"]
    follower.members_changed(frozenset({"source"}))
    assert values == ["first", "second"]


def test_a_question_that_was_lost_is_asked_again(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    values: list[Any] = []
    source.publish("source", "t", "value")
    net.deaf = True
    follower.follow(2, "t", "source", values.append)
    net.deaf = False
    assert values == []
    follower.ask()
    assert values == ["value"]


# -- blobs ------------------------------------------------------------------------------


def test_blobs_come_to_who_asks_for_them_and_once_to_a_process(net: Net) -> None:
    source, worker, other = net.process(SOURCE), net.process(2), net.process(4)
    net.processes[3] = worker
    source.publish("source", "t", "ab", {b"a": b"A", b"b": b"B", b"c": b"C"})
    got: list[Any] = []
    net.deaf = True
    worker.fetch(2, "t", "source", [b"a", b"b"], got.append)
    worker.fetch(3, "t", "source", [b"b", b"c"], got.append)
    assert net.of(BlobAsk) == [(SOURCE, BlobAsk(2, "t", [b"a", b"b"])), (SOURCE, BlobAsk(3, "t", [b"c"]))]
    net.deaf = False
    for to, ask in net.of(BlobAsk):
        net.send(to, ask)
    assert got == [{b"a": b"A", b"b": b"B"}, {b"b": b"B", b"c": b"C"}]
    assert len(net.of(Blob)) == 3
    assert other._fetches == []


def test_blobs_that_do_not_come_are_asked_for_again_and_not_before_they_can_have_come(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    source.publish("source", "t", "a", {b"a": b"A"})
    got: list[Any] = []
    net.deaf = True
    follower.fetch(2, "t", "source", [b"a"], got.append)
    net.deaf = False
    for _ in range(3):
        net.passes(0.25)
        follower.ask()
    assert (got, len(net.of(BlobAsk))) == ([], 1)
    net.passes(0.3)
    follower.ask()
    assert (got, len(net.of(BlobAsk))) == ([{b"a": b"A"}], 2)


def test_a_new_publisher_is_asked_for_blobs_at_once(net: Net) -> None:
    follower, got = net.process(2), list[Any]()
    follower.fetch(2, "t", "source", [b"a"], got.append)
    net.process(SOURCE).publish("source", "t", "a", {b"a": b"A"})
    follower.members_changed(frozenset({"source"}))
    assert got == [{b"a": b"A"}]


def test_what_was_given_up_is_neither_handed_over_nor_asked_for_again(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    got: list[Any] = []
    give_up = follower.fetch(2, "t", "source", [b"a"], got.append)
    give_up()
    give_up()
    source.publish("source", "t", "a", {b"a": b"A"})
    net.passes(2)
    follower.ask()
    assert got == [] and len(net.of(BlobAsk)) == 1


def test_only_bodies_of_the_value_of_now_are_sent(net: Net) -> None:
    source, follower = net.process(SOURCE), net.process(2)
    got: list[Any] = []
    change = source.publish("source", "t", "a", {b"a": b"A"})
    change("b", {b"b": b"B"})
    follower.fetch(2, "t", "source", [b"a"], got.append)
    follower.fetch(2, "t", "source", [b"b"], got.append)
    assert got == [{b"b": b"B"}]


def test_a_copy_knows_whether_it_ever_had_a_value() -> None:
    assert not Copy("t").has_value
