"""A backend that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.stages.header_view import Headers, Pairs, block_of
from pingap.stages.plugins.exchange import Reply

Body = str | bytes | Sequence[bytes]
"""A list is sent piece by piece, and its length is not told."""


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """What a backend would have got, but for the location's own header rules."""

    method: str
    target: str
    """Path and query, percent-encoded, as plugins left them."""
    headers: Headers
    body: bytes
    client_ip: str
    context: dict[str, Any]
    """What plugins put into the exchange's context until then."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def text(self) -> str:
        """The body, which is UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


Answering = Callable[[BackendRequest], Reply]
"""Makes an answer of a request: `pingap.plugin.reply(…)`, whose body is bytes."""


@dataclass(frozen=True, slots=True)
class BackendReply:
    """One answer."""

    status: int
    headers: bytes
    """A block in normal form."""
    pieces: tuple[bytes, ...]
    is_measured: bool
    """Its length is told before its body comes."""


class ScriptedBackend:
    """An upstream of a test's, by name. It answers 200 `ok` until it is told something else."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.requests: list[BackendRequest] = []
        """All that it got, in their order."""
        self.failure = ""
        self.is_silent = False
        self._answer: BackendReply | Answering = _reply_of(200, "ok", ())

    def answers(self, status: int = 200, body: Body = b"", headers: Pairs = ()) -> None:
        """From now on this. body: a list of bytes comes piece by piece, without a length. Raises ValueError for what is no header."""
        self._answer, self.failure, self.is_silent = _reply_of(status, body, headers), "", False

    def answers_with(self, answering: Answering) -> None:
        """From now on what this function makes of each request."""
        self._answer, self.failure, self.is_silent = answering, "", False

    def fails(self, kind: str = "connect_failed") -> None:
        """From now on nothing can be had from it. kind: as in access logs (docs/outages.md), `connect_failed`, `gateway_timeout`, …"""
        self.failure, self.is_silent = kind, False

    def hangs(self) -> None:
        """From now on it takes requests and says nothing."""
        self.is_silent, self.failure = True, ""

    def take(self, request: BackendRequest) -> BackendReply:
        """Remembers a request; what is to be answered."""
        self.requests.append(request)
        if isinstance(self._answer, BackendReply):
            return self._answer
        made = self._answer(request)
        if not isinstance(made.body, bytes):
            raise TypeError("the answer of a backend in a test has a body of bytes: give pieces to `answers`")
        return BackendReply(made.status, made.headers, (made.body,), True)


def _reply_of(status: int, body: Body, headers: Pairs) -> BackendReply:
    block = Headers(block_of(headers)).raw
    if isinstance(body, str | bytes):
        return BackendReply(status, block, (body.encode() if isinstance(body, str) else body,), True)
    return BackendReply(status, block, tuple(body), False)


@dataclass(slots=True)
class BackendSide:
    """A request on its way into a backend, and its answer on the way out."""

    sid: int
    backend: ScriptedBackend
    request: BackendRequest
    to: int
    """Actor that gets the answer."""
    watchers: tuple[int, ...]
    parts: list[bytes] = field(default_factory=list)
    """Of the request's body, as far as it has come."""
    left: list[bytes] = field(default_factory=list)
    """Of the answer's body, what was not sent yet."""
    credit: int = 0
