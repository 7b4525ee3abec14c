"""Names in `addrs`: every address that discovery has found is a backend of its own."""

from __future__ import annotations

import pytest

from pingap.config.addresses import parse_backend
from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.observability.figures import CONNECTIONS
from pingap.stages.upstream.group import Group
from tests.upstream.playbook import OK, Play, report_of

NAME = "many.example:80"


def weights(group: Group) -> dict[str, int]:
    return {backend.address: backend.weight for backend in group.backends}


async def test_until_discovery_has_said_a_name_is_one_backend(play: Play) -> None:
    assert weights(play.serves(f"{NAME}*3 10.0.0.9:80")) == {NAME: 3, "10.0.0.9:80": 1}
    play.resolves(other={NAME: ["10.0.0.1"]})
    assert weights(play.group()) == {NAME: 3, "10.0.0.9:80": 1}


async def test_every_address_of_a_name_gets_the_weight_of_its_entry_over_both_families(play: Play) -> None:
    group = play.serves(f"{NAME}*3 10.0.0.9:80*2")
    play.resolves(api={NAME: ["10.0.0.1", "2001:db8::1", "10.0.0.9"]})
    assert weights(group) == {"10.0.0.1:80": 3, "[2001:db8::1]:80": 3, "10.0.0.9:80": 5}
    play.serves(f"{NAME}*1 10.0.0.9:80*2")
    play.resolves(api={NAME: ["10.0.0.1", "2001:db8::1", "10.0.0.9"]})
    assert weights(play.group()) == {"10.0.0.1:80": 1, "[2001:db8::1]:80": 1, "10.0.0.9:80": 3}, "as a new generation has it"


@pytest.mark.parametrize("algo", ["round_robin", "least_conn", "p2c", "hash"])
async def test_requests_are_balanced_over_all_healthy_addresses(play: Play, algo: str) -> None:
    play.serves(NAME, algo=algo)
    play.resolves(api={NAME: ["10.0.0.1", "10.0.0.2", "10.0.0.3"]})
    play.health(api={"10.0.0.2:80": False})
    for number in range(60):
        play.asks(target=b"/%d" % number)
    await play.turn()
    asked = {address: backend.asked for address, backend in play.backends.items()}
    assert sorted(asked) == ["10.0.0.1:80", "10.0.0.3:80"]
    for address in asked:
        for link in play.backend(address).links:
            link.says(OK)
    await play.turn()
    play.hears()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_address_that_refuses_is_passed_over_whatever_the_method(play: Play, method: bytes) -> None:
    play.serves(NAME, algo="round_robin")
    play.resolves(api={NAME: ["10.0.0.1", "10.0.0.2"]})
    play.backend("10.0.0.1:80").refuses = ConnectionRefusedError("no")
    for _ in range(4):
        sid = play.asks(method)
        await play.turn()
        play.backend("10.0.0.2:80").link.says(OK)
        await play.turn()
        assert report_of(play.hears_response(sid)).addr == "10.0.0.2:80"


async def test_who_stays_keeps_its_connections_and_who_leaves_ends_what_it_has_begun(play: Play) -> None:
    group = play.serves(NAME, algo="round_robin")
    play.resolves(api={NAME: ["10.0.0.1", "10.0.0.2"]})
    sids = [play.asks() for _ in range(4)]
    await play.turn()
    stays, leaves = play.backend("10.0.0.1:80"), play.backend("10.0.0.2:80")
    assert (len(stays.links), len(leaves.links)) == (2, 2)
    for backend in (stays, leaves):
        backend.links[0].says(OK)
    await play.turn()
    play.resolves(api={NAME: ["10.0.0.3", "10.0.0.1"]})
    await play.turn()
    assert (len(stays.open), len(leaves.open)) == (2, 1), "one that idles there is of no use any more"
    assert play.actor.figures()[f"{CONNECTIONS}api"] == 3
    for backend in (stays, leaves):
        backend.links[1].says(OK)
    await play.turn()
    assert (len(stays.open), len(leaves.open)) == (2, 0)
    assert sorted(envelope.sid for _, envelope in play.hears()) == sids
    assert weights(group) == {"10.0.0.3:80": 1, "10.0.0.1:80": 1}
    play.resolves(api={NAME: ["10.0.0.1", "10.0.0.3"]})
    assert not group.leaving


async def test_who_waits_in_line_at_an_address_that_leaves_goes_to_another(play: Play) -> None:
    group = play.serves(NAME, max_connections=1)
    play.resolves(api={NAME: ["10.0.0.1"]})
    first, waits = play.asks(), play.asks()
    await play.turn()
    assert group.pending == 1
    play.resolves(api={NAME: ["10.0.0.2"]})
    await play.turn()
    assert group.pending == 0
    play.backend("10.0.0.2:80").link.says(OK)
    await play.turn()
    assert report_of(play.hears_response(waits)).addr == "10.0.0.2:80"
    play.backend("10.0.0.1:80").link.says(OK)
    await play.turn()
    assert report_of(play.hears_response(first)).addr == "10.0.0.1:80"


async def test_without_a_host_a_request_names_the_container_and_not_its_label(play: Play) -> None:
    play.serves("label:1", discovery="docker")
    play.finds(api={"label:1": [("10.0.0.1", 8080, 1)]})
    sid = play.asks(headers=b"", host=b"")
    await play.turn()
    assert b"host: 10.0.0.1:8080\r\n" in play.backend("10.0.0.1:8080").link.transport.out
    play.backend("10.0.0.1:8080").link.says(OK)
    await play.turn()
    assert play.hears_response(sid).status == 200


async def test_without_a_host_a_request_names_the_backend_as_configured(play: Play) -> None:
    play.serves(NAME)
    play.resolves(api={NAME: ["10.0.0.1"]})
    sid = play.asks(headers=b"", host=b"")
    await play.turn()
    assert b"host: many.example:80\r\n" in play.backend("10.0.0.1:80").link.transport.out
    play.backend("10.0.0.1:80").link.says(OK)
    await play.turn()
    assert play.hears_response(sid).status == 200


def test_the_name_that_a_backend_proves_to_be_is_that_of_its_entry() -> None:
    group = Group("api", Upstream(addrs=(Backend("many.example", 443),), sni="$host"), lambda n: 0)
    group.set_addresses({"many.example:443": [("10.0.0.1", 443, 1)]}, 0.0)
    routed = type("Routed", (), {"host": b""})()
    assert group.name_for(routed, group.backends[0]) == "many.example"


@pytest.mark.parametrize(("addr", "name"), [("unix:/run/a.sock", "localhost"), ("[fe80::1%eth0]:443", "fe80::1"), ("[::1]:443", "::1")])
def test_what_means_something_on_this_host_only_is_proved_by_no_certificate(addr: str, name: str) -> None:
    group = Group("api", Upstream(addrs=(parse_backend(addr),), sni="$host"), lambda n: 0)
    routed = type("Routed", (), {"host": b""})()
    assert group.name_for(routed, group.backends[0]) == name
