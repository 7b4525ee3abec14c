"""The example for plugin authors, and the page about plugins, say what is true."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest

from pingap.config.storage.places import storage_of
from pingap.loading import load
from pingap.stages.messages import Response
from pingap.stages.plugins.api import Settings
from pingap.stages.plugins.registry import BUILTIN_SECTIONS, CATEGORIES
from pingap.stages.plugins.user_code import PythonSettings
from tests.plugins.script import Stage

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins.md"
BODY = b'{"a":1}'
GOOD = hmac.new(b"0123456789abcdef0123", BODY, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("method", "headers", "status", "answer"),
    [
        (b"POST", f"x-hub-signature-256: sha256={GOOD}", 202, b"taken\n"),
        (b"POST", "x-hub-signature-256: sha256=0", 401, b"The signature is wrong"),
        (b"POST", "", 401, b"The signature is missing"),
        (b"GET", "", 202, b"taken\n"),
    ],
)
async def test_the_example_lets_signed_webhooks_through(method: bytes, headers: str, status: int, answer: bytes) -> None:
    snapshot = load(storage_of(ROOT / "examples/plugins/pingap.toml"))
    names = list(snapshot.locations["hooks"].plugins)
    async with Stage(dict(snapshot.plugins), names=names, upstream="") as stage:
        [answered] = await stage.run(stage.request("/hooks", headers, BODY, method=method, upstream=""))
    assert isinstance(answered, Response)
    assert (answered.status, answered.body) == (status, answer)


def _tables() -> dict[str, str]:
    """Heading → its section of the page."""
    parts = re.split(r"(?m)^##+ `?([^`\n]+)`?$", PAGE.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("category", [*CATEGORIES, "python"])
def test_every_key_of_every_plugin_is_on_the_page(category: str) -> None:
    model = CATEGORIES[category].model if category in CATEGORIES else PythonSettings
    keys = {spec.alias or key for key, spec in model.model_fields.items()} - set(Settings.model_fields)
    told = set(re.findall(r"(?m)^\| `(\w+)` \|", _tables()[category]))
    assert told == keys


def test_every_built_in_instance_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert all(f"`{name}`" in text for name in BUILTIN_SECTIONS)
