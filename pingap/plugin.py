"""What the author of a plugin imports. docs/plugins.md explains it; examples/plugins/ has one that runs.

    from pingap.plugin import Exchange, Plugin, Settings

This module and what it names stay as they are within a major version.
"""

from __future__ import annotations

from pingap.config.addresses import host_name as as_host_name
from pingap.config.problems import BadValue
from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.keys import KeyRules
from pingap.stages.caching.names import NamePatterns
from pingap.stages.caching.place import CachePlace, read_place
from pingap.stages.caching.policy import Policy as CachePolicy
from pingap.stages.client_certificates.details import ClientCertificate
from pingap.stages.coding.rules import codings_of, qualities, varying, weakened
from pingap.stages.conditions import Precondition, Validators, is_range_meant, judge
from pingap.stages.forwarded import OVERWRITTEN as OVERWRITTEN_HEADERS
from pingap.stages.header_view import Headers
from pingap.stages.header_view import writable as as_header_name
from pingap.stages.http_dates import parse_date
from pingap.stages.leases import Verdict
from pingap.stages.plugins.api import Host, HttpCache, Plugin, Settings, Step, Trouble
from pingap.stages.plugins.as_asked import as_asked
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
    query_alike,
    query_value,
    query_values,
    reply,
    without_query,
    without_query_alike,
)
from pingap.stages.plugins.fetch import FetchAnswer, FetchFailed
from pingap.stages.plugins.fields import (
    Addresses,
    Duration,
    HeaderLine,
    HeaderName,
    Network,
    PathRegex,
    Regex,
    RequestPath,
    Size,
    Status,
    Texts,
    Url,
    Words,
    compile_regex,
    parse_url,
)
from pingap.stages.plugins.figures import RequestFigures
from pingap.stages.plugins.file_body import DividedBody, FileBody, JoinedBody, SizedBody
from pingap.stages.plugins.limits import BUCKET, INFLIGHT, RATE, bucket_verdict, rate_verdict
from pingap.stages.plugins.processes import JobFailed
from pingap.stages.ranges import spans_of
from pingap.stages.spellings import as_sent, is_path, loosely, parameter
from pingap.stages.variables import Source as Variables
from pingap.stages.variables import Template
from pingap.stages.variables import compile as template

__all__ = [
    "BUCKET",
    "CONTINUE",
    "INFLIGHT",
    "OVERWRITTEN_HEADERS",
    "RATE",
    "SKIP",
    "Action",
    "Addresses",
    "BackendAnswer",
    "BadValue",
    "CachePlace",
    "CachePolicy",
    "CacheRules",
    "ClientCertificate",
    "DividedBody",
    "Duration",
    "Exchange",
    "FetchAnswer",
    "FetchFailed",
    "FileBody",
    "HeaderLine",
    "HeaderName",
    "Headers",
    "Hook",
    "Host",
    "HttpCache",
    "JobFailed",
    "JoinedBody",
    "KeyRules",
    "NamePatterns",
    "Network",
    "Overloaded",
    "PathRegex",
    "Plugin",
    "Precondition",
    "Regex",
    "Reply",
    "RequestFigures",
    "RequestPath",
    "ResponseHead",
    "Result",
    "Settings",
    "Size",
    "SizedBody",
    "Status",
    "Step",
    "Template",
    "Texts",
    "Transformer",
    "Trouble",
    "Url",
    "Validators",
    "Variables",
    "Verdict",
    "WholeBody",
    "Words",
    "as_asked",
    "as_header_name",
    "as_host_name",
    "as_sent",
    "bucket_verdict",
    "codings_of",
    "compile_regex",
    "is_path",
    "is_range_meant",
    "judge",
    "loosely",
    "parameter",
    "parse_date",
    "parse_url",
    "qualities",
    "query_alike",
    "query_value",
    "query_values",
    "rate_verdict",
    "read_place",
    "reply",
    "spans_of",
    "template",
    "varying",
    "weakened",
    "without_query",
    "without_query_alike",
]
