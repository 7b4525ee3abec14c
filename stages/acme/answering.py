"""Answers who asks about certificates: the command line through the supervisor, and the page of metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import time
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.stages.acme.asked import CERT_WORDS, RENEW, NotOurs, to_renew, told_of
from pingap.stages.acme.statuses import KnownCertificate, status_of
from pingap.stages.certificate_status import CertificateStatus
from pingap.stages.messages import CertificatesAsk, CertificatesTold

Known = Callable[[], Sequence[KnownCertificate] | None]
"""All certificates of the configuration, in its order; None while there is no configuration yet."""

Renew = Callable[[str, Callable[[str], None]], None]
"""Begins to get that one anew, or joins the try that is under way; calls back once with "", or with why it failed."""

_TOO_EARLY: Final = "the acme stage has only begun, and knows no configuration yet: ask again in a moment"


class CertificateQuestions:
    """Of the acme actor."""

    def __init__(self, context: Context, known: Known, renew: Renew) -> None:
        self._context = context
        self._known = known
        self._renew = renew

    def asked(self, message: CertificatesAsk) -> None:
        """CERTIFICATES_ASK."""
        self._context.send(message.asker, CertificatesTold(message.ticket, self._rows() or ()))

    def told(self, word: str, args: Any) -> None:
        """TELL; other words than ours are let pass."""
        if word not in CERT_WORDS:
            return
        number, *rest = args
        try:
            if (rows := self._rows()) is None:
                raise NotOurs(_TOO_EARLY)
            if word == RENEW:
                (name,) = rest
                self._renew(to_renew(rows, str(name)).name, partial(self._renewed, number, str(name)))
            else:
                self._answer(number, True, told_of(rows, rest, time()))
        except (NotOurs, TypeError, ValueError) as error:
            self._answer(number, False, str(error))

    def _renewed(self, number: int, name: str, error: str) -> None:
        if error:
            self._answer(number, False, f"certificate {name!r} could not be renewed: {error}")
            return
        try:
            self._answer(number, True, told_of(self._rows() or (), (name,), time())[0])
        except NotOurs:
            self._answer(number, False, f"certificate {name!r} has left the configuration meanwhile")

    def _answer(self, number: int, ok: bool, value: Any) -> None:
        self._context.report("answer", {"asked": number, "ok": ok, "value": value})

    def _rows(self) -> tuple[CertificateStatus, ...] | None:
        known = self._known()
        return None if known is None else tuple(status_of(one, time()) for one in known)
