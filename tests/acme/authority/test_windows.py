"""When an authority wants a certificate renewed, and that it learns which one took its place (RFC 9773)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pingap.stages.acme.authority.windows import certificate_id
from tests.acme.authority.desk import Desk, leaf
from tests.kit.small_authority import Said, SmallAuthority, problem


@pytest.fixture
def small(small: SmallAuthority) -> SmallAuthority:
    small.has_renewal_info = True
    return small


def table(start: float, end: float, **more: object) -> dict[str, object]:
    now = datetime.now(UTC)
    window = {"start": (now + timedelta(seconds=start)).isoformat(), "end": (now + timedelta(seconds=end)).isoformat()}
    return {"suggestedWindow": window, **more}


def test_the_id_is_that_of_the_rfc() -> None:
    """Section 4.1: key identifier 69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:C8:D4, serial 00:87:65:43:21."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(0x87654321)
    builder = builder.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2027, 1, 1))
    identifier = x509.AuthorityKeyIdentifier(bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4"), None, None)
    certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    assert certificate_id(certificate) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    assert certificate_id(builder.sign(key, hashes.SHA256())) == ""


def test_the_window_is_told_and_asked_for_as_often_as_allowed(desk: Desk, small: SmallAuthority) -> None:
    issued = desk.issue()
    small.window = Said(200, table(1000, 2000, explanationURL="https://ca.example/why"), {"Retry-After": "7200"})
    now = time.time()
    window = desk.authority.renewal_window(desk.wanted(), issued.cert)
    assert window is not None
    assert (round(window.start - now, -1), round(window.end - now, -1), round(window.ask_again - now, -1)) == (1000, 2000, 7200)
    assert window.explanation == "https://ca.example/why"
    (asked,) = small.paths("renewal-info")
    assert asked.path == f"/renewal-info/{certificate_id(leaf(issued))}"
    desk.time.ahead = 7100
    assert desk.authority.renewal_window(desk.wanted(), issued.cert) == window
    assert len(small.paths("renewal-info")) == 1
    desk.time.ahead = 7300
    small.window = Said(200, table(-2000, -1000))
    earlier = desk.authority.renewal_window(desk.wanted(), issued.cert)
    assert earlier is not None and earlier.end < now and len(small.paths("renewal-info")) == 2


@pytest.mark.parametrize(("header", "seconds"), [("1", 60), ("864000", 86400), ("soon", 21600), ("", 21600)])
def test_how_often_is_kept_within_reason(desk: Desk, small: SmallAuthority, header: str, seconds: int) -> None:
    issued = desk.issue()
    small.window = Said(200, table(1000, 2000), {"Retry-After": header})
    window = desk.authority.renewal_window(desk.wanted(), issued.cert)
    assert window is not None and abs(window.ask_again - time.time() - seconds) < 10


WRONG = [
    Said(404),
    Said(500, "<html>"),
    problem("serverInternal"),
    Said(200, {}),
    Said(200, table(2000, 1000)),
    Said(200, {"suggestedWindow": {"start": "soon", "end": "later"}}),
    Said(200, {"suggestedWindow": {"start": 1, "end": 2}}),
]


@pytest.mark.parametrize("said", WRONG, ids=range(len(WRONG)))
def test_without_an_answer_there_is_no_window_and_it_is_asked_later(desk: Desk, small: SmallAuthority, said: Said) -> None:
    issued = desk.issue()
    small.window = said
    for _ in range(3):
        assert desk.authority.renewal_window(desk.wanted(), issued.cert) is None
    assert len(small.paths("renewal-info")) == 1
    desk.time.ahead = 3700
    small.window = Said(200, table(1000, 2000))
    assert desk.authority.renewal_window(desk.wanted(), issued.cert) is not None


def test_what_it_said_last_holds_while_it_is_silent(desk: Desk, small: SmallAuthority) -> None:
    issued = desk.issue()
    small.window = Said(200, table(1000, 2000))
    before = desk.authority.renewal_window(desk.wanted(), issued.cert)
    desk.time.ahead = 22000
    small.window = Said(503)
    after = desk.authority.renewal_window(desk.wanted(), issued.cert)
    assert before is not None and after is not None and (before.start, before.end) == (after.start, after.end)


def test_an_authority_without_them_is_not_asked(desk: Desk, small: SmallAuthority) -> None:
    small.has_renewal_info = False
    assert desk.authority.renewal_window(desk.wanted(), desk.issue().cert) is None
    assert desk.authority.renewal_window(desk.wanted(), "no certificate") is None
    assert desk.authority.renewal_window(desk.wanted(directory="http://192.0.2.1/"), "no certificate") is None
    assert not small.paths("renewal-info")


def test_a_renewal_names_what_it_replaces(desk: Desk, small: SmallAuthority) -> None:
    first = desk.issue()
    desk.keep(desk.wanted(), first)
    desk.issue()
    before, after = small.paths("new-order")
    assert "replaces" not in before.payload
    assert after.payload["replaces"] == certificate_id(leaf(first))


def test_it_is_not_named_to_those_who_do_not_know_it(desk: Desk, small: SmallAuthority) -> None:
    small.has_renewal_info = False
    desk.keep(desk.wanted(), desk.issue())
    desk.issue()
    assert "replaces" not in small.paths("new-order")[-1].payload


UNKNOWN = [problem("alreadyReplaced", "", 409), problem("malformed"), problem("unauthorized", "", 403), Said(409, {"type": "about:blank"})]


@pytest.mark.parametrize("said", UNKNOWN, ids=range(len(UNKNOWN)))
def test_what_cannot_be_replaced_is_ordered_all_the_same(desk: Desk, small: SmallAuthority, said: Said) -> None:
    desk.keep(desk.wanted(), desk.issue())
    small.wrong["new-order"] = [said]
    assert desk.issue()
    first, second = small.paths("new-order")[1:]
    assert "replaces" in first.payload and "replaces" not in second.payload
    assert len(small.accounts) == 1
