"""One DNS server: a question and its answer over UDP, over TCP what UDP has no room for (RFC 1035 section 4.2, RFC 7766)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.nameserver
import dns.rcode

from pingap.config.parts import host_and_port
from pingap.stages.lookups import Address, literal
from pingap.stages.tcp import connect

PAYLOAD: Final = 1232
"""Bytes of the longest answer over UDP that servers are told of (EDNS0; what gets through everywhere without fragments)."""

LONGEST_DATAGRAM: Final = 4096
"""Bytes read of one; servers that go beyond what they were told are believed up to here."""

LONGEST_MESSAGE: Final = 32 * 1024
"""Bytes of an answer over TCP; two thousand addresses have room there."""

LONG: Final = 4096
"""Bytes from which on a message is read in a thread: names that point to one another can make it take a second."""

STRAY: Final = 1000
"""Datagrams that are not the answer, after which no more are read: whoever sends them may do so as fast as he can."""

WRONG: Final = 8
"""The same of those that had the number of the question, and so had to be looked at."""

_TRUNCATED: Final = 0x82
"""The bits QR and TC of the third byte: an answer, of which there is more."""


class NoAnswer(EOFError):
    """What came was none. For dnspython's resolver an EOFError is a server that is not worth another try."""


class DnsServer(dns.nameserver.AddressAndPortNameserver):
    """What dnspython's resolver asks. Its own would not notice that nobody listens, and would queue whatever comes without bounds."""

    def kind(self) -> str:
        return "Do53"

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """The answer to `request`, over TCP with `max_size`.

        Raises dns.message.Truncated over UDP when the whole of it is to be had over TCP, dns.exception.Timeout, OSError,
        EOFError, and dns.exception.DNSException for what cannot be read.
        """
        ask = self._over_tcp if max_size else self._over_udp
        try:
            async with asyncio.timeout(timeout):
                answer = await ask(request)
                if answer.rcode() == dns.rcode.FORMERR and request.edns >= 0:
                    # A server of before EDNS0 (RFC 6891 section 7).
                    request.use_edns(False)
                    answer = await ask(request)
                return answer
        except TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]

    def _address(self) -> Address:
        address = literal(self.address, self.port)
        if address is None:
            raise OSError(f"{self.address} is no address")
        return address

    async def _over_udp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        family, address = self._address()
        loop = asyncio.get_running_loop()
        wire = request.to_wire()
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)  # from then on nobody else is heard, and an ICMP error is
            await loop.sock_sendall(sock, wire)
            wrong = 0
            for _ in range(STRAY):
                data = await loop.sock_recv(sock, LONGEST_DATAGRAM)
                if data[:2] != wire[:2]:
                    await asyncio.sleep(0)  # an answer to something else, and perhaps one of many
                    continue
                if len(data) > 2 and data[2] & _TRUNCATED == _TRUNCATED:
                    raise dns.message.Truncated
                with suppress(Exception):  # whatever it is that cannot be read: the answer may be still to come
                    answer = dns.message.from_wire(data, ignore_trailing=True)
                    if request.is_response(answer):
                        return answer
                wrong += 1
                if wrong == WRONG:
                    break
            raise NoAnswer("nothing but what is no answer")

    async def _over_tcp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        family, address = self._address()
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await connect(loop, sock, address)
            await loop.sock_sendall(sock, request.to_wire(prepend_length=True))
            size = int.from_bytes(await _exactly(loop, sock, 2), "big")
            if size > LONGEST_MESSAGE:
                raise NoAnswer(f"an answer of {size} bytes, more than the {LONGEST_MESSAGE} that are read")
            data = await _exactly(loop, sock, size)
        read = partial(dns.message.from_wire, data, ignore_trailing=True)
        answer = await asyncio.to_thread(read) if size > LONG else read()
        if not request.is_response(answer):
            raise NoAnswer("an answer to another question")
        return answer


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    """So many bytes. Raises EOFError if there are fewer."""
    data = bytearray()
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise EOFError("closed the connection in an answer" if data else "closed the connection without an answer")
        data += more
    return bytes(data)
