"""The accept actor: its life, and what its parts are told of configuration and of other actors."""

from __future__ import annotations

import asyncio
import ssl
import sys
from time import monotonic
from typing import ClassVar, Final

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.config.model import Snapshot
from pingap.stages.accept.access_lines import AccessLines
from pingap.stages.accept.certificates import openssl_trial
from pingap.stages.accept.certificates.choice import Choice, compile_choices, refused_of
from pingap.stages.accept.certificates.minting import tally
from pingap.stages.accept.certificates.topic import NOTHING_YET, CertificatesFollower, CertificatesValue
from pingap.stages.accept.checks import check_states
from pingap.stages.accept.compiled import AcceptGeneration, compile_generation
from pingap.stages.accept.connections import Connections
from pingap.stages.accept.departures import Departures
from pingap.stages.accept.doors import Doors
from pingap.stages.accept.patience import REMOVED
from pingap.stages.accept.refusals import ErrorAnswers
from pingap.stages.broken import OfStreams
from pingap.stages.generations import Generations
from pingap.stages.messages import Broken, FiguresAsk, FiguresTold, GoesOn, Request
from pingap.stages.steps import Steps
from pingap.stages.streams import Streams

if sys.flags.dev_mode:
    check_states()


def before_forks() -> None:
    """In the spawner, before it forks the processes: so that it is tried out once for all of them."""
    openssl_trial.usable()


SWEEP: Final = 0.5
"""Seconds between two looks at the deadlines: they are seconds long, one timer each would cost a µs a request."""


CERTIFICATES: Final = 5.0
"""Seconds that the first connections wait for certificates that an authority has issued; those of others are served without them."""


SECTIONS: Final = ("basic", "servers", "locations", "upstreams", "plugins", "certificates")
"""Of a configuration, what this stage needs."""


class AcceptActor(OfStreams):
    stage: ClassVar[str] = "accept"
    speaks_to: ClassVar[tuple[str, ...]] = ("routing", "plugins", "upstream")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._generations: Generations[AcceptGeneration] = Generations(context, SECTIONS, self._compile, self._committed)
        self._lines = AccessLines(context)
        self.streams = Streams(context, self._generations, self._lines.record, self._patience)
        self._departures = Departures(self.streams)
        self._answers = ErrorAnswers(context, self.streams, self._lines)
        self._doors = Doors()
        self.connections = Connections(context, self._doors, self.streams, self._departures, self._answers)
        self._topic = CertificatesFollower(context, self._taken)
        self._used = NOTHING_YET
        """Of what was published, that with which each certificate was used last."""
        self._repeats = Repeats(context)
        self._has_told_why = False
        """Why keys of tickets cannot be set."""
        self._compiled: AcceptGeneration | None = None
        """What is served."""
        self._sweeper: asyncio.TimerHandle | None = None

    def receivers(self) -> Receivers:
        return {**self.streams.receivers(), GoesOn: self._departures.told, FiguresAsk: self._figures_asked}

    def broken(self, broken: Broken) -> None:
        self.streams.broken(broken)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self.streams.members_changed(members, gone)

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._topic.start()
        self._generations.start()
        self._sweep()

    def _compile(self, snapshot: Snapshot, plans: dict[str, int]) -> Steps[AcceptGeneration]:
        # At the start nobody is there to hear that what was issued does not go with it: `_choices` does without that.
        return compile_generation(snapshot, plans, self._topic.now if self._compiled is not None else NOTHING_YET)

    def _committed(self, generation: int, compiled: AcceptGeneration) -> None:
        self._answers.pages = compiled.pages
        # A server that the file no longer names is logged until the restart that its removal needs.
        self._lines.renders |= compiled.lines
        self._lines.hidden = compiled.hidden or None
        self._departures.servers = compiled.patient
        for name in compiled.servers.keys() - compiled.lines.keys():
            self._lines.renders.pop(name, None)
        is_first, self._compiled = self._compiled is None, compiled
        if is_first:
            self.context.loop.create_task(self._listen())
        else:
            self._doors.update(compiled.servers, self._choices(compiled), compiled.trust, compiled.spelled)

    def _choices(self, compiled: AcceptGeneration) -> dict[str, Choice]:
        """Contexts that are in use are not made anew, so that this is cheap."""
        value = self._topic.now
        if value.version == compiled.topic_version:
            self._used = value
            return compiled.choices
        certificates = value.over(compiled.certificates)
        try:
            choices = compile_choices(compiled.servers, certificates)
        except ValueError:  # the acme stage has looked at each: it is only that it does not go together with a server's keys
            before = self._used.over(compiled.certificates)
            for name, reason in refused_of(compiled.servers, certificates).items():
                self._repeats.log(
                    "error", "a certificate that was issued cannot be used: the one before is", certificate=name, reason=reason
                )
                certificates[name] = before[name]
            choices = compile_choices(compiled.servers, certificates)
        self._used = value.but(certificates)
        return choices

    def _taken(self, value: CertificatesValue) -> bool:
        """CertificatesFollower has another value. Says whether it is gone by; by one certificate or another it may not be."""
        try:
            self._use_rest(value)
            compiled = self._compiled
            if compiled is not None:
                self._doors.update(compiled.servers, self._choices(compiled), compiled.trust, compiled.spelled)
        except (ssl.SSLError, OSError, ValueError) as error:
            self._repeats.log("error", "what the acme stage hands over cannot be used: what was there before is", reason=str(error))
            return False
        return True

    def _use_rest(self, value: CertificatesValue) -> None:
        reason = self._doors.use_rest(value)
        if reason and not self._has_told_why:
            self._has_told_why = True
            message = "session tickets end with this run, and no OCSP staples are given: Python's ssl does not let us"
            self.context.log("warn", message, reason=reason)

    async def _listen(self) -> None:
        compiled = self._compiled
        assert compiled is not None
        try:
            if any(certificate.acme for certificate in compiled.certificates.values()):
                await self._topic.wait(CERTIFICATES)
                compiled = self._compiled or compiled
            listeners = self.context.settings.get("listeners", [])
            choices = self._choices(compiled)
            self._doors.open(self.context.descriptors, listeners, compiled.servers, choices, compiled.trust, compiled.spelled)
            self._taken(self._topic.now)  # when it came there were no servers to use it
            await self._doors.listen(self.connections)
        except Exception as error:
            self.context.boot_failed(f"cannot listen: {error}")
        else:
            self.context.ready()

    def _sweep(self) -> None:
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)  # first: an error below must not end all deadlines
        now = monotonic()
        self.connections.sweep(now)
        self.streams.sweep(now)
        self._generations.in_use(self.streams.oldest_generation())
        if tally:
            self._count_minted()

    def _count_minted(self) -> None:
        for (section, kind), number in tally.items():
            if kind:
                self.context.count("certificates_not_minted", number, certificate=section, reason=kind)
            else:
                self.context.count("certificates_minted", number, certificate=section)
        tally.clear()

    def _patience(self, request: Request) -> float:
        compiled = self._generations.get(request.generation)
        return compiled.patience.get(request.server, REMOVED) if compiled is not None else REMOVED

    def begin_drain(self, reprieve: float) -> None:
        self._doors.close()
        self.connections.drain(reprieve)

    def held(self) -> int:
        # Not streams: a connection that still has an answer to deliver, or a request half arrived, is to be waited for;
        # the idle ones are closed while draining.
        return len(self.connections.held) + self._departures.held()

    async def stop(self) -> None:
        self._doors.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.streams.stop()  # the deadline of a stop or of a drain has passed: they are told, and logged
        await asyncio.sleep(0)  # HTTP/2 writes at the end of a turn
        self._lines.ship()
        self.connections.close()

    def _figures_asked(self, ask: FiguresAsk) -> None:
        """FIGURES_ASK: of a plugin that shows them."""
        self.context.send(ask.asker, FiguresTold(self.context.id, ask.ticket, self._requests(), len(self.streams.by_sid)))

    def _requests(self) -> int:
        return self.streams.begun + self._answers.refused_heads

    def figures(self) -> dict[str, float]:
        return {
            "in_flight": len(self.streams.by_sid),
            "requests": self._requests(),
            "connections": len(self.connections.held),
        }
