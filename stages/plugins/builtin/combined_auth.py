"""`combined_auth`: an app proves by a digest of its secret and the time that it is the app it says; for programs that call an API.

A request brings three query parameters (or headers, see below):

| parameter | |
| --- | --- |
| `app_id` | which entry of `authorizations` it is |
| `ts` | Unix seconds, at most `deviation` away from our clock |
| `digest` | lower or upper case hex of SHA-256 over `SECRET:TS` |

```sh
TS=$(date +%s)
DIGEST=$(printf '%s:%s' "$SECRET" "$TS" | sha256sum | cut -d' ' -f1)
curl "https://api.example.org/orders?app_id=shop&ts=$TS&digest=$DIGEST"
```

Such a digest says nothing about the request: who sees one can ask for anything with it, until `deviation` is over. With
`signs = "request"` it is the hex of HMAC-SHA256 with the secret as the key over method, target and ts, a line each. The target is
path and query as they are sent, without the three parameters; a query that only had those goes with its `?`:

```sh
DIGEST=$(printf 'GET\\n/orders?page=2\\n%s' "$TS" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)
```

It can be sent again within `deviation`, as it is. Neither digest covers the host or the body.

Who passes is known to the rest of the location as `:app_id`: `proxy_set_headers = ["X-App: :app_id"]` tells the backend, and
`{:app_id}` the access log. Who does not pass gets 401, `Cache-Control: private, no-store` and a body that says why:
`Plugin combined_auth invalid, message: digest is invalid`.

Unlike pingap 0.13.9: an app with an empty `secret` is refused by `pingap check` (anybody could make its digest), and so are
entries without `app_id` and two with the same. An app with the secret `*` needs no digest, but its `ip_list` holds. A parameter
that is there twice is refused, and so is one in a spelling that some backends take for the same (`%61pp_id`, `app.id`, `APP_ID`,
`app_id[]`, `a=b;app_id=c`): the backend might take the other one. As there, its 401 has no `WWW-Authenticate`, which RFC 9110
wants with each: no scheme of HTTP is like this one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from time import time
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field

from pingap.plugin import (
    CONTINUE,
    Addresses,
    Exchange,
    HeaderName,
    Network,
    Plugin,
    Reply,
    Result,
    Settings,
    Trouble,
    as_header_name,
    loosely,
    reply,
    without_query,
)

NO_CHECK: Final = "*"
"""The secret of an app that needs no digest."""

_NAMES: Final = (b"app_id", b"ts", b"digest")
_WHAT: Final = ("app id", "timestamp", "digest")
"""How refusals call them."""

_SHORT: Final = 16
"""Bytes of a secret, of which fewer are too few."""
_LONG: Final = 3600
"""Seconds by which no clock is off."""

_NUMBER: Final = re.compile(rb"[+-]?[0-9]+")
_LONGEST_TS: Final = 20
"""Characters: what is longer is no time. The reference has room for those of a signed 64-bit number."""


class Application(BaseModel):
    """One entry of `authorizations`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    app_id: Annotated[str, Field(min_length=1)]
    secret: Annotated[str, Field(min_length=1)]
    deviation: Annotated[int, Field(ge=0)] = 0
    ip_list: list[Network] = Field(default_factory=list)
    signs: Literal["time", "request"] = "time"


class CombinedAuthSettings(Settings):
    authorizations: Annotated[list[Application], Field(min_length=1)]
    """The apps, a table each. `app_id` and `secret` are required; the secret `"*"` means that whoever says to be this app is believed,
    without `ts` and `digest`. `deviation`: seconds by which `ts` may be off, either way; required unless the secret is `"*"`.
    `ip_list`: addresses and networks that its requests may come from; empty is any. `signs` (ours): `"time"`, the digest of the
    reference, or `"request"`, one that holds for one method and target only."""
    app_id_header: HeaderName = ""
    """The header that has the app's id instead of the query; goes together with the next two. Ours."""
    ts_header: HeaderName = ""
    """The header with the time. Ours."""
    digest_header: HeaderName = ""
    """The header with the digest. Ours."""
    hide_credentials: bool = False
    """The backend gets none of the three; access log and events show the digest as `***`. Ours."""


class _App(NamedTuple):
    """One that is known."""

    name: str
    secret: bytes
    is_checked: bool
    deviation: int
    addresses: Addresses | None
    signs_request: bool


class CombinedAuth(Plugin[CombinedAuthSettings]):
    category = "combined_auth"
    model = CombinedAuthSettings

    def __init__(self, settings: CombinedAuthSettings) -> None:
        super().__init__(settings)
        self._apps = {
            one.app_id.encode(): _App(
                one.app_id,
                one.secret.encode(),
                one.secret != NO_CHECK,
                one.deviation,
                Addresses(one.ip_list) if one.ip_list else None,
                one.signs == "request",
            )
            for one in settings.authorizations
        }
        self._headers = (settings.app_id_header, settings.ts_header, settings.digest_header)
        self._lines = [as_header_name(name) for name in self._headers] if all(self._headers) else None

    def check(self) -> Iterator[Trouble]:
        seen = set()
        for index, one in enumerate(self.settings.authorizations):
            if one.app_id in seen:
                yield f"authorizations[{index}].app_id", "an entry before has the same app_id"
            seen.add(one.app_id)
            if one.secret != NO_CHECK and not one.deviation:
                yield f"authorizations[{index}].deviation", "must be more than 0 seconds", "how far clocks may differ: deviation = 60"
        if any(self._headers) and self._lines is None:
            for key, name in zip(("app_id_header", "ts_header", "digest_header"), self._headers, strict=True):
                if not name:
                    yield key, "the key is required", "either all three are in headers, or all in the query"
        if len({name.lower() for name in self._headers if name}) < sum(map(bool, self._headers)):
            yield "digest_header", "each of the three has a header of its own"

    def notes(self) -> Iterator[Trouble]:
        for index, one in enumerate(self.settings.authorizations):
            for key in ("deviation", "signs"):
                if one.secret == NO_CHECK and key in one.model_fields_set:
                    yield f"authorizations[{index}].{key}", 'without effect: the secret "*" means that there is no digest', "leave it out"
            if one.secret == NO_CHECK:
                continue
            if len(one.secret.encode()) < _SHORT:
                message = f"has less than {_SHORT} bytes: who sees a digest can find it by trying"
                yield f"authorizations[{index}].secret", message, "openssl rand -base64 32"
            if one.deviation > _LONG:
                message = f"who sees a digest can use it for {one.deviation} seconds, before its time and after it"
                yield f"authorizations[{index}].deviation", message, "how far clocks may differ: deviation = 60"

    def request(self, exchange: Exchange) -> Result:
        given = self._given(exchange)
        if isinstance(given, Reply):
            return given
        app_id, ts, digest = given
        if app_id is None:
            return _REFUSALS["app id is empty"]
        app = self._apps.get(app_id) or self._apps.get(unquote_to_bytes(app_id))
        if app is None:
            return _REFUSALS["app id is invalid"]
        if app.addresses is not None and not app.addresses.has(exchange.client_ip):
            return _REFUSALS["ip is invalid"]
        if app.is_checked and (refusal := self._refusal(app, ts or b"", digest or b"", exchange)) is not None:
            return refusal
        exchange.context["app_id"] = app.name
        if self.settings.hide_credentials:
            self._hide(exchange)
        return CONTINUE

    def _given(self, exchange: Exchange) -> tuple[bytes | None, ...] | Reply:
        """App id, time and digest as they were sent; None for each that is not there."""
        if self._lines is None:
            return _from_query(exchange.raw_target.partition(b"?")[2])
        for what, name in zip(_WHAT, self._headers, strict=True):
            if len(exchange.headers.alike(name)) > 1:
                return _REFUSALS[f"{what} is invalid"]
        return tuple(exchange.headers.first(line) for line in self._lines)

    def _refusal(self, app: _App, ts: bytes, digest: bytes, exchange: Exchange) -> Reply | None:
        """Why time and digest are not good enough; None when they are."""
        if not ts:
            return _REFUSALS["timestamp is empty"]
        if not _NUMBER.fullmatch(ts):
            return _REFUSALS["invalid digit found in string"]
        if len(ts) > _LONGEST_TS:
            return _REFUSALS["number too large to fit in target type"]
        if abs(int(time()) - int(ts)) > app.deviation:
            return _REFUSALS["timestamp deviation is invalid"]
        if not digest:
            return _REFUSALS["digest is empty"]
        if app.signs_request:
            signed = b"%b\n%b\n%b" % (exchange.method.encode("latin-1"), self._signed_target(exchange), ts)
            wanted = hmac.new(app.secret, signed, hashlib.sha256).hexdigest()
        else:
            wanted = hashlib.sha256(b"%b:%b" % (app.secret, ts)).hexdigest()
        return None if hmac.compare_digest(wanted.encode(), digest.lower()) else _REFUSALS["digest is invalid"]

    def _signed_target(self, exchange: Exchange) -> bytes:
        target = exchange.original_target.encode("latin-1")
        return target if self._lines is not None else _without_names(target)

    def _hide(self, exchange: Exchange) -> None:
        if self._lines is None:
            exchange.target = _without_names(exchange.raw_target).decode("latin-1")
        else:
            for name in self._headers:
                exchange.headers.remove(name)


def _from_query(query: bytes) -> tuple[bytes | None, ...] | Reply:
    """The values of the three; a refusal when there is one that a backend may read otherwise."""
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        for index, part in enumerate(pair.split(b";")):  # some take that for `&`
            name = part.partition(b"=")[0]
            plain = loosely(name)
            if plain not in _NAMES:
                continue
            if plain in found or plain != name or index or name == part:
                return _REFUSALS[f"{_WHAT[_NAMES.index(plain)]} is invalid"]
            found[plain] = pair[len(name) + 1 :]
    return tuple(map(found.get, _NAMES))


def _without_names(target: bytes) -> bytes:
    for name in _NAMES:
        target = without_query(target, name)
    return target


def _refused(message: str) -> Reply:
    return reply(401, f"Plugin combined_auth invalid, message: {message}", [("cache-control", "private, no-store")])


_REFUSALS: Final[Mapping[str, Reply]] = {
    message: _refused(message)
    for message in (
        "app id is empty",
        "app id is invalid",
        "ip is invalid",
        "timestamp is empty",
        "timestamp is invalid",
        "invalid digit found in string",
        "number too large to fit in target type",
        "timestamp deviation is invalid",
        "digest is empty",
        "digest is invalid",
    )
}
