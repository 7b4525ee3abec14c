"""`pingap reload`."""

from __future__ import annotations

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import ask, fail


@options.command()
@options.run_dir
def reload(run_dir: str | None) -> None:
    """Read the configuration anew now; exit code 1 with the problems when it is refused."""
    outcome = ask(run_dir, "reload")
    problems = outcome.get("problems") or ()
    for note in outcome.get("notes") or ():
        terminal.warn(f"note: {note}")
    if problems:
        head = f"the configuration was refused, generation {outcome['number']} goes on:"
        fail("\n".join([head, *(f"  {problem}" for problem in problems)]))
    changed = outcome.get("changed")
    terminal.say(f"generation {outcome['number']} is in use" + (f": {changed}" if changed else ""))
