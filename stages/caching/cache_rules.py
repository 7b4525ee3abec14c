"""What the settings of one cache come to, for who does the work."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from pingap.stages.caching.keys import KeyRules
from pingap.stages.caching.names import NamePatterns
from pingap.stages.caching.place import CachePlace
from pingap.stages.caching.policy import Policy


class AddressList(Protocol):
    """`pingap.plugin.Addresses` is one."""

    def has(self, address: str, /) -> bool: ...


class NoAddresses:
    """Nobody."""

    def has(self, address: str, /) -> bool:
        return False


class CacheRules(NamedTuple):
    """Of one section of the category cache. All of it is checked."""

    place: CachePlace
    namespace: bytes = b""
    namespace_max_size: int = 0
    """Bytes that the answers of the namespace may take; 0: as many as the place has."""
    keys: KeyRules = KeyRules()
    policy: Policy = Policy()
    lock: float = 1.0
    """Seconds that a request waits for the fetch of another; 0: it fetches by itself."""
    max_file_size: int = 1_000_000
    """Bytes of the largest body that is stored; 0: any."""
    skip: Any = None
    """A compiled regex (google-re2, bytes), searched in path and query: such requests are not looked at. None: there is none."""
    bypass_cookies: NamePatterns | None = None
    """Requests with one of these cookies are neither answered from the cache nor stored."""
    purgers: AddressList = NoAddresses()
    """Who may purge."""
    trusted: AddressList = NoAddresses()
    """Whose Cache-Control and Pragma in requests count."""
    predictor: bool = True
    """What cannot be stored is remembered, so that requests for it do not wait for one another."""
    cache_status: bool = True
    """Answers have Cache-Status (RFC 9211)."""

    def has_bypass_cookie(self, headers: bytes) -> bool:
        """headers: of the request, in normal form."""
        names = self.bypass_cookies
        if names is None:
            return False
        at = 0 if headers.startswith(b"cookie: ") else headers.find(b"\ncookie: ") + 1 or -1
        while at >= 0:
            end = headers.index(b"\r\n", at)
            for pair in headers[at + 8 : end].split(b";"):
                if names.has(pair.partition(b"=")[0].strip(b" \t")):
                    return True
            at = headers.find(b"\ncookie: ", end) + 1 or -1
        return False
