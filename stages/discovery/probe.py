"""One check of one backend over a socket: tcp (it accepts a connection) or http (it answers GET with 200)."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

import h11

from pingap.bus.descriptors import is_short
from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.lookups import Lookups, NoSlot
from pingap.stages.tcp import open_socket

MOST_HEAD: Final = 16 * 1024
"""Bytes of the longest head of an answer."""

MOST_BODY: Final = 64 * 1024
"""Bytes read of an answer's body; a longer one is as good, but its connection is not used again."""

READ: Final = 16 * 1024


class ProbeFailed(Exception):
    """The check failed; the text says why."""


class _Closed(ProbeFailed):
    """The backend closed the connection before it answered."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A connection to a backend that speaks HTTP."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection


class Prober:
    """Checks the backends of one upstream. `close` when it is no longer needed."""

    def __init__(self, check: HealthCheck, ipv4_only: bool, lookups: Lookups) -> None:
        self._check = check
        self._ipv4_only = ipv4_only
        self._lookups = lookups
        self._kept: dict[str, _Open] = {}
        """Connections for the next check, by address."""

    async def probe(self, target: CheckTarget) -> None:
        """Returns if the backend passes. Raises ProbeFailed; ends within the two time-outs of the check.

        stages.lookups.NoSlot: its name could not be looked up, or there was no descriptor for a socket, and nothing is known.
        """
        try:
            if self._check.scheme == "http":
                await self._http(target)
            else:
                await self._tcp(target)
        except NoSlot:
            raise
        except OSError as error:
            if is_short(error):
                raise NoSlot(f"{target.address} could not be asked: {error.strerror}") from error
            raise ProbeFailed(f"cannot connect: {error.strerror or error}") from error

    def close(self) -> None:
        """Closes the connections that were kept."""
        for connection in self._kept.values():
            connection.writer.transport.abort()
        self._kept.clear()

    async def _tcp(self, target: CheckTarget) -> None:
        _, writer = await self._connect(target)
        writer.transport.abort()

    async def _connect(self, target: CheckTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit = self._check.connection_timeout
        loop = asyncio.get_running_loop()
        try:
            sock = await open_socket(loop, self._lookups, target.host, target.port, ipv4_only=self._ipv4_only, seconds=limit)
        except TimeoutError as error:
            raise ProbeFailed(str(error) or f"no connection within {limit:g} s") from None
        except socket.gaierror as error:
            raise ProbeFailed(f"the name cannot be resolved: {error.strerror}") from error
        try:
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    # -- http ---------------------------------------------------------------------------

    async def _http(self, target: CheckTarget) -> None:
        connection = self._kept.pop(target.address, None)
        if connection is not None:
            connection.protocol.start_next_cycle()
            try:
                await self._exchange(target, connection)
                return
            except _Closed:
                pass  # for being idle, perhaps, which says nothing about the backend
        reader, writer = await self._connect(target)
        await self._exchange(target, _Open(reader, writer, h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)))

    async def _exchange(self, target: CheckTarget, connection: _Open) -> None:
        limit = self._check.read_timeout
        is_kept = False
        try:
            async with asyncio.timeout(limit):
                is_kept = await self._ask(target, connection)
        except TimeoutError:
            raise ProbeFailed(f"no answer within {limit:g} s") from None
        except OSError as error:
            raise _Closed(f"the connection broke: {error.strerror or error}") from error
        except h11.RemoteProtocolError as error:
            raise ProbeFailed(f"no valid answer: {error}") from error
        finally:
            if is_kept:
                self._kept[target.address] = connection
            else:
                connection.writer.transport.abort()

    async def _ask(self, target: CheckTarget, connection: _Open) -> bool:
        """One GET; True if the connection can be used again. Raises ProbeFailed unless the answer is 200."""
        protocol, reader, writer = connection.protocol, connection.reader, connection.writer
        headers = [("host", self._check.host or target.entry or target.address), ("user-agent", "pingap-health-check"), ("accept", "*/*")]
        if not self._check.reuse:
            headers.append(("connection", "close"))
        request = protocol.send(h11.Request(method="GET", target=self._check.path, headers=headers))
        writer.write((request or b"") + (protocol.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        received, has_begun = 0, False
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(READ)
                if not (data or has_begun):
                    raise _Closed("closed the connection without an answer")
                has_begun = True
                protocol.receive_data(data)
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise ProbeFailed(f"answered with status {event.status_code}")
            elif isinstance(event, h11.Data):
                received += len(event.data)
                if received > MOST_BODY:
                    return False
            elif isinstance(event, h11.EndOfMessage):
                return self._check.reuse and protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
