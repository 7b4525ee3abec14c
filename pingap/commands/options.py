"""What commands share."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from pingap import rundir, terminal

if TYPE_CHECKING:
    from pingap.ps_table import Line

    _Kind = click.ParamType[Any]
else:
    _Kind = click.ParamType  # of releases before 8.2 it takes no parameter

FAILED: Final = 1
BAD_USAGE: Final = 2

UNWELL: Final = 3
"""Exit code of `--health` when something is not as it should be."""

COMPLETING: Final = 1.0
"""Seconds for which a shell that completes a word waits."""

MOST: Final = 1024
"""Replicas that a stage may have."""

Function = TypeVar("Function", bound=Callable[..., Any])


def unseen(context: click.Context, parameter: click.Parameter, place: str | None) -> str | None:
    """`place`, a configuration's. If it has a password in it, others do not see it in the list of processes from now on."""
    if place and "://" in place:
        from setproctitle import setproctitle

        from pingap.config.storage.etcd.address import without_password

        if without_password(place) != place:
            setproctitle(f"pingap: {context.info_name}")
    return place


conf = click.option(
    "-c",
    "--conf",
    metavar="PATH",
    envvar="PINGAP_CONF",
    callback=unseen,
    help="Configuration: a file of TOML, HCL or KDL, a directory of them, or etcd://HOST:PORT/PREFIX.",
)
run_dir = click.option(
    "--run-dir", metavar="DIR", help="Where the instance keeps its sockets; names it for the other commands. [env: PINGAP_RUN_DIR]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")

LEAST: Final = 0.2
"""Seconds between two looks of `--watch`."""


def health(well: str) -> Callable[[Function], Function]:
    """The option `--health`. well: what has to be so."""
    return click.option("--health", is_flag=True, help=f"One line; exit code 0 when {well}, else 3; 1 when nothing answers.")


class Command(click.Command):
    """Suggests no option that it does not show; takes `-c=PATH` for `-c PATH`, as the reference writes it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [arg.replace("=", "", 1) if arg.startswith("-c=") else arg for arg in args])
        except click.NoSuchOption as error:
            hidden = {name for one in self.params if getattr(one, "hidden", False) for name in (*one.opts, *one.secondary_opts)}
            shown = [name for name in error.possibilities or () if name not in hidden]
            raise click.NoSuchOption(error.option_name, possibilities=shown or None, ctx=ctx) from None


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """As click.command."""
    return click.command(name, cls=Command)


class Number(_Kind):
    """A whole number of the digits 0 to 9, within bounds: Python's own int takes digits of every script."""

    name = "number"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number = number_of(str(value))
        if number is None or not self._least <= number <= self._most:
            self.fail(f"{value!r} is not a number from {self._least} to {self._most}", param, ctx)
        return number


class Span(_Kind):
    """A duration as the configuration writes it, `10s` or `1h 30m`, in seconds; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        from pingap.config.problems import BadValue
        from pingap.config.quantities import parse_duration

        text = str(value).strip()
        try:
            return parse_duration(f"{text}s" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else text)
        except BadValue as error:
            self.fail(f"{error.message}: {error.hint}" if error.hint else error.message, param, ctx)


watch = click.option(
    "--watch", type=Span(), is_flag=False, flag_value=2.0, metavar="[TIME]", help="Again and again, every 2 s or so often."
)


def shown(look: Callable[[], str], every: float | None, as_json: bool) -> None:
    """Says what `look` finds, once or every so many seconds, a table always at the top of a terminal."""
    if every is None:
        terminal.say(look())
        return
    while True:
        terminal.say(("\x1b[H\x1b[2J" if terminal.is_terminal() else "") + look() + ("" if as_json or terminal.is_terminal() else "\n"))
        if terminal.lost():
            return
        try:
            time.sleep(max(LEAST, every))
        except KeyboardInterrupt:
            return


def source_of(conf: str | None) -> str | None:
    """The configuration that -c names, or the usual one; None when there is none."""
    if conf is None:
        return os.path.abspath("pingap.toml") if os.path.exists("pingap.toml") else None
    return conf if "://" in conf or conf.startswith("~") else os.path.abspath(conf)


def level() -> str | None:
    """The level of the application log that the environment asks for."""
    return os.environ.get("PINGAP_LOG_LEVEL") or os.environ.get("RUST_LOG")


def number_of(text: str) -> int | None:
    """The number that ASCII digits say, None when it is none."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def scale_of(text: str) -> tuple[str, int]:
    """`upstream=2`, taken apart. Raises click.BadParameter."""
    stage, _, count = text.partition("=")
    number = number_of(count)
    if not stage or number is None or not 1 <= number <= MOST:
        raise click.BadParameter(f"{text!r} is not STAGE=N with N from 1 to {MOST}, such as upstream=2")
    return stage, number


def ask(directory: str | None, word: str, *args: Any, **more: Any) -> Any:
    """Asks the running instance; ends the command with its refusal."""
    from pingap import client

    try:
        return client.ask(directory or rundir.default(), word, *args, **more)
    except (client.NotRunning, client.AskRefused) as error:
        fail(str(error))


def known(context: click.Context, word: str) -> Any:
    """What the running instance tells a shell that completes; None where nothing answers."""
    from pingap import client

    with suppress(client.NotRunning, client.AskRefused):
        return client.ask(context.params.get("run_dir") or rundir.default(), word, deadline=COMPLETING)
    return None


def show_told(
    directory: str | None,
    word: str,
    *args: Any,
    text: Callable[[Any], str],
    every: float | None,
    as_json: bool,
    made: Callable[[Any], Any] | None = None,
) -> None:
    """Shows what the running instance tells, as `shown` does. text: what it is for people; made: what is made of it first, for JSON too.

    Ends the command with a refusal; but of one that looks again and again the next look may find it well.
    """
    from pingap import client

    def look() -> str:
        try:
            told = client.ask(directory or rundir.default(), word, *args)
        except client.NotRunning as error:
            fail(str(error))
        except client.AskRefused as error:
            if every is None or as_json:
                fail(str(error))
            return str(error)
        if made is not None:
            told = made(told)
        return json.dumps(told, indent=None if every else 2) if as_json else text(told)

    shown(look, every, as_json)


def table(lines: Callable[[int], Iterable[Line]], colour_of: Callable[[str], str]) -> str:
    """For a terminal as wide as it is and in colours, else of any width. lines: of the width, 0 is any; colour_of: the state of one."""
    width = terminal.width() if terminal.is_terminal() else 0
    return "\n".join(
        terminal.coloured(terminal.fitted(line.text, width) if width else line.text, colour_of(line.state)) for line in lines(width)
    )


def tell_health(unwell: Sequence[str], trouble: str, well: str) -> NoReturn:
    """What `--health` says, and how it ends. unwell: what is not as it should be; trouble: what it is; well: a sentence for none of it."""
    if unwell:
        fail(f"{trouble}: {', '.join(unwell)}", UNWELL)
    terminal.say(well)
    raise SystemExit(0)


def each(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    """`each of 3 upstreams`, or the one by its name. kind: the key of the names."""
    return f"each of {len(rows)} {kind}s" if len(rows) != 1 else str(rows[0][kind])


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Ends the command with a sentence on stderr."""
    terminal.warn(f"pingap: {text}")
    raise SystemExit(code)
