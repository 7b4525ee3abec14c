"""Clients that prove who they are: openssl, curl and Chromium, what is told of them, and who is turned away."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pingap.stages.acme.handshakes import why_not_shown
from tests.e2e.harness import Pingap
from tests.e2e.identity_site import SHARED, IdentitySite, People, VerifyingNginx, escaped
from tests.e2e.origins import Origin
from tests.e2e.tls_site import TLS12, TLS13, connect, s_client, trusting
from tests.kit.odd_names import ODD_NAMES
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def web(placement: str, people: People, shared_origin: Origin) -> Iterator[IdentitySite]:
    made = IdentitySite(people, shared_origin)
    with Pingap(made.config(), placement) as made.pingap:
        yield made


@pytest.fixture(scope="module")
def nginx(people: People) -> Iterator[VerifyingNginx]:
    made = VerifyingNginx(people.directory, people)
    yield made
    made.stop()


VERSIONS = [(http, tls) for http in ("--http1.1", "--http2") for tls in ("1.2", "1.3")]


@pytest.mark.parametrize("name", ["a.example", "b.example", "unknown.example"])
@pytest.mark.parametrize(("http", "tls"), VERSIONS)
def test_the_backend_is_told_who_asks(web: IdentitySite, people: People, http: str, tls: str, name: str) -> None:
    args = (http, f"--tlsv{tls}", "--tls-max", tls)
    for server in ("required", "optional"):
        done = web.curl(server, "alice", *args, name=name)
        assert done.stdout.endswith("\n2" if http == "--http2" else "\n1.1")
        told = web.told(server, "alice", *args, name=name)
        assert (told["verify"], told["s_dn"], told["i_dn"]) == ("SUCCESS", "CN=Alice", "CN=Ours")
        assert told["escaped_cert"] == escaped(people.of("alice"))
        assert (told["san_dns"], told["san_email"]) == ("alice.example", "alice@example.com")
        assert told["san_uri"] == "spiffe://example.com/billing"
    assert web.told("optional", "", *args, name=name) == {"verify": "NONE"}
    assert web.told("open", "alice", *args, name=name) == {"verify": "NONE"}
    assert web.told("required", "deep", *args, name=name)["s_dn"] == "CN=Deep down"


@pytest.mark.parametrize("who", ["", "their", "expired", "server", "alone"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_who_has_none_that_is_accepted_does_not_come_in(web: IdentitySite, who: str, tls: str) -> None:
    web.origin.requests.clear()
    for server in ("required", "optional") if who else ("required",):
        done = web.curl(server, who, "--tls-max", tls)
        # 60 is what curl makes of some alerts, as if the fault were the server's
        assert done.returncode == 60 or (done.returncode in (35, 56) and "alert" in done.stderr), done.stderr
    assert not web.origin.requests


def test_a_client_cannot_say_itself_who_it_is(web: IdentitySite) -> None:
    forged = ("-H", "X-Verify: SUCCESS", "-H", "X-S-Dn: CN=Root")
    assert web.told("optional", "", *forged) == {"verify": "NONE"}
    assert web.told("required", "alice", *forged)["s_dn"] == "CN=Alice"


def test_the_log_says_who_asked_and_who_was_refused_and_why(web: IdentitySite, people: People) -> None:
    serial = f"{people.of('alice').certificate.serial_number:X}"
    web.told("required", "alice", path="/who?logged")
    web.told("optional", "", path="/who?nobody")
    line = f"/who 200 SUCCESS CN=Alice {serial.zfill(len(serial) + len(serial) % 2)} alice.example"
    until(lambda: line in web.log.read_text().splitlines(), 5, "the access log names the client")
    until(lambda: "/who 200 NONE   " in web.log.read_text().splitlines(), 5, "and says where there is none")
    for who, why in (
        ("expired", "it has expired, or an authority above it has"),
        ("their", "no authority of client_ca has issued it"),
        ("server", "it is not for clients"),
        ("", "it has none, and client_auth is required"),
    ):
        web.curl("required", who)
        web.curl("required", who)
        web.pingap.wait_output(f"client certificate refused: {re.escape(why)}.*client=127.0.0.1.*server=required")
    told = [line for line in web.pingap.output().splitlines() if "refused: it has expired" in line and "server=required" in line]
    assert len(told) == 1, "once a minute"

    def counted() -> bool:
        found = re.search(r"pingap_accept_client_certificates_refused_total (\d+)", web.pingap.get("/metrics").body.decode())
        return found is not None and int(found[1]) >= 8

    until(counted, 8, "they are counted")


def test_no_session_outlives_the_certificate(web: IdentitySite, people: People) -> None:
    """OpenSSL takes the verdict out of the ticket, and each time gives a new one."""
    brief = people.ours.issue("Brief", until=timedelta(seconds=8))
    people.known["brief"] = brief
    paths = brief.written(people.directory, "brief")
    sessions = {}
    with contextlib.ExitStack() as opened:
        for version in (TLS12, TLS13):
            ours = trusting(newest=version)
            ours.load_cert_chain(*paths)
            answer, session = status(web.ports["required"], ours)
            assert answer == 200 and session is not None
            sock = opened.enter_context(connect(web.ports["required"], context=ours, session=session))
            assert sock.session_reused, "while it is in its time"
            sessions[version] = ours, session
        end = brief.certificate.not_valid_after_utc
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 1.1)  # until it has expired, to the second
        for server in ("required", "optional"):
            for ours, session in sessions.values():
                assert status(web.ports[server], ours, session if server == "required" else None)[0] == 0
        sock.sendall(b"GET /who HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        assert b" 200 " in sock.recv(4096), "a connection that is open goes on, as with nginx"
    web.pingap.wait_output("client certificate refused: it has expired.*server=required")


def test_a_look_of_the_acme_stage_is_no_failed_handshake(web: IdentitySite) -> None:
    def failed() -> int:
        found = re.search(r"pingap_accept_tls_handshakes_failed_total (\d+)", web.pingap.get("/metrics").body.decode())
        return int(found[1]) if found is not None else 0

    def all_failed() -> int:
        """Once no more are reported: counts come a second late."""
        readings = [-1]

        def is_same() -> bool:
            readings.append(failed())
            return readings[-1] == readings[-2]

        until(is_same, 15, "no more are reported", every=1.5)
        return readings[-1]

    address = ("127.0.0.1", web.ports["required"])
    count, before = all_failed(), web.pingap.output().count("client certificate refused")
    for _ in range(5):
        assert "shows another one" in why_not_shown([address], "a.example", "0" * 64), "it is seen"
    web.curl("required", "")
    until(lambda: failed() > count, 8, "the one that has failed is counted")
    assert all_failed() == count + 1 and web.pingap.output().count("client certificate refused") <= before + 1


def test_openssl_is_let_in_and_told_why_not(web: IdentitySite) -> None:
    port, directory = web.ports["required"], web.people.directory
    request = "GET /who HTTP/1.1\nHost: a.example\nConnection: close\n\n"
    ours = ("-cert", f"{directory}/alice.pem", "-key", f"{directory}/alice.key")
    for version in ("-tls1_2", "-tls1_3"):
        assert "HTTP/1.1 200 OK" in s_client(port, version, "-crlf", "-ign_eof", *ours, talk=[("", request)])
    out = s_client(port, "-tls1_3", "-crlf", "-ign_eof", talk=[("", request)])
    assert "certificate required" in out and "HTTP/1.1" not in out
    expired = ("-cert", f"{directory}/expired.pem", "-key", f"{directory}/expired.key")
    assert "certificate expired" in s_client(port, "-tls1_2", "-crlf", "-ign_eof", *expired, talk=[("", request)])


def named(port: int, version: str, name: str = "a.example") -> str:
    """The authorities that `openssl s_client` is told of."""
    out = s_client(port, version, name=name).replace(" = ", "=").partition("Acceptable client certificate CA names\n")[2]
    return out.partition("\nRequested Signature Algorithms")[0].partition("\nClient Certificate Types")[0]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_clients_are_told_whose_certificates_would_do_also_when_the_file_has_changed(
    web: IdentitySite, people: People, version: str
) -> None:
    for server in ("required", "optional", "filed"):
        for name in ("a.example", "b.example", "unknown.example"):
            assert named(web.ports[server], version, name) == "CN=Ours"
    assert named(web.ports["open"], version) == ""
    people.believe(people.theirs.pem + people.ours.pem)
    try:
        until(lambda: named(web.ports["filed"], version) == "CN=Theirs\nCN=Ours", 20, "both are named")
    finally:
        people.believe(people.ours.pem)
        until(lambda: named(web.ports["filed"], version) == "CN=Ours", 20, "one is named again")


@pytest.mark.parametrize("case", [f"odd-{case}" for case in ODD_NAMES] + ["alice", "deep", ""])
def test_the_variables_have_the_values_that_nginx_gives(web: IdentitySite, people: People, nginx: VerifyingNginx, case: str) -> None:
    ours, theirs = web.told("optional", case), nginx.told(people, case)
    theirs = {name: value.rstrip(" ") for name, value in theirs.items()}  # it told in a body; no header ends with a space
    assert {name: ours.get(name) for name in SHARED} == {name: theirs.get(name) for name in SHARED}


# -- a change of whom clients are believed by -------------------------------------------------------


def client(people: People, who: str, newest: ssl.TLSVersion) -> ssl.SSLContext:
    context = trusting(newest=newest)
    context.load_cert_chain(f"{people.directory}/{who}.pem", f"{people.directory}/{who}.key")
    return context


def status(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[int, ssl.SSLSession | None]:
    """(of the answer, 0 when there is none; the session to go on with)."""
    try:
        with connect(port, context=context, session=session) as sock:
            sock.sendall(b"GET /who HTTP/1.1\r\nHost: a.example\r\n\r\n")
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            answer.read()
            return answer.status, sock.session
    except (OSError, http.client.HTTPException):
        return 0, None


@pytest.mark.parametrize("newest", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_the_file_of_authorities_is_followed_and_no_session_outlives_it(web: IdentitySite, people: People, newest: ssl.TLSVersion) -> None:
    port = web.ports["filed"]
    ours, theirs = client(people, "alice", newest), client(people, "their", newest)
    first, session = status(port, ours)
    assert first == 200 and status(port, theirs)[0] == 0
    people.believe(people.theirs.pem)
    try:
        until(lambda: status(port, theirs)[0] == 200, 20, "the other authority is believed")
        assert status(port, ours)[0] == 0
        assert status(port, ours, session)[0] == 0, "it goes on with a session from before"
    finally:
        people.believe(people.ours.pem)
        until(lambda: status(port, ours)[0] == 200, 20, "the first is believed again")


def test_a_file_without_a_certificate_is_not_taken_over(web: IdentitySite, people: People) -> None:
    before = len(web.pingap.output())
    people.believe("nothing\n")
    try:
        web.pingap.wait_output(r"client_ca", 20, before)
        context = client(people, "alice", TLS13)
        assert status(web.ports["filed"], context)[0] == 200 and status(web.ports["filed"], trusting())[0] == 0
    finally:
        people.believe(people.ours.pem)
        assert web.pingap.command("reload").returncode == 0
