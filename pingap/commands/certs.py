"""`pingap certs`, and `pingap certs renew` and `probe`."""

from __future__ import annotations

import json
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from pingap import rundir, terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, FAILED, Span, ask, fail

if TYPE_CHECKING:
    from pingap.tls_probe import Probed

RENEWING: Final = 120.0
"""Seconds for which `renew` waits; the try goes on without it."""

LOOK: Final = 0.5
"""Seconds between two looks at how far it is."""


def _acme_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    rows = options.known(context, "certs") or ()
    return [row["certificate"] for row in rows if row["acme"] and row["certificate"].startswith(begun)]


@click.group("certs", invoke_without_command=True)
@options.as_json
@options.health("each certificate is valid")
@options.watch
@options.run_dir
@click.pass_context
def certs(context: click.Context, as_json: bool, health: bool, watch: float | None, run_dir: str | None) -> None:
    """List the certificates: days left, state, where from, when renewed, last error.

    On a terminal that is too narrow the columns that matter least are left out. DAYS
    are left of the certificate that clients get now; RENEWS is when it is renewed by
    ACME, or tried again.
    """
    if context.invoked_subcommand is not None:
        return
    if health:
        _tell_health(ask(run_dir, "certs"))
    options.show_told(run_dir, "certs", text=_text, every=watch, as_json=as_json)


def _text(rows: list[dict[str, Any]]) -> str:
    from pingap import certs_table

    if not rows:
        return "the configuration has no certificates"
    return options.table(lambda width: certs_table.lines(rows, time.time(), width), certs_table.colour_of)


def _tell_health(rows: list[dict[str, Any]]) -> None:
    from pingap import certs_table

    options.tell_health(certs_table.unwell(rows), "not valid", f"{options.each(rows, 'certificate')} is valid")


@certs.command("renew", cls=options.Command)
@click.argument("name", shell_complete=_acme_names)
@options.as_json
@options.run_dir
def renew(name: str, as_json: bool, run_dir: str | None) -> None:
    """Get a certificate by ACME anew now, however long the old one lasts.

    Ends when the new one is served, with its dates, or with 1 and why it was not to be
    had; after two minutes with 1 as well, but then the try goes on, as it does after
    Ctrl-C: with DNS by hand this says which records are to be set. Authorities count:
    Let's Encrypt gives five of the same names in a week.
    """
    row = _renewed(name, run_dir, as_json)
    if as_json:
        terminal.say(json.dumps(row, indent=2))
        return
    from pingap.certs_table import date
    from pingap.ps_table import span

    end = row["not_after"] or 0.0
    dates = f"from {date(row['not_before'] or 0.0)} to {date(end)} ({span(max(0.0, end - time.time()))} left)"
    terminal.say(f"{name} is renewed: of {row['issuer']}, {dates}")


def _renewed(name: str, run_dir: str | None, is_silent: bool) -> dict[str, Any]:
    """Its row after that; says meanwhile what is done."""
    from pingap import client
    from pingap.stages.certificate_status import TO_BE_SET

    directory = run_dir or rundir.default()
    ended: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def wait() -> None:
        try:
            ended.put((True, client.ask(directory, "cert-renew", name, deadline=RENEWING + 10)))
        except (client.NotRunning, client.AskRefused) as error:
            ended.put((False, str(error)))

    threading.Thread(target=wait, daemon=True).start()
    until = time.monotonic() + RENEWING
    shown = ""
    while True:
        try:
            is_done, value = ended.get(timeout=LOOK)
        except queue.Empty:
            step = "" if is_silent else _step(directory, name)
            if step and step != shown:
                terminal.say(f"{name}: {step}")
                if step.startswith(TO_BE_SET) and not shown.startswith(TO_BE_SET):
                    terminal.say(
                        f"{name}: that is waited for, for a day, also when this is left with Ctrl-C; `pingap certs` shows how far it is"
                    )
                shown = step
            if time.monotonic() > until:
                fail(f"{name} is not renewed after {RENEWING:g} s; the try goes on: `pingap certs` tells what becomes of it")
        else:
            if not is_done:
                fail(str(value))
            return dict(value)


def _step(directory: str, name: str) -> str:
    from pingap import client
    from pingap.tables import safe

    with suppress(client.NotRunning, client.AskRefused):
        for row in client.ask(directory, "certs", name):
            return safe(str((row["acme"] or {}).get("step") or ""))
    return ""


@certs.command("probe", cls=options.Command)
@click.argument("target", metavar="HOST[:PORT]")
@click.option("--connect", metavar="ADDRESS[:PORT]", help="Connect there, but ask for HOST.")
@click.option("--ca", "authorities", metavar="FILE", help="Believe the authorities in this file (PEM), too.")
@click.option("--timeout", type=Span(), default=5.0, metavar="TIME", help="For connecting, and for the handshake. [default: 5s]")
@options.as_json
@options.run_dir
def probe(target: str, connect: str | None, authorities: str | None, timeout: float, as_json: bool, run_dir: str | None) -> None:
    """Begin TLS with a host, and say which certificate it sends.

    Needs no running pingap; where one runs it is said whether that is a certificate of
    its configuration. Exit code 0 when this system believes it, else 1.
    """
    from pingap import certs_table
    from pingap.tls_probe import BadTlsTarget, NoCertificateMet, parse_target
    from pingap.tls_probe import probe as probed_by

    try:
        wanted = parse_target(target)
        other = parse_target(connect, wanted.port) if connect is not None else None
    except BadTlsTarget as error:
        fail(str(error), BAD_USAGE)
    try:
        probed = probed_by(wanted, other, max(0.1, timeout), authorities)
    except NoCertificateMet as error:
        fail(str(error))
    held, told = _held(probed, wanted.host, run_dir)
    now = time.time()
    if as_json:
        terminal.say(json.dumps(certs_table.probed_json(wanted, probed, held, now), indent=2))
    else:
        text = "\n".join(certs_table.probe_lines(wanted, probed, told, now))
        terminal.say(terminal.fitted(text, terminal.width()) if terminal.is_terminal() else text)
    if probed.distrust:
        raise SystemExit(FAILED)


def _held(probed: Probed, host: str, run_dir: str | None) -> tuple[dict[str, Any] | None, str]:
    """(for programs, for people) what the running instance has to do with it; nothing to say where none runs."""
    from pingap import client
    from pingap.config.certificates import covers
    from pingap.stages.certificate_status import MINTS

    directory = run_dir or rundir.default()
    try:
        rows = client.ask(directory, "certs")
    except client.NotRunning as error:
        if run_dir is not None:
            fail(str(error))
        return None, ""
    except client.AskRefused as error:
        return None, f"not known: {error}"
    where = f"the instance in {directory}"
    if same := [row["certificate"] for row in rows if row["fingerprint"] == probed.chain[0].fingerprint]:
        return _told(same, is_same=True), f"yes, it is certificates.{same[0]} of {where}"
    if makers := [row["certificate"] for row in rows if row["source"] == MINTS and _is_made_with(row, probed)]:
        return _told(makers, is_made=True), f"it was made with certificates.{makers[0]} of {where}"
    if others := [row["certificate"] for row in rows if any(covers(domain, host) for domain in row["domains"])]:
        return _told(others), f"no, {where} has another for it: certificates.{others[0]}"
    return _told([]), f"no, {where} has none for {host}"


def _told(certificates: list[str], is_same: bool = False, is_made: bool = False) -> dict[str, Any]:
    return {"certificates": certificates, "same": is_same, "made": is_made}


def _is_made_with(row: dict[str, Any], probed: Probed) -> bool:
    """An authority that signs itself is not sent along: then its name has to do."""
    return any(above.fingerprint == row["fingerprint"] for above in probed.chain[1:]) or probed.chain[0].issuer == row["issuer"]
