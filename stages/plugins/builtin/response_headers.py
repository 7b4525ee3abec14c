"""`response_headers`: adds, removes, sets and renames header lines of answers.

In the order of the table above; at `response`, or at `upstream_response` with `mode = "upstream"`. Values may be the variables
of a location's `proxy_set_headers`: `$host`, `$remote_addr`, `$upstream_addr`, `$http_<name>`, `$<ENV>`, `:<context key>` …
A line whose value turns out empty is left out.

Unlike pingap 0.13.9: a variable without a value leaves the line out. A section that would do nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pingap.plugin import (
    CONTINUE,
    BadValue,
    Exchange,
    HeaderLine,
    Hook,
    Plugin,
    Result,
    Settings,
    Step,
    Template,
    Trouble,
    Variables,
    as_header_name,
    template,
)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue("expected the name of a header")
    try:
        as_header_name(value.strip())
    except ValueError as error:
        raise BadValue(str(error)) from error
    return value.strip().lower()


def _renaming(value: Any) -> tuple[str, str]:
    old, colon, new = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon:
        raise BadValue(f"{value!r} is not two names", 'write "Old-Name: New-Name"')
    return _name(old), _name(new)


Renaming = Annotated[tuple[str, str], BeforeValidator(_renaming), WithJsonSchema({"type": "string"})]


class ResponseHeadersSettings(Settings):
    add_headers: list[HeaderLine] = Field(default_factory=list)
    """`"Name: value"`, besides what is there."""
    remove_headers: list[Annotated[str, BeforeValidator(_name)]] = Field(default_factory=list)
    """Names."""
    set_headers: list[HeaderLine] = Field(default_factory=list)
    """`"Name: value"`, instead of what is there."""
    set_headers_not_exists: list[HeaderLine] = Field(default_factory=list)
    """`"Name: value"`, when there is no such line."""
    rename_headers: list[Renaming] = Field(default_factory=list)
    """`"Old-Name: New-Name"`."""
    mode: Literal["", "response", "upstream"] = ""
    """`"upstream"`: at `upstream_response`, before the `response` hooks of other plugins."""


class ResponseHeaders(Plugin[ResponseHeadersSettings]):
    category = "response_headers"
    model = ResponseHeadersSettings
    steps = ("response", "upstream_response")

    def __init__(self, settings: ResponseHeadersSettings) -> None:
        super().__init__(settings)
        compiled = partial(map, lambda line: (line[0], template(line[1])))
        self._adds: list[tuple[str, Template]] = list(compiled(settings.add_headers))
        self._sets: list[tuple[str, Template]] = list(compiled(settings.set_headers))
        self._defaults: list[tuple[str, Template]] = list(compiled(settings.set_headers_not_exists))
        rules = (*self._adds, *self._sets, *self._defaults)
        self._is_constant = all(value.constant is not None for _, value in rules)

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        wanted = self._step()
        if settings.step is not None and settings.mode and settings.step != wanted:
            yield "step", f"mode = {settings.mode!r} runs at {wanted!r}, not at {settings.step!r}", "leave one of the two out"
        if not (self._adds or self._sets or self._defaults or settings.remove_headers or settings.rename_headers):
            yield "set_headers", "no header is added, removed, set or renamed", "give at least one of the lists"

    def _step(self) -> Step:
        if self.settings.mode:
            return "upstream_response" if self.settings.mode == "upstream" else "response"
        return self.settings.step or "response"

    def hooks(self) -> Mapping[Step, Hook]:
        return {self._step(): self.apply}

    def apply(self, exchange: Exchange) -> Result:
        """The operations, in the order of the reference."""
        assert exchange.response is not None
        headers = exchange.response.headers
        variables = None if self._is_constant else exchange.variables
        for name, value_of in self._adds:
            if value := _render(value_of, variables):
                headers.add(name, value)
        for name in self.settings.remove_headers:
            headers.remove(name)
        for name, value_of in self._sets:
            if value := _render(value_of, variables):
                headers.set(name, value)
            else:
                headers.remove(name)
        for name, value_of in self._defaults:
            if name not in headers and (value := _render(value_of, variables)):
                headers.add(name, value)
        for old, new in self.settings.rename_headers:
            for renamed in headers.remove(old):
                headers.add(new, renamed)
        return CONTINUE


def _render(value: Template, variables: Variables | None) -> bytes:
    if variables is None or value.constant is not None:
        return value.constant or b""
    return value.render(variables)
