"""Certificates from a real authority (pebble): got, served, renewed, and not lost, whatever the authority says and whoever dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.acme_site import AcmeTown, certs, names_of
from tests.e2e.origins import Origin


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcmeTown]:
    with AcmeTown(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_from_nothing_to_a_certificate_that_clients_believe(town: AcmeTown, shared_origin: Origin, placement: str, challenge: str) -> None:
    names = [f"www.{challenge}.{placement}.test", f"{challenge}.{placement}.test"]
    section = town.certificate("site", names, challenge=challenge)
    with town.site(shared_origin.port, section, placement) as proxy:
        found = town.wait_shown(names[0])
        assert sorted(names_of(found)) == sorted(names)
        assert all(town.is_believed(name) for name in names)
        proxy.wait_output(r"certificate was got, and is served.*certificate=site", 10)
        told = certs(proxy)
        assert (told["state"], told["source"], told["acme"]["challenge"]) == ("valid", "acme", challenge)
        assert "PRIVATE KEY" not in proxy.output()
