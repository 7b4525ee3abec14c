"""Types for the keys of a plugin's settings: what users write, checked and made into what hooks need."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import core_schema

from pingap.config.addresses import host_name, parse_network
from pingap.config.problems import BadValue
from pingap.config.quantities import DURATION_SCHEMA, SIZE_SCHEMA, parse_duration, parse_size, shown, text_of
from pingap.config.values import ESCAPED_PATHS, WORDS_SCHEMA, ascii_regex, parse_header, parse_request_path, parse_words
from pingap.stages.forwarded import Trust
from pingap.stages.header_view import writable
from pingap.stages.spellings import as_sent

_TEXT: Final = WithJsonSchema({"type": "string"})
_TEXTS: Final = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(DURATION_SCHEMA)]
"""Seconds; written `10s`, `1m 30s`."""
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]
"""Bytes; written `4kb`, `1MiB`."""
HeaderLine = Annotated[tuple[str, str], BeforeValidator(parse_header), _TEXT]
"""(lower-case name, value); written `Name: value`."""
RequestPath = Annotated[str, BeforeValidator(parse_request_path)]
"""The path of a request, or empty; written `/ping`. `is_path` compares it."""
Status = Annotated[int, Field(ge=200, le=599)]
Words = Annotated[list[str], BeforeValidator(parse_words), WithJsonSchema(WORDS_SCHEMA)]
"""Words; written as a list, or as one text in which commas or blanks are between them."""
Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), _TEXTS]
"""Texts of any kind; written as a list, or as one text, which is taken whole."""
Network = Annotated[str, BeforeValidator(parse_network), _TEXT]
"""An IP address or a network; written `10.0.0.1`, `10.0.0.0/8`, `::1`. `Addresses` is a list of them."""


def _header_name(value: Any) -> str:
    text = text_of(value, 'the name of a header such as "X-API-Key"')
    try:
        if text:
            writable(text)
    except ValueError as error:
        raise BadValue(str(error)) from None
    return text


HeaderName = Annotated[str, BeforeValidator(_header_name)]
"""The name of a header that may be read and written, or empty. `as_header_name` makes the beginning of its line."""


# -- regular expressions ---------------------------------------------------------


def compile_regex(text: str, *, is_for_paths: bool = False) -> Any:
    """A regular expression (google-re2) for bytes: it takes time that grows with the text only. Raises BadValue.

    is_for_paths: a letter beyond ASCII is refused, since paths are percent-encoded.
    """
    if is_for_paths:
        ascii_regex(text, ESCAPED_PATHS)
    import re2  # only where a plugin has one: it takes 3 MB

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        hint = "the syntax is that of google-re2"
        if reason.startswith("invalid perl operator: (?"):
            hint += ", which takes linear time and has no look-around"
        raise BadValue(f"the regex is refused: {reason}", hint) from None


def _regex(value: Any) -> Any:
    text = text_of(value, "a regular expression")
    return compile_regex(text) if text else None


def _path_regex(value: Any) -> Any:
    text = text_of(value, 'a regular expression such as "^/api/"')
    return compile_regex(text, is_for_paths=True) if text else None


Regex = Annotated[Any, BeforeValidator(_regex), _TEXT]
"""A compiled regular expression for bytes, or None for an empty text."""
PathRegex = Annotated[Any, BeforeValidator(_path_regex), _TEXT]
"""The same for `exchange.raw_path`."""


# -- addresses -------------------------------------------------------------------


class Addresses:
    """IP addresses and networks, asked whether one of them has an address."""

    __slots__ = ("_trust",)

    def __init__(self, networks: Iterable[str]) -> None:
        """networks: as `10.0.0.0/8`; ValueError for anything else."""
        self._trust = Trust(networks)

    def has(self, address: str) -> bool:
        """Whether an IP address is one of these; an IPv4 address within IPv6 is that IPv4 address. False for what is no address."""
        return self._trust.is_trusted(address)


# -- URLs --------------------------------------------------------------------------

_PORTS: Final = {"http": 80, "https": 443}
_HINT: Final = 'write "https://host/path", or "upstream://NAME/path" for an upstream of this configuration'


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """Where `host.fetch_url` asks. A key of this type is written as `parse_url` takes it, which makes one in other places.

    As text, in logs and messages, it is without its query, for that may be secret.
    """

    text: str
    """As it is written, without a fragment."""
    scheme: str
    """http, https or upstream."""
    upstream: str
    """The name of the upstream; "" for the other schemes."""
    authority: str
    """`host` or `host:port`, as a Host line has it; "" for an upstream."""
    target: str
    """Path and query, percent-encoded."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.upstream or self.authority}{self.target.partition('?')[0]}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(parse_url)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string"}


def parse_url(value: Any) -> Url:
    """`https://host:port/path?query`, `http://…` or `upstream://NAME/path?query`. Raises BadValue."""
    if isinstance(value, Url):
        return value
    text = text_of(value, f"a URL: {_HINT}").strip()
    said = "this" if "@" in text else shown(re.split("[?#]", text, maxsplit=1)[0])
    """What problems tell of it: a password or a query is nobody's business."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadValue("this is not a URL: what is between its slashes is no host", _HINT) from None
    scheme = parts.scheme.lower()
    if "@" in parts.netloc:
        raise BadValue("a URL here has no user and no password in it", "others see it; send a header")
    if scheme not in _PORTS and scheme != "upstream":
        raise BadValue(f"{said} is not a URL" if not scheme else f"{said} begins with {shown(scheme)[1:-1]}:", _HINT)
    if parts.fragment:
        raise BadValue(f"{said} has a fragment, which no server sees", "write it without what is behind the #")
    target = _target(parts.path, parts.query)
    if scheme == "upstream":
        name = unquote_to_bytes(parts.netloc).decode("utf-8", "replace")
        if not name:
            raise BadValue(f"{said} names no upstream", _HINT)
        return Url(text, scheme, name, "", target)
    try:
        port = parts.port
    except ValueError as error:
        raise BadValue(f"{said} is not a URL: {error}", _HINT) from None
    return Url(text, scheme, "", _authority(said, parts.hostname or "", port, _PORTS[scheme]), target)


def _authority(said: str, host: str, port: int | None, usual: int) -> str:
    if ":" in host:
        if "%" in host:
            raise BadValue(f"{shown(host)} has a zone, which no Host line may have", "make it an upstream, whose addresses may have one")
        try:
            name = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise BadValue(f"{shown(host)} is not an IPv6 address", _HINT) from None
    else:
        if not host:
            raise BadValue(f"{said} names no host", _HINT)
        name = host_name(host)
    if port == 0:
        raise BadValue(f"{said} has port 0", _HINT)
    return name if port in (None, usual) else f"{name}:{port}"


def _target(path: str, query: str) -> str:
    target = as_sent(path or "/")
    return (target + b"?" + as_sent(query) if query else target).decode("latin-1")
