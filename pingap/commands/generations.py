"""`pingap reload` and `pingap rollback`."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import FAILED, ask, fail


@options.command()
@click.option("--dry-run", is_flag=True, help="Only tell what it would do, or what is wrong; nothing is taken.")
@options.as_json
@options.run_dir
def reload(dry_run: bool, as_json: bool, run_dir: str | None) -> None:
    """Read the configuration anew now; exit code 1 with the problems when it is refused.

    A dry run is done by the running instance, with its environment and as its user. It
    checks all that `pingap check` does; whether each stage takes it is seen only when
    it is taken.
    """
    _tell(ask(run_dir, "dry-run" if dry_run else "reload"), as_json, dry_run)


@options.command()
@options.as_json
@options.run_dir
def rollback(as_json: bool, run_dir: str | None) -> None:
    """Go back to the configuration that ran before the present one.

    The files stay as they are: what they say now is taken by the next reload, or when
    they change. Another rollback goes forth again. What needs a restart of pingap is not
    rolled back.
    """
    _tell(ask(run_dir, "rollback"), as_json, False)


def _tell(outcome: dict[str, Any], as_json: bool, is_dry: bool) -> None:
    problems = outcome.get("problems") or ()
    changed = outcome.get("changed")
    number = outcome["number"]
    if as_json:
        shown = {"taken": not problems and not is_dry, "generation": number, "changed": changed or ""}
        shown |= {"difference": list(outcome.get("difference") or ()), "config": outcome.get("config") or ""}
        terminal.say(json.dumps(shown | {"problems": list(problems), "notes": list(outcome.get("notes") or ())}))
        if problems:
            raise SystemExit(FAILED)
        return
    for note in outcome.get("notes") or ():
        terminal.warn(f"note: {note}")
    if problems:
        head = "the configuration would be refused:" if is_dry else f"the configuration was refused, generation {number} goes on:"
        if outcome.get("word") == "rollback":
            head = f"no rollback, generation {number} goes on:"
        fail("\n".join([head, *(f"  {line}" for problem in problems for line in problem.split("\n"))]))
    if is_dry:
        terminal.say(f"no problems; taking it would change: {changed}" if changed != "nothing changed" else "no problems; nothing changed")
    else:
        terminal.say(f"generation {number} is in use" + (f": {changed}" if changed else ""))
    for line in outcome.get("difference") or ():
        terminal.say(terminal.coloured(f"  {line}", _COLOURS.get(line[:1], "")))


_COLOURS: Final = {"+": "green", "-": "red"}
"""Of the lines of a difference, by their first sign."""
