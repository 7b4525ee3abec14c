"""A DNS server that does what a test says: answers by bytes, over UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rrset

from tests.kit.waiting import free_port

Reply = Callable[[dns.message.Message, bool], list[bytes]]
"""(question, over TCP) → what is sent back: datagrams, or the bytes on the connection."""


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, peer: DnsPeer) -> None:
        self._peer = peer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        for answer in self._peer.answers(data, False):
            self._transport.sendto(answer, address)


class DnsPeer:
    def __init__(self, reply: Reply) -> None:
        self.port = free_port()
        self.reply = reply
        self.questions: list[tuple[str, str, bool]] = []
        """(name, type, over TCP)."""

    def answers(self, data: bytes, is_tcp: bool) -> list[bytes]:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        self.questions.append((asked.name.to_text(omit_final_dot=True), asked.rdtype.name, is_tcp))
        return self.reply(question, is_tcp)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            for answer in self.answers(await reader.readexactly(size), True):
                writer.write(answer)
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def dns_peer(reply: Reply) -> AsyncIterator[DnsPeer]:
    peer = DnsPeer(reply)
    loop = asyncio.get_running_loop()
    udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(peer), local_addr=("127.0.0.1", peer.port))
    tcp = await asyncio.start_server(peer._stream, "127.0.0.1", peer.port)
    try:
        yield peer
    finally:
        udp.close()
        tcp.close()


def answer(question: dns.message.Message, *records: str, rcode: int = 0) -> dns.message.Message:
    """records: `name ttl type data…` in the zone file's form."""
    message = dns.message.make_response(question)
    assert isinstance(message, dns.message.Message)
    message.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        name, ttl, kind, data = record.split(" ", 3)
        message.answer.append(dns.rrset.from_text(name + ".", int(ttl), "IN", kind, data))
    return message


def a_record(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
    """127.0.0.7 for whatever name, and no IPv6 address."""
    asked = question.question[0]
    records = [f"{asked.name.to_text(True)} 60 A 127.0.0.7"] if asked.rdtype.name == "A" else []
    return [framed(answer(question, *records), is_tcp)]


def framed(message: dns.message.Message, is_tcp: bool) -> bytes:
    return message.to_wire(prepend_length=is_tcp, max_size=65535)
