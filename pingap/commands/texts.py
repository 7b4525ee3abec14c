"""`pingap schema`, and what `pingap up` prints instead of running: `--template`, `--to-hcl`, `--to-kdl`, `--to-toml`."""

from __future__ import annotations

import io
import json
import sys
from typing import NoReturn

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, Function, fail

LANGUAGES = ("hcl", "kdl", "toml")

FLAGS = ("--template", *(f"--to-{language}" for language in LANGUAGES))
"""Of `pingap up`; with them it changes nothing."""


def printing(command: Function) -> Function:
    """Adds the options. The command gets `to`: the language that is wanted, or None."""
    for language in reversed(LANGUAGES):
        what = f"Print the configuration as {language.upper()} and end; comments do not come along."
        command = click.option(f"--to-{language}", "to", flag_value=language, default=None, help=what)(command)
    what = "Print a configuration to begin with and end."
    return click.option("--template", is_flag=True, expose_value=False, is_eager=True, callback=_say_template, help=what)(command)


def _say_template(context: click.Context, option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        from pingap.config.template import TEMPLATE

        _say_utf_8(TEMPLATE)
        context.exit()


def convert(source: str | None, text: str | None, language: str) -> NoReturn:
    """Prints a configuration in a language, and ends. source, text: as for `storage_of`."""
    from pingap.config.convert import converted
    from pingap.config.problems import ConfigRefused
    from pingap.config.storage.places import storage_of

    if source is None and text is None:
        fail("there is no ./pingap.toml to convert: name a configuration with -c", BAD_USAGE)
    try:
        _say_utf_8(converted(storage_of(source, text), language))
    except ConfigRefused as refused:
        fail(str(refused), BAD_USAGE)
    raise SystemExit(0)


@options.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    pingap schema >pingap.schema.json; a configuration whose first line is
    `#:schema ./pingap.schema.json` is then checked and completed by editors
    that have Tombi.
    """
    from pingap.schema import document

    terminal.say(json.dumps(document(), indent=2))  # in ASCII, which every file and terminal takes


def _say_utf_8(text: str) -> None:
    """For a file: whatever the terminal speaks, configurations are UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
    terminal.say(text.removesuffix("\n"))
