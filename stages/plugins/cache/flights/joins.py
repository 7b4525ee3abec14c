"""Who reads along, in both directions: the growths that this process knows, its own and those of others that it follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from pingap.bus.actor import Context
from pingap.bus.repeats import Repeats
from pingap.stages.messages import FlightGrew, FlightJoin
from pingap.stages.plugins.cache.flights.growth import Growth
from pingap.stages.plugins.cache.flights.lease import FlightLease
from pingap.stages.plugins.cache.flights.states import CUT, GIVEN_UP, GROWS, STORED, WHOLE, FlightId


class Joins:
    """Those of one process."""

    def __init__(self, context: Context, joined: Callable[[int, Growth | None], None]) -> None:
        """joined: what became of an ask that was to follow a flight of another process: its growth, or None: that is not to be had."""
        self._context = context
        self._repeats = Repeats(context)
        self._me = context.id
        self._joined = joined
        self._growths: dict[FlightId, Growth] = {}
        self._asks: dict[FlightId, list[int]] = {}
        """Asks of this process that wait for the head of a flight elsewhere."""
        self._grown: list[FlightLease] = []
        """Those that have grown in this turn of the loop, and of which others do not know it."""

    def __len__(self) -> int:
        """Bodies that grow, as far as this process knows."""
        return len(self._growths)

    # -- own fetches ----------------------------------------------------------------

    def begun(self, lease: FlightLease) -> None:
        """It has a growth."""
        assert lease.growth is not None
        self._growths[self._me, lease.ticket] = lease.growth

    def grown(self, lease: FlightLease) -> None:
        """Others hear of it once in a turn of the loop."""
        if lease.joined:
            if not self._grown:
                self._context.loop.call_soon(self._tell_growth)
            self._grown.append(lease)

    def _tell_growth(self) -> None:
        grown, self._grown = self._grown, []
        for lease in dict.fromkeys(grown):
            growth = lease.growth
            if growth is not None:
                for actor in lease.joined:
                    self._context.send(actor, FlightGrew(lease.ticket, self._me, GROWS, growth.size))

    def ended(self, lease: FlightLease) -> None:
        """All of its body is here, or no more will come: who reads along hears how it ended."""
        growth = self._growths.pop((self._me, lease.ticket), None)
        if growth is None:
            return
        state = WHOLE if growth.is_whole else CUT
        for actor in lease.joined:
            self._context.send(actor, FlightGrew(lease.ticket, self._me, state, growth.size, growth.cut_by))
        lease.joined.clear()

    def asked(self, join: FlightJoin, lease: FlightLease | None) -> None:
        """FLIGHT_JOIN: another process wants to read along, or says that it still does."""
        growth = lease.growth if lease is not None else None
        if lease is not None and join.asker in lease.joined:
            lease.is_followed = True
            if lease.state != GROWS:
                return  # it goes on for those that have joined
        if lease is None or growth is None or lease.state != GROWS:
            self._context.send(join.asker, FlightGrew(join.flight, self._me, GIVEN_UP if lease is None else STORED))
        elif not self._context.members.is_dead(join.asker):
            lease.joined.add(join.asker)
            lease.is_followed = True
            head = FlightGrew(join.flight, self._me, GROWS, growth.size, "", growth.path, growth.entry)
            self._context.send(join.asker, head)

    # -- fetches of others ------------------------------------------------------------

    def of(self, flight_id: FlightId) -> Growth | None:
        """What is known of it here already."""
        return self._growths.get(flight_id)

    def follow(self) -> None:
        """Tells those that fetch elsewhere what is still read here: they do not go on for ever for nobody."""
        for (fetcher, flight), growth in self._growths.items():
            if fetcher != self._me and growth.is_read:
                self._context.send(fetcher, FlightJoin(flight, self._me))

    def join(self, flight_id: FlightId, ask: int) -> None:
        """`joined` will be called, unless the one that fetches is silent."""
        asks = self._asks.setdefault(flight_id, [])
        asks.append(ask)
        if len(asks) == 1:
            self._context.send(flight_id[0], FlightJoin(flight_id[1], self._me))

    def forget(self, flight_id: FlightId, ask: int) -> None:
        """It waits no more."""
        asks = self._asks.get(flight_id)
        if asks is not None and ask in asks:
            asks.remove(ask)
            if not asks:
                del self._asks[flight_id]

    def grew(self, grew: FlightGrew) -> None:
        """FLIGHT_GREW."""
        flight_id = grew.fetcher, grew.flight
        growth = self._growths.get(flight_id)
        if growth is None:
            self._head_came(flight_id, grew)
            return
        if grew.state == GROWS:
            growth.grew(grew.size)
        elif grew.state == WHOLE:
            growth.end(grew.size)
        else:
            growth.cut(grew.reason or "internal")
        if growth.is_over:
            self._growths.pop(flight_id, None)

    def _head_came(self, flight_id: FlightId, grew: FlightGrew) -> None:
        growth = None
        if grew.state == GROWS and grew.entry is not None and flight_id in self._asks:
            try:
                growth = Growth(grew.entry, grew.path, grew.size)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):  # it has been put into the store meanwhile
                    self._repeats.log("warn", "a body that is being fetched cannot be read along", path=grew.path, error=str(error))
        if growth is not None and not growth.is_over:
            self._growths[flight_id] = growth
        if grew.entry is not None or grew.state != GROWS:
            self._tell(self._asks.pop(flight_id, ()), growth)

    def _tell(self, asks: Iterable[int], growth: Growth | None) -> None:
        for ask in asks:
            self._joined(ask, growth)

    # -- deaths -------------------------------------------------------------------------

    def gone(self, gone: Set[int]) -> None:
        """Actors have died: what they were filling is cut off, unless all of it was here."""
        for flight_id in [flight_id for flight_id in self._growths if flight_id[0] in gone]:
            self._growths.pop(flight_id).cut("stage_lost")
        for flight_id in [flight_id for flight_id in self._asks if flight_id[0] in gone]:
            self._tell(self._asks.pop(flight_id), None)
