"""What the proof by DNS has to say to people: in the log, as a step that `pingap certs` shows, and as a notice where one has to act."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pingap.bus.actor import Context
from pingap.observability.notices import LETS_ENCRYPT
from pingap.stages.acme.aside import to_loop
from pingap.stages.acme.wanted import WantedCertificate
from pingap.stages.certificate_status import TO_BE_SET

if TYPE_CHECKING:
    from pingap.stages.acme.dns.presenter import DnsTelling


class DnsVoice:
    """Of one try. step: shows what is done. Called in its thread."""

    def __init__(self, context: Context, wanted: WantedCertificate, step: Callable[[str], None]) -> None:
        self._context = context
        self._wanted = wanted
        self._step = step
        self._has_called = False

    def tell(self, telling: DnsTelling) -> None:
        """A line in the log."""
        level = "warn" if telling.is_to_be_done else "info"
        self._soon(partial(self._context.log, level, telling.text, certificate=self._wanted.name))

    def awaited(self, records: tuple[str, ...]) -> None:
        """Somebody is called once for all of an order; after that only the step changes."""
        self._step(asked_of(records))
        if records and not self._has_called:
            self._has_called = True
            fields = {"title": "DNS records are to be set", "certificate": self._wanted.name, "records": list(records)}
            self._soon(partial(self._context.notice, "warn", LETS_ENCRYPT, f"{self._wanted.name}: {asked_of(records)}", **fields))

    def _soon(self, call: Callable[[], object]) -> None:
        to_loop(self._context.loop, call)


def asked_of(records: tuple[str, ...]) -> str:
    """What people have to do."""
    if not records:
        return "the DNS records have arrived"
    return f"{TO_BE_SET}{'s' if len(records) > 1 else ''} {'; '.join(records)}"
