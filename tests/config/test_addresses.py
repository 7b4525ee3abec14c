"""Addresses of backends in all their forms: what they say, what is wrong with them, and that they are written as they are read."""

from __future__ import annotations

import encodings.idna
import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.addresses import host_name, is_host_name, parse_backend, parse_listen_list
from pingap.config.model import Upstream
from pingap.config.parts import Backend, Listen, host_and_port
from pingap.config.problems import BadValue
from pingap.config.written import as_written


@pytest.mark.parametrize(
    ("text", "host", "port", "weight"),
    [
        ("unix:/run/app.sock", "/run/app.sock", 0, 1),
        ("  UNIX:/run/app.sock   2 ", "/run/app.sock", 0, 2),
        ("unix:/run/a:80.sock", "/run/a:80.sock", 0, 1),
        ("unix:/run/Größe.sock 0", "/run/Größe.sock", 0, 0),
        ("unix:8080", "unix", 8080, 1),
        ("unix", "unix", 80, 1),
        ("[::1]:8080", "::1", 8080, 1),
        ("[0:0:0:0:0:0:0:1] 3", "::1", 80, 3),
        ("[FE80::1%eth0]:80", "fe80::1%eth0", 80, 1),
        ("[fe80::a%2]", "fe80::a%2", 80, 1),
        ("127.0.0.1 4", "127.0.0.1", 80, 4),
    ],
)
def test_an_address_is_taken_apart(text: str, host: str, port: int, weight: int) -> None:
    assert parse_backend(text) == Backend(host, port, weight)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("unix:app.sock", "'app.sock' is not an absolute path", 'write "unix:/path"'),
        ("unix:", "no path is given", 'write "unix:/path"'),
        ("unix: /run/app.sock", "weight '/run/app.sock'", ""),
        ("unix:~/app.sock", "is not an absolute path", "working directory"),
        ("unix:@app", "'unix:@app' has no path", "abstract namespace"),
        ("unix:/run/app.sock:", "ends in a colon", 'proxy_pass of nginx: write "unix:/run/app.sock"'),
        ("unix:/run/app.sock:/api/", "goes on after one", 'write "unix:/run/app.sock"'),
        ("unix:///run/app.sock", "is a URL", 'write "unix:/run/app.sock"'),
        ("http://unix:/run/app.sock:/", "is a URL", "no scheme"),
        ("/run/app.sock", "'/run/app.sock' is a path", "unix:/path"),
        ("./app.sock 2", "is a path", "unix:/path"),
        ("unix:/run/my app.sock", "weight 'app.sock' is not", ""),
        ("unix:/a b c", "is not an address", '"unix:/path weight"'),
        ('unix:/run/"app"', "no address may have", "quotes"),
        ("unix:/run/a\x1b[1m", "no address may have", ""),
        (f"unix:/{'a' * 107}", "the path has 108 bytes", "107 at most"),
        (f"unix:/{'ü' * 54}", "the path has 109 bytes", "107 at most"),
        ("[::1%lo]:80", "'::1%lo' has a zone", "fe80::/10"),
        ("[fe80::1%]:80", "not an IPv6 address", ""),
        ("[fe80::1%a@b]:80", "'a@b' is not a zone", "network interface"),
        (f"[fe80::1%{'e' * 16}]:80", "is not a zone", "network interface"),
        ("::1:80", "is not host:port", "brackets"),
        ("fe80::1%eth0", "is not host:port", "brackets"),
        ("127.0.0.1%eth0:80", "neither an IP address nor a host name", ""),
    ],
)
def test_what_is_wrong_with_an_address_is_told(text: str, message: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        parse_backend(text)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_the_longest_path_is_taken() -> None:
    assert parse_backend(f"unix:/{'a' * 106}").host == f"/{'a' * 106}"


_NAME = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,8}){0,3}", fullmatch=True)
_PATH = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters='"\\:'), max_size=20).map(lambda rest: f"/{rest}")
_ZONED = st.builds(
    lambda low, zone: f"{ipaddress.IPv6Address((0xFE80 << 112) | low)}%{zone}",
    st.integers(0, 2**64 - 1),
    st.from_regex(r"[a-z0-9._-]{1,15}", fullmatch=True),
)
_HOST = st.one_of(_NAME, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), _ZONED)
_WEIGHT = st.integers(0, 65535)
BACKENDS = st.one_of(
    st.builds(Backend, _HOST, st.integers(1, 65535), _WEIGHT),
    st.builds(Backend, _PATH.filter(lambda path: not path.startswith("//")), st.just(0), _WEIGHT),
)


@given(BACKENDS)
def test_an_address_is_read_as_it_was_written(backend: Backend) -> None:
    assert parse_backend(backend.address) == replace(backend, weight=1)
    assert parse_backend(f"{backend.address} {backend.weight}") == backend
    assert as_written(Upstream, "addrs", (backend,)) == [parse_and_write(backend)]
    assert parse_backend(parse_and_write(backend)) == backend
    assert parse_backend(backend.authority)  # a Host header without anything that means something on this host only
    assert "%" not in backend.authority and "/" not in backend.authority


def parse_and_write(backend: Backend) -> str:
    (text,) = as_written(Upstream, "addrs", (parse_backend(f"{backend.address} {backend.weight}"),))
    return str(text)


@given(_HOST, st.integers(1, 65535))
def test_an_address_to_listen_on_is_read_as_it_was_written(host: str, port: int) -> None:
    assert parse_listen_list(host_and_port(host, port)) == (Listen(host, port),)


@given(BACKENDS, BACKENDS)
def test_backends_at_different_places_have_different_addresses(one: Backend, other: Backend) -> None:
    assert (one.address == other.address) == ((one.host, one.port) == (other.host, other.port))


@given(st.text())
def test_any_other_text_is_an_address_or_a_mistake(text: str) -> None:
    for entry in (text, f"unix:{text}", f"[{text}]:80", f"[fe80::1%{text}]:80"):
        try:
            backend = parse_backend(entry)
        except BadValue:
            continue
        assert parse_backend(f"{backend.address} {backend.weight}") == backend


@pytest.mark.parametrize(
    ("backend", "server_name", "authority"),
    [
        (Backend("/run/app.sock", 0), "localhost", "localhost"),
        (Backend("fe80::1%eth0", 8080), "fe80::1", "[fe80::1]:8080"),
        (Backend("::1", 80), "::1", "[::1]:80"),
        (Backend("api.example", 81), "api.example", "api.example:81"),
        (Backend("10.0.0.1", 81), "10.0.0.1", "10.0.0.1:81"),
    ],
)
def test_what_a_request_without_a_host_calls_a_backend(backend: Backend, server_name: str, authority: str) -> None:
    assert (backend.server_name, backend.authority) == (server_name, authority)


@pytest.mark.parametrize(("host", "is_name"), [("/run/a", False), ("::1", False), ("fe80::1%lo", False), ("1.2.3.4", False), ("a", True)])
def test_only_names_are_looked_up(host: str, is_name: bool) -> None:
    assert is_host_name(host) is is_name


@pytest.mark.parametrize(
    "text", ["é" * 4000, "\ufdfa" * 63, "a." * 200 + "é", "a。" * 63 + "\ufdfa" * 60, "a\uff0e" + "é" * 64, "a" * 4000 + "é"]
)
def test_what_is_too_long_for_a_name_is_not_made_punycode_first(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take time that grows with the square of the length, and whoever sends a Referer could ask for it."""

    def never(label: str) -> str:
        raise AssertionError(f"{len(label)} characters are looked at")

    monkeypatch.setattr(encodings.idna, "nameprep", never)
    with pytest.raises(BadValue, match="is not a host name") as refused:
        host_name(text)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bücher。Example", "xn--bcher-kva.example"),
        ("a" * 63 + ".é.", "a" * 63 + ".xn--9ca."),
        (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
        ("STRASSE-ß.test", "strasse-ss.test"),
    ],
)
def test_a_name_is_sent_in_punycode(text: str, name: str) -> None:
    assert host_name(text) == name
