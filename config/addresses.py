"""Addresses and host names: `host:port` in its forms, to listen on, to connect to, to believe; the domains of a certificate.

An address to connect to may be a UNIX socket as well, `unix:/path`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from contextlib import suppress
from typing import Any

from pingap.config.parts import UNIX, Backend, DnsAddress, Listen, host_and_port, is_path
from pingap.config.problems import BadValue
from pingap.config.quantities import shown, text_of, whole_number

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LABEL_NAME = re.compile(r"[^\s:=\"'/][^\s:=\"']*")
"""Of a container; Docker itself lets pass what it likes."""

_LONGEST_NAME = 253
"""Characters of a name in the DNS, and of one of its labels 63 (RFC 1035 section 2.3.4)."""
_LONGEST_LABEL = 63
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""What is between labels (RFC 3490 section 3.1)."""
_TWO_FORMS = re.compile("[\u00df\u03c2\u200c\u200d]")
"""Letters that RFC 3490 takes for others, or leaves out, and RFC 5891 and browsers do not (UTS 46, "Deviations")."""
_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,15}")
"""The zone of a link-local address: a network interface (IFNAMSIZ), by its name or its number."""
_LONGEST_PATH = 107
"""Bytes of the path of a UNIX socket (unix(7): 108 with the NUL behind it)."""
_NOT_IN_PATHS = re.compile(r"[\"\\]")
"""Lines of logs have addresses in quotes."""


def host_name(text: str) -> str:
    """A host name in the form in which it is sent and looked up: lower case, in Punycode where it is not ASCII (RFC 3490).

    Raises BadValue for what is no name. An underscore is let pass, since internal names have it. A final dot stays.
    """
    # Punycode takes time that grows with the square of a label, and clients write names, too: one that is too long is none before.
    name = text.lower() if len(text) <= _LONGEST_NAME + 1 else ""
    if not name.isascii():
        plain = unicodedata.normalize("NFKC", name)  # one letter may be eighteen
        if len(plain) > _LONGEST_NAME + 1 or any(len(label) > _LONGEST_LABEL for label in _DOTS.split(plain)):
            raise BadValue(f"{shown(text)} is not a host name", "it has no form in Punycode: label empty or too long")
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise BadValue(f"{shown(text)} is not a host name", f"it has no form in Punycode: {_reason(error)}") from None
    if len(name.removesuffix(".")) > _LONGEST_NAME or not _HOST_NAME.fullmatch(name):
        raise BadValue(f"{shown(text)} is not a host name", "letters, digits and hyphens, with single dots between")
    return name


def _reason(error: UnicodeError) -> str:
    reason = str(error).rpartition(": ")[2].removesuffix(")")
    return "label empty or too long" if reason in ("label empty", "label too long") else reason  # Python 3.13 tells them apart


def parse_listen_list(value: Any) -> tuple[Listen, ...]:
    """`0.0.0.0:80,[::]:80` to addresses to listen on."""
    text = text_of(value, 'an address such as "127.0.0.1:6188"')
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entries):
        raise BadValue("an address is empty" if len(entries) > 1 else "no address is given", 'write "host:port"')
    return tuple(_listen(entry) for entry in entries)


def _listen(text: str) -> Listen:
    if text.removeprefix(":").isdigit():
        text = f"0.0.0.0:{text.removeprefix(':')}"
    if text.startswith("*:"):
        raise BadValue(f"{text!r} is not an address", f"all addresses are 0.0.0.0{text[1:]} or [::]{text[1:]}")
    host, port = _host_and_port(text)
    if port is None:
        raise BadValue(f"{text!r} has no port", f'write "{text}:80"')
    return Listen(host, port)


def parse_backend(value: Any) -> Backend:
    """`host:port weight`, both port and weight optional; or `unix:/path weight`."""
    text = text_of(value, 'an address such as "127.0.0.1:8080"')
    is_socket = _is_socket(text)
    if text.startswith(("/", "./", "../", "~/")):
        raise BadValue(f"{text!r} is a path", 'a UNIX socket is written as "unix:/path"')
    if "://" in text and not is_socket:
        raise BadValue(f"{text!r} is a URL", "an address has no scheme and no path: host:port")
    parts = text.split()
    if not 1 <= len(parts) <= 2:
        form = "unix:/path" if is_socket else "host:port"
        raise BadValue(f"{text!r} is not an address", f'write "{form}" or "{form} weight"')
    weight = _weight(parts[1]) if len(parts) == 2 else 1
    if is_socket:
        return Backend(_path(parts[0][len(UNIX) :]), 0, weight)
    host, port = _host_and_port(parts[0])
    if port == 0:
        raise BadValue(f"{text!r} has port 0", "nothing can be reached there")
    return Backend(host, 80 if port is None else port, weight)


def parse_label(value: Any) -> Backend:
    """`name`, `name=value`, `name:port weight`, `name=value:port weight`: a label of containers. The port is 0 when not given."""
    form = '"label:port" or "name=value:port weight"'
    text = text_of(value, 'a label of containers such as "app=web:8080"')
    parts = text.split()
    if not 1 <= len(parts) <= 2:
        raise BadValue(f"{text!r} is not a label of containers", f"write {form}; one with blanks cannot be written")
    if "://" in parts[0]:
        raise BadValue(f"{text!r} is a URL", f"with discovery by Docker an entry is a label of containers: write {form}")
    label, colon, after = parts[0].rpartition(":") if ":" in parts[0] else (parts[0], "", "")
    port = whole_number(after, 65535) if colon else 0
    if port is None or (colon and not port):
        raise BadValue(f"{shown(after)} is not a port", "a port is a number from 1 to 65535")
    name = label.partition("=")[0]
    if ":" in label or not name or not _LABEL_NAME.fullmatch(name):
        raise BadValue(f"{label!r} is not a label of containers", f"write {form}; one with a colon cannot be written: give them another")
    if not is_host_name(name):
        raise BadValue(f"{name!r} is an IP address", f"with discovery by Docker an entry is a label of containers: write {form}")
    return Backend(label, port, _weight(parts[1]) if len(parts) == 2 else 1)


def parse_entry(value: Any, discovery: Any) -> Backend:
    """An entry of `addrs`. discovery: as in `config.model.Upstream`; None where that was wrong, and an entry is whatever it can be."""
    if discovery == "docker":
        return parse_label(value)
    try:
        return parse_backend(value)
    except BadValue as error:
        if not _is_label(value):
            raise
        if discovery is None:
            return parse_label(value)
        raise BadValue(error.message, 'a label of containers needs discovery = "docker"') from None


def _is_label(value: Any) -> bool:
    """It is of the form `name=value`, which nothing else has."""
    try:
        return "=" in parse_label(value).host
    except BadValue:
        return False


def _weight(text: str) -> int:
    share = whole_number(text, 65535)
    if share is None:
        raise BadValue(f"weight {shown(text)} is not a whole number from 0 to 65535")
    return share


def _is_socket(text: str) -> bool:
    """It is of the form `unix:…`, not a host of that name with a port."""
    first = text.split(maxsplit=1)[:1]
    return bool(first) and first[0][: len(UNIX)].lower() == UNIX and not first[0][len(UNIX) :].isdigit()


def _path(text: str) -> str:
    """The path of a UNIX socket, as it is written behind `unix:`."""
    if text.startswith("//"):
        raise BadValue(f"{UNIX + text!r} is a URL", f'write "{UNIX}/{text.lstrip("/")}"')
    if text.startswith("@"):
        raise BadValue(f"{UNIX + text!r} has no path", "sockets of the abstract namespace, which any user may bind, are not connected to")
    if not is_path(text):
        what = f"{text!r} is not an absolute path" if text else "no path is given"
        raise BadValue(what, f'write "{UNIX}/path": the working directory is another one in a service than in a shell')
    socket_path, colon, after = text.partition(":")
    if colon and (not after or after.startswith("/")):
        hint = f'that is for proxy_pass of nginx: write "{UNIX}{socket_path}"'
        raise BadValue(f"{UNIX + text!r} ends in a colon, or goes on after one", hint)
    if not text.isprintable() or _NOT_IN_PATHS.search(text):
        raise BadValue(f"{text!r} has a character that no address may have", "use visible characters, without quotes and backslashes")
    size = len(text.encode())
    if size > _LONGEST_PATH:
        hint = f"a UNIX socket's has {_LONGEST_PATH} at most: put it elsewhere, or a symbolic link to it"
        raise BadValue(f"the path has {size} bytes", hint)
    return text


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or not _is_ip(host, 6):
            raise BadValue(f"{text!r} is not an IPv6 address with a port", 'write "[::1]:80"')
        host = _ipv6(host)
        port = rest[1:] if rest else None
    else:
        if text.count(":") > 1:
            raise BadValue(f"{text!r} is not host:port", 'an IPv6 address needs brackets, as in "[::1]:80"')
        host, colon, after = text.partition(":")
        port = after if colon else None
        # What consists of digits and dots alone was meant as an address; the resolver would stumble over it later.
        if _is_ip(host, 4):
            host = str(ipaddress.ip_address(host))
        else:
            name = host if host.isascii() else host_name(host)
            if not (_HOST_NAME.fullmatch(name) and re.search("[A-Za-z]", name)):
                raise BadValue(f"{host!r} is neither an IP address nor a host name")
            host = name
    number = whole_number(port, 65535) if port is not None else None
    if port is not None and number is None:
        raise BadValue(f"{shown(port)} is not a port", "a port is a number from 1 to 65535")
    return host, number


def _ipv6(host: str) -> str:
    """In the form of RFC 5952, with its zone where it has one."""
    address, percent, zone = host.partition("%")
    if percent and not ipaddress.ip_address(address).is_link_local:
        raise BadValue(f"{host!r} has a zone", "only link-local addresses (fe80::/10) are in one")
    if percent and not _ZONE.fullmatch(zone):
        raise BadValue(f"{zone!r} is not a zone", 'it is a network interface, as in "[fe80::1%eth0]:80"')
    return f"{ipaddress.ip_address(address)}{percent}{zone}"


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False


def is_host_name(host: str) -> bool:
    """Whether `host` needs resolving: it is no IP address, and no path."""
    return not (is_path(host) or _is_ip(host, 4) or _is_ip(host, 6))


def no_backend(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """What kind of address it is, if no backend can be there; else empty."""
    kinds = {
        "unspecified": ip.is_unspecified,
        "broadcast": str(ip) == "255.255.255.255",
        "multicast": ip.is_multicast,
        "link-local": ip.is_link_local and "%" not in str(ip),
    }
    return next((kind for kind, is_such in kinds.items() if is_such), "")


def parse_network(value: Any) -> str:
    """`10.0.0.0/8` or `10.0.0.1`, in the usual form; bits of the host part are dropped."""
    text = text_of(value, 'a network such as "10.0.0.0/8"').strip()
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise BadValue(f"{text!r} is neither an IP address nor a network") from error


def parse_sni(value: Any) -> str:
    """A host name, or `$host`."""
    text = text_of(value, 'a host name or "$host"')
    if text.lower() in ("", "$host"):
        return text.lower()
    if not is_host_name(text) or (text.isascii() and not _HOST_NAME.fullmatch(text)):
        raise BadValue(f"{value!r} is not a host name", 'SNI has no addresses and no ports: write a name, or "$host"')
    return host_name(text).removesuffix(".")


def parse_endpoint(value: Any) -> str | None:
    """`tcp://host:port`, the host being an IP address."""
    text = text_of(value, 'an endpoint such as "tcp://10.0.0.2:7001"').strip()
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    if scheme != "tcp" or not separator:
        raise BadValue(f"{text!r} is not a tcp endpoint", 'write "tcp://host:port"')
    host, port = _host_and_port(rest)
    if not port:
        raise BadValue(f"{text!r} has no port", 'write "tcp://host:port"')
    if is_host_name(host):
        # libzmq would look it up on every connect, in the one thread that moves all messages of a process.
        raise BadValue(f"{host!r} is a name", "write the IP address: a name that DNS does not answer would stop all messages")
    return f"tcp://{Listen(host, port)}"


def parse_docker_host(value: Any) -> str:
    """`unix:///path` or `tcp://host:port`; empty leaves it to the environment."""
    text = text_of(value, 'an address such as "unix:///var/run/docker.sock" or "tcp://10.0.0.2:2375"').strip()
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("unix", "tcp"):
        hint = 'write "unix:///path" or "tcp://host:port"'
        raise BadValue(f"{text!r} is not a Docker host", f"a tunnel of ssh ends in a socket: {hint}" if scheme == "ssh" else hint)
    if scheme == "unix":
        try:
            return f"unix://{_path(rest)}"
        except BadValue as error:
            raise BadValue(error.message, 'write "unix:///path"') from None
    host, port = _host_and_port(rest.removesuffix("/"))
    if not port:
        raise BadValue(f"{text!r} has no port", 'Docker has 2375, and 2376 with TLS: write "tcp://host:port"')
    return f"tcp://{host_and_port(host, port)}"


def parse_dns_servers(value: Any) -> tuple[DnsAddress, ...]:
    """`10.0.0.53, [2001:db8::53]:5353` to servers, each once; the port is 53 when not given."""
    entries = [entry.strip() for entry in text_of(value, 'addresses such as "10.0.0.53, 10.0.0.54:5353"').split(",")]
    servers = []
    for entry in filter(None, entries):
        # Without a port IPv6 needs no brackets: the reference takes it only so.
        host, port = (entry, None) if _is_ip(entry, 6) else _host_and_port(entry)
        if is_host_name(host):
            raise BadValue(f"{host!r} is a name", "write the IP address of the server: who would look up its name?")
        if port == 0:
            raise BadValue(f"{entry!r} has port 0", "nothing can be reached there")
        servers.append(DnsAddress(host, 53 if port is None else port))
    return tuple(dict.fromkeys(servers))


def parse_dns_domain(value: Any) -> str:
    """A domain, without the final dot."""
    text = text_of(value, 'a domain such as "example.org"').strip()
    return _suffix(text) if text else ""


def parse_dns_search(value: Any) -> tuple[str, ...]:
    """`a.example.org, example.org` to domains, each once."""
    entries = [entry.strip() for entry in text_of(value, 'domains such as "a.example.org, example.org"').split(",")]
    return tuple(dict.fromkeys(map(_suffix, filter(None, entries))))


def _suffix(text: str) -> str:
    try:
        return host_name(text.removeprefix(".")).removesuffix(".")
    except BadValue as error:
        raise BadValue(f"{text!r} is not a domain", "write example.org") from error


def parse_domains(value: Any) -> tuple[str, ...]:
    """`example.com, *.example.org, 10.0.0.1` to names as clients ask for them (RFC 6066 section 3), and addresses in the form of RFC 5952.

    So names are in lower case, in Punycode, and without a final dot.
    """
    names = tuple(name.strip().lower() for name in text_of(value, 'names such as "example.com, *.example.org"').split(",") if name.strip())
    domains: list[str] = []
    wrong: list[str] = []
    told: list[str] = []
    hints: list[str] = []
    for name in names:
        plain = name.removeprefix("*.")
        with suppress(ValueError):
            domains.append(str(ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))))
            continue
        try:
            asked = host_name(plain).removesuffix(".")
        except BadValue:
            wrong.append(repr(name))
            continue
        star = name[: -len(plain)]
        if _TWO_FORMS.search(plain):
            labels = unicodedata.normalize("NFC", plain).removesuffix(".").split(".")
            newer = ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)
            told.append(f"{name!r} has two forms in Punycode")
            hints.append(f"write {star}{newer}, as browsers ask for it, or {star}{asked}")
        domains.append(star + asked)
    if wrong:
        told.insert(0, f"{wrong[0]} is not a domain" if len(wrong) == 1 else f"{', '.join(wrong)} are not domains")
        hints.insert(0, "write example.com or *.example.com")
    if told:
        raise BadValue("; ".join(told), "; ".join(hints))
    return tuple(domains)
