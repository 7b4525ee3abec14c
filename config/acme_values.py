"""What [certificates.X] with `acme` may name: authorities, and DNS providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pingap.config.problems import BadValue, choices, nearest
from pingap.config.quantities import text_of

DIRECTORIES: Final[Mapping[str, str]] = {
    "lets_encrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "lets_encrypt_staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
    "google": "https://dv.acme-v02.api.pki.goog/directory",
}
"""Name → URL of the directory (RFC 8555 section 7.1.1)."""

SHOWN: Final[Mapping[str, str]] = {
    DIRECTORIES["lets_encrypt"]: "Let's Encrypt",
    DIRECTORIES["lets_encrypt_staging"]: "Let's Encrypt staging",
    DIRECTORIES["zerossl"]: "ZeroSSL",
    DIRECTORIES["google"]: "Google Trust Services",
}
"""What people call them."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "": "manual",
    "manual": "manual",
    "ali": "ali",
    "aliyun": "ali",
    "cf": "cf",
    "cloudflare": "cf",
    "tencent": "tencent",
    "huawei": "huawei",
}
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""Hosts that are spoken to without TLS: nobody is between."""


def named_directory(value: str) -> str:
    """The URL of an authority by its name, however that is spelled; "" when it is none of them."""
    letters = "".join(letter for letter in value.lower() if letter.isalnum())
    return next((url for name, url in DIRECTORIES.items() if name.replace("_", "") == letters), "")


def parse_acme_directory(value: Any) -> str:
    """`lets_encrypt`, `lets_encrypt_staging`, … or the URL of a directory: the URL. Empty is none."""
    text = text_of(value, "the name of an authority, or the URL of its directory").strip()
    if not text or (url := named_directory(text)):
        return url if text else ""
    if "://" not in text:
        raise BadValue(f"{text!r} is no authority", nearest(text, DIRECTORIES) or f"{choices(DIRECTORIES)}, or the URL of a directory")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise BadValue(f"{text!r} is no URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise BadValue(f"{text!r} is no URL of a directory", "https://…")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise BadValue(f"{text!r}: an authority is spoken to by https", "http:// is for this host alone")
    return text


def parse_dns_provider(value: Any) -> str:
    """`ali` (or `aliyun`), `cf` (`cloudflare`), `tencent`, `huawei`, `manual` (or nothing), in any case."""
    text = text_of(value, "the name of a DNS provider").strip().lower()
    if text not in _PROVIDERS:
        names = [name for name in _PROVIDERS if name]
        raise BadValue(f"{text!r} is no DNS provider", nearest(text, names) or choices(names))
    return _PROVIDERS[text]
