"""Asks a responder (RFC 6960 appendix A, RFC 5019). Blocks; in a thread."""

from __future__ import annotations

import base64
import http.client
import ssl
from contextlib import closing, suppress
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from pingap.stages.acme.cutting import SocketCutter

PATIENCE: Final = 10.0
"""Seconds for all of it, a slow answer included; but for the lookup of the name, which is the system's."""

MOST: Final = 64 * 1024
"""Bytes of an answer."""

REDIRECTS: Final = 3

SHORT: Final = 255
"""Letters of a URL up to which it is asked by GET, which caches of authorities answer (RFC 5019 section 5)."""

_TYPE: Final = "application/ocsp-request"


class OcspUnreachable(Exception):
    """No answer; the text says why."""


def ask(url: str, request: bytes) -> bytes:
    """The body of the answer to `request` (DER). url: http or https. Raises OcspUnreachable."""
    by_get = url.rstrip("/") + "/" + quote(base64.b64encode(request).decode(), safe="")
    try:
        if len(by_get) <= SHORT:
            with suppress(ConnectionError):
                status, body = _exchange(by_get, None)
                if status == 200:
                    return body
        status, body = _exchange(url, request)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OcspUnreachable(f"{_shown(url)}: {error or type(error).__name__}") from error
    if status != 200:
        raise OcspUnreachable(f"{_shown(url)} answers with status {status}")
    return body


def _exchange(url: str, request: bytes | None) -> tuple[int, bytes]:
    """By GET without `request`. Raises OSError, HTTPException, ValueError, OcspUnreachable."""
    for _ in range(1 + REDIRECTS):
        status, location, body = _one(url, request)
        if status not in (301, 302, 303, 307, 308) or not location:
            return status, body
        url = urljoin(url, location)
        if urlsplit(url).scheme not in ("http", "https"):
            raise OcspUnreachable(f"{_shown(url)}: a redirect to what is not http or https")
    raise OcspUnreachable(f"{_shown(url)}: redirected more than {REDIRECTS} times")


def _one(url: str, request: bytes | None) -> tuple[int, str, bytes]:
    """(status, where a redirect goes, body)."""
    connection, target = _connection(url)
    with closing(connection):
        connection.connect()
        with SocketCutter(PATIENCE, lambda: (connection.sock,)) as cutter:
            try:
                headers = {"Accept": "application/ocsp-response", "Connection": "close", "User-Agent": "pingap"}
                if request is None:
                    connection.request("GET", target, headers=headers)
                else:
                    connection.request("POST", target, request, headers | {"Content-Type": _TYPE})
                response = connection.getresponse()
                body = response.read(MOST + 1)
                if response.length and len(body) <= MOST:
                    raise http.client.IncompleteRead(body, response.length)
                if cutter.is_cut:  # an answer without a length just seems to end when it is cut
                    raise TimeoutError
            except (OSError, http.client.HTTPException) as error:
                if not cutter.is_cut:
                    raise
                raise OcspUnreachable(f"{_shown(url)}: no answer within {PATIENCE:g} s") from error
    if len(body) > MOST:
        raise OcspUnreachable(f"{_shown(url)}: the answer has more than {MOST // 1024} KiB")
    return response.status, response.getheader("location", ""), body


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """To the responder, or to the proxy that the environment names (http_proxy, https_proxy, no_proxy), and what is asked for there."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("is no http or https URL")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = urlsplit("" if proxy_bypass(host) else getproxies().get(parts.scheme, ""))
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if proxy.hostname:
            tunnel = http.client.HTTPSConnection(proxy.hostname, proxy.port or 80, timeout=PATIENCE, context=context)
            tunnel.set_tunnel(host, port or 443)
            return tunnel, target
        return http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context), target
    if proxy.hostname:
        return http.client.HTTPConnection(proxy.hostname, proxy.port or 80, timeout=PATIENCE), url
    return http.client.HTTPConnection(host, port, timeout=PATIENCE), target


def _shown(url: str) -> str:
    """Without what may be a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path[:60]}"
