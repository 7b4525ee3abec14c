"""Streams that cannot go on as they are: an actor of theirs has died, or no crew is complete (bus/PROTOCOL.md section 8).

fate.py says what becomes of each; here the survivors are asked, it is done, and nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, Protocol

from pingap.bus.actor import Context
from pingap.bus.members import Members
from pingap.stages.fate import Fate, after_recall, fate
from pingap.stages.messages import Recall, Recalled, Stranded
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ASKED, RECALLING, WAITING

MAX_WAITING: Final = 4096
"""Streams that may wait for a crew; beyond it 503."""

WAIT: Final = 5.0
"""Seconds that a stream waits for a crew before 503."""

RECALL_WAIT: Final = 2.0
"""Seconds that survivors have to answer RECALL before 502."""


class Owner(Protocol):
    """What is asked of who owns the streams."""

    by_sid: dict[int, OwnedStream]

    @property
    def has_plugins(self) -> bool:
        """New streams get a replica of plugins, too."""

    def send_again(self, stream: OwnedStream) -> None:
        """Sends it as if it had not been sent before."""

    def cancel(self, stream: OwnedStream, reason: str) -> None:
        """Has its actors forget it."""

    def shed(self, stream: OwnedStream, sid: int) -> None:
        """Answers that it cannot be served now, if it still has this sid."""


class Recovery:
    """Of the streams of one owner."""

    def __init__(self, context: Context, owner: Owner) -> None:
        self._context = context
        self._owner = owner
        self._send: Callable[[int, Any], None] = context.send
        self._waiting: deque[OwnedStream] = deque()
        """For a crew."""
        self._recalling: set[OwnedStream] = set()
        """For survivors to say how far they had come."""

    # -- no crew ----------------------------------------------------------------

    def await_crew(self, stream: OwnedStream) -> None:
        """It is sent as soon as there is one."""
        stream.state = WAITING
        stream.deadline = monotonic() + WAIT
        if len(self._waiting) >= MAX_WAITING:
            self._context.loop.call_soon(self._owner.shed, stream, stream.sid)
        else:
            self._waiting.append(stream)

    def crew_found(self, has_plugins: bool) -> None:
        """All that wait may go, but those that need plugins while there are none."""
        waiting, self._waiting = self._waiting, deque()
        for stream in waiting:
            if stream.state is WAITING and stream.sid in self._owner.by_sid:
                if has_plugins or not stream.needs_plugins:
                    self._owner.send_again(stream)
                else:
                    self._waiting.append(stream)

    def stranded(self, stranded: Stranded) -> None:
        """Routing has found that it needs plugins, of which nobody was ready when it began."""
        stream = self._owner.by_sid.get(stranded.sid)
        if stream is None or stream.state not in (ASKED, RECALLING):
            return
        self.settled(stream)
        stream.needs_plugins = True
        if self._owner.has_plugins:
            self._owner.send_again(stream)
        else:
            self.await_crew(stream)

    # -- an actor has died ----------------------------------------------------------

    def actors_died(self, streams: Iterable[OwnedStream], gone: frozenset[int], members: Members) -> None:
        """Looks at all streams that were on their way. members: the table without the dead."""
        for stream in [s for s in streams if s.state is not WAITING]:
            source = stream.response.source if stream.response is not None else 0
            verdict = fate(stream.state, stream.request.affinity, source, gone, stream.replayable, stream.resent)
            if verdict is Fate.RECALL:
                self._recall(stream, members)
            else:
                self._carry_out(stream, verdict)

    def _recall(self, stream: OwnedStream, members: Members) -> None:
        stream.state = RECALLING
        stream.deadline = monotonic() + RECALL_WAIT
        # By the table, not by who died just now: this may be the second death while the stream is asked after.
        survivors = {a for a in (stream.request.affinity.plugins, stream.request.affinity.upstream) if a in members.by_id}
        stream.answers = dict.fromkeys(survivors)
        self._recalling.add(stream)
        for actor in survivors:
            self._send(actor, Recall(stream.sid, self._context.id))

    def recalled(self, answer: Recalled) -> None:
        """A survivor says how far a stream had come."""
        stream = self._owner.by_sid.get(answer.sid)
        if stream is None or stream.state is not RECALLING or stream.answers is None:
            return
        stream.answers[answer.actor] = answer.state
        answers = {actor: state for actor, state in stream.answers.items() if state is not None}
        if len(answers) < len(stream.answers):
            return
        self._recalling.discard(stream)
        stream.state, stream.quiet_since = ASKED, 0.0
        self._carry_out(stream, after_recall(answers, stream.replayable, stream.resent))

    def _carry_out(self, stream: OwnedStream, verdict: Fate) -> None:
        owner = self._owner
        if verdict is Fate.RESEND and (stream.request.ended or not stream.wanter):
            owner.cancel(stream, "sent again")
            stream.resent = True
            owner.send_again(stream)
        elif verdict in (Fate.RESEND, Fate.ANSWER):  # a body that has begun to flow cannot be sent twice
            owner.cancel(stream, "stage lost")
            stream.client.fail("stage_lost")
        elif verdict is Fate.CUT:
            stream.failed = "stage_lost"
            stream.client.cut()

    # -- ends -----------------------------------------------------------------------

    def settled(self, stream: OwnedStream) -> None:
        """Its survivors are not waited for any more: the answer has come, or it is over."""
        self._recalling.discard(stream)

    def sweep(self, now: float) -> None:
        """Ends what has waited for too long."""
        waiting = self._waiting
        while waiting and (waiting[0].deadline <= now or waiting[0].sid not in self._owner.by_sid):
            stream = waiting.popleft()
            if stream.state is WAITING:
                self._owner.shed(stream, stream.sid)
        for stream in [s for s in self._recalling if s.deadline <= now]:
            self._recalling.discard(stream)
            self._carry_out(stream, Fate.ANSWER)
