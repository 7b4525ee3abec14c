"""A change of several files in one step: what is to be done, in one file that comes to be as a whole.

As soon as the journal is there the change is made: who reads takes what it says for what the files say, and the next
writer finishes what its own writer, who was killed, could not. It says of each file from which text the change starts;
a file that somebody has edited since is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

NAME: Final = ".pingap-journal"


@dataclass(frozen=True, slots=True)
class Replacement:
    """What becomes of one file."""

    old: str | None
    """The digest of its content; None: it is not there."""
    text: str | None
    """None: it is removed."""

    def is_due(self, content: bytes | None) -> bool:
        """Whether a file with that content has yet to become what it says."""
        return self.old == (None if content is None else digest(content))


Journal = Mapping[str, Replacement]
"""By the names of documents."""


def digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def packed(journal: Journal) -> bytes:
    return json.dumps({name: [one.old, one.text] for name, one in journal.items()}).encode()


def unpacked(content: bytes) -> Journal:
    """Raises ValueError for what is no journal."""
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("it is no journal") from None
    journal = {}
    for name, pair in found.items() if isinstance(found, dict) else [("", None)]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(part is None or isinstance(part, str) for part in pair):
            raise ValueError("it is no journal")
        (name + (pair[1] or "")).encode()  # an escaped half of a letter is none
        journal[name] = Replacement(pair[0], pair[1])
    return journal
