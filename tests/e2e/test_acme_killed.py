"""Who is killed in the middle of getting a certificate, and what is served after: a table, printed at the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.e2e.acme_site import STEPS, AcmeTown, Talker, Way
from tests.e2e.certificate import self_signed
from tests.e2e.harness import Pingap
from tests.e2e.origins import Origin
from tests.kit.waiting import until

pytestmark = pytest.mark.slow

TABLE: list[str] = []


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcmeTown]:
    with AcmeTown(tmp_path_factory.mktemp("town")) as made:
        yield made
    print("\n".join(["", f"{'killed':8} {'at':34} {'right after':12} {'in the end':12} orders", *TABLE]))


class Served:
    """A site with an old certificate in its entry, which serves until there is one by ACME."""

    def __init__(self, town: AcmeTown, way: Way, origin: Origin, name: str) -> None:
        self.town, self.way, self.name = town, way, name
        cert, key = self_signed(name, days=0.9)  # more than half of its life is over: it is due
        self.old = x509.load_pem_x509_certificate(cert.encode())
        more = f"tls_cert = '''{cert}'''\ntls_key = '''{key}'''"
        other = self_signed("other.test")
        kept = f"[certificates.other]\ntls_cert = '''{other[0]}'''\ntls_key = '''{other[1]}'''\n"
        self.proxy = town.site(origin.port, town.certificate("site", [name], more, way.directory, "http-01") + kept)

    def what(self) -> str:
        found = self.town.shown(self.name)
        return "nothing" if found is None else "the old" if found == self.old else "the new"

    def end(self, who: str, at: str, before: str) -> None:
        new = self.town.wait_shown(self.name, 40)
        assert new != self.old
        TABLE.append(f"{who:8} {at:34} {before:12} {self.what():12} {self.way.count('order')}")


def _killed(proxy: Pingap, stage: str) -> None:
    os.kill(proxy.pid(stage), signal.SIGKILL)


SAME = (("directory", True), ("account", False), ("authorization", False))
"""Nothing has changed at the authority since the case before."""


@pytest.mark.parametrize(
    ("step", "is_after"),
    [
        pytest.param(step, is_after, id=f"{step}-{'answered' if is_after else 'asking'}")
        for step in STEPS
        for is_after in (False, True)
        if (step, is_after) not in SAME
    ],
)
def test_the_stage_killed_in_each_step(town: AcmeTown, way: Way, shared_origin: Origin, step: str, is_after: bool) -> None:
    served = Served(town, way, shared_origin, f"{step}-{is_after}.test".lower())
    way.hold(step, is_after)
    with served.proxy as proxy:
        assert way.held.wait(20)
        pid = proxy.pid("acme")
        talker = Talker(town.pebble.tls_port, served.name)
        os.kill(pid, signal.SIGKILL)
        before = served.what()
        way.let_go()
        served.end("acme", f"{step}, {'answered' if is_after else 'not asked yet'}", before)
        assert before == "the old"
        assert talker.stop() > 10
        # One order leads to the certificate; another is made where the answer to the first was lost, or nobody was there to prove it.
        assert way.count("order") <= (2 if step in ("order", "challenge") else 1)


def test_the_stage_killed_as_the_certificate_is_stored(town: AcmeTown, way: Way, shared_origin: Origin) -> None:
    served = Served(town, way, shared_origin, "stored.test")
    with served.proxy as proxy:
        pid = proxy.pid("acme")
        kept = proxy.dir / "acme" / "certificates"
        until(lambda: kept.is_dir() and any(not each.name.startswith(".") for each in kept.iterdir()), 20, "it is stored", every=0.001)
        os.kill(pid, signal.SIGKILL)
        before = served.what()
        served.end("acme", "stored", before)
        assert way.count("order") == 1


@pytest.mark.parametrize("stage", ["accept", "routing"])
def test_others_killed_while_it_is_handed_over(town: AcmeTown, way: Way, shared_origin: Origin, stage: str) -> None:
    served = Served(town, way, shared_origin, f"{stage}.test")
    served.proxy.argv[served.proxy.argv.index("colocated")] = "split"
    with served.proxy as proxy:
        pid = proxy.pid(stage)
        kept = proxy.dir / "acme" / "certificates"
        until(lambda: kept.is_dir() and any(not each.name.startswith(".") for each in kept.iterdir()), 20, "it is stored", every=0.001)
        os.kill(pid, signal.SIGKILL)
        before = served.what()
        served.end(stage, "handed over", before)
        proxy.wait_output("certificate was got, and is served", 30)
        assert way.count("order") == 1


@pytest.mark.parametrize("step", ["order", "challenge", "download"])
def test_the_whole_instance_killed(town: AcmeTown, way: Way, shared_origin: Origin, step: str) -> None:
    served = Served(town, way, shared_origin, f"all-{step}.test")
    way.hold(step, True)
    with served.proxy as proxy:
        assert way.held.wait(20)
        proxy.kill_all()
        way.let_go()
        proxy.output_file.unlink()
        proxy.start()
        before = served.what()
        served.end("all", f"{step}, answered", before)
        assert way.count("order") <= (2 if step in ("order", "challenge") else 1)
