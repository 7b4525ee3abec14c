"""What a plugin is made of. Plugin authors import it from `pingap.plugin`; docs/plugins.md explains it by example."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.header_view import Pairs
from pingap.stages.leases import Verdict
from pingap.stages.plugins.exchange import CONTINUE, Exchange, Hook, Result
from pingap.stages.plugins.fetch import LARGEST, FetchAnswer
from pingap.stages.plugins.fields import Url
from pingap.stages.plugins.figures import RequestFigures

Step = Literal["early_request", "request", "proxy_upstream", "upstream_response", "response"]
STEPS: Final[tuple[Step, ...]] = ("early_request", "request", "proxy_upstream", "upstream_response", "response")
"""In their order. proxy_upstream happens only to a request that really goes to an upstream."""

REQUEST_STEPS: Final = frozenset(STEPS[:3])


class Settings(BaseModel):
    """The keys of a [plugins.X] section. Unknown keys and values of another type are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    category: str = ""
    """Which plugin this is."""
    step: Step | None = None
    """When it runs, for plugins that leave the choice; None is the plugin's usual step."""
    remark: str = ""
    """A note, without effect."""


S = TypeVar("S", bound=Settings)

Trouble = tuple[str, str] | tuple[str, str, str]
"""Key, what is wrong with it, and perhaps what to do about it."""


FETCH_SECONDS: Final = 10.0
JOB_SECONDS: Final = 30.0


class HttpCache(Protocol):
    """What `Host.caching` makes: the hooks of a plugin whose class says `is_innermost = True`."""

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Answers from what is stored."""

    def response(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Stores what may be stored."""


class Host(Protocol):
    """What a plugin may ask of the stage."""

    name: str
    """The name of the plugin's section."""
    loop: Any
    """The event loop (asyncio.AbstractEventLoop) of the process."""

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Application log: level is error, warn, info or debug."""

    def count(self, name: str, delta: int | float = 1, **labels: str) -> None:
        """Adds to a counter that metrics will see."""

    def in_thread(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Runs `call(*args)` in a thread of the plugin's own: for work that would hold up all other requests.

        Waiting for one of them to be free is not the hook's time. Raises Overloaded when too many calls wait already.
        """

    def in_process(self, call: Callable[..., Any], *args: Any, timeout: float = JOB_SECONDS) -> Awaitable[Any]:
        """Runs `call(*args)` in another process: for what computes in Python, and would take turns with the loop in a thread.

        call: a function that the other process can import, so none of the plugin's own file. Arguments, result and exceptions
        are pickled. timeout: seconds for the job, and as many for its wait, which is not the hook's time.
        Raises what the function raises; JobFailed when its process died or was killed because of its time; Overloaded when too many
        wait already; ValueError for what cannot be imported.
        """

    async def fetch(
        self,
        upstream: str,
        method: str,
        target: str,
        headers: Pairs = (),
        body: str | bytes = b"",
        timeout: float = FETCH_SECONDS,
        limit: int = LARGEST,
    ) -> FetchAnswer:
        """Sends a request to a configured upstream, with its pools, TLS, health and retries, and waits for the whole answer.

        target: path and query, percent-encoded. Host is the backend's address unless `headers` say otherwise. timeout: seconds
        for all of it. limit: bytes of the answer's body. Whatever the status is, it is an answer.
        Raises FetchFailed when there is none, or not all of it; ValueError for what is no request and for an upstream that is not
        configured; Overloaded when too many wait already.
        """

    async def fetch_url(
        self,
        url: Url,
        method: str = "GET",
        headers: Pairs = (),
        body: str | bytes = b"",
        timeout: float = FETCH_SECONDS,
        limit: int = LARGEST,
    ) -> FetchAnswer:
        """As `fetch`, to an upstream (`upstream://NAME/path`) or to any host. A key of the type `Url` is one, and `parse_url` makes one.

        No redirect is followed. A host of https proves its name by a certificate that the system trusts.
        """

    async def figures(self, location: str = "") -> RequestFigures:
        """How many requests there were and how many are in flight, over all processes; and of one location.

        A location's are counted where it has a plugin whose class says `counts_requests = True`, else they are 0.
        They are there within half a second. What somebody did not tell by then is None.
        """

    def caching(self, rules: CacheRules) -> HttpCache:
        """The HTTP cache that works by these rules; its store is open from now on. To be asked for in `start`. Of plugins of ours."""

    def processes(self) -> list[int]:
        """The ids of all processes of this pingap that are on this machine, the supervisor's first; at least of this one.

        Reads some small files: `await host.in_thread(host.processes)`, or call it in a thread's function.
        """

    def claim(self, exchange: Exchange, key: str, args: tuple[Any, ...]) -> Verdict | Awaitable[Verdict]:
        """Asks the one replica that counts for `key` whether this request is within a limit. args: see limits.py."""

    def when_done(self, exchange: Exchange, call: Callable[[], None]) -> None:
        """Has `call()` called once when this request has ended, in whatever way: answered, cut off, given up by its client.

        For hooks of the request. Raises RuntimeError when there is an answer already.
        """


class Plugin(Generic[S]):
    """Base of all plugins. Making one has no side effects: it is made for checks too. `start` is where life begins.

    Override the methods of the steps at which it has work to do. Each may be `async def`.
    """

    category: ClassVar[str] = ""
    model: ClassVar[type[Any]] = Settings
    """The model of its section, a subclass of Settings."""
    steps: ClassVar[tuple[Step, ...]] = ()
    """What `step` may say. Empty: just the steps that are overridden."""
    reads_request_body: ClassVar[bool] = False
    """It may call transform_request or collect_request."""
    counts_requests: ClassVar[bool] = False
    """The requests of its locations are counted: for `Host.figures`."""
    threads: ClassVar[int] = 2
    """For `host.in_thread`, of a plugin that comes with pingap; users' have the key `threads` of their section."""
    files: ClassVar[tuple[str, ...]] = ()
    """Keys that are paths of files, of a plugin that comes with pingap: relative ones are made absolute when the section is read."""
    is_innermost: ClassVar[bool] = False
    """A cache. Its request hook runs after those of all other plugins, wherever it stands in the list: who keeps somebody out stands
    before what is stored, and what changes the request has changed it. Its response hook runs before those of all others, and not on
    what is stored. Of plugins of ours."""
    is_outermost: ClassVar[bool] = False
    """Its response hooks run after those of all other plugins, and on replies of plugins too."""
    sees_error_pages: ClassVar[bool] = False
    """Its response hooks see the head of pingap's error pages, too, and may change their header lines. Of plugins of ours."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def check(self) -> Iterable[Trouble]:
        """What is wrong with the settings that their model cannot say. Asked also where that has refused some keys, with their usual
        values, as far as it has such: then only what it says of the keys that are written and right is told."""
        return ()

    def notes(self) -> Iterable[Trouble]:
        """What the user should know of settings that are taken all the same, as of a key that has no effect; asked once, after `check`."""
        return ()

    def check_files(self) -> Iterable[Trouble]:
        """What is wrong with files that the settings name, as one that is missing. Asked where a configuration is checked, and not where
        a process takes up one that was accepted: by then a file may be gone, and that should not be the end of all else."""
        return ()

    def upstreams(self) -> Iterable[tuple[str, str]]:
        """(key, name) of the upstreams that the settings name: each has to be configured. By default those of its URLs."""
        for key in type(self.settings).model_fields:
            value = getattr(self.settings, key)
            if isinstance(value, Url) and value.upstream:
                yield key, value.upstream

    def start(self, host: Host) -> Awaitable[None] | None:
        """Called once before the first request. An exception refuses the configuration."""
        return None

    def stop(self) -> Awaitable[None] | None:
        """Called when no configuration and no request uses it any more, and when the process ends."""
        return None

    def hooks(self) -> Mapping[Step, Hook]:
        """The hooks by step; asked once, after `check`. By default the overridden methods, a single one moved to `step`."""
        found: dict[Step, Hook] = {step: getattr(self, step) for step in STEPS if getattr(type(self), step) is not getattr(Plugin, step)}
        if len(found) == 1 and self.settings.step is not None:
            return {self.settings.step: next(iter(found.values()))}
        return found

    def early_request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Before the `request` hooks of all plugins of the location."""
        return CONTINUE

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """The usual place."""
        return CONTINUE

    def proxy_upstream(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Just before the request is sent to an upstream; not when something else answers it."""
        return CONTINUE

    def upstream_response(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """The head of a backend's answer has come."""
        return CONTINUE

    def response(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """After the `upstream_response` hooks of all plugins of the location."""
        return CONTINUE
