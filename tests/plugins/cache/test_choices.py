"""Answers of one URL that do not all name the same lines in Vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Response, Routed
from tests.plugins.script import Stage, lines

FRESH = "cache-control: max-age=60"


async def got(stage: Stage, sid: int, headers: str, vary: str, body: bytes) -> tuple[str, bytes]:
    """What a client gets; the backend answers `body` if it is asked."""
    out = await stage.run(stage.request("/a", headers, sid=sid))
    [found] = [one for one in out if isinstance(one, Routed | Response)]
    if isinstance(found, Routed):
        out = await stage.run(stage.response(f"{FRESH}\nvary: {vary}", body, sid=sid))
        [found] = [one for one in out if isinstance(one, Response)]
    for parts in stage.actor._caches.all():
        await parts.store.drop(b"nothing", 1)
    assert isinstance(found, Response)
    return next(line.partition(": ")[2] for line in lines(found.headers) if line.startswith("x-cache-status: ")), found.body


@pytest.mark.interpreted
async def test_several_sets_of_names_are_known_and_written_once_each(tmp_path: Path, monkeypatch: Any) -> None:
    """A page for guests varies by language, one for who is logged in by the cookie, too."""
    async with Stage({"c": {"category": "cache", "directory": str(tmp_path / "store")}}) as stage:
        wishes = [
            ("accept-language: en", "accept-language", b"guest, en"),
            ("accept-language: de\ncookie: id=1", "accept-language, cookie", b"one, de"),
            ("accept-language: fr", "accept-language", b"guest, fr"),
            ("accept-language: it\ncookie: id=2", "accept-language, cookie", b"two, it"),
        ]
        assert [await got(stage, 100, *wish) for wish in wishes[:1]] == [("miss", b"guest, en")]
        store, written = stage.actor._caches.all()[0].store, []
        put = store.put

        def counted(key: bytes, entry: Any, body: Any, mark: int) -> Any:
            written.append(bool(entry.vary and not entry.status))
            return put(key, entry, body, mark)

        monkeypatch.setattr(type(store), "put", lambda self, *what: counted(*what))
        first = [await got(stage, 200 + number, *wish) for number, wish in enumerate(wishes)]
        again = [await got(stage, 300 + number, *wish) for number, wish in enumerate(wishes)]
        assert [status for status, _ in first] == ["hit", "miss", "miss", "miss"]
        assert again == [("hit", body) for _, _, body in wishes]
        assert written.count(True) == 1, "the second set of names; what is known need not be written"
