"""Session tickets over replicas, restarts and changes of their secret, and staples, as clients see them."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pingap.stages.acme.ticket_places import FILE, InRunDir
from pingap.stages.acme.tickets import TicketSecrets
from tests.acme.responders import OcspAuthority
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.e2e.tls_site import TLS12, TLS13, Names, ask, connect, s_client, trusting
from tests.kit.waiting import free_port, until


def resumes(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    with connect(port, context=context, session=session) as sock:
        assert b" 200 " in ask(sock)
        return bool(sock.session_reused)


def session_of(port: int, context: ssl.SSLContext) -> ssl.SSLSession:
    with connect(port, context=context) as sock:
        ask(sock)
        session = sock.session
    assert session is not None
    return session


@pytest.fixture(scope="module")
def replicas(shared_origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pingap]:
    names = Names(tmp_path_factory.mktemp("certificates"))
    text = site([shared_origin.port], server="global_certificates = true\nreuse_port = true\nthreads = 2", more=names.config())
    with Pingap(text) as pingap:
        until(lambda: secret_of(pingap).is_file(), 10, "there is a secret")
        yield pingap


def secret_of(pingap: Pingap) -> Path:
    return pingap.run_dir / FILE


def settle(pingap: Pingap, context: ssl.SSLContext) -> ssl.SSLSession:
    """A session under the secret that all replicas have by now."""

    found: list[ssl.SSLSession] = []

    def all_take_it() -> bool:
        found[:] = [session_of(pingap.port, context)]
        return all(resumes(pingap.port, context, found[0]) for _ in range(12))  # the kernel chooses the replica

    until(all_take_it, 15, "every replica takes it")
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("newest", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_sessions_go_on_over_replicas_their_restart_and_that_of_pingap(replicas: Pingap, newest: ssl.TLSVersion) -> None:
    context = trusting(newest=newest)
    session = settle(replicas, context)
    before = {row.pid for row in replicas.replicas("accept")}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len({row.pid for row in replicas.replicas("accept")} - before) == 2, 10, "both are back")
    until(lambda: all(resumes(replicas.port, context, session) for _ in range(8)), 10, "their successors take it")
    for command in ("restart", "upgrade"):
        assert replicas.command(command, timeout=40).returncode == 0
        until(lambda: all(resumes(replicas.port, context, session) for _ in range(8)), 10, f"so do those after {command}")


@pytest.mark.slow
def test_under_another_secret_old_sessions_cost_a_whole_handshake_and_no_error(replicas: Pingap) -> None:
    context = trusting()
    session = settle(replicas, context)
    assert oct(secret_of(replicas).stat().st_mode)[-3:] == "600"
    assert not os.path.exists(replicas.env["STATE_DIRECTORY"]), "who has no certificate by ACME has no directory for them"
    InRunDir(str(replicas.run_dir / "current")).write(TicketSecrets().rotate(os.urandom(32), time.time()))
    until(lambda: not any(resumes(replicas.port, context, session) for _ in range(8)), 25, "it is taken no more")
    settle(replicas, context)


@pytest.mark.slow
def test_a_staple_is_given_to_who_asks_and_none_once_it_was_revoked(shared_origin: Origin, tmp_path: Path) -> None:
    authority = OcspAuthority(tmp_path / "authority")
    port = free_port()
    cert, chain, private = authority.issue(f"http://127.0.0.1:{port}/")
    config = site(
        [shared_origin.port],
        server="global_certificates = true",
        more=f"[certificates.a]\ntls_cert = '''{chain}'''\ntls_key = '''{private}'''\n",
    )
    ca = str(authority.root / "ca.pem")
    with authority.openssl(cert, port=port), Pingap(config) as pingap:
        pingap.wait_output("OCSP response got", 15)
        for version in ("-tls1_2", "-tls1_3"):

            def is_stapled(version: str = version) -> bool:
                out = s_client(pingap.port, version, "-status", "-CAfile", ca)
                return "OCSP Response Status: successful" in out and "Cert Status: good" in out

            until(is_stapled, 10, "it is stapled")
            assert "OCSP response:" not in s_client(pingap.port, version, "-CAfile", ca), "only to who asks"
    with authority.openssl(cert, port=port, revoked=True), Pingap(config) as pingap:
        pingap.wait_output(r"ERROR +acme\.0 the certificate was revoked by its authority", 15)
        assert "OCSP response: no response sent" in s_client(pingap.port, "-status", "-CAfile", ca)


@pytest.mark.slow
def test_a_staple_outlives_the_acme_stage_and_pingap_though_nobody_answers_any_more(shared_origin: Origin, tmp_path: Path) -> None:
    authority = OcspAuthority(tmp_path / "authority")
    port = free_port()
    cert, chain, private = authority.issue(f"http://127.0.0.1:{port}/", must_staple=True)
    more = f"[certificates.a]\ntls_cert = '''{chain}'''\ntls_key = '''{private}'''\n"
    ca = str(authority.root / "ca.pem")
    with ExitStack() as stack, ExitStack() as answering:
        answering.enter_context(authority.openssl(cert, port=port))
        pingap = stack.enter_context(Pingap(site([shared_origin.port], server="global_certificates = true", more=more)))

        def is_stapled() -> bool:
            return "Cert Status: good" in s_client(pingap.port, "-status", "-CAfile", ca)

        until(is_stapled, 20, "it is stapled")
        answering.close()
        old = pingap.pid("acme")
        os.kill(old, signal.SIGKILL)
        pingap.wait_restarted("acme", old)
        for _ in range(20):
            assert is_stapled()
            time.sleep(0.1)  # 2 s in all, in which the new one reads, asks in vain, and publishes: no client may go without meanwhile
        assert pingap.command("restart", timeout=40).returncode == 0
        assert all(is_stapled() for _ in range(10))
