"""`pingap check`, and `pingap up -t`, which does the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pingap import rundir, terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, FAILED, fail

if TYPE_CHECKING:
    from pingap.config.model import Snapshot
    from pingap.config.problems import Note, Problem
    from pingap.topology import Options

_COUNTED = ("servers", "locations", "upstreams", "plugins", "certificates")


@options.command()
@options.conf
@options.run_dir
@click.option("--strict", is_flag=True, help="Notes count as problems.")
@options.as_json
def check(conf: str | None, run_dir: str | None, strict: bool, as_json: bool) -> None:
    """Tell everything that a start would meet, and change nothing.

    All problems of the configuration at once, and of this machine: addresses that
    are taken, ports that need a privilege, files that cannot be read or written,
    names that cannot be found. What the instance in --run-dir has is not counted as
    taken. Exit code 2 if there are problems, 1 if the configuration is out of reach.
    """
    from pingap.topology import Options

    run(options.source_of(conf), None, Options(level=options.level()), run_dir, is_strict=strict, as_json=as_json)


def run(
    source: str | None, text: str | None, asked: Options, run_dir: str | None, *, is_strict: bool = False, as_json: bool = False
) -> None:
    """Tells what is wrong, and ends the command with BAD_USAGE where something is. text: a configuration without a file."""
    if source is None and text is None:
        fail("there is no ./pingap.toml to check: name a configuration with -c", BAD_USAGE)
    from pingap.config.storage.base import OutOfReach

    try:
        problems, notes, snapshot = found(source, text, asked, run_dir or rundir.default())
    except OutOfReach as away:
        if as_json:
            terminal.say(_json(list(away.problems), [], {}))
            raise SystemExit(FAILED) from None
        fail(terminal.fitted(str(away)), FAILED)
    counts = {name: len(getattr(snapshot, name)) for name in _COUNTED} if snapshot is not None else {}
    if as_json:
        terminal.say(_json(problems, notes, counts))
    else:
        from pingap.config.storage.etcd.address import without_password

        _tell(without_password(source) if source else "the command line", problems, notes, counts, is_strict)
    if problems or (is_strict and notes):
        raise SystemExit(BAD_USAGE)


def found(source: str | None, text: str | None, asked: Options, run_dir: str) -> tuple[list[Problem], list[Note], Snapshot | None]:
    """(problems, notes, the configuration, which is None when it was refused). Raises OutOfReach."""
    from pingap.config.notes import notes_on
    from pingap.config.problems import ConfigRefused, Problem
    from pingap.config.refused import SnapshotRefused
    from pingap.config.storage.base import OutOfReach
    from pingap.config.storage.places import storage_of
    from pingap.loading import load_for_check
    from pingap.preflight import preflight

    problems: list[Problem] = []
    notes: list[Note] = []
    snapshot = sound = None
    try:
        snapshot = sound = load_for_check(storage_of(source, text), source)
        notes += notes_on(snapshot)
    except OutOfReach:
        raise
    except ConfigRefused as refused:
        sound = refused.sound if isinstance(refused, SnapshotRefused) else None
        problems += refused.problems
        notes += refused.notes
    for one in preflight(sound, asked, run_dir) if sound is not None else ():
        if isinstance(one, Problem):
            problems.append(one)
        else:
            notes.append(one)
    return problems, notes, snapshot


def _tell(what: str, problems: list[Problem], notes: list[Note], counts: dict[str, int], is_strict: bool) -> None:
    for note in notes:
        terminal.warn(terminal.fitted(f"note: {note}"))
    if problems:
        from pingap.config.problems import ConfigRefused

        fail(terminal.fitted(str(ConfigRefused(problems))), BAD_USAGE)
    counted = ", ".join(f"{count} {name[:-1] if count == 1 else name}" for name, count in counts.items() if count or name != "certificates")
    if is_strict and notes:
        fail(f"{what}: {len(notes)} note{'s' * (len(notes) > 1)}, which --strict takes for problems ({counted})", BAD_USAGE)
    terminal.say(f"{what}: no problems ({counted})")


def _json(problems: list[Problem], notes: list[Note], counts: dict[str, int]) -> str:
    shown = {"problems": [_plain(one) for one in problems], "notes": [_plain(one) for one in notes], "counts": counts}
    return json.dumps(shown, ensure_ascii=False, indent=2)


def _plain(one: Problem | Note) -> dict[str, str]:
    return {"path": one.path, "message": one.message, "hint": one.hint, "source": one.source}
