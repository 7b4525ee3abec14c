"""The last committed generation on disk: a restarted config actor goes on from it, whatever the files say by then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from pingap.config.model import Snapshot
from pingap.stages import keepsake
from pingap.stages.bundles import Packed, digests, unpacked
from pingap.stages.config.core import Loaded, Stored
from pingap.stages.steps import finished

NAME: Final = "config.last"


def save(run_dir: str, stored: Stored) -> int:
    """Replaces the file as a whole; the run that it names. Raises OSError."""
    blobs: dict[bytes, bytes] = {}
    plain: dict[str, Any] = {"number": stored.number, "booted": stored.booted.to_wire(), "blobs": blobs}
    for name, loaded in (("loaded", stored.loaded), ("previous", stored.previous), ("rejected", stored.rejected)):
        plain[name] = loaded and {"contents": loaded.packed.contents, "rest": _rest(loaded.snapshot).to_wire(), "notes": loaded.notes}
        blobs |= loaded.packed.blobs if loaded else {}
    return keepsake.save(run_dir, NAME, plain)


def is_lost(run_dir: str, run: int) -> bool:
    """Somebody has removed it. run: what `save` gave."""
    return keepsake.is_lost(run_dir, NAME, run)


def restore(run_dir: str) -> Stored | None:
    """What an earlier life in this run saved, None when there is none.

    Raises ValueError for a file that cannot be used, OSError for one that cannot be read.
    """
    plain = keepsake.restore(run_dir, NAME)
    if plain is None:
        return None
    try:
        loaded, previous, rejected = (plain[name] and _loaded(plain[name], plain["blobs"]) for name in ("loaded", "previous", "rejected"))
        return Stored(plain["number"], loaded, Snapshot.from_wire(plain["booted"]), previous, rejected)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _rest(snapshot: Snapshot) -> Snapshot:
    """What is in no bundle."""
    return Snapshot(stages=snapshot.stages, bus=snapshot.bus, notes=snapshot.notes, secret=snapshot.secret)


def _loaded(plain: dict[str, Any], blobs: dict[bytes, bytes]) -> Loaded:
    contents = plain["contents"]
    snapshot, plans = finished(unpacked(contents, blobs, keeps=False))
    rest = Snapshot.from_wire(plain["rest"])
    whole = replace(snapshot, stages=rest.stages, bus=rest.bus, notes=rest.notes, secret=rest.secret)
    used = digests(contents)
    return Loaded(
        whole, plans, Packed(contents, {digest: blob for digest, blob in blobs.items() if digest in used}), tuple(plain.get("notes", ()))
    )
