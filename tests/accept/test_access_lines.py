"""Access log lines: made by accept from the ended stream, sent on in bundles."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.bus.kinds import LINES
from pingap.config.model import Server, Snapshot
from pingap.config.parts import AccessLog, Listen
from pingap.observability.records import Access
from pingap.stages.accept.access_lines import MOST, AccessLines, compile_lines
from tests.kit.context import FakeContext
from tests.observability.samples import access


def event(**changes: Any) -> Access:
    return Access(*access(**changes))


def snapshot(**formats: str | None) -> Snapshot:
    servers = {
        name: Server(addr=(Listen("127.0.0.1", 1),), access_log=AccessLog(format) if format else None) for name, format in formats.items()
    }
    return Snapshot(servers=servers)


async def test_lines_wait_for_each_other_and_leave_by_server() -> None:
    context = FakeContext("accept", 1)
    lines = AccessLines(context)
    renders = compile_lines(snapshot(web="{method} {status}", other="{status}", silent=None))
    assert sorted(renders) == ["other", "web"]
    lines.add(event(), renders["web"])
    lines.add(event(server="other", status=404), renders["other"])
    lines.add(event(status=500), renders["web"])
    assert context.emitted == []
    lines.ship()
    assert context.emitted == [(LINES, "web", 2, "GET 200\nGET 500"), (LINES, "other", 1, "404")]
    lines.ship()
    assert len(context.emitted) == 2


async def test_a_full_bundle_leaves_at_once() -> None:
    context = FakeContext("accept", 1)
    lines = AccessLines(context)
    render = compile_lines(snapshot(web="{status}"))["web"]
    for _ in range(MOST):
        lines.add(event(), render)
    assert [(envelope[0], envelope[2]) for envelope in context.emitted] == [(LINES, MOST)]


async def test_a_line_that_cannot_be_written_costs_itself_only() -> None:
    context = FakeContext("accept", 1)
    lines = AccessLines(context)
    render = compile_lines(snapshot(web="{status} {referer}"))["web"]
    lines.add(event(request_headers=None), render)
    lines.add(event(status=201), render)
    lines.ship()
    assert [envelope[2] for envelope in context.emitted] == [1]
    assert context.emitted[0][3].startswith("201")
    assert context.counted == {"access_lines_lost": 1}


def test_a_format_with_a_mistake_refuses_the_generation_and_says_where() -> None:
    with pytest.raises(ValueError, match=r"servers\.web\.access_log: \{staus\}: unknown tag; did you mean \{status\}\?"):
        compile_lines(snapshot(web="{staus}"))
