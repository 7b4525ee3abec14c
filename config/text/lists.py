"""Keys that are lists: what KDL cannot show of a list with one value, and no list at all."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pingap.config import model
from pingap.config.fields import EachParsed, Parsed

_LATER: Final[Mapping[str, frozenset[str]]] = {"basic": frozenset(("webhook_notifications",))}
"""Of the reference, that are in no model yet."""

_OF_PLUGINS: Final[Mapping[str, frozenset[str]]] = {
    "admin": frozenset(("authorizations",)),
    "basic_auth": frozenset(("authorizations",)),
    "cache": frozenset(("control_ip_list", "headers", "purge_ip_list")),
    "compression": frozenset(("content_types",)),
    "combined_auth": frozenset(("authorizations", "ip_list")),
    "csrf": frozenset(("trusted_origins",)),
    "directory": frozenset(("headers", "precompressed", "try")),
    "forward_auth": frozenset(("add_headers", "request_headers", "response_headers")),
    "ip_restriction": frozenset(("ip_list",)),
    "jwt": frozenset(("claims_to_context", "claims_to_headers", "required_claims")),
    "limit": frozenset(("exempt",)),
    "key_auth": frozenset(("keys",)),
    "mock": frozenset(("headers",)),
    "referer_restriction": frozenset(("referer_list",)),
    "response_headers": frozenset(("add_headers", "remove_headers", "rename_headers", "set_headers", "set_headers_not_exists")),
    "sub_filter": frozenset(("filters",)),
    "ua_restriction": frozenset(("ua_list",)),
}
"""By category. The plugins' own models are not for us to know; tests compare them with this."""


@cache
def list_keys(section: str, category: str = "") -> frozenset[str]:
    """The keys of an item that are always lists. category: of a plugin; nobody knows those that users wrote."""
    if section == "plugins":
        return _OF_PLUGINS.get(category, frozenset())
    kind = model.KINDS.get(section)
    hints = typing.get_type_hints(kind, include_extras=True) if kind else {}
    return _LATER.get(section, frozenset()) | {key for key, hint in hints.items() if _is_list(hint)}


def _is_list(hint: Any) -> bool:
    """A text that is taken apart into several things is no list in a file."""
    marks = getattr(hint, "__metadata__", ())
    if any(isinstance(mark, EachParsed) for mark in marks):
        return True
    return typing.get_origin(hint) is tuple and not any(isinstance(mark, Parsed) for mark in marks)
