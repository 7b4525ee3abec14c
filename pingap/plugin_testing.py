"""What the author of a plugin imports in tests of it. docs/plugins.md explains it; `pingap plugin new` writes one to begin with.

    from pingap.plugin_testing import PluginStage

    async def test_there_is_no_coffee() -> None:
        async with PluginStage({"tea": {"category": "python", "path": "teapot.py"}}) as stage:
            answer = await stage.get("/coffee")
        assert (answer.status, answer.text) == (418, "I'm a teapot\\n")

`LivePingap` in the place of `PluginStage` is a whole pingap on a free port. Both need nothing but pingap; tests that are
`async def` want pytest-asyncio, or `asyncio.run`. This module and what it names stay as they are within a major version.
"""

from __future__ import annotations

from pingap.stages.plugins.validation import PluginRefused
from pingap.workshop.kit.backend import BackendRequest, ScriptedBackend
from pingap.workshop.kit.client import StageAnswer
from pingap.workshop.kit.live import LivePingap
from pingap.workshop.kit.plugin_stage import LoggedLine, PluginStage

__all__ = ["BackendRequest", "LivePingap", "LoggedLine", "PluginRefused", "PluginStage", "ScriptedBackend", "StageAnswer"]
