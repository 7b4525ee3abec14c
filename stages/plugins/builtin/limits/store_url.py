"""The address of a Redis or Valkey server, as `limit` has it in `store`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator, WithJsonSchema

from pingap.plugin import BadValue

_HINT: Final = 'write "redis://:PASSWORD@host:6379/0", "rediss://…" for TLS, or "unix:///run/redis.sock?db=0"'
_ODD: Final = re.compile(r"[@/\s]")
"""Characters after which a password could not be told from the rest, neither here nor where it is hidden."""
_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_USUAL: Final = 6379


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the server is, and who we are there. Never shown as it is written: it may have a password in it."""

    shown: str
    """Without it."""
    kind: str
    """redis, rediss or unix."""
    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: tuple[tuple[str, str], ...] = ()
    """Files, by the name that the client library has for each."""


def parse_store_url(value: Any) -> StoreUrl | None:
    """None for an empty text. Raises BadValue; nothing that it says has a part of the text in it that might be a password."""
    if not isinstance(value, str):
        raise BadValue("the address of a store is text", _HINT)
    if not value:
        return None
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise BadValue("this is not a URL", f"{_HINT}; what is special in a password is percent-encoded") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise BadValue("a store is a server of Redis or Valkey", _HINT)
    if _ODD.search(parts.netloc.rpartition("@")[0]):
        raise BadValue(
            "user and password have characters in them that are percent-encoded in a URL",
            "%40 for @, %2F for /, %23 for #, %20 for a blank",
        )
    if parts.fragment:
        raise BadValue("there is a # in the address", "what is special in a password is percent-encoded: %23")
    user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    db = options.pop("db", "")
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.hostname:
            raise BadValue("the path of a socket begins with /", "unix:///run/redis.sock, or unix://:PASSWORD@/run/redis.sock")
    else:
        if not parts.hostname:
            raise BadValue("the address names no host", _HINT)
        if parts.path.strip("/"):
            if db:
                raise BadValue("the number of the database is given twice", "leave ?db= out")
            db = parts.path.strip("/")
    if db and not (db.isascii() and db.isdigit() and len(db) < 6):
        raise BadValue("a database is named by a number", _HINT)
    tls = tuple((name, options.pop(name)) for name in _TLS if name in options)
    if tls and parts.scheme != "rediss":
        raise BadValue(f"{tls[0][0]} is for TLS", "write rediss://")
    if options:
        raise BadValue("there are other options in the address than are known", f"known are db, {', '.join(_TLS)}")
    number = int(db or 0)
    if parts.scheme == "unix":
        path = unquote(parts.path)
        return StoreUrl(f"unix://{path}?db={number}", "unix", path=path, db=number, username=user, password=password)
    host = parts.hostname or ""
    port = port or _USUAL
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/{number}"
    return StoreUrl(shown, parts.scheme, host, port, "", number, user, password, tls)


StoreAddress = Annotated[Any, BeforeValidator(parse_store_url), WithJsonSchema({"type": "string"})]
"""A `StoreUrl`, or None for an empty text."""
