"""Tests of signed_webhooks.py: `pingap plugin test examples/plugins/signed_webhooks.py`."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio

SECRET = "0123456789abcdef0123"
BODY = b'{"a":1}'
SIGNATURE = "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()


def stage(**keys: Any) -> PluginStage:
    section = {"category": "python", "path": str(Path(__file__).with_name("signed_webhooks.py")), "secret": SECRET}
    return PluginStage({"signed": section | keys})


async def test_what_the_sender_has_signed_passes() -> None:
    async with stage() as proxy:
        answer = await proxy.post("/hooks", BODY, headers={"x-hub-signature-256": SIGNATURE})
        assert (answer.status, answer.context["webhook"]) == (200, "verified")
        assert proxy.backend.requests[0].body == BODY


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature-256": "sha256=0"},
        {"x-hub-signature-256": "sha256=\xe9"},
        {"x-other": SIGNATURE},
        [("x-hub-signature-256", SIGNATURE), ("x-hub-signature-256", SIGNATURE)],
    ],
)
async def test_what_somebody_else_made_does_not(headers: dict[str, str] | list[tuple[str, str]]) -> None:
    async with stage() as proxy:
        assert (await proxy.post("/hooks", BODY, headers=headers)).status == 401
        assert (await proxy.post("/hooks", b"x" * 2_000_000, headers={"x-hub-signature-256": SIGNATURE})).status == 413
        assert proxy.backend.requests == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "post", "OPTIONS"])
async def test_no_other_method_gets_round_the_signature(method: str) -> None:
    async with stage() as proxy:
        answer = await proxy.request(method, "/hooks", body=b"evil")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert proxy.backend.requests == []


async def test_the_keys_of_its_section() -> None:
    async with stage(header="X-Other", max_body="10b") as proxy:
        assert (await proxy.post("/", BODY, headers={"x-other": SIGNATURE})).status == 200
        assert (await proxy.post("/", b"x" * 11, headers={"x-other": SIGNATURE})).status == 413
    with pytest.raises(PluginRefused, match="shorter than 16"):
        async with stage(secret="short"):
            pass
