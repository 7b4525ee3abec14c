"""With a real authority: all kinds of orders, and kills at any moment of one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pingap.stages.acme.authority.authority import Authority
from pingap.stages.acme.authority.failures import IssueFailed
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued, WantedCertificate
from tests.acme.authority.desk import leaf, names
from tests.kit.pebble import ChallengeServer, ManagedPresenter, Pebble
from tests.kit.waiting import free_port

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def challenges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChallengeServer]:
    with ChallengeServer(tmp_path_factory.mktemp("challenges"), free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory, challenges: ChallengeServer) -> Iterator[Pebble]:
    with Pebble(tmp_path_factory.mktemp("pebble"), challenges.dns, http_port=challenges.http_port, nonce_rejects=50) as server:
        yield server


@pytest.fixture
def presenter(challenges: ChallengeServer) -> ManagedPresenter:
    return ManagedPresenter(challenges)


def issue(root: Path, pebble: Pebble, presenter: ManagedPresenter, *domains: str, **more: object) -> Issued:
    wanted = wanted_of(pebble, *domains, **more)
    return Authority(FileShelf(str(root)), "1.2").issue(wanted, presenter, lambda _: None)


def wanted_of(pebble: Pebble, *domains: str, **more: object) -> WantedCertificate:
    told = {"directory": pebble.directory, "authority_ca": pebble.authority_ca, "domains": tuple(sorted(domains)), **more}
    return WantedCertificate(name="site", **told)  # type: ignore[arg-type]


def test_many_names_in_one_order_with_every_second_nonce_refused(tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter) -> None:
    domains = [f"n{number}.test" for number in range(20)]
    issued = issue(tmp_path, pebble, presenter, *domains, email="ops@example.com")
    assert names(issued) == sorted(domains)
    assert len(presenter.presented) == 20 and sorted(presenter.presented) == sorted(presenter.removed)
    (chain, issuer) = x509.load_pem_x509_certificates(issued.cert.encode())
    (root,) = x509.load_pem_x509_certificates(pebble.root.encode())
    chain.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)


@pytest.mark.parametrize("key_type", ["ecdsa-p384", "rsa-2048"])
def test_a_name_and_its_wildcard(tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter, key_type: str) -> None:
    domain = f"wild-{key_type}.test"
    issued = issue(tmp_path, pebble, presenter, domain, f"*.{domain}", challenge="dns-01", key_type=key_type)
    assert names(issued) == [f"*.{domain}", domain]


def test_an_address(tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter) -> None:
    assert names(issue(tmp_path, pebble, presenter, "127.0.0.1", "address.test")) == ["127.0.0.1", "address.test"]


def test_what_the_authority_saw_is_told(tmp_path: Path, pebble: Pebble, challenges: ChallengeServer) -> None:
    class Elsewhere(ManagedPresenter):
        def present(self, challenges: object) -> None:
            pass

    with pytest.raises(
        IssueFailed, match=r"^nowhere\.test: the authority says: .*did not match this challenge.*\(unauthorized\); does port 80"
    ) as raised:
        issue(tmp_path, pebble, Elsewhere(challenges), "nowhere.test")
    assert raised.value.problem_type == "unauthorized" and not raised.value.is_final


def test_a_name_without_an_address_is_told(
    tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter, challenges: ChallengeServer
) -> None:
    challenges.say("set-servfail", host="broken.test")
    with pytest.raises(IssueFailed, match=r"^broken\.test: the authority says: .*could not resolve.*under that name"):
        issue(tmp_path, pebble, presenter, "broken.test")


def test_a_profile_of_an_authority_without_any(tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter) -> None:
    with pytest.raises(IssueFailed, match="it offers none; look at acme_profile"):
        issue(tmp_path, pebble, presenter, "profile.test", profile="shortlived")


def test_a_pebble_that_is_not_believed(tmp_path: Path, pebble: Pebble, presenter: ManagedPresenter) -> None:
    with pytest.raises(IssueFailed, match="acme_ca"):
        issue(tmp_path, pebble, presenter, "trust.test", authority_ca="")


def test_renewals_of_short_lived_certificates(tmp_path: Path, challenges: ChallengeServer, presenter: ManagedPresenter) -> None:
    with Pebble(tmp_path, challenges.dns, http_port=challenges.http_port, seconds=3600, reuse=100) as short:
        first = issue(tmp_path / "store", short, presenter, "short.test")
        assert leaf(first).not_valid_after_utc - leaf(first).not_valid_before_utc <= timedelta(hours=1)
        CertificateKeeper(FileShelf(str(tmp_path / "store"))).put_issued(wanted_of(short, "short.test").id, first, 0)
        second = issue(tmp_path / "store", short, presenter, "short.test")
        assert leaf(first).serial_number != leaf(second).serial_number and first.key != second.key
        assert len(presenter.presented) == 1  # the second order had a valid authorization


def test_a_pebble_that_has_forgotten_all(tmp_path: Path, challenges: ChallengeServer, presenter: ManagedPresenter) -> None:
    """Account and order are gone; both are made anew."""
    with Pebble(tmp_path, challenges.dns, http_port=challenges.http_port) as forgetful:
        first = issue(tmp_path / "store", forgetful, presenter, "again.test")
        forgetful.stop()
        forgetful.start()
        second = issue(tmp_path / "store", forgetful, presenter, "again.test")
        assert first.cert != second.cert
        assert len(FileShelf(str(tmp_path / "store")).names("accounts")) == 1


def test_an_account_of_a_customer(tmp_path: Path, challenges: ChallengeServer, presenter: ManagedPresenter) -> None:
    keys = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
    with Pebble(tmp_path, challenges.dns, http_port=challenges.http_port, eab=keys) as customers:
        with pytest.raises(IssueFailed, match="set acme_eab_kid and acme_eab_hmac_key"):
            issue(tmp_path / "store", customers, presenter, "eab.test")
        with pytest.raises(IssueFailed, match="look at acme_eab_kid"):
            issue(tmp_path / "store", customers, presenter, "eab.test", eab_kid="kid-1", eab_hmac_key="d3Jvbmcgc2VjcmV0")
        issued = issue(tmp_path / "store", customers, presenter, "eab.test", eab_kid="kid-1", eab_hmac_key=keys["kid-1"])
        assert names(issued) == ["eab.test"]


CHILD = """
import os, signal, sys
from pathlib import Path
from pingap.stages.acme.authority.authority import Authority
from pingap.stages.acme.authority import link
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.wanted import WantedCertificate
from tests.kit.pebble import ChallengeServer, ManagedPresenter

root, directory, ca, domain, management, dies_at = sys.argv[1:]
server = ChallengeServer(Path(root))
server.management_port = int(management)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if dies_at.isdigit():  # when the answer to that request has come, and nothing has been made of it
    left = [int(dies_at)]
    def saw(self, response, *_, **__):
        left[0] -= 1
        if not left[0]:
            die()
    link.AuthorityLink._saw = saw

def progress(step):
    if dies_at == step.split(" ")[0]:
        die()

wanted = WantedCertificate(name="site", domains=(domain,), directory=directory, authority_ca=Path(ca).read_text())
Authority(FileShelf(root + "/store"), "1.2").issue(wanted, ManagedPresenter(server), progress)
"""


def killed(root: Path, pebble: Pebble, challenges: ChallengeServer, domain: str, dies_at: str) -> int:
    """Its code: 0 when it was through before that."""
    (root / "ca.pem").write_text(pebble.authority_ca)
    words = [str(root), pebble.directory, str(root / "ca.pem"), domain, str(challenges.management_port), dies_at]
    return subprocess.run([sys.executable, "-c", CHILD, *words], timeout=50, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("steps", [["account", "order", "challenge", "finalize", "download"], [str(number) for number in range(1, 40)]])
@pytest.mark.timeout(180)
def test_whoever_is_killed_goes_on_with_the_same_order(tmp_path: Path, challenges: ChallengeServer, steps: list[str]) -> None:
    """Before each step, and after the answer to each request: an account is registered once, and one certificate is issued."""
    seen = []
    with Pebble(tmp_path, challenges.dns, http_port=challenges.http_port) as server:
        for step in steps:
            root = tmp_path / step
            root.mkdir()
            since = len(server.log.read_text())
            code = killed(root, server, challenges, f"killed-{step}.test", step)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            presenter = ManagedPresenter(challenges)
            issued = issue(root / "store", server, presenter, f"killed-{step}.test")
            log = server.log.read_text()[since:]
            seen.append(log.count("POST /order-plz"))
            assert names(issued) == [f"killed-{step}.test"]
            assert log.count("Issued certificate serial") == 1, step
        else:
            assert not steps[0].isdigit(), "there are more requests than that"
    # Only of the order whose URL never came home is there a second one.
    assert len(seen) >= 5 and sorted(seen)[:-1] == [1] * (len(seen) - 1) and max(seen) == (2 if steps[0].isdigit() else 1)
