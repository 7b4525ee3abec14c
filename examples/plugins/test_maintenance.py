"""Tests of maintenance.py: `pingap plugin test examples/plugins/maintenance.py`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin import Overloaded
from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio

PASSWORD = "let me through, please"


def stage(file: Path | str, **keys: Any) -> PluginStage:
    path = str(Path(__file__).with_name("maintenance.py"))
    section = {"category": "python", "path": path, "file": str(file), "look_every": "10ms", "password": PASSWORD}
    return PluginStage({"maintenance": section | keys})


async def until(status: int, proxy: PluginStage) -> None:
    async with asyncio.timeout(10):
        while (await proxy.get("/")).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_file_switches_it_on_and_off(tmp_path: Path) -> None:
    file = tmp_path / "maintenance"
    async with stage(file) as proxy:
        assert (await proxy.get("/")).status == 200
        file.touch()
        await until(503, proxy)
        file.unlink()
        await until(200, proxy)
        assert [line.message for line in proxy.logs] == ["maintenance is on", "maintenance is over"]


async def test_the_page_says_when_to_come_again(tmp_path: Path) -> None:
    (tmp_path / "on").touch()
    async with stage(tmp_path / "on", page="<p>soon", retry_after="2m") as proxy:
        answer = await proxy.get("/")
        assert (answer.status, answer.text, answer.headers["retry-after"]) == (503, "<p>soon", "120")
        assert answer.headers["cache-control"] == "no-store"
        assert proxy.backend.requests == []


async def test_who_knows_the_password_comes_through(tmp_path: Path) -> None:
    (tmp_path / "on").touch()
    async with stage(tmp_path / "on", header="x-word") as proxy:
        assert (await proxy.get("/", headers={"x-word": PASSWORD})).status == 200
        assert "x-word" not in proxy.backend.requests[0].headers
        assert (await proxy.get("/", headers={"x-word": "wrong"})).status == 503
    async with stage(tmp_path / "on", password="") as proxy:
        assert (await proxy.get("/", headers={"x-maintenance-password": ""})).status == 503


async def test_a_password_may_have_any_letters(tmp_path: Path) -> None:
    (tmp_path / "on").touch()
    async with stage(tmp_path / "on", password="Straße, Öl und Äpfel") as proxy:
        assert (await proxy.get("/", headers=[("x-maintenance-password", "Straße, Öl und Äpfel".encode().decode("latin-1"))])).status == 200
        assert (await proxy.get("/", headers=[("x-maintenance-password", "\xff")])).status == 503


async def test_a_look_for_which_there_was_no_thread_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path / "on") as proxy:
        real = os.path.exists

        def exists(path: str) -> bool:
            if str(path) == str(tmp_path / "on"):
                raise Overloaded("the threads are busy")
            return real(path)

        with monkeypatch.context() as patch:
            patch.setattr(os.path, "exists", exists)
            async with asyncio.timeout(10):
                while not proxy.logs:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert proxy.logs[0].message == "the file of the maintenance could not be looked for"
        (tmp_path / "on").touch()
        await until(503, proxy)


@pytest.mark.parametrize("keys", [{"file": "relative"}, {"password": "short"}, {"look_every": "1ms"}])
async def test_what_makes_no_sense_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(PluginRefused, match=next(iter(keys))):
        async with stage(**{"file": "/x", **keys}):
            pass
