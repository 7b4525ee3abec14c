"""`pingap version`, `help` and `completion`."""

from __future__ import annotations

import json
from typing import Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, fail

SHELLS: Final = ("bash", "zsh", "fish")

VARIABLE: Final = "_PINGAP_COMPLETE"
"""By which a shell asks what may stand next: click's way."""


@options.command()
@options.as_json
def version(as_json: bool) -> None:
    """Tell the versions of pingap, Python and the libraries: for a report."""
    from pingap import about

    lines = about.details()
    terminal.say(json.dumps(lines) if as_json else "\n".join(lines))


@options.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_(context: click.Context, command: str | None) -> None:
    """Show the help of a command, or the list of them."""
    above = context.parent
    assert above is not None and isinstance(above.command, click.Group)
    if command is None:
        terminal.say(above.get_help())
        return
    found = above.command.get_command(above, command)
    if found is None:
        fail(f"there is no command {command!r}: `pingap help` lists them", BAD_USAGE)
    with click.Context(found, info_name=command, parent=above) as inner:
        terminal.say(found.get_help(inner))


@options.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what completes commands and options in a shell.

    \b
    bash: eval "$(pingap completion bash)"      in ~/.bashrc
    zsh:  eval "$(pingap completion zsh)"       in ~/.zshrc, after compinit
    fish: pingap completion fish > ~/.config/fish/completions/pingap.fish
    """
    from click.shell_completion import get_completion_class

    above = context.parent
    found = get_completion_class(shell)
    assert above is not None and found is not None
    completer = found(above.command, {}, "pingap", VARIABLE)
    terminal.say(completer.source_template % completer.source_vars())
