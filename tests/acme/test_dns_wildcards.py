"""Wildcards from a real authority, by doubles of the providers that write into the DNS which it asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from pingap.stages.acme.authority.authority import Authority
from pingap.stages.acme.dns.presenter import DnsPresenter
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.wanted import DnsAccess, WantedCertificate
from tests.kit.dns_providers import FAKES
from tests.kit.pebble import ChallengeServer, Pebble

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("kind", sorted(FAKES))
def test_a_name_and_its_wildcard_are_proved_by_each_provider(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    with ChallengeServer(tmp_path) as server, Pebble(tmp_path, server.dns) as pebble:

        def put(name: str, values: list[str]) -> None:
            server.clear_txt(name)
            for value in values:
                server.add_txt(name, value)

        with FAKES[kind]("example.co.uk", changed=put) as fake:
            access = DnsAccess(provider=fake.kind, service_url=fake.url(), servers=(server.dns,))  # type: ignore[arg-type]  # one of FAKES
            wanted = WantedCertificate(
                name="site",
                domains=("*.example.co.uk", "example.co.uk"),
                directory=pebble.directory,
                challenge="dns-01",
                authority_ca=pebble.authority_ca,
                dns=access,
            )
            presenter = DnsPresenter(access, lambda telling: said.append(telling.text))
            issued = Authority(FileShelf(str(tmp_path / "shelf")), "0").issue(wanted, presenter, lambda step: None)
            presenter.close()
            leaf = x509.load_pem_x509_certificates(issued.cert.encode())[0]
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
            assert sorted(names) == ["*.example.co.uk", "example.co.uk"]
            assert fake.zones.records == []
            assert said == []
