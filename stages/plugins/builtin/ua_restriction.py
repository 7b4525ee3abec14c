"""`ua_restriction`: lets only some user agents in, or keeps some out.

403 for who is kept out. Anybody may call itself what it likes: this keeps out robots that are honest, and no attacker.

A regular expression looks anywhere in the value: write `^curl/` for its beginning, and `(?i)` at its start where capitals do
not matter. Of several User-Agent lines each has to pass. A value of more than 4096 bytes is refused in either case.

A health check or a monitor may send no User-Agent at all: without the header a request is not one of the list, so that
`"allow"` refuses it and `"deny"` lets it pass; `missing` says otherwise.

Unlike pingap 0.13.9: it looks at all lines of the header, not at the first one; a value that is not ASCII is looked at, too,
where there it counts as none; an empty expression, which would be found in everything, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from pingap.plugin import Exchange, Plugin, Regex, Result, Settings, Trouble
from pingap.stages.plugins.builtin.admission import FORBIDDEN, Admission, AdmissionType, note_empty
from pingap.stages.plugins.builtin.header_admission import HeaderAdmission, MissingHeader


class UaRestrictionSettings(Settings):
    ua_list: list[Regex] = Field(default_factory=list)
    """Regular expressions: `"^curl/"`, `"(?i)bot"`."""
    type: AdmissionType = "allow"
    """`"allow"`: nobody but these; `"deny"`: everybody but these."""
    message: str = FORBIDDEN
    """Body of the 403."""
    missing: MissingHeader = ""
    """What becomes of a request without User-Agent: `"allow"` or `"deny"`; without it as of one that is not listed. Ours."""


class UaRestriction(Plugin[UaRestrictionSettings]):
    category = "ua_restriction"
    model = UaRestrictionSettings

    def __init__(self, settings: UaRestrictionSettings) -> None:
        super().__init__(settings)
        admission = Admission(settings.type, settings.message)
        self._door = HeaderAdmission(b"user-agent: ", self._is_listed, admission, settings.missing)

    def check(self) -> Iterator[Trouble]:
        for index, regex in enumerate(self.settings.ua_list):
            if regex is None:
                yield f"ua_list[{index}]", "must not be empty", 'write ".*" if every user agent is meant'

    def notes(self) -> Iterator[Trouble]:
        yield from note_empty("ua_list", self.settings.ua_list, self.settings.type, 'ua_list = ["(?i)bot"]')

    def request(self, exchange: Exchange) -> Result:
        return self._door.judge(exchange.headers)

    def _is_listed(self, value: bytes) -> bool:
        if not value.isascii():  # `.` is found in no bytes that are not UTF-8: in what stands for them here it is
            value = value.decode("utf-8", "replace").encode()
        return any(regex.search(value) for regex in self.settings.ua_list)
