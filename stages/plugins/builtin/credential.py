"""Where a request carries a credential: found, and taken out of what the backend gets."""

from __future__ import annotations

from pingap.plugin import Exchange, parameter, query_values, without_query

_COOKIE = b"cookie: "


class Credential:
    """A header, a cookie or a query parameter: the first of them that has a name."""

    __slots__ = ("_cookie", "_header", "_line", "_query")

    def __init__(self, header: str = "", cookie: str = "", query: str = "") -> None:
        self._header = header
        self._line = header.lower().encode("latin-1", "replace") + b": " if header else b""
        self._cookie = b"" if header else cookie.encode("latin-1", "replace")
        self._query = b"" if header or cookie else parameter(query)

    def values(self, exchange: Exchange) -> list[bytes]:
        """All that the request gives for it, as sent. Whoever guards something wants to know of a second one: the backend may read that."""
        headers = exchange.headers
        if self._line:
            first = headers.first(self._line)
            if first is None:
                return []
            if headers.raw.count(self._line) == 1:
                return [first]
            return [value.encode("latin-1") for value in headers.get_all(self._header)]
        if self._cookie:
            if headers.first(_COOKIE) is None:
                return []
            pairs = [pair.partition(b"=") for line in headers.get_all("cookie") for pair in line.encode("latin-1").split(b";")]
            return [value.strip() for name, equals, value in pairs if equals and name.strip() == self._cookie]
        return [value.encode("latin-1") for value in query_values(exchange.raw_target, self._query)]

    def remove(self, exchange: Exchange) -> None:
        """The backend gets none of them."""
        headers = exchange.headers
        if self._line:
            headers.remove(self._header)
        elif self._cookie:
            kept = [line for value in headers.remove("cookie") if (line := self._other_cookies(value.encode("latin-1")))]
            for line in kept:
                headers.add("cookie", line)
        else:
            exchange.target = without_query(exchange.raw_target, self._query).decode("latin-1")

    def _other_cookies(self, line: bytes) -> bytes:
        return b";".join([pair for pair in line.split(b";") if pair.partition(b"=")[0].strip() != self._cookie]).strip()
