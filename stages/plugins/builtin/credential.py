"""Where a request carries a credential: found, and taken out of what the backend gets."""

from __future__ import annotations

from pingap.plugin import Exchange, loosely, parameter, query_alike, query_values, without_query_alike

_COOKIE = b"cookie: "


class Credential:
    """A header, a cookie or a query parameter: the first of them that has a name."""

    __slots__ = ("_cookie", "_header", "_line", "_loose_cookie", "_query")

    def __init__(self, header: str = "", cookie: str = "", query: str = "") -> None:
        self._header = header
        self._line = header.lower().encode("latin-1", "replace") + b": " if header else b""
        self._cookie = b"" if header else cookie.encode("latin-1", "replace")
        self._loose_cookie = loosely(self._cookie)
        self._query = b"" if header or cookie else parameter(query)

    def values(self, exchange: Exchange) -> list[bytes]:
        """The first that it gives for it, as sent, then all that some backend may read instead, in whatever spelling of the name.

        Empty when the name itself is not there. Whoever guards something refuses a request in which they differ.
        """
        headers = exchange.headers
        if self._line:
            first = headers.first(self._line)
            if first is None:
                return []
            spellings = headers.alike(self._header)
            if len(spellings) == 1:
                return [first]
            return [first, *(value.encode("latin-1") for name in set(spellings) for value in headers.get_all(name))]
        if self._cookie:
            if headers.first(_COOKIE) is None:
                return []
            pairs = [pair.partition(b"=") for line in headers.get_all("cookie") for pair in line.encode("latin-1").split(b";")]
            found = [(key, value.strip()) for name, equals, value in pairs if equals and self._is_spelt(key := name.strip())]
            exact = next((value for key, value in found if key == self._cookie), None)
            return [] if exact is None else [exact, *(value for _, value in found)]
        target = exchange.raw_target
        named = query_values(target, self._query)
        return [value.encode("latin-1") for value in (named[0], *query_alike(target, self._query))] if named else []

    def remove(self, exchange: Exchange) -> None:
        """The backend gets none of them."""
        headers = exchange.headers
        if self._line:
            headers.remove_alike(self._header)
        elif self._cookie:
            kept = [line for value in headers.remove("cookie") if (line := self._other_cookies(value.encode("latin-1")))]
            for line in kept:
                headers.add("cookie", line)
        else:
            exchange.target = without_query_alike(exchange.raw_target, self._query).decode("latin-1")

    def _other_cookies(self, line: bytes) -> bytes:
        return b";".join([pair for pair in line.split(b";") if not self._is_spelt(pair.partition(b"=")[0].strip())]).strip()

    def _is_spelt(self, name: bytes) -> bool:
        return name == self._cookie or loosely(name) == self._loose_cookie
