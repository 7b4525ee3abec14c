"""The configuration that `--upstream` and the flags beside it stand for: a proxy without a file.

One server, one location and one upstream, with `--cert` or `--domain` a certificate as well, all of them called `pingap`. It is made
as TOML and read as what stands in a file is: nothing else of pingap knows of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pingap.config.acme_values import parse_acme_directory
from pingap.config.addresses import parse_backend, parse_listen_list
from pingap.config.problems import BadValue
from pingap.config.values import parse_host_list

NAME: Final = "pingap"

CERTIFICATES: Final = ("fullchain.pem", "cert.pem", "tls.crt", "server.crt", "cert.crt")
KEYS: Final = ("privkey.pem", "key.pem", "tls.key", "server.key", "cert.key")
"""Names that are looked for in a directory, in this order: certbot's, plain ones, those of Kubernetes' secrets."""

AUTHORITY: Final = "lets_encrypt"
"""Whom `--domain` without `--cert` gets its certificate from."""

PLAIN: Final = f"{NAME}-http"
"""The server that the authority asks, and that clients come to who do not know of TLS."""


class BadQuickStart(Exception):
    """The flags do not make a configuration; the text says all that is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags as they were given; None is one that was not."""

    upstream: str | None = None
    domain: str | None = None
    cert: str | None = None
    key: str | None = None
    addr: str | None = None
    acme: str | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether any of them was given."""
        return any(value is not None for value in (self.upstream, self.domain, self.cert, self.key, self.addr, self.acme))


def configuration(asked: Asked) -> str:
    """The TOML text. Looks for the certificate's files, and takes them by their absolute paths. Raises BadQuickStart."""
    problems = list(_problems(asked))
    pair = None
    if asked.cert:
        try:
            pair = pair_of(asked.cert, asked.key)
        except BadQuickStart as bad:
            problems.append(str(bad))
    if problems:
        raise BadQuickStart("\n".join(problems))
    return text_of(_listed(asked.upstream), _listed(asked.domain), asked.addr, pair, asked.acme or AUTHORITY)


def text_of(
    upstreams: Sequence[str], domains: Sequence[str], addr: str | None, pair: tuple[str, str] | None, authority: str = AUTHORITY
) -> str:
    """The TOML text for flags that are right. pair: the files of the certificate and of its key; without, domains get one of authority."""
    is_secure = bool(pair or domains)
    tables: dict[str, dict[str, Any]] = {
        "basic": {"name": NAME},
        f"upstreams.{NAME}": {"addrs": list(upstreams)},
        f"locations.{NAME}": {"upstream": NAME, "path": "/"},
        f"servers.{NAME}": {"addr": addr or ("0.0.0.0:443" if is_secure else "0.0.0.0:80"), "locations": [NAME], "access_log": "combined"},
    }
    if domains:
        tables[f"locations.{NAME}"]["host"] = ",".join(domains)
    if is_secure:
        tables[f"servers.{NAME}"] |= {"global_certificates": True, "enabled_h2": True}
    if pair:
        certificate = tables[f"certificates.{NAME}"] = {"tls_cert": pair[0], "tls_key": pair[1], "is_default": True}
        if domains:  # else it is for the names that it says itself
            certificate["domains"] = ",".join(domains)
    elif domains:
        tables[f"certificates.{NAME}"] = {"acme": authority, "domains": ",".join(domains), "is_default": True}
        if not addr:  # who says where to listen has port 80 for something else, or an address where no authority asks
            tables[f"servers.{PLAIN}"] = {"addr": "0.0.0.0:80", "locations": [NAME], "access_log": "combined"}
    return "\n".join(line for name, table in tables.items() for line in (f"[{name}]", *_lines(table), ""))


def pair_of(cert: str, key: str | None) -> tuple[str, str]:
    """Absolute paths of a certificate and its key. cert: the file, or a directory; key: else it is beside. Raises BadQuickStart."""
    found = os.path.abspath(os.path.expanduser(cert))
    folder = found if os.path.isdir(found) else os.path.dirname(found)
    if folder == found:
        found = _first_of(folder, CERTIFICATES)
        if not found:
            raise BadQuickStart(f"--cert: {folder} has no certificate of the names {', '.join(CERTIFICATES)}: name the file")
    elif not os.path.isfile(found):
        raise BadQuickStart(f"--cert: {found} is not there" if not os.path.exists(found) else f"--cert: {found} is no file")
    if key is None:
        key = _first_of(folder, KEYS)
        if not key:
            raise BadQuickStart(f"--cert: {folder} has no key of the names {', '.join(KEYS)}: name it with --key")
    key = os.path.abspath(os.path.expanduser(key))
    if not os.path.isfile(key):
        raise BadQuickStart(f"--key: {key} is not there")
    return found, key


def _problems(asked: Asked) -> Iterator[str]:
    """What can be told without looking at files."""
    given = [f"--{name}" for name in ("domain", "cert", "key", "addr", "acme") if getattr(asked, name) is not None]
    if asked.upstream is None:
        yield f"{' and '.join(given)}: only with --upstream=HOST:PORT, the backend to pass requests on to"
    elif not _listed(asked.upstream):
        yield "--upstream is empty: write --upstream=HOST:PORT, several with commas between"
    if asked.key is not None and asked.cert is None:
        yield "--key: only with --cert"
    for name in ("cert", "key"):
        if getattr(asked, name) == "":
            yield f"--{name} is empty"
    for one in _listed(asked.upstream):
        yield from _said("--upstream", parse_backend, one)
    if domain := ",".join(_listed(asked.domain)):
        yield from _said("--domain", parse_host_list, domain)
        if asked.cert is None:
            yield from (
                f"--domain: {one} cannot be proved to an authority: {why}" for one in _listed(asked.domain) if (why := _unprovable(one))
            )
    if asked.acme is not None:
        if asked.cert is not None or not _listed(asked.domain):
            yield "--acme: only with --domain and without --cert, for the certificate that is got"
        else:
            yield from _said("--acme", parse_acme_directory, asked.acme)
    if asked.addr is not None:
        yield from _said("--addr", parse_listen_list, asked.addr)
    for name in ("upstream", "domain", "cert", "key", "addr", "acme"):
        value = getattr(asked, name) or ""
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            yield f"--{name}: {value!a} is not UTF-8"


def _unprovable(domain: str) -> str:
    """Why an authority cannot be shown over HTTP that a domain is ours; "" when it can."""
    if domain.startswith("~"):
        return "it is a pattern; name them all"
    return "a wildcard is proved by DNS only, which needs a file" if domain.startswith("*") else ""


def _said(flag: str, parse: Callable[[str], object], value: str) -> Iterator[str]:
    try:
        parse(value)
    except BadValue as bad:
        yield f"{flag}: {bad.message}" + (f": {bad.hint}" if bad.hint else "")


def _listed(value: str | None) -> list[str]:
    return [entry.strip() for entry in (value or "").split(",") if entry.strip()]


def _first_of(folder: str, names: Sequence[str]) -> str:
    return next((path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)), "")


def _lines(table: dict[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_written(value)}"


def _written(value: Any) -> str:
    """A value as TOML has it: JSON's form, but that DEL is escaped there as well."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
