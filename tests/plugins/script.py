"""Words for the scripts of the plugins' tests: a stage without processes, and what goes in and out of it."""

from __future__ import annotations

from typing import Any

from pingap.stages.messages import Credit, Data, Response
from pingap.workshop.kit.fed_stage import (
    ACCEPT,
    CONFIG,
    FAR,
    OTHER,
    PEER,
    PLUGINS,
    ROUTING,
    SID,
    STAGES,
    UPSTREAM,
    Sections,
    block,
    snapshot,
)
from pingap.workshop.kit.fed_stage import FedStage as Stage

__all__ = [
    "ACCEPT", "CONFIG", "FAR", "OTHER", "PEER", "PLUGINS", "ROUTING", "SID", "STAGES", "UPSTREAM",
    "Sections", "Stage", "block", "bodies", "credit", "data", "granted", "lines", "snapshot",
]  # fmt: skip


def lines(raw: bytes) -> list[str]:
    assert not raw or raw.endswith(b"\r\n")
    return raw.decode("latin-1").split("\r\n")[:-1]


def data(payload: bytes, ended: bool = False, error: str = "", upload: bool = False, sid: int = SID) -> Data:
    return Data(sid, payload, ended, error, upload)


def credit(count: int, wanter: int = ACCEPT, sid: int = SID) -> Credit:
    return Credit(sid, count, wanter)


def bodies(envelopes: list[Any]) -> bytes:
    """All body bytes of what went out."""
    parts = [
        envelope.payload if isinstance(envelope, Data) else envelope.body for envelope in envelopes if isinstance(envelope, Data | Response)
    ]
    return b"".join(parts)


def granted(envelopes: list[Any]) -> int:
    return sum(envelope.bytes for envelope in envelopes if isinstance(envelope, Credit))
