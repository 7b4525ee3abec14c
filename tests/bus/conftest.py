"""Links on real sockets, closed again whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap.bus.link import Curve, Link
from tests.kit.waiting import eventually


class Net:
    """The run dir of a test, and the links in it."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.links: list[Link] = []
        self.failures: list[dict[str, Any]] = []
        """What was given to the loop's exception handler: a test that expects some takes them out."""

    def link(self, curve: Curve | None = None) -> Link:
        link = Link(asyncio.get_running_loop(), curve)
        self.links.append(link)
        return link

    def at(self, name: str) -> str:
        return f"ipc://{self.run_dir}/{name}"

    def close(self, link: Link) -> None:
        self.links.remove(link)
        link.close()

    async def until(self, is_so: Callable[[], object], seconds: float = 5) -> None:
        await eventually(is_so, seconds, 0.001, lambda: self.failures)


@pytest.fixture
def run_dir() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bus") as path:  # pytest's own are too long for the path of a socket
        yield str(Path(path))


@pytest.fixture
async def net(run_dir: str) -> AsyncIterator[Net]:
    net = Net(run_dir)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: net.failures.append(context))
    yield net
    for link in net.links:
        link.close()
    assert net.failures == []
