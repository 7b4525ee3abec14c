"""A connection that is being opened, and the exchanges that it is for."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from pingap.bus.descriptors import is_short
from pingap.stages.lookups import NoSlot
from pingap.stages.upstream.core import Failure
from pingap.stages.upstream.http1 import BackendConnection
from pingap.stages.upstream.pool import BackendState

if TYPE_CHECKING:
    from pingap.stages.upstream.actor import UpstreamActor
    from pingap.stages.upstream.attempts import Attempts


class Connecting:
    """Several exchanges wait for the same one where it will be shared, or may be."""

    __slots__ = ("_actor", "_backend", "_is_apart", "_only_http1", "_task", "name", "room", "waiting")

    def __init__(self, actor: UpstreamActor, backend: BackendState, name: str, only_http1: bool, is_apart: bool = False) -> None:
        """only_http1: HTTP/2 will not do for the exchange that it is for. is_apart: over HTTP/2 it shall have none beside it."""
        self._actor = actor
        self._backend = backend
        self._only_http1 = only_http1
        self._is_apart = is_apart
        self.name = name
        """Whom the backend has to prove to be."""
        self.room = 1 if backend.is_http1 or only_http1 or is_apart else backend.streams
        """Exchanges that it will have room for, as far as is known."""
        self.waiting: list[Attempts] = []
        backend.open += 1
        backend.connecting[self] = None
        self._task = actor.context.loop.create_task(self._run())

    def leave(self, exchange: Attempts) -> None:
        """One that waited does so no longer."""
        self.waiting.remove(exchange)
        if not self.waiting:
            # Counted off here and not in the task, which may not even have begun.
            self._task.cancel()
            del self._backend.connecting[self]
            self._backend.lost_one()

    async def _run(self) -> None:
        backend = self._backend
        began = monotonic()
        failure, detail = None, ""
        try:
            connection = await self._actor.connect(backend, self.name, self._only_http1)
            if not connection.has_room:
                connection.close()
                raise ConnectionError("the backend lets us open no streams")
        except NoSlot as error:
            failure, detail = Failure.NO_LOOKUP, str(error)
        except TimeoutError as error:
            failure, detail = Failure.CONNECT_TIMEOUT, str(error)
        except Exception as error:  # mostly OSError, but a name that cannot be a name is a ValueError
            failure, detail = Failure.NO_DESCRIPTOR if is_short(error) else Failure.CONNECT, str(error)
        except asyncio.CancelledError:
            if not self.waiting:
                raise  # by `leave`
            failure, detail = Failure.CONNECT, "connecting was called off"  # by whatever it awaits: they would wait for ever
        del backend.connecting[self]
        waiting, self.waiting = self.waiting, []
        if failure is not None:
            backend.lost_one()
            for exchange in waiting:
                if not self._only_http1 and backend.is_for_http1(exchange.routed, monotonic()):
                    exchange.connect_once_more()  # which the backend has asked for on the connection that failed
                else:
                    exchange.connect_failed(failure, detail)
            return
        connection.is_counted = True
        seconds = connection.connect_seconds or (monotonic() - began,)
        if isinstance(connection, BackendConnection):
            backend.is_http1 = backend.is_http1 or not self._only_http1
            waiting[0].connected(connection, seconds)
            left = waiting[1:]
        else:
            backend.is_http1 = False
            left = []
            connection.stand_by(self._is_apart)
            for exchange in waiting:
                if connection.has_room:
                    exchange.connected(connection.channel(), seconds)
                    seconds = ()
                else:
                    left.append(exchange)
        for exchange in left:
            exchange.connect_once_more()
        if backend.pending:
            backend.serve_line()
