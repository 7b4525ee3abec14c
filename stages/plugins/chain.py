"""The hooks of each location, in order, made once for each configuration generation (compiler.py)."""

from __future__ import annotations

from collections.abc import Sequence

from pingap.stages.error_page import ErrorPages
from pingap.stages.plugins.api import Step
from pingap.stages.plugins.leaving import LeavingLines
from pingap.stages.plugins.live import Live


class Hooks:
    """Hooks that run one after the other, whose they are, and what measures them."""

    __slots__ = ("calls", "meters", "owners")

    def __init__(self, lives: Sequence[Live], *steps: Step) -> None:
        pairs = [(live.hooks[step], live) for step in steps for live in lives if step in live.hooks]
        self.calls = tuple(hook for hook, _ in pairs)
        self.owners = tuple(live for _, live in pairs)
        self.meters = tuple(live.meter for _, live in pairs)

    def __add__(self, other: Hooks) -> Hooks:
        both = Hooks(())
        both.calls, both.owners, both.meters = self.calls + other.calls, self.owners + other.owners, self.meters + other.meters
        return both


class Chain:
    """The plugins of one location."""

    __slots__ = (
        "before",
        "counts_requests",
        "fills",
        "is_guarded",
        "on_hits",
        "on_pages",
        "outermost",
        "pages",
        "proxy",
        "reads_request_body",
        "respond",
    )

    def __init__(self, lives: Sequence[Live], pages: ErrorPages) -> None:
        innermost = [live for live in lives if live.is_innermost]
        inner = [live for live in lives if not (live.is_outermost or live.is_innermost)]
        outer = [live for live in lives if live.is_outermost]
        self.before = Hooks([live for live in lives if not live.is_innermost] + innermost, "early_request", "request")
        self.proxy = Hooks(lives, "proxy_upstream")
        self.outermost = Hooks(outer, "response")
        """Response hooks that see what plugins answer themselves, too."""
        self.on_pages = Hooks([live for live in lives if live.sees_error_pages], "response")
        """Those that see the head of an error page."""
        self.on_hits = Hooks(inner, "response") + self.outermost
        """Those that see an answer that was kept from before."""
        self.fills = Hooks(lives, "upstream_response") + Hooks(innermost, "response")
        """Those that see an answer that is for a cache alone."""
        self.respond = self.fills + self.on_hits
        self.counts_requests = any(live.counts_requests for live in lives)
        self.is_guarded = any(live.is_guarded for live in lives)
        self.reads_request_body = any(live.reads_request_body for live in lives)
        self.pages = pages


class CompiledPlugins:
    """One configuration generation."""

    __slots__ = ("chains", "leaving", "pages", "plugins", "upstreams")

    def __init__(
        self, chains: dict[str, Chain], pages: ErrorPages, upstreams: frozenset[str], plugins: frozenset[str], leaving: LeavingLines
    ) -> None:
        self.chains = chains
        """By location; those without plugins have none."""
        self.leaving = leaving
        self.pages = pages
        self.upstreams = upstreams
        """Names."""
        self.plugins = plugins
        """Names of those that a location has."""
