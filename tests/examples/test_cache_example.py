"""examples/cache does what its README says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.client import Response
from tests.e2e.harness import Pingap
from tests.e2e.origins import Exchange, Origin

CONFIG = Path(__file__).parents[2] / "examples/cache/pingap.toml"


def _echo(exchange: Exchange) -> None:
    exchange.reply(exchange.path.encode())


@pytest.mark.processes
def test_files_are_kept_and_purged_and_misses_alone_are_limited() -> None:
    origin = Origin(_echo)
    text = (
        CONFIG.read_text().replace("127.0.0.1:6188", "127.0.0.1:{port}").replace("5001", str(origin.port)).replace("5002", str(origin.port))
    )
    try:
        with Pingap(text, "colocated") as proxy, proxy.client() as client:

            def status(answer: Response) -> str | None:
                return dict(answer.headers).get("x-cache-status")

            assert [status(client.get(target)) for target in ("/files/a", "/files/a", "/files/a?utm_source=mail")] == ["miss", "hit", "hit"]
            assert status(client.get("/page")) == "uncacheable"
            assert client.get("/files/a", method="PURGE").status == 204
            assert status(client.get("/files/a")) == "miss"
            assert client.get("/files/*", method="PURGE").body == b"purged: 1, fail: 0"
            found = [client.get("/page").status for _ in range(60)]
            assert found.count(429) >= 5, "they go to the backend"
            assert client.get("/files/b").status == 200
    finally:
        origin.stop()
