"""The pages of answers that are ours: one for each kind of error, made once per configuration generation."""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from importlib import metadata
from typing import Final

from pingap.stages.errors import KINDS, Kind

DEFAULT: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{error_type}}</title></head>'
    "<body><h1>{{error_type}}</h1><p>{{content}}</p><hr><p>pingap {{version}}</p></body></html>\n"
)
"""Used when `basic.error_template` is empty."""

RETRY_AFTER: Final = 1
"""Seconds: what a client that was turned away because we are busy is asked to wait."""

_MARK: Final = re.compile(r"\{\{(version|error_type|content)\}\}")


@lru_cache(maxsize=1)
def product_version() -> str:
    """The version of pingap that is installed; "dev" when it runs from a tree that is not."""
    try:
        return metadata.version("pingap")
    except metadata.PackageNotFoundError:
        return "dev"


def render(template: str, kind: Kind, version: str = "", content: str = "") -> tuple[bytes, bytes]:
    """(header block, body) of an error. `version` is that of pingap when empty; `content` replaces the kind's own text.

    All that is filled in is escaped for what the template is: JSON when it begins with `{`, else HTML. Text that is
    filled in is not looked at for marks again.
    """
    template = template or DEFAULT
    is_json = template.startswith("{") and not template.startswith("{{")
    values = {"version": version or product_version(), "error_type": kind.name, "content": content or kind.text}

    def fill(matched: re.Match[str]) -> str:
        value = values[matched[1]]
        return json.dumps(value)[1:-1] if is_json else html.escape(value)

    body = _MARK.sub(fill, template).encode()
    media = "application/json" if is_json else "text/html"
    # A 404 or a 414 without a word on it may be cached by anybody on the way (RFC 9111 section 4.2.2).
    headers = f"content-type: {media}; charset=utf-8\r\ncache-control: private, no-store\r\nx-pingap-etype: {kind.name}\r\n"
    return headers.encode(), body


class ErrorPages:
    """The rendered page of each kind. Build one per generation from `snapshot.basic.error_template`."""

    __slots__ = ("_pages",)

    def __init__(self, template: str = "", version: str = "") -> None:
        self._pages = {name: (kind.status, *render(template, kind, version)) for name, kind in KINDS.items()}
        status, headers, body = self._pages["overloaded"]
        self._pages["overloaded"] = (status, headers + b"retry-after: %d\r\n" % RETRY_AFTER, body)

    def page(self, name: str) -> tuple[int, bytes, bytes]:
        """(status, header block, body) of the kind `name` (stages/errors.py); KeyError for no such kind."""
        return self._pages[name]
