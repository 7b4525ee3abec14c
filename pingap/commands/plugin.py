"""`pingap plugin new` and `pingap plugin test`: for authors of plugins."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, fail

KINDS = ("request", "response", "body")


@click.group("plugin")
def plugin() -> None:
    """Write a plugin of your own, and run its tests.

    docs/plugins.md says what a plugin can do; `pingap plugins` lists those that come
    with pingap.
    """


@plugin.command(cls=options.Command)
@click.argument("name")
@click.option("--dir", "directory", metavar="DIR", default=".", help="Where to put the files; made if it is not there.")
@click.option(
    "--kind", type=click.Choice(KINDS), default="request", help="What it works on: requests (unless given), heads or bodies of answers."
)
def new(name: str, directory: str, kind: str) -> None:
    """Write a plugin to begin with: its file, a test, a configuration.

    NAME is one of lower-case letters, digits and _. Nothing is overwritten.
    """
    from pingap.config.problems import BadValue
    from pingap.workshop import making, templates

    place = Path(directory)
    try:
        texts = templates.files(name, kind)
        making.write(place, texts)
    except BadValue as refused:
        fail(terminal.fitted(f"{refused.message}; {refused.hint}" if refused.hint else refused.message), BAD_USAGE)
    except OSError as error:
        fail(f"{error.filename or place}: {error.strerror or error}")
    code, _, config = (shlex.quote(str(place / file)) for file in texts)
    terminal.say(
        f"wrote {', '.join(str(place / file) for file in texts)}\n\n"
        "Next:\n"
        f"  pingap plugin test {code}\n"
        "      runs its tests\n"
        f"  pingap up -c {config}\n"
        "      runs it, on http://127.0.0.1:6188/; save the file and it is\n"
        "      taken over within two seconds\n"
        f"  pingap plugins -c {config} {name}\n"
        "      shows what its users will read"
    )


@plugin.command("test", cls=options.Command, context_settings={"ignore_unknown_options": True})
@click.argument("place", metavar="FILE|DIR", type=click.Path())
@click.argument("arguments", metavar="[PYTEST-OPTION]...", nargs=-1, type=click.UNPROCESSED)
def test(place: str, arguments: tuple[str, ...]) -> None:
    """Run the tests of a plugin in the real stage, with pytest.

    FILE is the plugin's, whose test_FILE stands beside it or in tests/, or a file of
    tests. What follows is for pytest: `-k NAME`, `-x`, `-q`, `--pdb`. The exit code is
    pytest's.
    """
    from pingap.config.problems import BadValue
    from pingap.workshop import running

    if missing := running.missing():
        fail(f"tests of plugins need {' and '.join(missing)}: pip install {' '.join(missing)}")
    try:
        tests = running.tests_of(Path(place))
    except BadValue as refused:
        fail(terminal.fitted(f"{refused.message}; {refused.hint}"), BAD_USAGE)
    raise SystemExit(running.run(tests, arguments))
