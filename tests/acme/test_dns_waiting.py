"""Waiting for a record, with real DNS servers: dnsmasq for a zone and its servers, pebble-challtestsrv for records that change."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.name
import dns.nameserver
import dns.resolver
import pytest

from pingap.stages.acme.dns.lookup import NameServer, TxtLookup
from pingap.stages.acme.dns.presenter import DnsPresenter, DnsTelling
from pingap.stages.acme.dns.waiting import BY_HAND, PROVIDED, Pace, wait_for
from pingap.stages.acme.presenter import Challenge, NotPresented
from pingap.stages.acme.wanted import DnsAccess
from tests.kit.dns_providers import FakeCloudflare
from tests.kit.dnsmasq import Dnsmasq, Silence
from tests.kit.pebble import ChallengeServer
from tests.kit.waiting import until

pytestmark = pytest.mark.processes

QUICK = Pace(bound=5.0, first=0.05, longest=0.1)
CHALLENGE = Challenge("dns-01", "example.com", "token", "token.thumb", "_acme-challenge.example.com", "the-value")


class ZoneOfTests(ChallengeServer):
    """Has whole sets of records put into it."""

    def put(self, name: str, values: list[str]) -> None:
        """The TXT records of a name are these from now on."""
        self.clear_txt(name)
        for value in values:
            self.add_txt(name, value)

    def point(self, name: str, target: str) -> None:
        """A CNAME."""
        self.say("set-cname", host=f"{name}.", target=f"{target}.")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZoneOfTests]:
    running = ZoneOfTests(tmp_path_factory.mktemp("dns"))
    with running:
        yield running


@pytest.fixture(autouse=True)
def no_records(server: ZoneOfTests) -> None:
    server.put("_acme-challenge.example.com", [])


def by_hand(server: ZoneOfTests, said: list[DnsTelling], pace: Pace = QUICK, halted: threading.Event | None = None) -> DnsPresenter:
    return DnsPresenter(DnsAccess(servers=(server.dns,)), said.append, halted, pace)


def test_a_record_set_by_hand_is_asked_for_and_waited_for(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    presenter = by_hand(server, said)
    server.put("_acme-challenge.example.com", ["another"])
    timer = threading.Timer(0.4, server.put, ("_acme-challenge.example.com", ["another", "the-value"]))
    timer.start()
    start = time.monotonic()
    presenter.present([CHALLENGE])
    assert 0.3 < time.monotonic() - start < 4
    presenter.remove(CHALLENGE)
    assert said == [
        ("set the DNS record _acme-challenge.example.com IN TXT the-value (beside others of that name); it is waited for", True),
        ("the DNS record _acme-challenge.example.com IN TXT the-value has arrived", False),
        ("the DNS record _acme-challenge.example.com IN TXT the-value may be removed", False),
    ]
    timer.join()


def test_all_records_of_an_order_are_asked_for_at_once_before_any_is_set(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    awaited: list[tuple[str, ...]] = []
    presenter = DnsPresenter(DnsAccess(servers=(server.dns,)), said.append, pace=QUICK, awaited=awaited.append)
    shown = [f"_acme-challenge.example.com IN TXT {value}" for value in ("the-value", "of-the-wildcard")]

    def set_both() -> None:
        until(lambda: bool(awaited), 5, "they are asked for")
        server.put(CHALLENGE.record, ["the-value", "of-the-wildcard"])

    setting = threading.Thread(target=set_both)
    setting.start()
    presenter.present([CHALLENGE, CHALLENGE._replace(value="of-the-wildcard")])
    setting.join()
    assert [one.text.split(" (")[0] for one in said[:2]] == [f"set the DNS record {one}" for one in shown]
    assert [one.text for one in said[2:]] == [f"the DNS record {one} has arrived" for one in shown]
    assert awaited == [tuple(shown), (shown[1],), ()]


def test_the_bound_is_for_all_records_of_an_order_together(server: ZoneOfTests) -> None:
    presenter = by_hand(server, [], QUICK._replace(bound=0.4))
    start = time.monotonic()
    server.put(CHALLENGE.record, ["the-value"])
    with pytest.raises(NotPresented, match="of-the-wildcard was not set"):
        presenter.present([CHALLENGE, CHALLENGE._replace(value="of-the-wildcard"), CHALLENGE._replace(value="third")])
    assert time.monotonic() - start < 4


def test_a_provider_has_all_records_before_the_first_is_waited_for(server: ZoneOfTests) -> None:
    """Whichever is waited for first is seen only when both are there: one after the other would wait for ever."""

    def both(name: str, values: list[str]) -> None:
        if len(values) == 2:
            server.put(name, values)

    said: list[DnsTelling] = []
    with FakeCloudflare("example.com", changed=both) as fake:
        access = DnsAccess(provider="cf", service_url=fake.url(), servers=(server.dns,))
        presenter = DnsPresenter(access, said.append, pace=QUICK)
        presenter.present([CHALLENGE, CHALLENGE._replace(value="of-the-wildcard")])
        presenter.close()
    assert said == []


def test_of_an_order_that_a_provider_refuses_only_what_was_begun_is_taken_out(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    others = [CHALLENGE._replace(domain=one, record=f"_acme-challenge.{one}") for one in ("elsewhere.net", "other.org")]
    with FakeCloudflare("example.com", changed=server.put) as fake:
        access = DnsAccess(provider="cf", service_url=fake.url(), servers=(server.dns,))
        presenter = DnsPresenter(access, said.append, pace=QUICK)
        with pytest.raises(NotPresented, match="no zone for _acme-challenge"):
            presenter.present([CHALLENGE, *others])
        for one in (*others, CHALLENGE):
            presenter.remove(one)
        presenter.close()
        assert fake.zones.records == []
    assert said == []


def test_a_record_that_nobody_sets_is_given_up(server: ZoneOfTests) -> None:
    presenter = by_hand(server, [], QUICK._replace(bound=0.3))
    with pytest.raises(NotPresented) as caught:
        presenter.present([CHALLENGE])
    assert "was not set" in str(caught.value)
    assert f"the record is not seen at {server.dns}" in str(caught.value)


def test_waiting_by_hand_ends_at_once_when_it_is_called_off(server: ZoneOfTests) -> None:
    halted = threading.Event()
    presenter = by_hand(server, [], BY_HAND, halted)
    threading.Timer(0.2, halted.set).start()
    start = time.monotonic()
    with pytest.raises(NotPresented, match="given up"):
        presenter.present([CHALLENGE])
    assert time.monotonic() - start < 5


def test_the_record_to_set_is_the_one_that_a_cname_leads_to(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    server.point("_acme-challenge.delegated.com", "one.other.net")
    server.point("one.other.net", "two.other.net")
    server.put("two.other.net", ["the-value"])
    presenter = by_hand(server, said)
    presenter.present([CHALLENGE._replace(domain="delegated.com", record="_acme-challenge.delegated.com")])
    assert [one.text for one in said[:1]] == [
        "set the DNS record two.other.net IN TXT the-value (beside others of that name; _acme-challenge.delegated.com is a CNAME of it); "
        "it is waited for"
    ]


def test_cnames_in_a_circle_end(server: ZoneOfTests) -> None:
    server.point("a.circle.net", "b.circle.net")
    server.point("b.circle.net", "a.circle.net")
    assert TxtLookup([server.dns]).end_of("a.circle.net") == "b.circle.net"


def test_a_provider_that_is_slow_is_waited_for(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    timers: list[threading.Timer] = []

    def later(name: str, values: list[str]) -> None:
        timers.append(threading.Timer(0.4, server.put, (name, values)))
        timers[-1].start()

    with FakeCloudflare("example.com", changed=later) as fake:
        access = DnsAccess(provider="cf", service_url=fake.url(), servers=(server.dns,))
        presenter = DnsPresenter(access, said.append, pace=QUICK)
        presenter.present([CHALLENGE])
        lookup = TxtLookup([server.dns])
        (asked,) = lookup.servers_of("_acme-challenge.example.com")
        assert lookup.has(asked, "_acme-challenge.example.com", "the-value")
        assert said == []
        presenter.remove(CHALLENGE)
        presenter.close()
    for timer in timers:
        timer.join()


def test_after_the_bound_the_authority_is_asked_all_the_same(server: ZoneOfTests) -> None:
    said: list[DnsTelling] = []
    with FakeCloudflare("example.com") as fake:
        access = DnsAccess(provider="cf", service_url=fake.url(), servers=(server.dns,))
        DnsPresenter(access, said.append, pace=QUICK._replace(bound=0.3)).present([CHALLENGE])
    (line,) = said
    assert line == DnsTelling(
        f"_acme-challenge.example.com: after 0.3 s the record is not seen at {server.dns}; the authority is asked all the same", True
    )


def test_a_delegated_name_is_written_into_the_zone_of_its_target(server: ZoneOfTests) -> None:
    server.point("_acme-challenge.delegated.org", "x.example.com")
    with FakeCloudflare("example.com", changed=server.put) as fake:
        access = DnsAccess(provider="cf", service_url=fake.url(), servers=(server.dns,))
        presenter = DnsPresenter(access, print, pace=QUICK)
        wanted = CHALLENGE._replace(domain="delegated.org", record="_acme-challenge.delegated.org")
        presenter.present([wanted])
        assert fake.zones.values("x.example.com") == ["the-value"]
        presenter.remove(wanted)
        assert fake.zones.records == []


def wire(*names: str) -> str:
    return "".join((dns.name.from_text(name).to_wire() or b"").hex() for name in names)


@contextlib.contextmanager
def zone(root: Path, *values: str) -> Iterator[Dnsmasq]:
    """A server of the zone example.test and, to ask for it, of the names of its servers: 127.0.0.1, and one nobody is at."""
    soa = f"--dns-rr=example.test,6,{wire('ns1.test.', 'root.test.')}{'00000001' * 5}"
    options = [soa, f"--dns-rr=example.test,2,{wire('ns1.test.')}", "--local=/example.test/"]
    options += [f"--txt-record=_acme-challenge.example.test,{value}" for value in values]
    with Dnsmasq(root, *options, records={"ns1.test": ["127.0.0.1"]}) as running:
        yield running


def resolving(monkeypatch: pytest.MonkeyPatch, server: Dnsmasq) -> TxtLookup:
    """As if the system's resolver were that server, and servers of zones had its port."""

    def made(_: TxtLookup) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver("127.0.0.1", server.port)]
        resolver.lifetime = 5
        return resolver

    monkeypatch.setattr(TxtLookup, "_resolver", made)
    return TxtLookup((), port=server.port)


def test_the_servers_of_the_zone_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zone(tmp_path, "one", "the-value") as running:
        lookup = resolving(monkeypatch, running)
        (asked,) = lookup.servers_of("_acme-challenge.example.test", "example.test")
        assert asked == NameServer("127.0.0.1", running.port)
        assert lookup.servers_of("_acme-challenge.example.test") == [asked]  # of a record set by hand the zone is looked up
        assert lookup.has(asked, "_acme-challenge.example.test", "the-value") is True
        assert lookup.has(asked, "_acme-challenge.example.test", "value") is False
        assert lookup.has(asked, "_acme-challenge.other.test", "the-value") is False
        running.stop()
        monkeypatch.setattr("pingap.stages.acme.dns.lookup.SECONDS", 0.3)
        assert lookup.has(asked, "_acme-challenge.example.test", "the-value") is None
        assert lookup.servers_of("_acme-challenge.example.test", "example.test") == []


def test_a_server_that_refuses_gives_no_answer_of_use(tmp_path: Path) -> None:
    with zone(tmp_path) as running:
        asked = NameServer("127.0.0.1", running.port)
        assert TxtLookup(()).has(asked, "_acme-challenge.example.com", "v") is None


def test_nobody_who_serves_the_zone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(_: TxtLookup) -> dns.resolver.Resolver:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(TxtLookup, "_resolver", raises)
    presenter = DnsPresenter(DnsAccess(), print, pace=QUICK._replace(bound=0.2))
    with pytest.raises(NotPresented, match="it is not known who serves the zone"):
        presenter.present([CHALLENGE])


def test_a_long_value_in_parts_is_one_value(tmp_path: Path) -> None:
    with zone(tmp_path, f"{'a' * 200},{'b' * 100}") as running:
        asked = NameServer("127.0.0.1", running.port)
        assert TxtLookup(()).has(asked, "_acme-challenge.example.test", "a" * 200 + "b" * 100) is True


# -- the waiting by itself ------------------------------------------------------------------

ONE, TWO = NameServer("192.0.2.1", 53), NameServer("2001:db8::1", 53)


def test_all_servers_must_have_it() -> None:
    rounds = {ONE: iter([True]), TWO: iter([False, False, True])}
    outcome = wait_for(lambda: [ONE, TWO], lambda server: next(rounds[server]), QUICK, threading.Event())
    assert outcome.is_seen
    assert list(rounds[TWO]) == []


def test_a_server_that_is_never_reached_holds_up_nobody() -> None:
    asked: list[NameServer] = []

    def has(server: NameServer) -> bool | None:
        asked.append(server)
        return True if server == ONE else None

    assert wait_for(lambda: [ONE, TWO], has, QUICK, threading.Event()).is_seen
    assert asked.count(TWO) == 2


def test_where_none_is_reached_nothing_is_seen() -> None:
    outcome = wait_for(lambda: [ONE, TWO], lambda server: None, QUICK._replace(bound=0.3), threading.Event())
    assert outcome == (False, (ONE, TWO))


def test_a_silent_server_ends_with_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.acme.dns.lookup.SECONDS", 0.1)
    with Silence() as silence:
        lookup = TxtLookup([f"127.0.0.1:{silence.port}"])
        outcome = wait_for(
            lambda: lookup.servers_of("a"), lambda one: lookup.has(one, "a", "v"), QUICK._replace(bound=0.3), threading.Event()
        )
        assert not outcome.is_seen
        assert lookup.end_of("example.com") == "example.com"


@pytest.mark.parametrize(("pace", "least", "most"), [(PROVIDED, 8, 20), (BY_HAND, 1440, 1450)])
def test_it_is_looked_ever_less_often(pace: Pace, least: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is one of our own: each wait takes as long as it says."""
    now = 0.0
    waits: list[float] = []

    class Halted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now
            assert timeout is not None
            waits.append(timeout)
            now += timeout
            return False

    monkeypatch.setattr("pingap.stages.acme.dns.waiting.time.monotonic", lambda: now)
    assert not wait_for(lambda: [ONE], lambda server: False, pace, Halted()).is_seen
    assert now == pace.bound
    assert waits[0] == pace.first
    assert max(waits) == pace.longest
    assert least <= len(waits) <= most


def test_addresses_of_resolvers_may_be_of_either_kind() -> None:
    assert TxtLookup(["10.0.0.53:53", "[2001:db8::53]:5353"]).servers_of("x") == [
        NameServer("10.0.0.53", 53),
        NameServer("2001:db8::53", 5353),
    ]
    assert str(TWO) == "[2001:db8::1]:53"
