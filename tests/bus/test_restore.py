"""Files of sockets that somebody removes: who is connected stays so, who comes later finds the way."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from pingap.bus.link import Link
from pingap.bus.members import Members
from tests.bus.conftest import Net
from tests.bus.says import Said, say

KIND = 64


def others(net: Net, name: str = "inbox") -> Link:
    link = net.link()
    link.set_members(Members.of(1, 1, [(1, "x", 0, net.at(name), "ready")]))
    return link


@pytest.mark.parametrize("times", [1, 3])
async def test_an_inbox(net: Net, times: int) -> None:
    got: list[Any] = []
    receiver = net.link()
    receiver.attach(1, net.at("inbox"), {Said: got.append})
    assert receiver.restore() == []
    links = [others(net)]
    for _ in range(times):
        links[-1].send(1, say(7))
        await net.until(lambda: got)
        os.unlink(f"{net.run_dir}/inbox")
        late = others(net)
        late.send(1, say(8))
        assert receiver.restore() == [f"{net.run_dir}/inbox"]
        links.append(late)
        got.clear()
        for number, link in enumerate(links):
            link.send(1, say(number))
        await net.until(lambda: set(range(len(links))) <= {said.sid for said in got})
        got.clear()


async def test_a_router_keeps_its_peers_and_gets_new_ones(net: Net) -> None:
    heard: dict[str, bytes] = {}
    told: list[str] = []
    router = net.link()
    side = router.router(net.at("control"), lambda peer, envelopes: heard.update({envelopes[0][1]: peer}))
    first = net.link().dealer(net.at("control"), lambda envelopes: told.append(envelopes[0][1]))
    first.send((KIND, "first"))
    await net.until(lambda: "first" in heard)
    os.unlink(f"{net.run_dir}/control")
    assert router.restore()
    second = net.link().dealer(net.at("control"), lambda envelopes: told.append(envelopes[0][1]))
    second.send((KIND, "second"))
    await net.until(lambda: "second" in heard)
    assert side.send(heard["first"], (KIND, "to first"))
    assert side.send(heard["second"], (KIND, "to second"))
    await net.until(lambda: sorted(told) == ["to first", "to second"])


async def test_a_publisher(net: Net) -> None:
    got: list[Any] = []
    source = net.link()
    publisher = source.publisher(net.at("x.pub"))
    net.link().subscriber(net.at("x.pub"), [b"a"], lambda topic, envelopes: got.append("old"))
    os.unlink(f"{net.run_dir}/x.pub")
    assert source.restore()
    net.link().subscriber(net.at("x.pub"), [b"a"], lambda topic, envelopes: got.append("new"))

    def both() -> bool:
        publisher.send(b"a", (KIND, 1))
        return {"old", "new"} <= set(got)

    await net.until(both)


async def test_without_the_directory_it_is_tried_again_later(net: Net) -> None:
    link = net.link()
    got: list[Any] = []
    link.attach(1, net.at("inbox"), {Said: got.append})
    shutil.rmtree(net.run_dir)
    for _ in range(2):
        with pytest.raises(OSError):
            link.restore()
    os.mkdir(net.run_dir)
    assert link.restore()
    others(net).send(1, say(1))
    await net.until(lambda: got)
