"""Tests of roles.py: `pingap plugin test examples/plugins/roles.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio


def stage(**keys: Any) -> PluginStage:
    section = {"category": "python", "path": str(Path(__file__).with_name("roles.py")), "allowed": ["admin", "billing"]}
    return PluginStage({"roles": section | keys})


def certificate(*uris: str) -> bytes:
    """In DER; the stage takes it as verified."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Alice")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def test_the_backend_is_told_the_role_and_no_other() -> None:
    async with stage() as proxy:
        forged = [("X-Role", "root"), ("X_Role", "root")]
        answer = await proxy.get("/", client_certificate=certificate("https://alice.example", "role://admin"), headers=forged)
        assert answer.status == 200 and answer.context["role"] == "admin"
        [request] = proxy.backend.requests
        assert [value for name, value in request.headers.items() if "role" in name] == ["admin"]


@pytest.mark.parametrize("uris", [(), ("role://guest",), ("https://admin",), ("role://admin/x",)])
async def test_who_has_no_role_here_reaches_nobody(uris: tuple[str, ...]) -> None:
    async with stage() as proxy:
        answer = await proxy.get("/", client_certificate=certificate(*uris))
        assert (answer.status, answer.text) == (403, "CN=Alice has no role here\n")
        assert not proxy.backend.requests


async def test_without_a_certificate_there_is_no_role() -> None:
    async with stage() as proxy:
        assert (await proxy.get("/", headers={"x-role": "admin"})).status == 403
        assert not proxy.backend.requests


async def test_a_section_that_lets_nobody_in_is_refused() -> None:
    with pytest.raises(PluginRefused, match="lets nobody in"):
        async with stage(allowed=[]):
            pass
