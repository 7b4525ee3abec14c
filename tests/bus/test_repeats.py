"""Log lines that anybody can cause: told up to a number a second, the rest counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pingap.bus import repeats as module
from pingap.bus.repeats import MOST, Repeats
from tests.kit.context import FakeContext

ROOT = Path(__file__).resolve().parents[2]


class Play:
    def __init__(self) -> None:
        self.context = FakeContext()
        self.repeats = Repeats(self.context)

    def says(self, key: str, number: int) -> None:
        self.repeats.log("warn", "it failed", key, upstream=key, number=number)

    def second(self) -> None:
        """A second is over, for all kinds that are known."""
        for name in list(self.repeats._kinds):
            self.repeats._second_over(name)

    def told(self) -> list[tuple[str, int, int]]:
        """upstream, number, how many more."""
        told = [(fields["upstream"], fields["number"], fields.get("more_like_it", 0)) for _, _, fields in self.context.logged]
        self.context.logged.clear()
        return told


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(module, "SECOND", 1e6)
    return Play()


async def test_so_many_are_told_at_once_and_of_the_rest_the_last_with_their_number(play: Play) -> None:
    for number in range(MOST + 241):
        play.says("a", number)
    assert play.told() == [("a", number, 0) for number in range(MOST)]
    play.second()
    assert play.told() == [("a", MOST + 240, 240)]


async def test_a_flood_that_goes_on_gets_as_many_lines_in_every_second(play: Play) -> None:
    for _ in range(3):
        for number in range(100):
            play.says("a", number)
        assert len(play.told()) <= MOST
        play.second()
        assert play.told()[0][1] == 99


async def test_what_was_held_back_alone_is_told_as_it_is(play: Play) -> None:
    for number in range(MOST + 1):
        play.says("a", number)
    play.told()
    play.second()
    assert play.told() == [("a", MOST, 0)]


async def test_kinds_do_not_share_and_quiet_ones_are_forgotten(play: Play) -> None:
    for key in "ab":
        for number in range(MOST + 2):
            play.says(key, number)
    assert len(play.told()) == 2 * MOST
    play.second()
    assert sorted(play.told()) == [("a", MOST + 1, 1), ("b", MOST + 1, 1)]
    play.second()
    assert (play.told(), play.repeats._kinds) == ([], {})


async def test_the_second_is_measured_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND", 0.01)
    play = Play()
    for number in range(MOST + 2):
        play.says("a", number)
    import asyncio

    async with asyncio.timeout(5):
        while len(play.context.logged) <= MOST:
            await asyncio.sleep(0.001)
    assert play.told()[-1] == ("a", MOST + 1, 1)


def test_on_the_way_of_requests_every_warning_goes_through_it() -> None:
    """Whoever adds one there says why it is not one a request."""
    not_per_request = {
        ("accept/entry.py", "what"),  # once a minute by itself, for each server
        ("accept/actor.py", "message"),  # once in the life of a process
        # once a minute by themselves
        ("accept/connections.py", '"no more connections are accepted until others end: too few file descriptors (ulimit -n)"'),
        ("upstream/troubles.py", '"requests are refused until connections end: too few file descriptors (ulimit -n)"'),
        # once for each time that a store is opened
        (
            "plugins/cache/store/cache_store.py",
            'f"the cache {self._root.path} begins anew, empty: its index is no good any more ({problem})"',
        ),
        ("plugins/cache/store/cache_store.py", 'f"the cache {self._root.path} cannot be opened, nothing is stored: {opening.problem}"'),
        (
            "plugins/cache/store/cache_store.py",
            'f"the cache {self._root.path} is not open yet, another process has it locked: nothing is stored until then"',
        ),
        ("plugins/cache/store/store_root.py", 'f"the cache {self.path} begins empty: {problem}"'),
        ("plugins/compiler.py", '"a plugin failed to stop"'),  # once a generation
    }
    found = set()
    for stage in ("accept", "routing", "plugins", "upstream"):
        for path in sorted((ROOT / "stages" / stage).rglob("*.py")):
            for text in re.findall(r"(?:context\.|_)log\(\s*\"(?:warn|error)\",\s*(f?\"[^\"]*\"|[\w.]+)", path.read_text()):
                found.add((str(path.relative_to(ROOT / "stages")), text))
    assert found <= not_per_request, found - not_per_request
