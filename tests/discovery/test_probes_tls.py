"""Checks by https: whom they ask for, what they believe, and how the handshake can fail."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from pingap.config.parts import HealthCheck
from tests.discovery.origin import Origin, hostile, origin
from tests.discovery.probing import prober_of, target_of, why_not
from tests.e2e.certificate import chained, self_signed

HTTPS = HealthCheck("https", "app.example", "/ping?deep=1", connection_timeout=5, read_timeout=5)


class Site:
    """A server's context, and the names that it was asked for."""

    def __init__(self, root: Path, certificate: str, key: str) -> None:
        self.names: list[str | None] = []
        file = root / "site.pem"
        file.write_text(certificate + key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(file)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.sni_callback = lambda tls, name, _: self.names.append(name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, *self_signed("other.example"))


async def why(check: HealthCheck, at: Origin) -> str:
    return await why_not(prober_of(check), target_of(at))


async def test_it_asks_for_the_host_of_the_url_and_takes_any_certificate(site: Site) -> None:
    async with origin(tls=site.context) as backend:
        assert await why(HTTPS, backend) == ""
        assert site.names == ["app.example"]
        head = backend.requests[0].lower()
        assert head.startswith(b"get /ping?deep=1 http/1.1\r\nhost: app.example\r\n")
        backend.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        assert await why(HTTPS, backend) == "answered with status 503"


async def test_a_certificate_counts_when_that_is_asked(site: Site) -> None:
    async with origin(tls=site.context) as backend:
        reason = await why(replace(HTTPS, verify_cert=True), backend)
        assert reason.startswith("TLS handshake as app.example: its certificate is not accepted: ")


async def test_a_good_certificate_passes_and_one_for_another_name_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key, root = chained("app.example")
    (tmp_path / "root.pem").write_text(root)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    verified = replace(HTTPS, verify_cert=True)
    async with origin(tls=Site(tmp_path, certificate, key).context) as backend:
        assert await why(verified, backend) == ""
        assert "mismatch" in await why(replace(verified, host="app2.example"), backend)


async def test_what_answers_in_plain_text_is_told(site: Site) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with hostile(speak) as backend:
        assert "it does not answer in TLS" in await why(HTTPS, backend)


async def test_a_handshake_that_hangs_ends_at_the_connection_timeout(site: Site) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"never")

    async with hostile(hang) as backend:
        reason = await why(replace(HTTPS, connection_timeout=0.1), backend)
        assert reason == "TLS handshake: no end within 0.1 s"


async def test_a_handshake_that_is_cut_is_told(site: Site) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with hostile(leave) as backend:
        assert (await why(HTTPS, backend)).startswith("TLS handshake as app.example: ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_with_reuse_there_is_one_handshake(site: Site, version: ssl.TLSVersion) -> None:
    site.context.maximum_version = version
    async with origin(tls=site.context) as backend:
        prober = prober_of(replace(HTTPS, reuse=True))
        for _ in range(4):
            assert await why_not(prober, target_of(backend)) == ""
        assert (len(site.names), len(backend.requests)) == (1, 4)
        prober.close()


async def test_an_end_without_close_notify_is_an_end(site: Site) -> None:
    """Whether the answer is whole shows in HTTP."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        await writer.drain()
        writer.get_extra_info("ssl_object")
        writer.transport._ssl_protocol._transport.close()  # type: ignore[attr-defined]

    async with hostile(cut, tls=site.context) as backend:
        assert await why(HTTPS, backend) == ""
