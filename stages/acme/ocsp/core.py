"""Decides when responders are asked about which certificates, and which of their answers clients get. No I/O: times are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pingap.config.certificates import leaf_of
from pingap.stages.acme.ocsp.answer import BadOcspAnswer, OcspAnswer, believed
from pingap.stages.acme.ocsp.question import NoOcspQuestion, OcspQuestion, has_to_be_stapled, ocsp_question

AT_ONCE: Final = 4
"""Questions under way at a time: each has a thread."""

LOST: Final = 60.0
"""Seconds after which a question that nobody has said anything about is asked again; fetching.py gives up long before."""

FIRST_PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 3600.0
"""Seconds between a failure and the next try: doubled each time."""

SOONEST: Final = 300.0
"""Seconds between an answer and the next question, be the answer ever so short-lived."""

LATEST: Final = 86400.0
"""The same at most: a certificate may be revoked while an answer still holds."""

EARLY: Final = 60.0
"""Seconds before its end at which an answer is taken back: clients' clocks differ."""

LONGEST: Final = 10 * 1024
"""Bytes of a staple; with TLS 1.2 clients break off at 16 KiB."""


class OcspTelling(NamedTuple):
    """A line of the log."""

    level: str
    """error, warn or info."""
    message: str
    fields: dict[str, Any]


@dataclass(slots=True)
class _StapleState:
    """About one certificate. Times are Unix seconds."""

    question: OcspQuestion
    has_to: bool
    ask_at: float
    under_way: bool = False
    failures: int = 0
    der: bytes = b""
    until: float = 0.0
    """Of `der`."""
    since: float = 0.0
    """When the responder has said so."""
    status: str = ""
    """What was heard last: good, revoked, unknown; "" before."""
    has_told_bare: bool = False
    """That it has to be stapled and is not."""


class OcspCore:
    """Of all certificates that are served."""

    def __init__(self) -> None:
        self._asked: dict[str, _StapleState] = {}
        """By the digest of the certificate."""
        self._served: dict[str, OcspQuestion | None] = {}
        """Chains that are served → what is to be asked about them, if anything."""
        self._has_to: set[str] = set()
        """Digests of those that demand it."""
        self._recalled: dict[str, bytes] = {}
        """By digest: responses of another life."""

    def recall(self, staples: Mapping[str, bytes]) -> None:
        """What `staples` has said in another life. Each is believed as if it had just come, when its certificate is served first."""
        self._recalled = dict(staples)

    def serve(self, chains: Mapping[str, str], now: float) -> tuple[OcspTelling, ...]:
        """These are served, and no others: name of the section → PEM, the server's own certificate first."""
        names: dict[str, tuple[str, ...]] = {}
        for name, chain in chains.items():
            names[chain] = (*names.get(chain, ()), name)
        tellings: list[OcspTelling] = []
        served: dict[str, OcspQuestion | None] = {}
        kept: dict[str, _StapleState] = {}
        for chain, sections in names.items():
            if chain not in self._served:
                served[chain], telling = self._looked_at(chain, sections)
                tellings += telling
            else:
                served[chain] = self._served[chain]
            question = served[chain]
            if question is None:
                continue
            leaf = question.leaf
            others = kept[leaf].question.names if leaf in kept else ()
            asked = kept.get(leaf) or self._asked.get(leaf) or self._begun(question, now)
            asked.question = replace(question, names=(*others, *sections))
            kept[leaf] = asked
        self._asked, self._served = kept, served
        self._has_to &= kept.keys()
        return tuple(tellings)

    def _begun(self, question: OcspQuestion, now: float) -> _StapleState:
        leaf = question.leaf
        state = _StapleState(question, leaf in self._has_to, now)
        der = self._recalled.pop(leaf, b"")
        if not der:
            return state
        try:
            answer = believed(question, der, now)
        except BadOcspAnswer:  # it has ended since
            return state
        if answer.status == "good":
            state.der, state.until, state.since, state.status = der, answer.until, answer.since, answer.status
            state.ask_at = now + _pause(answer, leaf, now)
        return state

    def _looked_at(self, chain: str, names: tuple[str, ...]) -> tuple[OcspQuestion | None, list[OcspTelling]]:
        try:
            has_to = has_to_be_stapled(leaf_of(chain))
        except ValueError:  # what the TLS library takes and this one does not
            return None, []
        try:
            question = ocsp_question(names, chain)
        except (NoOcspQuestion, ValueError) as error:
            message = "clients refuse the certificate: it demands OCSP stapling, and nobody can be asked"
            return None, [OcspTelling("warn", message, _fields(names, reason=str(error)))] if has_to else []
        if has_to:
            self._has_to.add(question.leaf)
        return question, []

    def due(self, now: float) -> Iterator[tuple[OcspQuestion, str]]:
        """Questions to be asked now, each with the URL of whom: `answered` or `failed` is to be called for each.

        No more than AT_ONCE are under way: to be asked again after each of those calls.
        """
        under_way = sum(one.under_way and one.ask_at > now for one in self._asked.values())
        for asked in self._asked.values():
            if asked.ask_at <= now and under_way < AT_ONCE:
                under_way += 1
                asked.under_way = True
                asked.ask_at = now + LOST
                urls = asked.question.urls
                yield asked.question, urls[asked.failures % len(urls)]

    def answered(self, leaf: str, der: bytes, now: float) -> tuple[OcspTelling, ...]:
        """der: what the responder has sent."""
        asked = self._asked.get(leaf)
        if asked is None:  # it is served no more
            return ()
        try:
            answer = believed(asked.question, der, now)
        except BadOcspAnswer as error:
            return self.failed(leaf, f"the responder's answer is not taken: {error}", now)
        asked.under_way = False
        if answer.status == "unknown":
            return self.failed(leaf, "the responder does not know the certificate", now)
        before, asked.status, asked.failures = asked.status, answer.status, 0
        asked.ask_at = now + _pause(answer, leaf, now)
        if answer.status == "revoked":
            # As nginx and Caddy do, what is stapled is good news alone: who cares about revocation asks when there is none.
            asked.der, asked.until = b"", 0.0
            message = "the certificate was revoked by its authority: replace it, clients may refuse it"
            return (OcspTelling("error", message, _fields(asked.question.names, revoked=answer.revoked)),)
        if len(der) > LONGEST:
            return self.failed(leaf, f"the responder's answer has {len(der)} bytes, too many to be handed to clients", now)
        asked.der, asked.until, asked.since, asked.has_told_bare = der, answer.until, answer.since, False
        if before == "good":
            return ()
        return (OcspTelling("info", "OCSP response got: clients get it with the certificate", _fields(asked.question.names)),)

    def failed(self, leaf: str, reason: str, now: float) -> tuple[OcspTelling, ...]:
        """reason: for people."""
        asked = self._asked.get(leaf)
        if asked is None:
            return ()
        asked.under_way = False
        asked.failures += 1
        if asked.status == "good" and not self._holds(asked, now):
            asked.status = ""  # so that it is told when there is one again
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(asked.failures - 1, 10))
        asked.ask_at = now + pause
        fields = _fields(asked.question.names, reason=reason, again_in=f"{pause:g}s")
        if asked.has_to and not asked.has_told_bare and not self._holds(asked, now):
            asked.has_told_bare = True
            return (OcspTelling("error", "clients refuse the certificate: it demands OCSP stapling, and there is no response", fields),)
        if asked.failures in (1, 10):  # the rest is the same again, on no request's way
            level = "info" if self._holds(asked, now) else "warn"
            return (OcspTelling(level, "no OCSP response for a certificate: clients get it without one", fields),)
        return ()

    def staples(self, now: float) -> dict[str, bytes]:
        """SHA-256 of the certificate (DER, in hex) → DER of the response: all that hold now."""
        return {leaf: asked.der for leaf, asked in self._asked.items() if self._holds(asked, now)}

    def stapled_since(self, now: float) -> dict[str, float]:
        """Names of the sections whose certificates have a staple → when the responder has said what is in it."""
        return {name: asked.since for asked in self._asked.values() if self._holds(asked, now) for name in asked.question.names}

    def revoked(self) -> dict[str, tuple[str, ...]]:
        """SHA-256 of the certificates that were revoked → names of the sections: those by ACME are to be got anew."""
        return {leaf: tuple(asked.question.names) for leaf, asked in self._asked.items() if asked.status == "revoked"}

    def next_at(self, now: float) -> float | None:
        """When `due` or `staples` says something else than before; None while nobody can be asked about anything."""
        times = [asked.ask_at for asked in self._asked.values()]
        times += [asked.until - EARLY for asked in self._asked.values() if self._holds(asked, now)]
        return max(now, min(times)) if times else None

    def _holds(self, asked: _StapleState, now: float) -> bool:
        return bool(asked.der) and now < asked.until - EARLY


def _pause(answer: OcspAnswer, leaf: str, now: float) -> float:
    """Until the middle of an answer's time, give or take a tenth, so that not all are asked about at once."""
    tenth = (sha256(leaf.encode()).digest()[0] / 255 - 0.5) / 5
    middle = answer.since + (answer.until - answer.since) * (0.5 + tenth)
    return min(LATEST, max(SOONEST, middle - now))


def _fields(names: Iterable[str], **more: str) -> dict[str, Any]:
    return {"certificates": ", ".join(sorted(names)), **{key: value for key, value in more.items() if value}}
