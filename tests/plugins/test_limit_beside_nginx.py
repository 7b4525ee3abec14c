"""The bucket of `limit` beside the one that it was made after: a real nginx, the same requests at the same times."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim
from pingap.stages.plugins.limits import BUCKET, LimitCounters
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.processes

RULES = {
    # (zone rate, limit_req's words) → the bucket, in thousandths
    "plain": ("5r/s", "", (5_000, 0, 0)),
    "nodelay": ("5r/s", "burst=6 nodelay", (5_000, 6_000, 6_000)),
    "burst": ("5r/s", "burst=3", (5_000, 3_000, 0)),
    "delay": ("5r/s", "burst=6 delay=4", (5_000, 6_000, 4_000)),
    "minute": ("90r/m", "burst=2 nodelay", (1_500, 2_000, 2_000)),
}
PATTERN = [0] * 10 + [500] + [0] * 4 + [300] + [0] * 2 + [700] * 2 + [0] * 9
"""Milliseconds before each request; chosen so that tens of them more or less decide nothing."""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    needs("nginx")
    root, port = tmp_path_factory.mktemp("nginx"), free_port()
    for directory in [root, *root.parents]:
        if directory.stat().st_uid == os.getuid() and directory.name.startswith(("nginx", "pytest-")):
            directory.chmod(0o755)
    zones = "".join(f"limit_req_zone $arg_key zone={name}:1m rate={rate};" for name, (rate, _, _) in RULES.items())
    places = "".join(f"location /{name} {{ limit_req zone={name} {words}; try_files /x =204; }}" for name, (_, words, _) in RULES.items())
    temporary = "".join(f"{kind}_temp_path {root}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.getuid() == 0 else ""
    config = root / "nginx.conf"
    config.write_text(
        f"{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;"
        f"events {{ worker_connections 512; }} http {{ access_log off; limit_req_status 429; {temporary} {zones}"
        f"server {{ listen 127.0.0.1:{port}; {places} location = /up {{ return 204; }} }} }}"
    )
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(Path(root, "error.log"))])
    try:
        until(lambda: asked(port, "/up") == 204, 10, "nginx answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def asked(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("rule", list(RULES))
def test_the_same_requests_pass_wait_and_are_refused(nginx: int, rule: str) -> None:
    rate, burst, delay = RULES[rule][2]
    limits, leases = LimitCounters(), Leases()
    heard: dict[int, tuple[int, float]] = {}
    sent: list[float] = []
    threads = []

    def one(number: int) -> None:
        began = time.monotonic()
        status = asked(nginx, f"/{rule}?key=k")
        heard[number] = status, time.monotonic() - began

    for number, gap in enumerate(PATTERN):
        time.sleep(gap / 1000)
        sent.append(time.monotonic())
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
        time.sleep(0.002)  # so that they come in this order
    for thread in threads:
        thread.join()

    said: list[Verdict] = [limits.judge(leases, Claim(number, 1, "k", (BUCKET, rate, burst, delay)), at) for number, at in enumerate(sent)]
    theirs = [heard[number][0] for number in range(len(PATTERN))]
    assert theirs == [204 if verdict.allowed else 429 for verdict in said]
    assert 429 in theirs and 204 in theirs
    for number, verdict in enumerate(said):
        if verdict.allowed:
            assert verdict.wait - 0.15 <= heard[number][1] <= verdict.wait + 1, "a busy machine adds to it, and takes nothing away"
