"""What becomes of who is on a list, and of who is not: a part that the plugins hold which let in or keep out by a list."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from pingap.plugin import CONTINUE, Reply, Result, Trouble, reply

FORBIDDEN: Final = "Request is forbidden"


def _kind(value: object) -> object:
    return (value.lower() or "allow") if isinstance(value, str) else value


AdmissionType = Annotated[Literal["allow", "deny"], BeforeValidator(_kind)]
"""The key `type`, in any case: nobody but these, or everybody but these. An empty one is allow."""


def note_empty(key: str, listed: Sized, kind: Literal["allow", "deny"], example: str) -> Iterator[Trouble]:
    """An empty list, of an include or a template perhaps, shuts everybody out, or nobody."""
    if not listed:
        yield key, f"empty: {'nobody is let in' if kind == 'allow' else 'nobody is kept out'}", example


class Admission:
    """The verdict about somebody, once it is known whether the list has him."""

    __slots__ = ("lets_listed_in", "refusal")

    def __init__(self, kind: Literal["allow", "deny"], message: str, usual: str = FORBIDDEN) -> None:
        """message: body of the 403; `usual` when it is empty."""
        self.lets_listed_in: Final = kind == "allow"
        self.refusal: Final[Reply] = reply(403, message or usual)

    def verdict(self, is_listed: bool) -> Result:
        return CONTINUE if is_listed == self.lets_listed_in else self.refusal
