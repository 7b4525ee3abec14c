"""The proof by DNS, by a provider's interface or by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from pingap.stages.acme.dns.lookup import TxtLookup
from pingap.stages.acme.dns.provided import provider_for
from pingap.stages.acme.dns.provider import DnsProvider, ProviderRefused, ProviderZone, find_zone
from pingap.stages.acme.dns.waiting import BY_HAND, PROVIDED, Pace, wait_for
from pingap.stages.acme.presenter import Challenge, NotPresented
from pingap.stages.acme.wanted import DnsAccess


class _Placed(NamedTuple):
    """A record that was added."""

    zone: ProviderZone
    name: str
    id: str


class DnsTelling(NamedTuple):
    """What the operator should know."""

    text: str
    """One line."""
    is_to_be_done: bool = False
    """Somebody has to do something."""


class DnsPresenter:
    """A Presenter of dns-01. tell: takes what the operator should know. awaited: takes the records that are to be set by hand and
    were not seen yet, whenever that changes: `NAME IN TXT VALUE`, all of an order at once.

    halted: once it is set, all waiting ends with NotPresented: the stage stops, or the certificate is wanted no more. pace: how
    long it is waited for a record; by default two minutes with a provider, then the authority is asked all the same, and 24 hours
    by hand, then it is given up. lookup: another than the DNS as it is seen from here.
    """

    def __init__(
        self,
        access: DnsAccess,
        tell: Callable[[DnsTelling], None],
        halted: threading.Event | None = None,
        pace: Pace | None = None,
        lookup: TxtLookup | None = None,
        awaited: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        """Raises NotPresented when `access` is of no use."""
        self._tell = tell
        self._awaited = awaited or (lambda records: None)
        self._halted = halted or threading.Event()
        self._lookup = lookup or TxtLookup(access.servers)
        self._provider = provider_for(access, self._halted)
        self._pace = pace or (PROVIDED if self._provider else BY_HAND)
        self._placed: dict[tuple[str, str], _Placed] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._untouched: set[tuple[str, str]] = set()
        """Records whose turn has not come."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Returns when the servers of the zones have all records, and with a provider after the bound as well. Raises NotPresented."""
        if self._provider is None:
            self._by_hand(challenges)
        else:
            self._by(self._provider, challenges)

    def remove(self, challenge: Challenge) -> None:
        """Takes it out, also what was put there by one before us, who did not come to that. Never raises."""
        if self._provider is None:
            if name := self._told.pop((challenge.record, challenge.value), ""):
                self._tell(DnsTelling(f"the DNS record {_shown_record(name, challenge.value)} may be removed"))
            return
        if (challenge.record, challenge.value) in self._untouched:
            return
        placed = self._placed.pop((challenge.record, challenge.value), None)
        where = placed.zone.name if placed else ""
        try:
            if placed is None:
                zone, name = self._place(self._provider, challenge.record)
                placed = _Placed(zone, name, "")
                where = zone.name
            self._provider.remove(placed.zone, placed.name, challenge.value, placed.id)
        except (ProviderRefused, NotPresented) as error:
            shown = error if isinstance(error, NotPresented) else self._shown(self._provider, where, error)
            record = _shown_record(challenge.record, challenge.value)
            self._tell(DnsTelling(f"the DNS record {record} is left behind: {shown}", True))

    def close(self) -> None:
        """Of no use any more."""
        if self._provider is not None:
            self._provider.close()

    def _by(self, provider: DnsProvider, challenges: Sequence[Challenge]) -> None:
        """All are added before the first is waited for: their ways to the servers are the same time."""
        self._untouched = {(one.record, one.value) for one in challenges}
        places: dict[str, tuple[ProviderZone, str]] = {}
        for challenge in challenges:
            zone, name = places[challenge.record] = places.get(challenge.record) or self._place(provider, challenge.record)
            self._untouched.discard((challenge.record, challenge.value))
            try:
                record = provider.add(zone, name, challenge.value)
            except ProviderRefused as refused:
                raise NotPresented(self._shown(provider, zone.name, refused)) from None
            self._placed[challenge.record, challenge.value] = _Placed(zone, name, record)
        end = monotonic() + self._pace.bound
        for challenge in challenges:
            zone, name = places[challenge.record]
            if lacking := self._await(name, zone.name, challenge.value, end):
                text = f"{name}: after {self._pace.bound:g} s {lacking}; the authority is asked all the same"
                self._tell(DnsTelling(text, True))

    def _by_hand(self, challenges: Sequence[Challenge]) -> None:
        names = {challenge.record: self._lookup.end_of(challenge.record) for challenge in challenges}
        awaited = {}
        for challenge in challenges:
            name = names[challenge.record]
            self._told[challenge.record, challenge.value] = name
            awaited[challenge.record, challenge.value] = record = _shown_record(name, challenge.value)
            behind = f"; {challenge.record} is a CNAME of it" if name != challenge.record else ""
            self._tell(DnsTelling(f"set the DNS record {record} (beside others of that name{behind}); it is waited for", True))
        self._awaited(tuple(awaited.values()))
        end = monotonic() + self._pace.bound
        for challenge in challenges:
            outcome = self._await(names[challenge.record], "", challenge.value, end)
            record = awaited.pop((challenge.record, challenge.value))
            if outcome:
                raise NotPresented(f"the DNS record {record} was not set: after {self._pace.bound / 3600:g} h {outcome}")
            self._tell(DnsTelling(f"the DNS record {record} has arrived"))
            self._awaited(tuple(awaited.values()))

    def _await(self, name: str, zone: str, value: str, end: float) -> str:
        """What is lacking at the end, a time of `monotonic`; "" when all have it. Raises NotPresented when it is called off."""
        pace = self._pace._replace(bound=max(0.0, end - monotonic()))
        outcome = wait_for(
            lambda: self._lookup.servers_of(name, zone), lambda server: self._lookup.has(server, name, value), pace, self._halted
        )
        if outcome.is_seen:
            return ""
        if self._halted.is_set():
            raise NotPresented("given up: nobody waits for it any more")
        if not outcome.lacking:
            return "it is not known who serves the zone"
        servers = ", ".join(map(str, outcome.lacking[:4])) + (f" and {len(outcome.lacking) - 4} more" if len(outcome.lacking) > 4 else "")
        return f"the record is not seen at {servers}"

    def _place(self, provider: DnsProvider, record: str) -> tuple[ProviderZone, str]:
        """The zone that is written, and the name in it. Raises NotPresented.

        A CNAME leads to another zone, on purpose (RFC 8555 section 8.4: a name may be delegated for proofs), or because `*` of the
        zone has one: then the target may be somebody else's, and a record beside it is what takes its place.
        """
        target = self._lookup.end_of(record)
        try:
            for name in dict.fromkeys((target, record)):
                if zone := find_zone(provider, name):
                    return zone, name
        except ProviderRefused as refused:
            raise NotPresented(self._shown(provider, "", refused)) from None
        behind = f", nor one for {target}, of which that is a CNAME" if target != record else ""
        raise NotPresented(f"{provider.name}: the account has no zone for {record}{behind}")

    def _shown(self, provider: DnsProvider, zone: str, refused: ProviderRefused) -> str:
        return f"{provider.name}: {f'zone {zone}: ' if zone else ''}{refused}"


def _shown_record(name: str, value: str) -> str:
    """As zone files have it. Proofs have no blank or `;` (base64url, RFC 8555 section 8.4), so they need no quotation marks, which the
    log would escape: this is copied from there."""
    return f"{name} IN TXT {value}"
