"""What the log and the counters hear of plugins that fail, and what their clients are told."""

from __future__ import annotations

from collections.abc import Callable

from pingap.bus.repeats import Repeats
from pingap.stages.plugins import user_code
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.exchange import HookError, Overloaded, PageInstead


class Failures:
    """Tells each with the name of its plugin, and what repeats itself seldom."""

    def __init__(self, repeats: Repeats, count: Callable[..., None]) -> None:
        self._repeats = repeats
        self._count = count

    def happened(self, chain: Chain, error: Exception) -> None:
        """A hook or a transformer of a request that is here failed, or had too much to do."""
        cause = cause_of(error)
        name = error.plugin if isinstance(error, HookError) else ""
        if isinstance(cause, PageInstead):
            return
        if isinstance(cause, Overloaded):
            self._count("plugin_sheds", plugin=name)
            self._tell("warn", "a plugin has too much to do", name, cause)
            return
        self._count("plugin_failures", plugin=name)
        owners = (*chain.before.owners, *chain.proxy.owners, *chain.respond.owners)
        files = next((live.files for live in owners if live.name == name), ())
        self._tell("error", "a plugin failed", name, cause, user_code.where(cause, files) or user_code.last_line(cause))

    def late(self, name: str, error: BaseException) -> None:
        """A hook failed whose request has ended."""
        self._count("plugin_failures", plugin=name)
        self._tell("error", "a plugin failed after its request had ended", name, error, user_code.last_line(error))

    def _tell(self, level: str, message: str, name: str, error: BaseException, where: str = "") -> None:
        fields = {"where": where} if where else {}
        self._repeats.log(level, message, f"{message}: {name}", plugin=name, error=f"{type(error).__name__}: {error}", **fields)


def answer_to(error: Exception) -> str:
    """The kind of error (stages/errors.py) that the client is told."""
    cause = cause_of(error)
    if isinstance(cause, PageInstead):
        return cause.kind
    return "overloaded" if isinstance(cause, Overloaded) else "plugin_failed"


def cause_of(error: BaseException) -> BaseException:
    """What a plugin's code has raised."""
    while isinstance(error, HookError) and error.__cause__ is not None:
        error = error.__cause__
    return error
