"""Tests of signed_requests.py: `pingap plugin test examples/plugins/signed_requests.py`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import runpy
import time
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin_testing import BackendRequest, PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio

FILE = Path(__file__).with_name("signed_requests.py")
SECRET = base64.b64encode(b"k" * 32).decode()


def stage(**keys: Any) -> PluginStage:
    section = {"category": "python", "path": str(FILE), "secret": SECRET, "key_id": "one"}
    return PluginStage({"signed": section | keys})


def verify(request: BackendRequest, key: bytes = b"k" * 32) -> int:
    """What a backend does. The time at which it was signed."""
    found = re.fullmatch(r'pingap=(\((.*)\);created=(\d+);keyid="one";alg="hmac-sha256")', request.headers["signature-input"])
    assert found is not None
    path, _, query = request.target.partition("?")
    derived = {"@method": request.method, "@path": path, "@query": f"?{query}"}
    names = [name.strip('"') for name in found[2].split()]
    assert set(names) >= {"@method", "@path", "@query", "x-signed-host", "content-digest"}
    lines = [f'"{name}": {derived[name] if name.startswith("@") else request.headers[name]}' for name in names]
    base = "\n".join([*lines, f'"@signature-params": {found[1]}'])
    wanted = base64.b64encode(hmac.digest(key, base.encode(), "sha256")).decode()
    assert request.headers["signature"] == f"pingap=:{wanted}:"
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    assert request.headers["content-digest"] == f"sha-256=:{digest}:"
    return int(found[3])


async def test_the_example_of_the_rfc() -> None:
    """RFC 9421, appendix B.2.5."""
    plugin = runpy.run_path(str(FILE))
    fields = {"date": "Tue, 20 Apr 2021 02:07:55 GMT", "@authority": "example.com", "content-type": "application/json"}
    _, signed = plugin["signature_base"](fields, 'created=1618884473;keyid="test-shared-secret"')
    key = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    assert plugin["signature_of"](signed, key) == "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


@pytest.mark.parametrize("body", [b"", b"hello", [b"in ", b"pieces"]])
async def test_the_backend_can_tell_who_sent_what(body: bytes | list[bytes]) -> None:
    async with stage() as proxy:
        began = int(time.time())
        assert (await proxy.post("/a%20b?x=1&y", body, host="Shop.test")).status == 200
        [request] = proxy.backend.requests
        assert began <= verify(request) <= time.time()
        assert request.headers["x-signed-host"] == "shop.test"
        with pytest.raises(AssertionError):
            verify(request, b"other" * 8)


async def test_what_a_client_sends_under_these_names_is_replaced() -> None:
    async with stage() as proxy:
        false = [(name, "pingap=:AAAA:") for name in ("signature", "signature", "signature-input", "content-digest", "x-signed-host")]
        assert (await proxy.get("/", headers=false)).status == 200
        verify(proxy.backend.requests[0])
        assert len(proxy.backend.requests[0].headers.get_all("signature")) == 1
        assert (await proxy.get("/", headers={"X_Signed_Host": "evil.test", "Signature_Input": "x"})).status == 200
        assert not {"x_signed_host", "signature_input"} & set(proxy.backend.requests[1].headers)


async def test_a_body_that_is_too_long_reaches_nobody() -> None:
    async with stage(max_body="4b") as proxy:
        assert (await proxy.post("/", b"12345")).status == 413
        assert proxy.backend.requests == []


@pytest.mark.parametrize("keys", [{"secret": "c2hvcnQ="}, {"secret": "no base64"}, {"key_id": 'a"b'}])
async def test_keys_that_nobody_should_have_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(PluginRefused, match=next(iter(keys))):
        async with stage(**keys):
            pass
