"""Who may, and where: users, TLS with certificates of clients, several endpoints of which some are dead."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, NotWritten, Reading
from pingap.config.storage.etcd.storage import EtcdStorage
from tests.etcd.conftest import Open
from tests.kit.etcd import Etcd, need_etcd
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.processes

PASSWORD = "s3cr3t&x"


# -- users --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd where `us` may read and write /p/, `reader` only read it. Tokens end after a second."""
    with Etcd(tmp_path_factory.mktemp("etcd"), None, "one", 0, "", "--auth-token-ttl", "1") as server:
        server.put("/p/a.toml", "1")
        for name, rights in (("us", "readwrite"), ("reader", "read")):
            server.ctl("role", "add", name)
            server.ctl("role", "grant-permission", "--prefix=true", name, rights, "/p/")
            server.ctl("user", "add", f"{name}:{PASSWORD}")
            server.ctl("user", "grant-role", name, name)
        server.ctl("user", "add", f"root:{PASSWORD}")
        server.ctl("user", "grant-role", "root", "root")
        server.ctl("auth", "enable")
        yield server


def of(server: Etcd, user: str, password: str = "$ENV:ETCD_WORD") -> str:
    return f"etcd://{server.endpoint}/p?user={user}&password={password}"


@pytest.fixture(autouse=True)
def word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_WORD", PASSWORD)


def as_root(server: Etcd, *words: str, text: str | None = None) -> str:
    return server.ctl("--user", f"root:{PASSWORD}", *words, text=text)


def test_a_user_reads_writes_and_is_told_of_changes(guarded: Etcd, opened: Open) -> None:
    storage = opened(of(guarded, "us"))
    version = storage.write(Document("b.toml", "1"), storage.read().version)
    assert storage.read().version == version
    until(lambda: storage.fingerprint() and storage.watcher.is_watching, 5, "the watch has begun")
    before = storage.fingerprint()
    as_root(guarded, "put", "/p/b.toml", "2")
    until(lambda: storage.fingerprint() != before, 5, "the change")


def test_a_token_that_has_ended_is_renewed(guarded: Etcd, opened: Open) -> None:
    storage = opened(of(guarded, "us"))
    storage.read()
    old = storage._cluster.token
    assert old
    until(lambda: storage.read() and storage._cluster.token != old, 10, "a token was renewed", every=1.5)
    storage._cluster.token = "no such token"
    storage.read()
    storage._cluster.token = "no such token"
    storage.write(Document("c.toml", str(time.time())), storage.read().version)


def test_a_token_that_etcd_has_forgotten_does_not_end_the_watch(guarded: Etcd, opened: Open) -> None:
    storage = opened(of(guarded, "us"))
    until(lambda: storage.fingerprint() or None, 5, "the watch knows what is there")
    guarded.stop()
    until(lambda: storage.trouble, 10, "the trouble is told")
    guarded.launch()
    until(lambda: not storage.trouble, 15, "the trouble is over")
    before = storage.fingerprint()
    as_root(guarded, "put", "/p/d.toml", str(time.time()))
    until(lambda: storage.fingerprint() != before, 5, "the change")


def why(storage: EtcdStorage) -> str:
    with pytest.raises(ConfigRefused) as caught:
        storage.read()
    assert PASSWORD not in str(caught.value)
    return str(caught.value.problems[0])


def test_whoever_may_not_is_told_what_is_missing(guarded: Etcd, opened: Open) -> None:
    assert why(opened(f"etcd://{guarded.endpoint}/p")).endswith("etcd asks who we are: add ?user=NAME&password=$ENV:NAME")
    assert "authentication failed, invalid user ID or password" in why(opened(of(guarded, "us", "wrong")))
    assert "permission denied" in (text := why(opened(of(guarded, "us").replace("/p?", "/q?"))))
    assert "us must be allowed to read and write keys that begin with /q/" in text
    reader = opened(of(guarded, "reader"))
    with pytest.raises(NotWritten, match="permission denied"):
        reader.write(Document("b.toml", "mine"), reader.read().version)


def test_a_watch_that_is_not_allowed_is_trouble_and_no_hurry(guarded: Etcd, opened: Open) -> None:
    storage = opened(of(guarded, "us", "wrong"))
    storage.fingerprint()
    until(lambda: storage.trouble, 5, "the trouble is told")
    assert "authentication failed" in storage.trouble


def test_a_user_where_nobody_needs_one_does_no_harm(etcd: Etcd, prefix: str, opened: Open) -> None:
    storage = opened(f"etcd://{etcd.endpoint}{prefix}?user=me&password=x")
    storage.write(Document("a.toml", "1"), Reading(()).version)
    assert storage.read().documents


# -- TLS ------------------------------------------------------------------------------


def _certificates(root: Path) -> None:
    """ca.pem; server.pem and client.pem with their .key, of that authority; other.pem, an authority of nobody."""
    now = datetime.datetime.now(datetime.UTC)
    authority = authority_key = None
    for name in ("other", "ca", "server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        is_ca = name in ("other", "ca")
        builder = (
            x509.CertificateBuilder(subject if is_ca else authority, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1))
            .add_extension(x509.BasicConstraints(is_ca, None), True)
        )
        if not is_ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
            # etcd's gateway is a client of etcd, by the certificate of the server.
            uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(names, False).add_extension(uses, False)
        certificate = builder.sign(key if is_ca else authority_key or key, hashes.SHA256())
        if is_ca:
            authority, authority_key = subject, key
        (root / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (root / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd that speaks TLS with those who have a certificate of its authority."""
    root = tmp_path_factory.mktemp("etcd")
    _certificates(root)
    with Etcd(root, (root / "ca.pem", root / "server.pem", root / "server.key")) as server:
        yield server


def test_over_tls_both_sides_show_who_they_are(secured: Etcd, opened: Open) -> None:
    root = secured.root
    files = f"ca={root}/ca.pem&cert={root}/client.pem&key={root}/client.key"
    storage = opened(f"etcds://{secured.endpoint}/p?{files}")
    storage.write(Document("a.toml", "1"), Reading(()).version)
    assert storage.read().documents == (Document("a.toml", "1"),)
    until(lambda: storage.watcher.is_watching if storage.fingerprint() else None, 5, "the watch has begun")
    before = storage.fingerprint()
    secured.ctl("put", "/p/a.toml", "2")
    until(lambda: storage.fingerprint() != before, 5, "the change")
    assert opened(f"etcd://{secured.endpoint}/p?tls=true&{files}").read().documents[0].text == "2"


def test_without_the_right_certificates_the_reason_is_told(secured: Etcd, opened: Open) -> None:
    root, place = secured.root, f"{secured.endpoint}/p"
    client = f"cert={root}/client.pem&key={root}/client.key"
    assert "its certificate is not believed: unable to get local issuer certificate" in why(opened(f"etcds://{place}?{client}"))
    assert "its certificate is not believed" in why(opened(f"etcds://{place}?ca={root}/other.pem&{client}"))
    # What TLS 1.3 says of a missing certificate comes after the handshake, and may be overtaken by the end of the connection.
    assert re.search("tls failed: .*certificate|connection|eof", why(opened(f"etcds://{place}?ca={root}/ca.pem")))
    assert f"ca={root}/none.pem: no such file" in why(opened(f"etcds://{place}?ca={root}/none.pem"))
    assert f"cert={root}/ca.pem, key={root}/client.key: " in why(
        opened(f"etcds://{place}?ca={root}/ca.pem&cert={root}/ca.pem&key={root}/client.key")
    )
    assert why(opened(f"etcd://{place}"))


# -- endpoints --------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full() -> Iterator[str]:
    """An endpoint where connections are not even taken: its queue is full, and the kernel drops what comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"
        for one in waiting:
            one.close()


def test_a_dead_endpoint_costs_at_most_connect_timeout_and_only_once(etcd: Etcd, prefix: str, opened: Open, full: str) -> None:
    etcd.put(f"{prefix}/a.toml", "1")
    storage = opened(f"etcd://{full},127.0.0.1:{free_port()},{etcd.endpoint}{prefix}?connect_timeout=300ms")
    before = time.monotonic()
    storage.read()
    took = time.monotonic() - before
    assert 0.3 <= took < 2
    before = time.monotonic()
    storage.read()
    assert time.monotonic() - before < 0.3, "the one that answered is asked first"


def test_an_endpoint_that_says_nothing_gets_its_share_of_the_time(etcd: Etcd, prefix: str, opened: Open, silent: str) -> None:
    etcd.put(f"{prefix}/a.toml", "1")
    storage = opened(f"etcd://{silent},{etcd.endpoint}{prefix}?timeout=1s")
    storage.read()
    assert storage._cluster.first == 1


def test_when_none_answers_each_is_told_with_its_reason(opened: Open, silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closing = f"127.0.0.1:{listener.getsockname()[1]}"
    dead = f"127.0.0.1:{free_port()}"
    before = time.monotonic()
    text = why(opened(f"etcd://{dead},{silent},{closing}/p?timeout=600ms"))
    assert time.monotonic() - before < 3
    assert f"{dead}: connection refused; {silent}: no answer in time; {closing}: connection refused" in text


def test_what_is_no_etcd_is_told(opened: Open, tmp_path: Path) -> None:
    import http.server
    import threading

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(404 if "kv" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"<html>hello")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert "no JSON gateway there" in why(opened(f"etcd://127.0.0.1:{server.server_port}/p"))
            assert "no etcd answers there" in why(opened(f"etcd://127.0.0.1:{server.server_port}/p?user=a&password=b"))
        finally:
            server.shutdown()
            thread.join()


def test_an_etcd_without_a_gateway_says_what_is_missing(tmp_path: Path, opened: Open) -> None:
    with Etcd(tmp_path, None, "one", 0, "", "--enable-grpc-gateway=false") as server:
        assert "--enable-grpc-gateway=false" in why(opened(f"etcd://{server.endpoint}/p"))


# -- three members ------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Etcd]]:
    need_etcd()
    peers = {name: free_port() for name in ("a", "b", "c")}
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in peers.items())
    members = [Etcd(tmp_path, None, name, port, cluster) for name, port in peers.items()]
    try:
        for member in members:
            member.launch()
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            member.stop()


def test_a_cluster_that_loses_a_member_goes_on_and_one_that_loses_two_says_so(three: list[Etcd], opened: Open) -> None:
    storage = opened(f"etcd://{','.join(member.endpoint for member in three)}/p?timeout=3s")
    version = storage.write(Document("a.toml", "1"), Reading(()).version)
    until(lambda: storage.fingerprint() and storage.watcher.is_watching, 5, "the watch has begun")
    at = storage._cluster.first
    three[at].stop()
    others = [member for number, member in enumerate(three) if number != at]
    until(others[0].answers, 10, "two of three are healthy")
    version = storage.write(Document("a.toml", "2"), version)
    before = storage.fingerprint()
    others[1].put("/p/a.toml", "3")
    until(lambda: storage.fingerprint() != before, 10, "the change")
    version = storage.read().version
    others[1 if storage._cluster.first == three.index(others[0]) else 0].stop()
    with pytest.raises(NotWritten):
        storage.write(Document("a.toml", "4"), version)
    until(lambda: storage.trouble, 30, "a member that is alone is trouble")
