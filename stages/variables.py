"""Header values as templates, and the rules that put them into a header block.

A template is compiled once per configuration generation. A value that is
nothing but one variable may be any of them; inside longer text only the names
of `_NAMED` and `$http_…` are variables, and all else stays as it is written:

    $host $hostname $scheme $remote_addr $remote_port $server_addr $server_port
    $upstream_addr $proxy_add_x_forwarded_for $http_<name> $<ENV> :<context key>
    $ssl_client_verify $ssl_client_s_dn and the others of a client's certificate

The upstream stage applies them when a request leaves for a backend: plugins see what the client sent, and `$upstream_addr`
and all context keys are known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pingap.stages.client_certificates.details import ClientCertificate, details_of, listed, openssl_date, verified
from pingap.stages.forwarded import forwarded_for
from pingap.stages.headers import cutter, loose_cutter, value_of
from pingap.stages.messages import Peer, Routed

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Source(NamedTuple):
    """What a template may refer to."""

    peer: Peer
    """A `stages.messages.Peer`."""
    host: bytes
    """Name that the client asked for, without its port (`host_name`)."""
    headers: bytes
    """The request's header block, as the client sent it and plugins left it."""
    believed: bool = False
    """The peer is a trusted proxy (stages.forwarded.Trust)."""
    upstream_addr: str = ""
    """The chosen backend, `host:port`; "" before there is one."""
    context: Mapping[str, Any] = NOTHING
    """Captures, and what plugins put there."""
    location: str = ""


def source_of(routed: Routed, upstream_addr: str, believed: bool, known: Mapping[str, Any] = NOTHING) -> Source:
    """For a request that has a backend. believed: its peer is a trusted proxy; known: further context keys."""
    context = {**routed.variables, **known} if known else routed.variables
    return Source(routed.peer, host_name(routed.host), routed.headers, believed, upstream_addr, context, routed.location)


Render = Callable[[Source], bytes]

_UNSAFE: Final = b"\r\n\0"
"""Deleted from every rendered value: none may end its line, wherever it came from."""


def _of_certificate(read: Callable[[ClientCertificate], str]) -> Render:
    """b"" for a client without a certificate."""
    return lambda source: read(details_of(source.peer.certificate)).encode() if source.peer.certificate else b""


_NAMED: Final[dict[str, Render]] = {
    "host": lambda source: source.host,
    "scheme": lambda source: source.peer.scheme.encode(),
    "remote_addr": lambda source: source.peer.ip.encode(),
    "remote_port": lambda source: b"%d" % source.peer.port,
    "server_addr": lambda source: source.peer.local_ip.encode(),
    "server_port": lambda source: b"%d" % source.peer.local_port,
    "upstream_addr": lambda source: source.upstream_addr.encode(),
    "ssl_client_verify": lambda source: verified(source.peer).encode(),
    "ssl_client_s_dn": _of_certificate(lambda one: one.subject),
    "ssl_client_i_dn": _of_certificate(lambda one: one.issuer),
    "ssl_client_serial": _of_certificate(lambda one: one.serial),
    "ssl_client_fingerprint": _of_certificate(lambda one: one.fingerprint),
    "ssl_client_v_start": _of_certificate(lambda one: openssl_date(one.not_before)),
    "ssl_client_v_end": _of_certificate(lambda one: openssl_date(one.not_after)),
    "ssl_client_v_remain": _of_certificate(lambda one: str(one.days_left)),
    "ssl_client_escaped_cert": _of_certificate(lambda one: one.escaped_pem),
    "ssl_client_san_dns": _of_certificate(lambda one: listed(one.dns_names)),
    "ssl_client_san_email": _of_certificate(lambda one: listed(one.emails)),
    "ssl_client_san_uri": _of_certificate(lambda one: listed(one.uris)),
}
"""Those of certificates have nginx's names and values, but that the fingerprint is SHA-256."""
_OWN_KEYS: Final[dict[str, Callable[[Source], Any]]] = {
    "connection_id": lambda source: source.peer.connection,
    "location": lambda source: source.location,
    "upstream_addr": lambda source: source.upstream_addr,
}
"""Context keys that every request has, unless a capture or a plugin has taken their name."""
_FORWARDED: Final = "proxy_add_x_forwarded_for"
_WORD: Final = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
_HTTP: Final = re.compile(r"\$http_([!#%&'*+.^_`|~0-9A-Za-z-]+)")
"""Without the $ that a name may have: `$http_a$http_b` are two headers."""
_CONTEXT: Final = re.compile(r":([A-Za-z_]\w*)", re.ASCII)


class Template:
    """A compiled value."""

    __slots__ = ("constant", "pieces", "render")

    def __init__(self, render: Render, constant: bytes | None, pieces: tuple[Render, ...]) -> None:
        self.render = render
        """The value for one request, b"" when there is none; never with CR, LF or NUL in it."""
        self.constant = constant
        """The value when it is the same for all requests, else None."""
        self.pieces = pieces
        """What stands in it one after the other, variables and text between them: for who has to tell where one ends, which `render`
        does not say. None of their values has CR, LF or NUL in it."""


def host_name(authority: bytes) -> bytes:
    """The host of an authority, without port and final dot; an IPv6 address keeps its brackets."""
    if authority[:1] == b"[":
        return authority[: authority.find(b"]") + 1]
    name = authority.partition(b":")[0]
    return name[:-1] if name[-1:] == b"." else name


def compile(text: str, environ: Mapping[str, str] | None = None, hostname: str | None = None) -> Template:
    """Compiles a header value. An environment variable is read here, once; an unset one stays as it is written."""
    environ = os.environ if environ is None else environ
    hostname = os.uname().nodename if hostname is None else hostname
    text = text.strip()
    if matched := _HTTP.fullmatch(text):
        return _dynamic(_header(matched[1]))
    if matched := _CONTEXT.fullmatch(text):
        return _dynamic(_context(matched[1]))
    if text == f"${_FORWARDED}":
        return _dynamic(lambda source: forwarded_for(source.headers, source.peer.ip, source.believed))
    name = text[1:] if text.startswith("$") else ""
    if name and name not in _NAMED and name != "hostname" and name in environ:
        return _constant(environ[name])
    return _mixed(text, hostname)


def _mixed(text: str, hostname: str) -> Template:
    """Text with variables in it; a lone variable is the shortest such text."""
    parts: list[bytes | Render] = []
    position = 0
    for matched in _WORD.finditer(text):
        name = matched[1]
        part: bytes | Render | None = _NAMED.get(name)
        if name == "hostname":
            part = hostname.encode()
        elif name.startswith("http_") and len(name) > 5:
            part = _header(name[5:])
        if part is None:
            continue
        parts += (text[position : matched.start()].encode(), part)
        position = matched.end()
    parts.append(text[position:].encode())
    # Neighbours that are constant become one piece.
    pieces: list[bytes | Render] = []
    for part in parts:
        if isinstance(part, bytes) and pieces and isinstance(pieces[-1], bytes):
            pieces[-1] += part
        elif part != b"":
            pieces.append(part)
    if all(isinstance(piece, bytes) for piece in pieces):
        return _constant(b"".join(piece for piece in pieces if isinstance(piece, bytes)).decode())
    if len(pieces) == 1 and not isinstance(pieces[0], bytes):
        return _dynamic(pieces[0])
    return _dynamic(
        lambda source: b"".join([piece if type(piece) is bytes else piece(source) for piece in pieces]),  # type: ignore[operator]
        tuple(_fixed(piece.translate(None, _UNSAFE)) if isinstance(piece, bytes) else _safe(piece) for piece in pieces),
    )


def _constant(text: str) -> Template:
    value = text.encode(errors="surrogateescape").translate(None, _UNSAFE).strip(b" \t")
    return Template(_fixed(value), value, (_fixed(value),))


def _dynamic(render: Render, pieces: tuple[Render, ...] = ()) -> Template:
    """pieces: where it has several."""
    whole = _safe(render)
    return Template(whole, None, pieces or (whole,))


def _fixed(value: bytes) -> Render:
    return lambda source: value


def _safe(render: Render) -> Render:
    return lambda source: render(source).translate(None, _UNSAFE).strip(b" \t")


def _header(name: str) -> Render:
    # `$http_user_agent` is how everybody writes it; a name that really has an underscore is the second choice.
    literal = name.lower().encode()
    usual = literal.replace(b"_", b"-")
    if usual == literal:
        return lambda source: value_of(source.headers, literal) or b""
    return lambda source: value_of(source.headers, usual) or value_of(source.headers, literal) or b""


def _context(key: str) -> Render:
    own = _OWN_KEYS.get(key)

    def render(source: Source) -> bytes:
        value = source.context.get(key)
        if value is None and own is not None:
            value = own(source)
        if value is None:
            return b""
        if isinstance(value, bool):
            return b"true" if value else b"false"
        return value if isinstance(value, bytes) else str(value).encode(errors="replace")

    return render


class Edit:
    """Rules applied to a header block in one go: cut the lines of some names, then append lines.

    A name that is set is cut in all its spellings (`loose_cutter`): nobody can say beside us what only we are to say.
    """

    __slots__ = ("_constant", "_cut", "_cut_host", "_host", "_lines")

    def __init__(self, sets: Iterable[tuple[str, Template]], adds: Iterable[tuple[str, Template]]) -> None:
        # A request has exactly one Host: adding one sets it, and a value that turns out empty leaves the client's.
        last = dict(sets)
        adds = list(adds)
        last.update((name, template) for name, template in adds if name == "host")
        host = last.pop("host", None)
        self._host = host.render if host else None
        self._cut_host = cutter((b"host",))
        self._cut = loose_cutter(name.encode() for name in last)
        rules = [*last.items(), *(rule for rule in adds if rule[0] != "host")]
        lines = [(f"{name}: ".encode(), template) for name, template in rules if template.constant != b""]
        self._constant = b"".join(start + (template.constant or b"") + b"\r\n" for start, template in lines)
        self._lines: list[tuple[bytes, Render]] | None = None
        if any(template.constant is None for _, template in lines):
            self._lines = [(start, template.render) for start, template in lines]

    def apply(self, headers: bytes, source: Source) -> bytes:
        """The block after these rules. An empty value takes the lines of its name away and adds none."""
        if self._host is not None:
            host = self._host(source)
            if host:
                headers = self._cut_host(headers) + b"host: " + host + b"\r\n"
        headers = self._cut(headers)
        if self._lines is None:
            return headers + self._constant
        pieces = [headers]
        for start, render in self._lines:
            value = render(source)
            if value:
                pieces += (start, value, b"\r\n")
        return b"".join(pieces)


def compile_rules(
    set_headers: Iterable[tuple[str, str]],
    add_headers: Iterable[tuple[str, str]],
    environ: Mapping[str, str] | None = None,
    hostname: str | None = None,
) -> Edit | None:
    """Compiles (name, value) pairs: a location's proxy_set_headers, then its proxy_add_headers; None without rules."""
    sets = [(name.lower(), compile(text, environ, hostname)) for name, text in set_headers]
    adds = [(name.lower(), compile(text, environ, hostname)) for name, text in add_headers]
    return Edit(sets, adds) if sets or adds else None
