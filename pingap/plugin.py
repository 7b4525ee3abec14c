"""What the author of a plugin imports. docs/plugins.md explains it; examples/plugins/ has one that runs.

    from pingap.plugin import Exchange, Plugin, Settings

This module and what it names stay as they are within a major version.
"""

from __future__ import annotations

from pingap.stages.header_view import Headers
from pingap.stages.plugins.api import Duration, HeaderLine, Host, Plugin, Settings, Size, Status, Step, Trouble
from pingap.stages.plugins.exchange import (
    CONTINUE,
    SKIP,
    Action,
    Exchange,
    Hook,
    Overloaded,
    Reply,
    ResponseHead,
    Result,
    Transformer,
    WholeBody,
    reply,
)

__all__ = [
    "CONTINUE",
    "SKIP",
    "Action",
    "Duration",
    "Exchange",
    "HeaderLine",
    "Headers",
    "Hook",
    "Host",
    "Overloaded",
    "Plugin",
    "Reply",
    "ResponseHead",
    "Result",
    "Settings",
    "Size",
    "Status",
    "Step",
    "Transformer",
    "Trouble",
    "WholeBody",
    "reply",
]
