"""`referer_restriction`: lets in only who comes from some pages, or keeps out who does.

403 for who is kept out. The classic use is to keep other pages from showing your images. A client may send what it likes: where
it must hold, use `key_auth` or signed URLs.

It is the host of the Referer that counts, in small letters and Punycode, without its port: `"example.com"` is that host,
`"*.example.com"` are those below it but not itself (list both if both are meant), `"*"` is whatever Referer there is.
`"*example.com"` is the host and those below it; only a hyphen goes on in the middle of a name: `"*-cdn.example.com"`.

A Referer that is no URL is not one of the list (but of `"*"`), and neither is a request without one: `"allow"` refuses it,
and with it people who come by a bookmark or whose browser tells no page; `missing = "allow"` lets these in. Of several Referer
lines each has to pass. A value of more than 4096 bytes is refused in either case.

Unlike pingap 0.13.9: `"*example.com"` is not `notexample.com`; capitals and letters beyond ASCII in the list are found; it looks
at all lines of the header; an entry that could never match, with a port or a path, is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from pingap.plugin import BadValue, Exchange, Plugin, Result, Settings, Trouble, as_host_name
from pingap.stages.plugins.builtin.admission import FORBIDDEN, Admission, AdmissionType, note_empty
from pingap.stages.plugins.builtin.header_admission import HeaderAdmission, MissingHeader

_URL: Final = re.compile(rb"\s*[A-Za-z][A-Za-z0-9+.-]*://([^/?#\\]*)")
_HINT: Final = 'write "example.com", "*.example.com" or "*": a host alone, without scheme, port and path'


class RefererEntry(NamedTuple):
    """One of the list. Hosts are in small letters and Punycode."""

    host: str = ""
    """Exactly this one; "" for none."""
    ending: str = ""
    """Those that end so, which is the end of a name; "" for none."""
    is_any: bool = False
    """Whatever Referer there is."""


def _entry(value: object) -> RefererEntry:
    if not isinstance(value, str):
        raise BadValue("expected text", _HINT)
    text = value.strip()
    if text == "*":
        return RefererEntry(is_any=True)
    rest = text.removeprefix("*")
    if rest == text:
        return RefererEntry(_host(text, text))
    if rest[0] in ".-_":
        return RefererEntry(ending=rest[0] + _host(text, rest[1:]))
    host = _host(text, rest)
    return RefererEntry(host, f".{host}")


def _host(entry: str, text: str) -> str:
    try:
        return _in_one_form(text)
    except BadValue as error:
        raise BadValue(f"{entry!r} is not a host", _HINT) from error


def _in_one_form(host: str) -> str:
    """Raises BadValue for what is no host."""
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:].removesuffix(']'))}]"
        except ValueError as error:
            raise BadValue(str(error)) from error
    return as_host_name(host.removesuffix("."))


def host_of(referer: bytes) -> str:
    """The host of a URL, "" for what is none."""
    url = _URL.match(referer)
    if url is None:
        return ""
    host = url[1].rpartition(b"@")[2].decode("utf-8", "replace")
    name, colon, port = host.rpartition(":")
    if colon and not port.endswith("]"):
        if port and not (port.isascii() and port.isdigit()):
            return ""
        host = name
    try:
        return _in_one_form(host)
    except BadValue:
        return ""


class RefererRestrictionSettings(Settings):
    referer_list: list[Annotated[RefererEntry, BeforeValidator(_entry), WithJsonSchema({"type": "string"})]] = Field(default_factory=list)
    """Hosts: `"example.com"`, `"*.example.com"`, `"*"`."""
    type: AdmissionType = "allow"
    """`"allow"`: nobody but these; `"deny"`: everybody but these."""
    message: str = FORBIDDEN
    """Body of the 403."""
    missing: MissingHeader = ""
    """What becomes of a request without Referer: `"allow"` or `"deny"`; without it as of one that is not listed. Ours."""


class RefererRestriction(Plugin[RefererRestrictionSettings]):
    category = "referer_restriction"
    model = RefererRestrictionSettings

    def __init__(self, settings: RefererRestrictionSettings) -> None:
        super().__init__(settings)
        self._has_any = any(entry.is_any for entry in settings.referer_list)
        self._hosts = frozenset(entry.host for entry in settings.referer_list if entry.host)
        self._endings = tuple({entry.ending for entry in settings.referer_list if entry.ending})
        admission = Admission(settings.type, settings.message)
        self._door = HeaderAdmission(b"referer: ", self._is_listed, admission, settings.missing)

    def notes(self) -> Iterator[Trouble]:
        yield from note_empty("referer_list", self.settings.referer_list, self.settings.type, 'referer_list = ["example.com"]')
        for index, entry in enumerate(self.settings.referer_list):
            if entry.host and entry.ending:
                message = f'"*{entry.host}" is taken for "{entry.host}" and "*{entry.ending}"'
                yield f"referer_list[{index}]", message, f"pingap 0.13.9 takes not{entry.host} for one of them, too"

    def request(self, exchange: Exchange) -> Result:
        return self._door.judge(exchange.headers)

    def _is_listed(self, value: bytes) -> bool:
        if self._has_any:
            return True
        host = host_of(value)
        return host in self._hosts or host.endswith(self._endings)
