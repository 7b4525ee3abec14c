"""`dns_service_url` of [certificates.X]: where the interface of a DNS provider is, and the keys in its query."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from pingap.config.acme_values import LOOPBACK
from pingap.config.problems import BadValue, Note, Problem, choices, nearest

_PAIR: Final = ("access_key_id", "access_key_secret")
_QUERIES: Final[Mapping[str, tuple[str, ...]]] = {"ali": _PAIR, "cf": ("token",), "tencent": _PAIR, "huawei": _PAIR}
"""Provider → the names in the query; all are needed."""

_ENDPOINTS: Final[Mapping[str, str]] = {
    "ali": "https://alidns.aliyuncs.com",
    "cf": "https://api.cloudflare.com",
    "tencent": "https://dnspod.tencentcloudapi.com",
    "huawei": "https://dns.myhuaweicloud.com",
}
"""Provider → its public interface, which a value without a host means."""

_NAME: Final = re.compile("[a-z][a-z_]{0,23}")
"""What is told of an unknown name: any other may be a key without a name."""

_REFERENCE: Final = re.compile(r"\$(?:ENV|SECRET):[A-Za-z_][A-Za-z0-9_]*")
"""What says where a key is, and is none (references.py)."""


@dataclass(frozen=True, slots=True)
class DnsService:
    """Whom to ask, and as whom."""

    endpoint: str
    """`https://host` or `https://host:port`; a path that was written is of no effect, as in the reference."""
    keys: Mapping[str, str] = field(repr=False)
    """Of `access_key_id`, `access_key_secret` and `token` those that the provider has."""


def parse_dns_service(provider: str, url: str) -> DnsService:
    """provider: as `acme_values.parse_dns_provider` has it, but manual. Raises BadValue for the first thing that is wrong."""
    found = list(_complaints(provider, url))
    if found:
        raise found[0]
    parts = urlsplit(url.strip())
    endpoint = f"{parts.scheme}://{parts.netloc}" if parts.netloc else _ENDPOINTS[provider]
    return DnsService(endpoint, dict(_query(parts.query)))


def secret_parts(url: str) -> Iterator[str]:
    """What must not be told of one: all but scheme, host, and names of the query and references that stand for values."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        yield url
        return
    user, at, _ = parts.netloc.rpartition("@")
    texts = [user if at else "", parts.path, parts.fragment]
    for part in parts.query.split("&"):
        name, _, value = part.partition("=")
        texts.append(value or name)
    for text in texts:
        for one in _REFERENCE.split(text):
            yield from dict.fromkeys((one, unquote(one))) if one.strip("/=") else ()


def check_dns_service(path: str, provider: str, url: str) -> Iterator[Problem | Note]:
    """All that is wrong with it, of which nothing tells a key. path: of the certificate's section."""
    place = f"{path}.dns_service_url"
    found = list(_complaints(provider, url))
    for error in found:
        yield Problem(place, error.message, error.hint)
    if not found:
        parts = urlsplit(url.strip())
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            yield Note(place, "the keys go over the network unencrypted", "https://…")


def _complaints(provider: str, url: str) -> Iterator[BadValue]:
    names = _QUERIES[provider]
    example = f"{_ENDPOINTS[provider]}?{'&'.join(f'{name}=…' for name in names)}"
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        yield BadValue("is no URL", example)
        return
    if (parts.scheme or parts.netloc) and (parts.scheme not in ("https", "http") or not host):
        yield BadValue("is no URL of an interface: it begins with https://", example)
    elif not parts.netloc and parts.path.strip("/"):
        yield BadValue("has neither a scheme nor a `?`", example)
    if parts.username is not None or parts.password is not None:
        yield BadValue("has a user before the host, of which the interface knows nothing", f"keys go into the query: {example}")
    if parts.fragment or url.rstrip().endswith("#"):
        yield BadValue("has a `#`, at which it ends", "in a key it is written %23")
    given = _query(parts.query)
    for name, _value in given:
        if name not in names:
            what = f"{name!r} in the query is nothing that {provider} knows" if _NAME.fullmatch(name) else "has more in its query than keys"
            yield BadValue(what, nearest(name, names) or choices(names))
    for name in names:
        values = [value for other, value in given if other == name]
        if not values:
            yield BadValue(f"{name} is missing in the query", example)
        elif len(values) > 1:
            yield BadValue(f"{name} is there more than once", "leave one")
        elif not values[0]:
            yield BadValue(f"{name} is empty", "is the environment variable, or the storage, empty that stands for it?")
        elif not (values[0].isascii() and values[0].isprintable()) or " " in values[0]:
            yield BadValue(f"{name} has characters that no key has", "blanks and line ends around it?")


def _query(query: str) -> list[tuple[str, str]]:
    """Names and values. Unlike in a form `+` is itself: no key has a blank, and those in base64 have a plus."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name) if equals else "", unquote(value)) for name, equals, value in pairs]
