"""Configuration generations as a stage keeps them (bus/PROTOCOL.md section 6).

A stage compiles the candidate, answers ACCEPTED or REFUSED, and goes by the committed
one. Without a config actor it goes on with what it has; a restarted one gives
higher numbers, so nothing compiled is ever mistaken for something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from pingap.bus.actor import Context
from pingap.config.model import Snapshot
from pingap.stages.messages import Accepted, InUse, Refused

T = TypeVar("T")


class Generations(Generic[T]):
    """What a stage compiled of each generation that a stream may still carry.

    compile: of a snapshot and its itinerary flags by location; whatever it raises
    refuses the generation, with the text as the reason. What is to be awaited is
    awaited, one generation at a time.
    committed: called with each number from which new streams are to be served.
    """

    def __init__(
        self,
        context: Context,
        compile: Callable[[Snapshot, dict[str, int]], T | Awaitable[T]],
        committed: Callable[[int, T], None] | None = None,
    ) -> None:
        self.newest = 0
        """The newest committed generation; 0 before the first."""
        self._context = context
        self._compile = compile
        self._committed = committed
        self._compiled: dict[int, T] = {}
        self._failed: dict[int, str] = {}
        self._compiling: asyncio.Task[None] | None = None
        self._value: Any = None
        """What config said last."""
        self._answered: dict[int, frozenset[int]] = {}
        # Only accept sees both ends of every stream, so it alone says which generations streams still carry.
        self._tells_use = context.stage == "accept"
        self._oldest = 0
        self._told: tuple[int, frozenset[int]] = (0, frozenset())

    def start(self) -> None:
        """Follows the configuration; `committed` is called as soon as there is one."""
        self._context.follow("config", "config", self._changed)

    def stop(self) -> None:
        """Compiles no further."""
        if self._compiling is not None:
            self._compiling.cancel()

    def get(self, number: int) -> T | None:
        """What was compiled of a generation; None if it is retired, refused or not known here."""
        return self._compiled.get(number)

    # -- which generations streams carry ---------------------------------------

    def in_use(self, oldest: int) -> None:
        """Accept only, looked at now and then rather than counted for each request: the oldest generation that a
        stream without a response head carries; the newest if there is none."""
        if oldest != self._oldest:
            self._oldest = oldest
            self._tell_use()

    def _tell_use(self) -> None:
        if not self._tells_use or not self.newest:
            return
        news = (self._oldest or self.newest, self._config_actors())
        if news != self._told:
            self._told = news
            for actor in news[1]:
                self._context.send(actor, InUse(self._context.id, news[0]))

    # -- what config says ---------------------------------------------------------

    def _changed(self, value: Any) -> None:
        self._value = value
        self._look()

    def _look(self) -> None:
        value = self._value
        committed, candidate = value["committed"], value["candidate"]
        if committed:
            self._take(committed, value["current"])
        if committed and committed != self.newest and committed in self._compiled:
            self.newest = committed
            if self._committed is not None:
                self._committed(committed, self._compiled[committed])
        if candidate:
            self._take(candidate, value["next"])
        self._retire(value["oldest"], candidate)
        self._tell_use()

    def _take(self, number: int, wire: Any) -> None:
        """Compiles a generation once and answers for it once to each config actor."""
        if number not in self._compiled and number not in self._failed:
            if self._compiling is not None:
                return  # `_look` comes again when that is done
            try:
                made = self._compile(Snapshot.from_wire(wire["snapshot"]), wire["plans"])
            except Exception as error:  # whatever it is, config must hear it, or every stage would wait for this one
                self._refuse(number, error)
            else:
                if isawaitable(made):
                    self._compiling = self._context.loop.create_task(self._compile_on(number, made))
                    return
                self._compiled[number] = made
        me, reason = self._context.id, self._failed.get(number)
        actors = self._config_actors()
        for actor in actors - self._answered.get(number, frozenset()):
            self._context.send(actor, Accepted(me, number) if reason is None else Refused(me, number, reason))
        self._answered[number] = actors

    async def _compile_on(self, number: int, waits: Awaitable[T]) -> None:
        try:
            self._compiled[number] = await waits
        except Exception as error:
            self._refuse(number, error)
        finally:
            self._compiling = None
        self._look()

    def _refuse(self, number: int, error: Exception) -> None:
        self._failed[number] = str(error) or type(error).__name__
        self._context.log("error", "configuration refused", generation=number, reason=self._failed[number])

    def _retire(self, oldest: int, candidate: int) -> None:
        """Forgets generations that no stream carries any more, and candidates that were withdrawn."""
        keep = {self.newest, candidate}
        for numbers in (self._compiled, self._failed, self._answered):
            for number in [n for n in numbers if n not in keep and not oldest <= n <= self.newest]:
                del numbers[number]

    def _config_actors(self) -> frozenset[int]:
        return frozenset(member.id for member in self._context.members.of_stage("config"))
