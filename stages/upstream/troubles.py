"""What logs and metrics hear of attempts that failed, and of faults of ours."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.bus.repeats import Repeats
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import EVERYDAY, Outcome
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.pools import Pools

SHORT_PAUSE: Final = 60.0
"""Seconds between two words on connections that cannot be opened for want of descriptors."""


class Troubles:
    """Of one actor."""

    def __init__(self, context: Context, pools: Pools) -> None:
        self._context = context
        self._pools = pools
        self._repeats = Repeats(context)
        self._tell_short = 0.0

    def attempt_failed(self, group: Group, backend: BackendState, outcome: Outcome, detail: str, retried: bool) -> None:
        """One attempt ended without an answer. retried: there is another."""
        self._context.count("upstream_failures", upstream=group.name, kind=outcome.value)
        if retried:
            self._context.count("retries", upstream=group.name, reason=outcome.value)
        if outcome is Outcome.NO_DESCRIPTOR:
            self._tell_of_shortage(detail)
            return
        if outcome is Outcome.DESTINATION:
            self.destination_refused(group, backend.address, detail)
            return
        fields = {"upstream": group.name, "addr": backend.address, "failure": outcome.value, "detail": detail, "retried": retried}
        if retried or outcome in EVERYDAY:
            self._context.log("debug", "backend failed", **fields)
        else:
            self._repeats.log("warn", "backend failed", f"failed {group.name} {outcome.name}", **fields)

    def destination_refused(self, group: Group, destination: str, reason: str) -> None:
        """A client wanted to go where it may not."""
        self._repeats.log("warn", "destination refused", f"destination {group.name}", upstream=group.name, addr=destination, reason=reason)

    def answer_dropped(self, group: Group, backend: BackendState, status: int) -> None:
        """Because of its status: another backend is asked."""
        self._context.count("retries", upstream=group.name, reason="status")
        self._context.log("debug", "answer dropped, another backend is asked", upstream=group.name, addr=backend.address, status=status)

    def retry_refused(self, group: Group) -> None:
        """An attempt might be made again, but for the upstream's retry_budget."""
        self._context.count("retries_refused", upstream=group.name)
        fields = {"upstream": group.name, "retry_budget": group.budget.percent}
        self._repeats.log("warn", "no retry: retry_budget is spent", f"budget {group.name}", **fields)

    def _tell_of_shortage(self, detail: str) -> None:
        """Once a minute: no backend is to blame, and every request would say the same."""
        now = monotonic()
        if now >= self._tell_short:
            self._tell_short = now + SHORT_PAUSE
            self._context.log(
                "error",
                "requests are refused until connections end: too few file descriptors (ulimit -n)",
                detail=detail,
                connections=len(self._pools),
                limit=self._pools.descriptors.limit,
            )

    def answer_cut(self, group: Group, backend: BackendState, outcome: Outcome, detail: str) -> None:
        """A backend began an answer and did not end it as it should."""
        self._context.count("upstream_failures", upstream=group.name, kind="cut")
        fields = {"upstream": group.name, "addr": backend.address, "error": outcome.kind, "detail": detail}
        if outcome in EVERYDAY:
            self._context.log("debug", "answer cut off", **fields)
        else:
            self._repeats.log("warn", "answer cut off", f"cut {group.name} {outcome.kind}", **fields)

    def head_too_large(self, group: Group, backend: BackendState, size: int, limit: int) -> None:
        """A request whose head of `size` bytes was not sent, for its backend wants none over `limit`."""
        fields = {"upstream": group.name, "addr": backend.address, "bytes": size, "limit": limit}
        self._context.log("debug", "head too large for the backend", **fields)

    def wrong_length(self, announced: int, sent: int) -> None:
        """A fault of another stage: the body of a request is not as long as its head says."""
        self._repeats.log("error", "a stage sent another body than it announced", announced=announced, sent=sent)

    def crashed(self, error: Exception) -> None:
        """A fault of ours."""
        self._repeats.log("error", "request failed", error=repr(error))

    def unknown(self, what: str, **fields: Any) -> None:
        """A request names what its generation does not have."""
        self._repeats.log("warn", f"no such {what}", **fields)
