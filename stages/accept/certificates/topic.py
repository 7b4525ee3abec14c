"""What the acme stage publishes: certificates that it has got, proofs for authorities, staples, the secrets of session tickets.

It follows the topic `certificates` (bus/PROTOCOL.md section 6), whose value names bodies by their digests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import time
from typing import Any, Final

import msgpack

from pingap.bus.actor import Context
from pingap.config.certificates import not_covered
from pingap.config.leaf_facts import leaf_facts
from pingap.config.model import Certificate
from pingap.stages.messages import CertificatesTaken

TOPIC: Final = "certificates"
PUBLISHER: Final = "acme"

LEFT_OVER: Final = 256
"""Certificates at most that are kept though the acme stage names them no more."""

Pair = tuple[str, str]
"""Certificate with its chain, and key; PEM."""


@dataclass(frozen=True, slots=True)
class CertificatesValue:
    """One value of the topic, with its bodies."""

    version: int = 0
    """0 before the first."""
    issued: Mapping[str, Pair] = field(default_factory=dict)
    """By name of the section."""
    left_over: Mapping[str, Pair] = field(default_factory=dict)
    """The same of earlier values, of sections that this one says nothing of: the acme stage may not have been able to read them."""
    challenges: Mapping[str, Pair] = field(default_factory=dict)
    """By the domain that is to be proved (RFC 8737)."""
    staples: Mapping[str, bytes] = field(default_factory=dict)
    """By SHA-256 of the certificate that it is about, in hex: an OCSP response, DER."""
    tickets: tuple[bytes, ...] = ()
    """Secrets of session tickets, the newest first."""

    def over(self, certificates: Mapping[str, Certificate]) -> dict[str, Certificate]:
        """A configuration's certificates, those by ACME as they are now.

        Where there is none, one that was for another section, or was named before, stands in if it is for all of the domains: the
        acme stage may be dead when a section is renamed.
        """
        spare = {**self.left_over, **{name: pair for name, pair in self.issued.items() if name not in certificates}}
        return {name: self._now(name, one, spare) for name, one in certificates.items()}

    def but(self, certificates: Mapping[str, Certificate]) -> CertificatesValue:
        """The same, with pairs as these certificates have them."""
        pairs = {name: (one.tls_cert, one.tls_key) for name, one in certificates.items() if name in self.issued and one.tls_cert}
        return replace(self, issued=pairs)

    def _now(self, name: str, certificate: Certificate, spare: Mapping[str, Pair]) -> Certificate:
        pair = self.issued.get(name) if certificate.acme else None
        if pair is None and certificate.acme and not certificate.tls_cert:
            pair = _for_all_of(certificate.domains, spare)
        return replace(certificate, tls_cert=pair[0], tls_key=pair[1]) if pair else certificate


NOTHING_YET: Final = CertificatesValue()


class CertificatesFollower:
    """Follows the topic. taken: called with each value that is complete, says whether it is gone by; then the publisher is told."""

    def __init__(self, context: Context, taken: Callable[[CertificatesValue], bool]) -> None:
        self.now = NOTHING_YET
        self._context = context
        self._taken = taken
        self._bodies: dict[bytes, bytes] = {}
        self._value: Mapping[str, Any] = {}
        self._give_up: Callable[[], None] | None = None
        self._first = asyncio.Event()

    def start(self) -> None:
        self._context.follow(TOPIC, PUBLISHER, self._changed)

    async def wait(self, seconds: float) -> None:
        """Until there is a first value, or these are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first.wait()

    def _changed(self, value: Any) -> None:
        if self._give_up is not None:
            self._give_up()
            self._give_up = None
        if not value["version"]:
            return  # the stage has just come, and has not read yet what there is: what was known holds
        self._value = value
        digests = set(_digests(value))
        self._bodies = {digest: body for digest, body in self._bodies.items() if digest in digests}
        missing = digests - self._bodies.keys()
        if missing:
            self._give_up = self._context.fetch(TOPIC, PUBLISHER, missing, self._got)
        else:
            self._complete()

    def _got(self, bodies: dict[bytes, bytes]) -> None:
        self._give_up = None
        self._bodies |= bodies
        self._complete()

    def _complete(self) -> None:
        value, body = self._value, self._bodies
        tickets = msgpack.unpackb(body[value["tickets"]]) if value["tickets"] else ()
        issued = {name: _pair(body[digest]) for name, digest in value["issued"].items()}
        before = {**self.now.left_over, **self.now.issued}
        left_over = [(name, pair) for name, pair in before.items() if name not in issued]
        self.now = CertificatesValue(
            value["version"],
            issued,
            dict(left_over[-LEFT_OVER:]),
            {domain: _pair(body[digest]) for domain, digest in value["challenges"].items()},
            {leaf: body[digest] for leaf, digest in value["staples"].items()},
            tuple(tickets),
        )
        self._first.set()
        if not self._taken(self.now):
            return  # who publishes it does not hear that clients are shown it, and looks for itself
        for member in self._context.members.of_stage(PUBLISHER):
            self._context.send(member.id, CertificatesTaken(self._context.id, self.now.version))


def _for_all_of(domains: Sequence[str], spare: Mapping[str, Pair]) -> Pair | None:
    """The one that ends last of those that have not ended."""
    best, end = None, time()
    for pair in spare.values():
        try:
            facts = leaf_facts(pair[0])
        except ValueError:
            continue
        if facts.not_after > end and not not_covered(facts.names, domains):
            best, end = pair, facts.not_after
    return best


def _digests(value: Mapping[str, Any]) -> Iterator[bytes]:
    for section in ("issued", "challenges", "staples"):
        yield from value[section].values()
    if value["tickets"]:
        yield value["tickets"]


def _pair(body: bytes) -> Pair:
    found = msgpack.unpackb(body)
    return found["cert"], found["key"]
