"""The example for plugin authors works as its text says."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any

import pytest

from pingap.config.storage.places import storage_of
from pingap.loading import load
from pingap.stages.messages import Response
from tests.plugins.script import Stage

ROOT = Path(__file__).parents[2]
BODY = b'{"a":1}'
GOOD = hmac.new(b"0123456789abcdef0123", BODY, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("method", "headers", "status", "answer"),
    [
        (b"POST", f"x-hub-signature-256: sha256={GOOD}", 202, b"taken\n"),
        (b"POST", "x-hub-signature-256: sha256=0", 401, b"The signature is wrong\n"),
        (b"POST", "", 401, b"One signature is wanted\n"),
        (b"GET", "", 405, b"Webhooks are POSTed\n"),
    ],
)
async def test_the_example_lets_signed_webhooks_through(method: bytes, headers: str, status: int, answer: bytes) -> None:
    snapshot = load(storage_of(ROOT / "examples/plugins/signed_webhooks.toml"))
    names = list(snapshot.locations["hooks"].plugins)
    async with Stage(dict(snapshot.plugins), names=names, upstream="") as stage:
        [answered] = await stage.run(stage.request("/hooks", headers, BODY, method=method, upstream=""))
    assert isinstance(answered, Response)
    assert (answered.status, answered.body) == (status, answer)


async def test_the_plugin_and_the_test_in_the_manual_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, test = (text for text in re.findall(r"(?ms)^```python\n(from pingap.*?)^```", (ROOT / "docs/plugins.md").read_text()))
    (tmp_path / "teapot.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(test, names)
    await names["test_there_is_no_coffee"]()
