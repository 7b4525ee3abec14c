"""docs/architecture.md walks through one GET: it names each file that is called on the way, and each once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from bench.calls import calls

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_walk_through_one_get_names_every_file_on_the_way_once() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    walk = text[text.index("## One GET, file by file") :].split("\n## ")[0]
    named = Counter(path.removeprefix("../") for path in re.findall(r"\]\((\.\./[^)]*)\)", walk))
    assert [path for path, times in named.items() if times > 1] == []
    called = {str(Path(code.co_filename).resolve().relative_to(ROOT)) for code in asyncio.run(calls())}
    assert called - named.keys() == set(), "called, and not in docs/architecture.md"
