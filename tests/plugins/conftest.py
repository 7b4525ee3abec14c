"""Fixtures of the plugins' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def fresh(redis: RedisServer) -> RedisServer:
    """Well, and empty."""
    with redis.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return redis
