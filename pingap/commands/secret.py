"""`pingap secret encrypt`, `decrypt` and `rotate`: values of [storages] that only a pass phrase opens."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, Function, fail

VARIABLE: Final = "PINGAP_SECRET"
"""The environment variable with the pass phrase, unless another is named."""


@click.group()
def secret() -> None:
    """Encrypt values for [storages], and the other way round.

    The pass phrase comes from an environment variable (PINGAP_SECRET, or the one that
    is named), from a file, or from a question that shows nothing; never from the
    command line, which all users of the machine can read.
    """


def _phrase(command: Function) -> Function:
    command = click.option("--env", "variable", metavar="NAME", help=f"The environment variable with the pass phrase. [{VARIABLE}]")(
        command
    )
    return click.option("--file", "file", metavar="PATH", help="The file with the pass phrase.")(command)


@secret.command(cls=options.Command)
@_phrase
def encrypt(variable: str | None, file: str | None) -> None:
    """Encrypt a text: from stdin, without a line end at its end, or from a question."""
    from pingap.config import encryption

    phrase = _pass_phrase(variable, file, is_new=True)
    terminal.say(encryption.encrypt(_text("Text", is_new=True), phrase))


@secret.command(cls=options.Command)
@_phrase
def decrypt(variable: str | None, file: str | None) -> None:
    """Show the text that was encrypted, by pingap or by the Rust program."""
    from pingap.config import encryption

    phrase = _pass_phrase(variable, file)
    try:
        terminal.say(encryption.decrypt(_text("Encrypted text"), phrase))
    except encryption.NotDecrypted as error:
        fail(f"the text {error}")


@secret.command(cls=options.Command)
@options.conf
@click.option("--old-env", metavar="NAME", help="The variable with the pass phrase so far; without it what each `secret` says.")
@click.option("--old-file", metavar="PATH", help="The file with it.")
@click.option("--new-env", metavar="NAME", help="The variable with the new pass phrase, to which each `secret` refers from then on.")
@click.option("--new-file", metavar="PATH", help="The file with it, the same.")
def rotate(conf: str | None, old_env: str | None, old_file: str | None, new_env: str | None, new_file: str | None) -> None:
    """Encrypt all values of a configuration under another pass phrase.

    Comments and all else stay as they are. All of it is written in one step, or
    nothing. Without --new-env and --new-file the new pass phrase is asked for, and
    each `secret` says what it said.
    """
    from pingap.config.problems import ConfigRefused
    from pingap.config.rotation import rotate as rotated
    from pingap.config.storage.base import NotWritten
    from pingap.config.storage.places import storage_of

    if conf is None:
        fail("name the configuration with -c", BAD_USAGE)
    old = _pass_phrase(old_env, old_file) if old_env or old_file else None
    new = _pass_phrase(new_env, new_file, is_new=True) if new_env or new_file else _asked("New pass phrase", is_new=True)
    reference = f"$ENV:{new_env}" if new_env else f"$FILE:{os.path.abspath(os.path.expanduser(new_file))}" if new_file else ""
    try:
        outcome = rotated(storage_of(conf), new, reference, old, os.environ)
    except ConfigRefused as refused:
        fail(str(refused), BAD_USAGE)
    except NotWritten as error:
        fail(str(error))
    for path in outcome.left:
        terminal.warn(f"note: {path}: its value is not in the configuration, and was left as it is")
    count = len(outcome.done)
    terminal.say(f"{count} {'value' if count == 1 else 'values'} encrypted anew" if count else "nothing there has a secret")


def _pass_phrase(variable: str | None, file: str | None, is_new: bool = False) -> str:
    """From where it is said to be, else from PINGAP_SECRET, else asked for."""
    from pingap.config.problems import BadValue
    from pingap.config.references import of_environment, of_file

    if variable and file:
        raise click.UsageError("the pass phrase is in a variable or in a file")
    try:
        if file:
            found = of_file(os.path.abspath(os.path.expanduser(file)))
        elif variable or VARIABLE in os.environ:
            found = of_environment(os.environ)(variable or VARIABLE)
        else:
            return _asked("Pass phrase", is_new)
    except BadValue as error:
        fail(error.message, BAD_USAGE)
    if not found:
        fail("the pass phrase is empty", BAD_USAGE)
    return found


def _text(what: str, is_new: bool = False) -> str:
    """From stdin, or from a question."""
    if sys.stdin is not None and sys.stdin.isatty():
        return _asked(what, is_new)
    try:
        text = sys.stdin.buffer.read().decode() if sys.stdin is not None else ""
    except UnicodeDecodeError:
        fail("stdin is not UTF-8", BAD_USAGE)
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail("stdin holds no text", BAD_USAGE)
    return text


def _asked(what: str, is_new: bool) -> str:
    """The answer to a question that shows nothing, twice the same where nobody could tell a slip of the hand later."""
    try:
        with open("/dev/tty", "rb"):
            pass
    except OSError:
        fail(f"there is no terminal to ask for the {what.lower()}: name a variable or a file", BAD_USAGE)
    answer: str = click.prompt(what, hide_input=True, err=True, confirmation_prompt=is_new)
    return answer
