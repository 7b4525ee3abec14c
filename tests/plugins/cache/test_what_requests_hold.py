"""What a request that no client waits for holds (a place of `limit`, a call at its end) is given back when it ends, as a client's is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Cancel, Done, Response, Routed
from tests.kit.waiting import eventually
from tests.plugins.cache.site import FRESH, Site, status_of
from tests.plugins.cache.test_beside_others import BEHIND, mine
from tests.plugins.script import ACCEPT, CONFIG, PLUGINS, ROUTING, UPSTREAM, data

ONE = {"category": "limit", "type": "inflight", "tag": "ip", "max": 1, "step": "proxy_upstream"}


async def refreshed(site: Site) -> Routed:
    """The request behind the back of a client that gets what is stale."""
    sid = site.next()
    out = await site.stage.run(site.stage.request("/a", sid=sid))
    assert [status_of(one) for one in out if isinstance(one, Response)] == ["stale-updating"]
    site.stage.give(Done(sid))
    [behind] = [one for one in out if isinstance(one, Routed)]
    return behind


async def has_a_place(site: Site) -> bool:
    """A client's request is let pass by the limit."""
    asked = await site.ask("/other", method=b"POST")
    site.stage.give(Cancel(asked.sid, "client_closed"))
    await site.stage.run()
    return isinstance(asked, Routed)


@pytest.mark.parametrize(
    "how",
    [
        {"headers": BEHIND, "status": 304},
        {"headers": BEHIND, "body": b"new"},
        {"headers": "cache-control: no-store", "body": b"new"},
        {"headers": "", "status": 503},
        {"headers": "", "status": 502, "error": "connect_failed"},
        {"headers": BEHIND, "body": b"be", "ended": False},
        {},
    ],
    ids=["unchanged", "new", "not_to_be_stored", "failed", "no_backend", "in_pieces", "upstream_died"],
)
async def test_a_refresh_gives_its_place_back_however_it_ends(tmp_path: Path, how: dict[str, Any]) -> None:
    async with Site(tmp_path, more={"one": ONE}) as site:
        site.stage.give(Done((await site.stored(headers=BEHIND, body=b"old")).sid))
        behind = await refreshed(site)
        assert not await has_a_place(site), "the limit does not count it"
        if how:
            assert await site.origin(behind, **how) == []
        else:
            site.stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
            site.stage.members(ACCEPT, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        if how.get("ended") is False:
            await site.stage.run(data(b"gun", True, sid=behind.sid))
            await eventually(lambda: not site.stage.actor.held())
        await site.settle()
        assert await has_a_place(site)


async def test_a_plugin_hears_of_the_end_of_a_refresh(tmp_path: Path) -> None:
    code = """
    def start(self, host): self.host = host
    def proxy_upstream(self, exchange): self.host.when_done(exchange, lambda: self.host.count("ended"))
    """
    async with Site(tmp_path, more=mine(tmp_path, code)) as site:
        site.stage.give(Done((await site.stored(headers=BEHIND, body=b"old")).sid))
        behind = await refreshed(site)
        assert site.stage.context.counted["ended"] == 1
        await site.origin(behind, BEHIND, status=304)
        assert site.stage.context.counted["ended"] == 2


async def test_a_place_that_is_taken_when_the_client_has_left_is_given_back(tmp_path: Path) -> None:
    code = """
    def start(self, host): self.host = host
    def upstream_response(self, exchange):
        self.host.count("got" if self.host.claim(exchange, "k", ("inflight", 1)).allowed else "refused")
    """
    async with Site(tmp_path, more=mine(tmp_path, code)) as site:
        for target in ("/a", "/b"):
            asked = await site.ask(target)
            site.stage.give(Cancel(asked.sid, "client_closed"))
            assert await site.origin(asked, FRESH, b"one") == []
            await site.settle()
        assert (site.stage.context.counted["got"], site.stage.context.counted.get("refused", 0)) == (2, 0)
