"""What a configuration asks authorities for: whatever an entry says of it gets there."""

from __future__ import annotations

from pingap.config.model import Certificate
from pingap.config.parts import DnsAddress
from pingap.stages.acme.wanted import DnsAccess, WantedCertificate
from pingap.stages.acme.wishes import wanted_of


def test_all_that_an_entry_says_of_it_is_asked_for() -> None:
    entry = Certificate(
        domains=("b.example", "*.a.example", "b.example"),
        acme="https://authority.example/",
        acme_challenge="dns-01",
        acme_email="ops@a.example",
        acme_key_type="rsa-3072",
        acme_profile="shortlived",
        acme_eab_kid="customer-7",
        acme_eab_hmac_key="c2VjcmV0",
        acme_ca="PEM",
        dns_challenge=True,
        dns_provider="cf",
        dns_service_url="https://dns.example/?token=t",
        dns_server=(DnsAddress("192.0.2.53", 53), DnsAddress("2001:db8::53", 5353)),
        buffer_days=20,
    )
    assert wanted_of({"s": entry, "own": Certificate(domains=("c.example",))}, {}) == {
        "s": WantedCertificate(
            name="s",
            domains=("*.a.example", "b.example"),
            directory="https://authority.example/",
            challenge="dns-01",
            key_type="rsa-3072",
            profile="shortlived",
            email="ops@a.example",
            eab_kid="customer-7",
            eab_hmac_key="c2VjcmV0",
            authority_ca="PEM",
            dns=DnsAccess(provider="cf", service_url="https://dns.example/?token=t", servers=("192.0.2.53:53", "[2001:db8::53]:5353")),
            buffer_days=20,
        )
    }
