"""The event of something that an operator may want to hear at once: THE list of its categories.

Webhooks, mails and the like are made from it by consumers; the words of the categories are the reference's, for which
`basic.webhook_notifications` lists those that are wanted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

RELOAD_CONFIG: Final = "reload_config"
"""A configuration was taken. Fields: generation, changed (one line), notes."""
RELOAD_CONFIG_FAIL: Final = "reload_config_fail"
"""One was refused or withdrawn, and the old one goes on. Fields: generation (the old one), problems."""
DIFF_CONFIG: Final = "diff_config"
"""What was and what is, of a configuration that was taken; the message is lines, without secrets. Fields: generation."""

BACKEND_STATUS: Final = "backend_status"
"""A backend has become something else. Fields: upstream, addr, state (healthy or unhealthy by its checks, with title and reason;
drained or enabled by hand), or circuit (open or closed) and reason."""
UPSTREAM_STATUS: Final = "upstream_status"
"""Upstreams have come to no healthy backend, or have one again; the message names them. Fields: title, state (unhealthy or healthy),
upstreams (the first hundred of them), count."""
SERVICE_DISCOVER_FAIL: Final = "service_discover_fail"
"""Backends cannot be found out (DNS, Docker), and those that are known stay; the message names upstreams, entries and reasons. Fields:
upstreams (the first hundred), count (of entries)."""

TLS_VALIDITY: Final = "tls_validity"
"""Certificates are about to end (warn), or have ended or cannot be renewed in time (error); or are in order again (info). The message
names them. Fields: certificates (the first hundred), count."""
LETS_ENCRYPT: Final = "lets_encrypt"
"""A certificate was issued by ACME, of whatever authority, and is served (info). Fields: title, certificate, domains (the first hundred),
ends (Unix seconds). Or one waits for DNS records that are set by hand (warn), which the message names. Fields: title, certificate, records.
"""
PARSE_CERTIFICATE_FAIL: Final = "parse_certificate_fail"
"""A certificate cannot be used: it, or its key, is not what it should be. Fields: certificate, reason."""

RESTART: Final = "restart"
"""This instance took over from another. Fields: before (its process id)."""
RESTART_FAIL: Final = "restart_fail"
"""The next instance failed to start, and this one goes on."""

CATEGORIES: Final = (
    RELOAD_CONFIG,
    RELOAD_CONFIG_FAIL,
    DIFF_CONFIG,
    BACKEND_STATUS,
    UPSTREAM_STATUS,
    SERVICE_DISCOVER_FAIL,
    TLS_VALIDITY,
    LETS_ENCRYPT,
    PARSE_CERTIFICATE_FAIL,
    RESTART,
    RESTART_FAIL,
)
"""Those that something tells today."""


class NoticeRecord(NamedTuple):
    """NOTICE (bus/PROTOCOL.md section 9)."""

    kind: int
    time: float
    """Unix time."""
    level: str
    """error, warn or info."""
    stage: str
    replica: int
    category: str
    message: str
    """In words for people, perhaps several lines."""
    fields: dict[str, Any]
    """The same for programs, as far as there is more to say."""
