"""Streams that cannot go on as they are: an actor of theirs has died, or no crew is complete (bus/PROTOCOL.md section 8).

core.py says what becomes of each; here the survivors are asked, it is done, and nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pingap.bus.members import Members
from pingap.stages.accept.core import Fate, State, after_recall, fate
from pingap.stages.accept.stream import Stream
from pingap.stages.messages import Recall, Recalled, Stranded

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor

MAX_WAITING: Final = 4096
"""Streams that may wait for a crew; beyond it 503."""

WAIT: Final = 5.0
"""Seconds that a stream waits for a crew before 503."""

RECALL_WAIT: Final = 2.0
"""Seconds that survivors have to answer RECALL before 502."""


class Recovery:
    def __init__(self, actor: AcceptActor) -> None:
        self._actor = actor
        self._send: Callable[[int, Any], None] = actor.context.send
        self._waiting: deque[Stream] = deque()
        """For a crew."""
        self._recalling: set[Stream] = set()
        """For survivors to say how far they had come."""

    # -- no crew ----------------------------------------------------------------

    def await_crew(self, stream: Stream) -> None:
        """It is sent as soon as there is one."""
        stream.state = State.WAITING
        stream.deadline = monotonic() + WAIT
        if len(self._waiting) >= MAX_WAITING:
            self._actor.context.loop.call_soon(self._actor.shed, stream, stream.sid)
        else:
            self._waiting.append(stream)

    def crew_found(self, has_plugins: bool) -> None:
        """All that wait may go, but those that need plugins while there are none."""
        waiting, self._waiting = self._waiting, deque()
        for stream in waiting:
            if stream.state is State.WAITING and stream.sid in self._actor.streams:
                if has_plugins or not stream.needs_plugins:
                    self._actor.send_again(stream)
                else:
                    self._waiting.append(stream)

    def stranded(self, stranded: Stranded) -> None:
        """Routing has found that it needs plugins, of which nobody was ready when it began."""
        stream = self._actor.streams.get(stranded.sid)
        if stream is None or stream.state not in (State.ASKED, State.RECALLING):
            return
        self.settled(stream)
        stream.needs_plugins = True
        if self._actor.has_plugins:
            self._actor.send_again(stream)
        else:
            self.await_crew(stream)

    # -- an actor has died ----------------------------------------------------------

    def actors_died(self, streams: Iterable[Stream], gone: frozenset[int], members: Members) -> None:
        """Looks at all streams that were on their way. members: the table without the dead."""
        for stream in [s for s in streams if s.state is not State.WAITING]:
            source = stream.response.source if stream.response is not None else 0
            verdict = fate(stream.state, stream.request.affinity, source, gone, stream.replayable, stream.resent, stream.is_whole)
            if verdict is Fate.RECALL:
                self._recall(stream, members)
            else:
                self._carry_out(stream, verdict)

    def _recall(self, stream: Stream, members: Members) -> None:
        stream.state = State.RECALLING
        stream.deadline = monotonic() + RECALL_WAIT
        # By the table, not by who died just now: this may be the second death while the stream is asked after.
        survivors = {a for a in (stream.request.affinity.plugins, stream.request.affinity.upstream) if a in members.by_id}
        stream.answers = dict.fromkeys(survivors)
        self._recalling.add(stream)
        for actor in survivors:
            self._send(actor, Recall(stream.sid, self._actor.context.id))

    def recalled(self, answer: Recalled) -> None:
        """A survivor says how far a stream had come."""
        stream = self._actor.streams.get(answer.sid)
        if stream is None or stream.state is not State.RECALLING or stream.answers is None:
            return
        stream.answers[answer.actor] = answer.state
        answers = {actor: state for actor, state in stream.answers.items() if state is not None}
        if len(answers) < len(stream.answers):
            return
        self._recalling.discard(stream)
        stream.state = State.ASKED
        self._carry_out(stream, after_recall(answers, stream.replayable, stream.resent))

    def _carry_out(self, stream: Stream, verdict: Fate) -> None:
        actor = self._actor
        if verdict is Fate.RESEND and (stream.request.ended or not stream.wanter):
            actor.cancel(stream, "sent again")
            stream.resent = True
            actor.send_again(stream)
        elif verdict in (Fate.RESEND, Fate.ANSWER):  # a body that has begun to flow cannot be sent twice
            actor.cancel(stream, "stage lost")
            stream.connection.fail(stream, "stage_lost")
        elif verdict is Fate.CUT:
            stream.failed = "stage_lost"
            stream.connection.cut(stream)

    # -- ends -----------------------------------------------------------------------

    def settled(self, stream: Stream) -> None:
        """Its survivors are not waited for any more: the answer has come, or it is over."""
        self._recalling.discard(stream)

    def sweep(self, now: float) -> None:
        """Ends what has waited for too long."""
        waiting = self._waiting
        while waiting and (waiting[0].deadline <= now or waiting[0].sid not in self._actor.streams):
            stream = waiting.popleft()
            if stream.state is State.WAITING:
                self._actor.shed(stream, stream.sid)
        for stream in [s for s in self._recalling if s.deadline <= now]:
            self._recalling.discard(stream)
            self._carry_out(stream, Fate.ANSWER)
