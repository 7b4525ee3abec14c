"""Decides, for one request, where it goes and what it looks like from there on.

No commands here: this is the hot path, and one `Routed` made at once costs about
half of what a list of commands would on top. `route` returns what is to be sent,
or says why not; the actor sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from msgspec.structs import astuple

from pingap.config.model import Location, Server, Snapshot
from pingap.stages.error_page import ErrorPages
from pingap.stages.forwarded import Trust
from pingap.stages.itinerary import CHALLENGE, METRICS, OPTIONS, REQUEST_PLUGINS
from pingap.stages.messages import Peer, Request, Routed
from pingap.stages.routing.match import ANY, EXACT, PREFIX, Captures, Entry, HostIndex, merge
from pingap.stages.routing.normalize import Unclear, is_tidy, normalize, tidy
from pingap.stages.routing.options import passed_on
from pingap.stages.routing.rewrite import Rewriter
from pingap.stages.steps import Steps, finished
from pingap.stages.via import Via

Clock = Callable[[], float]

CHALLENGES: Final = b"/.well-known/acme-challenge/"
"""Where authorities look for the proof that a name is ours (RFC 8555 section 8.3)."""


class Refusal(NamedTuple):
    """The request is answered here."""

    error: str
    """Name of the kind (stages/errors.py)."""
    location: str
    upstream: str
    client_ip: str
    reason: str
    """For the log; "" when the access log says it all."""


class Limited(NamedTuple):
    """The request may go on if its location has a place left."""

    routed: Routed
    limit: int


class Inward(NamedTuple):
    """The request is answered by an actor of ours."""

    routed: Routed
    destination: str
    """Its name (stages/itinerary.py)."""


Outcome = Routed | Limited | Refusal | Inward


class _Route:
    """What becomes of the requests of one location."""

    __slots__ = (
        "is_plain",
        "max_body",
        "max_processing",
        "name",
        "plan",
        "rewriter",
        "upstream",
        "upstream_capture",
    )

    def __init__(self, name: str, location: Location, plan: int) -> None:
        """Raises re2.error, and ValueError when no request could be answered."""
        self.name = name
        self.plan = plan
        self.upstream = location.upstream
        self.upstream_capture = ""
        if location.upstream.startswith("$"):
            self.upstream_capture = location.upstream[1:].removeprefix("{").removesuffix("}")
        if not location.upstream and not plan & REQUEST_PLUGINS:
            raise ValueError(f"locations.{name}: no upstream, and none of its plugins answers requests")
        self.rewriter = Rewriter(location.rewrite) if location.rewrite else None
        self.max_body = location.client_max_body_size
        self.max_processing = location.max_processing
        # One look instead of three in the commonest case.
        self.is_plain = not (self.rewriter or self.upstream_capture or self.max_body)


class _Table:
    """One server: its locations, its page of metrics, its name in Via lines."""

    __slots__ = ("forwards_normal", "has_challenges", "index", "is_plain", "metrics", "normalizes", "via", "views")

    def __init__(self, server: Server, index: HostIndex[_Route], has_challenges: bool) -> None:
        self.has_challenges = has_challenges
        self.normalizes = server.normalize_path != "off"
        self.forwards_normal = server.normalize_path == "forward"
        self.index = index
        self.views = self.index.views
        metrics = server.prometheus_metrics.encode() if server.prometheus_metrics else b""
        self.metrics = tidy(metrics) if self.normalizes else metrics
        # One look instead of three in the commonest case.
        self.is_plain = not (self.normalizes or self.metrics or has_challenges)
        self.via = Via(server.via) if server.via else None


class Router:
    """One configuration generation."""

    def __init__(self, snapshot: Snapshot, plans: Mapping[str, int]) -> None:
        """`plans`: itinerary flags by location. Raises re2.error or ValueError for what no check should have let pass."""
        self.pages = ErrorPages(snapshot.basic.error_template)
        self._trust = Trust(snapshot.basic.trusted_proxies)
        self._is_trusting = not self._trust.nobody
        self._upstreams = frozenset(snapshot.upstreams)
        self._routes: dict[str, Entry[_Route]] = {}
        self._patient: set[str] = set()
        self._tables: dict[str, _Table] = {}
        finished(self._fill(snapshot, plans, None))

    @classmethod
    def in_steps(cls, snapshot: Snapshot, plans: Mapping[str, int], before: Router | None) -> Steps[Router]:
        """As the constructor. before: one of whose locations those are taken over that are the same."""
        router = cls(replace(snapshot, locations={}, servers={}), {})
        yield from router._fill(snapshot, plans, before)
        return router

    def _fill(self, snapshot: Snapshot, plans: Mapping[str, int], before: Router | None) -> Steps[None]:
        known = before._routes if before is not None else {}
        for name, location in snapshot.locations.items():
            yield 1
            plan = plans.get(name, 0)
            if location.plugins and name not in plans:
                raise ValueError(f"locations.{name}: the plan of its plugins is missing")
            entry = known.get(name)
            if entry is None or entry.found.plan != plan or entry.location != location:
                entry = Entry(location, _Route(name, location, plan))
            self._routes[name] = entry
            if location.ignore_client_close:
                self._patient.add(name)
        has_challenges = bool(snapshot.challenged)
        for name, server in snapshot.servers.items():
            entries = [self._routes[location] for location in server.locations if location in self._routes]
            index = yield from HostIndex.in_steps(entries, server.normalize_path != "off")
            self._tables[name] = _Table(server, index, has_challenges)

    def goes_on(self, request: Request, clock: Clock) -> bool:
        """The location of a request does not mind that its client closes."""
        outcome = self.route(request, clock)
        routed = outcome.routed if isinstance(outcome, Limited) else outcome
        return isinstance(routed, Routed) and routed.location in self._patient

    def route(self, request: Request, clock: Clock) -> Outcome:
        """`clock` gives monotonic seconds; it is read at the start and at the end."""
        reached = clock()
        # fmt: off
        (sid, generation, affinity, server, peer, method, target, version, host, headers, length, body, ended, started, upgrade,
         is_framed, spelled) = astuple(request)
        # fmt: on
        table = self._tables.get(server)
        if table is None:
            return Refusal("not_found", "", "", self._client(peer, headers), f"server {server!r} is not configured")
        original = normal = b""
        if not table.is_plain:
            if table.has_challenges and target.startswith(CHALLENGES):
                return self._inward(request, CHALLENGE, reached, clock())  # whatever stands there: nothing else is served below it
            if table.normalizes and not is_tidy(target):
                try:
                    compared, normal = normalize(target)
                except Unclear:
                    return Refusal("bad_request", "", "", self._client(peer, headers), "")
                original, target = target, compared
                if table.has_challenges and target.startswith(CHALLENGES):
                    return self._inward(request, CHALLENGE, reached, clock())
            if table.metrics and target.startswith(table.metrics) and target.partition(b"?")[0] == table.metrics:
                return self._inward(request, METRICS, reached, clock())
        if method == b"OPTIONS":
            passed = passed_on(target, headers)
            if passed is None:
                return self._inward(request, OPTIONS, reached, clock())
            headers = passed
        if table.via is not None and table.via.is_loop(headers):
            return Refusal("loop_detected", "", "", self._client(peer, headers), "")
        candidates = table.views.get(host)
        if candidates is None:
            candidates = table.index.view(host)

        path: bytes | None = None
        captures: Captures | None = None
        for kind, value, conditions, route, captures in candidates:  # noqa: B007 - used after the loop
            if kind == PREFIX:
                if not target.startswith(value):
                    continue
            elif kind != ANY:
                if path is None:
                    path = target.partition(b"?")[0]
                if kind == EXACT:
                    if path != value:
                        continue
                else:
                    found = value.captures(path)
                    if found is None:
                        continue
                    if found:
                        captures = merge(captures, found) if captures else found
            if not conditions or all(holds(headers, target) for holds in conditions):
                break
        else:
            return Refusal("not_found", "", "", self._client(peer, headers), "")

        client_ip = self._trust.client_ip(peer.ip, headers) if self._is_trusting else peer.ip
        upstream = route.upstream
        variables = dict(captures) if captures else {}
        if normal:
            target = normal
        if not route.is_plain:
            if route.max_body and (length > route.max_body or len(body) > route.max_body):
                return Refusal("body_too_large", route.name, upstream, client_ip, "")
            if route.rewriter is not None:
                rewritten, named = route.rewriter.apply(target, variables)
                variables.update(named)
                if rewritten != target:
                    original, target = original or target, rewritten
            if route.upstream_capture:
                upstream = variables.get(route.upstream_capture, "")
                if upstream not in self._upstreams:
                    reason = f"locations.{route.name}: {route.upstream} is {upstream!r}, which is no upstream"
                    return Refusal("no_backend", route.name, "", client_ip, reason)
        if normal and target == normal and (not table.forwards_normal or original == normal):
            original, target = b"", original  # nothing but the locations was to see it
        # fmt: off
        routed = Routed(
            sid, generation, affinity, server, peer, method, target, version, host, headers, length, body, ended, started,
            upgrade, client_ip, route.name, upstream, route.plan, variables, (reached, clock()), original, (), is_framed,
            spelled,
        )
        # fmt: on
        return Limited(routed, route.max_processing) if route.max_processing else routed

    def _inward(self, request: Request, destination: str, reached: float, now: float) -> Inward:
        """As the client sent it: it belongs to no location."""
        # fmt: off
        (sid, generation, affinity, server, peer, method, target, version, host, headers, length, body, ended, started, upgrade,
         is_framed, spelled) = astuple(request)
        routed = Routed(
            sid, generation, affinity, server, peer, method, target, version, host, headers, length, body, ended, started,
            upgrade, self._client(peer, headers), "", "", 0, {}, (reached, now), b"", (), is_framed, spelled,
        )
        # fmt: on
        return Inward(routed, destination)

    def _client(self, peer: Peer, headers: bytes) -> str:
        return self._trust.client_ip(peer.ip, headers)


class RouterCompiler:
    """Makes a router of each generation; what is the same as in the one before is taken over."""

    def __init__(self) -> None:
        self._latest: Router | None = None

    def compile(self, snapshot: Snapshot, plans: Mapping[str, int]) -> Steps[Router]:
        """As Router's constructor."""
        self._latest = yield from Router.in_steps(snapshot, plans, self._latest)
        return self._latest
