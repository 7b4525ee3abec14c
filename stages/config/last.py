"""The last committed generation on disk: a restarted config actor goes on from it, whatever the files say by then."""

from __future__ import annotations

from typing import Final

from config.model import Snapshot
from stages import keepsake
from stages.config.core import Loaded, Stored

NAME: Final = "config.last"


def save(run_dir: str, stored: Stored) -> int:
    """Replaces the file as a whole; the run that it names. Raises OSError."""
    loaded = stored.loaded
    plain = {"number": stored.number, "wire": loaded.wire, "booted": stored.booted.to_wire()}
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
        wire = plain["wire"]
        loaded = Loaded(Snapshot.from_wire(wire["snapshot"]), wire)
        return Stored(plain["number"], loaded, Snapshot.from_wire(plain["booted"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
