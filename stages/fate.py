"""The crew of a stream, and its fate when an actor of that dies (bus/PROTOCOL.md section 8). Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from pingap.stages.messages import ANSWER_LOST, NOT_BEGUN, WILL_ANSWER, Affinity
from pingap.stages.stream_states import ANSWERING, WAITING, WHOLE, StreamState


class Fate(enum.Enum):
    KEEP = "goes on"
    RESEND = "sent once more"
    RECALL = "the survivors are asked"
    ANSWER = "answered with 502"
    CUT = "the connection is closed in mid-answer"


class ReadyActor(Protocol):
    @property
    def id(self) -> int: ...


class ActorTable(Protocol):
    """What is asked of the table of actors (bus.members.Members)."""

    def ready(self, stage: str) -> Sequence[ReadyActor]:
        """Actors of a stage that take new streams."""


def crews(members: ActorTable, own: Mapping[str, int] | None) -> list[Affinity]:
    """The affinities to hand out in turn; empty when routing or upstream has nobody ready. Without plugins only those
    requests wait that need one, which routing tells.

    own: the actors of the same process when placement is colocated: nothing leaves the process then.
    """
    if own:
        return [Affinity(own["routing"], own["plugins"], own["upstream"])]
    routing, plugins, upstream = ([member.id for member in members.ready(stage)] for stage in ("routing", "plugins", "upstream"))
    if not routing or not upstream:
        return []
    ranks = (routing, plugins or [0], upstream)
    return [Affinity(*(rank[turn % len(rank)] for rank in ranks)) for turn in range(max(map(len, ranks)))]


def fate(state: StreamState, affinity: Affinity, source: int, gone: frozenset[int], replayable: bool, resent: bool) -> Fate:
    """What becomes of a stream when the actors `gone` died.

    source: who sends its response body.
    """
    if state >= ANSWERING:
        # A body that comes through plugins comes from upstream too; one that plugins made up does not, but then
        # plugins ends it by itself: it tells by DATA with an error, so only the direct source counts here.
        return Fate.CUT if source in gone and state is not WHOLE else Fate.KEEP
    if state is WAITING or gone.isdisjoint(affinity):
        return Fate.KEEP
    again = Fate.ANSWER if resent else Fate.RESEND
    if affinity.upstream in gone:
        return again if replayable else Fate.ANSWER
    return Fate.RECALL


def after_recall(answers: Mapping[int, int], replayable: bool, resent: bool) -> Fate:
    """Fate of a stream once every survivor has answered RECALL with NOT_BEGUN, WILL_ANSWER or ANSWER_LOST."""
    states = answers.values()
    if any(state == WILL_ANSWER for state in states):
        return Fate.KEEP
    if resent:
        return Fate.ANSWER
    if all(state == NOT_BEGUN for state in states):
        return Fate.RESEND
    assert ANSWER_LOST in states
    return Fate.RESEND if replayable else Fate.ANSWER
