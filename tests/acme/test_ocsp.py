"""OCSP responses for staples: what OpenSSL's responder says, and what others say that are not to be believed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as x509_ocsp

from pingap.stages.acme.ocsp import fetching
from pingap.stages.acme.ocsp.answer import BadOcspAnswer, believed
from pingap.stages.acme.ocsp.core import AT_ONCE, EARLY, FIRST_PAUSE, LONGEST_PAUSE, LOST, SOONEST, OcspCore
from pingap.stages.acme.ocsp.fetching import OcspUnreachable, ask
from pingap.stages.acme.ocsp.question import ocsp_question
from tests.acme.responders import OcspAuthority, misbehaving, says

DAY = 86400.0
NAMED = "http://responder.example"
"""In the certificates: a responder of OpenSSL has to be told of them before it has a port."""


@pytest.fixture
def authority(tmp_path: Path) -> OcspAuthority:
    return OcspAuthority(tmp_path / "authority")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def asked(core: OcspCore, now: float, responder: str) -> list[tuple[str, str]]:
    """Asks all that is due, as the actor does: (level, what is told)."""
    told = []
    for question, url in list(core.due(now)):
        try:
            der = ask(url.replace(NAMED, responder), question.request)
        except OcspUnreachable as error:
            tellings = core.failed(question.leaf, str(error), now)
        else:
            tellings = core.answered(question.leaf, der, now)
        told += [(one.level, " ".join([one.message, *(str(value) for value in one.fields.values())])) for one in tellings]
    return told


def serving(*chains: str, now: float = 0.0) -> OcspCore:
    core = OcspCore()
    assert core.serve({f"c{number}": chain for number, chain in enumerate(chains)}, now) == ()
    return core


# -- OpenSSL's responder ----------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize("signer", ["ca", "delegate"])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_good_one_is_stapled_and_asked_about_again_in_the_middle_of_its_time(tmp_path: Path, signer: str, kind: str) -> None:
    authority = OcspAuthority(tmp_path / "authority", key=rsa.generate_private_key(65537, 2048) if kind == "rsa" else None)
    authority.signer("delegate")
    cert, chain, _ = authority.issue(NAMED)
    now = time.time()
    core = serving(chain)
    with authority.openssl(cert, signer=signer, more=("-nmin", "1200")) as url:
        told = asked(core, now, url)
        assert told == [("info", "OCSP response got: clients get it with the certificate c0")]
        (leaf,) = core.staples(now)
        assert core.staples(now)[leaf].startswith(b"\x30\x82")
        assert 0 <= now - core.stapled_since(now)["c0"] < 20 and core.stapled_since(now + DAY) == {}
        assert not list(core.due(now)) and core.revoked() == {}
        again = core.next_at(now)
        assert again is not None and 1200 * 60 * 0.39 < again - now < 1200 * 60 * 0.61
        assert not list(core.due(again - 1))
        assert asked(core, again, url) == [], "what goes on as before is no news"
    assert core.staples(now + 1200 * 60 - EARLY - 5)
    assert core.staples(now + 1200 * 60 - EARLY + 5) == {}, "what is about to end is not given any more"


@pytest.mark.processes
def test_one_that_was_revoked_is_told_loudly_and_what_was_stapled_is_taken_back(authority: OcspAuthority) -> None:
    cert, chain, _ = authority.issue(NAMED)
    now = time.time()
    core = serving(chain)
    with authority.openssl(cert) as url:
        asked(core, now, url)
    assert core.staples(now)
    again = core.next_at(now)
    assert again is not None
    with authority.openssl(cert, revoked=True) as url:
        told = asked(core, again, url)
    assert [level for level, _ in told] == ["error"]
    assert "revoked" in told[0][1] and "2026-01-01 00:00 UTC (keyCompromise)" in told[0][1]
    assert core.staples(again) == {} and list(core.revoked().values()) == [("c0",)]


@pytest.mark.processes
def test_another_life_goes_on_with_what_is_still_to_be_believed(authority: OcspAuthority) -> None:
    cert, chain, _ = authority.issue(NAMED, must_staple=True)
    now = time.time()
    core = serving(chain)
    with authority.openssl(cert) as url:
        asked(core, now, url)
    staples = core.staples(now)
    assert staples
    for kept, when, is_good in (
        (staples, now + 60, True),
        (staples, now + 3 * DAY, False),
        (dict.fromkeys(staples, b"x"), now, False),
        (dict.fromkeys(["another"], *staples.values()), now, False),
    ):
        again = OcspCore()
        again.recall(kept)
        assert again.serve({"c0": chain}, when) == ()
        assert (again.staples(when) == staples) is is_good
        assert bool(list(again.due(when))) is not is_good, "what is good is asked about in the middle of its time"
    again = OcspCore()
    again.recall(staples)
    again.serve({"c0": chain}, now)
    again.serve({}, now)
    again.serve({"c0": chain}, now)
    assert again.staples(now) == {}, "it is recalled once: what was heard since is newer"


@pytest.mark.processes
def test_one_that_the_responder_does_not_know_gets_no_staple(authority: OcspAuthority) -> None:
    _, chain, _ = authority.issue(NAMED)
    core = serving(chain)
    now = time.time()
    with authority.openssl() as url:
        assert [level for level, text in asked(core, now, url) if "does not know the certificate" in text] == ["warn"]
    assert core.staples(now) == {}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("signer", "reason"),
    [("stranger", "nobody that it names|not named by the issuer"), ("other", "may not"), ("old", "out of its time")],
)
def test_an_answer_of_who_may_not_give_it_is_not_taken(authority: OcspAuthority, tmp_path: Path, signer: str, reason: str) -> None:
    authority.signer("other", may=False)
    authority.signer("old", days=-0.5)
    other = OcspAuthority(tmp_path / "stranger", "stranger")
    for kind in ("pem", "key"):
        (authority.root / f"stranger.{kind}").write_text((other.root / f"ca.{kind}").read_text())
    cert, chain, _ = authority.issue(NAMED)
    core = serving(chain)
    with authority.openssl(cert, signer=signer) as url:
        ((level, text),) = asked(core, time.time(), url)
    assert level == "warn" and any(part in text for part in reason.split("|")), text
    assert core.staples(time.time()) == {}


@pytest.mark.processes
def test_an_answer_that_was_changed_or_is_about_another_or_of_another_time_is_not_taken(authority: OcspAuthority) -> None:
    one, chain, _ = authority.issue(NAMED)
    other, other_chain, _ = authority.issue(NAMED, name="b.example")
    now = time.time()
    core = serving(chain, other_chain)
    (first, _), (second, _) = core.due(now)
    with authority.openssl(one, other) as url:
        der = ask(url, first.request)
        of_other = ask(url, second.request)
    broken = bytearray(der)
    broken[der.index(one.serial_number.to_bytes(20, "big").lstrip(b"\0")) + 40] ^= 1
    for answer, at, reason in (
        (bytes(broken), now, "signed|cannot be read"),
        (of_other, now, "about another certificate"),
        (der, now + 2 * DAY + 1, "it has ended on"),
        (der, now - DAY, "yet to come"),
        (der[:-10], now, "cannot be read"),
        (b"", now, "cannot be read"),
        (b"<html>", now, "cannot be read"),
    ):
        fresh = serving(chain, now=at)
        list(fresh.due(at))
        (telling,) = fresh.answered(first.leaf, answer, at)
        assert telling.level == "warn" and any(part in telling.fields["reason"] for part in reason.split("|")), telling
        assert fresh.staples(at) == {}
    assert core.answered(first.leaf, der, now)[0].level == "info"
    assert set(core.staples(now)) == {first.leaf}


def test_an_answer_names_its_issuer_by_any_hash_and_no_other_issuer(tmp_path: Path) -> None:
    authority, other = (OcspAuthority(tmp_path / name, name) for name in ("one", "other"))
    cert, chain, _ = authority.issue(NAMED)
    now = time.time()
    begun = datetime.now(UTC) - timedelta(minutes=1)
    for issuer, is_ours in ((authority, True), (other, False)):
        builder = x509_ocsp.OCSPResponseBuilder().responder_id(x509_ocsp.OCSPResponderEncoding.NAME, authority.cert)
        good = x509_ocsp.OCSPCertStatus.GOOD
        builder = builder.add_response(cert, issuer.cert, hashes.SHA256(), good, begun, begun + timedelta(days=2), None, None)
        der = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
        if is_ours:
            assert believed(ocsp_question(("c0",), chain), der, now).status == "good"
        else:
            with pytest.raises(BadOcspAnswer, match="about another certificate"):
                believed(ocsp_question(("c0",), chain), der, now)


# -- responders that misbehave ------------------------------------------------------------------------


def test_one_that_hangs_costs_its_time_and_no_more(authority: OcspAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", 0.5)
    end = Event()

    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not end.wait(0.05):
            handler.wfile.write(b"x")

    def says_nothing(_: BaseHTTPRequestHandler) -> None:
        end.wait(30)

    for hangs in (says_nothing, drips):
        with misbehaving(hangs) as url:
            begun = time.monotonic()
            with pytest.raises(OcspUnreachable, match=r"within 0\.5 s|timed out"):
                ask(url, b"request")
            assert time.monotonic() - begun < 5
    end.set()


def test_one_that_sends_too_much_cuts_short_or_says_no(authority: OcspAuthority) -> None:
    def cuts(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")

    for answer, reason in (
        (lambda handler: says(handler, 200, bytes(1 << 20)), "more than 64 KiB"),
        (lambda handler: says(handler, 503), "status 503"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), "SSH"),
        (lambda handler: None, "closed|disconnected|without"),
        (cuts, "bytes read"),
        (lambda handler: says(handler, 302, location="file:///etc/passwd"), "not http"),
        (lambda handler: says(handler, 302, location="/again"), "more than 3 times"),
    ):
        with misbehaving(answer) as url, pytest.raises(OcspUnreachable) as caught:
            ask(url, b"request")
        assert any(part in str(caught.value) for part in reason.split("|")), str(caught.value)
    with pytest.raises(OcspUnreachable, match="refused"):
        ask("http://127.0.0.1:1/", b"request")
    with pytest.raises(OcspUnreachable):
        ask("ftp://127.0.0.1/", b"request")


def test_a_redirect_is_followed_and_who_takes_no_get_is_asked_by_post() -> None:
    def picky(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            says(handler, 405)
        elif handler.path == "/":
            says(handler, 307, location="/moved")
        else:
            says(handler, 200, f"{handler.command} {handler.path} {handler.headers['content-type']}".encode())

    with misbehaving(picky) as url:
        assert ask(url + "/", b"request") == b"POST /moved application/ocsp-request"
        assert ask(url + "/", b"r" * 300) == b"POST /moved application/ocsp-request"


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with misbehaving(lambda handler: says(handler, 200, handler.path.encode())) as url:
        monkeypatch.setenv("http_proxy", url)
        assert ask("http://nowhere.invalid/ocsp", b"r") == b"http://nowhere.invalid/ocsp/cg%3D%3D"


# -- when -----------------------------------------------------------------------------------------------


def test_failures_are_told_once_and_pauses_grow(authority: OcspAuthority) -> None:
    _, chain, _ = authority.issue("http://a.invalid")
    now = 1_800_000_000.0
    core = serving(chain, now=now)
    tellings, pauses, urls = [], [], []
    for _ in range(12):
        ((question, url),) = core.due(now)
        urls.append(url)
        assert not list(core.due(now)), "it is under way"
        tellings.append(core.failed(question.leaf, "nobody there", now))
        again = core.next_at(now)
        assert again is not None
        pauses.append(again - now)
        now = again
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE] and pauses[-1] == LONGEST_PAUSE
    assert [len(each) for each in tellings] == [1, *[0] * 8, 1, 0, 0]
    assert tellings[0][0].fields == {"certificates": "c0", "reason": "nobody there", "again_in": "60s"}


def test_a_question_that_is_lost_is_asked_again_and_only_some_are_under_way(authority: OcspAuthority) -> None:
    chains = [authority.issue(NAMED)[1] for _ in range(AT_ONCE + 2)]
    now = 1_800_000_000.0
    core = serving(*chains, now=now)
    first = {question.leaf for question, _ in core.due(now)}
    assert len(first) == AT_ONCE and not list(core.due(now))
    core.failed(next(iter(first)), "x", now)
    assert len(list(core.due(now))) == 1
    assert len(list(core.due(now + LOST))) == AT_ONCE


def test_who_names_nobody_or_is_not_known_by_its_issuer_is_let_be_and_one_that_demands_it_is_told_of(authority: OcspAuthority) -> None:
    own = authority.issue(NAMED)[1]
    alone = own[: own.index("-----END CERTIFICATE-----") + 26]
    quiet = {"none": authority.issue("")[1], "alone": alone, "ldap": authority.issue("ldap://x/")[1]}
    core = OcspCore()
    assert core.serve(quiet, 0.0) == () and list(core.due(0.0)) == [] and core.next_at(0.0) is None
    loud = {"none": authority.issue("", must_staple=True)[1]}
    (telling,) = core.serve(loud, 0.0)
    assert telling.level == "warn" and "demands OCSP stapling" in telling.message and telling.fields["certificates"] == "none"
    assert core.serve(loud, 1.0) == (), "once"


def test_one_that_demands_it_and_has_none_is_an_error_told_once(authority: OcspAuthority) -> None:
    _, chain, _ = authority.issue(NAMED, must_staple=True)
    core = serving(chain, now=0.0)
    ((question, _),) = core.due(0.0)
    (telling,) = core.failed(question.leaf, "nobody there", 0.0)
    assert telling.level == "error" and "demands OCSP stapling" in telling.message
    list(core.due(FIRST_PAUSE))
    assert core.failed(question.leaf, "nobody there", FIRST_PAUSE) == ()


@pytest.mark.processes
def test_what_is_served_no_more_is_forgotten_and_what_still_is_stays(authority: OcspAuthority) -> None:
    cert, chain, _ = authority.issue(NAMED)
    now = time.time()
    core = serving(chain)
    with authority.openssl(cert, more=("-nmin", "6")) as url:
        asked(core, now, url)
    kept = core.staples(now)
    assert core.serve({"renamed": chain, "twice": chain}, now) == () and core.staples(now) == kept
    assert not list(core.due(now + SOONEST - 1)), "an answer of six minutes is not asked for all the time"
    core.serve({}, now)
    assert core.staples(now) == {} and core.next_at(now) is None
    assert core.answered(next(iter(kept)), b"", now) == core.failed(next(iter(kept)), "", now) == ()
