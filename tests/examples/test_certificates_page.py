"""Each block of TOML in docs/certificates.md is configuration that pingap takes, beside the sections that it leaves to the reader."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from pingap.config.notes import notes_on
from pingap.config.storage.places import storage_of
from pingap.loading import load
from tests.e2e.certificate import authority, self_signed

PAGE = Path(__file__).parents[2] / "docs/certificates.md"
BLOCKS = re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE.read_text())
PHRASE = "open sesame"


def around(block: dict[str, Any]) -> str:
    """The locations that servers of the block name, and upstreams; without a server one for each location."""
    found = []
    named = {name for server in block.get("servers", {}).values() for name in server["locations"]}
    if not named:
        is_tls = str("certificates" in block).lower()
        named = set(block.get("locations", ("app",)))
        for port, name in enumerate(sorted(named), 6188):
            server = f'addr = "127.0.0.1:{port}"\nlocations = ["{name}"]\nglobal_certificates = {is_tls}'
            found.append(f"[servers.{name}]\n{server}")
    written = block.get("locations", {})
    found += [f'[locations.{name}]\nupstream = "app"' for name in sorted(named - written.keys())]
    upstreams = {"app", *(location["upstream"] for location in written.values())}
    found += [f'[upstreams.{name}]\naddrs = ["127.0.0.1:5000"]' for name in sorted(upstreams)]
    return "\n".join(found)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.sub(r"[^\w.]+", "-", block.partition("\n")[0]).strip("-"))
def test_a_block_is_taken_without_a_note(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_KEY_PHRASE", PHRASE)
    monkeypatch.setenv("CF_TOKEN", "token")
    pairs = {"site": self_signed("example.com", "www.example.com"), "ca": authority("ours", 3650), "clients": authority("Our clients")}
    for name, (cert, key) in pairs.items():
        (tmp_path / f"{name}.pem").write_text(cert)
        (tmp_path / f"{name}.key").write_text(key)
    if "tls_key_passphrase" in block:
        loaded = load_pem_private_key(pairs["site"][1].encode(), None)
        encrypted = loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PHRASE.encode()))
        (tmp_path / "site.key").write_bytes(encrypted)
    text = re.sub(r'"/(etc/pingap|home/me/\.pingap/ca)/', f'"{tmp_path}/', block)
    if "client_ca" in block:  # the certificate of such a server is not what the block is about
        text += f'\n[certificates.site]\ntls_cert = "{tmp_path}/site.pem"\ntls_key = "{tmp_path}/site.key"\n'
    file = tmp_path / "pingap.toml"
    file.write_text(f"{text}\n{around(tomllib.loads(text))}\n")
    snapshot = load(storage_of(file))
    assert snapshot.servers
    if snapshot.certificates:
        assert not notes_on(snapshot)


def test_there_are_such_blocks() -> None:
    assert len(BLOCKS) >= 7
