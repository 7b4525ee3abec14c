"""Where the resources of an authority are, and what it offers (RFC 8555 section 7.1.1). Decides only."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit


class AuthorityDirectory(NamedTuple):
    """What its directory says."""

    new_nonce: str
    new_account: str
    new_order: str
    renewal_info: str = ""
    """RFC 9773; "" when it has none."""
    profiles: tuple[str, ...] = ()
    """Names of draft-ietf-acme-profiles; () when it knows none."""
    needs_eab: bool = False


def is_safe(url: str) -> bool:
    """Over TLS, or on this machine: an account's doings are nobody else's business, and orders must not be led astray."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and is_loopback(host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def read_directory(table: dict[str, object]) -> AuthorityDirectory:
    """Raises ValueError: what it lacks."""

    def url(name: str, is_needed: bool = True) -> str:
        value = table.get(name)
        if value is None and not is_needed:
            return ""
        if not isinstance(value, str):
            raise ValueError(f"it has no {name}")
        return value

    meta = table.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    return AuthorityDirectory(
        url("newNonce"),
        url("newAccount"),
        url("newOrder"),
        url("renewalInfo", is_needed=False),
        tuple(sorted(str(name) for name in profiles)) if isinstance(profiles, dict) else (),
        meta.get("externalAccountRequired") is True,
    )
