"""Contexts for TLS to backends are few, however many upstreams there are, and go by the authorities of today."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from pingap.config.model import Upstream
from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.secure import context_of
from tests.discovery.origin import origin
from tests.discovery.probing import prober_of, why_not
from tests.e2e.certificate import chained


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """Contexts with authorities, as they were made."""
    real: Callable[[], ssl.SSLContext] = ssl.create_default_context
    contexts: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        contexts.append(real())
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", make)
    return contexts


def of(alpn: Literal["h1", "h2", "h2h1"] = "h1", verify: bool = True, only_http1: bool = False) -> ssl.SSLContext:
    """An upstream's."""
    return context_of(Group("api", Upstream(addrs=(), sni="a.example", alpn=alpn, verify_cert=verify), lambda n: 0), only_http1)


def test_upstreams_that_ask_alike_have_one_and_others_have_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root.pem"
    root.write_text(chained("a.example")[2])
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    assert of() is of()
    assert of("h2h1", only_http1=True) is of("h1")
    several = [of("h1"), of("h2"), of("h2h1"), of("h1", verify=False)]
    assert len(set(several)) == 4
    assert [context.verify_mode for context in several] == 3 * [ssl.CERT_REQUIRED] + [ssl.CERT_NONE]


def test_authorities_that_have_changed_count_for_who_asks_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one.pem", tmp_path / "other.pem"
    one.write_text(chained("a.example")[2])
    other.write_text(chained("a.example")[2] + chained("b.example")[2])
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    before = of()
    assert before.cert_store_stats()["x509_ca"] == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert of().cert_store_stats()["x509_ca"] == 2
    one.write_text(other.read_text() + chained("c.example")[2])
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    assert of().cert_store_stats()["x509_ca"] == 3
    assert before.cert_store_stats()["x509_ca"] == 1, "who has one goes on with it"
    one.unlink()
    assert of().cert_store_stats()["x509_ca"] == 0


async def test_the_checks_of_many_upstreams_read_the_authorities_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[ssl.SSLContext]
) -> None:
    certificate, key, root = chained("app.example")
    (tmp_path / "root.pem").write_text(root)
    (tmp_path / "site.pem").write_text(certificate + key)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    site = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    site.load_cert_chain(tmp_path / "site.pem")
    check = HealthCheck("https", "app.example", verify_cert=True)
    async with origin(tls=site) as backend:
        for _ in range(5):
            assert await why_not(prober_of(check), CheckTarget(backend.address, "127.0.0.1", backend.port)) == ""
    assert len(made) == 1
