"""The client's side of a request in a test: what it sends, and what it has got."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from pingap.stages.header_view import Headers
from pingap.stages.messages import Response


@dataclass(frozen=True, slots=True)
class StageAnswer:
    """What the client gets, before accept puts in lines of its own (`date`, `server`, framing)."""

    status: int
    headers: Headers
    body: bytes
    error: str = ""
    """Why the answer is an error page of ours (`plugin_failed`, `overloaded`, `connect_failed`, …); "" for all others."""
    is_cut: bool = False
    """The body broke off, and the client sees that it did."""
    context: dict[str, Any] = field(default_factory=dict)
    """The exchange's context at the end: what access logs have as {:key}."""

    @property
    def text(self) -> str:
        """The body, which is UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


@dataclass(slots=True)
class ClientSide:
    """A request that has no whole answer yet."""

    sid: int
    answer: asyncio.Future[StageAnswer]
    left: list[bytes]
    """Of its body, what was not sent yet."""
    credit: int = 0
    head: Response | None = None
    parts: list[bytes] = field(default_factory=list)

    def end(self, context: dict[str, Any] | None = None, *, is_cut: bool = False) -> None:
        """The answer is all there, or there is no more to come."""
        if self.answer.done():
            return
        head = self.head
        assert head is not None
        report = head.report
        told = dict(report.context) if report is not None else {}
        error = report.error if report is not None else ""
        self.answer.set_result(StageAnswer(head.status, Headers(head.headers), b"".join(self.parts), error, is_cut, told | (context or {})))
