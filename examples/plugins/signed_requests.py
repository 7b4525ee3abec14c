"""Signs each request to the backend (HTTP Message Signatures, RFC 9421), so that it can tell what has come through this proxy.

    pip install pingap
    pingap up -c examples/plugins/signed_requests.toml     # its end says what to try
    pingap plugin test examples/plugins/signed_requests.py

Signed are method, path, query, host and body (by Content-Digest, RFC 9530), with HMAC-SHA256. List it last: what a plugin after
it changes does not fit the signature. The backend compares `created` with its clock, and forgets nothing that is newer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Mapping

from pingap.plugin import Exchange, Plugin, Settings, Size, Trouble

LABEL = "pingap"


class SignedRequestsSettings(Settings):
    """The keys of its section."""

    secret: str
    """The key that the backend has, too, in base64: `openssl rand -base64 32`."""
    key_id: str
    """What the backend knows it by."""
    max_body: Size = 8 * 1024 * 1024
    """Longer bodies are answered 413."""


class SignedRequests(Plugin[SignedRequestsSettings]):
    """One object for each section that names this file."""

    model = SignedRequestsSettings
    reads_request_body = True

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        try:
            if len(base64.b64decode(self.settings.secret, validate=True)) < 32:
                yield "secret", "is shorter than 32 bytes", "openssl rand -base64 32"
        except ValueError:
            yield "secret", "is not base64", "openssl rand -base64 32"
        if not re.fullmatch(r"[\w.:/-]+", self.settings.key_id, re.ASCII):
            yield "key_id", "may have letters, digits and .:/-_ in it"

    def request(self, exchange: Exchange) -> None:
        """A body is signed as a whole, so the backend gets nothing before it is here."""
        exchange.collect_request(self.sign, limit=self.settings.max_body)

    def sign(self, exchange: Exchange, body: bytes) -> None:
        """Runs when the whole body is here (`b""` when there is none)."""
        headers = exchange.headers
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        fields = {
            "@method": exchange.method,
            "@path": exchange.path,
            "@query": f"?{exchange.query}",
            "x-signed-host": exchange.authority.lower(),
            "content-digest": digest,
        }
        parameters = f'created={int(time.time())};keyid="{self.settings.key_id}";alg="hmac-sha256"'
        covered, base = signature_base(fields, parameters)
        # Instead of what a client may have sent under these names:
        for name in ("content-digest", "x-signed-host", "signature-input", "signature"):
            headers.remove_alike(name)
        headers["content-digest"] = digest
        headers["x-signed-host"] = exchange.authority.lower()
        headers["signature-input"] = f"{LABEL}={covered}"
        headers["signature"] = f"{LABEL}=:{signature_of(base, base64.b64decode(self.settings.secret))}:"


def signature_base(fields: Mapping[str, str], parameters: str) -> tuple[str, str]:
    """(covered components with their parameters, what is signed): RFC 9421, section 2.5."""
    names = " ".join(f'"{name}"' for name in fields)
    covered = f"({names});{parameters}"
    return covered, "\n".join([*(f'"{name}": {value}' for name, value in fields.items()), f'"@signature-params": {covered}'])


def signature_of(base: str, key: bytes) -> str:
    """hmac-sha256: RFC 9421, section 3.3.3."""
    return base64.b64encode(hmac.digest(key, base.encode(), "sha256")).decode()
