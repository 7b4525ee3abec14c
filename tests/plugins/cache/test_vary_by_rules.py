"""Answers that vary by lines which the client has not written: the location's header rules, or a plugin on the way to the backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Routed
from tests.plugins.cache.site import FRESH, Site, status_of
from tests.plugins.script import PEER, snapshot

RULES: list[tuple[dict[str, Any], str]] = [
    ({"proxy_set_headers": (("X-Who", "$remote_addr"),)}, "X-Who"),
    ({"proxy_add_headers": (("X-Who", "$remote_addr"),)}, "X-Who"),
    ({"proxy_set_headers": (("X-Who", "a-:who"),), "proxy_add_headers": (("X-Peer", "<$remote_addr>"),)}, "accept-language, X-Peer"),
    ({"enable_reverse_proxy_headers": True}, "X-Forwarded-For"),
    ({"enable_reverse_proxy_headers": True}, "X-Real-IP"),
]


def ruled(site: Site, rules: dict[str, Any]) -> None:
    made = snapshot(site.plugins)
    site.stage.take(replace(made, locations={"l": replace(made.locations["l"], **rules)}))


@pytest.mark.parametrize(("rules", "vary"), RULES)
async def test_vary_by_a_line_that_the_location_writes_is_followed(tmp_path: Path, rules: dict[str, Any], vary: str) -> None:
    async with Site(tmp_path) as site:
        ruled(site, rules)
        alice: dict[str, Any] = {"peer": PEER._replace(ip="192.0.2.7"), "client_ip": "192.0.2.7"}
        bob: dict[str, Any] = {"peer": PEER._replace(ip="192.0.2.8"), "client_ip": "192.0.2.8"}
        said, claims = f"{FRESH}\nvary: {vary}", "x-who: 192.0.2.7\nx-forwarded-for: 192.0.2.7"
        await site.answer(await site.ask(**alice), said, b"alice")
        await site.settle()
        theirs = await site.ask(headers=claims, **bob)
        assert isinstance(theirs, Routed), "who writes the line by himself gets another's answer"
        await site.answer(theirs, said, b"bob")
        await site.settle()
        for who, headers, body in ((alice, "", b"alice"), (bob, claims, b"bob")):
            hit = await site.ask(headers=headers, **who)
            assert (status_of(hit), hit.body) == ("hit", body)


async def test_lines_that_are_the_same_for_all_make_no_variants(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        ruled(site, {"proxy_set_headers": (("Accept-Language", "de"),), "enable_reverse_proxy_headers": True})
        said = f"{FRESH}\nvary: accept-language, x-forwarded-proto"
        await site.answer(await site.ask(headers="accept-language: en"), said)
        await site.settle()
        assert status_of(await site.ask(headers="accept-language: fr\nx-forwarded-proto: https")) == "hit"


async def test_vary_by_a_line_that_a_plugin_writes_on_the_way_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "who.py"
    path.write_text(
        "from pingap.plugin import Plugin\n"
        "class Who(Plugin):\n"
        "    def proxy_upstream(self, exchange):\n        exchange.headers['x-who'] = exchange.client_ip\n"
    )
    async with Site(tmp_path, more={"who": {"category": "python", "path": str(path)}}) as site:
        for said, then in ((f"{FRESH}\nvary: x-who", ""), (f"{FRESH}\nvary: x-other, range", "hit")):
            target = f"/{then}"
            await site.answer(await site.ask(target, "range: bytes=0-0"), said)
            await site.settle()
            again = await site.ask(target, "range: bytes=0-0")
            assert isinstance(again, Routed) == (not then), said
            if isinstance(again, Routed):
                await site.answer(again, said)
