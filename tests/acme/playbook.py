"""Words for scripts of the core: certificates that need no cryptography, a clock, and what is known at each moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pingap.stages.acme.core import AcmeCore
from pingap.stages.acme.records import NO_RECORD, TryRecord
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.words import (
    BeginTry,
    CertificatesPublished,
    Command,
    Event,
    HandshakeMade,
    HeldCertificate,
    KeepRecord,
    MakeHandshake,
    PublishCertificates,
    SayLine,
    SayNotice,
    Settle,
    ShelfRead,
    TakenByAll,
    TimeCame,
    TryFailed,
    TrySucceeded,
    WishesChanged,
)

NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 86400.0
DIRECTORY = "https://authority.example/directory"

C = TypeVar("C")


def want(name: str = "a", *domains: str, **more: Any) -> WantedCertificate:
    """For NAME.example where no domains are said."""
    return WantedCertificate(name=name, domains=domains or (f"{name}.example",), **{"directory": DIRECTORY, **more})


def held(*names: str, number: int = 1, at: float = NOW, life: float = 90 * DAY) -> HeldCertificate:
    """number: certificates with different ones are different."""
    told = f"{'+'.join(names)} {number} {at:.0f} {life:.0f}"
    return HeldCertificate(Issued(f"cert {told}", f"key {told}"), names, at, at + life, told.replace(" ", "-"))


def of(commands: list[Command], kind: type[C]) -> list[C]:
    return [one for one in commands if isinstance(one, kind)]


def spoken(commands: list[Command]) -> list[str]:
    return [one.message for one in of(commands, SayLine)]


class Script:
    """What the core is told; what is published and the shelf are kept as the actor keeps them."""

    def __init__(self, *wanted: WantedCertificate, is_disabled: bool = False, **own: HeldCertificate) -> None:
        self.core = AcmeCore(is_disabled)
        self.now = NOW
        self.version = 0
        self.publications = 0
        self.shelf: dict[str, HeldCertificate] = {}
        self.records: dict[str, TryRecord] = {}
        self.wanted = {one.name: one for one in wanted}
        self.own: Mapping[str, HeldCertificate] = own

    def on(self, *events: Event) -> list[Command]:
        """What they lead to. What is to be published is at once, as by the actor."""
        out: list[Command] = []
        for event in events:
            todo = [event]
            while todo:
                commands = self.core.handle(todo.pop(0), self.now)
                out += commands
                for one in commands:
                    if isinstance(one, PublishCertificates):
                        self.version += 1
                        self.publications += 1
                        todo.append(CertificatesPublished(self.version))
                    elif isinstance(one, KeepRecord):
                        self.records[one.id] = one.record
        return out

    def wish(self, *wanted: WantedCertificate, **own: HeldCertificate) -> list[Command]:
        self.wanted, self.own = {one.name: one for one in wanted}, own
        return self.on(WishesChanged(self.wanted, own)) + self.read()

    def read(self) -> list[Command]:
        ids = [one.id for one in self.wanted.values()]
        return self.on(ShelfRead(dict(self.shelf), {id: self.records.get(id, NO_RECORD) for id in ids}, self.core.gains))

    def begin(self) -> list[Command]:
        """The configuration is there, and the shelf was read."""
        return self.wish(*self.wanted.values(), **self.own)

    def later(self, seconds: float = 0.0) -> list[Command]:
        self.now += seconds
        return self.on(TimeCame())

    def got(self, wanted: WantedCertificate, one: HeldCertificate | None = None, is_anothers: bool = False) -> list[Command]:
        """A try has brought it, and it is on the shelf."""
        one = one or held(*wanted.domains, at=self.now)
        self.shelf[wanted.id] = one
        return self.on(TrySucceeded(wanted, one, is_anothers))

    def fail(self, wanted: WantedCertificate, reason: str = "no", **more: Any) -> list[Command]:
        return self.on(TryFailed(wanted, reason, **more))

    def taken(self) -> list[Command]:
        return self.on(TakenByAll(self.version))

    def shown(self, commands: list[Command], failure: str = "") -> list[Command]:
        """The handshakes that these commands ask for are made."""
        return self.on(*(HandshakeMade(one.name, one.fingerprint, failure) for one in of(commands, MakeHandshake)))

    def served(self, wanted: WantedCertificate, one: HeldCertificate | None = None) -> list[Command]:
        """All of it from the end of a try on."""
        return self.got(wanted, one) + self.shown(self.taken())


def tried(commands: list[Command]) -> list[str]:
    return [one.wanted.name for one in of(commands, BeginTry)]


def settled(commands: list[Command]) -> list[tuple[str, str]]:
    return [(one.name, one.error) for one in of(commands, Settle)]


def noticed(commands: list[Command]) -> list[str]:
    return [one.message for one in of(commands, SayNotice)]
