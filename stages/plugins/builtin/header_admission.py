"""Admission by a line of the request's header: a part that `ua_restriction` and `referer_restriction` hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from pingap.plugin import CONTINUE, Headers, Result
from pingap.stages.plugins.builtin.admission import Admission

LONGEST: Final = 4096
"""Bytes of a value that is looked at. Nothing that people use sends one that is longer: it is refused, whatever the list says,
for what the list looks for may be behind so much padding."""

_KEPT: Final = 1024
"""Values whose verdict is remembered; past it they are forgotten all at once."""

_REMEMBERED: Final = 512
"""Bytes of a value that is remembered."""

MissingHeader = Literal["", "allow", "deny"]
"""The key `missing`."""


class HeaderAdmission:
    """Who is let in by the value of a header."""

    __slots__ = ("_admission", "_is_listed", "_line", "_missing", "_verdicts")

    def __init__(self, line: bytes, is_listed: Callable[[bytes], bool], admission: Admission, missing: MissingHeader) -> None:
        """line: `b"name: "`. is_listed: of a value. missing: of a request without the header; "" as of one that is not listed."""
        self._line = line
        self._is_listed = is_listed
        self._admission = admission
        self._missing = {"": admission.verdict(False), "allow": CONTINUE, "deny": admission.refusal}[missing]
        self._verdicts: dict[bytes, Result] = {}

    def judge(self, headers: Headers) -> Result:
        """Of several lines nobody knows which one a backend reads: each of them has to pass."""
        value = headers.first(self._line)
        if value is None:
            return self._missing
        if headers.raw.count(self._line) > 1:
            values = [line[len(self._line) :] for line in headers.raw.split(b"\r\n") if line.startswith(self._line)]
            return next((self._admission.refusal for one in values if self._verdict(one) is not CONTINUE), CONTINUE)
        return self._verdict(value)

    def _verdict(self, value: bytes) -> Result:
        verdict = self._verdicts.get(value)
        if verdict is None:
            verdict = self._admission.verdict(self._is_listed(value)) if len(value) <= LONGEST else self._admission.refusal
            if len(value) <= _REMEMBERED:
                if len(self._verdicts) >= _KEPT:
                    self._verdicts.clear()
                self._verdicts[value] = verdict
        return verdict
