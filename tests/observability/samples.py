"""ACCESS records as they come over the wire."""

from __future__ import annotations

from typing import Any

from pingap.bus.kinds import ACCESS, LOG
from pingap.observability.records import Access

STARTED = 1000.0

SAMPLE = Access(
    kind=ACCESS,
    sid=(3 << 32) + 7,
    time=1_782_900_000.25,
    server="web",
    peer=("192.0.2.7", 50123, "127.0.0.1", 6188, "http", 12),
    client_ip="198.51.100.9",
    method=b"GET",
    target=b"/users?id=3&x=%20y",
    host=b"example.com:6188",
    version=11,
    request_headers=b"host: example.com:6188\r\nuser-agent: curl/8.0\r\nreferer: http://a/\r\ncookie: a=1; sid=s3cret; b=2\r\n",
    status=200,
    response_headers=b"content-type: application/json\r\nx-id: r1\r\n",
    received=1024,
    sent=2500,
    started=STARTED,
    responded=STARTED + 0.020,
    ended=STARTED + 0.0255,
    connection_reused=True,
    processing=4,
    location="api",
    upstream="backend",
    addr="10.0.0.1:8080",
    upstream_status=200,
    upstream_reused=False,
    tries=1,
    stamps=(1000.001, 1000.002, 1000.003, 1000.005, 1000.006, 1000.008, 1000.009, 1000.018),
    connect=(0.0015,),
    error="",
    context={},
    connected=STARTED - 2.0,
    upstream_opened=1000.007,
    upstream_connections=5,
)


def access(**changes: Any) -> tuple[Any, ...]:
    """A plain tuple, as MessagePack gives it."""
    return tuple(SAMPLE._replace(**changes))


def log(
    message: str = "listening", level: str = "info", stage: str = "accept", at: float = 1_782_900_000.5, **fields: Any
) -> tuple[Any, ...]:
    """A LOG envelope."""
    return (LOG, at, level, stage, 0, message, fields)
