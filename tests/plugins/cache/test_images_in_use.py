"""`image_optim` and a cache in one location: an image is converted once for all who take the same types, and validated as what it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("PIL")

from pingap.plugin_testing import BackendRequest, PluginStage, StageAnswer
from pingap.stages.plugins.exchange import Reply, reply
from tests.kit.images import file, photo

JPEG = file(photo(), "JPEG", quality=97)
CHROME = {"accept": "image/avif;q=0,image/webp,image/apng,*/*;q=0.8"}
FIREFOX = {"accept": "image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"}
OLD = {"accept": "image/png,image/*;q=0.8"}


def sections(order: str, **keys: Any) -> dict[str, dict[str, Any]]:
    every = {"c": {"category": "cache", **keys}, "images": {"category": "image_optim", "output_types": "webp", "wait": "30s"}}
    return {name: every[name] for name in order.split()}


def origin(request: BackendRequest) -> Reply:
    """Has one picture, and knows when a client has it."""
    lines = [("cache-control", "max-age=60"), ("etag", '"abc"')]
    if '"abc"' in (request.headers.get("if-none-match") or ""):
        return reply(304, b"", lines)
    return reply(200, JPEG, [*lines, ("content-type", "image/jpeg")])


def told(answer: StageAnswer) -> tuple[int, str | None, str | None, str | None]:
    return answer.status, answer.headers.get("content-type"), answer.headers.get("x-cache-status"), answer.headers.get("vary")


@pytest.mark.processes
@pytest.mark.parametrize("order", ["c images", "images c"])
async def test_an_image_is_converted_once_for_all_who_take_the_same_types(order: str) -> None:
    async with PluginStage(sections(order)) as stage:
        backend = stage.backends["backend"]
        backend.answers_with(origin)
        first = await stage.get("/i.jpg", headers=CHROME, timeout=60)
        assert told(first) == (200, "image/webp", "miss", "accept")
        assert len(first.body) < len(JPEG)
        again = await stage.get("/i.jpg", headers=FIREFOX)
        assert told(again) == (200, "image/webp", "hit", "accept")
        assert again.body == first.body
        assert told(await stage.get("/i.jpg", headers=OLD, timeout=60))[1:3] == ("image/jpeg", "miss")
        etag = first.headers["etag"]
        assert etag != '"abc"'
        unchanged = await stage.get("/i.jpg", headers={**FIREFOX, "if-none-match": etag})
        assert (unchanged.status, unchanged.headers.get("etag"), unchanged.headers.get("vary")) == (304, etag, "accept")
        other = await stage.get("/i.jpg", headers={**OLD, "if-none-match": etag})
        assert other.status == 200, "that is another image"
        assert len(backend.requests) == 2


@pytest.mark.processes
@pytest.mark.parametrize("order", ["c images", "images c"])
async def test_a_converted_image_is_validated_by_the_etag_of_the_original(order: str) -> None:
    async with PluginStage(sections(order, control_ip_list=["10.0.0.7"])) as stage:
        backend = stage.backends["backend"]
        backend.answers_with(origin)
        first = await stage.get("/i.jpg", headers=CHROME, timeout=60)
        again = await stage.get("/i.jpg", headers={**CHROME, "cache-control": "max-age=0"}, client_ip="10.0.0.7")
        assert [request.headers.get("if-none-match") for request in backend.requests] == [None, 'W/"abc"']
        assert told(again) == (200, "image/webp", "revalidated", "accept")
        assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
        assert told(await stage.get("/i.jpg", headers=FIREFOX)) == (200, "image/webp", "hit", "accept")
