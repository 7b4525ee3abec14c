"""Decides which certificate clients are shown of what there is: on the shelf, and in the entries of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pingap.config.certificates import not_covered
from pingap.stages.acme.wanted import WantedCertificate
from pingap.stages.acme.words import HeldCertificate


class _MayServe(NamedTuple):
    held: HeldCertificate
    good: int
    """For how many of the names."""
    is_exact: bool
    """It was got for just this."""


class CurrentCertificates:
    """Of all that are wanted, by name of the section."""

    def __init__(self) -> None:
        self._wanted: Mapping[str, WantedCertificate] = {}
        self._own: Mapping[str, HeldCertificate] = {}
        self._held: dict[str, HeldCertificate] = {}
        """What is on the shelf, or was in this life and has not ended, by id."""
        self._candidates: dict[str, list[_MayServe]] = {}

    def want(self, wanted: Mapping[str, WantedCertificate], own: Mapping[str, HeldCertificate]) -> None:
        """own: what stands in the entries themselves."""
        self._wanted, self._own = dict(wanted), dict(own)
        self._candidates = {}

    def read(self, held: Mapping[str, HeldCertificate], now: float) -> dict[str, HeldCertificate]:
        """That is all there is on the shelf. What stays although it is not there, by id: it is as good as it was."""
        kept = {id: one for id, one in self._held.items() if now < one.not_after and is_better(one, held.get(id), now)}
        merged = {**held, **kept}
        if merged != self._held:
            self._held = merged
            self._candidates = {}
        return kept

    def read_some(self, held: Mapping[str, HeldCertificate], now: float) -> None:
        """The rest of the shelf could not be read."""
        self.read({**self._held, **held}, now)

    def gained(self, id: str, held: HeldCertificate) -> None:
        """There is another one on the shelf."""
        self._held[id] = held
        self._candidates = {}

    def all(self) -> Collection[HeldCertificate]:
        """That there are, those in the entries aside."""
        return self._held.values()

    def exact(self, wanted: WantedCertificate) -> HeldCertificate | None:
        """The one that was got for just this."""
        return self._held.get(wanted.id)

    def of(self, name: str, now: float) -> HeldCertificate | None:
        """The one to be shown: one that has not ended, for most of the names, got for just this, that ends last. In this order."""
        if not self._candidates:
            self._rank()
        best, rank = None, (False, 0, False, 0.0)
        for one in self._candidates.get(name, ()):
            its = (now < one.held.not_after, one.good, one.is_exact, one.held.not_after)
            if best is None or its > rank:
                best, rank = one.held, its
        return best

    def is_own(self, name: str, held: HeldCertificate) -> bool:
        """It stands in the entry itself."""
        return held == self._own.get(name)

    def renewed(self, name: str) -> HeldCertificate | None:
        """The one whose end counts: once another is due. None: what is shown, if anything, only stands in for what is wanted.

        That is what was got for just this, or what stands in the entry and is for all of its names, each as it is asked for: a wildcard
        beside is another certificate (as the reference compares). One of another authority or of another kind of key is not it, nor is
        one in the entry that nobody but itself has signed: people put such there until the first one has come.
        """
        wanted = self._wanted[name]
        exact, own = self._held.get(wanted.id), self._own.get(name)
        if exact is not None:
            return exact
        return own if own is not None and not own.is_self_signed and set(wanted.domains) <= set(own.names) else None

    def _rank(self) -> None:
        ids = {wanted.id for wanted in self._wanted.values()}
        # What was got for another section is nobody's second choice; what no section wants any more stands in for what is wanted instead.
        left_over = [held for id, held in self._held.items() if id not in ids]
        for name, wanted in self._wanted.items():
            found = self._candidates[name] = []
            exact = self._held.get(wanted.id)
            if exact is not None:
                found.append(_MayServe(exact, len(wanted.domains), True))
            own = self._own.get(name)
            for held in left_over if own is None else (own, *left_over):
                if good := len(wanted.domains) - len(not_covered(held.names, wanted.domains)):
                    found.append(_MayServe(held, good, False))


def is_better(one: HeldCertificate, other: HeldCertificate | None, now: float) -> bool:
    """Than what has come in its place, of one that has not ended: a shelf that was set back has older ones."""
    if other is None or other.not_after <= now:
        return True
    return other.not_before < one.not_before and other.not_after < one.not_after
