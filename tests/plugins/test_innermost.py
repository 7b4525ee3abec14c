"""Where the hooks of a cache are among those of other plugins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pingap.stages.error_page import ErrorPages
from pingap.stages.plugins.api import STEPS
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.meters import Meter


def live(name: str, **flags: bool) -> Any:
    """A plugin that has a hook at each step, which is its name and the step's."""
    usual = dict.fromkeys(
        ("is_innermost", "is_outermost", "sees_error_pages", "counts_requests", "is_guarded", "reads_request_body"), False
    )
    return SimpleNamespace(hooks={step: f"{name} {step}" for step in STEPS}, meter=Meter(name), **usual | flags)


CHAIN: Any = Chain([live("cache", is_innermost=True), live("cors", is_outermost=True), live("auth")], ErrorPages(""))


def test_nobody_gets_past_a_guard_by_what_is_stored_wherever_the_cache_stands_in_the_list() -> None:
    early, late = CHAIN.before.calls[:3], CHAIN.before.calls[3:]
    assert early == ("cors early_request", "auth early_request", "cache early_request")
    assert late == ("cors request", "auth request", "cache request")
    assert CHAIN.proxy.calls == ("cache proxy_upstream", "cors proxy_upstream", "auth proxy_upstream")


def test_what_is_stored_is_what_upstream_response_makes_and_no_response_hook() -> None:
    assert CHAIN.fills.calls == ("cache upstream_response", "cors upstream_response", "auth upstream_response", "cache response")
    assert CHAIN.on_hits.calls == ("auth response", "cors response")
    assert CHAIN.respond.calls == CHAIN.fills.calls + CHAIN.on_hits.calls
