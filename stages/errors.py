"""Errors of the request path: what happened, whose fault it is, whether another try may help.

Learned from pingora's error type (pingora-error/src/lib.rs): a kind, a source, a
retry mark and the status that the client sees.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """One way in which a request can fail."""

    name: str
    status: int
    source: str
    """client, upstream or us."""
    text: str
    """What the client reads."""


_ALL: Final = (
    Kind("bad_request", 400, "client", "The request is malformed."),
    Kind("forbidden", 403, "client", "Access is denied."),
    Kind("destination_refused", 403, "client", "Requests may not be sent there."),
    Kind("not_found", 404, "client", "No location matches this request."),
    Kind("request_timeout", 408, "client", "The request took too long to arrive."),
    Kind("body_too_large", 413, "client", "The request body is larger than this location accepts."),
    Kind("target_too_long", 414, "client", "The request target is too long."),
    Kind("expectation_failed", 417, "client", "The expectation cannot be met."),
    Kind("too_many_requests", 429, "client", "Too many requests."),
    Kind("headers_too_large", 431, "client", "The request head is too large."),
    Kind("client_closed", 499, "client", "The client closed the connection."),
    Kind("internal", 500, "us", "The proxy failed to handle this request."),
    Kind("plugin_failed", 500, "us", "A plugin failed on this request."),
    Kind("not_implemented", 501, "client", "This method or coding is not supported."),
    Kind("bad_gateway", 502, "upstream", "The backend gave no valid answer."),
    Kind("connect_failed", 502, "upstream", "No connection to the backend."),
    Kind("stage_lost", 502, "us", "The stage that handled this request was lost."),
    Kind("overloaded", 503, "us", "The proxy is busy. Try again shortly."),
    Kind("call_cancelled", 502, "upstream", "The backend cancelled the call."),
    Kind("no_backend", 503, "upstream", "No healthy backend."),
    Kind("gateway_timeout", 504, "upstream", "The backend took too long to answer."),
    Kind("deadline_exceeded", 504, "upstream", "The deadline of the call has passed."),
    Kind("loop_detected", 508, "client", "This request has been here before."),
    Kind("bad_version", 505, "client", "This HTTP version is not supported."),
)

KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in _ALL}
