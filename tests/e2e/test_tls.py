"""TLS towards clients: which certificate, which version, what a session is worth, and how connections end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.client import Client, Closed
from tests.e2e.harness import COMMAND, Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.e2e.tls_site import TLS12, TLS13, Names, Site, ask, connect, s_client, shown, trusting
from tests.kit.peers import needs
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def tls(placement: str, shared_origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("certificates"), shared_origin)
    with Pingap(made.config(), placement) as made.pingap:
        yield made


# -- which certificate ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.example", "exact"),
        ("A.EXAMPLE", "exact"),
        ("one.w.example", "wildcard"),
        ("exact.w.example", "exact"),
        ("two.labels.w.example", "default"),
        ("w.example", "default"),
        ("filed.example", "filed"),
        ("default.example", "default"),
        ("stranger.example", "default"),
        (None, "default"),
    ],
)
def test_the_certificate_is_that_of_the_name_asked_for(tls: Site, name: str | None, expected: str) -> None:
    assert shown(tls, name) == expected


def test_openssl_verifies_the_certificate_against_the_name(tls: Site) -> None:
    ca = tls.names.root / "ca.pem"
    ca.write_text(tls.names.exact[0])
    out = s_client(tls.port, "-CAfile", str(ca), "-verify_return_error", "-verify_hostname", "a.example")
    assert "Verify return code: 0 (ok)" in out, out


def test_the_chain_is_sent_along(tls: Site) -> None:
    root = tls.names.root / "root.pem"
    root.write_text(tls.names.root_cert)
    verify = ("-CAfile", str(root), "-verify_return_error", "-verify_hostname", "chained.example")
    for version in ("-tls1_2", "-tls1_3"):
        out = s_client(tls.port, version, *verify, name="chained.example")
        assert "Verify return code: 0 (ok)" in out and "Server public key is 2048 bit" in out, out


def test_curl_gets_an_answer_over_each_version(tls: Site) -> None:
    needs("curl")
    ca = tls.names.root / "curl-ca.pem"
    ca.write_text(tls.names.exact[0])
    for version in ("--tls-max 1.2", "--tlsv1.3"):
        url = f"https://a.example:{tls.port}/by-curl"
        argv = ["curl", "-sS", *version.split(), "--cacert", str(ca), "--resolve", f"a.example:{tls.port}:127.0.0.1", url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (0, "/by-curl"), done.stderr


def test_new_files_are_served_to_new_connections_and_old_ones_stay(tls: Site) -> None:
    names = tls.names
    with connect(tls.port, "filed.example") as old:
        ask(old, "/before")
        names.filed = self_signed("filed.example")
        names.write(*names.filed)
        until(lambda: shown(tls, "filed.example") == "filed", 6, "the new certificate is shown")
        assert b" 200 " in ask(old, "/after")


def test_while_certificate_and_key_do_not_belong_together_the_old_pair_is_served(tls: Site) -> None:
    names, pingap = tls.names, tls.pingap
    new = self_signed("filed.example")
    before = len(pingap.output())
    names.write(cert=new[0])
    pingap.wait_output(r"certificates\.filed\.tls_key.*does not belong to the certificate", 8, before)
    assert shown(tls, "filed.example") == "filed"
    names.write(key=new[1])
    names.filed = new
    until(lambda: shown(tls, "filed.example") == "filed", 6, "the new pair is shown")


def test_a_reload_takes_the_default_away_and_gives_it_back(tls: Site) -> None:
    with connect(tls.port, "stranger.example") as old:
        tls.pingap.write_config(tls.config(default=False).replace("[basic]", '[basic]\nlog_level = "debug"', 1))
        assert tls.pingap.command("reload").returncode == 0
        for name in ("stranger.example", "deep.er.w.example", None):
            with pytest.raises(ssl.SSLError, match=r"UNRECOGNIZED_NAME"):
                connect(tls.port, name)
            tls.pingap.wait_output(f"reason=.TLS: no certificate for {repr(name) if name else 'a client that names nobody'}")
        assert shown(tls, "a.example") == "exact"
        assert shown(tls, "one.w.example") == "wildcard"
        assert b" 200 " in ask(old)
        tls.pingap.write_config(tls.config())
        assert tls.pingap.command("reload").returncode == 0
        assert shown(tls, "stranger.example") == "default"


def test_a_name_outside_ascii_gets_the_default_or_the_alert_and_nothing_is_written_past_the_log(tls: Site) -> None:
    """Python's `ssl` would refuse it, with a traceback on stderr that anybody could repeat."""
    hello = client_hello("stranger.example").replace(b"stranger.example", "strängér.example".encode()[:16])

    def first_bytes() -> bytes:
        with socket.create_connection(("127.0.0.1", tls.port), 10) as sock:
            sock.sendall(hello)
            return sock.recv(7)

    before = len(tls.pingap.output())
    assert first_bytes()[:2] == b"\x16\x03", "a ServerHello"
    tls.pingap.write_config(tls.config(default=False).replace("[basic]", '[basic]\nlog_level = "debug"', 1))
    assert tls.pingap.command("reload").returncode == 0
    assert first_bytes() == bytes((0x15, 3, 3, 0, 2, 2, 112)), "unrecognized_name"
    tls.pingap.wait_output(r"reason=.*no certificate for .*xc3", 8, before)
    tls.pingap.write_config(tls.config())
    assert tls.pingap.command("reload").returncode == 0
    assert "Traceback" not in tls.pingap.output()[before:]


# -- what is agreed on -----------------------------------------------------------------------


def test_versions_and_ciphers_are_those_of_the_configuration(tls: Site) -> None:
    with connect(tls.port) as sock:
        assert sock.version() == "TLSv1.3"
    with connect(tls.port, context=trusting(newest=TLS12)) as sock:
        assert sock.version() == "TLSv1.2"
    with connect(tls.only12) as sock:
        assert (sock.version(), (sock.cipher() or ("",))[0]) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")
    with connect(tls.only13) as sock:
        assert sock.version() == "TLSv1.3"
    for port, context in ((tls.only12, trusting(oldest=TLS13)), (tls.only13, trusting(newest=TLS12))):
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            connect(port, context=context)
    other = trusting(newest=TLS12)
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        connect(tls.only12, context=other)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_that_are_broken_are_refused(tls: Site, version: str) -> None:
    out = s_client(tls.port, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in out, out
    assert "Cipher is (NONE)" in out, out


def test_the_protocol_is_agreed_on_by_alpn(tls: Site) -> None:
    for offered in (["http/1.1"], ["h2", "http/1.1"]):
        with connect(tls.port, context=trusting(alpn=offered)) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
    with connect(tls.port, context=trusting(alpn=["h2"])) as sock:
        assert sock.selected_alpn_protocol() is None, "HTTP/2 is not switched on here"
    for offered, chosen in ((["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), (["spdy/3"], None), ([], None)):
        with connect(tls.h2, context=trusting(alpn=offered)) as sock:
            assert sock.selected_alpn_protocol() == chosen
            if chosen != "h2":
                assert b" 200 " in ask(sock)


@pytest.mark.parametrize("newest", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_the_access_log_says_what_was_agreed_on(tls: Site, newest: ssl.TLSVersion) -> None:
    with connect(tls.port, context=trusting(newest=newest)) as sock:
        for number in (1, 2):
            ask(sock, f"/logged/{newest.name}/{number}")
        cipher = (sock.cipher() or ("",))[0]
    version = newest.name.replace("_", ".")
    log = tls.pingap.dir / "access.log"
    until(lambda: f"/logged/{newest.name}/2" in log.read_text(), 5, "the requests are logged")
    lines = {line.split()[0][-1]: line for line in log.read_text().splitlines() if f"/logged/{newest.name}/" in line}
    assert re.fullmatch(rf"\S+ 200 {version} {cipher} \d+\.", lines["1"]), lines["1"]
    assert re.fullmatch(rf"\S+ 200 {version} {cipher} \.", lines["2"]), "the handshake belongs to the first request"


def test_of_requests_that_are_in_flight_together_one_has_the_handshake(tls: Site, shared_origin: Origin) -> None:
    needs("curl")
    together = threading.Barrier(3)

    def wait_for_the_others(exchange: Exchange) -> None:
        together.wait(10)
        exchange.reply()

    paths = [f"/together/{number}" for number in range(3)]
    shared_origin.on |= dict.fromkeys(paths, wait_for_the_others)
    urls = [argument for path in paths for argument in ("-o", "/dev/null", f"https://127.0.0.1:{tls.h2}{path}")]
    done = subprocess.run(["curl", "-sSkZ", "--http2", "--no-progress-meter", *urls], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    log = tls.pingap.dir / "access.log"
    until(lambda: log.read_text().count("/together/") == 3, 5, "the requests are logged")
    lines = [line for line in log.read_text().splitlines() if "/together/" in line]
    assert len([line for line in lines if re.search(r" \d+\.$", line)]) == 1, lines


def test_handshakes_are_counted_by_version_and_failures_too(tls: Site) -> None:
    with connect(tls.port, context=trusting(newest=TLS12)) as sock:
        ask(sock)
    with pytest.raises(ssl.SSLError):
        connect(tls.only13, context=trusting(newest=TLS12))

    def counted() -> bool:
        with Client(tls.port, tls=True) as client:
            page = client.get("/metrics").body.decode()
        done = all(f'pingap_accept_tls_handshakes_total{{version="{version}"}}' in page for version in ("TLSv1.2", "TLSv1.3"))
        timed = re.search(r'pingap_tls_handshake_time_count\{server="plain"\} ([1-9])', page)
        return done and "pingap_accept_tls_handshakes_failed_total" in page and timed is not None

    until(counted, 8, "the handshakes are counted")


# -- sessions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_a_session_is_gone_on_with_even_after_a_reload(tls: Site, newest: ssl.TLSVersion) -> None:
    context = trusting(newest=newest)
    with connect(tls.port, context=context) as sock:
        ask(sock)
        assert not sock.session_reused
        session = sock.session
    assert session is not None and session.has_ticket
    with connect(tls.port, context=context, session=session) as sock:
        assert sock.session_reused
        ask(sock)
        session = sock.session
    assert tls.pingap.command("reload").returncode == 0
    with connect(tls.port, context=context, session=session) as sock:
        assert sock.session_reused
        assert b" 200 " in ask(sock, "/resumed")


def test_openssl_reconnects_with_its_session(tls: Site) -> None:
    out = s_client(tls.port, "-tls1_2", "-reconnect")
    assert len(re.findall("^Reused, TLSv1.2", out, re.MULTILINE)) == 5, out
    kept = str(tls.names.root / "session")
    request = "GET / HTTP/1.1\nHost: a.example\nConnection: close\n\n"
    s_client(tls.port, "-tls1_3", "-crlf", "-ign_eof", "-sess_out", kept, talk=[("", request)])
    out = s_client(tls.port, "-tls1_3", "-crlf", "-ign_eof", "-sess_in", kept, talk=[("", request)])
    assert "Reused, TLSv1.3" in out and "HTTP/1.1 200 OK" in out, out


def test_a_session_is_gone_on_with_by_whatever_replica_the_kernel_chooses(origin: Origin, tmp_path: Path) -> None:
    names = Names(tmp_path)
    text = site([origin.port], server="global_certificates = true\nreuse_port = true\nthreads = 2", more=names.config())
    context = trusting()
    with Pingap(text) as pingap:
        with connect(pingap.port, context=context) as sock:
            ask(sock)
            session = sock.session

        def goes_on() -> None:
            for number in range(16):  # the kernel chooses by the port that the client happens to have
                with connect(pingap.port, context=context, session=session) as sock:
                    assert b" 200 " in ask(sock)
                    assert sock.session_reused, number

        goes_on()
        before = {row.pid for row in pingap.replicas("accept")}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len({row.pid for row in pingap.replicas("accept")} - before) == 2, 10, "both are back")
        goes_on()


# -- handshakes that do not end ------------------------------------------------------------------


def client_hello(name: str = "a.example") -> bytes:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(into, out, False, name).do_handshake()
    return out.read()


def test_two_hundred_clients_that_stall_in_their_handshake_hold_up_nobody_and_are_closed(tls: Site) -> None:
    hello = client_hello()
    stalled = []
    try:
        for number in range(200):
            sock = socket.create_connection(("127.0.0.1", tls.hasty), 10)
            stalled.append(sock)
            # Some say nothing, some a part of their hello, some all of it.
            sock.sendall(hello[: (0, 1, 100, len(hello))[number % 4]])
            if number % 20 == 0:
                with connect(tls.hasty) as other:
                    assert b" 200 " in ask(other)
        for sock in stalled:
            sock.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass
    finally:
        for sock in stalled:
            sock.close()
    with connect(tls.hasty) as other:
        assert b" 200 " in ask(other)


def test_a_hello_in_single_bytes_is_understood(tls: Site) -> None:
    sock = socket.create_connection(("127.0.0.1", tls.port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sock:
        for byte in client_hello():
            sock.sendall(bytes([byte]))
        answer = sock.recv(5)
    assert answer[:2] == b"\x16\x03", "a ServerHello, no alert and no page"


def test_plain_http_on_the_port_is_told_so(tls: Site) -> None:
    with Client(tls.port) as client:
        response = client.get("/")
        assert response.status == 400 and b"https" in response.body
        assert client.is_closed()


def test_tls_on_a_plain_port_is_refused(tls: Site) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(tls.plain)
    with Client(tls.plain) as client:
        assert client.get("/").status == 200


# -- how connections end ---------------------------------------------------------------------------


def test_both_sides_say_that_they_end(tls: Site) -> None:
    with connect(tls.port) as sock:
        ask(sock, "/", "Connection: close\r\n")
        assert sock.recv(1) == b"", "close_notify, not a cut: that would raise"
    with connect(tls.port) as sock:
        ask(sock)
        assert sock.unwrap() is not None, "our close_notify is answered by one"


def test_an_answer_that_was_cut_short_does_not_look_whole(tls: Site, shared_origin: Origin) -> None:
    def short(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        exchange.close()

    def until_closed(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        exchange.close()

    shared_origin.on |= {"/short": short, "/until-closed": until_closed}
    with Client(tls.port, tls=True) as client, pytest.raises((Closed, ConnectionError, ssl.SSLError)):
        client.get("/short")
    with connect(tls.port) as sock:
        # Towards HTTP/1.0 the end of the body is the end of the connection, so that must not be an orderly one.
        sock.sendall(b"GET /until-closed HTTP/1.0\r\n\r\n")
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            while sock.recv(65536):
                pass


def test_an_upload_that_was_cut_short_does_not_look_whole(tls: Site, shared_origin: Origin) -> None:
    cut = threading.Event()

    def upload(exchange: Exchange) -> None:
        try:
            exchange.read_body()
        except ConnectionError:
            cut.set()
            raise

    shared_origin.on["/cut-upload"] = upload
    for end in ("close_notify", "none"):
        cut.clear()
        with connect(tls.port) as sock:
            sock.sendall(b"POST /cut-upload HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            shared_origin.wait("/cut-upload")
            if end == "close_notify":
                with contextlib.suppress(OSError, ssl.SSLError):
                    sock.unwrap()
            else:
                sock.shutdown(socket.SHUT_WR)
            assert cut.wait(5), end


def test_a_refusal_reaches_a_client_that_is_still_sending(tls: Site) -> None:
    for newest in (TLS12, TLS13):
        with connect(tls.port, context=trusting(newest=newest)) as sock:
            sock.sendall(b"POST /refused HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
            with contextlib.suppress(OSError, ssl.SSLError):
                for _ in range(30):
                    sock.sendall(b"x" * 16384)
            got = b""
            with contextlib.suppress(OSError, ssl.SSLError):
                while part := sock.recv(65536):
                    got += part
        assert got.startswith(b"HTTP/1.1 400 "), newest


def test_tampered_bytes_end_the_connection(tls: Site, shared_origin: Origin) -> None:
    with connect(tls.port) as sock:
        ask(sock)
        with socket.socket(fileno=sock.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            raw.settimeout(10)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while part := raw.recv(65536):
                    got += part
    assert got[:3] in (b"\x17\x03\x03", b""), "an alert, and then the end"


def test_renegotiation_is_refused(tls: Site) -> None:
    out = s_client(tls.only12, "-tls1_2", talk=[("SSL handshake has read", "R\n")])
    assert "RENEGOTIATING" in out, out
    assert "no renegotiation" in out, out


def test_keys_may_be_updated_in_mid_connection(tls: Site) -> None:
    request = "GET /after-update HTTP/1.1\nHost: a.example\n\n"
    talk = [("SSL handshake has read", "K\n"), ("KEYUPDATE", request), ("\r\n\r\n/after-update", "Q\n")]
    out = s_client(tls.port, "-tls1_3", "-crlf", talk=talk)
    assert "KEYUPDATE" in out and "HTTP/1.1 200 OK" in out, out


# -- check --------------------------------------------------------------------------------------------


def test_check_names_each_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    good, other = self_signed("a.example"), self_signed("b.example")
    needs("openssl")
    locked = subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x"], input=other[1], capture_output=True, text=True, check=True, timeout=20
    ).stdout

    def pair(name: str, cert: str, its_key: str) -> str:
        return f"[certificates.{name}]\ntls_cert = '''{cert}'''\ntls_key = '''{its_key}'''\n"

    text = '[servers.web]\naddr = "127.0.0.1:0"\nglobal_certificates = true\n' + "".join(
        (
            pair("garbled", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", good[1]),
            pair("mixed", good[0], other[1]),
            pair("expired", *self_signed("old.example", days=-0.5)),
            pair("locked", other[0], locked),
            pair("keyless", good[0], good[0]),
            pair("swapped", good[1], good[1]),
            pair("absent", str(tmp_path / "nothing.pem"), good[1]),
            pair("empty", "", good[1]),
        )
    )
    path = tmp_path / "pingap.toml"
    path.write_text(text)
    done = subprocess.run([COMMAND, "check", "-c", str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    told = dict(re.findall(r"^  certificates\.(\w+\.\w+): (.*)$", done.stderr + done.stdout, re.MULTILINE))
    for item, said in {
        "garbled.tls_cert": "is no certificate",
        "mixed.tls_key": "does not belong",
        "locked.tls_key": "is encrypted",
        "keyless.tls_key": "is no private key",
        "swapped.tls_cert": "is no certificate",
        "absent.tls_cert": "cannot be read",
        "empty.tls_cert": "is empty",
    }.items():
        assert said in told.get(item, ""), (item, told)
    shown = done.stderr + done.stdout
    keys = [line for key in (good[1], other[1], locked) for line in key.splitlines() if not line.startswith("-----")]
    assert keys and not any(line in shown for line in keys), "no key is shown"


def test_what_is_wrong_with_one_certificate_keeps_no_other_site_from_a_start(placement: str, shared_origin: Origin) -> None:
    """Expired, for another name, doubled: loud, and served."""
    good, expired, foreign = self_signed("good.example"), self_signed("old.example", days=-0.5), self_signed("other.example")
    more = "".join(
        f"[certificates.{name}]\ntls_cert = '''{pair[0]}'''\ntls_key = '''{pair[1]}'''\n{keys}\n"
        for name, pair, keys in (
            ("good", good, "is_default = true"),
            ("old", expired, ""),
            ("foreign", foreign, 'domains = "f.example, good.example"\nis_default = true'),
        )
    )
    config = site([shared_origin.port], server='global_certificates = true\nprometheus_metrics = "/metrics"', more=more)
    with Pingap(config, placement) as instance:
        for line in (
            "certificates.old.tls_cert: expired on ",
            "certificates.foreign.domains: the certificate is not for f.example",
            "certificates.foreign.domains: good.example is also in certificates.good, which is the one that is used",
            "certificates.foreign.is_default: certificates.good is the default already",
        ):
            assert f"note: {line}" in instance.output()
        instance.wait_output(r"WARN +config\.0 configuration committed .*notes=.*expired on")
        for name in ("good.example", None, "old.example", "f.example"):
            with connect(instance.port, name) as sock:
                served = {"old.example": expired, "f.example": foreign}.get(name or "", good)
                assert sock.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(served[0])
                assert b" 200 " in ask(sock)

        def page() -> str:
            with connect(instance.port, "good.example") as sock:
                sock.sendall(b"GET /metrics HTTP/1.0\r\nHost: a.example\r\n\r\n")
                return sock.makefile().read()

        assert re.search(r'pingap_certificate_expiration_timestamp_seconds\{certificate="old"\} 1\.\d+e\+09', page())
        until(lambda: "\npingap_configuration_notes 4.0\n" in page(), 5, "the config stage has told its figures")
