"""A stage with a cache on a real store: its clients, and its origin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

from pingap.stages.messages import Data, Response, Routed
from tests.plugins.script import SID, Stage, credit, lines

FRESH = "cache-control: max-age=60"


class Site:
    """A stage with a cache, and a client's and an origin's way to speak to it."""

    def __init__(self, root: Path, more: dict[str, Any] | None = None, before: dict[str, Any] | None = None, **settings: Any) -> None:
        """settings: of the cache. before, more: other plugins, in front of it and behind."""
        section = {"category": "cache", "directory": str(root / "store"), **settings}
        self.plugins = {**(before or {}), "c": section, **(more or {})}
        self.stage = Stage(self.plugins)
        self._sid = SID
        self._left: list[Any] = []
        """What came together with what `ask` or `got` returned, or for others than the one that `whole` has read."""

    async def __aenter__(self) -> Self:
        await self.stage.__aenter__()
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.settle()
        held = self.stage.actor.held()
        flights = len(self.stage.actor._flights)
        await self.stage.__aexit__(*why)
        if why[0] is None:
            assert held == 0, "a stream or a fill is left"
            assert flights == 0, "a lease is left"

    @property
    def store(self) -> Any:
        return self.stage.actor._caches.all()[0].store

    async def settle(self) -> None:
        """All that was to be stored is, or is not."""
        for parts in list(self.stage.actor._caches.all()):
            await parts.store.drop(b"nothing", 1)
        await asyncio.sleep(0)

    def next(self) -> int:
        self._sid += 1
        return self._sid

    async def ask(self, target: str = "/a", headers: str = "", **more: Any) -> Any:
        """What a request leads to: a Routed for upstream, a Response for the client, or None while it waits."""
        sid = more.pop("sid", 0) or self.next()
        came = await self.stage.run(self.stage.request(target, headers, sid=sid, **more))
        out = [one for one in came if isinstance(one, Routed | Response)]
        assert len(out) <= 1, out
        self._left += [one for one in came if isinstance(one, Data)]
        return out[0] if out else None

    async def got(self, target: str = "/a", headers: str = "", **more: Any) -> Any:
        """As `ask`, of what a disk may have to be waited for."""
        found = await self.ask(target, headers, **more)
        async with asyncio.timeout(20):
            while found is None:
                await asyncio.sleep(0.001)
                out = self.stage.out()
                found = next((one for one in out if isinstance(one, Routed | Response)), None)
                self._left += [one for one in out if isinstance(one, Response | Data) and one is not found]
        return found

    async def origin(self, asked: Routed, headers: str = FRESH, body: bytes = b"", **more: Any) -> list[Any]:
        """What the answer of upstream leads to."""
        assert isinstance(asked, Routed)
        return await self.stage.run(self.stage.response(headers, body, sid=asked.sid, **more))

    async def stored(self, target: str = "/a", headers: str = FRESH, body: bytes = b"one", asked: str = "", **more: Any) -> Response:
        """Asks for it, answers for the origin, waits until it is stored; what the client got."""
        answer = await self.answer(await self.ask(target, asked), headers, body, **more)
        await self.settle()
        return answer

    async def answer(self, asked: Any, headers: str = FRESH, body: bytes = b"one", **more: Any) -> Response:
        out = await self.origin(asked, headers, body, **more)
        async with asyncio.timeout(20):
            while not (found := [one for one in out if isinstance(one, Response)]):
                await asyncio.sleep(0.001)
                out = self.stage.out()
        [answer] = found
        return answer

    async def whole(self, sid: int, first: list[Any] | None = None) -> tuple[bytes, Any]:
        """The body that a client gets, which gives credit for what it reads; and the last of it."""
        out, body = [*(first or []), *self._left], b""
        self._left = [one for one in self._left if one.sid != sid]
        async with asyncio.timeout(20):
            while True:
                for at, one in enumerate(out):
                    if isinstance(one, Response | Data) and one.sid != sid:
                        self._left.append(one)
                    elif isinstance(one, Response | Data):
                        piece = one.payload if isinstance(one, Data) else one.body
                        body += piece
                        if one.ended or (isinstance(one, Data) and one.error):
                            self._left += out[at + 1 :]
                            return body, one
                        if isinstance(one, Response) and one.file is not None:
                            self.stage.give(credit(256 * 1024, sid=sid))  # as accept does that wants the bytes
                        if piece:
                            self.stage.give(credit(len(piece), sid=sid))
                await asyncio.sleep(0.001)
                out = self.stage.out()
                self._left += [one for one in out if isinstance(one, Response | Data) and one.sid != sid]  # of others who read


def status_of(answer: Any) -> str:
    assert isinstance(answer, Response), answer
    found = [line.partition(": ")[2] for line in lines(answer.headers) if line.startswith("x-cache-status: ")]
    return found[0] if found else ""


def line(envelope: Any, name: str) -> list[str]:
    return [one.partition(": ")[2] for one in lines(envelope.headers) if one.startswith(name + ": ")]
