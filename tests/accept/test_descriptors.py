"""When this process may have no more sockets: the doors are paused, so that nobody is cut and the bus goes on."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import pytest

from pingap.bus.descriptors import PER_PEER, Descriptors, kept
from pingap.stages.accept.connections import FULL_PAUSE
from pingap.stages.accept.doors import COPIES, Doors
from tests.accept.playbook import Play
from tests.kit.waiting import eventually

LIMIT = 1024


def may_have(play: Play, connections: int) -> Descriptors:
    """Peers are what takes the rest away."""
    descriptors = play.actor.connections._descriptors = Descriptors(LIMIT)
    descriptors.hold(LIMIT - kept(LIMIT) - connections)
    assert descriptors.most == connections
    return descriptors


async def test_at_the_limit_the_doors_are_paused_told_once_a_minute_and_opened_when_somebody_leaves(play: Play) -> None:
    may_have(play, 3)
    clients = [play.connects() for _ in range(2)]
    assert not play.actor._doors.is_paused
    clients.append(play.connects())
    assert play.actor._doors.is_paused
    clients.append(play.connects())  # was accepted already
    assert not any(client.is_closed for client in clients)
    assert [level for level, _, _ in play.context.logged] == ["error"]
    await play.passes(1)
    assert play.actor._doors.is_paused
    for client in clients[:2]:
        client.resets()
    await play.turn()
    await play.passes(1)
    assert not play.actor._doors.is_paused
    play.connects()
    assert play.actor._doors.is_paused
    assert len(play.context.logged) == 1
    clients[2].resets()
    await play.turn()
    await play.passes(FULL_PAUSE)
    for _ in range(3):
        play.connects()
    assert len(play.context.logged) == 2


async def test_idle_clients_give_way_to_new_actors_and_only_as_many_as_must(play: Play) -> None:
    descriptors = may_have(play, 500)
    clients = [play.connects() for _ in range(490)]
    busy = clients[:5]
    for client in busy:
        client.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    peers = 10
    descriptors.has_peers(peers)
    await play.passes(1)
    assert not any(client.is_closed for client in clients), "the slack is enough"
    peers = 100
    descriptors.has_peers(peers)
    await play.passes(1)
    left = sum(not client.is_closed for client in clients)
    assert left == descriptors.most + descriptors.slack == 500 - PER_PEER * peers + descriptors.slack
    assert not any(client.is_closed for client in busy)


@pytest.mark.interpreted
async def test_who_comes_while_the_doors_are_paused_waits_in_the_kernels_queue() -> None:
    """On the loop's own servers: none of them closes the socket that all replicas share."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    served: list[asyncio.BaseTransport] = []

    class Taker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            served.append(transport)

    class Registry:
        draining = False
        loop = asyncio.get_running_loop()

        class context:
            descriptors = Descriptors(LIMIT)

    def have_come(count: int) -> bool:
        return len(served) == count

    doors = Doors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pingap.stages.accept.doors._factory", lambda connections, door: Taker)
        listeners = [{"fd": listener.detach(), "server": "web", "addr": f"127.0.0.1:{port}"}]
        doors.open(Registry.context.descriptors, listeners, {}, {}, None)  # type: ignore[arg-type]
        await doors.listen(Registry)  # type: ignore[arg-type]
        clients = [socket.create_connection(("127.0.0.1", port))]
        await eventually(lambda: len(served) == 1)
        for _ in range(2):
            doors.pause()
            before = len(served)
            clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
            await asyncio.sleep(0.05)
            assert len(served) == before
            await doors.resume()
            await eventually(partial(have_come, before + 10))
        doors.pause()
        doors.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))
    for client in clients:
        client.close()
    for transport in served:
        transport.close()
    await asyncio.sleep(0)


@pytest.mark.interpreted
async def test_hundreds_of_addresses_do_without_copies() -> None:
    class Registry:
        draining = False
        loop = asyncio.get_running_loop()

        class context:
            descriptors = Descriptors(LIMIT)

    for count, copies in ((1, COPIES), (32, COPIES), (64, 2), (100, 1), (200, 0)):
        doors = Doors()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Doors, "_serve", no_serving)
            socks = [socket.socket() for _ in range(count)]
            listeners = [{"fd": sock.detach(), "server": "web", "addr": ""} for sock in socks]
            doors.open(Registry.context.descriptors, listeners, {}, {}, None)  # type: ignore[arg-type]
            await doors.listen(Registry)  # type: ignore[arg-type]
        assert doors._copies == copies
        doors.close()


async def no_serving(doors: Doors, actor: object) -> None:
    """Stands in for Doors._serve."""
