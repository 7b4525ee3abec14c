"""`limit`: requests a second, or requests at the same time, for each client, header, cookie, query parameter, or several of them.

Beyond the limit 429, with `Retry-After` and the fields `RateLimit` and `RateLimit-Policy`
([draft-ietf-httpapi-ratelimit-headers-11](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/), of May 2026; as
its quotas are for whole seconds, that of a shorter `interval` is said for a second). A location may have several limits: they are
asked in turn, and what one has let pass is counted there also when the next one refuses it. A request without a value is not
limited: put an authentication plugin in front. A reload does not reset a limit that counts as before.

**Windows** (the usual `algorithm`). The rate is `(before * (100 - weight) + current * weight) / 100 / interval`, and
`max / interval` is what it may be (`interval` counting as at least a second
there: `max = 10` with `interval = "200ms"` is 2 in each window, and a `max` that comes to none there lets nobody pass, which a note
says). So the first window lets `max * 100 / weight` requests through;
`weight = 100` counts each window by itself. Refused requests count as well.

**A bucket** is nginx's `limit_req`: `max` in `interval` is its rate, one request after the other, and `burst` more may come early.
They wait their turn, or go on at once with `nodelay`, or the first `delay` of them do. What comes beyond that is refused and not
counted. A client that leaves while it waits has used up its request. 4096 requests of a process may wait at a time; when
there is no room for one it is refused (`limit_queue_full`). As there, the rate is counted in whole thousandths of a request a second.

```toml
[plugins.api]
category = "limit"
algorithm = "bucket"
tag = "variables"
key = "$remote_addr$server_port"
max = 10
interval = "1s"
burst = 20
nodelay = true
```

**What a client chooses is no limit.** Headers, cookies, parameters and `$host` are as clients send them: who sends another value is
counted anew, and that holds for a text of several variables when he chooses one of them. Count such values only where a plugin in
front has refused those that nobody was given (`key_auth`, `jwt`), or beside a limit for addresses.

One replica of the stage counts for
each value, so the limit is the limit however many replicas there are. When that replica
dies its successor is asked, and counts from 0; should it not answer within a second,
requests pass and `limit_claims_unanswered` counts them.

**A store** counts for several hosts: a server of Redis (5 or later) or Valkey, asked once for each request, by a script that is one
step there and goes by its clock. No request waits for it longer than `store_timeout`. The first time that it has not answered for so
long it is away: it is not asked
any more, one line in the log says so and another that it is back, `limit_store_failures` counts, and `store_failure` says what
becomes of requests, as of those that a slow one has not come to in time. Places in flight that each host counts meanwhile are never
counted there. A cluster is not supported, a server with replicas is. Who may share a count has the same plugin name, the same
settings and the same `store_prefix`. Of values (addresses, keys) the store sees digests. Places in flight of a host that crashed are
free after 15 s. Needs the package `redis` (`pip install 'pingap[redis]'`).

Requests that are refused are counted in `limit_refused`, and access logs
show what became of a request as `{:limit_status}`: `DELAYED` or `REJECTED`, with `_DRY_RUN` behind it where that holds.

Unlike pingap 0.13.9: it counts once for all replicas, and a refused request holds no place. An unknown `type` or `tag` is
refused instead of ignored; a `tag` without its `key` limits nobody there as here, which [a note](configuration.md#taken-with-a-note)
says. Answers say when to come back.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from math import ceil
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from pingap.plugin import (
    BUCKET,
    CONTINUE,
    INFLIGHT,
    RATE,
    SKIP,
    Addresses,
    Duration,
    Exchange,
    Hook,
    Host,
    Network,
    Plugin,
    Result,
    Settings,
    Step,
    Trouble,
    Variables,
    Verdict,
    as_header_name,
    rate_verdict,
    reply,
    template,
)
from pingap.stages.plugins.builtin.limits.fields import LimitFields
from pingap.stages.plugins.builtin.limits.leases import StoreLeases
from pingap.stages.plugins.builtin.limits.queue import QUEUE
from pingap.stages.plugins.builtin.limits.scripts import question, verdict_of
from pingap.stages.plugins.builtin.limits.store import LimitStore, StoreAway
from pingap.stages.plugins.builtin.limits.store_url import StoreAddress

NOBODY: Final = ""
"""Instead of a tag: nothing says what the name of the header, cookie or parameter is."""

_COUNTING: Final = ("type", "algorithm", "tag", "key", "max", "interval", "weight", "burst", "delay", "nodelay")
"""Keys that say what is counted. A limit in which one of them has changed counts anew; others may change meanwhile."""

_LONG: Final = 64
"""Characters of a value; of a longer one its digest is remembered, for clients say what the values are."""

_QUIET: Final = 1.0
"""Seconds for which a dry run says nothing after it has said something."""


LONGEST_TIMEOUT: Final = 10.0
"""Seconds."""

LONGEST_WAIT: Final = 3600.0
"""Seconds."""


def _digest(value: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class LimitSettings(Settings):
    type: Literal["rate", "inflight"] = "rate"
    """`"rate"`: requests a second; `"inflight"`: requests at the same time."""
    algorithm: Literal["window", "bucket"] = "window"
    """Ours. How a rate is counted: `"window"`, as pingap 0.13.9 does, or `"bucket"`, as nginx does."""
    tag: Literal["ip", "header", "cookie", "query", "variables"] = "ip"
    """What is limited: each client address, each value of a header, cookie or query parameter, or, ours, of `"variables"`."""
    key: str = ""
    """The name of that header, cookie or parameter; without it nobody is limited. With `tag = "variables"` a text such as
    `"$remote_addr$server_port"`, of variables as `proxy_set_headers` has them; `$remote_addr` is the client in it, as
    `trusted_proxies` let us believe it. Each part counts by itself, wherever the next begins."""
    max: Annotated[int, Field(ge=0)] = 0
    """Requests in each `interval` (rate), or at the same time (inflight)."""
    interval: Duration = 10.0
    """The window of a rate."""
    weight: Annotated[int, Field(ge=0, le=100)] = 50
    """Percentage of the current window in the rate, the rest being the window before; 0 is that one alone."""
    burst: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Ours. Requests that a bucket takes before their turn."""
    delay: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Ours. As many of `burst` go on at once; the rest waits."""
    nodelay: bool = False
    """Ours. All of `burst` go on at once."""
    max_wait: Duration = 60.0
    """Ours. The longest that a request waits for its turn; one that would have to wait longer is refused at once."""
    status: Annotated[int, Field(ge=400, le=599)] = 429
    """Ours. Of the answer to who is refused."""
    message: str = ""
    """Ours. Its body, instead of what pingap 0.13.9 says."""
    ratelimit_headers: bool = False
    """Ours. `RateLimit` and `RateLimit-Policy` on what backends answer, too."""
    exempt: list[Network] = Field(default_factory=list)
    """Ours. Clients that are not limited: addresses and networks, as `"10.0.0.0/8"`."""
    store: StoreAddress = None
    """Ours. A server that counts instead, for several hosts together: `"redis://:PASSWORD@host:6379/0"`, `"rediss://…"` (TLS; with
    `?ssl_ca_certs=FILE`, `ssl_certfile`, `ssl_keyfile`) or `"unix:///run/redis.sock?db=0"`. May be `$SECRET:NAME`."""
    store_prefix: str = "pingap:limit:"
    """Ours. What the names of its keys begin with."""
    store_timeout: Duration = 0.1
    """Ours. How long it has for an answer."""
    store_failure: Literal["local", "open", "closed"] = "local"
    """Ours. While it is away: `"local"`: each host counts for itself; `"open"`: all requests pass; `"closed"`: 503."""
    dry_run: bool = False
    """Ours. Nobody is refused and nobody waits: who would be is counted (`limit_dry_refused`) and logged."""


class Limit(Plugin[LimitSettings]):
    category = "limit"
    model = LimitSettings
    steps = ("request", "proxy_upstream")

    def __init__(self, settings: LimitSettings) -> None:
        super().__init__(settings)
        said = json.dumps(settings.model_dump(include=set(_COUNTING)), sort_keys=True)
        self._prefix = hashlib.sha256(said.encode()).hexdigest()[:12]
        self._args: tuple[Any, ...]
        seconds = max(settings.interval, 1.0)
        self._most = settings.max / seconds
        """What the reference's text compares with."""
        self._rate = self._burst = 0
        if settings.type == "inflight":
            self._most = float(settings.max)
            self._args = (INFLIGHT, settings.max)
            self._quota: tuple[float, float] = (settings.max, 0.0)
        elif settings.algorithm == "window":
            self._args = (RATE, self._most, settings.interval, settings.weight / 100)
            self._quota = (self._most * settings.interval, settings.interval)
        else:
            # In thousandths of requests, as nginx counts.
            self._rate = int(settings.max * 1000 / settings.interval + 1e-9) if settings.interval > 0 else 0
            delay = 1000 * (settings.burst if settings.nodelay else min(settings.delay, settings.burst))
            self._burst = min(1000 * settings.burst, delay + int(settings.max_wait * self._rate))
            self._most = self._burst / 1000
            self._args = (BUCKET, self._rate, self._burst, delay)
            quota = self._burst // 1000 + 1
            self._quota = (quota, quota * 1000 / max(1, self._rate))
        self._value = self._reader()
        self._exempt = Addresses(settings.exempt) if settings.exempt else None
        self._suffix = "_DRY_RUN" if settings.dry_run else ""
        self._is_silent_until = 0.0
        self._host: Host | None = None
        self._store: LimitStore | None = None
        self._leases: StoreLeases | None = None
        self._fields: LimitFields | None = None

    def _reader(self) -> Callable[[Exchange], str | None]:
        """What finds the value that is counted."""
        key = self.settings.key
        if self.settings.tag == "variables" and key:
            pieces = template(key).pieces

            def rendered(exchange: Exchange) -> str:
                source = exchange.variables
                peer = source.peer
                if peer.ip != exchange.client_ip:  # there is a proxy, and nobody wants that to be limited
                    source = Variables(type(peer)(exchange.client_ip, *peer[1:]), *source[1:])
                values = [piece(source) for piece in pieces]
                return b"\0".join(values).decode("latin-1") if any(values) else ""  # who chooses one does not choose the next

            return rendered
        readers: dict[str, Callable[[Exchange], str | None]] = {
            "ip": lambda exchange: exchange.client_ip,
            "header": lambda exchange: exchange.headers.get(key),
            "cookie": lambda exchange: exchange.cookie(key),
            "query": lambda exchange: exchange.query_value(key),
            NOBODY: lambda exchange: None,
        }
        return readers[self.settings.tag if self.settings.tag == "ip" or key else NOBODY]

    def _lets_pass(self) -> bool:
        """Whether there is a request that is let pass, be it the only one."""
        if self.settings.type == "inflight":
            return self.settings.max > 0
        if self._args[0] == BUCKET:
            return True  # or it is refused
        return self.settings.interval <= 0 or rate_verdict(0, 1, 0.0, *self._args[1:]).allowed

    # -- settings ----------------------------------------------------------------------

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if settings.tag == "header" and settings.key:
            try:
                as_header_name(settings.key)
            except ValueError as error:
                yield "key", str(error)
        if settings.tag == "variables":
            if not settings.key:
                yield "key", "no variables are given", 'key = "$remote_addr$server_port"'
            elif template(settings.key).constant is not None:
                yield (
                    "key",
                    "there is no variable in it: all requests would be counted together",
                    "$remote_addr, $server_port, $host, $http_<name>, …",
                )
        if settings.interval <= 0:
            yield "interval", "must be more than 0"
        elif settings.type == "rate" and settings.algorithm == "bucket" and self._rate < 1:
            yield "max", "a bucket leaks at least one request in 1000 seconds", "raise max, or shorten interval"
        if settings.nodelay and settings.delay:
            yield "delay", "with nodelay nothing is left of it", "leave one of the two out"
        if settings.store is not None and importlib.util.find_spec("redis") is None:
            yield "store", "the package redis is not installed", "pip install 'pingap[redis]'"
        if not 0 < settings.store_timeout <= LONGEST_TIMEOUT:
            yield "store_timeout", f"must be more than 0 and at most {LONGEST_TIMEOUT:g}s", "each request waits for it"
        if settings.store is not None and settings.type == "rate" and 0 < settings.interval < 0.001:
            yield "interval", "a store counts whole milliseconds", "at least 1ms"
        if not 0 <= settings.max_wait <= LONGEST_WAIT:
            yield "max_wait", f"must not be less than 0, nor more than {LONGEST_WAIT / 3600:g}h"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        given = settings.model_fields_set
        if not self._lets_pass():
            least = 1 if settings.type == "inflight" else max(1, ceil(settings.weight / 100 / settings.interval - 1e-9))
            yield "max", "nobody ever passes: it comes to less than one request", f"at least max = {least}"
        if settings.type == "inflight" and "algorithm" in given:
            yield "algorithm", "it is of no effect: requests at the same time are counted in one way only", "leave it out"
        if not self._rate:
            for key in ("burst", "delay", "nodelay", "max_wait"):
                if key in given:
                    yield key, "it is of no effect: only a bucket has it", 'write algorithm = "bucket"'
        elif "weight" in given:
            yield "weight", "it is of no effect: a bucket has no windows", "leave it out"
        elif settings.delay > settings.burst:
            yield "delay", "it is more than burst: nothing waits", "nodelay = true says the same"
        elif self._burst < 1000 * settings.burst:
            most = f"{self._burst / 1000:g} of {settings.burst}"
            yield "burst", f"{most} are taken: the next would wait longer than {settings.max_wait:g}s", "raise max_wait, or lower burst"
        if settings.store is None:
            for key in ("store_prefix", "store_timeout", "store_failure"):
                if key in given:
                    yield key, "it is of no effect without a store", 'store = "redis://host"'
        if settings.tag == "ip" and settings.key:
            yield "key", "it is of no effect: addresses are counted", 'tag says what key is: "header", "cookie", "query" or "variables"'

    # -- life ----------------------------------------------------------------------------

    def start(self, host: Host) -> Awaitable[None] | None:
        self._host = host
        self._prefix = f"{host.name}\0{self._prefix}\0"
        self._fields = LimitFields(host.name, *self._quota, comes_back=self._lets_pass())
        settings = self.settings
        if settings.store is not None:
            self._store = LimitStore(settings.store, settings.store_timeout, host)
            self._store_prefix = settings.store_prefix + self._prefix.replace("\0", ":")
            if settings.type == "inflight":
                self._leases = StoreLeases(self._store)
            return self._store.start()
        return None

    def stop(self) -> Awaitable[None] | None:
        if self._leases is not None:
            self._leases.stop()
        return self._store.stop() if self._store is not None else None

    def hooks(self) -> Mapping[Step, Hook]:
        hooks: dict[Step, Hook] = {self.settings.step or "request": self.request}
        if self.settings.ratelimit_headers:
            hooks["response"] = self.response
        return hooks

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        value = self._value(exchange)
        if not value:
            return SKIP  # as documented: who has no key is not limited by it
        if self._exempt is not None and self._exempt.has(exchange.client_ip):
            return SKIP
        if len(value) > _LONG:
            value = f"#{_digest(value)}"
        if self._store is not None:
            return self._by_store(exchange, self._store, value)
        assert self._host is not None
        verdict = self._host.claim(exchange, self._prefix + value, self._args)
        if isinstance(verdict, Verdict):
            return self._judged(exchange, verdict)
        return self._later(exchange, verdict)

    async def _later(self, exchange: Exchange, waits: Awaitable[Verdict]) -> Result:
        result = self._judged(exchange, await waits)
        return await result if isinstance(result, Awaitable) else result

    async def _by_store(self, exchange: Exchange, store: LimitStore, value: str) -> Result:
        assert self._host is not None
        if not store.is_away:
            try:
                verdict = await self._stored(exchange, store, self._store_prefix + _digest(value))
            except StoreAway:
                pass
            else:
                result = self._judged(exchange, verdict)
                return await result if isinstance(result, Awaitable) else result
        self._host.count("limit_store_missed", plugin=self._host.name)
        match self.settings.store_failure:
            case "local":
                claimed = self._host.claim(exchange, self._prefix + value, self._args)
                result = self._judged(exchange, claimed) if isinstance(claimed, Verdict) else await self._later(exchange, claimed)
                return await result if isinstance(result, Awaitable) else result
            case "closed" if not self.settings.dry_run:
                exchange.context["limit_status"] = "REJECTED"
                return reply(503, "Plugin limit, the store is away", [("retry-after", "1")])
        return CONTINUE

    async def _stored(self, exchange: Exchange, store: LimitStore, key: str) -> Verdict:
        """What the store says. Raises StoreAway."""
        leases = self._leases
        if leases is None:
            script, args = question(self._args)
            return verdict_of(self._args, await store.ask(script, key, args))
        lease = leases.new()
        assert self._host is not None
        self._host.when_done(exchange, partial(leases.end, key, lease))
        script, args = question(self._args, lease)
        try:
            verdict = verdict_of(self._args, await store.ask(script, key, args))
        except BaseException:  # there is no answer, or nobody wants it any more: there may be a place all the same
            leases.end(key, lease)
            raise
        leases.settle(key, lease, verdict.allowed)
        return verdict

    def _judged(self, exchange: Exchange, verdict: Verdict) -> Result | Awaitable[Result]:
        if self.settings.ratelimit_headers:
            exchange.state[self] = verdict
        if not verdict.allowed:
            return self._refused(exchange, verdict)
        if verdict.wait:
            exchange.context["limit_status"] = f"DELAYED{self._suffix}"
            if not self.settings.dry_run:
                return self._queued(exchange, verdict)
        return CONTINUE

    async def _queued(self, exchange: Exchange, verdict: Verdict) -> Result:
        assert self._host is not None
        if await QUEUE.wait_turn(verdict.wait):
            return CONTINUE
        self._host.count("limit_queue_full", plugin=self._host.name)
        return self._refused(exchange, verdict)

    def _refused(self, exchange: Exchange, verdict: Verdict) -> Result:
        host, settings = self._host, self.settings
        assert host is not None and self._fields is not None
        exchange.context["limit_status"] = f"REJECTED{self._suffix}"
        if settings.dry_run:
            host.count("limit_dry_refused", plugin=host.name)
            now = host.loop.time()
            if now >= self._is_silent_until:
                self._is_silent_until = now + _QUIET
                host.log(
                    "warn", "a request would have been refused, but for dry_run", client=exchange.client_ip, location=exchange.location
                )
            return CONTINUE
        host.count("limit_refused", plugin=host.name)
        text = settings.message or f"Plugin limit, exceed limit {verdict.value:.15g}/{self._most:.15g}"
        return reply(settings.status, text, self._fields.refusal(verdict))

    def response(self, exchange: Exchange) -> Result:
        """Tells a client what is left, where it is to hear of it."""
        verdict = exchange.state.get(self)
        assert exchange.response is not None and self._fields is not None
        if verdict is not None and (left := self._fields.left(verdict)):
            exchange.response.headers.add("ratelimit-policy", self._fields.policy)
            exchange.response.headers.add("ratelimit", left)
        return CONTINUE
