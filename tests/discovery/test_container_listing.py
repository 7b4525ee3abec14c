"""From Docker's list of containers to backends: the list is as a real engine answers, see test_dockerd.py for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.parts import Backend
from pingap.stages.discovery.containers.listing import (
    LONGEST_REMARK,
    MOST_BACKENDS,
    MOST_CONTAINERS,
    MOST_REMARKS,
    PORT,
    Container,
    DockerHost,
    FoundContainers,
    Labelled,
    _Network,
    _Networks,
    backends_of,
    containers_of,
    seen_from,
)

LOCAL = DockerHost()
REMOTE = DockerHost("192.0.2.7", is_remote=True)
WEB = Labelled("app", "web")

V4 = {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1", "GlobalIPv6Address": "", "IPv6Gateway": ""}
DUAL = {"IPAddress": "172.18.0.2", "Gateway": "172.18.0.1", "GlobalIPv6Address": "fd00::2", "IPv6Gateway": "fd00::1"}
NONE = {"IPAddress": "", "Gateway": "", "GlobalIPv6Address": "", "IPv6Gateway": ""}


def summary(name: str = "web-1", **changed: Any) -> dict[str, Any]:
    """As Docker 20.10 lists a container of its default bridge; labels, networks, ports, mode and whatever is in the list."""
    networks = changed.pop("networks", {"bridge": V4})
    return {
        "Id": changed.pop("id", name * 3),
        "Names": [f"/{name}"],
        "Image": "bb",
        "Ports": changed.pop("ports", []),
        "Labels": changed.pop("labels", {"app": "web"}),
        "State": changed.pop("State", "running"),
        "Status": changed.pop("Status", "Up 2 minutes"),
        "HostConfig": {"NetworkMode": changed.pop("mode", "default")},
        "NetworkSettings": {"Networks": networks},
        "Mounts": [],
        **changed,
    }


def exposed(port: int, kind: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": port, "Type": kind}


def published(port: int, public: int, ip: str = "0.0.0.0") -> dict[str, Any]:
    return {"IP": ip, "PrivatePort": port, "PublicPort": public, "Type": "tcp"}


def listed(*summaries: dict[str, Any]) -> list[Container]:
    return containers_of(json.dumps(summaries).encode())


def found(*summaries: dict[str, Any], entry: Labelled = WEB, host: DockerHost = LOCAL, ipv4_only: bool = False) -> FoundContainers:
    return backends_of(listed(*summaries), entry, host, ipv4_only)


def addresses(*summaries: dict[str, Any], **how: Any) -> list[str]:
    return [backend.address for backend in found(*summaries, **how).backends]


def with_port(port: int) -> Labelled:
    return Labelled("app", "web", port)


def labels(**of_ours: str) -> dict[str, str]:
    return {"app": "web", **{f"pingap.{name}": value for name, value in of_ours.items()}}


@pytest.mark.parametrize(
    ("summaries", "how", "expected"),
    [
        # with a port: it is the container's own, whatever is published
        ([summary()], {"entry": with_port(80)}, ["172.17.0.2:80"]),
        ([summary(ports=[published(80, 8080)])], {"entry": with_port(80)}, ["172.17.0.2:80"]),
        ([summary(networks={"a": V4, "b": DUAL})], {"entry": with_port(80)}, ["172.17.0.2:80", "172.18.0.2:80", "[fd00::2]:80"]),
        ([summary(networks={"a": V4, "b": DUAL})], {"entry": with_port(80), "ipv4_only": True}, ["172.17.0.2:80", "172.18.0.2:80"]),
        # without: the lowest TCP port that it exposes
        ([summary(ports=[exposed(443), exposed(53, "udp"), exposed(80)])], {}, ["172.17.0.2:80"]),
        # published: where the host takes its connections
        ([summary(ports=[published(80, 8080), published(80, 8080, "::")])], {}, ["172.17.0.1:8080"]),
        (
            [summary(ports=[published(80, 8080), published(80, 8081, "::")], networks={"b": DUAL})],
            {},
            ["172.18.0.1:8080", "[fd00::1]:8081"],
        ),
        ([summary(ports=[published(80, 8080)], networks={"a": V4, "b": DUAL})], {}, ["172.17.0.1:8080"]),
        ([summary(ports=[published(80, 8080, "10.1.1.1"), published(80, 8080, "127.0.0.1")])], {}, ["10.1.1.1:8080", "127.0.0.1:8080"]),
        ([summary(ports=[{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}])], {}, ["172.17.0.1:8080"]),
        ([summary(ports=[exposed(80), published(443, 8443)])], {}, ["172.17.0.2:80"]),
        # published, but no gateway: its own address
        ([summary(ports=[published(80, 8080)], networks={"mac": {"IPAddress": "10.0.0.9"}})], {}, ["10.0.0.9:80"]),
        # published, and no address at all: a rootless engine
        ([summary(ports=[published(80, 8080)], networks={}, mode="pasta")], {}, ["127.0.0.1:8080"]),
        # another machine's bridges cannot be reached
        ([summary(ports=[published(80, 8080), published(80, 8080, "::")])], {"host": REMOTE}, ["192.0.2.7:8080"]),
        # the host's own network
        ([summary(mode="host", networks={"host": NONE})], {"entry": with_port(8000)}, ["127.0.0.1:8000"]),
        ([summary(mode="host", networks={"host": NONE})], {"entry": with_port(8000), "host": REMOTE}, ["192.0.2.7:8000"]),
        ([summary(mode="host", networks={}, labels=labels(port="81"))], {}, ["127.0.0.1:81"]),
        # another container's network
        (
            [summary(mode="container:vpn1", networks={}), summary("vpn", id="vpn1", labels={}, ports=[exposed(8080)])],
            {},
            ["172.17.0.2:8080"],
        ),
        ([summary(mode="container:h", networks={}), summary("h", id="h", labels={}, mode="host", networks={"host": NONE})],
         {"entry": with_port(8000)}, ["127.0.0.1:8000"]),
        # its own labels come first
        ([summary(labels=labels(port="90"), ports=[published(80, 8080)])], {"entry": with_port(80)}, ["172.17.0.2:90"]),
        ([summary(labels=labels(network="b"), networks={"a": V4, "b": DUAL})], {"entry": with_port(80)}, ["172.18.0.2:80", "[fd00::2]:80"]),
        # any value of the label; the value must be all of it
        ([summary(labels={"app": ""})], {"entry": Labelled("app", port=80)}, ["172.17.0.2:80"]),
        ([summary(labels={"app": "web2"})], {"entry": with_port(80)}, []),
        ([summary(labels={})], {"entry": with_port(80)}, []),
        ([summary(labels=None)], {"entry": with_port(80)}, []),
        # two of them
        (
            [summary("b", networks={"bridge": {"IPAddress": "172.17.0.3"}}), summary("a")],
            {"entry": with_port(80)},
            ["172.17.0.2:80", "172.17.0.3:80"],
        ),
    ],
)  # fmt: skip
def test_where_a_container_is_found(summaries: list[dict[str, Any]], how: dict[str, Any], expected: list[str]) -> None:
    assert addresses(*summaries, **how) == expected
    assert addresses(*reversed(summaries), **how) == expected


@pytest.mark.parametrize(
    ("own", "engine", "expected"),
    [
        ((), "", LOCAL),
        (("192.0.2.1", "172.17.0.1"), "", LOCAL),  # on the host: its bridge is no container
        ((), "192.0.2.7", REMOTE),
        (("172.18.0.2",), "", DockerHost("172.18.0.1")),  # pingap is a container of the host
        ((), "172.17.0.2", DockerHost("172.17.0.1")),  # so is a proxy before the socket
        (("10.0.0.9",), "", LOCAL),  # that container has no gateway
    ],
)
def test_where_the_host_is(own: tuple[str, ...], engine: str, expected: DockerHost) -> None:
    there = listed(summary("a"), summary("b", networks={"front": DUAL}), summary("c", networks={"mac": {"IPAddress": "10.0.0.9"}}))
    assert seen_from(there, frozenset(own), engine) == expected


@pytest.mark.parametrize(
    ("state", "status", "is_serving"),
    [
        ("running", "Up 2 minutes", True),
        ("running", "Up 2 minutes (healthy)", True),
        ("running", "Up 1 second (health: starting)", False),
        ("running", "Up 1 second (starting)", False),  # Podman
        ("running", "Up 3 hours (unhealthy)", False),
        ("paused", "Up 3 hours (Paused)", False),
        ("paused", "Up 3 hours (healthy) (Paused)", False),
        ("restarting", "Restarting (1) 2 seconds ago", False),
        ("exited", "Exited (0) 2 seconds ago", False),
        ("created", "Created", False),
        ("dead", "Dead", False),
    ],
)
def test_only_what_runs_and_is_not_unwell_is_a_backend(state: str, status: str, is_serving: bool) -> None:
    one = found(summary(State=state, Status=status), entry=with_port(80))
    assert bool(one.backends) is is_serving
    assert one.remarks == ()  # that is as it should be, and said by Docker


@pytest.mark.parametrize(("health", "is_serving"), [("none", True), ("healthy", True), ("starting", False), ("unhealthy", False)])
def test_newer_engines_say_the_health_apart_from_the_text(health: str, is_serving: bool) -> None:
    one = summary(Status="Up 2 minutes", Health={"Status": health, "FailingStreak": 0})
    assert bool(addresses(one, entry=with_port(80))) is is_serving


def test_the_weight_is_the_entrys_unless_the_container_has_its_own() -> None:
    entry = Labelled("app", "web", 80, 5)
    assert found(summary(), entry=entry).backends == (Backend("172.17.0.2", 80, 5),)
    assert found(summary(labels=labels(weight=" 7")), entry=entry).backends == (Backend("172.17.0.2", 80, 7),)
    assert found(summary(labels=labels(weight="0")), entry=entry).backends == (Backend("172.17.0.2", 80, 0),)


@pytest.mark.parametrize(
    ("one", "entry", "says"),
    [
        (summary(), WEB, 'has no TCP port that it exposes or publishes: write "label:port"'),
        (summary(mode="none", networks={"none": NONE}), with_port(80), "has no address (its network: none)"),
        (summary(mode="container:gone", networks={}), with_port(80), "in the network of a container that does not run"),
        (summary(labels=labels(network="front")), with_port(80), "not in the network 'front', which its label pingap.network names"),
        (summary(labels=labels(weight="-1")), with_port(80), "pingap.weight='-1', which is no whole number from 0 to 65535"),
        (summary(labels=labels(weight="٣")), with_port(80), "no whole number"),
        (summary(labels=labels(port="0")), with_port(80), "pingap.port='0', which is no whole number from 1 to 65535"),
        (summary(labels=labels(port="http")), with_port(80), "no whole number"),
    ],
)  # fmt: skip
def test_a_container_that_is_left_out_is_told_with_its_name_and_the_reason(one: dict[str, Any], entry: Labelled, says: str) -> None:
    well = summary("well", networks={"bridge": {"IPAddress": "172.17.0.9"}}, ports=[exposed(80)])
    both = found(one, well, entry=entry)
    assert [backend.address for backend in both.backends] == ["172.17.0.9:80"]
    [remark] = both.remarks
    assert remark.startswith("container web-1 ") and says in remark


def test_what_has_ipv6_only_is_told_where_only_ipv4_is_wanted() -> None:
    one = found(summary(networks={"six": {**NONE, "GlobalIPv6Address": "fd00::2"}}), entry=with_port(80), ipv4_only=True)
    assert one == FoundContainers((), ("container web-1 has IPv6 addresses only, and ipv4_only is true",))


def test_a_linked_containers_name_is_its_own_and_one_without_has_its_id() -> None:
    [linked, nameless] = listed(summary(Names=["/db/cache", "/cache"]), summary(Names=None, id="0123456789abcdef"))
    assert (linked.name, nameless.name) == ("cache", "0123456789ab")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[{}]",
        b'[{"Id": 5}]',
        b'[{"Id": "a", "Labels": [1]}]',
        b'{"message": "page not found"}',
        b'[{"Id": "a"}',
        b"\xff",
        b'[{"Id": "\xff"}]',
    ],
)
def test_what_is_no_list_of_containers_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        containers_of(body)


def test_what_newer_engines_add_is_passed_over_and_null_is_nothing() -> None:
    bare: dict[str, Any] = {
        "Id": "a",
        "Names": None,
        "Labels": None,
        "Ports": None,
        "HostConfig": None,
        "NetworkSettings": None,
        "Health": None,
        "New": {},
    }
    assert found(bare) == FoundContainers(())
    assert found({"Id": "a", "Labels": {"app": "web"}, "State": "running", "NetworkSettings": {"Networks": None}}).backends == ()


IPS = st.one_of(st.just(""), st.ip_addresses(v=4).map(str))
IPS6 = st.one_of(st.just(""), st.ip_addresses(v=6).map(str), st.just("no address"))
NETWORKS = st.dictionaries(
    st.sampled_from(["bridge", "front", "host", "none"]),
    st.fixed_dictionaries({"IPAddress": IPS, "Gateway": IPS, "GlobalIPv6Address": IPS6, "IPv6Gateway": IPS6}),
    max_size=3,
)
NUMBERS = st.integers(-1, 70_000)
PORTS = st.lists(
    st.builds(
        lambda ip, private, public, kind: {"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind},
        st.one_of(IPS, IPS6, st.sampled_from(["0.0.0.0", "::"])),
        NUMBERS,
        NUMBERS,
        st.sampled_from(["tcp", "udp"]),
    ),
    max_size=4,
)
OURS = st.dictionaries(
    st.sampled_from(["pingap.weight", "pingap.port", "pingap.network"]),
    st.one_of(st.text(max_size=6), NUMBERS.map(str), st.sampled_from(["bridge", "front"])),
)


@st.composite
def hosts(draw: st.DrawFn) -> list[dict[str, Any]]:
    """All that runs on a host."""
    count = draw(st.integers(0, 5))
    return [
        summary(
            f"c{number}",
            id=f"id{number}",
            labels={**draw(OURS), **draw(st.sampled_from([{}, {"app": "web"}, {"app": "other"}]))},
            networks=draw(NETWORKS),
            ports=draw(PORTS),
            mode=draw(st.sampled_from(["default", "host", "none", "front", *(f"container:id{n}" for n in range(6))])),
            State=draw(st.sampled_from(["running", "running", "running", "paused", "exited"])),
            Status=draw(st.sampled_from(["Up 2 minutes", "Up 2 minutes (healthy)", "Up 2 minutes (unhealthy)"])),
        )
        for number in range(count)
    ]


@given(hosts(), st.sampled_from([0, 80]), st.booleans(), st.sampled_from([LOCAL, REMOTE]), st.randoms())
def test_whatever_runs_on_a_host(host: list[dict[str, Any]], port: int, ipv4_only: bool, docker: DockerHost, random: Any) -> None:
    entry = Labelled("app", "web", port, 3)
    one = found(*host, entry=entry, host=docker, ipv4_only=ipv4_only)
    names = [backend.address for backend in one.backends]
    assert len(set(names)) == len(names) and names == sorted(names)
    assert all(1 <= backend.port <= 65535 and 0 <= backend.weight <= 65535 for backend in one.backends)
    assert not (ipv4_only and any(":" in backend.host for backend in one.backends))

    # every container that has the label and serves is a backend, or its absence is told
    serving = [c for c in host if c["Labels"].get("app") == "web" and c["State"] == "running" and "unhealthy" not in c["Status"]]
    told = {remark.split()[1] for remark in one.remarks}
    alone = {
        c["Names"][0][1:]: found(*[{**o, "Labels": {}} for o in host if o is not c], c, entry=entry, host=docker, ipv4_only=ipv4_only)
        for c in serving
    }
    assert {name for name, of_it in alone.items() if not of_it.backends} == told & alone.keys() == told
    assert {backend.address for of_it in alone.values() for backend in of_it.backends} == set(names)

    # in whatever order they are listed
    shuffled = list(host)
    random.shuffle(shuffled)
    assert found(*shuffled, entry=entry, host=docker, ipv4_only=ipv4_only) == one


# -- bounds ---------------------------------------------------------------------------


def many(count: int, **labels: str) -> list[Container]:
    return [
        Container(
            f"id{n}",
            [f"/c{n:06}"],
            {"app": "web", **labels},
            "running",
            network_settings=_Networks({"b": _Network(ip_address=f"10.1.{n >> 8}.{n & 255}")}),
        )
        for n in range(count)
    ]


def test_an_entry_has_so_many_backends_and_that_there_are_more_is_told() -> None:
    found = backends_of(many(MOST_BACKENDS + 5), with_port(80), LOCAL)
    assert len(found.backends) == MOST_BACKENDS
    assert {backend.host for backend in found.backends} == {f"10.1.{n >> 8}.{n & 255}" for n in range(MOST_BACKENDS)}
    assert found.remarks == ("there are more than 1024 backends; those of the first containers by name are used",)
    assert not backends_of(many(MOST_BACKENDS), with_port(80), LOCAL).remarks


def test_remarks_are_few_and_short() -> None:
    remarks = backends_of(many(200, **{PORT: "x" * 100_000}), with_port(80), LOCAL).remarks
    assert len(remarks) == MOST_REMARKS + 1
    assert remarks[-1] == "and there is more of that kind"
    assert max(map(len, remarks)) == LONGEST_REMARK


def test_a_list_of_more_containers_than_a_machine_runs_is_none() -> None:
    one = b'{"Id": "a"}'
    assert len(containers_of(b"[" + b",".join([one] * MOST_CONTAINERS) + b"]")) == MOST_CONTAINERS
    with pytest.raises(ValueError, match="16385 containers, more than 16384"):
        containers_of(b"[" + b",".join([one] * (MOST_CONTAINERS + 1)) + b"]")
    with pytest.raises(ValueError, match="a container of more than 1 MiB"):
        containers_of(b'[{"Id": "' + b"a" * (1 << 20) + b'"}]')
