"""The last committed generation on disk: a restarted config actor goes on from it, whatever the files say by then."""

from __future__ import annotations

from typing import Any, Final

from pingap.config.model import Snapshot
from pingap.stages import keepsake
from pingap.stages.config.core import Loaded, Stored

NAME: Final = "config.last"


def save(run_dir: str, stored: Stored) -> int:
    """Replaces the file as a whole; the run that it names. Raises OSError."""
    loaded = stored.loaded
    plain = {"number": stored.number, "wire": loaded.wire, "booted": stored.booted.to_wire()}
    plain |= {"previous": stored.previous and stored.previous.wire, "rejected": stored.rejected and stored.rejected.wire}
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
        previous, rejected = plain["previous"] and _loaded(plain["previous"]), plain["rejected"] and _loaded(plain["rejected"])
        return Stored(plain["number"], _loaded(plain["wire"]), Snapshot.from_wire(plain["booted"]), previous, rejected)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _loaded(wire: dict[str, Any]) -> Loaded:
    return Loaded(Snapshot.from_wire(wire["snapshot"]), wire)
