"""Discovery by DNS with a real server."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.config.parts import Backend
from pingap.stages.discovery.dns import client as client_module
from pingap.stages.discovery.dns.client import DnsFailed
from tests.discovery.dns_parts import addresses, client, lookup, source
from tests.discovery.dns_peer import answer, dns_peer, framed
from tests.kit.dnsmasq import Dnsmasq, Silence
from tests.kit.waiting import free_port

pytestmark = pytest.mark.processes

MANY = [f"127.7.{n // 100}.{n % 100 + 1}" for n in range(200)]
SERVICE = ["--srv-host=_http._tcp.shop.test,a.test,8001,10,20", "--srv-host=_http._tcp.shop.test,b.test,8002,10,10"]
SERVICE += ["--srv-host=_http._tcp.shop.test,spare.test,8003,20,5"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Dnsmasq]:
    with Dnsmasq(tmp_path, "--local-ttl=60") as running:
        yield running


# -- what a name stands for ------------------------------------------------------------


async def test_every_address_of_a_name_is_a_backend_with_port_and_weight_of_the_entry(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.2", "127.0.0.1", "::1"]})
    found = await lookup("api.test", client(server.port), 8080, 3).find()
    assert found.backends == (Backend("127.0.0.1", 8080, 3), Backend("127.0.0.2", 8080, 3), Backend("::1", 8080, 3))
    assert (found.ttl, found.lacking) == (60, "")


async def test_ipv4_only_asks_for_no_other_address(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.1", "::1"]})
    assert addresses(await lookup("api.test", client(server.port), ipv4_only=True).find()) == ["127.0.0.1:80"]
    assert server.asked("api.test") == 1


async def test_two_hundred_addresses_come_over_tcp_when_a_datagram_has_no_room_for_them(server: Dnsmasq) -> None:
    server.say({"many.test": MANY})
    found = await lookup("many.test", client(server.port)).find()
    assert sorted(backend.host for backend in found.backends) == sorted(MANY)


async def test_records_of_a_service_bring_port_and_weight_and_the_lowest_priority_alone_counts(tmp_path: Path) -> None:
    records = {"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2", "127.0.0.3"], "spare.test": ["127.0.0.9"]}
    with Dnsmasq(tmp_path, *SERVICE, records=records) as server:
        look = lookup("_http._tcp.shop.test", client(server.port))
        found = await look.find()
        assert found.backends == (Backend("127.0.0.1", 8001, 2), Backend("127.0.0.2", 8002, 1), Backend("127.0.0.3", 8002, 1))
        server.say({"spare.test": ["127.0.0.9"]})
        assert (await look.find()).backends == (Backend("127.0.0.9", 8003, 1),)
        server.say({})
        with pytest.raises(DnsFailed, match=r"spare\.test: no such name .NXDOMAIN."):
            await look.find()


async def test_a_short_name_is_made_whole_by_domain_and_search_in_their_order(server: Dnsmasq, tmp_path: Path) -> None:
    server.say(
        {"api.one.test": ["127.0.0.1"], "api.two.test": ["127.0.0.2"], "api.system.test": ["127.0.0.3"], "web.two.test": ["127.0.0.4"]}
    )
    resolv = "search system.test\nnameserver 127.0.0.1\n"
    both = client(server.port, tmp=tmp_path, domain="one.test", search=("two.test",), resolv=resolv)
    assert addresses(await lookup("api", both).find()) == ["127.0.0.1:80"]
    assert addresses(await lookup("web", both).find()) == ["127.0.0.4:80"]
    assert addresses(await lookup("web.two", client(server.port, search=("test",))).find()) == ["127.0.0.4:80"]
    assert addresses(await lookup("api.one.test", client(server.port, search=("one",))).find()) == ["127.0.0.1:80"]
    assert server.asked("api.one.test.one") == 0, "with dots it is whole first"
    system = client(server.port, tmp=tmp_path, search=("two.test",), resolv=resolv)
    assert addresses(await lookup("api", system).find()) == ["127.0.0.3:80"]
    with pytest.raises(DnsFailed, match=r"none\.one\.test: no such name.*none\.system\.test.*none\.two\.test"):
        await lookup("none", client(server.port, tmp=tmp_path, domain="one.test", search=("two.test",), resolv=resolv)).find()
    with pytest.raises(DnsFailed, match="REFUSED"):
        await lookup("api.", both).find()


async def test_the_hosts_file_counts_as_long_as_there_is_no_server_of_its_own(server: Dnsmasq, tmp_path: Path) -> None:
    server.say({"api.test": ["127.0.0.1"]})
    hosts = "# mine\n127.9.9.9  API.test other # and more\nfe80::1 x\nnonsense y\n::1 api.test\n"
    system = client(tmp=tmp_path, hosts=hosts, resolv="")
    found = await lookup("api.test", system).find()
    assert (addresses(found), found.ttl) == (["127.9.9.9:80", "[::1]:80"], 5)
    assert addresses(await lookup("api.test", system, ipv4_only=True).find()) == ["127.9.9.9:80"]
    (tmp_path / "hosts").write_text("127.8.8.8 api.test\n")
    assert addresses(await lookup("api.test", system).find()) == ["127.8.8.8:80"]
    assert addresses(await lookup("api.test", client(server.port, tmp=tmp_path, hosts=hosts)).find()) == ["127.0.0.1:80"]


async def test_localhost_is_asked_of_nobody(server: Dnsmasq) -> None:
    asked = client(server.port)
    assert addresses(await lookup("localhost", asked).find()) == ["127.0.0.1:80", "[::1]:80"]
    assert addresses(await lookup("api.localhost", asked, ipv4_only=True).find()) == ["127.0.0.1:80"]
    assert server.asked("localhost") == 0


# -- failures -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gone.test", "empty.test"])
async def test_no_such_name_and_no_record_are_failures_that_name_the_server(tmp_path: Path, name: str) -> None:
    with Dnsmasq(tmp_path, "--txt-record=empty.test,x") as server:
        why = r"no such name \(NXDOMAIN\)" if name == "gone.test" else "has no A record"
        with pytest.raises(DnsFailed, match=rf"{name}.*{why} says 127\.0\.0\.1:{server.port}"):
            await lookup(name, client(server.port)).find()


async def test_a_server_that_is_not_there_fails_at_once_and_the_next_is_asked(server: Dnsmasq) -> None:
    dead = free_port()
    began = time.monotonic()
    with pytest.raises(DnsFailed, match=rf"api\.test A: 127\.0\.0\.1:{dead}: Connection refused"):
        await lookup("api.test", client(dead)).find()
    server.say({"api.test": ["127.0.0.1"]})
    assert addresses(await lookup("api.test", client(dead, server.port)).find()) == ["127.0.0.1:80"]
    assert time.monotonic() - began < 1.5


async def test_a_silent_server_costs_a_bounded_time_and_the_next_is_asked(server: Dnsmasq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "A_TRY", 0.1)
    server.say({"api.test": ["127.0.0.1"]})
    with Silence() as silent:
        assert addresses(await lookup("api.test", client(silent.port, server.port)).find()) == ["127.0.0.1:80"]
        began = time.monotonic()
        with pytest.raises(DnsFailed, match=rf"127\.0\.0\.1:{silent.port}: no answer in time"):
            await lookup("api.test", client(silent.port)).find()
        assert time.monotonic() - began < 2


async def test_an_error_of_one_server_is_not_believed_while_another_answers(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.1"]})
    async with dns_peer(lambda question, is_tcp: [framed(answer(question, rcode=2), is_tcp)]) as broken:
        assert addresses(await lookup("api.test", client(broken.port, server.port)).find()) == ["127.0.0.1:80"]
        with pytest.raises(DnsFailed, match="SERVFAIL"):
            await lookup("api.test", client(broken.port)).find()


# -- for ever ---------------------------------------------------------------------------------


async def test_changed_records_are_found(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.1", "127.0.0.2"]})
    async with source(Backend("api.test", 80), asked=client(server.port)) as ear:
        await ear.until(lambda: ear.last == ["127.0.0.1:80", "127.0.0.2:80"])
        server.say({"api.test": ["127.0.0.2", "127.0.0.3"]})
        await ear.until(lambda: ear.last == ["127.0.0.2:80", "127.0.0.3:80"])
        assert not [found for _, found in ear.told if not found]


async def test_a_stopped_server_is_asked_again_until_it_is_back_and_nothing_is_lost_meanwhile(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.1"]})
    async with source(Backend("api.test", 80), asked=client(server.port)) as ear:
        await ear.until(lambda: ear.last == ["127.0.0.1:80"])
        server.stop()
        await ear.until(lambda: len(ear.failures) >= 5)
        assert {(entry, "Connection refused" in why) for entry, why in ear.failures} == {("api.test:80", True)}
        told = len(ear.told)
        server.write({"api.test": ["127.0.0.5"]})
        server.start()
        await ear.until(lambda: ear.last == ["127.0.0.5:80"])
        assert all(found for _, found in ear.told[told - 1 :])


async def test_a_name_that_goes_is_never_told_as_nothing(server: Dnsmasq) -> None:
    server.say({"api.test": ["127.0.0.1"]})
    async with source(Backend("api.test", 80), asked=client(server.port)) as ear:
        await ear.until(lambda: ear.told)
        server.say({})
        await ear.until(lambda: any("NXDOMAIN" in why for _, why in ear.failures))
        server.say({"api.test": ["127.0.0.2"]})
        await ear.until(lambda: ear.last == ["127.0.0.2:80"])
        assert all(found for _, found in ear.told)


async def test_a_server_that_hangs_holds_up_its_own_names_only(tmp_path: Path, server: Dnsmasq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "A_TRY", 0.2)
    server.say({"api.test": ["127.0.0.1"]})
    entries = [Backend(f"n{n}.test", 80) for n in range(100)]
    with Silence() as silent:
        async with source(*entries, asked=client(silent.port)) as hung, source(Backend("api.test"), asked=client(server.port)) as ear:
            await ear.until(lambda: len(ear.told) > 3 and len(hung.failures) > 3)
            assert not ear.failures
            server.signal(signal.SIGSTOP)
            await ear.until(lambda: any("no answer in time" in why for _, why in ear.failures))
            server.signal(signal.SIGCONT)
            told = len(ear.told)
            await ear.until(lambda: len(ear.told) > told)


async def test_addresses_beside_names_are_themselves_at_once(server: Dnsmasq) -> None:
    async with source(Backend("127.0.0.1", 81), Backend("gone.test"), asked=client(server.port)) as ear:
        await ear.until(lambda: ear.failures)
        assert ear.told == [("127.0.0.1:81", (Backend("127.0.0.1", 81),))]
