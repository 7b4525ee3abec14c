"""The command `pingap`: its subcommands (pingap/commands), and the one place where whatever goes wrong becomes a sentence."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

import click

from pingap import limits, terminal
from pingap.commands import (
    about,
    ca,
    cache,
    certs,
    check,
    configuration,
    ending,
    generations,
    plugin,
    plugins,
    processes,
    reading,
    secret,
    start,
    texts,
    upstreams,
)
from pingap.commands.options import FAILED

INTERRUPTED: Final = 130
"""128 and the number of INT, as shells have it."""

WHERE: Final = "PINGAP_TRACEBACK"
"""The environment variable that has a traceback printed of what is a fault of ours."""

ACTING: Final = frozenset(
    (
        *("up", "scale", "kill", "reload", "rollback", "down", "restart", "upgrade", "upstream drain", "upstream enable"),
        *("config migrate", "config sync", "config restore", "plugin new", "cache purge", "ca", "certs renew"),
    )
)
"""Commands that change something: done is done, whether or not anybody could read the answer."""


def is_acting(words: list[str]) -> bool:
    """words: of a command line, at least one."""
    return " ".join(words[: 2 if words[0] in ("config", "upstream", "plugin", "cache", "certs") else 1]) in ACTING


def main(args: list[str] | None = None) -> None:
    """Entry point. Without a subcommand, flags are those of `up`."""
    terminal.prepare()
    words = sys.argv[1:] if args is None else args
    if about.VARIABLE in os.environ:  # a shell asks what may stand next: its words are in the environment
        words = ["help"]
    elif not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "-V", "--version")):
        words = ["up", *words]
    code = _guarded(lambda: commands.main(words, prog_name="pingap", standalone_mode=False))
    terminal.flush()
    is_told = not is_acting(words) or not {"-h", "--help", *texts.FLAGS}.isdisjoint(words)
    if not code and is_told and terminal.lost() not in (0, errno.EPIPE):
        terminal.warn(f"pingap: stdout takes nothing: {os.strerror(terminal.lost())}")
        code = FAILED
    sys.exit(code)


def _guarded(call: Callable[[], Any]) -> int:
    """The exit code of a command, whatever becomes of it."""
    try:
        result = call()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        terminal.warn(shown.getvalue().rstrip("\n"))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as ended:
        if isinstance(ended.code, str):
            terminal.warn(ended.code)
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
    except Exception as error:
        if os.environ.get(WHERE):
            terminal.warn(traceback.format_exc())
        reason = limits.explained(error)
        terminal.warn(f"pingap: {reason}" + ("" if isinstance(error, OSError) else f" ({WHERE}=1 shows where)"))
        return FAILED
    return result if isinstance(result, int) else 0


class _Group(click.Group):
    """Suggests the command that was meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            meant = f" did you mean {close[0]!r}?" if close else " `pingap --help` lists them"
            raise click.UsageError(f"there is no command {args[0]!r}:{meant}", ctx)
        return super().resolve_command(ctx, args)


def _say_version(context: click.Context, option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        from pingap.about import headline

        terminal.say(headline())
        context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-V", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_say_version, help="Show the version and exit.")
def commands() -> None:
    """A reverse proxy whose stages are processes of their own.

    `pingap up` runs it; `pingap -c PATH` is short for `pingap up -c PATH`. The other
    commands speak to the instance that runs in --run-dir.
    """


for _one in (
    *(start.up, check.check, processes.ps, processes.scale, processes.kill),
    *(upstreams.upstreams, upstreams.upstream, cache.cache, certs.certs, generations.reload, generations.rollback),
    *(ending.down, ending.restart, ending.upgrade, reading.logs, reading.tap),
    *(ca.ca, secret.secret, configuration.config, texts.schema, plugins.plugins, plugin.plugin),
    *(about.version, about.help_, about.completion),
):
    commands.add_command(_one)
