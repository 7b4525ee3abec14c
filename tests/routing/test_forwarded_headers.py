"""Who the client is, and what the backend hears of it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.model import Basic
from pingap.stages.forwarded import Trust, address_of
from pingap.stages.messages import Routed
from pingap.stages.routing.core import Router
from tests.routing.script import leaving, location, request, snapshot

TRUSTED = ("192.0.2.0/24", "10.0.0.0/8", "fd00::/8")


class Sent(NamedTuple):
    """A request after routing, and the lines with which it leaves for a backend."""

    routed: Routed
    lines: list[str]


def sent(headers: str = "", trusted: tuple[str, ...] = (), host: str = "example.com:8080", **keys: object) -> Sent:
    keys.setdefault("enable_reverse_proxy_headers", True)
    site = snapshot(Basic(trusted_proxies=trusted), l=location(**keys))
    message = request(host=host, headers=headers)
    outcome = Router(site, {}).route(message, lambda: 1.0)
    assert isinstance(outcome, Routed)
    assert outcome.headers == message.headers, "plugins see what the client sent"
    return Sent(outcome, leaving(outcome, site))


OURS = [
    "x-real-ip: 192.0.2.7",
    "x-forwarded-for: 192.0.2.7",
    "x-forwarded-proto: http",
    "x-forwarded-port: 8080",
    "x-forwarded-host: example.com",
]
FORGED = """x-real-ip: 6.6.6.6
            x-forwarded-for: 6.6.6.6, 10.0.0.1
            x-forwarded-for: 6.6.6.7
            x-forwarded-proto: https
            x-forwarded-host: evil.org
            x-forwarded-port: 443
            forwarded: for=6.6.6.6
            accept: */*"""


def test_the_backend_hears_of_client_scheme_host_and_port() -> None:
    assert sent("accept: */*").lines == ["host: example.com:8080", "accept: */*", *OURS]


@pytest.mark.parametrize("trusted", [(), ("203.0.113.0/24",)])
def test_what_an_untrusted_peer_says_of_itself_is_overwritten(trusted: tuple[str, ...]) -> None:
    found = sent(FORGED, trusted)
    assert found.lines == ["host: example.com:8080", "accept: */*", *OURS]
    assert found.routed.client_ip == "192.0.2.7"


@pytest.mark.parametrize("trusted", [(), TRUSTED])
def test_nobody_forges_them_in_another_spelling(trusted: tuple[str, ...]) -> None:
    """A trusted proxy may pass on what its own clients have written."""
    forged = "x_real_ip: 6.6.6.6\nx_forwarded_for: 6.6.6.6\nx_forwarded-proto: https\nx-forwarded_host: evil.org\n"
    forged += "x_forwarded_port: 1\naccept: */*"
    assert sent(forged, trusted).lines == ["host: example.com:8080", "accept: */*", *OURS]
    assert sent("x_real_ip: 6.6.6.6\naccept: */*", trusted).lines == ["host: example.com:8080", "accept: */*", *OURS]


def test_a_forged_line_that_comes_first_is_overwritten_too() -> None:
    message = request()
    message = replace(message, headers=b"x-real-ip: 6.6.6.6\r\nx-real-ip: 6.6.6.7\r\n" + message.headers)
    site = snapshot(l=location(enable_reverse_proxy_headers=True))
    outcome = Router(site, {}).route(message, lambda: 1.0)
    assert isinstance(outcome, Routed)
    assert not any("6.6.6" in line for line in leaving(outcome, site))


def test_without_the_key_nothing_is_written_and_the_client_is_still_the_peer() -> None:
    found = sent("x-forwarded-for: 6.6.6.6", enable_reverse_proxy_headers=False)
    assert found.lines == ["host: example.com:8080", "x-forwarded-for: 6.6.6.6"]
    assert found.routed.client_ip == "192.0.2.7"


def test_a_trusted_peer_is_believed_and_added_to_the_chain() -> None:
    found = sent("x-forwarded-for: 203.0.113.9\nx-forwarded-proto: https\nx-forwarded-host: shop.org\nx-forwarded-port: 443", TRUSTED)
    assert found.routed.client_ip == "203.0.113.9"
    assert found.lines[1:] == [
        "x-forwarded-proto: https",
        "x-forwarded-host: shop.org",
        "x-forwarded-port: 443",
        "x-real-ip: 203.0.113.9",
        "x-forwarded-for: 203.0.113.9, 192.0.2.7",
    ]


def test_what_a_trusted_peer_leaves_out_is_filled_in() -> None:
    assert sent("", TRUSTED).lines[1:] == OURS


def test_a_request_without_host_has_no_forwarded_host() -> None:
    assert sent(host="").lines == [line for line in OURS if "host" not in line]


def test_proxy_set_headers_wins_over_the_standard_lines() -> None:
    found = sent(proxy_set_headers=["X-Real-IP: hidden", "X-Forwarded-For:"])
    assert [line for line in found.lines if line.startswith(("x-real-ip", "x-forwarded-for"))] == ["x-real-ip: hidden"]


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.1.1, 10.2.2.2", "203.0.113.9"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("10.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711, 10.1.1.1", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1, fd00::2", "2001:db8::1"),
        ("203.0.113.9, garbage, 10.1.1.1", "10.1.1.1"),
        ("unknown", "192.0.2.7"),
        ("", "192.0.2.7"),
        (" 203.0.113.9 ,\t10.1.1.1", "203.0.113.9"),
    ],
)
def test_the_chain_is_read_from_the_right_past_trusted_proxies(forwarded_for: str, client: str) -> None:
    headers = f"x-forwarded-for: {forwarded_for}\r\nx-real-ip: 6.6.6.6\r\n".encode()
    assert Trust(TRUSTED).client_ip("192.0.2.7", headers) == client


def test_several_lines_are_one_chain() -> None:
    headers = b"x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-for: 10.1.1.1\r\n"
    assert Trust(TRUSTED).client_ip("192.0.2.7", headers) == "203.0.113.9"


def test_without_a_chain_the_real_ip_of_a_trusted_peer_counts() -> None:
    assert Trust(TRUSTED).client_ip("192.0.2.7", b"x-real-ip: 203.0.113.9\r\n") == "203.0.113.9"
    assert Trust(TRUSTED).client_ip("192.0.2.7", b"x-real-ip: nonsense\r\n") == "192.0.2.7"
    assert Trust(TRUSTED).client_ip("203.0.113.1", b"x-real-ip: 6.6.6.6\r\n") == "203.0.113.1"


def test_an_ipv4_peer_of_an_ipv6_listener_is_recognised() -> None:
    assert Trust(("192.0.2.0/24",)).is_trusted("::ffff:192.0.2.7")
    assert not Trust(("192.0.2.0/24",)).is_trusted("::ffff:192.0.3.7")


def test_whole_families_may_be_trusted() -> None:
    assert Trust(("0.0.0.0/0",)).is_trusted("8.8.8.8")
    assert not Trust(("0.0.0.0/0",)).is_trusted("::1")
    assert Trust(("::1",)).is_trusted("::1")
    assert not Trust(()).is_trusted("127.0.0.1")
    assert not Trust(TRUSTED).is_trusted("not an address")


@given(st.lists(st.ip_addresses(v=4).map(str)), st.ip_addresses(v=4).map(str))
def test_what_an_outsider_writes_never_changes_who_it_is(forged: list[str], outsider: str) -> None:
    trust = Trust(("10.0.0.0/8",))
    if outsider.startswith("10."):
        return
    chain = ", ".join([*forged, outsider])
    assert trust.client_ip("10.0.0.1", f"x-forwarded-for: {chain}\r\n".encode()) == outsider
    assert trust.client_ip(outsider, f"x-forwarded-for: {chain}\r\n".encode()) == outsider


@given(st.binary(max_size=40))
def test_an_entry_is_an_address_or_nothing(entry: bytes) -> None:
    address = address_of(entry)
    assert address == "" or address_of(address.encode()) == address
