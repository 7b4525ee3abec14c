"""Two instances whose configuration is in one etcd: one gets the certificate, both serve it, and either may die."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cryptography import x509

from pingap.stages.acme.core import ANOTHERS
from pingap.stages.acme.tries import LEASE
from tests.e2e.acme_site import AcmeTown, Way, certs, leaf_at
from tests.e2e.harness import Pingap
from tests.e2e.origins import Origin
from tests.kit.etcd import Etcd
from tests.kit.waiting import free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Pair:
    """Two that share all but where they listen, which a variable says. The authority looks at the first one alone."""

    def __init__(self, etcd: Etcd, town: AcmeTown, backend: int, directory: str, name: str) -> None:
        text = town.config(backend, town.certificate("site", [name], directory=directory)).replace('acme_directory = "{dir}/acme"', "")
        text = text.replace(f'"127.0.0.1:{town.pebble.http_port}"', '"$ENV:PLAIN"').replace(
            f'"127.0.0.1:{town.pebble.tls_port}"', '"$ENV:TLS"'
        )
        etcd.put(f"/{name}/pingap.toml", text)
        self.name, self.ports = name, (town.pebble.tls_port, free_port())
        self.one, self.two = (
            Pingap(
                None,
                "colocated",
                up=("-c", f"etcd://{etcd.endpoint}/{name}"),
                env={"PLAIN": f"127.0.0.1:{plain}", "TLS": f"127.0.0.1:{secure}"},
                port=secure,
            )
            for plain, secure in zip((town.pebble.http_port, free_port()), self.ports, strict=True)
        )

    def wait_shown(self, seconds: float = 40) -> x509.Certificate:
        """The same one by both."""

        def same() -> x509.Certificate | None:
            one, two = (leaf_at(port, self.name) for port in self.ports)
            return one if one == two else None

        return until(same, seconds, "both serve the same certificate", every=0.2)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


def test_one_gets_it_both_serve_it_and_the_other_answers_the_authority(etcd: Etcd, town: AcmeTown, way: Way, shared_origin: Origin) -> None:
    pair = Pair(etcd, town, shared_origin.port, way.directory, "shared.test")
    way.hold("challenge")
    with pair.two:
        assert way.held.wait(20), "the one at which the authority does not look asks for it"
        with pair.one:
            pair.one.wait_output("certificate is being got by another instance", 20)
            way.let_go(is_done=True)
            found = pair.wait_shown()
            pair.two.wait_output("certificate was got, and is served", 20)
            pair.one.wait_output("certificate was got by another instance, and is served here too", 20)
            assert way.count("order") == 1
            assert {f"{certs(proxy)['serial']}".lower() for proxy in (pair.one, pair.two)} == {f"{found.serial_number:x}"}
        # Whoever comes again finds it there.
        pair.one.dir.mkdir()
        with pair.one:
            assert leaf_at(pair.ports[0], pair.name) == found
            assert way.count("order") == 1
    assert etcd.keys("/shared.test/") == ["/shared.test/pingap.toml"], "the configuration is nobody's place for certificates"


def test_the_other_takes_over_from_one_that_is_killed_in_a_try(etcd: Etcd, town: AcmeTown, way: Way, shared_origin: Origin) -> None:
    pair = Pair(etcd, town, shared_origin.port, way.directory, "taken-over.test")
    way.hold("challenge")
    with pair.two, pair.one:
        assert way.held.wait(20)
        pair.one.wait_output("certificate is being got by another instance", 20)
        pair.two.kill_all()
        died = time.monotonic()
        way.let_go()
        until(lambda: leaf_at(pair.one.port, pair.name), 95, "it is served by the other", every=0.5)
        took = time.monotonic() - died
        print(f"\nthe other had it {took:.0f} s after the first was killed")
        assert took < LEASE + ANOTHERS + 12
        assert way.count("order") == 1, "it goes on with the order of the dead"
        pair.two.start()
        pair.wait_shown()
