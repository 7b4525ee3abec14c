"""By which name, and where, it is seen whether clients are shown a certificate."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from pingap.config.model import Certificate, Server
from pingap.config.parts import Listen
from pingap.stages.acme.handshakes import addresses_of, name_to_ask, why_not_shown
from pingap.stages.acme.wishes import wanted_of
from tests.e2e.certificate import self_signed
from tests.kit.waiting import free_port

ACME = "https://authority.example/"
SECURE = Server(addr=(Listen("0.0.0.0", 443),), global_certificates=True)


def by_acme(*domains: str, is_default: bool = False) -> Certificate:
    return Certificate(domains=domains, acme=ACME, is_default=is_default)


@contextmanager
def showing(
    folder: Path,
    name: str,
    family: socket.AddressFamily = socket.AF_INET,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    wants_one: bool = False,
) -> Iterator[tuple[int, str]]:
    """(port, fingerprint) of a server with a certificate for `name`, on loopback."""
    cert, key = self_signed(name)
    (folder / "pair.pem").write_text(cert + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    context.maximum_version = newest
    if wants_one:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=cert)
    listener = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True):
                    pass
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], sha256(ssl.PEM_cert_to_DER_cert(cert)).hexdigest()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_is_shown_is_seen_and_what_is_not_is_told(tmp_path: Path, family: socket.AddressFamily) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with showing(tmp_path, "a.example", family) as (port, fingerprint):
        assert why_not_shown([(host, port)], "a.example", fingerprint) == ""
        assert why_not_shown([(host, port)], "*.a.example", fingerprint) == ""
        assert why_not_shown([(host, port)], "192.0.2.7", fingerprint) == "", "no name is asked for"
        assert f"{host}:{port} shows another one for a.example" in why_not_shown([(host, port)], "a.example", "0" * 64)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_is_seen_where_clients_have_to_show_one_of_their_own(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    with showing(tmp_path, "a.example", newest=newest, wants_one=True) as (port, fingerprint):
        assert why_not_shown([("127.0.0.1", port)], "a.example", fingerprint) == ""
        assert "shows another one" in why_not_shown([("127.0.0.1", port)], "a.example", "0" * 64)


def test_who_speaks_no_tls_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in (b"SSH-2.0-x\r\n" * 10, b""):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = ("127.0.0.1", listener.getsockname()[1])
        assert "no handshake" in why_not_shown([address], "a.example", "0" * 64)
        assert "closed in the handshake" in why_not_shown([address], "a.example", "0" * 64)
        thread.join(5)


def test_where_nobody_listens_is_passed_over_only_if_another_shows_it(tmp_path: Path) -> None:
    nobody = ("127.0.0.1", free_port())
    with showing(tmp_path, "a.example") as (port, fingerprint):
        assert why_not_shown([nobody, ("127.0.0.1", port)], "a.example", fingerprint) == ""
    assert "refused" in why_not_shown([nobody], "a.example", fingerprint)
    assert why_not_shown([], "a.example", fingerprint) == "", "nobody speaks TLS here"


def test_it_is_looked_at_where_clients_speak_tls() -> None:
    listens = (Listen("0.0.0.0", 443), Listen("::", 443), Listen("192.0.2.1", 8443), Listen("127.0.0.1", 0))
    servers = {
        "secure": Server(addr=listens, global_certificates=True),
        "again": Server(addr=listens[:1], global_certificates=True),
        "behind": Server(addr=(Listen("127.0.0.1", 444),), global_certificates=True, proxy_protocol=True),
        "plain": Server(addr=(Listen("127.0.0.1", 80),)),
    }
    assert addresses_of(servers) == (("127.0.0.1", 443), ("::1", 443), ("192.0.2.1", 8443))


def test_a_name_is_asked_for_that_is_this_sections_alone() -> None:
    one, two = by_acme("a.example", "b.example"), by_acme("b.example", "c.example")
    both = {"one": one, "two": two}
    assert name_to_ask("one", one.domains, both, both) == "a.example"
    assert name_to_ask("two", two.domains, both, both) == "c.example", "for b.example the first is used"
    assert name_to_ask("two", ("b.example",), both, both) == "", "it cannot be seen: that is no fault of it"
    assert name_to_ask("two", ("b.example",), both, {"two"}) == "b.example", "the first has none yet"


def test_an_address_is_asked_for_where_the_default_is_its_own() -> None:
    address, other = by_acme("192.0.2.7"), by_acme("a.example", is_default=True)
    assert name_to_ask("x", address.domains, {"x": address}, {"x"}) == "192.0.2.7"
    assert name_to_ask("x", address.domains, {"x": address, "y": other}, {"x", "y"}) == ""
    mixed = by_acme("192.0.2.7", "b.example")
    assert name_to_ask("x", mixed.domains, {"x": mixed, "y": other}, {"x", "y"}) == "b.example"


@pytest.mark.parametrize(
    ("servers", "challenge"),
    [
        (
            {"plain": Server(addr=(Listen("0.0.0.0", 80),)), "tls": Server(addr=(Listen("0.0.0.0", 443),), global_certificates=True)},
            "http-01",
        ),
        ({"tls": Server(addr=(Listen("0.0.0.0", 443),), global_certificates=True)}, "tls-alpn-01"),
        ({"plain": Server(addr=(Listen("0.0.0.0", 8080),))}, "http-01"),
        ({"plain": Server(addr=(Listen("0.0.0.0", 80),), proxy_protocol=True)}, "tls-alpn-01"),
    ],
)
def test_a_name_is_proved_where_authorities_can_look(servers: dict[str, Server], challenge: str) -> None:
    certificates = {"a": by_acme("b.example", "a.example", "a.example"), "ca": Certificate(is_ca=True), "file": Certificate()}
    (wanted,) = wanted_of(certificates, servers).values()
    assert (wanted.name, wanted.challenge, wanted.domains) == ("a", challenge, ("a.example", "b.example"))
