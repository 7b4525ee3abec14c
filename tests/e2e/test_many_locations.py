"""Thousands of locations: a reload restarts no stage, and is served."""

from __future__ import annotations

from tests.e2e.harness import Pingap
from tests.e2e.origins import Nginx as Origin
from tests.kit.waiting import until

MANY = 12_000


def host(number: int) -> str:
    return f"h{number}.example.com" if number < MANY - 1 else "test.local"


def config(origin: int, path: str) -> str:
    locations = "".join(
        f'[locations.l{number}]\nupstream = "u"\nhost = "{host(number)}"\npath = "= {path}"\nproxy_set_headers = ["x-number:{number}"]\n'
        for number in range(MANY)
    )
    names = ", ".join(f'"l{number}"' for number in range(MANY))
    server = f'[servers.web]\naddr = "127.0.0.1:{{port}}"\nlocations = [{names}]\n'
    return f'[upstreams.u]\naddrs = ["127.0.0.1:{origin}"]\n{locations}{server}'


def test_an_edit_of_every_one_of_many_locations_is_taken_over_and_no_stage_is_killed_for_its_silence(origin: Origin) -> None:
    with Pingap(config(origin.port, "/echo/old")) as pingap:
        assert pingap.get("/echo/old").status == 200
        pingap.write_config(config(origin.port, "/echo/new"))
        until(lambda: pingap.get("/echo/new").status == 200, 20, "the edit is served")
        assert pingap.get("/echo/old").status == 404
        assert [row.name for row in pingap.ps() if row.restarts] == []
