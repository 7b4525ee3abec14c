"""Actors of one process: the same promises as over a socket, without one."""

from __future__ import annotations

import asyncio
from typing import Any

from pingap.bus import local
from pingap.bus.messages import Wanted
from tests.bus.conftest import Net
from tests.bus.says import Said, say

ME, YOU = 1, 2


async def test_an_envelope_is_handed_over_as_it_is_but_never_from_within_the_send(net: Net) -> None:
    link = net.link()
    got: list[Any] = []
    link.attach(YOU, net.at("you"), {Said: got.append})
    envelope = say(1)
    link.send(YOU, envelope)
    assert got == []
    await net.until(lambda: got)
    assert got[0] is envelope


async def test_order_is_that_of_the_sends_across_receivers_and_answers(net: Net) -> None:
    link = net.link()
    order: list[Any] = []

    def mine(envelope: Any) -> None:
        order.append(("me", envelope.sid))

    def yours(envelope: Any) -> None:
        order.append(("you", envelope.sid))
        link.send(ME, say(envelope.sid * 10))

    link.attach(ME, net.at("me"), {Said: mine})
    link.attach(YOU, net.at("you"), {Said: yours})
    for number in (1, 2):
        link.send(YOU, say(number))
    link.send(ME, say(3))
    await net.until(lambda: len(order) == 5)
    assert order == [("you", 1), ("you", 2), ("me", 3), ("me", 10), ("me", 20)]


async def test_a_receiver_that_fails_costs_its_envelope_only(net: Net) -> None:
    link = net.link()
    got: list[int] = []

    def receive(envelope: Any) -> None:
        if envelope.sid == 1:
            raise ValueError("one")
        got.append(envelope.sid)

    link.attach(YOU, net.at("you"), {Said: receive})
    for number in range(3):
        link.send(YOU, say(number))
    await net.until(lambda: got == [0, 2])
    assert [str(failure["exception"]) for failure in net.failures] == ["one"]
    net.failures.clear()


async def test_a_kind_without_a_receiver_is_dropped_and_counted(net: Net) -> None:
    link = net.link()
    got: list[Any] = []
    link.attach(YOU, net.at("you"), {Said: got.append})
    link.send(YOU, Wanted([]))
    link.send(YOU, say(2))
    await net.until(lambda: got == [say(2)])


async def test_two_actors_that_answer_each_other_for_ever_leave_the_loop_its_turns(net: Net) -> None:
    link = net.link()
    turns = 0

    def again(to: int) -> Any:
        def receive(envelope: Any) -> None:
            nonlocal turns
            turns += 1
            link.send(to, envelope)

        return receive

    link.attach(ME, net.at("me"), {Said: again(YOU)})
    link.attach(YOU, net.at("you"), {Said: again(ME)})
    link.send(YOU, say(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < turns <= 3 * local.DRAIN
