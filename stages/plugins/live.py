"""A plugin that was started. It stays interpreted where the stage is compiled: a compiled class bears no weak references."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from pingap.stages.plugins.api import Step
from pingap.stages.plugins.exchange import Hook
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.guarded import Guarded
from pingap.stages.plugins.making import Made
from pingap.stages.plugins.meters import Meter


class Live:
    """A started plugin."""

    __slots__ = (
        "__weakref__",
        "counts_requests",
        "end",
        "files",
        "hooks",
        "is_guarded",
        "is_innermost",
        "is_outermost",
        "meter",
        "name",
        "plugin",
        "reads_request_body",
        "sees_error_pages",
    )

    end: weakref.finalize[..., Live]
    """Stops it, once."""

    def __init__(self, name: str, made: Made, guard: HookGuard, meter: Meter, late: Callable[[str, BaseException], None]) -> None:
        self.name = name
        self.meter = meter
        self.plugin = made.plugin
        self.files = made.files
        self.is_guarded = made.bounds is not None
        self.counts_requests = made.plugin.counts_requests
        self.is_innermost = made.plugin.is_innermost and made.bounds is None
        self.is_outermost = made.plugin.is_outermost
        self.reads_request_body = made.plugin.reads_request_body
        self.sees_error_pages = made.plugin.sees_error_pages and made.bounds is None
        self.hooks: dict[Step, Hook] = dict(made.hooks)
        if made.bounds is not None:
            guarded = Guarded(guard, name, made.bounds, late, made.plugin.reads_request_body)
            self.hooks = {step: guarded.hook(hook) for step, hook in self.hooks.items()}
