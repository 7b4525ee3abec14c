"""What an answer is stored under: the URL that a client asked for, and what else the answer depends on.

    namespace \\0 scheme://host[:port]target [\\0 part]…

A part is `name: value`, `name` (a header that is not there), `name# digest` (one that is long or secret), or `/text`, of whoever
adds one. A NUL is in no part, nor in what is before them, so all that is stored for a URL is the range from its own key to
`key \\0 …`; variants, which Vary makes, have an empty part and 16 bytes at the end of theirs (vary.py).

**Whatever the backend may tell apart is told apart here.** What is not in the key does not reach the backend either: parameters that
are dropped, and the order of those that are sorted, are dropped and sorted in the target that it is asked with (`target_of`). So
nobody can have an answer stored that was made for something else (poisoning), however backends read a query. Nothing else of a target
is touched: `%2f`, `%2F`, `/a/../b` and `/a?` have keys of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pingap.stages.caching.header_part import HeaderPart, escaped
from pingap.stages.caching.names import NamePatterns

MOST_PARAMETERS: Final = 256
"""Of a query that is looked at; one with more stays as it is, and is asked for as it is."""

MOST_HOSTS: Final = 1024
"""Whose beginnings of keys are remembered, of each scheme; past it they are forgotten all at once."""

LONGEST_HOST: Final = 255
"""Bytes of a name that is remembered."""


class KeyRules:
    """Makes the keys of one plugin. Called for each request."""

    __slots__ = ("_drops", "_headers", "_hosts", "_keeps", "_namespace", "_secure_hosts", "_shapes_query", "_sorts")

    def __init__(
        self,
        namespace: bytes = b"",
        headers: Iterable[bytes] = (),
        keep_query: NamePatterns | None = None,
        ignore_query: NamePatterns | None = None,
        sort_query: bool = False,
    ) -> None:
        """namespace: without NUL (ValueError). headers: names in lower case. keep_query: only these parameters; None: all.
        ignore_query: without these, of those. sort_query: by name; those of one name keep their order."""
        if namespace.find(b"\0") >= 0:
            raise ValueError("a namespace has no NUL")
        self._namespace: bytes = namespace + b"\0"
        self._headers: tuple[HeaderPart, ...] = tuple([HeaderPart(name) for name in dict.fromkeys(headers)])
        self._keeps: NamePatterns | None = keep_query
        self._drops: NamePatterns | None = ignore_query
        self._sorts: bool = sort_query
        self._shapes_query: bool = keep_query is not None or ignore_query is not None or sort_query
        self._hosts: dict[bytes, bytes] = {}
        self._secure_hosts: dict[bytes, bytes] = {}

    @property
    def namespace(self) -> bytes:
        """What all keys begin with."""
        return self._namespace

    def key_of(self, scheme: bytes, host: bytes, target: bytes, request_headers: bytes, extra: tuple[bytes, ...]) -> bytes:
        """The key of a request.

        host: as the client named it, perhaps with a port. target: path and query after the location's rewrite; as of `target_of` or
        not. request_headers: a block in normal form. extra: what else the answer depends on: **the name of the location first**,
        since another one may send the same target to another backend, or with other headers; then what plugins add
        (`Exchange.cache_key`), in their order.
        """
        key = self.url_of(scheme, host, target)
        for header in self._headers:
            key += header.part_of(request_headers)
        for part in extra:
            key += b"\0/" + (part if part.find(b"\0") < 0 and part.find(b"\1") < 0 else escaped(part))
        return key

    def url_of(self, scheme: bytes, host: bytes, target: bytes) -> bytes:
        """The key without its parts: what all that is stored for a URL begins with, and is followed by a NUL or nothing."""
        if self._shapes_query:
            target = self.target_of(target)
        if scheme == b"https":
            start = self._secure_hosts.get(host)
            if start is None:
                start = self._start(scheme, host, self._secure_hosts)
        else:
            start = self._hosts.get(host) if scheme == b"http" else b""
            if start is None:
                start = self._start(scheme, host, self._hosts)
        if not start or not target.startswith(b"/") or target.find(b"\0") >= 0:
            return self._namespace + b"\1" + b"\1\3".join([escaped(scheme), escaped(host), escaped(target)])
        return start + target

    def target_of(self, target: bytes) -> bytes:
        """The target as the key has it, and as a backend is to be asked for it."""
        if not self._shapes_query:
            return target
        at = target.find(b"?")
        if at < 0:
            return target
        query = target[at + 1 :]
        if query.count(b"&") >= MOST_PARAMETERS:
            return target
        pairs = query.split(b"&")
        keeps, drops = self._keeps, self._drops
        if keeps is not None or drops is not None:
            kept = []
            for pair in pairs:
                name = pair.partition(b"=")[0]
                if (keeps is None or keeps.has(name)) and (drops is None or not drops.has(name)):
                    kept.append(pair)
            if not kept:
                return target[:at]
            pairs = kept
        if self._sorts:
            pairs.sort(key=_name_of)
        return target[: at + 1] + b"&".join(pairs)

    def _start(self, scheme: bytes, host: bytes, starts: dict[bytes, bytes]) -> bytes:
        """Namespace, scheme and authority; b"" for what is none."""
        name = host.lower()
        port = b":443" if scheme == b"https" else b":80"
        if name.find(b"/") >= 0 or name.find(b"\0") >= 0:
            return b""
        if name.endswith(port):
            bare = name[: -len(port)]
            if bare.find(b":") < 0 or bare.endswith(b"]"):
                name = bare
        start = self._namespace + scheme + b"://" + name
        if len(host) <= LONGEST_HOST:
            if len(starts) >= MOST_HOSTS:
                starts.clear()
            starts[host] = start
        return start


def _name_of(pair: bytes) -> bytes:
    return pair.partition(b"=")[0]
