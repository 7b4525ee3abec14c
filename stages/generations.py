"""Configuration generations as a stage keeps them (bus/PROTOCOL.md section 6).

A stage compiles the candidate, answers ACCEPTED or REFUSED, and goes by the committed
one. Without a config actor it goes on with what it has; a restarted one gives
higher numbers, so nothing compiled is ever mistaken for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar, cast

from pingap.bus.actor import Context
from pingap.stages.making import Compile, Making
from pingap.stages.messages import Accepted, InUse, Refused

T = TypeVar("T")


class Generations(Generic[T]):
    """What a stage compiled of each generation that a stream may still carry.

    sections: those of a snapshot that it needs (stages/bundles.py); in what is compiled the others are empty.
    compile: of a snapshot and its itinerary flags by location; whatever it raises
    refuses the generation, with the text as the reason. What comes in steps is taken a
    slice a loop turn, and what is to be awaited is awaited, one generation at a time.
    committed: called with each number from which new streams are to be served.
    """

    def __init__(
        self,
        context: Context,
        sections: Collection[str],
        compile: Compile[T],
        committed: Callable[[int, T], None] | None = None,
    ) -> None:
        self.newest = 0
        """The newest committed generation; 0 before the first."""
        self._context = context
        self._sections = sections
        self._compile = compile
        self._committed = committed
        self._compiled: dict[int, T] = {}
        self._failed: dict[int, str] = {}
        self._making: Making[T] | None = None
        self._is_looking = False
        self._blobs: dict[bytes, bytes] = {}
        """Bundles of the generation that was unpacked last: the next one has most of them too."""
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
        if self._making is not None:
            self._making.stop()

    def get(self, number: int) -> T | None:
        """What was compiled of a generation; None if it is retired, refused or not known here."""
        return self._compiled.get(number)

    def instead_of(self, number: int) -> T | None:
        """What serves a request of a generation that is not known here: the newest, if that one is older. Else None.

        A replica that has just started has the newest generation only, and accept may not have heard of that yet, or had sent the
        request by then. Nothing of the request was done here, and nothing can be asked for any more that was there before.
        """
        return self._compiled.get(self.newest) if number < self.newest else None

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
        self._is_looking = True
        try:
            self._look_at(self._value)
        finally:
            self._is_looking = False

    def _look_at(self, value: Any) -> None:
        committed, candidate = value["committed"], value["candidate"]
        making = self._making
        if making is not None and making.is_fetching and making.number not in (committed, candidate):
            making.stop()  # it was withdrawn: the rest of it never comes
            self._making = None
        if committed:
            self._take(committed, value["current"])
        if committed and committed != self.newest and committed in self._compiled:
            self._oldest = self._oldest or committed  # streams may carry it from now on, though nobody has looked yet
            self.newest = committed
            if self._committed is not None:
                self._committed(committed, self._compiled[committed])
        if candidate:
            self._take(candidate, value["next"])
        self._retire(value["oldest"], candidate)
        self._tell_use()

    def _take(self, number: int, contents: Any) -> None:
        """Compiles a generation once and answers for it once to each config actor."""
        if number not in self._compiled and number not in self._failed:
            if self._making is None:
                self._making = Making(self._context, number, contents, self._sections, self._compile)
                self._making.start(self._blobs, self._made)
            if number not in self._compiled and number not in self._failed:
                return  # `_look` comes again when what is being made is done
        me, reason = self._context.id, self._failed.get(number)
        actors = self._config_actors()
        for actor in actors - self._answered.get(number, frozenset()):
            self._context.send(actor, Accepted(me, number) if reason is None else Refused(me, number, reason))
        self._answered[number] = actors

    def _made(self, making: Making[T]) -> None:
        self._making = None
        self._blobs = making.blobs
        if making.error is None:
            self._compiled[making.number] = cast(T, making.result)
        else:
            self._refuse(making.number, making.error)
        if not self._is_looking:
            self._look()

    def _refuse(self, number: int, error: Exception) -> None:
        self._failed[number] = str(error) or type(error).__name__
        # Why is for the config stage to tell: it knows which texts in it are secret.
        self._context.log("debug", "configuration refused", generation=number)

    def _retire(self, oldest: int, candidate: int) -> None:
        """Forgets generations that no stream carries any more, and candidates that were withdrawn."""
        keep = {self.newest, candidate}
        for numbers in (self._compiled, self._failed, self._answered):
            for number in [n for n in numbers if n not in keep and not oldest <= n <= self.newest]:
                del numbers[number]

    def _config_actors(self) -> frozenset[int]:
        return frozenset(member.id for member in self._context.members.of_stage("config"))
