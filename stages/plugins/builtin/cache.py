"""`cache`: keeps answers of backends, and gives them out again as long as they are fresh (RFC 9111).

Step `request`. GET and HEAD are answered from it; other methods go on to the backend, and what they change there is made invalid here.
It looks for its answer after the `request` hooks of all other plugins, wherever it stands in the location's list: who may come in is
decided before. Plugins at `proxy_upstream` see only what goes on to the backend: a `limit` with that step counts misses alone. All
plugins' `response` hooks run for answers out of the cache, too. All replicas of the stage have the same store, and of requests for the
same thing one goes to the backend. [caching.md](caching.md) is the whole story: what is stored, keys, purging, sizes.

**What is stored.** What the answer says counts, in this order: `Pingap-Cache-Control`, `CDN-Cache-Control`, `Surrogate-Control`,
`Cache-Control` (`s-maxage` before `max-age`), `Expires`; then `default_ttl`; then a guess by `Last-Modified`. Never stored are answers
with `no-store`, `private`, `Vary: *`, those with `Set-Cookie` (but see `strip_set_cookie`), those to requests with `Authorization` unless
they say that they are for all (`public`, `s-maxage`, `must-revalidate`), and what says nothing of its lifetime. `Vary` is followed. What
requests say (`Cache-Control: no-cache`) counts only from `control_ip_list`: else anybody could have the backend asked.

**Keys.** An answer is kept under the scheme, host, port and target (path and query, after the location's rewrite) of its request, and
under the location. Targets are compared as they are sent. What `ignore_query` and `sort_query` leave out of the key, or put in order,
is so in the request to the backend, too, so that nobody can have an answer stored that was made for another request.

```toml
[plugins.pages]
category = "cache"
directory = "/var/cache/pingap?max_size=10gb"
namespace = "shop"
max_ttl = "1h"
ignore_query = ["utm_*", "fbclid", "gclid"]
bypass_cookies = ["session", "wordpress_logged_in_*"]
purge_ip_list = ["127.0.0.1", "10.0.0.0/8"]
```

**Answers** have `X-Cache-Status`: `hit`, `miss`, `stale`, `stale-updating`, `expired`, `revalidated`, `revalidated-nocache`, `uncacheable`,
`bypass` or `unavailable` ([what they mean](caching.md#in-a-word)); `X-Cache-Lock` in milliseconds, where a request waited for another's
fetch; `Age`; and `Cache-Status` (RFC 9211; `cache_status`). How long it took to look is for logs: `{:cache_lookup_time}`.

**Purging.** `PURGE` of a URL removes it with all its variants: 204. `/images/*` is all that begins so, `/*` the whole namespace (200
with the number), and a request with `Cache-Tag` or `Surrogate-Key` all that has one of these tags. `Pingap-Purge: soft` makes it stale
instead. Who is not in `purge_ip_list` gets 403.

Unlike pingap 0.13.9: the key has scheme and host, and of `headers` a missing one is told from one that is empty; HEAD is answered from
what GET stored; Vary, Set-Cookie and Authorization are looked at; `public` and `s-maxage` without `max-age` are stored, and `max_ttl`
holds for Expires, too; an answer that says nothing is not kept for a second (`default_ttl = "1s"` does that); `stale-while-revalidate`
works; `memory://NAME` is a store of its own, and each has the size that it says. `/images/*` and, in memory, `/*` can be purged.
`eviction` is always on, and `predictor = false` turns it off. `skip` has no look-around.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterator
from typing import Final

from pydantic import Field

from pingap.plugin import (
    Addresses,
    BadValue,
    CachePolicy,
    CacheRules,
    Duration,
    Exchange,
    HeaderName,
    Host,
    KeyRules,
    NamePatterns,
    Network,
    Plugin,
    Regex,
    Result,
    Settings,
    Size,
    Trouble,
    Words,
    read_place,
)

LONGEST_LOCK: Final = 300.0
"""Seconds."""

LONGEST_NAMESPACE: Final = 64
"""Bytes: it is in every key."""

LEAST_SHARE: Final = 1_000_000
"""Bytes of a namespace's part."""


class CacheSettings(Settings):
    directory: str = ""
    """Where answers are kept. `""` or `"memory://"`: in memory; `"memory://NAME"`: in memory, apart from others. Else a directory of the
    cache's own, which survives restarts. Behind a `?` may be `max_size=10gb` (in memory also a percentage of a quarter of the memory
    that is free at the start, `max_size=20`; without it all of that quarter, of at most 1 GiB, and of a disk as much as it has) and
    `inactive=2d` (what nobody asked for that long goes; 48h on a disk). All caches that name the same place share it: write it alike."""
    namespace: str = ""
    """Caches of one place that have different ones know nothing of each other's answers."""
    namespace_max_size: Size = 0
    """Ours. What the answers of the namespace may take of the place; 0: all of it."""
    headers: list[HeaderName] = Field(default_factory=list)
    """Request headers that an answer depends on and whose values are in the key, for backends that do not say so in `Vary`."""
    keep_query: Words = Field(default_factory=list)
    """Ours. Only these query parameters are in the key and are sent to the backend: names, or their beginnings (`"f_*"`). Without it
    all are."""
    ignore_query: Words = Field(default_factory=list)
    """Ours. These are not: `["utm_*", "fbclid"]`; `"*"` is every one."""
    sort_query: bool = False
    """Ours. Query parameters are sorted by their names, in the key and for the backend. Those of the same name keep their order."""
    lock: Duration = 1.0
    """How long a request waits while another one fetches the same; then it goes to the backend by itself. `"0s"`: it does not wait."""
    max_ttl: Duration | None = None
    """The longest that an answer counts as fresh, whatever it says."""
    default_ttl: Duration = 0.0
    """Ours. For how long an answer counts as fresh that says nothing of it; 0: a tenth of the time since its Last-Modified, at most a
    day, and without that it is not stored."""
    stale_while_revalidate: Duration = 0.0
    """Ours. How long an answer may be given out, once it is no longer fresh, while the backend is asked for a new one; for answers
    that do not say it themselves, and were fresh for a while."""
    stale_if_error: Duration = 1.0
    """Ours. The same when the backend cannot be reached or answers 5xx."""
    max_file_size: Size = 1_000_000
    """The largest body that is stored; 0: any."""
    check_cache_control: bool = False
    """Answers without `Cache-Control` (or a field that stands for it) are not stored."""
    strip_set_cookie: bool = False
    """Ours. Answers with `Set-Cookie` are stored, and given to everybody without it; else they are not stored."""
    keep_set_cookie: bool = False
    """Ours. They are stored with it, and **everybody gets the same cookies**: only for backends that set none that is somebody's."""
    skip: Regex = None
    """Requests whose path and query this matches are left alone; PURGE is not."""
    bypass_cookies: Words = Field(default_factory=list)
    """Ours. Requests with one of these cookies go to the backend, and the answer is not stored: names, or their beginnings (`"wp_*"`)."""
    purge_ip_list: list[Network] = Field(default_factory=list)
    """Clients that may purge, addresses and networks. Without one nobody may."""
    control_ip_list: list[Network] = Field(default_factory=list)
    """Ours. Clients whose `Cache-Control` and `Pragma` count: `no-cache` (the backend is asked), `no-store`, `max-age`,
    `only-if-cached`…"""
    eviction: bool = True
    """Without effect: what is asked for least goes whenever there is no room."""
    predictor: bool = True
    """It is remembered what turned out not to be storable, so that requests for it do not wait for one another."""
    cache_status: bool = True
    """Ours. Answers have `Cache-Status`, which says what became of the request here, and why."""


class Cache(Plugin[CacheSettings]):
    category = "cache"
    model = CacheSettings
    steps = ("request",)
    files = ("directory",)
    is_innermost = True

    def start(self, host: Host) -> None:
        self._cache = host.caching(self.rules())

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        return self._cache.request(exchange)

    def response(self, exchange: Exchange) -> Result | Awaitable[Result]:
        return self._cache.response(exchange)

    # -- settings ----------------------------------------------------------------------

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        for said, hint in read_place(settings.directory).wrongs:
            yield "directory", said, hint
        namespace = settings.namespace
        if not namespace.isprintable() or len(namespace.encode()) > LONGEST_NAMESPACE:
            yield "namespace", f"must be visible text of at most {LONGEST_NAMESPACE} bytes", 'a word: "shop"'
        if 0 < settings.namespace_max_size < LEAST_SHARE:
            yield "namespace_max_size", "is less than 1mb", 'write a unit: "256mb"; 0 is all of the place'
        for at, name in enumerate(settings.headers):
            if not name:
                yield f"headers[{at}]", "must not be empty", 'the name of a request header: "Accept-Language"; else leave it out'
        for key in ("keep_query", "ignore_query", "bypass_cookies"):
            for pattern in getattr(settings, key):
                try:
                    NamePatterns([pattern])
                except BadValue as error:
                    yield key, error.message, error.hint
        if "keep_query" in settings.model_fields_set and not settings.keep_query:
            yield "keep_query", "names no parameter", 'to leave all out: ignore_query = "*"; to keep all, leave this key out'
        if settings.strip_set_cookie and settings.keep_set_cookie:
            yield "keep_set_cookie", "contradicts strip_set_cookie", "leave one of them out"
        if settings.lock > LONGEST_LOCK:
            yield "lock", f"must be at most {LONGEST_LOCK / 60:g}m", "who waits longer has left"
        if settings.max_ttl is not None and settings.max_ttl <= 0:
            yield "max_ttl", "nothing would ever be fresh", "leave it out for no limit"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        read = read_place(settings.directory)
        for said, hint in read.notes:
            yield "directory", said, hint
        if "eviction" in settings.model_fields_set and not settings.eviction:
            yield "eviction", "has no effect: there is a bound, and what is asked for least goes", "0.13.9 takes false for true, too"
        if "predictor" in settings.model_fields_set and not settings.predictor:
            yield "predictor", "is off; pingap 0.13.9 takes false for true", "leave it out, and it is on"
        if settings.keep_set_cookie:
            yield "keep_set_cookie", "whoever is answered from the cache gets the cookies that were somebody else's", "strip_set_cookie"
        if settings.namespace_max_size and not settings.namespace:
            yield "namespace_max_size", "has no effect without a namespace", 'bound the place: directory = "…?max_size=1gb"'
        size = read.place.max_size
        if size and settings.max_file_size > size:
            yield "max_file_size", "is more than the whole cache may have", "what is larger than that is never stored"
        names = {name.lower() for name in settings.headers}
        if "host" in names:
            yield "headers", "host is in each key", "leave it out"
        if "accept-encoding" in names:
            yield "headers", "each way to write accept-encoding has an answer of its own", "leave it out: Vary is followed"
        if settings.keep_query and "*" in settings.ignore_query:
            yield "keep_query", 'has no effect: ignore_query has "*"'
        if settings.max_ttl is not None and settings.default_ttl > settings.max_ttl:
            yield "default_ttl", "is longer than max_ttl, which holds for it, too", "make it as short"
        if settings.check_cache_control and settings.default_ttl:
            yield "default_ttl", "has hardly any effect: check_cache_control stores only answers with Cache-Control"

    def check_files(self) -> Iterator[Trouble]:
        place = read_place(self.settings.directory).place
        if place.kind != "disk":
            return
        path = place.path
        if os.path.lexists(path) and not os.path.isdir(path):
            yield "directory", f"{path} is no directory"
            return
        while not os.path.exists(path):
            path = os.path.dirname(path)
        if not os.access(path, os.W_OK | os.X_OK):
            yield "directory", f"{path} cannot be written by user id {os.geteuid()}"

    def rules(self) -> CacheRules:
        """What the settings come to; asked after `check`."""
        settings = self.settings
        return CacheRules(
            read_place(settings.directory).place,
            settings.namespace.encode(),
            settings.namespace_max_size if settings.namespace else 0,
            KeyRules(
                settings.namespace.encode(),
                [name.lower().encode() for name in settings.headers if name.lower() != "host"],
                _patterns(settings.keep_query),
                _patterns(settings.ignore_query),
                settings.sort_query,
            ),
            CachePolicy(
                max_ttl=settings.max_ttl or 0.0,
                default_ttl=settings.default_ttl,
                check_cache_control=settings.check_cache_control,
                strip_set_cookie=settings.strip_set_cookie,
                keep_set_cookie=settings.keep_set_cookie,
                stale_while=settings.stale_while_revalidate,
                stale_error=settings.stale_if_error,
                max_file_size=settings.max_file_size,
            ),
            settings.lock,
            settings.max_file_size,
            settings.skip,
            _patterns(settings.bypass_cookies),
            Addresses(settings.purge_ip_list),
            Addresses(settings.control_ip_list),
            settings.predictor,
            settings.cache_status,
        )


def _patterns(names: list[str]) -> NamePatterns | None:
    return NamePatterns(names) if names else None
