"""`pingap config`: where the text of a configuration is, and what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, Number, fail

if TYPE_CHECKING:
    from pingap.config.edit import EarlierItem
    from pingap.config.layouts import Copying, Relocation
    from pingap.config.storage.base import Storage

NAMED: Final = 20
"""Items that a line names."""


@click.group("config")
def config() -> None:
    """Move a configuration to other files or another storage; list and restore what it was.

    None of this needs a running instance. One that runs takes over what becomes of it.
    """


# -- migrate --------------------------------------------------------------------------------------


@config.command("migrate", cls=options.Command)
@options.conf
@click.option(
    "--to",
    "layout",
    type=click.Choice(["type", "item", "file"]),
    help="A file for each section, a file for each item, or one file; else what -c says: ?separation=true is item.",
)
@click.option("--into", metavar="PATH", help="Leave the old one as it is, and write there.")
@click.option("--backup", metavar="DIR", help="Where copies of changed and removed files go; else beside the directory.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
def migrate(conf: str | None, layout: str | None, into: str | None, backup: str | None, dry_run: bool) -> None:
    """Put each item of a configuration into the file where it belongs.

    Comments move with what they stand in or right above. All files change in one step:
    a crash leaves the old ones or the new ones. A directory is changed where it is, and
    copies of the old files are kept; from a file to a directory, and the other way
    round, the new one is beside the old one, which stays.
    """
    from pingap import relocating

    source = _named(conf)
    with _told():
        plan = relocating.planned(source, layout, options.source_of(into) if into else None)
        kept = "" if dry_run else relocating.done(plan, backup)
    _tell_relocation(plan.relocation, plan.place, dry_run)
    if kept:
        terminal.say(f"the files as they were are in {kept}")
    if not plan.is_in_place and not dry_run:
        terminal.say(f"{source} is as it was; name the new one with -c '{plan.place}'")
    elif plan.place != source and not dry_run:
        terminal.say(f"name it with -c '{plan.place}' from now on, so that new items get files of that kind")


def _tell_relocation(relocation: Relocation, place: str, is_dry: bool) -> None:
    if not relocation.written and not relocation.removed:
        terminal.say(f"{place}: every item is where it belongs")
        return
    would = "would be " if is_dry else ""
    for document in relocation.written:
        terminal.say(f"{document.name}: {would}written")
    for name in relocation.removed:
        terminal.say(f"{name}: {would}removed")
    _tell_uncommented(relocation)


def _tell_uncommented(relocation: Relocation) -> None:
    for name in relocation.uncommented:
        terminal.warn(f"note: {name} is of a form of which comments cannot be kept")


# -- sync -----------------------------------------------------------------------------------------


@config.command("sync", cls=options.Command)
@click.argument("source", metavar="FROM", callback=options.unseen)
@click.argument("target", metavar="TO", callback=options.unseen)
@click.option("--delete", is_flag=True, help="Take out what only TO has; else it stays.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@click.option("--no-check", is_flag=True, help="Copy what has problems here, too: variables or files that only the target's host has.")
def sync(source: str, target: str, delete: bool, dry_run: bool, no_check: bool) -> None:
    """Copy a configuration to another storage: files, a directory, etcd.

    As it is written: includes and $ENV:NAME stay what they are. What only TO has stays,
    unless --delete says otherwise. It is written against what was there when this
    began: when somebody else writes meanwhile, this ends and has written nothing.
    """
    synchronize(options.source_of(source), None, target, delete, dry_run, no_check)


def synchronize(
    source: str | None, text: str | None, target: str, deletes: bool = False, is_dry: bool = False, is_unchecked: bool = False
) -> None:
    """Does it and tells it; ends the command when it cannot be done. text: of a configuration that is in no storage."""
    from pingap import relocating
    from pingap.config.storage.places import storage_of

    with _told():
        there = storage_of(options.source_of(target))
        copying = relocating.sync(storage_of(source, text), there, deletes, is_dry, is_unchecked)
    would = "would be " if is_dry else ""
    for word, paths in (("added", copying.added), ("changed", copying.changed), ("removed", copying.removed)):
        if paths:
            terminal.say(f"{would}{word}: {_listed(paths)}")
    if copying.left:
        terminal.say(f"not in the source, and left: {_listed(copying.left)}")
    _tell_uncommented(copying.relocation)
    terminal.say(_summary(copying, is_dry))


def _summary(copying: Copying, is_dry: bool) -> str:
    written, removed = copying.relocation.written, copying.relocation.removed
    if not written and not removed:
        return "nothing to do: the target says the same"
    done = f"{len(written)} document{'s' * (len(written) != 1)} {'to write' if is_dry else 'written'}"
    return done + (f", {len(removed)} {'to remove' if is_dry else 'removed'}" if removed else "")


def _listed(paths: tuple[str, ...]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


# -- history --------------------------------------------------------------------------------------


@config.command("history", cls=options.Command)
@options.conf
@click.argument("section")
@click.argument("name", default="")
@click.option("-n", "number", type=Number(1, 10), metavar="N", help="Show the text of this one.")
@options.as_json
def history(conf: str | None, section: str, name: str, number: int | None, as_json: bool) -> None:
    """List the earlier texts of an item, the newest first: `pingap config history servers web`.

    They are kept when the configuration is named with ?enable_history=true, from when
    it was. NAME is left out for [basic].
    """
    with _told():
        found = _earlier(_storage(conf), section, name)
    if number is not None:
        terminal.say(_numbered(found, number, section, name).item.text.rstrip("\n"))
    elif as_json:
        terminal.say(json.dumps([{"number": at + 1, "until": one.until, "text": one.item.text} for at, one in enumerate(found)]))
    else:
        for at, one in enumerate(found, 1):
            terminal.say(f"{at:2}  until {_time(one.until)}  {len(one.item.text.splitlines())} lines")
        if not found:
            terminal.say("no earlier text is kept")


@config.command("restore", cls=options.Command)
@options.conf
@click.argument("section")
@click.argument("words", nargs=-1, metavar="[NAME] [N]")
@click.option("--dry-run", is_flag=True, help="Check it and show it, and write nothing.")
def restore(conf: str | None, section: str, words: tuple[str, ...], dry_run: bool) -> None:
    """Give an item the text that it had: `pingap config restore servers web 2`.

    N is as `pingap config history` counts, 1 when it is left out. The configuration that
    comes of it is checked; with problems nothing is written.
    """
    from pingap.config.edit import restored
    from pingap.config.storage.base import SINGLE, Proposed, after, reading_of
    from pingap.loading import load_for_check

    name = "" if section in SINGLE else words[0] if words else ""
    rest = words if section in SINGLE else words[1:]
    if len(rest) > 1 or (rest and options.number_of(rest[0]) is None):
        raise click.UsageError(f"{' '.join(rest)!r} is no number of an earlier text")
    with _told():
        storage = _storage(conf)
        one = _numbered(_earlier(storage, section, name), int(rest[0]) if rest else 1, section, name)
        document, version = restored(storage, section, name, one.item)
        load_for_check(Proposed(storage.base, after(reading_of(storage).documents, [document], ())))
        if dry_run:
            terminal.say(one.item.text.rstrip("\n"))
            return
        storage.write(document, version)
    terminal.say(f"{document.name}: written, with what it said until {_time(one.until)}")


def _earlier(storage: Storage, section: str, name: str) -> tuple[EarlierItem, ...]:
    from pingap.config.edit import earlier

    found = earlier(storage, section, name)
    if found is None:
        fail("this configuration keeps no history: name it with ?enable_history=true, here and for `pingap up`", BAD_USAGE)
    return found


def _numbered(found: tuple[EarlierItem, ...], number: int, section: str, name: str) -> EarlierItem:
    if not 1 <= number <= len(found):
        shown = f"{section} {name}".rstrip()
        fail(f"{shown} has {len(found) or 'no'} earlier text{'s' * (len(found) != 1)}: `pingap config history {shown}` lists them")
    return found[number - 1]


# -- all of them ----------------------------------------------------------------------------------


def _named(conf: str | None) -> str:
    source = options.source_of(conf)
    if source is None:
        fail("there is no ./pingap.toml: name a configuration with -c", BAD_USAGE)
    return source


def _storage(conf: str | None) -> Storage:
    from pingap.config.storage.places import storage_of

    return storage_of(_named(conf))


def _time(until: int) -> str:
    """In etcd a time is a number that anybody may have written."""
    try:
        return datetime.fromtimestamp(until).astimezone().isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return str(until)


@contextmanager
def _told() -> Iterator[None]:
    """Ends the command with what the storages have to say."""
    from pingap.config.problems import ConfigRefused
    from pingap.config.storage.base import NotWritten

    try:
        yield
    except ConfigRefused as refused:
        fail(str(refused), BAD_USAGE)
    except NotWritten as error:
        fail(str(error))
