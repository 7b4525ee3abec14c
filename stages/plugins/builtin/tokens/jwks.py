"""Keys that others publish (RFC 7517), fetched when they are wanted: one request at a time for all that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Final

from pingap.plugin import FetchFailed, Host, Overloaded, Url
from pingap.stages.plugins.builtin.tokens.keys import BadKey, KeySet, of_jwks

FETCH_SECONDS: Final = 10.0
"""For which an answer is waited."""
PATIENCE: Final = 2.0
"""Seconds from the beginning of a fetch for which requests wait while there are old keys."""
LARGEST: Final = 256 * 1024
"""Bytes of a set."""
_FIRST_PAUSE: Final = 1.0
"""Seconds after a fetch that failed; twice as many after each one more, up to the cool-down."""
_TOLD: Final = 8
"""Keys that cannot be used and that a line of the log names."""


class KeyAges:
    """How old keys are, and when they may be fetched again. Times are monotonic seconds, and come in as arguments."""

    __slots__ = ("_cooldown", "_fetched", "_next", "_stale", "_ttl", "failures")

    def __init__(self, ttl: float, stale: float, cooldown: float) -> None:
        """ttl: seconds for which keys are fresh; stale: how long after that they serve while there are no newer ones."""
        self._ttl, self._stale, self._cooldown = ttl, stale, min(cooldown, ttl)
        self._fetched: float | None = None
        self._next = float("-inf")
        self.failures = 0
        """Fetches that have failed since the last good one."""

    def is_fresh(self, now: float) -> bool:
        return self._fetched is not None and now - self._fetched < self._ttl

    def is_usable(self, now: float) -> bool:
        return self._fetched is not None and now - self._fetched < self._ttl + self._stale

    def may_be_fetched(self, now: float) -> bool:
        return now >= self._next

    def pause(self, now: float) -> float:
        """Seconds until they may be fetched."""
        return max(0.0, self._next - now)

    def fetched(self, now: float) -> None:
        self._fetched, self._next, self.failures = now, now + self._cooldown, 0

    def failed(self, now: float) -> None:
        self._next = now + min(self._cooldown, _FIRST_PAUSE * 2 ** min(self.failures, 20))
        self.failures += 1


class PublishedKeys:
    """Those of one URL."""

    def __init__(self, url: Url, algorithms: Iterable[str], ages: KeyAges) -> None:
        self.ages = ages
        self._url = url
        self._algorithms = tuple(algorithms)
        self._keys: KeySet | None = None
        self._text = b""
        """What they were made of."""
        self._host: Host | None = None
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        """When that was."""

    def start(self, host: Host) -> None:
        """They are fetched before the first request wants them; nobody waits for that here."""
        import joserfc.jws  # noqa: F401  # now, and not in the first request

        self._host = host
        self.fetch(monotonic())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def fresh(self, now: float) -> KeySet | None:
        """Keys that need not be asked for again."""
        return self._keys if self.ages.is_fresh(now) else None

    def usable(self, now: float) -> KeySet | None:
        """Keys that are fresh, or that serve until there are newer ones."""
        return self._keys if self.ages.is_usable(now) else None

    def may_change(self, now: float) -> bool:
        """Whether waiting may bring other keys."""
        return self._task is not None or self.ages.may_be_fetched(now)

    def fetch(self, now: float) -> None:
        """Unless that is being done, or was done a moment ago."""
        if self._task is None and self.ages.may_be_fetched(now):
            self._began = now
            self._task = asyncio.get_running_loop().create_task(self._fetch())
            self._task.add_done_callback(self._done)

    async def wait(self, now: float, seconds: float) -> None:
        """Until those that are being fetched are here, or were asked for so long ago. Whoever stops waiting ends it for nobody else."""
        if self._task is not None and (left := self._began + seconds - now) > 0:
            await asyncio.wait((self._task,), timeout=left)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None

    async def _fetch(self) -> None:
        host = self._host
        assert host is not None
        try:
            answer = await host.fetch_url(self._url, "GET", (("accept", "application/json"),), timeout=FETCH_SECONDS, limit=LARGEST)
            if answer.status != 200:
                raise BadKey(f"the status is {answer.status}")
            self._take(host, answer.body)
        except (FetchFailed, Overloaded, BadKey, ValueError) as error:
            self._fail(host, str(error) or type(error).__name__)
        except Exception as error:  # a surprise is a failure like the others, with a pause after it
            self._fail(host, f"{type(error).__name__}: {error}")

    def _take(self, host: Host, text: bytes) -> None:
        now = monotonic()
        if self._keys is None or text != self._text:  # the same: what was verified with them stays so
            self._keys = of_jwks(text, self._algorithms)
            self._text = text
            if found := self._keys.passed_over:
                host.log("warn", "jwt: some keys are not used", url=str(self._url), keys="; ".join(found[:_TOLD]), count=len(found))
        if self.ages.failures:
            host.log("info", "jwt: keys are here again", url=str(self._url), keys=len(self._keys.keys))
        self.ages.fetched(now)

    def _fail(self, host: Host, reason: str) -> None:
        if not self.ages.failures:
            host.log("error", "jwt: keys cannot be fetched", url=str(self._url), reason=reason[:500])
        self.ages.failed(monotonic())
