"""A configuration with everything checked: what `config` knows, the plugins' own models, access log templates.

Used by the config actor, by the process that loads for `pingap up`, and by `pingap check`.
It pulls in pydantic and all plugins, so the supervisor never imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NoReturn

from pingap.config.accounts import Account, UnknownAccount, account_of, check_account
from pingap.config.diff import MOST_NAMED, restarted_only
from pingap.config.gathering import section_in
from pingap.config.home import default_directory
from pingap.config.load import load as load_snapshot
from pingap.config.model import Snapshot
from pingap.config.notes import grouped, notes_on
from pingap.config.paths import check_paths, notes_on_rotation, why_no_folder
from pingap.config.problems import BadValue, ConfigRefused, Note, Problem, path_of
from pingap.config.references import KeyPlace, References, of_environment, of_no_storage
from pingap.config.refused import SnapshotRefused
from pingap.config.secrecy import is_within
from pingap.config.storage.base import OutOfReach, Readable, ReadOnce
from pingap.config.storage.etcd.address import is_etcd
from pingap.config.storage.places import storage_of
from pingap.config.values import parse_access_log
from pingap.observability.access_format import problems as format_problems

UNTOLD: Final = ""
"""Of a source: it is not said where a configuration is to be, so that what is kept beside it is not looked at."""


def load(storage: Readable, *, root_makes: bool = False, runs_code: bool = True) -> Snapshot:
    """Reads what a storage holds. Raises ConfigRefused with all problems.

    Code of users is run in children only (stages/plugins/trial.py), and not at all without `runs_code`: their plugins are not
    checked then. root_makes: as in `check_paths`.
    """
    from pingap.stages.plugins import checking, registry

    storage = ReadOnce(storage)
    checker = checking.Checker(storage.base, runs_code=runs_code)
    try:
        snapshot = load_snapshot(storage, plugin_checker=checker, builtin_plugins=registry.BUILTIN_INSTANCES)
    except SnapshotRefused as refused:
        sound = refused.sound
        told = {problem.path for problem in refused.problems}
        accounts = (one for one in check_account(sound.basic) if one.path not in told)
        more = (*_access_logs(_written(storage)), *accounts, *check_paths(sound, root_makes=root_makes))
        raise SnapshotRefused([*refused.problems, *_guarded(more, sound)], refused.notes, sound) from None
    formats = ((name, server.access_log.format) for name, server in snapshot.servers.items() if server.access_log)
    if problems := [*_access_logs(formats), *check_account(snapshot.basic), *check_paths(snapshot, root_makes=root_makes)]:
        raise SnapshotRefused(_guarded(problems, snapshot), snapshot.notes, snapshot)
    return replace(snapshot, code=checker.code)


def _guarded(problems: Iterable[Problem], snapshot: Snapshot) -> list[Problem]:
    """The problems, of a value that came out of a storage no more than that there is one: what is said may quote it."""
    secret = frozenset(snapshot.secret)
    said = "is not what this key takes; its value is secret, so that no more is said"
    return [replace(one, message=said, hint="") if secret and is_within(one.path, secret) else one for one in problems]


def _access_logs(formats: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    for server, format in formats:
        for problem in format_problems(format):
            message, _, hint = problem.partition("; ")
            yield Problem(path_of("servers", server, "access_log"), message, hint)


def _written(storage: Readable) -> Iterator[tuple[str, str]]:
    """Access log formats of a configuration that has other problems, so that these are told as well."""
    with suppress(ConfigRefused):
        for name, server in section_in(storage.read().documents, "servers").items():
            written = server.get("access_log") if isinstance(server, dict) else None
            with suppress(BadValue):
                if isinstance(written, str) and (log := parse_access_log(written)):
                    yield name, log.format


def account_in(storage: Readable) -> Account | None:
    """The account that a configuration has root become, before anything in it has been checked. None: it stays what it is.

    Raises ConfigRefused where that cannot be told: whoever does not know whom to become must run nothing that the
    configuration names.
    """
    if os.geteuid() != 0:
        return None
    documents = storage.read().documents
    if not any(word in one.text for one in documents for word in ("user", "group", "\\")):
        return None  # to parse thousands of locations once more takes a second
    basic = section_in(documents, "basic", is_whole=True)
    wrongs: list[Problem] = []

    def unset(place: KeyPlace, why: BadValue) -> None:
        wrongs.append(Problem(path_of(*place), why.message, why.hint))

    references = References({"ENV": of_environment(os.environ), "SECRET": of_no_storage}, unset)
    names = {key: references.fill(basic.get(key) or "", ("basic", key)) for key in ("user", "group")}
    wrongs += (Problem(path_of("basic", key), "expected text") for key, name in names.items() if not isinstance(name, str))
    if wrongs:
        raise ConfigRefused(wrongs)
    try:
        return account_of(names["user"], names["group"])
    except UnknownAccount as unknown:
        raise ConfigRefused([unknown.problem]) from None


def _refuse(storage: Readable, unclear: ConfigRefused) -> NoReturn:
    """With all else that is wrong with a configuration that does not say whom to become; no code of users is run."""
    try:
        snapshot = load(storage, runs_code=False)
    except ConfigRefused as refused:
        told = {problem.path for problem in refused.problems}
        problems = (*refused.problems, *(one for one in unclear.problems if one.path not in told))
        if isinstance(refused, SnapshotRefused):
            raise SnapshotRefused(problems, refused.notes, refused.sound) from None
        raise
    raise SnapshotRefused(unclear.problems, snapshot.notes, snapshot)


def _clear_account(storage: Readable) -> Account | None:
    """As `account_in`; it raises as `_refuse` does."""
    try:
        return account_in(storage)
    except ConfigRefused as unclear:
        _refuse(storage, unclear)


def folder_of_certificates(source: str | None, snapshot: Snapshot) -> str:
    """Where certificates by ACME will be kept, for who runs as the user of the stages; "" for nowhere, or not in files.

    source: as `storage_of` takes it.
    """
    if not any(one.acme for one in snapshot.certificates.values()) or (source is not None and is_etcd(source)):
        return ""
    return snapshot.basic.acme_directory or default_directory()


def _with_its_folder(source: str | None, snapshot: Snapshot, root_makes: bool = False) -> Snapshot:
    """The snapshot. Raises SnapshotRefused when certificates could not be kept."""
    folder = folder_of_certificates(source, snapshot) if source != UNTOLD else ""
    if folder and (reason := why_no_folder(folder, root_makes=root_makes)):
        message, hint = reason
        raise SnapshotRefused([Problem("basic.acme_directory", message, hint)], snapshot.notes, snapshot)
    return snapshot


def _load_as_it_runs(storage: Readable, source: str | None) -> Snapshot:
    """As `load`, as the user that the stages will be: what root alone can read is no use to them. Only for a process that ends then."""
    account = _clear_account(storage)
    if account is None:
        return _with_its_folder(source, load(storage))
    from pingap.service import privileges

    try:
        if reason := privileges.why_not_run(account):
            raise ConfigRefused([Problem("basic.user", *reason)])
        privileges.become(account, keeps_ports=False)
    except privileges.PrivilegesError as error:
        message, _, hint = str(error).partition("\n")
        raise ConfigRefused([Problem("basic.user", message.removeprefix("basic.user: "), hint.strip())]) from None
    try:
        snapshot = _with_its_folder(source, load(storage, root_makes=True), root_makes=True)
        return replace(snapshot, notes=(*snapshot.notes, *grouped(notes_on_rotation(snapshot))))
    except ConfigRefused as refused:
        if not _is_denied(refused):
            raise
        whom = Problem("basic.user", f"all of this was looked at as {account.name}, whom the processes become before they read it")
        problems = (*refused.problems, whom)
        if isinstance(refused, SnapshotRefused):
            raise SnapshotRefused(problems, refused.notes, refused.sound) from None
        raise ConfigRefused(problems, refused.notes) from None
    except OSError as error:
        why = f"cannot be read as {account.name}: {(error.strerror or str(error)).lower()}"
        hint = "that is whom the processes become (basic.user) before they read it: directories have to be open to that user, too"
        raise ConfigRefused([Problem(str(error.filename or storage.base), why, hint)]) from None


def load_for_check(storage: Readable, source: str | None = UNTOLD) -> Snapshot:
    """As `load`, with what the stages could not do as `[basic] user`; this process stays whose it is. Raises ConfigRefused.

    source: of the storage, as `storage_of` takes it; UNTOLD for texts that are in none yet.
    """
    account = _clear_account(storage)
    if account is None:
        return _with_its_folder(source, load(storage))
    import msgpack

    here, there = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(there, "wb") as file:
                file.write(msgpack.packb(_answer(storage, source), use_bin_type=True))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(there)
    with os.fdopen(here, "rb") as file:
        packed = file.read()
    os.waitpid(child, 0)
    if not packed:
        raise ConfigRefused([Problem("basic.user", "the process that looked at the configuration as that user died")])
    plain = msgpack.unpackb(packed, strict_map_key=False)
    if "problems" in plain:
        problems, notes = [Problem(*row) for row in plain["problems"]], [Note(*row) for row in plain["notes"]]
        if plain["sound"] is None:
            raise (OutOfReach if plain["is_out_of_reach"] else ConfigRefused)(problems, notes)
        raise SnapshotRefused(problems, notes, Snapshot.from_wire(plain["sound"]))
    return Snapshot.from_wire(plain["snapshot"])


def _answer(storage: Readable, source: str | None) -> dict[str, Any]:
    try:
        return {"snapshot": _load_as_it_runs(storage, source).to_wire()}
    except ConfigRefused as refused:
        sound = refused.sound.to_wire() if isinstance(refused, SnapshotRefused) else None
        is_away = isinstance(refused, OutOfReach)
        return {"problems": _rows(refused.problems), "notes": _rows(refused.notes), "sound": sound, "is_out_of_reach": is_away}
    except Exception as error:
        problem = Problem("basic.user", f"looked at as that user, the configuration fails: {error!r}")
        return {"problems": _rows([problem]), "notes": [], "sound": None, "is_out_of_reach": False}


def _rows(found: Iterable[Problem | Note]) -> list[list[str]]:
    return [[one.path, one.message, one.hint, one.source] for one in found]


def _is_denied(refused: ConfigRefused) -> bool:
    return any("permission" in problem.message.lower() for problem in refused.problems)


def to_plain(source: str | None, text: str | None) -> dict[str, Any]:
    """As `load`, for the supervisor: {"snapshot": wire form, "notes": as text, "passed": of stages/plugins/trial.py,
    "folder": of `folder_of_certificates`}.

    It gets what only a restart changes, and so neither thousands of locations nor private keys.
    Or {"problems": [[path, message, hint, source], …], "is_out_of_reach": true when they are those of an OutOfReach}.
    """
    from pingap.stages.plugins import trial

    try:
        snapshot = _load_as_it_runs(storage_of(source, text), source)
        notes = [str(note) for note in notes_on(snapshot)]
        if len(notes) > MOST_NAMED:
            notes[MOST_NAMED:] = [f"{len(notes) - MOST_NAMED} more, which `pingap check` shows"]
        folder = folder_of_certificates(source, snapshot)
        return {"snapshot": restarted_only(snapshot).to_wire(), "notes": notes, "passed": trial.passed(), "folder": folder}
    except ConfigRefused as refused:
        return {"problems": _rows(refused.problems), "is_out_of_reach": isinstance(refused, OutOfReach)}
