"""Which addresses a client's own destination may have: a table, and the ipaddress module as a second opinion."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.upstream.objections import Objections, faces

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "198.20.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
PUBLIC += ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "of this network",
    "10.0.0.1": "private",
    "100.64.0.1": "carrier",
    "100.100.100.200": "carrier",  # metadata of Alibaba
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata service",
    "169.254.169.254": "link-local",  # metadata of most clouds
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "IETF",  # metadata of Oracle
    "192.0.2.1": "documentation",
    "192.88.99.1": "relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarks",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "loopback",
    "::10.0.0.1": "private",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0.0.0.0": "unspecified",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::169.254.169.254": "link-local",
    "64:ff9b:1::808:808": "public internet",
    "2002:7f00:1::": "loopback",
    "2002:a00:1::1": "private",
    "2001::1": "IETF",  # Teredo
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "fc00::1": "private",
    "fd00:ec2::254": "private",  # metadata of AWS
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "100::1": "public internet",  # discard
    "5f00::1": "public internet",  # SRv6
    "4000::1": "public internet",  # nobody's yet
    "::2": "this network",
}


@pytest.mark.parametrize("host", PUBLIC)
def test_the_public_internet_is_let_pass(host: str) -> None:
    assert not Objections(()).to(host, False)


@pytest.mark.parametrize(("host", "what"), REFUSED.items())
def test_all_else_is_not(host: str, what: str) -> None:
    assert what in Objections(()).to(host, False)


@pytest.mark.parametrize(
    ("networks", "host", "passes"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "64:ff9b::10.1.2.3", True),
        (["10.0.0.0/8"], "2002:a01:203::1", True),
        (["10.0.0.0/8"], "11.0.0.1", True),
        (["10.0.0.0/8"], "192.168.0.1", False),
        (["fd00::/8"], "fd12::1", True),
        (["fd00::/8"], "fc12::1", False),
        (["0.0.0.0/0", "::/0"], "10.0.0.1", True),
        (["0.0.0.0/0", "::/0"], "fd00::1", True),
        # What is dangerous is to be listed by itself.
        (["0.0.0.0/0", "::/0"], "127.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "::1", False),
        (["0.0.0.0/0", "::/0"], "::ffff:127.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "169.254.169.254", False),
        (["0.0.0.0/0", "::/0"], "fe80::1", False),
        (["0.0.0.0/0", "::/0"], "168.63.129.16", False),
        (["0.0.0.0/0", "::/0"], "0.0.0.0", False),
        (["0.0.0.0/8"], "0.0.0.0", False),
        (["224.0.0.0/4"], "224.0.0.1", False),
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["127.0.0.1/32"], "127.0.0.1", True),
        (["127.0.0.1/32"], "127.0.0.2", False),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", True),
        (["127.0.0.0/8"], "::1", False),
        (["::1/128"], "::1", True),
        (["169.254.0.0/16"], "169.254.169.254", True),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_what_is_listed_is_let_pass(networks: list[str], host: str, passes: bool) -> None:
    assert (not Objections(networks).to(host, False)) is passes


@pytest.mark.parametrize(
    ("networks", "host", "passes"),
    [
        ([], "1.1.1.1", False),
        (["0.0.0.0/0"], "1.1.1.1", False),
        (["1.1.1.1/32"], "1.1.1.1", True),
        (["1.1.1.1/32"], "::ffff:1.1.1.1", True),
        (["10.0.0.0/8"], "10.0.0.1", False),
        (["10.0.0.1/32"], "10.0.0.1", True),
        (["10.0.0.0/8"], "127.0.0.1", False),
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["fd00::/64"], "fd00::1", False),
        (["fd00::1/128"], "fd00::1", True),
    ],
)
def test_an_address_of_this_host_is_to_be_listed_by_itself(networks: list[str], host: str, passes: bool) -> None:
    assert (not Objections(networks).to(host, True)) is passes


ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.sampled_from([*PUBLIC, *(host for host in REFUSED if "%" not in host)]).map(ipaddress.ip_address),
    st.ip_addresses(v=4).map(lambda v4: ipaddress.IPv6Address(f"::ffff:{v4}")),
    st.ip_addresses(v=4).map(lambda v4: ipaddress.IPv6Address(f"64:ff9b::{v4}")),
    st.builds(
        lambda v4, low: ipaddress.IPv6Address((0x2002 << 112) | (int(v4) << 80) | low), st.ip_addresses(v=4), st.integers(0, 2**80 - 1)
    ),
)
NETWORKS = st.lists(
    st.one_of(
        st.builds(lambda ip, bits: str(ipaddress.ip_network(f"{ip}/{bits}", strict=False)), st.ip_addresses(v=4), st.integers(0, 32)),
        st.builds(lambda ip, bits: str(ipaddress.ip_network(f"{ip}/{bits}", strict=False)), st.ip_addresses(v=6), st.integers(0, 128)),
    ),
    max_size=4,
)


@given(ADDRESSES)
def test_nothing_passes_that_the_library_calls_anything_but_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if Objections(()).to(str(address), False):
        return
    *outer, meant = faces(str(address))
    assert meant.is_global
    for ip in (meant, *outer):
        assert not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
    assert not (meant.is_private or meant.is_reserved)


@given(ADDRESSES, NETWORKS)
def test_an_address_of_ipv6_that_stands_for_one_of_ipv4_is_judged_as_that(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: list[str]
) -> None:
    only_v4 = [network for network in networks if ":" not in network]
    objections = Objections(only_v4)
    meant = str(faces(str(address))[-1])
    assert bool(objections.to(str(address), False)) == bool(objections.to(meant, False))


@given(ADDRESSES, NETWORKS)
def test_a_list_only_ever_lets_more_pass_and_being_ones_own_only_less(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: list[str]
) -> None:
    host = str(address)
    listed = Objections(networks)
    assert not (listed.to(host, False) and not Objections(()).to(host, False))
    assert not (listed.to(host, False) and not listed.to(host, True))
    if not listed.to(host, False) and Objections(()).to(host, False):
        assert any(ip in ipaddress.ip_network(one) for one in networks for ip in faces(host))
