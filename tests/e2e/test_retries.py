"""Retries as a client of real nginx backends sees them: one that answers 500, one that closes, one that is stopped, and all that fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.faulty_nginx import FaultyNginx
from tests.e2e.harness import Pingap
from tests.kit.peers import needs
from tests.kit.waiting import until

FAULTS = ("fails", "closes", "frozen")
UNCHECKED = 'health_check = "tcp://x?check_frequency=600s&failure=1000"'


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FaultyNginx]]:
    needs("nginx")
    root = tmp_path_factory.mktemp("nginx")
    made = {name: FaultyNginx(root / name, name) for name in ("well", "fails", "closes", "frozen", "worse")}
    for fault in ("fails", "closes"):
        made[fault].set(fault)
    made["worse"].set("fails")
    made["frozen"].freeze()
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def proxy(placement: str, backends: dict[str, FaultyNginx]) -> Iterator[Pingap]:
    """For each fault an upstream that has it and one backend that is well; `/all` has none that is."""
    pairs = {fault: (fault, "well") for fault in FAULTS} | {"all": ("fails", "worse")}
    parts = []
    for name, pair in pairs.items():
        addrs = json.dumps([backends[one].address for one in pair])
        parts.append(
            f'[locations.{name}]\nupstream = "{name}"\npath = "/{name}"\nretry_status_code = "500,503"\n'
            f'[upstreams.{name}]\naddrs = {addrs}\nread_timeout = "400ms"\n{UNCHECKED}\n'
        )
    server = f'[servers.plain]\naddr = "127.0.0.1:{{port}}"\nprometheus_metrics = "/metrics"\nlocations = {json.dumps(list(pairs))}\n'
    with Pingap(server + "".join(parts), placement) as instance:
        yield instance


@pytest.mark.parametrize("fault", FAULTS)
def test_one_backend_that_fails_costs_an_idempotent_request_nothing(proxy: Pingap, backends: dict[str, FaultyNginx], fault: str) -> None:
    with proxy.client() as client:
        for number in range(8):
            response = client.get(f"/{fault}/{number}", method="PUT" if number % 2 else "GET", body=b"whole" if number % 2 else None)
            assert (response.status, response.get("x-backend")) == (200, "well")


@pytest.mark.parametrize(("fault", "status"), [("fails", 500), ("closes", 502), ("frozen", 504)])
def test_a_post_reaches_one_backend_only(proxy: Pingap, backends: dict[str, FaultyNginx], fault: str, status: int) -> None:
    with proxy.client() as client:
        statuses = [client.get(f"/{fault}/post", method="POST", body=b"order").status for _ in range(4)]
    assert sorted(statuses) == [200, 200, status, status], "they take turns"


def test_what_was_made_again_is_told_by_reason(proxy: Pingap) -> None:
    reasons = {"fails": "status", "closes": "closed_fresh", "frozen": "timeout"}
    with proxy.client() as client:
        for fault in FAULTS:
            for _ in range(2):
                assert client.get(f"/{fault}/told").status == 200

    def told() -> dict[str, str]:
        lines = re.findall(r"pingap_upstream_retries_total\{(.*)\}", proxy.get("/metrics").body.decode())
        labels = [dict(re.findall(r'(\w+)="(\w+)"', line)) for line in lines]
        return {each["upstream"]: each["reason"] for each in labels if each["upstream"] in FAULTS}

    until(lambda: told() == reasons, 5, "the metrics tell of them")


def test_when_all_fail_they_get_a_fifth_more_and_the_client_the_last_answer(proxy: Pingap, backends: dict[str, FaultyNginx]) -> None:
    both = (backends["fails"], backends["worse"])
    before = sum(len(one.ids()) for one in both)
    asked = 200
    with proxy.client() as client:
        for number in range(asked):
            response = client.get(f"/all/?id={number}")
            assert (response.status, response.body) == (500, b"fails")
    reached = sum(len(one.ids()) for one in both) - before
    assert asked + 10 <= reached <= asked * 1.2
    proxy.wait_output("retry_budget is spent")
