"""Records by the interfaces of DNS providers, of doubles that judge signatures as the real ones do (tests/kit/dns_providers.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from pingap.stages.acme.dns import calls
from pingap.stages.acme.dns.lookup import NameServer, TxtLookup
from pingap.stages.acme.dns.presenter import DnsPresenter
from pingap.stages.acme.presenter import Challenge, NotPresented
from pingap.stages.acme.wanted import DnsAccess
from tests.acme.responders import misbehaving
from tests.kit.dns_providers import FAKES, KEY_ID, SECRET, TOKEN, FakeHuawei, FakeProvider, TxtRecord, answered, hung


class KnownDns(TxtLookup):
    """A DNS that has what the provider has, at once. names: CNAMEs."""

    def __init__(self, fake: FakeProvider | None = None, **names: str) -> None:
        super().__init__(())
        self._fake = fake
        self._names = names

    def end_of(self, name: str) -> str:
        return self._names.get(name, name)

    def servers_of(self, name: str, zone: str = "") -> list[NameServer]:
        return [NameServer("192.0.2.1", 53)]

    def has(self, server: NameServer, name: str, value: str) -> bool | None:
        return self._fake is None or value in self._fake.zones.values(name)


class Desk:
    """A presenter, and what it said."""

    def __init__(self, fake: FakeProvider, lookup: TxtLookup | None = None, url: str = "", halted: threading.Event | None = None) -> None:
        self.said: list[str] = []
        access = DnsAccess(provider=fake.kind, service_url=url or fake.url())  # type: ignore[arg-type]  # of a parametrized test
        self.presenter = DnsPresenter(access, lambda telling: self.said.append(telling.text), halted, lookup=lookup or KnownDns(fake))

    def refused(self, challenge: Challenge) -> str:
        with pytest.raises(NotPresented) as caught:
            self.presenter.present([challenge])
        return str(caught.value)


def challenge(domain: str, value: str = "v-1") -> Challenge:
    return Challenge("dns-01", domain, "token", "token.thumb", f"_acme-challenge.{domain}", value)


@pytest.fixture(params=sorted(FAKES))
def fake(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    with FAKES[request.param]("example.com", "example.co.uk") as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "WAITS", (0.01, 0.02))


def test_a_record_comes_and_goes(fake: FakeProvider) -> None:
    desk = Desk(fake)
    desk.presenter.present([challenge("example.com")])
    assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]
    desk.presenter.remove(challenge("example.com"))
    assert fake.zones.records == []
    assert desk.said == []


def test_a_name_and_its_wildcard_have_two_values_under_one_name(fake: FakeProvider) -> None:
    desk = Desk(fake)
    one, other = challenge("example.com", "of-the-name"), challenge("example.com", "of-the-wildcard")
    fake.zones.records.append(TxtRecord("99", "_acme-challenge.example.com", ["somebody's"]))
    desk.presenter.present([one])
    desk.presenter.present([other])
    assert fake.zones.values("_acme-challenge.example.com") == ["of-the-name", "of-the-wildcard", "somebody's"]
    desk.presenter.remove(one)
    assert fake.zones.values("_acme-challenge.example.com") == ["of-the-wildcard", "somebody's"]
    desk.presenter.remove(other)
    assert fake.zones.values("_acme-challenge.example.com") == ["somebody's"]


@pytest.mark.parametrize(
    ("domain", "zones", "zone"),
    [
        ("example.co.uk", ["uk.com", "example.co.uk"], "example.co.uk"),
        ("a.b.example.com", ["example.com"], "example.com"),
        ("a.b.example.com", ["b.example.com", "example.com"], "b.example.com"),
        ("a.b.example.com", ["example.com", "_acme-challenge.a.b.example.com"], "_acme-challenge.a.b.example.com"),
    ],
)
def test_the_zone_is_the_longest_that_the_provider_has(fake: FakeProvider, domain: str, zones: list[str], zone: str) -> None:
    fake.zones.names[:] = zones
    desk = Desk(fake)
    desk.presenter.present([challenge(domain)])
    assert fake.zones.values(f"_acme-challenge.{domain}") == ["v-1"]
    last = fake.asked[-1]
    told = f"{last.path}?{last.query} {last.body.decode()}"
    if fake.kind in ("ali", "tencent"):
        assert f'"Domain": "{zone}"' in told or f"DomainName={zone}" in told
    else:
        index = zones.index(zone)
        assert (f"/zones/z{index}/" if fake.kind == "cf" else f"/zones/{index:032}/") in told
    desk.presenter.remove(challenge(domain))
    assert fake.zones.records == []


def test_a_zone_that_nobody_has_is_told(fake: FakeProvider) -> None:
    said = Desk(fake).refused(challenge("www.example.net"))
    assert said == f"{fake.kind}: the account has no zone for _acme-challenge.www.example.net"


def test_what_is_there_already_is_no_error_and_is_not_added_again(fake: FakeProvider) -> None:
    Desk(fake).presenter.present([challenge("example.com")])
    count = len(fake.asked)
    Desk(fake).presenter.present([challenge("example.com")])
    assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]
    assert all("Add" not in one.query and one.headers.get("x-tc-action") != "CreateRecord" for one in fake.asked[count:])


def test_what_one_before_us_left_behind_is_taken_out(fake: FakeProvider) -> None:
    """It was killed: the id of its record is known to nobody."""
    Desk(fake).presenter.present([challenge("example.com")])
    Desk(fake).presenter.present([challenge("example.com", "of-another")])
    after = Desk(fake)
    after.presenter.remove(challenge("example.com"))
    assert fake.zones.values("_acme-challenge.example.com") == ["of-another"]
    after.presenter.remove(challenge("example.com"))
    assert after.said == []


def test_a_record_that_is_gone_is_no_trouble(fake: FakeProvider) -> None:
    desk = Desk(fake)
    desk.presenter.present([challenge("example.com")])
    fake.zones.records.clear()
    desk.presenter.remove(challenge("example.com"))
    assert desk.said == []


def test_an_added_record_whose_answer_was_lost_is_found_by_the_next_attempt(fake: FakeProvider) -> None:
    """The interface has set it, then its gateway fails; the repeated call says that it is there."""
    desk = Desk(fake)
    real = fake.judge
    was_lost = False

    def loses(asked):  # type: ignore[no-untyped-def]
        nonlocal was_lost
        before = len(fake.zones.values("_acme-challenge.example.com"))
        reply = real(asked)
        if not was_lost and len(fake.zones.values("_acme-challenge.example.com")) > before:
            was_lost = True
            return 502, b"<html>Bad Gateway</html>"
        return reply

    fake.judge = loses  # type: ignore[method-assign]
    desk.presenter.present([challenge("example.com")])
    assert was_lost
    assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]
    desk.presenter.remove(challenge("example.com"))
    assert fake.zones.records == []


WRONG = {"cf": {"token": "tok-wr0ng"}}
PAIR = {"access_key_secret": "wr0ng+secret"}


def test_a_wrong_key_is_told_without_any_key(fake: FakeProvider) -> None:
    keys = WRONG.get(fake.kind, PAIR)
    said = Desk(fake, url=fake.url(**keys)).refused(challenge("example.com"))
    assert said.startswith(f"{fake.kind}: ")
    assert any(code in said for code in ("SignatureDoesNotMatch", "10000", "AuthFailure.SignatureFailure", "APIGW.0301"))
    assert "may" in said and "DNS" in said
    assert not any(secret in said for secret in (KEY_ID, SECRET, TOKEN, "wr0ng"))
    assert len(fake.asked) == 1


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_a_wrong_clock_is_told(fake: FakeProvider, ahead: float) -> None:
    if fake.kind == "cf":
        pytest.skip("requests to cf are not signed, so that no clock is in them")
    fake.ahead = ahead
    assert "is the clock of this machine right?" in Desk(fake).refused(challenge("example.com"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_interface_is_asked_again(fake: FakeProvider, status: int) -> None:
    fake.upsets += [answered(status), answered(status)]
    Desk(fake).presenter.present([challenge("example.com")])
    assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]


def test_an_interface_that_stays_busy_is_given_up(fake: FakeProvider) -> None:
    fake.upsets += [answered(503, b"<html>", Content_Type="text/html")] * 9
    said = Desk(fake).refused(challenge("example.com"))
    assert len(fake.asked) == 3
    assert "503: the answer is no JSON, but 6 bytes of text/html" in said


THROTTLED = {
    "ali": b'{"Code": "Throttling.User", "Message": "Request was denied due to user flow control."}',
    "tencent": b'{"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "slow down"}, "RequestId": "1"}}',
}


@pytest.mark.parametrize("kind", sorted(THROTTLED))
def test_a_limit_that_is_told_without_a_status_is_one(kind: str) -> None:
    with FAKES[kind]("example.com") as fake:
        fake.upsets += [answered(400 if kind == "ali" else 200, THROTTLED[kind])]
        Desk(fake).presenter.present([challenge("example.com")])
        assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]


def test_who_asks_for_a_long_rest_is_left_alone(fake: FakeProvider) -> None:
    fake.upsets += [answered(429, Retry_After="600")]
    assert "it asks to be left alone for 600 s" in Desk(fake).refused(challenge("example.com"))
    assert len(fake.asked) == 1


def test_an_answer_in_html_is_told_as_such(fake: FakeProvider) -> None:
    fake.upsets += [answered(200, b"<html>Welcome to the proxy</html>", Content_Type="text/html; charset=utf-8")]
    said = Desk(fake).refused(challenge("example.com"))
    assert "the answer is no JSON, but 33 bytes of text/html (is that the address of the interface?)" in said


@pytest.mark.parametrize("content", [b"[]", b"null", b'{"success": true}', b'{"Response": null}', b'{"zones": 7, "Domains": []}', b"\xff"])
def test_odd_answers_are_no_crash(fake: FakeProvider, content: bytes) -> None:
    fake.upsets += [answered(200, content)] * 12
    said = Desk(fake).refused(challenge("example.com"))
    assert said.startswith(f"{fake.kind}: ")


def test_a_redirect_is_not_followed(fake: FakeProvider) -> None:
    fake.upsets += [answered(302, b"", Location=f"http://{fake.host}/elsewhere", Content_Type="text/plain")]
    assert "302: the answer is no JSON" in Desk(fake).refused(challenge("example.com"))
    assert len(fake.asked) == 1


def test_an_interface_that_hangs_is_left(fake: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SECONDS", 0.2)
    released = threading.Event()
    fake.upsets += [hung(released)] * 3
    try:
        assert Desk(fake).refused(challenge("example.com")) == f"{fake.kind}: no answer within 0.2 s"
        assert len(fake.asked) == 3
    finally:
        released.set()


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX:"])
def test_an_interface_that_answers_byte_by_byte_is_left(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SECONDS", 0.2)
    end = threading.Event()

    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        while not end.wait(0.05):
            handler.wfile.write(b" ")

    begun = time.monotonic()
    with FAKES["cf"]() as fake, misbehaving(drips) as url:
        try:
            said = Desk(fake, url=f"{url}/?token={TOKEN}").refused(challenge("example.com"))
        finally:
            end.set()
    assert said == "cf: no answer within 0.2 s" and time.monotonic() - begun < 8


def test_an_answer_that_is_too_large_is_not_read(fake: FakeProvider) -> None:
    fake.upsets += [answered(200, b'{"x": "%s"}' % (b"x" * (5 << 20)))] * 3
    assert Desk(fake).refused(challenge("example.com")) == f"{fake.kind}: cannot be reached, or hangs up"


def test_an_interface_that_is_not_there_is_told_without_the_url(fake: FakeProvider) -> None:
    fake.__exit__()
    said = Desk(fake).refused(challenge("example.com"))
    assert said == f"{fake.kind}: cannot be reached: Connection refused"
    fake._thread = threading.Thread()
    fake._thread.start()


def test_whoever_stops_waits_for_no_repeat(fake: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "WAITS", (25.0,))
    halted = threading.Event()
    halted.set()
    fake.upsets += [answered(503)]
    assert "given up" in Desk(fake, halted=halted).refused(challenge("example.com"))


def test_a_delegated_name_is_written_where_its_cname_leads(fake: FakeProvider) -> None:
    desk = Desk(fake, KnownDns(fake, **{"_acme-challenge.elsewhere.net": "x.proofs.example.com"}))
    desk.presenter.present([challenge("elsewhere.net")])
    assert fake.zones.values("x.proofs.example.com") == ["v-1"]
    desk.presenter.remove(challenge("elsewhere.net"))
    assert fake.zones.records == []


def test_a_wildcard_cname_to_somebody_elses_zone_is_stepped_aside(fake: FakeProvider) -> None:
    desk = Desk(fake, KnownDns(fake, **{"_acme-challenge.www.example.com": "lb.cloud.invalid"}))
    desk.presenter.present([challenge("www.example.com")])
    assert fake.zones.values("_acme-challenge.www.example.com") == ["v-1"]


def test_a_record_that_cannot_be_taken_out_is_told(fake: FakeProvider) -> None:
    desk = Desk(fake)
    desk.presenter.present([challenge("example.com")])
    fake.upsets += [answered(500)] * 9
    desk.presenter.remove(challenge("example.com"))
    assert len(desk.said) == 1
    assert desk.said[0].startswith(f"the DNS record _acme-challenge.example.com IN TXT v-1 is left behind: {fake.kind}: zone example.com: ")


def test_values_that_another_overwrites_are_written_again() -> None:
    with FakeHuawei("example.com") as fake:
        assert isinstance(fake, FakeHuawei)
        fake.overwrites = 2
        Desk(fake).presenter.present([challenge("example.com")])
        assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]


def test_many_at_once_lose_no_value(fake: FakeProvider) -> None:
    values = [f"v-{number}" for number in range(8)]
    desks = [Desk(fake) for _ in values]
    failed: list[BaseException] = []

    def work(desk: Desk, value: str) -> None:
        try:
            desk.presenter.present([challenge("example.com", value)])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(desks, values, strict=True)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert failed == []
    assert fake.zones.values("_acme-challenge.example.com") == values
    for desk, value in zip(desks, values, strict=True):
        desk.presenter.remove(challenge("example.com", value))
    assert fake.zones.records == []


def test_keys_of_a_netrc_take_no_signatures_place(fake: FakeProvider, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    Desk(fake).presenter.present([challenge("example.com")])
    assert fake.zones.values("_acme-challenge.example.com") == ["v-1"]
