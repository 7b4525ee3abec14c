"""`pingap certs`: its table, and what `probe` says of whom it meets."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pingap import certs_table, cli, client
from pingap.certs_table import colour_of, unwell
from pingap.stages.certificate_status import DAY, TO_BE_SET, CertificateStatus, plain_certificate
from pingap.tls_probe import BadTlsTarget, TlsTarget, parse_target
from tests.e2e.certificate import authority, chained, self_signed

NOW = 1_800_000_000.0
LE = "Let's Encrypt"


def row(name: str, *domains: str, days: float | None = 60, state: str = "valid", source: str = "file", **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"servers": ("web",)}
    if days is not None:
        fields |= {"not_before": NOW - 30 * DAY, "not_after": NOW + days * DAY, "issuer": f"{LE} E7", "fingerprint": "ab" * 32}
    return plain_certificate(CertificateStatus(name, domains, state, source, **(fields | more)), NOW)


def by_acme(name: str, *domains: str, **more: Any) -> dict[str, Any]:
    return row(name, *domains, **({"source": "acme", "authority": LE, "challenge": "http-01"} | more))


BUSY = [
    row("site", "a.example", "www.a.example", "b.example", days=60.5),
    row("old", "old.example", days=-1.5, state="expired", warnings=("no server uses it",)),
    by_acme("shop", "shop.example", days=29.9, next_renewal=NOW + 3 * DAY, renewal_reason="a third of its lifetime"),
    by_acme(
        "late", "late.example", days=1.2, state="expires soon", last_error="no route", failed_at=NOW - 120, attempts=7, next_try=NOW + 480
    ),
    by_acme("new", "new.example", days=None, state="waiting", last_error="NXDOMAIN", attempts=1, failed_at=NOW - 5, next_try=NOW + 60),
    by_acme("dns", "*.dns.example", days=None, state="issuing", step="set the DNS record _acme-challenge.dns.example IN TXT x"),
]


def shown(rows: list[dict[str, Any]], width: int) -> list[str]:
    return [line.text for line in certs_table.lines(rows, NOW, width)]


def test_a_wide_terminal_has_all_of_it() -> None:
    assert shown(BUSY, 200) == [
        "NAME  DOMAINS                      ISSUER              DAYS  STATE         SOURCE  RENEWS  USED BY",
        "site  a.example, www.a.example +1  Let's Encrypt E7      60  valid         file         -  web",
        "old   old.example                  Let's Encrypt E7  -1d12h  expired       file         -  web",
        "  no server uses it",
        "shop  shop.example                 Let's Encrypt E7      29  valid         acme     in 3d  web",
        "late  late.example                 Let's Encrypt E7    1d4h  expires soon  acme     in 8m  web",
        "  Let's Encrypt: failed 7 times, 2m ago: no route; next try in 8m",
        "new   new.example                  -                      -  waiting       acme     in 1m  web",
        "  Let's Encrypt: failed once, 5s ago: NXDOMAIN; next try in 1m",
        "dns   *.dns.example                -                      -  issuing       acme       now  web",
        "  Let's Encrypt: set the DNS record _acme-challenge.dns.example IN TXT x",
    ]


def test_eighty_columns_have_what_matters() -> None:
    lines = [line for line in shown(BUSY, 80) if not line.startswith("  ")]
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["NAME", "DOMAINS", "DAYS", "STATE", "SOURCE", "RENEWS"]


@given(st.integers(20, 200), st.lists(st.text("abcdefghij.", min_size=1, max_size=60), min_size=0, max_size=300))
def test_two_hundred_domains_are_no_wider_than_the_terminal(width: int, domains: list[str]) -> None:
    line = shown([row("a" * 40, *domains)], width)[1]
    assert len(line) <= max(width, 55)


def test_what_stands_out() -> None:
    found = {line.text.split()[0]: colour_of(line.state) for line in certs_table.lines(BUSY, NOW) if not line.text.startswith("  ")}
    assert found == {"NAME": "", "site": "", "old": "red", "shop": "", "late": "yellow", "new": "red", "dns": "yellow"}
    failing = by_acme("f", "f.example", last_error="no", attempts=1, next_try=NOW)
    assert colour_of(certs_table.lines([failing], NOW)[1].state) == "yellow"


def test_what_a_peer_has_said_is_not_for_the_terminal() -> None:
    evil = by_acme("e", "e.example", last_error="\x1b[2Jgone", attempts=1)
    assert all(line.isprintable() for line in shown([evil], 0))


def test_health_names_those_that_are_not_valid() -> None:
    assert unwell(BUSY) == ["old (expired)", "late (expires soon)", "new (waiting)", "dns (issuing)"]
    assert unwell([row("a", "a.example"), by_acme("b", "b.example", last_error="no", attempts=1)]) == []


# -- the command against an instance that answers ------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, answers: Callable[..., Any], *argv: str) -> Result:
    monkeypatch.setattr(client, "ask", lambda directory, word, *args, **more: answers(word, *args))
    return CliRunner().invoke(cli.commands, ["certs", *argv], prog_name="pingap")


@pytest.mark.parametrize(("rows", "code", "said"), [(BUSY[:1], 0, "site is valid"), (BUSY, 3, "not valid: old (expired), ")])
def test_the_exit_code_of_health(monkeypatch: pytest.MonkeyPatch, rows: Any, code: int, said: str) -> None:
    result = run(monkeypatch, lambda word, *args: rows, "--health")
    assert result.exit_code == code and said in result.output


def test_json_is_what_the_stage_says(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, lambda word, *args: BUSY, "--json")
    assert json.loads(result.output) == json.loads(json.dumps(BUSY))
    assert "no certificates" in run(monkeypatch, lambda word, *args: []).output


def test_a_renewal_says_what_is_done_and_ends_with_the_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = threading.Event()
    steps = iter(["new order", "challenge shop.example", "challenge shop.example", "checked by ourselves"])

    def answers(word: str, *args: Any) -> Any:
        if word == "cert-renew":
            assert args == ("shop",) and seen.wait(10)
            return by_acme("shop", "shop.example", days=90)
        step = next(steps, "")
        if not step:
            seen.set()
        return [by_acme("shop", "shop.example", step=step)]

    monkeypatch.setattr("pingap.commands.certs.LOOK", 0.01)
    result = run(monkeypatch, answers, "renew", "shop")
    assert result.exit_code == 0
    *said, end = result.output.splitlines()
    assert said == ["shop: new order", "shop: challenge shop.example", "shop: checked by ourselves"]
    assert re.fullmatch(r"shop is renewed: of Let's Encrypt E7, from 2026-12-16 08:00 UTC to 2027-04-15 08:00 UTC \(.* left\)", end)


def test_a_renewal_that_waits_for_people_says_so_once_and_may_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = threading.Event()
    both, one = f"{TO_BE_SET}s a IN TXT x; b IN TXT y", f"{TO_BE_SET} b IN TXT y"
    steps = iter(["order", both, both, one])

    def answers(word: str, *args: Any) -> Any:
        if word == "cert-renew":
            assert seen.wait(10)
            return by_acme("shop", "shop.example", days=90)
        step = next(steps, "")
        if not step:
            seen.set()
        return [by_acme("shop", "shop.example", step=step)]

    monkeypatch.setattr("pingap.commands.certs.LOOK", 0.01)
    lines = run(monkeypatch, answers, "renew", "shop").output.splitlines()
    assert lines[:2] == ["shop: order", f"shop: {both}"] and lines[3] == f"shop: {one}"
    assert "Ctrl-C" in lines[2] and len(lines) == 5


def test_a_renewal_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(word: str, *args: Any) -> Any:
        raise client.AskRefused("certificate 'site' does not come by ACME")

    result = run(monkeypatch, refuses, "renew", "site")
    assert result.exit_code == 1 and "pingap: certificate 'site' does not come by ACME" in result.output


def test_a_renewal_that_takes_too_long_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr("pingap.commands.certs.LOOK", 0.01)
    monkeypatch.setattr("pingap.commands.certs.RENEWING", 0.05)
    result = run(monkeypatch, lambda word, *args: end.wait(10) if word == "cert-renew" else [], "renew", "shop")
    end.set()
    assert result.exit_code == 1 and "the try goes on" in result.output


# -- probe: whom one means -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.example", TlsTarget("a.example", 443)),
        ("A.example.:8443", TlsTarget("a.example", 8443)),
        ("bücher.example", TlsTarget("xn--bcher-kva.example", 443)),
        ("127.0.0.1:1", TlsTarget("127.0.0.1", 1)),
        ("::1", TlsTarget("::1", 443)),
        ("[::1]:8443", TlsTarget("::1", 8443)),
        ("https://a.example:8443/x", TlsTarget("a.example", 8443)),
        ("https://[::1]/", TlsTarget("::1", 443)),
    ],
)
def test_who_is_meant(text: str, found: TlsTarget) -> None:
    assert parse_target(text) == found


@pytest.mark.parametrize(
    "text", ["", ":443", "a.example:0", "a.example:x", "a.example:70000", "a..b", "[::1", "http://a.example", "[::1]x", "*.a.example"]
)
def test_whom_nobody_can_mean(text: str) -> None:
    with pytest.raises(BadTlsTarget):
        parse_target(text)


# -- probe: whom one meets -----------------------------------------------------------------------------


@contextmanager
def peer(handle: Callable[[socket.socket], None], family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    """Its port: each connection is handled in a thread."""
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listening.listen(16)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.settimeout(10)
                with connection, suppress(OSError):
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(15)


def tls(cert: str, key: str, folder: Path, **more: Any) -> Callable[[socket.socket], None]:
    path = folder / "pair.pem"
    path.write_text(key + cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    for name, value in more.items():
        setattr(context, name, value)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    return handle


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """No instance runs."""
    monkeypatch.setenv("PINGAP_RUN_DIR", str(tmp_path / "none"))

    def probed(*argv: str) -> Result:
        return CliRunner().invoke(cli.commands, ["certs", "probe", *argv], prog_name="pingap")

    return probed


Probe = Callable[..., Result]


def test_one_that_is_believed(probe: Probe, tmp_path: Path) -> None:
    cert, key, root = chained("shop.example")
    (tmp_path / "root.pem").write_text(root)
    with peer(tls(cert, key, tmp_path)) as port:
        argv = (f"shop.example:{port}", "--connect", "127.0.0.1", "--ca", str(tmp_path / "root.pem"))
        text, data = probe(*argv), probe(*argv, "--json")
    assert (text.exit_code, data.exit_code) == (0, 0), text.output
    lines = dict(line.split(None, 1) for line in text.output.splitlines()[1:])
    assert text.output.startswith(f"shop.example:{port} at 127.0.0.1:{port}\n")
    assert lines["trusted"] == "yes, for shop.example"
    assert lines["protocol"].startswith("TLSv1.3, TLS_") and lines["protocol"].endswith(", h2")
    assert (lines["names"], lines["key"], lines["issuer"]) == ("shop.example", "RSA 2048", "authority")
    assert lines["chain"] == "shop.example < authority"
    assert re.search(r"UTC: (30d|29d23h) left", lines["valid"])
    found = json.loads(data.output)
    assert (found["trusted"], found["distrust"], found["names"], found["held"]) == (True, None, ["shop.example"], None)
    assert [one["subject"] for one in found["chain"]] == ["shop.example", "authority"] and 29.9 < found["days"] < 30.1


@pytest.mark.parametrize(
    ("name", "days", "is_known", "why"),
    [
        ("a.example", 30, False, "no: it is signed by itself, and this system does not know it"),
        ("other.example", 30, True, "no: it is not for other.example, but for a.example"),
        ("127.0.0.1", 30, True, "no: it is not for 127.0.0.1, but for a.example"),
        ("a.example", -0.5, True, "no: it is expired"),
    ],
)
def test_one_that_is_not(probe: Probe, tmp_path: Path, name: str, days: float, is_known: bool, why: str) -> None:
    cert, key = self_signed("a.example", days=days)
    (tmp_path / "root.pem").write_text(cert if is_known else authority("other")[0])
    with peer(tls(cert, key, tmp_path)) as port:
        result = probe(f"{name}:{port}", "--connect", "127.0.0.1", "--ca", str(tmp_path / "root.pem"))
    assert result.exit_code == 1
    assert f"trusted   {why}" in result.output
    assert "names     a.example" in result.output and "sha256" in result.output, "what it is, all the same"


def test_a_chain_that_is_not_complete(probe: Probe, tmp_path: Path) -> None:
    cert, key, root = chained("shop.example")
    (tmp_path / "root.pem").write_text(root)
    leaf = cert[: cert.index("-----END CERTIFICATE-----") + 26]
    with peer(tls(leaf, key, tmp_path)) as port:
        result = probe(f"shop.example:{port}", "--connect", "127.0.0.1", "--ca", str(tmp_path / "root.pem"))
    assert result.exit_code == 1 and "the chain that was sent is not complete" in result.output, result.output
    assert "chain     shop.example\n" in result.output


def test_by_ipv6_and_by_tls_1_2(probe: Probe, tmp_path: Path) -> None:
    cert, key = self_signed("a.example")
    (tmp_path / "root.pem").write_text(cert)
    handle = tls(cert, key, tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)
    try:
        with peer(handle, socket.AF_INET6) as port:
            result = probe("a.example", "--connect", f"[::1]:{port}", "--ca", str(tmp_path / "root.pem"))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert result.exit_code == 0 and f"a.example:443 at [::1]:{port}\n" in result.output and "TLSv1.2, " in result.output


def says(answer: bytes) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.recv(65536)

    return handle


@pytest.mark.parametrize(
    ("handle", "why"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "speaks no TLS"),
        (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "speaks no TLS"),
        (lambda connection: None, "ended the connection in the handshake"),
        (lambda connection: connection.recv(65536), "ended the connection in the handshake"),
        (lambda connection: (connection.recv(65536), connection.recv(1)), "did not answer within 0.3 s"),
        (says(b"\x15\x03\x03\x00\x02\x02\x70"), "it has no certificate for a.example"),
        (says(b"\x15\x03\x03\x00\x02\x02\x28"), "refused the handshake (sslv3 alert handshake failure)"),
        (says(b"\x15\x03\x03\x00\x02\x02\x46"), "speaks neither TLS 1.2 nor 1.3"),
    ],
)
def test_what_is_no_tls(probe: Probe, handle: Callable[[socket.socket], None], why: str) -> None:
    with peer(handle) as port:
        result = probe(f"a.example:{port}", "--connect", "127.0.0.1", "--timeout", "0.3")
    assert result.exit_code == 1 and why in result.output, result.output
    assert result.output.count("\n") == 1


def test_nobody_there_and_nobody_known(probe: Probe, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert probe(f"127.0.0.1:{port}").output == f"pingap: no connection to 127.0.0.1:{port}: connection refused\n"
    assert "cannot be looked up" in probe("nobody.invalid").output
    assert probe("127.0.0.1", "--ca", str(tmp_path / "none.pem")).exit_code == 1
    assert probe("a..b").exit_code == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            lambda fingerprint: [row("site", "a.example", fingerprint=fingerprint)],
            "held      yes, it is certificates.site of the instance in ",
        ),
        (lambda fingerprint: [row("site", "*.example")], "has another for it: certificates.site"),
        (lambda fingerprint: [row("site", "b.example")], "has none for a.example"),
        (
            lambda fingerprint: [row("site", "a.example"), row("dev", source="mints", issuer="a.example")],
            "held      it was made with certificates.dev of the instance in ",
        ),
        (lambda fingerprint: [row("dev", source="mints", issuer="another")], "has none for a.example"),
    ],
)
def test_whether_the_running_instance_holds_it(monkeypatch: pytest.MonkeyPatch, probe: Probe, tmp_path: Path, rows: Any, said: str) -> None:
    from pingap.config.leaf_facts import leaf_facts

    cert, key = self_signed("a.example")
    monkeypatch.setattr(client, "ask", lambda directory, word, *args: rows(leaf_facts(cert).fingerprint))
    with peer(tls(cert, key, tmp_path)) as port:
        assert said in probe(f"a.example:{port}", "--connect", "127.0.0.1").output
