"""The event of a stream that has ended: what access log, metrics and `pingap tap` are made of."""

from __future__ import annotations

import time
from typing import Final

from pingap.bus.kinds import ACCESS
from pingap.observability.records import Access
from pingap.stages.client import Client
from pingap.stages.client_certificates.details import details_of
from pingap.stages.errors import KINDS
from pingap.stages.http1.rules import RequestHead, new
from pingap.stages.messages import Affinity, Report, Request
from pingap.stages.stream import OwnedStream

_NO_REPORT: Final = Report("", "", "", 0, False, 0, (), (), "", {}, "")
"""Of a stream that no stage has told anything of."""


def access_event(stream: OwnedStream, now: float, in_flight: int) -> Access:
    """now: monotonic seconds at the end. in_flight: streams of this replica that are left."""
    request, response, arrival = stream.request, stream.response, stream.client.arrival
    if response is not None:
        status, headers, report = response.status, response.headers, response.report or _NO_REPORT
    else:
        status, headers, report = KINDS[stream.failed or "client_closed"].status, b"", _NO_REPORT
    secured = arrival.secured
    context = report.context
    if secured is not None:
        context = {**context, "tls_version": secured.version, "tls_cipher": secured.cipher}
        if stream.nth <= 1:
            context["tls_handshake_time"] = secured.seconds
        if request.peer.certificate:
            context.update(details_of(request.peer.certificate).logged)
    return new(
        Access,
        (
            ACCESS,
            stream.sid,
            time.time() - (now - request.started),
            request.server,
            request.peer,
            report.client_ip or request.peer.ip,
            request.method,
            request.target,
            request.host,
            request.version,
            request.headers,
            status,
            headers,
            stream.received,
            stream.sent,
            request.started,
            stream.responded,
            now,
            stream.nth > 1,
            in_flight,
            report.location,
            report.upstream,
            report.addr,
            report.upstream_status,
            report.reused,
            report.tries,
            report.stamps,
            report.connect,
            stream.failed or report.error,
            context,
            arrival.at,
            report.opened,
            report.connections,
            stream.reason or report.reason,
        ),
    )


def refused_stream(client: Client, server: str, head: RequestHead, at: float) -> OwnedStream:
    """A record of a request that never became a stream."""
    request = Request(
        0,
        0,
        Affinity(0, 0, 0),
        server,
        client.arrival.peer,
        head.method,
        head.target,
        head.version,
        head.host,
        head.headers,
        0,
        b"",
        True,
        at,
        b"",
    )
    return OwnedStream(0, client, request, False)
