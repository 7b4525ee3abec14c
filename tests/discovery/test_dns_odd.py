"""Discovery by DNS with servers that do what no server should; and when what is looked up again."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.parts import Backend, DnsAddress, DnsSetting
from pingap.stages.discovery.dns import refresh as refresh_module
from pingap.stages.discovery.dns import server as server_module
from pingap.stages.discovery.dns.client import DnsClient, DnsFailed, parse_hosts
from pingap.stages.discovery.dns.lookup import MOST_SHARES, shares_of
from pingap.stages.discovery.dns.refresh import FIRST, LEAST, LEAST_TTL, LONGEST, LOST, MOST_TTL, SPREAD, Refresh
from pingap.stages.discovery.gate import CheckGate
from tests.discovery.dns_parts import addresses, client, lookup, source
from tests.discovery.dns_peer import DnsPeer, a_record, answer, dns_peer, framed
from tests.kit.waiting import eventually


async def test_without_any_server_the_reason_says_so(tmp_path: Path) -> None:
    with pytest.raises(DnsFailed, match=r"no DNS server in /etc/resolv\.conf, and dns_server is not set"):
        await lookup("api.test", client(tmp=tmp_path)).find()


async def test_the_servers_of_resolv_conf_are_asked_and_the_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def note(self: server_module.DnsServer, request: dns.message.QueryMessage, *_: object, **__: object) -> dns.message.Message:
        asked.append(str(self))
        return dns.message.from_wire(answer(request, "api.test 60 A 127.0.0.1").to_wire())

    monkeypatch.setattr(server_module.DnsServer, "async_query", note)
    system = client(tmp=tmp_path, resolv="nameserver 10.0.0.53\nnameserver ::1\n")
    await lookup("api.test", system, ipv4_only=True).find()
    (tmp_path / "resolv.conf").write_text("nameserver fd00::35\n")
    await lookup("api.test", system, ipv4_only=True).find()
    assert asked == ["10.0.0.53:53", "[fd00::35]:53"]


async def test_a_target_that_cannot_be_asked_for_keeps_its_addresses_and_the_spare_ones_stay_unused() -> None:
    fails: set[str] = set()

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        asked = question.question[0]
        name = asked.name.to_text(True)
        if name in fails:
            return [framed(answer(question, rcode=2), is_tcp)]
        if asked.rdtype.name == "SRV":
            records = [f"{name} 60 SRV 1 0 81 a.test.", f"{name} 60 SRV 1 0 82 b.test.", f"{name} 60 SRV 2 0 83 c.test."]
            return [framed(answer(question, records[0], *records[1:]), is_tcp)]
        return [framed(answer(question, *([f"{name} 60 A 127.0.0.{ord(name[0])}"] if asked.rdtype.name == "A" else [])), is_tcp)]

    async with dns_peer(reply) as peer:
        look = lookup("_x._tcp.test", client(peer.port))
        whole = ["127.0.0.97:81", "127.0.0.98:82"]
        assert addresses(await look.find()) == whole
        fails.add("a.test")
        for _ in range(2):
            found = await look.find()
            assert addresses(found) == whole
            assert "a.test A: " in found.lacking
        with pytest.raises(DnsFailed, match=r"a\.test"):
            fails.add("b.test")
            await lookup("_x._tcp.test", client(peer.port)).find()
        assert addresses(await look.find()) == whole


async def test_of_a_family_that_is_not_answered_for_the_addresses_of_before_stay() -> None:
    fails = False

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        is_v6 = question.question[0].rdtype.name == "AAAA"
        if is_v6 and fails:
            return [framed(answer(question, rcode=2), is_tcp)]
        record = "api.test 60 AAAA ::1" if is_v6 else f"api.test 60 A 127.0.0.{9 if fails else 8}"
        return [framed(answer(question, record), is_tcp)]

    async with dns_peer(reply) as peer:
        look = lookup("api.test", client(peer.port))
        assert addresses(await look.find()) == ["127.0.0.8:80", "[::1]:80"]
        fails = True
        for _ in range(2):
            found = await look.find()
            assert addresses(found) == ["127.0.0.9:80", "[::1]:80"]
            assert "SERVFAIL" in found.lacking
            assert found.ttl == 30
        assert addresses(await lookup("api.test", client(peer.port)).find()) == ["127.0.0.9:80"], "one that never answers is done without"


# -- servers that mean harm ------------------------------------------------------------------


async def test_answers_to_another_question_are_not_believed() -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        asked = question.question[0]
        good = a_record(question, is_tcp)[0]
        wrong = bytearray(framed(answer(question, f"{asked.name.to_text(True)} 60 A 127.6.6.6"), False))
        other = dns.message.make_query("other.test", "A", id=question.id)
        return [
            bytes([wrong[0] ^ 1]) + bytes(wrong[1:]),
            framed(answer(other, "other.test 60 A 127.6.6.6"), False),
            question.to_wire(),
            bytes(wrong[:2]) + b"\x81\x80" + b"\xff" * 40,
            b"",
            b"\0",
            good,
        ]

    async with dns_peer(reply) as peer:
        assert addresses(await lookup("api.test", client(peer.port)).find()) == ["127.0.0.7:80"]


@pytest.mark.parametrize(("numbered", "stray"), [(lambda question: b"", 50), (lambda question: question.to_wire()[:2], 1000)])
async def test_endless_garbage_ends_the_question_and_nothing_else(
    numbered: Callable[[dns.message.Message], bytes], stray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STRAY", stray)
    async with dns_peer(lambda question, is_tcp: [numbered(question) + b"x" * 512] * 60) as peer:
        with pytest.raises(DnsFailed, match="nothing but what is no answer"):
            await lookup("api.test", client(peer.port)).find()


async def test_a_refusal_leads_to_the_next_name_but_never_away_from_one_that_was_there() -> None:
    refused = {"api.inner", "api.inner.a"}

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        asked = question.question[0]
        if asked.name.to_text(True) in refused:
            return [framed(answer(question, rcode=5), is_tcp)]
        return a_record(question, is_tcp)

    async with dns_peer(reply) as peer:
        look = lookup("api.inner", client(peer.port, search=("a", "b")))
        assert addresses(await look.find()) == ["127.0.0.7:80"]
        assert peer.questions[-1][0] == "api.inner.b"
        refused.remove("api.inner.a")
        assert addresses(await look.find()) == ["127.0.0.7:80"]
        assert peer.questions[-1][0] == "api.inner.a"
        refused.add("api.inner.a")
        with pytest.raises(DnsFailed, match=r"api\.inner\.a A: .*REFUSED"):
            await look.find()


@pytest.mark.parametrize("length", [3, 100])
async def test_a_chain_of_names_that_does_not_end_is_a_failure(length: int) -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        name = question.question[0].name.to_text(True)
        chain = [name, *(f"n{n}.test" for n in range(length)), name]
        return [framed(answer(question, *(f"{a} 60 CNAME {b}." for a, b in pairwise(chain))), is_tcp)]

    async with dns_peer(reply) as peer:
        with pytest.raises(DnsFailed, match="api"):
            await lookup("api.test", client(peer.port)).find()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(lambda wire: struct.pack("!H", 20000) + wire[2:], "closed the connection in an answer", id="cut off"),
        pytest.param(lambda wire: b"\xff\xff" + wire[2:], "an answer of 65535 bytes, more than", id="too long"),
        pytest.param(lambda wire: wire[:2] + bytes([wire[2] ^ 1]) + wire[3:], "an answer to another question", id="wrong id"),
        pytest.param(lambda wire: b"\0\1x", "", id="garbage"),
        pytest.param(lambda wire: b"\0\0", "", id="empty"),
        pytest.param(lambda wire: b"", "closed the connection without an answer", id="nothing"),
    ],
)
async def test_what_comes_over_tcp_is_looked_at_as_closely(bad: Callable[[bytes], bytes], why: str) -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        message = answer(question, "api.test 60 A 127.0.0.7")
        if not is_tcp:
            message.flags |= dns.flags.TC
        wire = framed(message, is_tcp)
        return [bad(wire) if is_tcp else wire]

    async with dns_peer(reply) as peer:
        with pytest.raises(DnsFailed, match=rf"api\.test A: 127\.0\.0\.1:{peer.port}: {why}"):
            await lookup("api.test", client(peer.port), ipv4_only=True).find()
        assert [is_tcp for *_, is_tcp in peer.questions] == [False, True]


async def test_addresses_where_no_backend_can_be_are_left_out() -> None:
    bad = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.169.254"]

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        asked = question.question[0]
        name = asked.name.to_text(True)
        good = ["127.0.0.1"] if name == "some.test" else []
        records = [f"{name} 60 A {address}" for address in (*bad, *good)] if asked.rdtype.name == "A" else []
        message = answer(question)
        for record in records:
            message.answer += answer(question, record).answer
        return [framed(message, is_tcp)]

    async with dns_peer(reply) as peer:
        found = await lookup("some.test", client(peer.port)).find()
        assert addresses(found) == ["127.0.0.1:80"]
        assert "0.0.0.0 is unspecified" in found.lacking
        with pytest.raises(DnsFailed, match="no address at which a backend can be"):
            await lookup("none.test", client(peer.port)).find()


async def test_an_old_server_that_does_not_know_edns_is_asked_without() -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        if question.edns >= 0:
            return [framed(answer(question, rcode=1), is_tcp)]
        return a_record(question, is_tcp)

    async with dns_peer(reply) as peer:
        assert addresses(await lookup("api.test", client(peer.port)).find()) == ["127.0.0.7:80"]


async def test_the_longest_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 KB of records with names of their own, as dear to read as it can be made."""
    labels = b"".join(b"\1%c" % (97 + n % 26) for n in range(110)) + b"\0"

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        if not is_tcp:
            message = answer(question)
            message.flags |= dns.flags.TC
            return [message.to_wire()]
        head = answer(question).to_wire()
        question_end = len(head) - (11 if question.edns >= 0 else 0)
        body = bytearray(head[:question_end])
        at = len(body)
        body += labels + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
        count = 1
        while len(body) < 32_700:
            body += (
                b"\2%c%c" % (97 + count // 26 % 26, 97 + count % 26)
                + struct.pack("!H", 0xC000 | at)
                + struct.pack("!HHIH", 1, 1, 60, 4)
                + bytes(4)
            )
            count += 1
        body[6:8] = struct.pack("!H", count)
        body[8:12] = bytes(4)
        return [struct.pack("!H", len(body)) + body]

    readers: list[threading.Thread] = []
    from_wire = dns.message.from_wire

    def read(wire: bytes, **options: Any) -> dns.message.Message:
        if len(wire) > 1000:
            readers.append(threading.current_thread())
        return from_wire(wire, **options)

    monkeypatch.setattr(dns.message, "from_wire", read)
    async with dns_peer(reply) as peer:
        with pytest.raises(DnsFailed, match="has no A record"):
            await lookup("api.test", client(peer.port), ipv4_only=True).find()
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()


async def test_a_time_to_live_of_nothing_does_not_hammer() -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        return [framed(answer(question, *(["api.test 0 A 127.0.0.1"] if question.question[0].rdtype.name == "A" else [])), is_tcp)]

    async with dns_peer(reply) as peer, source(Backend("api.test"), asked=client(peer.port), frequency=None) as ear:
        await ear.until(lambda: ear.told)
        await asyncio.sleep(0.3)
        assert len(peer.questions) == 2


async def test_what_is_lacking_is_said_once() -> None:
    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        is_v6 = question.question[0].rdtype.name == "AAAA"
        return [framed(answer(question, rcode=2) if is_v6 else answer(question, "api.test 60 A 127.0.0.1"), is_tcp)]

    peer: DnsPeer
    async with dns_peer(reply) as peer, source(Backend("api.test"), asked=client(peer.port)) as ear:
        await ear.until(lambda: len(ear.told) > 3)
        assert [entry for entry, _ in ear.said] == ["api.test:80"]
        assert "SERVFAIL" in ear.said[0][1]
        assert not ear.failures
        peer.reply = a_record
        await ear.until(lambda: len(ear.said) > 1)
        assert ear.said[-1] == ("api.test:80", "")


# -- what decides -----------------------------------------------------------------------------


@given(st.floats(allow_nan=False), st.floats(0, 1))
def test_whatever_time_to_live_an_answer_has_it_is_clamped(ttl: float, roll: float) -> None:
    assert LEAST_TTL <= Refresh().after_success(ttl, roll) <= MOST_TTL * (1 + SPREAD)


@given(st.floats(0, 1e6), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_retries_back_off_and_never_stop(frequency: float, rolls: list[float]) -> None:
    refresh = Refresh(frequency)
    usual = refresh.after_success(60, 0)
    pauses = [refresh.after_failure(roll) for roll in rolls]
    assert all(LEAST / 2 <= pause <= min(LONGEST, usual) for pause in pauses)
    assert pauses[0] <= FIRST
    assert refresh.after_success(60, 0) == usual
    assert refresh.after_failure(0) <= FIRST


def test_retries_double_up_to_the_longest() -> None:
    refresh = Refresh(3600)
    assert [refresh.after_failure(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


@given(st.text())
def test_no_hosts_file_is_too_odd(text: str) -> None:
    for name, found in parse_hosts(text).items():
        assert name == name.lower()
        assert found


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=1024))
def test_weights_of_services_keep_their_proportion_within_bounds(weights: list[int]) -> None:
    shares = shares_of(weights)
    assert min(shares) >= 1
    assert sum(shares) <= MOST_SHARES + len(weights) * 1.5
    assert sorted(shares) == [share for _, share in sorted(zip(weights, shares, strict=True))]


def test_weights_of_services_are_taken_in_lowest_terms() -> None:
    assert shares_of([10, 20, 30]) == [1, 2, 3]
    assert shares_of([0, 0]) == [1, 1]
    assert shares_of([100, 0, 50]) == [200, 1, 100]
    assert shares_of([65535, 1]) == [2048, 1]
    assert shares_of([99] * 3 + [100]) == [99, 99, 99, 100]


def test_what_has_no_healthy_backend_is_looked_up_again_soon_and_then_ever_more_seldom() -> None:
    refresh = Refresh()
    assert refresh.after_success(300, 0) == 300
    pauses = []
    for _ in range(8):
        pauses.append(refresh.while_lost(0))
        refresh.after_success(300, 0)  # it finds the same again
    assert pauses == [LOST, 2 * LOST, 4 * LOST, 8 * LOST, LONGEST, LONGEST, LONGEST, LONGEST]
    refresh.rested()
    assert refresh.while_lost(1) == LOST / 2


async def test_a_source_does_not_wait_for_the_time_to_live_while_all_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_module, "LOST", 0.01)
    entry = Backend("api.test", 80)
    async with dns_peer(a_record) as peer, source(entry, asked=client(peer.port), frequency=None) as ear:
        await ear.until(lambda: len(ear.told) == 1)
        running = ear.source
        running.hurry("another.test:80")
        running.hurry(entry.address)  # the last one has just died
        await ear.until(lambda: len(ear.told) == 2)
        ear.lost = True  # before the pause begins, or in it
        running.hurry(entry.address)
        await ear.until(lambda: len(ear.told) >= 5)


async def test_servers_that_hang_leave_room_for_the_questions_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[str] = []
    most = 0

    async def ask(self: server_module.DnsServer, request: dns.message.QueryMessage, *_: object, **__: object) -> dns.message.Message:
        nonlocal most
        under_way.append(self.address)
        most = max(most, len(under_way))
        try:
            if self.address != "10.0.0.1":
                await asyncio.Event().wait()
            return dns.message.from_wire(answer(request, "api.test 60 A 127.0.0.1").to_wire())
        finally:
            under_way.remove(self.address)

    monkeypatch.setattr(server_module.DnsServer, "async_query", ask)
    gate = CheckGate(asyncio.get_running_loop(), 16)
    clients = [DnsClient(DnsSetting((DnsAddress(f"10.0.0.{n}", 53),)), gate, "/nonexistent", "/nonexistent") for n in range(1, 4)]
    hang = [asyncio.create_task(lookup(f"x{n}.test", each, ipv4_only=True).find()) for each in clients[1:] for n in range(50)]
    try:
        await eventually(lambda: gate.waiting > 50)
        async with asyncio.timeout(1):
            await asyncio.gather(*(lookup("api.test", clients[0], ipv4_only=True).find() for _ in range(20)))
        assert most <= 16
    finally:
        for task in hang:
            task.cancel()
        await asyncio.gather(*hang, return_exceptions=True)
    assert gate.used == gate.waiting == 0
