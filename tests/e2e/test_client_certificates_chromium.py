"""A browser with a certificate in its store, as people have it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import Browser, chromium
from tests.e2e.harness import Pingap
from tests.e2e.identity_site import IdentitySite, People
from tests.e2e.origins import Origin
from tests.kit.peers import lacks, needs

POLICIES = Path("/etc/chromium/policies/managed")
"""The only place of which Chromium takes the rule that spares the dialog, in which people choose a certificate."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def web(people: People, shared_origin: Origin) -> Iterator[IdentitySite]:
    made = IdentitySite(people, shared_origin)
    with Pingap(made.config(), "colocated") as made.pingap:
        yield made


def store(home: Path, people: People, *names: str) -> None:
    """The database of NSS in a home directory, with certificates and keys."""
    needs("certutil", "libnss3-tools")
    needs("pk12util", "libnss3-tools")
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    run(["certutil", "-N", "-d", f"sql:{database}", "--empty-password"])
    # It trusts the authority of the servers, too, which here is that of the clients.
    run(["certutil", "-A", "-d", f"sql:{database}", "-n", "ours", "-t", "C,,", "-i", str(people.ca)])
    for name in names:
        packed = home / f"{name}.p12"
        packed.write_bytes(people.of(name).pkcs12("phrase"))
        run(["pk12util", "-i", str(packed), "-d", f"sql:{database}", "-W", "phrase", "-K", ""])


def run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def browser(web: IdentitySite, people: People, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    root = tmp_path_factory.mktemp("chromium")
    store(root, people, "alice")
    policy = POLICIES / f"pingap-tests-{web.ports['required']}.json"
    patterns = [json.dumps({"pattern": f"https://127.0.0.1:{port}", "filter": {}}) for port in web.ports.values()]
    try:
        POLICIES.mkdir(parents=True, exist_ok=True)
        policy.write_text(json.dumps({"AutoSelectCertificateForUrls": patterns}))
    except OSError:
        lacks(f"{POLICIES} cannot be written: only root may set a policy of Chromium")
    try:
        with chromium(root, root) as made:
            yield made
    finally:
        policy.unlink(missing_ok=True)


@pytest.mark.parametrize("server", ["required", "optional", "filed"])
def test_who_has_one_is_known_by_it(web: IdentitySite, browser: Browser, server: str) -> None:
    browser.visit(f"https://127.0.0.1:{web.ports[server]}/who")
    told, protocol = browser.run(
        "return [JSON.parse(document.body.innerText), performance.getEntriesByType('navigation')[0].nextHopProtocol];"
    )
    assert (told["verify"], told["s_dn"]) == ("SUCCESS", "CN=Alice")
    assert protocol == ("http/1.1" if server == "filed" else "h2")
    again = browser.run("return await (await fetch('/who?again')).json();")
    assert again["s_dn"] == "CN=Alice"


def test_without_the_rules_for_it_nobody_is_asked(web: IdentitySite, browser: Browser) -> None:
    browser.visit(f"https://127.0.0.1:{web.ports['open']}/who")
    assert browser.run("return JSON.parse(document.body.innerText);") == {"verify": "NONE"}


def test_without_one_a_page_says_that_the_site_wants_it(web: IdentitySite, people: People, browser: Browser, tmp_path: Path) -> None:
    """`browser` has the policy; this one has an empty store."""
    store(tmp_path, people)
    with chromium(tmp_path, tmp_path) as other:
        with pytest.raises(AssertionError, match="ERR_BAD_SSL_CLIENT_AUTH_CERT"):
            other.visit(f"https://127.0.0.1:{web.ports['required']}/who")
        other.visit(f"https://127.0.0.1:{web.ports['optional']}/who")
        assert other.run("return JSON.parse(document.body.innerText);") == {"verify": "NONE"}
