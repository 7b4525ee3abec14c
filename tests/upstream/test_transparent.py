"""Discovery `transparent`: where requests go by what they ask for, where they do not, and what is kept of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.model import Basic, Server, Snapshot, Upstream
from pingap.config.parts import Listen
from pingap.observability.figures import CONNECTIONS, IN_USE
from pingap.stages.lookups import Address, Lookups
from pingap.stages.messages import BackendReport, Response
from pingap.stages.outside import BY_SCHEME
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.transparent import MOST, NoDestination, Transparent
from tests.kit.waiting import free_port
from tests.upstream.playbook import CREW, OK, Play, report_of
from tests.upstream.test_sockets import Wire, keeps, on_both_loops, origin


def transparent(**settings: Any) -> Transparent:
    found = Group("any", Upstream(discovery="transparent", **settings), lambda n: 0).transparent
    assert found is not None
    return found


def found(authority: bytes, **settings: Any) -> str:
    """The address that a request goes to, or the kind of its error."""
    place = transparent(**settings).find(authority)
    return place.kind if isinstance(place, NoDestination) else place.address


# -- what a request asks for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "address"),
    [
        (b"shop.test", "shop.test:80"),
        (b"Shop.Test.:8080", "shop.test:80"),
        (b"shop.test:", "shop.test:80"),
        (b"a_b-c.test", "a_b-c.test:80"),
        (b"10.0.0.1:8080", "10.0.0.1:80"),
        (b"[::1]:8080", "[::1]:80"),
        (b"[0:0::1]", "[::1]:80"),
        (b"127.1", "127.1:80"),
        (b"xn--bcher-kva.test", "xn--bcher-kva.test:80"),
    ],
)
def test_the_port_of_a_request_does_not_count(authority: bytes, address: str) -> None:
    assert found(authority) == address
    assert found(authority, sni="$host") == address.removesuffix(":80") + ":443"


@pytest.mark.parametrize(
    ("authority", "outcome"),
    [
        (b"shop.test", "shop.test:80"),
        (b"shop.test:8080", "shop.test:8080"),
        (b"shop.test:08080", "shop.test:8080"),
        (b"[::1]:8080", "[::1]:8080"),
        (b"shop.test:22", "destination_refused"),
        (b"[::1]:443", "destination_refused"),
        (b"shop.test:0", "destination_refused"),
        (b"shop.test:99999", "destination_refused"),
    ],
)
def test_with_ports_allowed_it_counts_and_must_be_one_of_them(authority: bytes, outcome: str) -> None:
    assert found(authority, transparent_ports=(80, 8080)) == outcome


def test_the_port_without_one_has_to_be_allowed_as_well() -> None:
    assert found(b"shop.test", transparent_ports=(8080,)) == "destination_refused"
    assert found(b"shop.test", transparent_ports=(443,), sni="$host") == "shop.test:443"


@pytest.mark.parametrize(
    "authority",
    [b"", b":80", b".", b"..", b"a..b", b"-a.test", b"a b", b"a/b", b"u@a.test", b"a:b", b"a:1:2", b"a:123456", b"::1", b"[::1", b"[::1]80"]
    + [b"[::1]:x", b"[fe80::1%eth0]", b"[fe80::1%25eth0]:80", b"[10.0.0.1]", b"b\xfccher.test", b"a%00.test", b"%31.test"]
    + [b"a" * 64 + b".test", b".".join([b"a" * 60] * 5), b"unix:/run/a", b"/run/app.sock"],
)
def test_what_can_be_no_host_is_a_bad_request(authority: bytes) -> None:
    assert found(authority) == found(authority, transparent_ports=(80,)) == "bad_request"


@given(
    st.one_of(st.binary(max_size=40), st.text(st.sampled_from("aZ0.-_:[]%/@\\ \0é"), max_size=12).map(lambda text: text.encode("latin-1")))
)
def test_whatever_it_asks_for_it_gets_a_network_address_or_an_error(authority: bytes) -> None:
    place = transparent().find(authority)
    if isinstance(place, NoDestination):
        assert place.kind == "bad_request" and place.reason
    else:
        assert place.port == 80 and place.host and not place.host.startswith("/") and "%" not in place.host


# -- what is kept -----------------------------------------------------------------------------------


def test_all_spellings_of_a_host_share_a_backend() -> None:
    it = transparent()
    places = [it.find(authority) for authority in (b"shop.test", b"SHOP.test:1", b"shop.test.", b"shop.test.:80")]
    assert len(set(map(id, places))) == 1 == len(it.backends)


def test_of_those_that_nobody_uses_the_last_ones_are_kept() -> None:
    it = transparent()
    for number in range(3 * MOST):
        it.find(b"first.test")
        it.find(b"%d.test" % number)
    assert len(it.backends) == MOST
    assert ("first.test", 80) in it.backends and (f"{3 * MOST - 1}.test", 80) in it.backends


def test_those_in_use_stay_and_go_once_they_are_not() -> None:
    it = transparent()
    used = []
    for number in range(3 * MOST):
        place = it.find(b"%d.used.test" % number)
        assert isinstance(place, BackendState)
        place.active += 1
        used.append(place)
    for number in range(MOST):
        it.find(b"%d.test" % number)
    assert all(it.backends[place.host, 80] is place for place in used)
    assert len(it.backends) <= 4 * MOST
    for place in used:
        place.active -= 1
    for number in range(200):
        it.find(b"%d.new.test" % number)
    assert len(it.backends) == MOST


async def test_requests_go_to_their_hosts_over_connections_that_are_kept(play: Play) -> None:
    group = play.serves("", discovery="transparent")
    addresses = []
    for host in (b"a.test", b"b.test", b"A.test.:8080", b"a.test"):
        sid = play.asks(host=host, headers=b"host: " + host + b"\r\n")
        await play.turn()
        name = host.decode().lower().partition(":")[0].removesuffix(".")
        play.backend(f"{name}:80").link.says(OK)
        await play.turn()
        response = play.hears_response(sid)
        assert response.status == 200
        addresses.append(report_of(response).addr)
    assert addresses == ["a.test:80", "b.test:80", "a.test:80", "a.test:80"]
    assert (len(play.backend("a.test:80").links), len(play.backend("b.test:80").links)) == (1, 1)
    assert not group.backends and play.actor.figures()[f"{CONNECTIONS}api"] == 2
    await play.passes(61)  # idle_timeout
    await play.turn()
    assert not (play.backend("a.test:80").open or play.backend("b.test:80").open)
    assert play.actor.figures()[f"{CONNECTIONS}api"] == play.actor.figures()[f"{IN_USE}api"] == 0


async def test_a_reload_keeps_connections_while_the_upstream_is_the_same(play: Play) -> None:
    changes: list[tuple[dict[str, Any], int]] = [({}, 1), ({}, 1), ({"read_timeout": 10.0}, 2)]
    for settings, links in changes:
        play.serves("", discovery="transparent", **settings)
        sid = play.asks(host=b"a.test")
        await play.turn()
        play.backend("a.test:80").link.says(OK)
        await play.turn()
        assert play.hears_response(sid).status == 200
        assert len(play.backend("a.test:80").links) == links
    assert len(play.backend("a.test:80").open) == 1


async def test_a_failed_connect_is_502_and_nobody_else_is_asked(play: Play) -> None:
    play.serves("", discovery="transparent")
    await one(play, b"b.test", OK)
    play.backend("a.test:80").refuses = ConnectionRefusedError("no")
    sid = play.asks(host=b"a.test")
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert play.backend("a.test:80").asked == 1


async def one(play: Play, host: bytes, says: bytes) -> Response:
    sid = play.asks(host=host)
    await play.turn()
    play.backend(f"{host.decode()}:80").link.says(says)
    await play.turn()
    return play.hears_response(sid)


async def test_discovery_hears_nothing_of_where_requests_go(play: Play) -> None:
    play.members(*CREW, (20, "discovery"))
    play.hears()
    play.serves("", discovery="transparent")
    for number in range(20):
        sid = play.asks(host=b"%d.test" % number)
        await play.turn()
        play.backend(f"{number}.test:80").link.says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        await play.turn()
        assert play.hears_response(sid).status == 500
    await asyncio.sleep(0.2)
    assert not any(isinstance(envelope, BackendReport) and envelope.rows for _, envelope in play.hears())


@pytest.mark.parametrize(("host", "status", "error"), [(b"", 400, "bad_request"), (b"a.test:25", 403, "destination_refused")])
async def test_who_asks_for_what_is_not_to_be_had_is_told_so(play: Play, host: bytes, status: int, error: str) -> None:
    play.serves("", discovery="transparent", transparent_ports=(80,))
    sid = play.asks(host=host)
    await play.turn()
    response = play.hears_response(sid)
    assert (response.status, report_of(response).error) == (status, error)
    ((level, _, fields),) = [line for line in play.context.logged if line[1] == "destination refused"]
    assert level == "warn" and fields["upstream"] == "api" and fields["reason"] == report_of(response).reason


# -- whither it may go: real sockets -----------------------------------------------------------------


LOOPBACK = ("127.0.0.0/8",)
SPELLINGS = [b"127.0.0.1", b"127.1", b"0x7f.1", b"0x7f000001", b"2130706433", b"0177.0.0.1"]
SPELLINGS += [b"localhost", b"LOCALHOST.", b"[::ffff:127.0.0.1]", b"[::ffff:7f00:1]"]


@pytest.mark.parametrize("host", SPELLINGS)
@on_both_loops
async def test_loopback_is_refused_however_it_is_spelled_and_reached_where_it_is_listed(wire: Wire, host: bytes) -> None:
    async with origin(keeps) as it:
        settings: dict[str, Any] = {"discovery": "transparent", "transparent_ports": (it.port,)}
        authority = b"%b:%d" % (host, it.port)
        for networks in ((), ("0.0.0.0/0", "::/0"), ("10.0.0.0/8",)):
            wire.serves("", transparent_networks=networks, **settings)
            sid = wire.asks(host=authority)
            assert (await wire.answer(sid))[0] == 403
            report = wire.heard[sid][0].report
            assert report.error == "destination_refused" and "loopback, and not in transparent_networks" in report.reason
        assert it.connections == 0
        wire.serves("", transparent_networks=LOOPBACK, **settings)
        for _ in range(3):
            assert await wire.gets(host=authority) == (200, b"ok", "")
        assert it.connections == 1
        await wire.actor.stop()


@on_both_loops
async def test_a_port_at_which_pingap_listens_is_refused_at_every_address_of_this_host(wire: Wire) -> None:
    async with origin(keeps) as it:
        servers = {"web": Server(addr=(Listen("10.9.9.9", it.port),))}
        wire.serves("", discovery="transparent", transparent_ports=(it.port,), transparent_networks=LOOPBACK, servers=servers)
        sid = wire.asks(host=b"localhost:%d" % it.port)
        assert (await wire.answer(sid))[0] == 403
        assert "is this proxy itself" in wire.heard[sid][0].report.reason
        assert it.connections == 0
        await wire.actor.stop()


async def test_its_own_ports_are_those_of_all_generations_that_were_committed_and_of_no_other(play: Play) -> None:
    def listens(*ports: int) -> dict[str, Server]:
        return {"web": Server(addr=tuple(Listen("10.9.9.9", port) for port in ports))}

    def refused() -> list[int]:
        door = play.group().transparent
        assert door is not None
        return [port for port in (80, 81, 82, 83) if "this proxy itself" in door.objection("10.9.9.9", port, True)]

    play.serves("", discovery="transparent", servers=listens(80, 81))
    group = play.group()
    assert refused() == [80, 81]
    current = Snapshot(basic=Basic(), servers=listens(81), upstreams={"api": group.settings})
    play.publishes(play.generation, current, play.generation + 9, replace(current, servers=listens(82)))
    await play.turn()
    assert refused() == [80, 81], "a candidate may be withdrawn"
    play.serves("", discovery="transparent", servers=listens(83))
    assert group is play.group()
    assert refused() == [80, 81, 83], "a server that was removed listens until the restart"
    play.serves("", discovery="transparent", read_timeout=7.0, servers=listens(83))
    assert refused() == [80, 81, 83]


def resolving(wire: Wire, resolve: Callable[[str], list[str]]) -> list[str]:
    """The names that were looked up, from now on."""
    asked: list[str] = []

    def answer(host: str, family: int) -> list[Address]:
        asked.append(host)
        return [Address(socket.AF_INET6, (ip, 0, 0, 0)) if ":" in ip else Address(socket.AF_INET, (ip, 0)) for ip in resolve(host)]

    wire.actor.pools.client_lookups = Lookups(asyncio.get_running_loop(), answer)
    return asked


@on_both_loops
async def test_a_name_is_looked_up_once_and_what_was_judged_is_connected_to(wire: Wire) -> None:
    """A server of DNS that gives an address that is allowed first, and then one that is not, comes to nothing."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]])
    async with origin(keeps) as it, origin(keeps, "127.0.0.2"):
        asked = resolving(wire, lambda host: next(answers))
        wire.serves("", discovery="transparent", transparent_ports=(it.port,), transparent_networks=("127.0.0.1/32",))
        host = b"rebinding.test:%d" % it.port
        assert await wire.gets(host=host) == (200, b"ok", "")
        assert await wire.gets(host=host) == (200, b"ok", "")
        assert len(asked) == 1, "a kept connection goes where it was judged to go"
        it.writers[-1].close()
        group = wire.group()
        await wire.until(lambda: not any(backend.open for backend in group.everywhere()))
        assert (await wire.gets(host=host))[0] == 403
        assert await wire.gets(host=host) == (200, b"ok", "")
        assert len(asked) == 3
        await wire.actor.stop()


@on_both_loops
async def test_of_a_names_addresses_those_are_used_that_are_allowed(wire: Wire) -> None:
    async with origin(keeps) as it:
        resolving(wire, lambda host: ["10.0.0.1", "fe80::1", "169.254.169.254", "127.0.0.1"])
        wire.serves("", discovery="transparent", transparent_ports=(it.port,), transparent_networks=LOOPBACK, connection_timeout=5.0)
        assert await wire.gets(host=b"many.test:%d" % it.port) == (200, b"ok", "")
        resolving(wire, lambda host: ["10.0.0.1", "64:ff9b::a00:1", "169.254.169.254", "224.0.0.1", "::"])
        sid = wire.asks(host=b"none.test:%d" % it.port)
        assert (await wire.answer(sid))[0] == 403
        reason = wire.heard[sid][0].report.reason
        assert reason.startswith("10.0.0.1 is private, and not in transparent_networks; 64:ff9b::a00:1 is private")
        assert len(reason) < 300
        await wire.actor.stop()


@on_both_loops
async def test_a_name_that_is_not_known_is_502_and_one_that_nobody_answers_504(wire: Wire) -> None:
    def resolve(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolving(wire, resolve)
    wire.serves("", discovery="transparent")
    assert (await wire.gets(host=b"unknown.test"))[0] == 502
    assert wire.heard.popitem()[1][0].report.error == "connect_failed"
    wire.actor.pools.client_lookups = Lookups(asyncio.get_running_loop(), most=0)
    wire.serves("", discovery="transparent", connection_timeout=0.05)
    assert (await wire.gets(host=b"in-line.test"))[0] == 503
    await wire.actor.stop()


@on_both_loops
async def test_names_of_clients_keep_no_other_lookup_waiting(wire: Wire) -> None:
    wire.actor.pools.client_lookups = Lookups(asyncio.get_running_loop(), most=0)
    async with origin(keeps) as it:
        wire.serves(f"localhost:{it.port}", more={"any": Upstream(discovery="transparent")})
        stuck = [wire.asks(upstream="any", host=b"%d.test" % number) for number in range(100)]
        assert await wire.gets() == (200, b"ok", "")
        for sid in stuck:
            wire.cancels(sid)
        await wire.actor.stop()


@on_both_loops
async def test_nothing_is_sent_to_where_nobody_may_go(wire: Wire) -> None:
    """A port that is free: had anybody tried it, it would be 502."""
    port = free_port()
    wire.serves("", discovery="transparent", transparent_ports=(port,))
    for host in (b"127.0.0.1", b"localhost", b"[::1]"):
        assert (await wire.gets(host=b"%b:%d" % (host, port)))[0] == 403
    wire.serves("", discovery="transparent", transparent_ports=(port,), transparent_networks=("127.0.0.1/32",))
    assert (await wire.gets(host=b"127.0.0.1:%d" % port))[0] == 502
    await wire.actor.stop()


# -- requests of pingap's own -----------------------------------------------------------------------------


@on_both_loops
async def test_who_is_no_client_reaches_every_address_and_port(wire: Wire) -> None:
    """`host.fetch_url` of plugins: what the configuration says may be anywhere, this host included."""
    async with origin(keeps) as it:
        wire.serves(f"localhost:{it.port}", more={"any": Upstream(discovery="transparent")})
        assert await wire.gets(host=b"127.0.0.1:%d" % it.port, upstream=BY_SCHEME["http"]) == (200, b"ok", "")
        assert (await wire.gets(host=b"127.0.0.1:%d" % it.port, upstream="any"))[0] == 403
        await wire.actor.stop()
