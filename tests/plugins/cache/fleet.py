"""Several replicas of the plugins stage and their flights, without processes: nothing is sent unless `deliver` does it."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from pingap.bus.members import DRAINING, READY, Members
from pingap.stages.caching.entry import CacheEntry
from pingap.stages.messages import FlightAsk, FlightGrew, FlightJoin, FlightLeft, FlightNews, FlightsAsk, FlightsKnown, FlightTold
from pingap.stages.owners import owner_among
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.flights import Flights, name_of
from tests.kit.context import FakeContext

ACCEPT, SECOND_ACCEPT = 1, 2
SID, FAR = (ACCEPT << 32) + 7, (SECOND_ACCEPT << 32) + 7
STORE = "/run/cache"
LOCK = 3.0


def entry_of(length: int = -1, key: bytes = b"k") -> CacheEntry:
    return CacheEntry(key, 200, b"content-type: text/plain\r\n", length, 0.0, 0.0, 9.0, 0.0, 0.0, 0)


class Part:
    """A part file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.size = 0
        path.touch()

    def write(self, data: bytes) -> None:
        with Path(self.path).open("ab") as file:
            file.write(data)
        self.size += len(data)


class Asked:
    """What one stream has heard."""

    def __init__(self, answer: FlightAnswer | Awaitable[FlightAnswer]) -> None:
        self._answer: Any = answer

    @property
    def is_told(self) -> bool:
        return isinstance(self._answer, FlightAnswer) or self._answer.done()

    @property
    def answer(self) -> FlightAnswer:
        found = self._answer if isinstance(self._answer, FlightAnswer) else self._answer.result()
        assert isinstance(found, FlightAnswer)
        return found

    @property
    def kind(self) -> int:
        """0 while it waits."""
        return self.answer.kind if self.is_told else 0

    @property
    def lease(self) -> Any:
        assert self.answer.lease is not None, self.answer
        return self.answer.lease

    def cancel(self) -> None:
        self._answer.cancel()


class FlightReplica:
    def __init__(self, fleet: FlightFleet, actor: int) -> None:
        self.context = FakeContext("s", actor)
        self.flights = Flights(self.context, lambda: fleet.now)

    def ask(self, sid: int = SID, key: bytes = b"k", since: int = 0, lock: float = LOCK, has_stale: bool = False) -> Asked:
        return Asked(self.flights.ask(STORE, key, sid, since, lock, has_stale))

    def hand(self, message: Any) -> None:
        flights = self.flights
        receivers: dict[type, Any] = {
            FlightAsk: flights.asked,
            FlightTold: flights.told,
            FlightNews: flights.news,
            FlightLeft: flights.left,
            FlightJoin: flights.join_asked,
            FlightGrew: flights.grew,
            FlightsAsk: flights.flights_asked,
            FlightsKnown: flights.flights_known,
        }
        receivers[type(message)](message)


class FlightFleet:
    """Replicas 100, 101, … of stage `s`."""

    def __init__(self, count: int = 3) -> None:
        self.now = 100.0
        self.states = {100 + number: READY for number in range(count)}
        self.accepts = {ACCEPT, SECOND_ACCEPT}
        self.replicas = {actor: FlightReplica(self, actor) for actor in self.states}
        self._seq = 0
        self.announce(frozenset())
        self.now += 1.0  # all is settled

    def __getitem__(self, actor: int) -> FlightReplica:
        return self.replicas[actor]

    def announce(self, gone: frozenset[int], *only: int) -> None:
        """only: those who see the new table; all if not said."""
        for actor in gone:
            self.states.pop(actor, None)
        self.accepts -= gone
        if not only:
            self._seq += 1
        rows: list[Any] = [(actor, "accept", actor, "", READY) for actor in self.accepts]
        rows += [(actor, "s", actor % 100, "", state) for actor, state in self.states.items()]
        for actor in only or tuple(self.states):
            self.replicas[actor].context.members = Members.of(self._seq, max(self.replicas), rows)
            self.replicas[actor].flights.members_changed(gone)

    def kill(self, *actors: int) -> None:
        self.announce(frozenset(actors))

    def drain(self, actor: int) -> None:
        self.states[actor] = DRAINING
        self.announce(frozenset())

    def add(self, actor: int) -> FlightReplica:
        """One that has seen no table yet."""
        replica = self.replicas[actor] = FlightReplica(self, actor)
        return replica

    def join(self, actor: int) -> FlightReplica:
        replica = self.add(actor)
        self.states[actor] = READY
        self.announce(frozenset())
        return replica

    def key_of(self, owner: int, after: int = 0, joining: int = 0) -> bytes:
        """One that a replica owns now; and, of another, if that joins."""
        members = self.replicas[next(iter(self.states))].context.members
        then = Members.of(0, 0, [(actor, "s", actor % 100, "", READY) for actor in [*self.states, joining] if actor])
        for number in range(after, 100_000):
            key = b"k%d" % number
            name = name_of(STORE, key)
            if owner_among(name, members.ready("s")) == owner and (not joining or owner_among(name, then.ready("s")) == joining):
                return key
        raise AssertionError("none")

    def deliver(self) -> list[tuple[int, int, type]]:
        """Delivers until nothing is on the way: (from, to, kind) of what was."""
        seen: list[tuple[int, int, type]] = []
        while on_way := [(actor, *sent) for actor, one in self.replicas.items() for sent in one.context.sent]:
            for one in self.replicas.values():
                one.context.sent = []
            for source, to, message in on_way:
                seen.append((source, to, type(message)))
                if to in self.states and source in self.replicas:
                    self.replicas[to].hand(message)
        return seen

    def carry(self, source: int, to: int) -> None:
        """Delivers what is on the way from one to another, and nothing else."""
        sent = self.replicas[source].context.sent
        self.replicas[source].context.sent = [entry for entry in sent if entry[0] != to]
        for _, message in [entry for entry in sent if entry[0] == to]:
            self.replicas[to].hand(message)

    def sweep(self, seconds: float) -> None:
        self.now += seconds
        for actor in self.states:
            self.replicas[actor].flights.sweep()

    def stop(self) -> None:
        for replica in self.replicas.values():
            replica.flights.stop()
