"""One request as hooks see it, and what they may answer."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Set
from typing import Any, Final, NamedTuple, Protocol

from mypy_extensions import mypyc_attr

from pingap.stages.client_certificates.details import ClientCertificate, details_of
from pingap.stages.header_view import Headers, Pairs, RequestHeaders, block_of
from pingap.stages.messages import UNKNOWN, Report, Routed
from pingap.stages.plugins.context import ExchangeContext
from pingap.stages.spellings import loosely, one_case, parameter
from pingap.stages.variables import Source, host_name, source_of


class Action(enum.Enum):
    """What a hook says when it does not answer the request itself. Both let it go on."""

    SKIP = "nothing to do here"
    CONTINUE = "done, go on"


SKIP: Final = Action.SKIP
CONTINUE: Final = Action.CONTINUE


class Reply(NamedTuple):
    """An answer made by a plugin. Make one with `reply`."""

    status: int
    headers: bytes
    """Header block in normal form."""
    body: bytes | AsyncIterable[bytes]
    """The latter, a `FileBody` too, is asked for its pieces as the client takes them."""
    is_stored: bool = False
    """It is a backend's, kept from before: the response hooks of all plugins see it."""
    source: Derivable | None = None
    """Of the whole of what is stored: keeps what is made of its body."""


def reply(status: int = 200, body: str | bytes | bytearray | memoryview | AsyncIterable[bytes] = b"", headers: Pairs = ()) -> Reply:
    """An answer. Text is sent as text/plain in UTF-8 and nothing is cached, unless `headers` say otherwise.

    body: a `FileBody` is a file, or a part of one. What an asynchronous iterator gives is sent piece by piece, as the client
    takes it. A generator is closed when the client leaves; one that raises cuts the body off, so that it does not look complete.

    Raises ValueError for headers that cannot be sent and for a status that is not 200 to 599, TypeError for other types.
    """
    if not 200 <= (status := whole(status, "the status of a reply")) <= 599:
        raise ValueError(f"{status} is not the status of an answer")
    block = Headers(block_of(headers))
    content: Any = body  # of whatever type: see `body_bytes`
    if isinstance(content, str):
        content = content.encode()
        if content:
            block.setdefault("content-type", "text/plain; charset=utf-8")
    block.setdefault("cache-control", "private, no-cache")
    if isinstance(content, AsyncIterable):
        return Reply(status, block.raw, content)
    return Reply(status, block.raw, body_bytes(content, "the body of a reply is text, bytes or an asynchronous iterator"))


def body_bytes(data: Any, rule: str) -> bytes:
    """Bytes of a body from whoever made them. Raises TypeError, with the rule that was broken, for all but bytes: numbers and
    lists of them, of which `bytes` would make something, are none."""
    if type(data) is bytes:
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"{rule}, not {type(data).__name__}")


def whole(number: Any, what: str) -> int:
    if isinstance(number, int):
        return int(number)  # http.HTTPStatus is none that could travel
    raise TypeError(f"{what} is a whole number, not {type(number).__name__}")


Result = Action | Reply | None
Hook = Callable[["Exchange"], "Result | Awaitable[Result]"]


class Overloaded(Exception):
    """Too much to do: raised in a hook (by `Host.in_thread`, or by yours) it answers 503."""


class PageInstead(Exception):
    """Raised in a hook of ours: the client gets this error page, and nothing has failed here."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
        """In stages/errors.py."""


class HookError(Exception):
    """Code of a plugin failed; the cause is what it raised."""

    def __init__(self, plugin: str, cause: BaseException) -> None:
        super().__init__(f"plugin {plugin} failed")
        self.plugin = plugin
        """The name of its section."""
        self.__cause__ = cause  # mypyc drops the `from` of a `raise`, and here it is more than what a traceback says


@mypyc_attr(allow_interpreted_subclasses=True)
class Transformer:
    """Changes a body on its way. One object per body."""

    def feed(self, data: bytes, ended: bool) -> bytes | Iterable[bytes] | Awaitable[bytes]:
        """What becomes of the next bytes, at most 64 KiB of them; `ended` comes once, perhaps with none.

        When more may come out than a few times what went in, return a generator: it is asked for the next
        piece only when there is room for it. Large waits belong into an awaitable.
        """
        raise TypeError(f"{type(self).__name__} has no `feed`: it says what becomes of a body")

    def flush(self) -> bytes:
        """What is held back and may go out now: called when the sender pauses."""
        return b""

    def whole(self, body: bytes) -> bytes | None:
        """What becomes of a whole body of at most 64 KiB that is all here, if that is known at once; None: it is to be fed."""
        return None


WholeBody = Callable[["Exchange", bytes], "bytes | Reply | Awaitable[bytes | Reply | None] | None"]
"""Gets a whole body; returns another one, None for no change, or a reply instead of it."""


class ResponseHead:
    """The head of the backend's answer; what hooks change is what the client gets."""

    __slots__ = ("_length", "_status", "headers")

    def __init__(self, status: int, headers: bytes, length: int) -> None:
        self._status = status
        self.headers = Headers(headers)
        self._length = length

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, value: Any) -> None:  # any: compiled, nobody looks whether what is set has the type that a setter says
        status = whole(value, "a status")
        if not 200 <= status <= 599 or self._status < 200:
            raise ValueError(f"the status of an answer cannot be changed from {self._status} to {status}")
        self._status = status

    @property
    def length(self) -> int | None:
        """Bytes of the body as the backend announced it; None when it did not."""
        return None if self._length == UNKNOWN else self._length


class BackendAnswer(NamedTuple):
    """Who gave the answer."""

    address: str
    """`host:port`."""
    status: int
    """Of its answer; hooks may have changed that of `exchange.response`."""
    tries: int
    """Backends that were asked, this one among them."""
    is_reused: bool
    """Its connection was there already."""
    seconds: float
    """From the request sent to the head of the answer."""


MOST_TRANSFORMERS: Final = 256
"""Of one body in one direction. What one gives goes to the next by a call; compiled, calls that go too deep end the process."""

NO_UPSTREAMS: Final[Set[str]] = frozenset()


class Derivable(Protocol):
    """A stored answer, with which can be kept what hooks make of its body (cache/derivations.py)."""

    def find(self, name: str) -> Any:
        """A body, None for none, or one of these to await."""

    def keeper(self, name: str) -> Transformer | None:
        """Comes behind those that make it; None when it is not to be kept."""


class Kept(Protocol):
    """What a cache has begun for a request, and ends with it (cache/fetching.py)."""

    @property
    def is_lasting(self) -> bool:
        """The answer is wanted even when the client has left."""

    def failed(self, kind: str) -> Reply | Awaitable[Any] | None:
        """No backend has answered (stages/errors.py has the kinds). What takes the place of the error page, or that to await; None when
        nothing does."""

    def ended(self) -> None:
        """Nothing comes of it any more: the request is over, or something else answers it. May be said more than once."""


class Concerned(Protocol):
    """A cache whose contents a request may change, and which has to see its answer (cache/machine.py)."""

    def unanswered(self, exchange: Exchange) -> None:
        """A backend may have had the request, and its answer will not be seen."""


class Exchange:
    """One request and, from upstream_response on, its answer."""

    __slots__ = (
        "_body_is_settled",
        "_caching",
        "_concerned",
        "_context",
        "_has_client",
        "_instead",
        "_key_parts",
        "_reached",
        "_report",
        "_request_stages",
        "_response_stages",
        "_routed",
        "_seconds",
        "_source",
        "_state",
        "_target",
        "_upstream",
        "_upstreams",
        "_wants_body",
        "_watches",
        "_wrap",
        "headers",
        "response",
    )

    def __init__(self, routed: Routed, reached: float = 0.0, upstreams: Set[str] = NO_UPSTREAMS) -> None:
        """The stage makes it. reached: monotonic seconds. upstreams: the names that `upstream` may be set to."""
        self._routed = routed
        self._reached = reached
        self._target = routed.target
        self._upstream = routed.upstream
        self._upstreams = upstreams
        self._context: ExchangeContext | None = None
        self._request_stages: list[Any] | None = None
        self._response_stages: list[Any] | None = None
        self._wrap: Callable[[Exchange, Any, bool], Any] | None = None
        self._watches = False
        self._body_is_settled = False
        self._wants_body = False
        self.headers = RequestHeaders(routed.headers)
        """The request's header lines, as the client sent them; the location's header rules come when it leaves for a backend."""
        self.response: ResponseHead | None = None
        """The answer; None until upstream_response."""
        self._report: Report | None = None
        self._state: dict[Any, Any] | None = None
        self._caching: Kept | None = None
        self._concerned: list[Concerned] | None = None
        """Those that have not seen the answer yet."""
        self._key_parts: list[str] | None = None
        self._has_client = True
        """Somebody gets the answer. If not, a cache does: the client has left, or there was none."""
        self._source: Derivable | None = None
        """Of an answer that is stored, and whose body no hook has changed."""
        self._instead: bytes | AsyncIterable[bytes] | None = None
        """What was made of its body before."""
        self._seconds: dict[str, float] | None = None
        """Plugin → what its hooks took, of those that took long; not in the context, which is the plugins' own."""

    # -- the request --------------------------------------------------------

    @property
    def method(self) -> str:
        return self._routed.method.decode("latin-1")

    @property
    def target(self) -> str:
        """Path and query, percent-encoded, as the backend will get them (after the location's rewrite)."""
        return self._target.decode("latin-1")

    @target.setter
    def target(self, value: Any) -> None:
        self._target = request_target(value)

    @property
    def raw_target(self) -> bytes:
        return self._target

    @property
    def raw_path(self) -> bytes:
        return self._target.partition(b"?")[0]

    @property
    def path(self) -> str:
        return self.raw_path.decode("latin-1")

    @property
    def query(self) -> str:
        """Without the question mark; "" for none."""
        return self._target.partition(b"?")[2].decode("latin-1")

    @property
    def original_target(self) -> str:
        """As the client sent it, before `normalize_path` and the location's rewrite."""
        return (self._routed.original or self._routed.target).decode("latin-1")

    @property
    def host(self) -> str:
        """The name that the client asked for, without its port."""
        return host_name(self._routed.host).decode("latin-1")

    @property
    def authority(self) -> str:
        """The same with its port, if the client gave one."""
        return self._routed.host.decode("latin-1")

    @property
    def scheme(self) -> str:
        return self._routed.peer.scheme

    @property
    def version(self) -> int:
        """10, 11 or 20."""
        return self._routed.version

    @property
    def upgrade(self) -> str:
        """The protocol that the client wants to go on with, as `websocket`; "" for none."""
        return self._routed.upgrade.decode("latin-1").lower()

    @property
    def peer_ip(self) -> str:
        """The other end of the connection: the client, or the proxy before us."""
        return self._routed.peer.ip

    @property
    def client_ip(self) -> str:
        """The client as trusted_proxies let us believe it."""
        return self._routed.client_ip

    @property
    def client_port(self) -> int:
        """Of the connection, at the other end of which there may be a proxy."""
        return self._routed.peer.port

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """By which the client has proved who it is, verified by the `client_ca` of the server; None without one."""
        der = self._routed.peer.certificate
        return details_of(der) if der else None

    @property
    def local_ip(self) -> str:
        """The address of ours that was connected to."""
        return self._routed.peer.local_ip

    @property
    def local_port(self) -> int:
        return self._routed.peer.local_port

    @property
    def server(self) -> str:
        """The name of its [servers.X]."""
        return self._routed.server

    @property
    def location(self) -> str:
        """The name of its [locations.X]."""
        return self._routed.location

    @property
    def upstream(self) -> str:
        """The name of the [upstreams.X] that it goes to; "" for none. It can be set until the request goes there.

        Raises ValueError for a name that is not configured, RuntimeError when it is too late.
        """
        return self._upstream

    @upstream.setter
    def upstream(self, name: Any) -> None:
        if name not in self._upstreams:
            raise ValueError(f"there is no upstream {name!r} in the configuration")
        if self.response is not None:
            raise RuntimeError("the request has its answer already: say where it goes in early_request, request or proxy_upstream")
        self._upstream = str(name)

    @property
    def backend(self) -> BackendAnswer | None:
        """Who gave the answer; None until upstream_response, and when it was no backend."""
        report = self._report
        if report is None or not report.addr:
            return None
        stamps = report.stamps
        seconds = stamps[7] - stamps[6] if len(stamps) > 7 else 0.0
        return BackendAnswer(report.addr, report.upstream_status, report.tries, report.reused, seconds)

    @property
    def variables(self) -> Source:
        """What the variables in a `Template` stand for, as it is now. Only templates look into it."""
        routed, report = self._routed, self._report
        known: dict[str, Any] = self.context
        addr = ""
        if report is not None:
            addr = report.addr
            known = {"upstream_status": report.upstream_status, "upstream_reused": report.reused, **known}
        return source_of(routed, addr, routed.client_ip != routed.peer.ip, known)

    @property
    def has_request_body(self) -> bool:
        return self._routed.length != 0 or bool(self._routed.body)

    @property
    def context(self) -> dict[str, Any]:
        """Captures of host and path, and whatever plugins put there: `{:key}` in access logs, `:key` in headers."""
        context = self._context
        if context is None:
            context = self._context = ExchangeContext(self._routed.variables)
        return context

    @property
    def state(self) -> dict[Any, Any]:
        """For what a plugin wants to find again in a later hook; use the plugin itself (`self`) as the key."""
        state = self._state
        if state is None:
            state = self._state = {}
        return state

    @property
    def cache_key(self) -> list[str]:
        """What the answer depends on besides the URL: texts that become parts of the key under which a cache stores it.

        For plugins that answer, or have the backend answer, differently by something of the request. Append to it in `early_request`
        or `request`: a cache looks for its answer after the `request` hooks of all other plugins.
        """
        parts = self._key_parts
        if parts is None:
            parts = self._key_parts = []
        return parts

    @property
    def key_parts(self) -> tuple[bytes, ...]:
        """The same for `KeyRules.key_of`, behind the location (and the upstream, where a plugin has set another one): what other
        locations send to the same target may be another answer."""
        location = self._routed.location.encode()
        if self._upstream != self._routed.upstream:
            location += b"\0" + self._upstream.encode()
        parts = self._key_parts
        if not parts:
            return (location,)
        return (location, *[str(part).encode("utf-8", "surrogatepass") for part in parts])

    def query_value(self, name: str) -> str | None:
        """The first value of a query parameter, as it was sent; None when it is not there."""
        return query_value(self._target, parameter(name))

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, as it was sent, of several the first; None when it is not there."""
        values = self.cookies(name)
        return values[0] if values else None

    def cookies(self, name: str) -> list[str]:
        """The values of all cookies of that name: one domain's and its parent's, or one path's and another's, come together."""
        wanted = name.encode("latin-1", "replace")
        found = []
        for line in self.headers.raw.split(b"\r\n"):
            if line.startswith(b"cookie: "):
                for pair in line[8:].split(b";"):
                    key, equals, value = pair.partition(b"=")
                    if equals and key.strip() == wanted:
                        found.append(value.strip().decode("latin-1"))
        return found

    # -- answers and bodies ----------------------------------------------------

    @staticmethod
    def respond(status: int = 200, body: str | bytes | bytearray | memoryview | AsyncIterable[bytes] = b"", headers: Pairs = ()) -> Reply:
        """`return exchange.respond(403, "no")` from a hook: as `reply`. Compiled, a value in the class's body would be made
        anew for each exchange, which took a third of the time of one that goes on."""
        return reply(status, body, headers)

    @property
    def has_response_body(self) -> bool:
        """False for answers to HEAD, 204, 304 and 101: nothing to transform."""
        response = self.response
        return response is not None and self._routed.method != b"HEAD" and response.status not in (101, 204, 304)

    def transform_request(self, transformer: Transformer) -> None:
        """Sends the request body through `transformer`, after those that were given before. In early_request or request."""
        self._add_stage(transformer, True)

    def collect_request(self, hook: WholeBody, limit: int = 1024 * 1024, bypass: object = False) -> None:
        """Waits for the whole body (b"" when there is none) and calls `hook(exchange, body)`, before any other hook runs.

        More than `limit` bytes: 413, or untouched with `bypass`.
        """
        self._add_stage(_collecting(hook, limit, bypass), True)
        self._wants_body = True

    def transform_response(self, transformer: Transformer) -> None:
        """The same for the body of the answer. For an answer that has none it only makes its length unknown."""
        self._add_stage(transformer, False)

    def derive_response(self, name: str, make: Callable[[], Iterable[Transformer]]) -> Awaitable[None] | None:
        """`transform_response` with each of what `make` gives. But what they make of an answer of the cache is kept with that, under
        `name`, and taken from there the next time without calling `make`: so it depends on the name and on that body alone.

        To be awaited, when it gives something.
        """
        source = self._source
        if source is None or self._response_stages is not None or not self.has_response_body:
            self._make(make, None)
            return None
        self._source = None
        found = source.find(name)
        if isinstance(found, Awaitable):
            return self._derive_later(source, name, make, found)
        self._derive(source, name, make, found)
        return None

    async def _derive_later(self, source: Derivable, name: str, make: Callable[[], Iterable[Transformer]], waits: Awaitable[Any]) -> None:
        self._derive(source, name, make, await waits)

    def _derive(self, source: Derivable, name: str, make: Callable[[], Iterable[Transformer]], found: Any) -> None:
        if found is None:
            self._make(make, source.keeper(name))
        else:
            self._instead = found

    def _make(self, make: Callable[[], Iterable[Transformer]], keeper: Transformer | None) -> None:
        for transformer in make():
            self._add_stage(transformer, False)
        if keeper is not None:
            self._response_stages = [*(self._response_stages or ()), keeper]

    def collect_response(self, hook: WholeBody, limit: int = 1024 * 1024, bypass: object = True) -> None:
        """The same for the body of the answer, whose head waits for it: `hook` may change that too; too large: 502 or untouched."""
        self._add_stage(_collecting(hook, limit, bypass), False)

    def _add_stage(self, stage: Any, is_request: bool) -> None:
        if not isinstance(stage, Transformer | tuple):
            raise TypeError(f"a body is changed by a Transformer, not by {type(stage).__name__}")
        if len((self._request_stages if is_request else self._response_stages) or ()) >= MOST_TRANSFORMERS:
            raise RuntimeError(f"a body goes through at most {MOST_TRANSFORMERS} transformers")
        if self._wrap is not None:
            stage = self._wrap(self, stage, is_request)
        if is_request:
            if self._body_is_settled:
                raise RuntimeError("what becomes of the request body is decided in early_request and request")
            self._request_stages = [*(self._request_stages or ()), stage]
        else:
            if self.response is None:
                raise RuntimeError("there is no answer yet: do it in upstream_response or response")
            self._response_stages = [*(self._response_stages or ()), stage]


def _collecting(hook: Any, limit: Any, bypass: Any) -> tuple[Any, int, bool]:
    if not callable(hook):
        raise TypeError(f"a whole body goes to a function, not to {type(hook).__name__}")
    return hook, whole(limit, "the limit of a whole body"), bool(bypass)


def request_target(text: Any) -> bytes:
    """A path and query as they are sent. Raises ValueError for text that is none, TypeError for what is no text."""
    if not isinstance(text, str):
        raise TypeError(f"a request target is text, not {type(text).__name__}")
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        raise ValueError(f"{text!r} is not a request target: a path and query, percent-encoded")
    return text.encode()


def query_value(target: bytes, name: bytes) -> str | None:
    """The first value of a query parameter of a target, not decoded. name: as of `stages.spellings.parameter`."""
    for pair in target.partition(b"?")[2].split(b"&"):
        key, equals, value = pair.partition(b"=")
        if equals and one_case(key) == name:
            return value.decode("latin-1")
    return None


def query_values(target: bytes, name: bytes) -> list[str]:
    """All values of a query parameter of a target, as `query_value` gives the first."""
    pairs = (pair.partition(b"=") for pair in target.partition(b"?")[2].split(b"&"))
    return [value.decode("latin-1") for key, equals, value in pairs if equals and one_case(key) == name]


def query_alike(target: bytes, name: bytes) -> list[str]:
    """The values of each query parameter that some backend takes for one of `name`, as `%74oken`, `TOKEN` or `a=b;token=c` for `token`.

    Whoever guards something refuses a request in which they differ. name: as of `query_value`.
    """
    wanted = loosely(name)
    found = []
    for pair in target.partition(b"?")[2].split(b"&"):
        key, _, value = pair.partition(b"=")
        if loosely(key.partition(b";")[0]) == wanted:
            found.append(value.decode("latin-1"))
        if b";" in pair:
            others = (part.partition(b"=") for part in pair.split(b";")[1:])
            found += [value.decode("latin-1") for key, _, value in others if loosely(key) == wanted]
    return found


def without_query_alike(target: bytes, name: bytes) -> bytes:
    """The target without all that `query_alike` finds."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    wanted = loosely(name)
    kept = []
    for pair in query.split(b"&"):
        parts = pair.split(b";")
        if loosely(parts[0].partition(b"=")[0]) == wanted:
            continue  # with what is behind a `;` of it: that is of the value, to most
        kept.append(b";".join([part for part in parts if loosely(part.partition(b"=")[0]) != wanted]))
    return path + b"?" + b"&".join(kept) if kept else path


def without_query(target: bytes, name: bytes) -> bytes:
    """The target without a query parameter, however often it is there. name: as of `query_value`."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    kept = [pair for pair in query.split(b"&") if one_case(pair.partition(b"=")[0]) != name]
    return path + b"?" + b"&".join(kept) if kept else path
