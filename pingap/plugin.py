"""What the author of a plugin imports. docs/plugins.md explains it; examples/plugins/ has one that runs.

    from pingap.plugin import Exchange, Plugin, Settings

This module and what it names stay as they are within a major version.
"""

from __future__ import annotations

from pingap.stages.header_view import Headers
from pingap.stages.leases import Verdict
from pingap.stages.plugins.api import Duration, HeaderLine, Host, Plugin, RequestPath, Settings, Size, Status, Step, Trouble
from pingap.stages.plugins.exchange import (
    CONTINUE,
    SKIP,
    Action,
    BackendAnswer,
    Exchange,
    Hook,
    Overloaded,
    Reply,
    ResponseHead,
    Result,
    Transformer,
    WholeBody,
    query_value,
    reply,
    without_query,
)
from pingap.stages.plugins.fetch import FetchAnswer, FetchFailed
from pingap.stages.plugins.file_body import FileBody
from pingap.stages.plugins.limits import INFLIGHT, RATE
from pingap.stages.plugins.processes import JobFailed
from pingap.stages.variables import Template
from pingap.stages.variables import compile as template

__all__ = [
    "CONTINUE",
    "INFLIGHT",
    "RATE",
    "SKIP",
    "Action",
    "BackendAnswer",
    "Duration",
    "Exchange",
    "FetchAnswer",
    "FetchFailed",
    "FileBody",
    "HeaderLine",
    "Headers",
    "Hook",
    "Host",
    "JobFailed",
    "Overloaded",
    "Plugin",
    "Reply",
    "RequestPath",
    "ResponseHead",
    "Result",
    "Settings",
    "Size",
    "Status",
    "Step",
    "Template",
    "Transformer",
    "Trouble",
    "Verdict",
    "WholeBody",
    "query_value",
    "reply",
    "template",
    "without_query",
]
