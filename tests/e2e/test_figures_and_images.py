"""stats and image_optim with real processes: what they ask of others, and what becomes of it when those die."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.images import file, opened, photo
from tests.kit.waiting import until

JPEG = file(photo(320, 240), "JPEG", quality=97)


class Images:
    """A backend with an image, and requests that it leaves open."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.origin = Origin(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/waits":
            self.go.wait(20)
        body = JPEG + exchange.target.encode() if exchange.path == "/i.jpg" else b"ok"
        if exchange.get("if-none-match") == 'W/"i"':
            exchange.reply(b"", "304 Not Modified", 'ETag: "i"\r\n')
        else:
            exchange.reply(body, headers='Content-Type: image/jpeg\r\nETag: "i"\r\nAccept-Ranges: bytes\r\n')


@pytest.fixture(scope="module")
def images() -> Iterator[Images]:
    made = Images()
    yield made
    made.go.set()
    made.origin.stop()


@pytest.fixture(scope="module")
def proxy(placement: str, images: Images) -> Iterator[Pingap]:
    section = '[plugins.images]\ncategory = "image_optim"\noutput_types = "avif, webp"\nwait = "20s"'
    text = site([images.origin.port], location='plugins = ["pingap:stats", "images"]', more=section)
    replicas = ["--scale", "plugins=2", "--scale", "accept=2"] if placement == "split" else ["--workers", "2"]
    with Pingap(text, placement, up=replicas) as made:
        yield made


def stats(proxy: Pingap) -> dict[str, Any]:
    answer = proxy.get("/stats")
    assert answer.status == 200
    said: dict[str, Any] = json.loads(answer.body)
    return said


def test_requests_are_counted_over_all_processes(proxy: Pingap, images: Images) -> None:
    before = stats(proxy)
    for _ in range(12):  # connections of their own, so that both accept processes get some
        proxy.get("/x")
    after = stats(proxy)
    for name in ("accepted", "location_accepted"):
        assert after[name] == before[name] + 13
    images.go.clear()
    clients = [proxy.client() for _ in range(5)]
    for client in clients:
        client.send(b"GET /waits HTTP/1.1\r\nHost: test.local\r\n\r\n")
    until(lambda: stats(proxy)["location_processing"] == 6, 10, "five that wait and the one that asks")
    assert stats(proxy)["processing"] == 6
    clients.pop().close()
    until(lambda: (stats(proxy)["processing"], stats(proxy)["location_processing"]) == (5, 5), 10, "one client less")
    images.go.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    until(lambda: (stats(proxy)["processing"], stats(proxy)["location_processing"]) == (1, 1), 10, "only the one that asks")


def test_the_system_is_that_of_all_processes(proxy: Pingap) -> None:
    said = stats(proxy)
    pids = proxy.processes()
    assert said["threads"] >= len(pids)
    assert said["memory_mb"] > 30
    assert said["fd_count"] >= 10 * len(pids)
    assert said["start_time"] > 1_000_000_000


@pytest.mark.parametrize(("accept", "form"), [("image/webp", "WEBP"), ("image/avif,image/webp", "AVIF"), ("image/*", "JPEG")])
def test_an_image_comes_as_the_client_takes_it(proxy: Pingap, accept: str, form: str) -> None:
    with proxy.client() as client:
        answer = client.get("/i.jpg", headers={"Accept": accept})
        assert (answer.status, answer.get("content-type"), answer.get("vary")) == (200, f"image/{form.lower()}", "accept")
        assert answer.get("content-length") == str(len(answer.body))
        assert answer.get("accept-ranges") is None
        image = opened(answer.body)
        assert (image.format, image.size) == (form, (320, 240))
        assert len(answer.body) < len(JPEG)
        again = client.get("/i.jpg", headers={"Accept": accept, "If-None-Match": answer.get("etag") or ""})
        assert (again.status, again.get("etag")) == (304, answer.get("etag"))
        head = client.get("/i.jpg", "HEAD", headers={"Accept": accept})
        assert head.get("vary") == "accept"


def test_many_who_ask_at_once_get_the_same(proxy: Pingap) -> None:
    clients = [proxy.client() for _ in range(8)]
    for client in clients:
        client.send(b"GET /i.jpg?many HTTP/1.1\r\nHost: test.local\r\nAccept: image/webp\r\n\r\n")
    clients.pop(0).close()
    answers = {client.response(timeout=20).body for client in clients}
    for client in clients:
        client.close()
    assert len(answers) == 1
    assert opened(answers.pop()).format == "WEBP"


def test_a_worker_that_dies_costs_nobody_his_image(proxy: Pingap) -> None:
    proxy.get("/i.jpg?one", headers={"Accept": "image/webp"})
    workers = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if is_worker(path, proxy)]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for number in range(4):
        answer = proxy.get(f"/i.jpg?two{number}", headers={"Accept": "image/webp"})
        assert opened(answer.body).size == (320, 240)
    assert opened(answer.body).format == "WEBP"


def test_a_process_that_dies_takes_its_figures_along_and_nothing_hangs(proxy: Pingap) -> None:
    stage = "plugins" if any(row.stage == "plugins" for row in proxy.ps()) else "worker"
    old = proxy.pid(stage, 1)
    os.kill(old, signal.SIGKILL)
    proxy.wait_restarted(stage, old, 1)
    until(lambda: stats(proxy)["location_processing"] == 1, 10, "figures of those that live")


def is_worker(path: Path, proxy: Pingap) -> bool:
    try:
        parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        return b"worker of" in path.read_bytes() and parent in proxy.processes()
    except OSError:
        return False
