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


def why_not_led(directory: str, url: str) -> str:
    """Why a directory may not lead to another URL; "" when it may. Both were told by others, and lead us into the inside of no network.

    Over TLS only from one that is; and to an address, or to this machine, only from one that is at such. Other names are free: authorities
    spread their doings over several, and who answers there has to be believed by its certificate.
    """
    here = urlsplit(directory)
    if not is_safe(url) or (here.scheme == "https" and urlsplit(url).scheme != "https"):
        return "which is no https:// URL"
    if _is_bare(urlsplit(url).hostname or "") and not _is_bare(here.hostname or ""):
        return "which is an address, and its own URL has none"
    return ""


def _is_bare(host: str) -> bool:
    """An address, in whatever way it is written, or this machine by name."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last == "localhost" or last[:1].isdigit()


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
