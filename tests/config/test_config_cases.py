"""Each cases/NAME.toml is loaded; cases/NAME.expected says what must come of it.

That is the notes and problems as they are printed, or what differs from the defaults of
the model, as JSON. `UPDATE_CASES=1 pytest tests/config` writes the second files
anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pingap.config.model import Snapshot
from pingap.config.problems import ConfigRefused
from tests.kit.config import load_text

CASES = sorted((Path(__file__).parent / "cases").glob("*.toml"))
ENV = {"CASE_ADDR": "127.0.0.1:6188", "CASE_SECRET": "c2VjcmV0", "CASE_HEADER": "X-Case:1", "HOME": "/home/case"}


def outcome(case: Path) -> tuple[str, Snapshot | None]:
    try:
        snapshot = load_text(case.read_text(), name=case.name, env=ENV)
    except ConfigRefused as refused:
        return "\n".join([*(f"note: {note}" for note in refused.notes), str(refused)]) + "\n", None
    return json.dumps(snapshot.to_wire(), indent=2, ensure_ascii=False) + "\n", snapshot


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_case_gives_what_is_expected(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", ENV["HOME"])
    got, snapshot = outcome(case)
    expected = case.with_suffix(".expected")
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(got)
    assert got == expected.read_text()
    assert (snapshot is None) == case.stem.startswith("refused")


def test_what_a_case_accepts_survives_the_wire() -> None:
    for case in CASES:
        _, snapshot = outcome(case)
        if snapshot is not None:
            assert Snapshot.from_wire(json.loads(json.dumps(snapshot.to_wire()))) == snapshot
