"""The packed text of single values, taken apart: rules, headers, URLs; addresses are taken apart in addresses.py.

Each parser takes what the file says, of whatever type, and returns the value of
the model or raises `BadValue`. Nothing here knows of other keys.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from typing import Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

from pingap.config.acme_values import parse_acme_directory, parse_dns_provider
from pingap.config.addresses import (
    host_name,
    parse_backend,
    parse_dns_domain,
    parse_dns_search,
    parse_dns_servers,
    parse_docker_host,
    parse_domains,
    parse_endpoint,
    parse_entry,
    parse_listen_list,
    parse_network,
    parse_sni,
)
from pingap.config.home import expanded
from pingap.config.levels import LEVELS, levels_of
from pingap.config.parts import DEFAULT_CHECK, AccessLog, Balance, HealthCheck, HostRule, PathRule, Rewrite
from pingap.config.pem import parse_pem
from pingap.config.problems import BadValue, choices, nearest
from pingap.config.quantities import parse_duration, parse_limit, parse_size, shown, text_of, whole_number

_ALGORITHMS = ("round_robin", "hash", "least_conn", "p2c")
ALPNS = ("h1", "h2", "h2h1")
DISCOVERIES = ("static", "dns", "docker", "transparent")
MODULES = ("grpc-web",)
ACCESS_LOG_FORMATS = ("combined", "common", "short", "tiny")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BEGIN = re.compile(r"\s*([^\s:]+)[\s:]+\S")
"""The first of several words."""
_VIA = re.compile(rf"{_TOKEN.pattern}(?::[0-9]+)?")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._~%:@!,;=&'-]*")
ESCAPED_PATHS = "paths arrive percent-encoded: write (?i:%C3%BC) for ü"
_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")

# Written by pingap itself from what it knows of each connection (docs/design.md, Safety).
_NOT_TO_SET = frozenset(("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"))


def parse_header(value: Any) -> tuple[str, str]:
    """`Name: value` to (lower-case name, value)."""
    name, content = parse_spelled_header(value)
    return name.lower(), content


def parse_spelled_header(value: Any) -> tuple[str, str]:
    """`Name: value` to (name as it is written, value)."""
    text = text_of(value, 'a header such as "name:value"')
    name, colon, content = text.partition(":")
    name, content = name.strip(), content.strip()
    if not colon or not _TOKEN.fullmatch(name):
        begin = _BEGIN.match(text)
        # No more of it than what might have been its name: all the rest may be a password.
        raise BadValue(f"{f'what begins with {begin[1]!r} ' if begin else ''}is not a header", 'write "name:value"')
    if not _HEADER_VALUE.fullmatch(content):
        raise BadValue(f"the value of header {name!r} has characters that no header may have", "use visible ASCII")
    if name.lower() in _NOT_TO_SET:
        raise BadValue(f"header {name!r} is about one connection; pingap writes it itself", "leave it out")
    return name, content


def parse_condition(value: Any) -> tuple[str, str | None]:
    """`name:value` to (name, value), `name` to (name, None)."""
    text = text_of(value, 'a condition such as "name:value" or "name"')
    name, colon, content = text.partition(":")
    if not name.strip():
        raise BadValue("names nothing", 'write "name:value" or "name"')
    return name.strip(), content.strip() if colon else None


def parse_header_condition(value: Any) -> tuple[str, str | None]:
    """As `parse_condition`, with the name in lower case."""
    name, content = parse_condition(value)
    if not _TOKEN.fullmatch(name):
        begin = _BEGIN.match(name)
        raise BadValue(f"{f'what begins with {begin[1]!r} ' if begin else ''}is not the name of a header")
    return name.lower(), content


def parse_host_list(value: Any) -> tuple[HostRule, ...]:
    """`example.com, *.example.org, ~^(?<user>.+)\\.example\\.net$` to rules."""
    text = text_of(value, 'a host such as "example.com"')
    rules: list[HostRule] = []
    for entry in text.split(","):
        if entry.strip():
            try:
                rules.append(_host_rule(entry.strip()))
            except BadValue as error:
                if rules and rules[-1].kind == "regex":
                    raise BadValue(error.message, f"{error.hint}; a comma separates hosts and cannot stand in a regex") from error
                raise
    return tuple(rules)


def _host_rule(text: str) -> HostRule:
    if text.startswith("~"):
        return HostRule("regex", ascii_regex(text[1:].strip(), "hosts arrive in Punycode: write xn--…"))
    kind: Literal["exact", "suffix"] = "suffix" if text.startswith("*.") else "exact"
    name = text.removeprefix("*.")
    if "*" in name or not name or name.startswith("."):
        raise BadValue(f"{text!r} is not a host", "a wildcard is `*.` at the start; for more, write a regex: ~…")
    if name.startswith("[") and kind == "exact":
        return HostRule(kind, _ipv6_host(name))
    if re.search(r"[\s/:]", name):
        raise BadValue(f"{text!r} is not a host", "a host has no scheme, no port and no path")
    return HostRule(kind, host_name(name))


def _ipv6_host(text: str) -> str:
    """In the form of RFC 5952, which clients send."""
    inner = text[1:].removesuffix("]")
    try:
        address = ipaddress.IPv6Address(inner)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None or text != f"[{inner}]":
        raise BadValue(f"{text!r} is not a host", 'write an IPv6 address as in "[::1]", without a port')
    return f"[{address}]"


def ascii_regex(pattern: str, hint: str) -> str:
    """Of a regex for what is ASCII always: a letter beyond that could never be found."""
    if not pattern.isascii():
        found = next(letter for letter in pattern if not letter.isascii())
        raise BadValue(f"{found!r} can never match", hint)
    return pattern


def parse_path(value: Any) -> PathRule:
    """`= /exact`, `~ regex`, `/prefix`, or nothing."""
    text = text_of(value, 'a path such as "/api"').strip()
    if not text:
        return PathRule()
    if text.startswith("~"):
        return PathRule("regex", ascii_regex(text[1:].strip(), ESCAPED_PATHS))
    if text.startswith("="):
        return PathRule("exact", _matchable(text[1:].strip(), 'a path starts with "/"'))
    return PathRule("prefix", _matchable(text, 'a path starts with "/", a regex with "~"'))


def parse_request_path(value: Any) -> str:
    """The one path of the requests that a plugin is for; empty is none."""
    text = text_of(value, 'a path such as "/ping"').strip()
    return text and _matchable(text, 'a path starts with "/"')


WORDS_SCHEMA: Final[dict[str, Any]] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
"""What `parse_words` takes, as JSON Schema: for editors."""


def parse_words(value: Any) -> Any:
    """`"a, b"`, `["a", "b"]` or `["a, b"]`: words between which are commas or blanks. What is neither text nor a list stays as it is."""
    items = value if isinstance(value, list) else [value]
    if not (isinstance(value, str | list) and all(isinstance(item, str) for item in items)):
        return value
    return [word for item in items for word in item.replace(",", " ").split()]


def _matchable(path: str, hint: str) -> str:
    """A path that a request can have."""
    if not path.startswith("/"):
        raise BadValue(f"{path!r} can never match", hint)
    if "?" in path or "#" in path:
        raise BadValue(f"{path!r} can never match", "a path ends before `?` and `#`; conditions on a query are a location's match_query")
    return path


def parse_rewrite(value: Any) -> Rewrite | None:
    """`pattern replacement`; a replacement alone (it has a `$`) is for the whole path; a pattern alone deletes.

    A path alone could be meant either way. For the reference it is a pattern; who writes it means a replacement as often.
    """
    text = text_of(value, 'a rewrite such as "^/api/(.*) /$1"')
    parts = text.split()
    if not parts:
        return None
    if len(parts) > 2:
        raise BadValue(f"{text!r} has {len(parts)} parts", 'write "pattern replacement"; for a space in the pattern, \\s')
    if len(parts) == 1 and "$" in parts[0].rstrip("$"):
        return Rewrite(".*", parts[0])
    ascii_regex(parts[0], ESCAPED_PATHS)
    if len(parts) == 1 and _PLAIN_PATH.fullmatch(parts[0]):
        raise BadValue(
            f"{text!r} could be meant in two ways",
            f'write ".* {parts[0]}" for that path instead of any other, or "^{parts[0]} /" to take it away from the beginning',
        )
    return Rewrite(*parts)


def parse_balance(value: Any) -> Balance:
    """`round_robin`, `hash:header:x-user`, `least_conn`, …"""
    text = text_of(value, 'an algorithm such as "round_robin"').strip()
    kind, _, rest = text.partition(":")
    by, _, key = rest.partition(":")
    if kind in ("round_robin", "least_conn", "p2c") and not rest:
        return Balance(cast(Any, kind))
    if not text:
        return Balance()
    if kind != "hash":
        raise BadValue(f"{text!r} is not a known algorithm", nearest(kind, _ALGORITHMS) or choices(_ALGORITHMS))
    if by in ("", "path", "url", "ip") and not key:
        return Balance("hash", cast(Any, by or "path"))
    if by in ("header", "cookie", "query"):
        if not key:
            raise BadValue(f"{text!r} does not say which {by}", f'write "hash:{by}:name"')
        return Balance("hash", cast(Any, by), key.lower() if by == "header" else key)
    if by in ("path", "url", "ip"):
        raise BadValue(f"{text!r} has a name too many", f'write "hash:{by}"')
    known = ("path", "url", "ip", "header", "cookie", "query")
    raise BadValue(f"{text!r} does not say what to hash", nearest(by, known) or choices(f"hash:{by}" for by in known))


def parse_discovery(value: Any) -> str:
    """One of DISCOVERIES; empty stands for the first."""
    text = text_of(value, 'a way of discovery such as "static"').strip() or DISCOVERIES[0]
    if text not in DISCOVERIES:
        raise BadValue(f"{text!r} is not a known way of discovery", nearest(text, DISCOVERIES) or choices(DISCOVERIES))
    return text


def parse_port(value: Any) -> int:
    """A port that a backend may have."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise BadValue(f"{value!r} is not a port", "a port is a number from 1 to 65535")
    return value


def parse_alpn(value: Any) -> str:
    """`h1`, `h2` or `h2h1`, in either case; empty is h1."""
    text = text_of(value, '"h1", "h2" or "h2h1"').lower() or "h1"
    if text not in ALPNS:
        raise BadValue(f"{value!r} is no protocol", nearest(text, ALPNS) or choices(ALPNS))
    return text


def parse_via(value: Any) -> str:
    """A pseudonym, or `host:port`, for Via lines."""
    text = text_of(value, 'a name such as "edge"')
    if text and not _VIA.fullmatch(text):
        raise BadValue(f"{text!r} is not a name for Via", 'write a word, or host:port; "" adds no line')
    return text


def parse_module(value: Any) -> str:
    """`grpc-web`."""
    text = text_of(value, 'the name of a module, "grpc-web"')
    if text not in MODULES:
        raise BadValue(f"module {text!r} does not exist", nearest(text, MODULES) or choices(MODULES))
    return text


def parse_health_check(value: Any) -> HealthCheck:
    """`http://host/path?check_frequency=5s&failure=3`; parameters that are not the check's stay in the path."""
    text = text_of(value, 'a URL such as "http://host/ping"').strip()
    if not text:
        return DEFAULT_CHECK
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        host = host if host.isascii() else host_name(host)
    except ValueError as error:
        raise BadValue(f"{text!r} is not a URL") from error
    if url.scheme not in CHECK_SCHEMES:
        raise BadValue(f"{text!r} is not a health check", 'write "tcp://name", "http://name/path", "https://name/path" or "grpc://name"')
    if not host:
        raise BadValue(f"{text!r} names no host", f'write "{url.scheme}://name"')
    settings: dict[str, Any] = {}
    others = []
    for part in url.query.split("&") if url.query else ():
        name, _, content = (unquote(side) for side in part.partition("="))
        parser = _CHECK_PARAMETERS.get(name)
        if parser:
            settings[name] = _parameter(name, content, parser)
        elif url.scheme not in _WITH_PATH:
            raise BadValue(f"unknown parameter {name!r} of a health check", nearest(name, _CHECK_PARAMETERS))
        else:
            others.append(part)
    path = (url.path or "/") + (f"?{'&'.join(others)}" if others else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise BadValue(f"{path!r} cannot be requested", "percent-encode what is not visible ASCII")
    return HealthCheck(url.scheme, host, path if url.scheme in _WITH_PATH else "/", **settings)  # type: ignore[arg-type]


def _parameter(name: str, content: str, parser: Callable[[str], Any]) -> Any:
    try:
        return parser(content)
    except BadValue as error:
        raise BadValue(f"parameter {name!r}: {error.message}", error.hint) from error


def _positive_count(content: str) -> int:
    number = whole_number(content, 1000)
    if not number:
        raise BadValue(f"{shown(content)} is not a whole number from 1 to 1000")
    return number


def _switch(content: str) -> bool:
    # The reference takes the mere name for yes, whatever its value; `reuse=false` is meant as it is written.
    if content.lower() not in ("", "true", "1", "false", "0"):
        raise BadValue(f"{content!r} is neither true nor false")
    return content.lower() in ("", "true", "1")


def _service(content: str) -> str:
    if len(content) > 256 or not content.isprintable():
        raise BadValue("is no name of a gRPC service", 'write it as in "service=shop.v1.Cart"')
    return content


CHECK_SCHEMES = ("tcp", "http", "https", "grpc")
_WITH_PATH = ("http", "https")

_CHECK_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "connection_timeout": parse_limit,
    "read_timeout": parse_limit,
    "check_frequency": parse_limit,
    "success": _positive_count,
    "failure": _positive_count,
    "reuse": _switch,
    "parallel": _switch,
    "tls": _switch,
    "service": _service,
    "verify_cert": _switch,
}


def idle_check_parameters(text: str) -> list[str]:
    """What a health check says that its kind makes no use of, as it is written. text: one that can be read."""
    url = urlsplit(text.strip())
    names = dict.fromkeys(unquote(part.partition("=")[0]) for part in url.query.split("&"))
    idle = {
        "tcp": ("read_timeout", "reuse", "tls", "service", "verify_cert"),
        "http": ("tls", "service", "verify_cert"),
        "https": ("tls", "service"),
        "grpc": () if "tls" in names else ("verify_cert",),
    }
    found = [name for name in names if name in idle.get(url.scheme, ())]
    return [f"path {url.path}", *found] if url.scheme not in _WITH_PATH and url.path not in ("", "/") else found


def parse_access_log(value: Any) -> AccessLog | None:
    """`combined`, `/path/to/access.log combined`, a template, or a path and a template."""
    text = text_of(value, 'a format such as "combined"').strip()
    if not text:
        return None
    first, _, rest = text.partition(" ")
    if text in ACCESS_LOG_FORMATS:
        return AccessLog(text)
    if "{" not in first and (rest.strip() in ACCESS_LOG_FORMATS or rest.strip().startswith("{")):
        return AccessLog(rest.strip(), expanded(first))
    if "{" not in text:
        hint = nearest(text, ACCESS_LOG_FORMATS) or f'{choices(ACCESS_LOG_FORMATS)}, or a template such as "{{method}}"'
        raise BadValue(f"{text!r} is neither a format nor a template", hint)
    return AccessLog(text)


def parse_metrics_path(value: Any) -> str | None:
    """The path of the metrics, or nothing."""
    text = text_of(value, 'a path such as "/metrics"').strip()
    if text and (not text.startswith("/") or not text.isascii() or re.search(r"[\s?#]", text)):
        raise BadValue(f"{text!r} is not a path", 'write "/metrics"')
    return text or None


def parse_levels(value: Any) -> str:
    """Directives of which something can be understood, in one form."""
    text = text_of(value, 'a level such as "info"')
    levels = levels_of(text)
    if not str(levels):
        raise BadValue(f"{text!r} is no level", nearest(text, LEVELS) or choices(LEVELS))
    return str(levels)


def parse_file_path(value: Any) -> str | None:
    """A path, `~` being the home directory; empty is none."""
    text = text_of(value, "a path")
    return expanded(text) if text else None


def parse_absolute_path(value: Any) -> str | None:
    """A path that is the same from wherever pingap is started, `~` being the home directory; empty is none."""
    path = parse_file_path(value)
    if path and not os.path.isabs(path):
        raise BadValue(f"{path!r} is no absolute path", "a path begins with / or ~, so that the next start finds the same")
    return path


def parse_cipher_list(value: Any) -> str:
    """Ciphers as OpenSSL lists them; one that it does not know at all is refused."""
    import ssl

    text = text_of(value, 'ciphers such as "ECDHE+AESGCM"')
    if text:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
        except ssl.SSLError:
            raise BadValue(f"OpenSSL knows no cipher in {text!r}", "see `openssl ciphers`; separate them by colons") from None
    return text


def parse_ciphersuites(value: Any) -> str:
    """TLS 1.3 suites. Python's ssl module can set them from 3.15 on; before, all of OpenSSL's are in use."""
    import ssl

    text = text_of(value, 'suites such as "TLS_AES_256_GCM_SHA384"')
    choose = getattr(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "set_ciphersuites", None)
    if text and choose is None:
        raise BadValue(
            "this Python's ssl module cannot choose TLS 1.3 suites",
            "leave it out: OpenSSL's three are all strong; or run pingap on Python 3.15",
        )
    if text and choose is not None:
        try:
            choose(text)
        except ssl.SSLError:
            raise BadValue(f"OpenSSL knows no suite in {text!r}", "separate them by colons") from None
    return text


def parse_statuses(value: Any) -> tuple[int, ...]:
    """`500,502` to numbers: statuses of answers, each once and in order."""
    text = text_of(value, 'statuses such as "502,503"')
    statuses = set()
    for part in text.split(","):
        if not part.strip():
            continue
        status = whole_number(part.strip(), 599)
        if status is None or status < 200:
            raise BadValue(f"{shown(part.strip())} is not the status of an answer", 'write numbers of 200 to 599, as in "502,503"')
        statuses.add(status)
    return tuple(sorted(statuses))


def parse_cpu(value: Any) -> int:
    """The number of a CPU."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1024:
        raise BadValue(f"{value!r} is not the number of a CPU", "CPUs are counted from 0")
    return value


def parse_curve_key(value: Any) -> str:
    """A CURVE key in Z85. The message never repeats it: it may be the secret one."""
    text = text_of(value, "a key of 40 characters")
    if not _Z85.fullmatch(text):
        raise BadValue("not a CURVE key: 40 characters of Z85", "zmq.curve_keypair() makes a pair")
    return text


PARSERS: dict[str, Callable[[Any], Any]] = {
    "absolute_path": parse_absolute_path,
    "acme_directory": parse_acme_directory,
    "access_log": parse_access_log,
    "alpn": parse_alpn,
    "backend": parse_backend,
    "balance": parse_balance,
    "condition": parse_condition,
    "cipher_list": parse_cipher_list,
    "ciphersuites": parse_ciphersuites,
    "cpu": parse_cpu,
    "curve_key": parse_curve_key,
    "discovery": parse_discovery,
    "dns_domain": parse_dns_domain,
    "dns_search": parse_dns_search,
    "dns_provider": parse_dns_provider,
    "dns_servers": parse_dns_servers,
    "docker_host": parse_docker_host,
    "domains": parse_domains,
    "duration": parse_duration,
    "levels": parse_levels,
    "limit": parse_limit,
    "endpoint": parse_endpoint,
    "file_path": parse_file_path,
    "header": parse_spelled_header,
    "header_condition": parse_header_condition,
    "health_check": parse_health_check,
    "host_list": parse_host_list,
    "listen_list": parse_listen_list,
    "metrics_path": parse_metrics_path,
    "module": parse_module,
    "network": parse_network,
    "path": parse_path,
    "port": parse_port,
    "pem": parse_pem,
    "rewrite": parse_rewrite,
    "size": parse_size,
    "sni": parse_sni,
    "statuses": parse_statuses,
    "via": parse_via,
}
"""By the form that a marker of `config.fields` names."""

PARSERS_BESIDE: dict[str, Callable[[Any, Any], Any]] = {"backend": parse_entry}
"""The same of those that go by another key too."""
