"""A connection that is being opened, and the exchanges that it is for."""

from __future__ import annotations

import asyncio
from time import monotonic

from pingap.bus.descriptors import is_short
from pingap.stages.lookups import NoSlot
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.dial import DestinationRefused
from pingap.stages.upstream.http1 import BackendConnection
from pingap.stages.upstream.pools import Pools
from pingap.stages.upstream.waiting import Waiter


class Connecting:
    """Several exchanges wait for the same one where it will be shared, or may be."""

    __slots__ = ("_backend", "_is_apart", "_only_http1", "_pools", "_task", "name", "room", "waiting")

    def __init__(self, pools: Pools, backend: BackendState, name: str, only_http1: bool, is_apart: bool = False) -> None:
        """only_http1: HTTP/2 will not do for the exchange that it is for. is_apart: over HTTP/2 it shall have none beside it."""
        self._pools = pools
        self._backend = backend
        self._only_http1 = only_http1
        self._is_apart = is_apart
        self.name = name
        """Whom the backend has to prove to be."""
        self.room = 1 if backend.is_http1 or only_http1 or is_apart else backend.streams
        """Exchanges that it will have room for, as far as is known."""
        self.waiting: list[Waiter] = []
        backend.connecting[self] = None
        self._task = pools.loop.create_task(self._run())

    def leave(self, waiter: Waiter) -> None:
        """One that waited does so no longer."""
        self.waiting.remove(waiter)
        if not self.waiting:
            # Counted off here and not in the task, which may not even have begun.
            self._task.cancel()
            del self._backend.connecting[self]
            self._pools.serve_line(self._backend)

    async def _run(self) -> None:
        backend = self._backend
        began = monotonic()
        outcome, detail = None, ""
        try:
            connection = await self._pools.open(backend, self.name, self._only_http1)
            if not connection.has_room:
                connection.close()
                raise ConnectionError("the backend lets us open no streams")
        except DestinationRefused as refused:
            outcome, detail = Outcome.DESTINATION, str(refused)
        except NoSlot as busy:
            outcome, detail = Outcome.NO_LOOKUP, str(busy)
        except TimeoutError as late:
            outcome, detail = Outcome.CONNECT_TIMEOUT, str(late)
        except Exception as error:  # mostly OSError, but a name that cannot be a name is a ValueError
            outcome, detail = Outcome.NO_DESCRIPTOR if is_short(error) else Outcome.CONNECT, str(error)
        except asyncio.CancelledError:
            if not self.waiting:
                raise  # by `leave`
            outcome, detail = Outcome.CONNECT, "connecting was called off"  # by whatever it awaits: they would wait for ever
        del backend.connecting[self]
        waiting, self.waiting = self.waiting, []
        if outcome is not None:
            self._pools.serve_line(backend)
            for waiter in waiting:
                if not self._only_http1 and backend.is_for_http1(waiter.routed, monotonic()):
                    waiter.connect_once_more()  # which the backend has asked for on the connection that failed
                else:
                    waiter.connect_failed(outcome, detail)
            return
        backend.connections.add(connection)
        seconds = connection.connect_seconds or (monotonic() - began,)
        if isinstance(connection, BackendConnection):
            backend.is_http1 = backend.is_http1 or not self._only_http1
            waiting[0].connected(connection, seconds)
            left = waiting[1:]
        else:
            backend.is_http1 = False
            left = []
            connection.stand_by(self._is_apart)
            for waiter in waiting:
                if connection.has_room:
                    waiter.connected(connection.channel(), seconds)
                    seconds = ()
                else:
                    left.append(waiter)
        for waiter in left:
            waiter.connect_once_more()
        self._pools.serve_line(backend)
