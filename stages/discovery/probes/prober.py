"""The checks of one upstream: which kind, how long, and which connections are kept."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Set
from typing import Protocol

from pingap.bus.descriptors import is_short
from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.discovery.probes.failed import ClosedEarly, ProbeFailed
from pingap.stages.discovery.probes.line import ProbeLine, context_for
from pingap.stages.lookups import Lookups, NoSlot
from pingap.stages.tcp import open_socket
from pingap.stages.tls_words import in_plain_words


class KeptTalks:
    """How many connections all probers of an actor keep between checks; more backends than that are asked on fresh ones."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class Talk(Protocol):
    """A connection with what is said on it."""

    line: ProbeLine

    @property
    def can_go_on(self) -> bool:
        """Nothing is known that would spoil another check on it."""

    async def ask(self) -> bool:
        """One check; True if the connection can be used for another. Raises ProbeFailed, OSError."""


class Prober:
    """Checks the backends of one upstream. `close` when it is no longer needed."""

    def __init__(self, check: HealthCheck, ipv4_only: bool, lookups: Lookups, keeping: KeptTalks) -> None:
        self._keeping = keeping
        self._check = check
        self._ipv4_only = ipv4_only
        self._lookups = lookups
        self._talk, self._protocol = _talk_of(check)
        self._context: ssl.SSLContext | None = None
        self._kept: dict[str, Talk] = {}
        """Connections for the next check, by address."""

    async def probe(self, target: CheckTarget) -> None:
        """Returns if the backend passes. Raises ProbeFailed; ends within the two time-outs of the check.

        stages.lookups.NoSlot: its name could not be looked up, or there was no descriptor for a socket, and nothing is known.
        """
        try:
            if self._talk is None:
                (await self._open(target)).close()
            else:
                await self._ask(target)
        except NoSlot:
            raise
        except OSError as error:
            if is_short(error):
                raise NoSlot(f"{target.address} could not be asked: {error.strerror}") from error
            raise ProbeFailed(f"cannot connect: {error.strerror or error}") from error

    def forget_others(self, addresses: Set[str]) -> None:
        """Closes the connections that were kept to other backends than these."""
        for address in self._kept.keys() - addresses:
            self._kept.pop(address).line.close()
            self._keeping.count -= 1

    def close(self) -> None:
        """Closes all that were kept."""
        self.forget_others(frozenset())

    async def _open(self, target: CheckTarget) -> ProbeLine:
        """A connection, under TLS if the check is, within connection_timeout."""
        limit = self._check.connection_timeout
        loop = asyncio.get_running_loop()
        line = None
        try:
            async with asyncio.timeout(limit):
                sock = await open_socket(loop, self._lookups, target.host, target.port, ipv4_only=self._ipv4_only, seconds=limit)
                line = ProbeLine(loop, sock)
                if self._protocol:
                    await self._secure(line)
                return line
        except BaseException as error:
            if line is not None:
                line.close()
            if isinstance(error, NoSlot):
                raise
            if isinstance(error, TimeoutError):
                doing = "TLS handshake: no end" if line is not None else "no connection"
                raise ProbeFailed(str(error) or f"{doing} within {limit:g} s") from None
            if isinstance(error, socket.gaierror):
                raise ProbeFailed(f"the name cannot be resolved: {error.strerror}") from error
            raise

    async def _secure(self, line: ProbeLine) -> None:
        if self._context is None:
            self._context = context_for(self._protocol, self._check.verify_cert)
        try:
            agreed = await line.secure(self._context, self._check.host)
        except ConnectionError as error:
            raise ProbeFailed(f"TLS handshake as {self._check.host}: {error.strerror or error}") from error
        if self._protocol == "h2" and agreed != "h2":
            raise ProbeFailed("does not agree to HTTP/2 under TLS (ALPN)")

    async def _ask(self, target: CheckTarget) -> None:
        assert self._talk is not None
        kept = self._kept.pop(target.address, None)
        if kept is not None:
            self._keeping.count -= 1
            if kept.can_go_on:
                try:
                    await self._exchange(target, kept)
                    return
                except ClosedEarly:
                    pass  # for being idle, perhaps, which says nothing about the backend
            else:
                kept.line.close()
        await self._exchange(target, self._talk(await self._open(target), self._check))

    async def _exchange(self, target: CheckTarget, talk: Talk) -> None:
        limit = self._check.read_timeout
        is_kept = False
        try:
            async with asyncio.timeout(limit):
                is_kept = await talk.ask()
        except TimeoutError:
            raise ProbeFailed(f"no answer, or no end of it, within {limit:g} s") from None
        except ssl.SSLError as error:
            raise ProbeFailed(f"TLS: {in_plain_words(error)}") from error
        except OSError as error:
            raise ClosedEarly(f"the connection broke: {error.strerror or error}") from error
        finally:
            if is_kept and self._keeping.count < self._keeping.most:
                self._keeping.count += 1
                self._kept[target.address] = talk
            else:
                talk.line.close()


def _talk_of(check: HealthCheck) -> tuple[Callable[[ProbeLine, HealthCheck], Talk] | None, str]:
    """What speaks on a connection, None if nobody does; and the protocol that is agreed on under TLS, "" without.

    Imported here: a process without such checks has no use for these parsers.
    """
    if check.scheme == "tcp":
        return None, ""
    if check.scheme == "grpc":
        from pingap.stages.discovery.probes.grpc import GrpcTalk

        return GrpcTalk, "h2" if check.tls else ""
    from pingap.stages.discovery.probes.http import HttpTalk

    return HttpTalk, "http/1.1" if check.scheme == "https" else ""
