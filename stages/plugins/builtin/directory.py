"""Files of a directory, with what people expect of a file server.

The file is what the path of the request names below `path`, after the location's rewrite; the location's own prefix is not taken
away (`strip_prefix` does that). GET and HEAD are answered, other methods with 405. A directory is answered with its `index`; without
one with a list (`autoindex`) or 404. A path of a directory without its slash is redirected (301) to the one with it.

There are `ETag` and `Last-Modified`, `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since` (304, 412), `Range` of
one or several parts (206, 416) and `If-Range`. Many small or overlapping ranges are answered with the whole file. HTML is sent with
`Cache-Control: private, no-cache` whatever `max_age` says, so that a page never names files of an older version; a browser that
has it gets 304. An `ETag` is weak (`W/`) within two seconds of a change, in which a file may change twice at the same time.

What is not served: names that begin with a dot (404; `hidden`), what is neither file nor directory (404), what may not be read (403),
`..` in whatever spelling (403), and other spellings of a path: `//a`, `/./a`, `/a%2Fb` (404). Locations compare paths as they
are sent, so these would lead around the plugins of another location; `normalize_path` of the server makes them one before. For the same
reason escapes have one spelling: letters, digits and `-._~!$&'()*+,;=:@` have none, all else has one with capital digits (`/a%20(1).txt`,
`/caf%C3%A9`). Write paths of locations so. Whoever asks for `/%61.txt` or `/caf%c3%a9` is redirected (301) to that, whether it
is there or not; with `try`, entries with `$path` are passed over, and the redirect is what comes of no other entry but a status.

Files below 256 KiB are read at once, and the last 512 that were asked for are kept open, 32 MB of them in memory (of all these plugins
of a process at most a quarter of its descriptors, and 128 MB). One that nobody asks for is closed within a minute, so that the
space of files that were deleted becomes free. Before each
answer it is asked whether a file is still the same, so a change is seen by the next request. The first look at a file, and
every look on network file systems and FUSE, is made in threads; when a disk does not answer within `timeout` the answer is 503, and no
other request waits. From 256 KiB on files go by sendfile on plain connections. A file that becomes shorter while it is sent is
cut off with its connection. Replace files by renaming: a file that is written over is sent as it is then. With no descriptors left
after those were closed, and with 512 requests waiting for the disk (1024 where the file is known from before), the answer is 503.

A page whose paths are made in the browser, and files in front of a backend:

```toml
[plugins.app]
category = "directory"
path = "/srv/app"
try = ["$path", "$path/", "/index.html"]

[plugins.files-first]
category = "directory"
path = "/srv/www"
try = ["$path", "@upstream"]
```

Unlike pingap 0.13.9: sub-directories have an index and redirects, and `index` may be a list; `autoindex` lists what has no
index, names are escaped and what is not hidden only; `path` is required, since what pingap was started in is nobody's intention;
`..` is refused also where it stays inside; dot files, POST and the like are not served; conditions, several ranges and
`Last-Modified` are there; broken ranges are ignored (200) instead of 416; answers have either a length or chunks, ranges always 206,
and no file ends early; HTML never gets `max_age`; the name in Content-Disposition is escaped; a link that leads out of the
directory with `follow_symlinks = false` is found by whatever way (403); of `headers` several may have the same name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from http.client import responses
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from pingap.plugin import (
    CONTINUE,
    Duration,
    Exchange,
    HeaderLine,
    Host,
    Plugin,
    Reply,
    RequestPath,
    Result,
    Settings,
    Size,
    Trouble,
    as_asked,
    as_sent,
    qualities,
    reply,
)
from pingap.stages.plugins.builtin.files.finder import AddSlash, Denied, Finder, Listed, PassOn, Respell, Route, TryEntry
from pingap.stages.plugins.builtin.files.listing import HEADERS, KINDS, name_of, render, wanted_kind
from pingap.stages.plugins.builtin.files.media_types import TYPES
from pingap.stages.plugins.builtin.files.remembered import LONGEST_KEY, MOST_FILES, Remembered, budget_of_all
from pingap.stages.plugins.builtin.files.searches import Searches
from pingap.stages.plugins.builtin.files.served_file import Style
from pingap.stages.plugins.builtin.files.tree import Tree, is_current
from pingap.stages.plugins.builtin.files.web_paths import NoPath, WebPath, respelled, way_to_canonical, web_path, without_prefix

LEAST_PIECE: Final = 4096
MOST_PIECE: Final = 256 * 1024

_OURS: Final = frozenset(("etag", "last-modified", "accept-ranges", "content-range", "content-encoding"))
"""Lines that requests are compared with: another value would make each comparison wrong."""

_NO_STORE: Final = ("cache-control", "private, no-store")


class DirectorySettings(Settings):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=False)

    path: Annotated[str, Field(min_length=1)]
    """The directory; `~` is the home of whom pingap runs as. Looked up anew for each file, so it may be a link that is switched."""
    index: str | list[str] = "index.html"
    """The file that stands for a directory. Ours: a list of them, the first that is there."""
    autoindex: bool = False
    """A directory without an index is listed: a page, or with `?format=json`, `?format=text` or `Accept` JSON or lines. At most 10,000
    names."""
    chunk_size: Size | None = None
    """Bytes that are read at a time of a long file that sendfile cannot send, from 4 KiB to 256 KiB (what is beyond counts as that);
    without it 256 KiB."""
    max_age: Duration | None = None
    """`Cache-Control: public, max-age=…`, except of HTML; without it, or with 0, `private, no-cache`."""
    private: bool = False
    """With `max_age`: `private` instead of `public`."""
    charset: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:+-]*$")] = ""
    """Added to the types `text/*`."""
    headers: list[HeaderLine] = Field(default_factory=list)
    """`"Name: value"`, of files; they take the place of what is there otherwise."""
    download: bool = False
    """`Content-Disposition: attachment`, with the name of the file."""
    follow_symlinks: bool = True
    """false: links that lead out of `path` are answered with 403; those that stay inside are followed."""
    attempts: list[str] = Field(default_factory=list, alias="try")
    """Ours. What is tried, in turn: `"$path"` is the file that was asked for (`$uri` and `{path}` are the same), `"$path/"` the directory,
    `"$path.html"` and `"/index.html"` other files; the last may be a status (`"=404"`) or `"@upstream"`, which lets the request go on.
    Without it: the file or directory that was asked for, else 404."""
    hidden: bool = False
    """Ours. true: names that begin with a dot are served and listed. `/.well-known/` always is."""
    precompressed: list[Literal["br", "zstd", "gzip"]] = Field(default_factory=list)
    """Ours. Codings of which there may be a file beside the plain one (`app.js.br`, `.zst`, `.gz`): it is sent to whom likes it best by
    Accept-Encoding, the first of this list among equals. Nobody looks whether it has the same content."""
    strip_prefix: RequestPath = ""
    """Ours. Taken away from paths that begin with it: `"/static"` serves `/static/a.css` from `a.css`."""
    types: dict[str, Annotated[str, Field(pattern=r"^[!#$&^_.+A-Za-z0-9-]+/[!#$&^_.+A-Za-z0-9-]+$")]] | None = None
    """Ours. Content types by the ending of names, besides and instead of the usual: `{ glb = "model/gltf-binary" }`."""
    timeout: Duration = 10.0
    """Ours. How long a request waits for the disk until it is answered with 503; and the body of an answer, until it is cut off."""


class Directory(Plugin[DirectorySettings]):
    category = "directory"
    model = DirectorySettings
    steps = ("request", "proxy_upstream")
    files = ("path",)
    threads = 8

    def __init__(self, settings: DirectorySettings) -> None:
        super().__init__(settings)
        self._passes = "@upstream" in settings.attempts
        self._codings = tuple(dict.fromkeys(settings.precompressed))
        self._accepted = lru_cache(maxsize=256)(self._accepted_codings)
        try:
            self._prefix = web_path(as_sent(settings.strip_prefix)).names if settings.strip_prefix else ()
        except NoPath:
            self._prefix = ()
        self._remembered: Remembered | None = None
        self._searches: Searches | None = None
        self._host: Host | None = None
        allow = () if self._passes else (("allow", "GET, HEAD"),)
        self._wrong_method = reply(405, "Method Not Allowed", allow)

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if "\0" in settings.path:
            yield "path", "a path has no NUL"
        for at, name in enumerate(self._index()):
            key = "index" if isinstance(settings.index, str) else f"index[{at}]"
            if not name.strip("/") or not _is_plain(name):
                yield key, f"{name!r} is not the name of a file", 'index = "index.html"'
        for at, (name, _) in enumerate(settings.headers):
            if name in _OURS:
                yield f"headers[{at}]", f"{name} is told of each file as it is", "leave it out"
        for ending in settings.types or ():
            if not ending.strip(".") or "/" in ending:
                yield "types", f"{ending!r} is not the ending of a name", '{ glb = "model/gltf-binary" }'
        if settings.strip_prefix and not self._prefix:
            yield "strip_prefix", f"{settings.strip_prefix!r} is not the beginning of a path", 'strip_prefix = "/static"'
        if settings.timeout <= 0:
            yield "timeout", "must be more than 0"
        for at, text in enumerate(settings.attempts):
            is_last = at == len(settings.attempts) - 1
            if (fault := _fault_of(text, is_last)) is not None:
                yield (f"try[{at}]", *fault)

    def start(self, host: Host) -> None:
        settings = self.settings

        async def read(call: Callable[..., Any], *args: Any) -> Any:
            async with asyncio.timeout(settings.timeout):
                return await host.in_thread(call, *args)

        root = os.path.abspath(os.path.expanduser(os.fsencode(settings.path)))
        style = Style(
            _cache_control(settings),
            settings.charset,
            tuple(settings.headers),
            settings.download,
            bool(self._codings),
            {**TYPES, **{ending.strip(".").lower(): kind for ending, kind in (settings.types or {}).items()}},
            max(LEAST_PIECE, min(MOST_PIECE, settings.chunk_size)) if settings.chunk_size is not None else MOST_PIECE,
            read,
        )
        index = [os.fsencode(name) for name in self._index()]
        attempts = [_attempt(text) for text in settings.attempts]
        finder = Finder(Tree(root, settings.follow_symlinks), index, attempts, settings.hidden, settings.autoindex, style)
        budget = budget_of_all()
        self._remembered = Remembered(budget, MOST_FILES, host.loop.call_later)
        self._searches = Searches(finder, host, settings.timeout, budget.give_all_up)
        self._host = host

        def told(there: asyncio.Future[Any]) -> None:
            if not there.cancelled() and there.exception() is None and not there.result():
                host.log("warn", "there is no such directory yet", path=os.fsdecode(root))

        asyncio.ensure_future(host.in_thread(os.path.isdir, root)).add_done_callback(told)

    def stop(self) -> None:
        if self._remembered is not None:
            self._remembered.clear()

    # -- requests ---------------------------------------------------------------------

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        if exchange.method not in ("GET", "HEAD"):
            return CONTINUE if self._passes else self._wrong_method
        path = exchange.raw_path
        key: Any = path
        codings: tuple[str, ...] = ()
        if self._codings and (accepted := exchange.headers.joined(b"accept-encoding: ")):
            codings = self._accepted(accepted)
            key = (path, codings)
        remembered = self._remembered
        assert remembered is not None
        route = remembered.get(key)
        if route is not None and route.is_local and is_current(route.checks):  # no disk is waited for: see Route.is_local
            return as_asked(exchange, route.file.whole, route.file.known)
        try:
            asked = without_prefix(web_path(path), self._prefix)
        except NoPath as error:
            return self._refused(exchange, error.status)
        has_slash = exchange.original_target.partition("?")[0].endswith("/")
        is_rewritten = has_slash and not asked.is_folder
        return self._found(exchange, (key, True) if is_rewritten else key, asked, has_slash, codings, None if is_rewritten else route)

    async def _found(
        self, exchange: Exchange, key: Any, asked: WebPath, has_slash: bool, codings: tuple[str, ...], known: Route | None
    ) -> Result:
        remembered = self._remembered
        assert self._searches is not None and remembered is not None
        try:
            outcome = await self._searches.outcome(key, asked, has_slash, codings, known)
        except OSError:
            return reply(500, "File access error", [_NO_STORE])
        if known is not None and outcome is not known:
            remembered.forget(key)
        match outcome:
            case Route():
                if outcome.is_settled and outcome is not known and len(exchange.raw_path) <= LONGEST_KEY:
                    remembered.put(key, outcome)
                return as_asked(exchange, outcome.file.whole, outcome.file.known)
            case Listed():
                return await self._listed(exchange, outcome, asked)
            case AddSlash():
                return _with_slash(exchange)
            case Respell():
                return _in_canonical_spelling(exchange) or self._refused(exchange, 404)
            case PassOn():
                return CONTINUE
            case Denied():
                return self._refused(exchange, outcome.status)

    async def _listed(self, exchange: Exchange, listed: Listed, asked: WebPath) -> Reply:
        assert self._host is not None
        kind = wanted_kind(exchange.query_value("format"), exchange.headers.joined(b"accept: "))
        page = await self._host.in_thread(
            render, kind, name_of(asked.names), listed.entries, not asked.names
        )  # of 10,000 names it takes 0.1 s
        taken = {name for name, _ in self.settings.headers}
        lines = [("content-type", KINDS[kind]), *(line for line in HEADERS if line[0] not in taken)]
        return reply(200, page, [*lines, *(line for line in self.settings.headers if line[0] != "content-type")])

    def _refused(self, exchange: Exchange, status: int) -> Reply:
        forbidden = f"You do not have permission to access this resource, file: {exchange.path}"
        return reply(status, forbidden if status == 403 else responses.get(status, ""), [_NO_STORE])

    # -- settings ---------------------------------------------------------------------

    def _index(self) -> list[str]:
        index = self.settings.index
        return [index] if isinstance(index, str) else index

    def _accepted_codings(self, header: bytes) -> tuple[str, ...]:
        """Of ours, those that the client prefers to the plain file, the best first."""
        liked = qualities(header)
        rest = liked.get("*", 0.0)
        plain = liked.get("identity", 0.0)
        found = [(liked.get(coding, liked.get("x-gzip", rest) if coding == "gzip" else rest), coding) for coding in self._codings]
        return tuple(coding for quality, coding in sorted(found, key=lambda pair: -pair[0]) if quality > 0 and quality >= plain)


def _with_slash(exchange: Exchange) -> Reply:
    """Relative to the client's own path: no name in it is ever taken for a host, and who stands in front may have cut it."""
    path, mark, query = exchange.original_target.partition("?")
    return reply(301, "", [("location", f"./{respelled(path.rpartition('/')[2])}/{mark}{query}")])


def _in_canonical_spelling(exchange: Exchange) -> Reply | None:
    """None where it is not the client that spells it otherwise, but a rewrite."""
    path, mark, query = exchange.original_target.partition("?")
    way = way_to_canonical(path)
    return None if way is None else reply(301, "", [("location", f"{way}{mark}{query}")])


def _cache_control(settings: DirectorySettings) -> str:
    if not settings.max_age:
        return "private, no-cache"
    return f"{'private' if settings.private else 'public'}, max-age={int(settings.max_age)}"


# -- try ----------------------------------------------------------------------------

_PATH: Final = "$path"


def _spelled(text: str) -> str:
    """As nginx and Caddy write it is understood, too."""
    return text.replace("$uri", _PATH).replace("{path}", _PATH).replace("{http.request.uri.path}", _PATH)


def _is_plain(text: str) -> bool:
    return "\0" not in text and not {".", ".."}.intersection(text.split("/"))


def _fault_of(text: str, is_last: bool) -> tuple[str, str] | None:
    """What is wrong with an entry, and a hint."""
    if text.startswith(("=", "@")):
        if text.startswith("=") and not (text[1:].isdecimal() and text.isascii() and len(text) == 4 and 400 <= int(text[1:]) <= 599):
            return f"{text!r} is not a status of 400 to 599", '"=404"'
        if text.startswith("@") and text != "@upstream":
            return f"{text!r} is nothing to go on to", '"@upstream" is the upstream of the location'
        return None if is_last else (f"{text!r} is an answer already", "put it last")
    rest = _spelled(text).replace(_PATH, "", 1)
    if not _spelled(text).startswith(("/", _PATH)) or not _is_plain(rest) or "$" in rest or "{" in rest:
        return f"{text!r} is not a file to try", '"$path", "$path/", "$path.html", "/index.html", "=404" or "@upstream"'
    return None


def _attempt(text: str) -> TryEntry:
    if text.startswith("="):
        return TryEntry(b"", b"", False, False, status=int(text[1:]))
    if text.startswith("@"):
        return TryEntry(b"", b"", False, False, passes=True)
    before, mark, after = _spelled(text).partition(_PATH)
    is_folder = text.endswith("/")
    return TryEntry(os.fsencode(before), os.fsencode(after), bool(mark), is_folder)
