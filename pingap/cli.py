"""The command `pingap`. What a command needs is imported when it runs: `up` must not pay for the others."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import click

from pingap import flags, rundir

FAILED: Final = 1
BAD_USAGE: Final = 2
MORE_THAN_ASKED: Final = 8.0
"""Seconds beyond the drain that a stop may take before `pingap down` says that it has not ended."""

Command = TypeVar("Command", bound=Callable[..., Any])

_conf = click.option("-c", "--conf", metavar="PATH", envvar="PINGAP_CONF", help="Configuration: a TOML file or a directory of them.")
_run_dir = click.option(
    "--run-dir", metavar="DIR", help="Where the instance keeps its sockets; names it for the other commands. [env: PINGAP_RUN_DIR]"
)


def main(args: list[str] | None = None) -> None:
    """Entry point. Without a subcommand, flags are those of `up`."""
    words = sys.argv[1:] if args is None else args
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "-V", "--version")):
        words = ["up", *words]
    commands(words, prog_name="pingap")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="pingap", message="pingap %(version)s")
def commands() -> None:
    """A reverse proxy whose stages are processes of their own.

    `pingap up` runs it; `pingap -c PATH` is short for `pingap up -c PATH`. The other
    commands speak to the instance that runs in --run-dir.
    """


def _later_flags(command: Command) -> Command:
    for name in reversed(list(flags.LATER)):
        short = {"daemon": ["-d"], "upgrade": ["-u"], "autorestart": ["-a"]}.get(name, [])
        takes_value = name in ("admin", "sync", "upstream", "domain", "addr", "cert", "key")
        command = click.option(*short, f"--{name.replace('_', '-')}", is_flag=not takes_value, hidden=True)(command)
    return command


def _scales(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    return dict(_scale(value) for value in values)


def _scale(text: str) -> tuple[str, int]:
    stage, equals, count = text.partition("=")
    if not stage or not equals or not count.isdigit() or not 1 <= int(count) <= 1024:
        raise click.BadParameter(f"{text!r} is not STAGE=N with N from 1 to 1024, such as upstream=2")
    return stage, int(count)


@commands.command()
@_conf
@click.option("-t", "--test", is_flag=True, help="Check the configuration and end, as `pingap check` does.")
@click.option("--scale", multiple=True, metavar="STAGE=N", callback=_scales, help="Replicas of a stage; wins over [stages.STAGE].")
@click.option(
    "--placement",
    type=click.Choice(["split", "colocated"]),
    default="split",
    show_default=True,
    help="One process a stage, or the whole request path in one.",
)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes of the request path when colocated.")
@click.option("--threads", type=click.IntRange(0, 1024), help="As [basic] threads, over which it wins; 0 is one a CPU.")
@_run_dir
@click.option("--log", metavar="PATH", envvar="PINGAP_LOG", help="File of the application log; wins over [basic] error_log.")
@click.option("--autoreload", is_flag=True, hidden=True)
@_later_flags
def up(
    conf: str | None,
    test: bool,
    scale: dict[str, int],
    placement: str,
    workers: int | None,
    threads: int | None,
    run_dir: str | None,
    log: str | None,
    autoreload: bool,
    **later: Any,
) -> None:
    """Run the proxy until it is stopped.

    Without -c: ./pingap.toml if there is one, else a demo on 127.0.0.1:6188.
    Exit codes: 0 stopped, 1 failed to start, 2 bad usage or bad configuration.
    """
    problems = flags.refused(later, os.environ)
    if problems:
        raise click.UsageError("\n".join(problems))
    if autoreload:
        click.echo(f"note: {flags.WATCHED}", err=True)
    source = _source(conf)
    if test:
        _check(source)
        return
    from pingap import boot, demo_socks, topology
    from pingap.face import ConsoleFace
    from pingap.spawning import SpawnerHandle

    try:
        held = rundir.RunDir(run_dir or rundir.default())
    except rundir.RunDirError as error:
        _fail(str(error))
    spawner = SpawnerHandle(topology.modules())
    is_demo = source is None
    socks = demo_socks.bind() if is_demo else ()
    level = os.environ.get("PINGAP_LOG_LEVEL") or os.environ.get("RUST_LOG")
    text = demo_socks.configuration(socks) if is_demo else None
    options = topology.Options(source, text, placement, workers, scale, _log_target(log), level, is_demo)
    sys.exit(boot.up(boot.Launch(options, threads, socks), held, spawner, ConsoleFace(held.path, is_demo)))


def _log_target(log: str | None) -> str | None:
    """A path from now on whatever the directory; `syslog:` is told by the logging stage."""
    return os.path.abspath(log) if log and not log.startswith("syslog:") else log


def _source(conf: str | None) -> str | None:
    """The configuration to use; None is the embedded one."""
    if conf is None:
        return os.path.abspath("pingap.toml") if os.path.exists("pingap.toml") else None
    return conf if "://" in conf or conf.startswith("~") else os.path.abspath(conf)


@commands.command()
@_conf
def check(conf: str | None) -> None:
    """Check a configuration: all of its problems at once, exit code 2 if there are any."""
    _check(_source(conf))


def _check(source: str | None) -> None:
    from config.notes import notes_on
    from config.problems import ConfigRefused
    from pingap.loading import load

    if source is None:
        _fail("there is no ./pingap.toml to check: name a configuration with -c", BAD_USAGE)
    try:
        snapshot = load(source)
    except ConfigRefused as refused:
        _fail(str(refused), BAD_USAGE)
    for note in notes_on(snapshot):
        click.echo(f"note: {note}", err=True)
    counts = [(name, len(getattr(snapshot, name))) for name in ("servers", "locations", "upstreams", "plugins")]
    click.echo(f"{source}: no problems ({', '.join(f'{count} {name[:-1] if count == 1 else name}' for name, count in counts)})")


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
@_run_dir
def ps(as_json: bool, run_dir: str | None) -> None:
    """List the processes: state, restarts, memory, requests."""
    from pingap.rows import PS_HEAD, PS_RIGHT, columns, ps_cells

    rows = _ask(run_dir, "ps")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    cells = [ps_cells(row) for row in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join(columns(PS_HEAD, cells, PS_RIGHT)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(PS_HEAD):
        table.add_column(name, justify="right" if index in PS_RIGHT else "left", no_wrap=True)
    for row in cells:
        colour = {"ready": "green", "waiting": "red"}.get(row[3], "yellow")
        table.add_row(*(f"[{colour}]{cell}[/]" if index == 3 else cell for index, cell in enumerate(row)))
    Console().print(table)


@commands.command()
@click.argument("what", metavar="STAGE=N")
@_run_dir
def scale(what: str, run_dir: str | None) -> None:
    """Change how many replicas a stage has: accept, routing, plugins, upstream, or worker when colocated."""
    stage, count = _scale(what)
    value = _ask(run_dir, "scale", stage, count)
    line = f"{stage}: {value['before']} → {value['replicas']}"
    if value["draining"]:
        ending = "finishes what it holds and leaves" if value["draining"] == 1 else "finish what they hold and leave"
        line += f", {value['draining']} {ending}"
    if value["starting"]:
        _fail(f"{line}, {value['starting']} not ready yet: see `pingap ps` and the log")
    click.echo(line)


@commands.command()
@_run_dir
def reload(run_dir: str | None) -> None:
    """Read the configuration anew now; exit code 1 with the problems when it is refused."""
    outcome = _ask(run_dir, "reload")
    problems = outcome.get("problems") or ()
    for note in outcome.get("notes") or ():
        click.echo(f"note: {note}", err=True)
    if problems:
        head = f"the configuration was refused, generation {outcome['number']} goes on:"
        _fail("\n".join([head, *(f"  {problem}" for problem in problems)]))
    changed = outcome.get("changed")
    click.echo(f"generation {outcome['number']} is in use" + (f": {changed}" if changed else ""))


@commands.command()
@click.option("--graceful", is_flag=True, help="Give requests in flight the grace_period, as QUIT does.")
@_run_dir
def down(graceful: bool, run_dir: str | None) -> None:
    """Stop the instance, and wait until it has stopped."""
    from pingap import client

    path = run_dir or rundir.default()
    try:
        pid = client.find(path)
        seconds = client.ask(path, "down", graceful)
    except (client.NotRunning, client.Refused) as error:
        _fail(str(error))
    if pid and not client.await_end(pid, seconds + MORE_THAN_ASKED):
        _fail(f"pingap (pid {pid}) is still stopping after {seconds + MORE_THAN_ASKED:g} s")
    click.echo("stopped")


@commands.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--level", type=click.Choice(["debug", "info", "warn", "error"]), default="info", show_default=True, help="The least shown.")
@_run_dir
def logs(follow: bool, as_json: bool, level: str, run_dir: str | None) -> None:
    """Show the newest records of the application log of the running instance."""
    from pingap import client, watch

    try:
        sys.exit(watch.logs(run_dir, follow, as_json, level))
    except client.NotRunning as error:
        _fail(str(error))


@commands.command()
@click.option("--host", metavar="HOST", help="Requests for this host; *.example.com for its subdomains.")
@click.option("--path", metavar="PREFIX", help="Requests whose path begins so.")
@click.option("--status", metavar="STATUS", help="5xx, 404, or several with commas.")
@_run_dir
def tap(host: str | None, path: str | None, status: str | None, run_dir: str | None) -> None:
    """Show requests as they end, with the time that each stage took."""
    from pingap import client, watch

    try:
        sys.exit(watch.tap(run_dir, host, path, status))
    except client.NotRunning as error:
        _fail(str(error))
    except ValueError as error:
        _fail(str(error), BAD_USAGE)


def _ask(run_dir: str | None, word: str, *args: Any) -> Any:
    from pingap import client

    try:
        return client.ask(run_dir or rundir.default(), word, *args)
    except (client.NotRunning, client.Refused) as error:
        _fail(str(error))


def _fail(text: str, code: int = FAILED) -> NoReturn:
    click.echo(f"pingap: {text}", err=True)
    sys.exit(code)
