"""Places in flight that a store counts, and how long who asks it waits: the parts of `limit` by themselves, beside a real redis-server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pingap.plugin import INFLIGHT, RATE
from pingap.stages.plugins.builtin.limits.leases import StoreLeases
from pingap.stages.plugins.builtin.limits.scripts import LEASE, question, verdict_of
from pingap.stages.plugins.builtin.limits.store import LimitStore, StoreAway
from pingap.stages.plugins.builtin.limits.store_url import parse_store_url
from tests.kit.redis_server import RedisServer
from tests.kit.waiting import eventually

pytestmark = pytest.mark.processes

MOST = 3
ARGS = (INFLIGHT, MOST)


class OneHost:
    """What a store wants of a `Host`."""

    name = "p"

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.counted: Counter[str] = Counter()

    def log(self, *_: Any, **__: Any) -> None:
        pass

    def count(self, name: str, *, kind: str, **_: Any) -> None:
        self.counted[kind] += 1

    async def in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)


class Places:
    """A store, and the places of one host in it."""

    def __init__(self, url: str, timeout: float, every: float) -> None:
        self.host = OneHost()
        address = parse_store_url(url)
        assert address is not None
        self.store = LimitStore(address, timeout, self.host)  # type: ignore[arg-type]
        self.leases = StoreLeases(self.store, every)

    async def take(self) -> str:
        """The id of a place, "" when there is none. As the plugin does."""
        lease = self.leases.new()
        script, args = question(ARGS, lease)
        try:
            verdict = verdict_of(ARGS, await self.store.ask(script, "k", args))
        except BaseException:
            self.leases.end("k", lease)
            raise
        self.leases.settle("k", lease, verdict.allowed)
        return lease if verdict.allowed else ""


@pytest.fixture
async def places(fresh: RedisServer) -> AsyncIterator[Places]:
    made = Places(fresh.url, timeout=1.0, every=0.02)
    await made.store.start()
    yield made
    made.leases.stop()
    await made.store.stop()


async def test_many_that_are_refused_keep_nobody_out(fresh: RedisServer, places: Places) -> None:
    """20 that ask again and again, and places that are renewed all the while."""
    passed, flying, worst, stored = 0, 0, 0, 0

    async def client() -> None:
        nonlocal flying, passed, worst
        while passed < 60:
            if lease := await places.take():
                flying += 1
                worst = max(worst, flying)
                await asyncio.sleep(0.005)
                flying -= 1
                places.leases.end("k", lease)
                passed += 1

    async def watch(redis: Any) -> None:
        nonlocal stored
        while passed < 60:
            stored = max(stored, redis.zcard("k"))
            await asyncio.sleep(0.01)

    with fresh.client() as redis:
        async with asyncio.timeout(20):  # they go on passing
            await asyncio.gather(watch(redis), *(client() for _ in range(20)))
        assert worst <= MOST and 0 < stored <= MOST
        await eventually(lambda: places.store._sender is None)
        assert (redis.zcard("k"), len(places.leases)) == (0, 0)


async def test_a_request_that_ended_before_its_answer_leaves_no_place(fresh: RedisServer, places: Places) -> None:
    lease = places.leases.new()
    script, args = question(ARGS, lease)
    asking = asyncio.ensure_future(places.store.ask(script, "k", args))
    await asyncio.sleep(0)
    places.leases.end("k", lease)
    assert verdict_of(ARGS, await asking).allowed
    places.leases.settle("k", lease, True)
    await eventually(lambda: places.store._sender is None)
    with fresh.client() as redis:
        assert (redis.zcard("k"), len(places.leases)) == (0, 0)


async def test_a_place_that_came_too_late_is_given_back_when_the_store_is_back(fresh: RedisServer) -> None:
    places = Places(fresh.url, timeout=0.1, every=9.0)
    await places.store.start()
    held = await places.take()
    fresh.signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreAway):
            await places.take()
        places.leases.end("k", held)  # while it is away
    finally:
        fresh.signal(signal.SIGCONT)
    await eventually(lambda: not places.store.is_away and places.store._sender is None)
    with fresh.client() as redis:
        assert redis.zcard("k") == 0
    await places.store.stop()


async def test_a_store_that_forgot_learns_again_who_is_in_flight(fresh: RedisServer, places: Places) -> None:
    leases = [await places.take() for _ in range(MOST)]
    with fresh.client() as redis:
        redis.flushall()
        await eventually(lambda: redis.zcard("k") == MOST)
    assert await places.take() == ""
    places.leases.end("k", leases[0])
    assert await places.take()


async def test_what_was_told_is_kept_no_longer_than_it_is_of_use(fresh: RedisServer, places: Places) -> None:
    places.store._prober = asyncio.ensure_future(asyncio.sleep(9))
    lease = places.leases.new()
    places.leases.end("k", lease)
    [kept] = places.store._kept
    assert LEASE - 1 < kept.until - places.host.loop.time() <= LEASE
    places.store.tell(kept.script, "k", ("x",))
    assert len(places.store._kept) == 1


async def test_nobody_waits_longer_than_the_timeout_of_a_store_that_is_slow(fresh: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(fresh.url, timeout=0.5, every=9.0)
    await places.store.start()
    run = LimitStore._run

    async def slowly(connection: Any, commands: Any) -> list[Any]:
        await asyncio.sleep(0.2)
        return await run(connection, commands)

    monkeypatch.setattr(places.store, "_run", slowly)
    args = (RATE, 1e6, 1.0, 0.5)
    waited: list[float] = []
    answered = 0

    async def ask() -> None:
        nonlocal answered
        began = time.monotonic()
        try:
            await places.store.ask(*_asked(args))
            answered += 1
        except StoreAway:
            pass
        waited.append(time.monotonic() - began)

    await asyncio.gather(*(ask() for _ in range(1500)))
    assert max(waited) < 0.9, "not for one deadline after the other"
    assert answered >= 256 and not places.store.is_away, "it answers, if not all"
    assert places.host.counted["late"] >= 1
    await places.store.stop()


def _asked(args: tuple[Any, ...]) -> tuple[Any, str, tuple[Any, ...]]:
    script, more = question(args)
    return script, "w", more
