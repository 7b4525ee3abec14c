"""`sub_filter`: search and replace in the bodies of answers, as they pass.

```
sub_filter  'text'  'replacement' [g] [i]
subs_filter 'regex' 'replacement' [g] [i]
```

`g` replaces all occurrences instead of the first, `i` ignores case; `$1`, `${name}`
are groups of the regex. Compressed answers (tell the backend not to compress:
`proxy_set_headers = ["Accept-Encoding:identity"]`) and 206 are left alone. A text
holds back no more than what may be the beginning of its next match; a regex holds
back as much as it can match, and one with `*`, `+` or `{n,}` finds matches of up to
64 KiB across pieces. Regexes leave `text/event-stream` alone.

Unlike pingap 0.13.9: it works on the fly instead of on the whole body, honours `i` for texts, and allows empty replacements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field

from pingap.plugin import (
    CONTINUE,
    SKIP,
    BadValue,
    Exchange,
    PathRegex,
    Plugin,
    Result,
    Settings,
    Transformer,
    Trouble,
    codings_of,
    weakened,
)
from pingap.stages.plugins.builtin.substitution import parse


class SubFilterSettings(Settings):
    filters: Annotated[list[str], Field(min_length=1)]
    """The rules, each working on what the one before left."""
    path: PathRegex = None
    """A regex: only answers to paths in which it is found; without it all."""
    status_codes: str = ""
    """Only answers with one of these, as `"200,404"`; without it all."""


class SubFilter(Plugin[SubFilterSettings]):
    category = "sub_filter"
    model = SubFilterSettings
    steps = ("response",)

    def __init__(self, settings: SubFilterSettings) -> None:
        super().__init__(settings)
        self._makers: list[Callable[[], Transformer]] = []
        self._holds_back = False
        self._statuses: frozenset[int] = frozenset()

    def check(self) -> Iterator[Trouble]:
        for index, rule in enumerate(self.settings.filters):
            try:
                maker, holds_back = parse(rule)
            except BadValue as error:
                yield f"filters[{index}]", f"{rule!r}: {error.message}", error.hint
            else:
                self._makers.append(maker)
                self._holds_back = self._holds_back or holds_back
        codes = [code.strip() for code in self.settings.status_codes.split(",")] if self.settings.status_codes else []
        for code in codes:
            if not (code.isascii() and code.isdigit() and 200 <= int(code) <= 599):
                yield "status_codes", f"{code!r} is not a status code", 'write "200,201"'
        self._statuses = frozenset(int(code) for code in codes if code.isdigit())

    def response(self, exchange: Exchange) -> Result:
        response = exchange.response
        assert response is not None
        headers = response.headers
        # What is said of the 200 holds for the 304 that stands for it.
        if self._statuses and (200 if response.status == 304 else response.status) not in self._statuses:
            return SKIP
        if self.settings.path is not None and not self.settings.path.search(exchange.raw_path):
            return SKIP
        if response.status == 206 or codings_of(headers.raw):
            return SKIP  # part of a body, or one that is compressed: nothing would be found in it
        if self._holds_back and (headers.first(b"content-type: ") or b"").lower().startswith(b"text/event-stream"):
            return SKIP  # events must not wait for the ones after them
        headers.remove("accept-ranges")
        headers.raw = weakened(headers.raw)
        for make in self._makers:
            exchange.transform_response(make())
        return CONTINUE
