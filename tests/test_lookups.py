"""Lookups of host names: who waits for whom, and for how long. The resolver is the test's."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pingap.stages.lookups import Address, Lookups, NoSlot, literal


class Resolver:
    """Answers a name when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.answers: dict[str, list[Address] | Exception] = {}
        self._said = threading.Condition()
        self.is_over = False

    def __call__(self, host: str, family: int) -> list[Address]:
        with self._said:
            self.asked.append((host, family))
            self._said.wait_for(lambda: self.is_over or host in self.answers, 20)
            answer = self.answers.get(host, OSError("over"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def says(self, host: str, *answer: str, failure: Exception | None = None) -> None:
        with self._said:
            self.answers[host] = failure or [Address(socket.AF_INET, (ip, 0)) for ip in answer]
            self._said.notify_all()

    def ends(self) -> None:
        with self._said:
            self.is_over = True
            self._said.notify_all()


@asynccontextmanager
async def asking(most: int = 64) -> AsyncIterator[tuple[Resolver, Lookups]]:
    resolver = Resolver()
    try:
        yield resolver, Lookups(asyncio.get_running_loop(), resolver, most)
    finally:
        resolver.ends()
        while any(thread.name.startswith("lookup ") for thread in threading.enumerate()):
            await asyncio.sleep(0.001)


def hosts(found: list[Address]) -> list[str]:
    return [address.host for address in found]


async def test_an_address_is_never_looked_up() -> None:
    async with asking(most=0) as (resolver, lookups):
        assert await lookups.find("10.0.0.1", 80, False, 0) == [(socket.AF_INET, ("10.0.0.1", 80))]
        assert await lookups.find("::1", 80, False, 0) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
        with pytest.raises(OSError, match="not IPv4"):
            await lookups.find("::1", 80, True, 0)
        assert not resolver.asked
    assert literal("localhost", 1) is None
    assert literal("x" * 70, 1) is None


async def test_all_who_ask_for_a_name_wait_for_one_lookup_and_the_next_ask_anew() -> None:
    async with asking() as (resolver, lookups):
        waiting = [asyncio.create_task(lookups.find("a.example", port, False, 5)) for port in (80, 81, 81)]
        waiting[1].cancel()
        other = asyncio.create_task(lookups.find("a.example", 80, True, 5))
        await asyncio.sleep(0)
        waiting[2].cancel()
        resolver.says("a.example", "10.0.0.1", "10.0.0.2")
        assert await waiting[0] == [(socket.AF_INET, ("10.0.0.1", 80)), (socket.AF_INET, ("10.0.0.2", 80))]
        assert await other
        assert sorted(resolver.asked) == [("a.example", socket.AF_UNSPEC), ("a.example", socket.AF_INET)]
        resolver.says("a.example", "10.0.0.3")
        assert hosts(await lookups.find("a.example", 80, False, 5)) == ["10.0.0.3"]


@pytest.mark.parametrize("failure", [socket.gaierror(socket.EAI_NONAME, "unknown"), UnicodeError("label too long"), TimeoutError("theirs")])
async def test_a_failure_is_everybodys(failure: Exception) -> None:
    async with asking() as (resolver, lookups):
        waiting = [asyncio.create_task(lookups.find("a.example", 80, False, 5)) for _ in range(3)]
        resolver.says("a.example", failure=failure)
        assert await asyncio.gather(*waiting, return_exceptions=True) == [failure] * 3
        resolver.says("a.example")
        with pytest.raises(OSError, match="no address"):
            await lookups.find("a.example", 80, False, 5)


async def test_a_lookup_without_an_answer_ends_in_time_stays_the_only_one_of_its_name_and_disturbs_no_other() -> None:
    async with asking(most=2) as (resolver, lookups):
        for _ in range(5):
            with pytest.raises(TimeoutError, match=r"no answer to the lookup of dead\.example"):
                await lookups.find("dead.example", 80, False, 0.01)
        resolver.says("a.example", "10.0.0.1")
        assert hosts(await lookups.find("a.example", 80, False, 5)) == ["10.0.0.1"]
        assert [host for host, _ in resolver.asked] == ["dead.example", "a.example"]
        late = asyncio.create_task(lookups.find("dead.example", 80, False, 5))
        await asyncio.sleep(0)
        resolver.says("dead.example", "10.0.0.9")
        assert hosts(await late) == ["10.0.0.9"], "the old one has come to an end after all"


async def test_without_a_thread_nothing_is_said_of_a_name() -> None:
    async with asking(most=1) as (resolver, lookups):
        with pytest.raises(TimeoutError):
            await lookups.find("dead.example", 80, False, 0.01)
        with pytest.raises(NoSlot):
            await lookups.find("a.example", 80, False, 0.01)
        resolver.says("b.example", "10.0.0.2")
        waits = asyncio.create_task(lookups.find("b.example", 80, False, 5))
        await asyncio.sleep(0)
        resolver.says("dead.example", "10.0.0.1")
        assert hosts(await waits) == ["10.0.0.2"]
        assert [host for host, _ in resolver.asked] == ["dead.example", "b.example"], "nobody waited for a.example any more"


async def test_a_thread_that_came_late_is_none() -> None:
    async with asking(most=1) as (resolver, lookups):
        with pytest.raises(TimeoutError):
            await lookups.find("dead.example", 80, False, 0.01)
        waits = asyncio.create_task(lookups.find("a.example", 80, False, 0.5))
        await asyncio.sleep(0.3)
        resolver.says("dead.example", "10.0.0.1")
        with pytest.raises(NoSlot):
            await waits


async def test_the_zone_of_an_address_is_kept() -> None:
    assert Address(socket.AF_INET6, ("fe80::1", 80, 0, 2)).host == "fe80::1%2"
