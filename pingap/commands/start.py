"""`pingap up`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from click.core import ParameterSource

from pingap import flags, rundir, terminal
from pingap.bus import output
from pingap.commands import check, options, texts
from pingap.commands.options import BAD_USAGE, Function, Number, fail
from pingap.flags import CHILD, OVER
from pingap.service import process_one

if TYPE_CHECKING:
    from pingap.service.activation import Activation
    from pingap.service.daemon import Background
    from pingap.succession.takeover import Predecessor
    from pingap.topology import Options

LAST_WORDS: Final = 1.0
"""Seconds that a reader of stderr has for the reason of a failure."""


def _later_flags(command: Function) -> Function:
    for name in reversed(list(flags.LATER)):
        takes_value = name == "admin"
        command = click.option(f"--{name.replace('_', '-')}", is_flag=not takes_value, hidden=True)(command)
    return command


def _scales(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    return dict(options.scale_of(value) for value in values)


@options.command()
@options.conf
@click.option("-t", "--test", is_flag=True, help="Check the configuration and end, as `pingap check` does.")
@click.option("--scale", multiple=True, metavar="STAGE=N", callback=_scales, help="Replicas of a stage; wins over [stages.STAGE].")
@click.option(
    "--placement",
    type=click.Choice(["split", "colocated"]),
    default="split",
    show_default=True,
    help="One process a stage, or the whole request path in one.",
)
@click.option("--workers", type=Number(1, 1024), metavar="N", help="Processes of the request path when colocated.")
@click.option("--threads", type=Number(0, 1024), metavar="N", help="As [basic] threads, over which it wins; 0 is one a CPU.")
@options.run_dir
@click.option("--log", metavar="PATH", envvar="PINGAP_LOG", help="File of the application log; wins over [basic] error_log.")
@click.option(
    "--autoreload/--no-autoreload",
    default=None,
    help="Take changes of the configuration over as they happen (the default), or only by `pingap reload`. [env: PINGAP_AUTORELOAD]",
)
@click.option(
    "--sync",
    metavar="PATH",
    callback=options.unseen,
    help="Copy the configuration to another file, directory or etcd, and end, as `pingap config sync`.",
)
@click.option("--upstream", metavar="HOST:PORT,...", help="A proxy without a file: pass requests on to these.")
@click.option("--domain", metavar="NAME,...", help="With --upstream: the hosts to serve; without --cert their certificate is got by ACME.")
@click.option("--cert", metavar="PATH", help="With --upstream: certificate for TLS and HTTP/2, a file or the directory that has it.")
@click.option("--key", metavar="PATH", help="With --cert: its key, where that is not beside it.")
@click.option("--addr", metavar="HOST:PORT", help="With --upstream: where to listen; else 0.0.0.0:80, with TLS 0.0.0.0:443.")
@click.option("--acme", metavar="NAME|URL", help="With --domain: the authority, such as lets_encrypt_staging; else lets_encrypt.")
@click.option(
    "-u",
    "--upgrade",
    is_flag=True,
    help=f"Take over from the instance in the run dir, which finishes its requests. [env: {OVER}]",
)
@click.option(
    "-a",
    "--autorestart",
    is_flag=True,
    envvar="PINGAP_AUTORESTART",
    help="Upgrade when the configuration asks for what only a restart applies.",
)
@click.option("-d", "--daemon", is_flag=True, help="In the background; ends when it serves. [env: PINGAP_DAEMON]")
@texts.printing
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
    autoreload: bool | None,
    sync: str | None,
    upstream: str | None,
    domain: str | None,
    cert: str | None,
    key: str | None,
    addr: str | None,
    acme: str | None,
    upgrade: bool,
    autorestart: bool,
    daemon: bool,
    to: str | None,
    **later: Any,
) -> None:
    """Run the proxy until it is stopped.

    Without -c: ./pingap.toml if there is one, else a demo on 127.0.0.1:6188; or what
    --upstream says, which needs no file.
    Exit codes: 0 stopped (with -d: serves), 1 failed to start, 2 bad usage or bad configuration.
    """
    problems = flags.refused(later, os.environ)
    if problems:
        raise click.UsageError("\n".join(problems))
    text = _quick_start(upstream, domain, cert, key, addr, acme)
    source = None if text is not None else options.source_of(conf)
    if to:
        texts.convert(source, text, to)
    from pingap.topology import Options

    follows = flags.follows(autoreload, os.environ)
    asked = Options(source, text, placement, workers, scale, _log_target(log), options.level(), follows=follows)
    if test:
        check.run(source, text, asked, run_dir)
        return
    if sync is not None:
        _sync(source, text, sync)
        return
    activation = _activation()
    path = os.path.abspath(run_dir or rundir.default())
    serve = partial(_serve, asked, threads, path, upgrade, autorestart, activation)
    is_asked = daemon or flags.is_on(os.environ.get("PINGAP_DAEMON", ""))
    if is_asked and process_one.is_this():
        terminal.warn("note: -d is without effect: this is process 1 of a container, and with it the container would end")
    if not is_asked or process_one.is_this():
        serve(None)
        return
    from pingap.service.daemon import enter

    with enter(os.environ) as background:  # before there is anything that a fork would double
        serve(background)


def _serve(
    asked: Options,
    threads: int | None,
    path: str,
    upgrade: bool,
    autorestart: bool,
    activation: Activation | None,
    background: Background | None,
) -> NoReturn:
    """Runs it to its end. path: of the run dir."""
    if process_one.is_this():
        process_one.stop_at_once()
    output.never_wait()
    from pingap import boot, demo_socks, limits, topology
    from pingap.face import ConsoleFace
    from pingap.launch import Launch
    from pingap.service.systemd import Service
    from pingap.spawning import SpawnerFailed, SpawnerHandle

    service = Service(os.environ)  # before there are processes that would inherit them
    limits.raise_descriptors()
    over, unawaited = os.environ.pop(OVER, ""), os.environ.pop(boot.UNAWAITED, "")
    predecessor = _predecessor(path) if upgrade or flags.is_on(over) else None
    try:
        held = rundir.RunDir(path, predecessor.estate.run_dir if predecessor is not None else ())
    except rundir.RunDirError as error:
        _fail(error, predecessor)
    try:
        spawner = SpawnerHandle(topology.modules())
    except SpawnerFailed as error:
        held.release()
        _fail(error, predecessor)
    is_demo = asked.source is None and asked.text is None
    socks = demo_socks.bind() if is_demo else ()
    if is_demo:
        asked = replace(asked, text=demo_socks.configuration(socks), has_demo=True)
    launch = Launch(
        asked,
        threads,
        socks,
        predecessor=predecessor,
        restarts_itself=autorestart,
        is_awaited=background is None and not service.environment() and over != CHILD and unawaited != str(os.getpid()),
        background=background,
        activation=activation,
        service=service,
    )
    code = boot.up(launch, held, spawner, ConsoleFace(held.path, is_demo, background))
    if code:
        output.drain(LAST_WORDS)
    sys.exit(code)


def _fail(error: Exception, predecessor: Predecessor | None) -> NoReturn:
    if predecessor is not None:
        predecessor.failed(str(error))
    fail(str(error))


def _predecessor(run_dir: str) -> Predecessor | None:
    """The instance that runs there; None when there is none to take over from."""
    from pingap.succession.takeover import Predecessor, TakeoverFailed

    try:
        return Predecessor(run_dir)
    except (FileNotFoundError, ConnectionRefusedError):
        terminal.warn(f"note: no pingap runs in {run_dir} to take over from: this is a start like any other")
        return None
    except (TakeoverFailed, OSError) as error:
        fail(f"cannot take over: {error}")


def _sync(source: str | None, text: str | None, target: str) -> None:
    from pingap.commands.configuration import synchronize

    if source is None and text is None:
        fail("there is no ./pingap.toml to copy: name a configuration with -c", BAD_USAGE)
    synchronize(source, text, target)


def _activation() -> Activation | None:
    """The sockets of a service manager, before a fork: they are meant for this process id. None when there are none."""
    if "LISTEN_FDS" not in os.environ:
        return None
    from pingap.listeners import BindFailed
    from pingap.service.activation import Activation

    try:
        return Activation(os.environ)
    except BindFailed as error:
        fail(str(error))


def _log_target(log: str | None) -> str | None:
    """A path from now on whatever the directory; `syslog:` is told by the logging stage."""
    return os.path.abspath(log) if log and not log.startswith("syslog:") else log


def _quick_start(*values: str | None) -> str | None:
    """The configuration that the flags for a proxy without a file make, None without them. Raises click.UsageError."""
    if all(value is None for value in values):
        return None
    from pingap.quick_start import Asked, BadQuickStart, configuration

    conf = click.get_current_context().get_parameter_source("conf")
    if conf is ParameterSource.COMMANDLINE:
        raise click.UsageError("--upstream, --domain, --cert, --key, --addr and --acme are for a proxy without a file: give them, or -c")
    try:
        text = configuration(Asked(*values))
    except BadQuickStart as bad:
        raise click.UsageError(str(bad)) from None
    if conf is ParameterSource.ENVIRONMENT:
        terminal.warn("note: PINGAP_CONF is set aside: the command line says what to serve")
    return text
