"""What the cache has in memory outlives stages, reloads and upgrades, and ends with the instance, however that ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pingap.stages.plugins.cache.store.memory_place import memory_place
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until


def answer(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(os.urandom(8).hex().encode(), headers="Cache-Control: max-age=600\r\n")


def config(origin: Origin, more: str = "") -> str:
    return site([origin.port], location='plugins = ["pages"]', more=f'[plugins.pages]\ncategory = "cache"\ndirectory = "memory://"\n{more}')


def test_memory_is_kept_for_as_long_as_the_instance(placement: str) -> None:
    origin = Origin(answer)
    try:
        with Pingap(config(origin), placement) as proxy:
            place = Path(memory_place(str(proxy.run_dir)))
            first = proxy.get("/page").body
            until(lambda: proxy.get("/page").get("x-cache-status") == "hit", 5, "it is stored")
            assert place.is_dir() and place.stat().st_mode & 0o777 == 0o700

            stage = "plugins" if placement == "split" else "accept"
            old = proxy.pid(stage)
            os.kill(old, signal.SIGKILL)
            proxy.wait_restarted(stage, old)
            assert until(lambda: proxy.get("/page"), 5, "it answers").body == first

            proxy.write_config(config(origin, "max_ttl = '1h'\n"))
            assert proxy.command("reload").returncode == 0
            assert proxy.get("/page").body == first

            done = proxy.command("upgrade")
            assert done.returncode == 0, done.stderr
            assert proxy.get("/page").body == first
            assert len(origin.requests) == 1

            proxy.kill_all()
            assert place.is_dir()
            proxy.output_file.unlink()
            proxy.start()
            assert proxy.get("/page").body != first
            assert proxy.stop() == 0
            assert not place.exists()
            proxy.output_file.unlink()
            proxy.start()
        assert not place.exists()
    finally:
        origin.stop()
