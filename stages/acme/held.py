"""A certificate that is there, made of what is on the shelf or stands in an entry."""

from __future__ import annotations

from pingap.config.leaf_facts import leaf_facts
from pingap.stages.acme.store.base import Shelf, ValueUnreadable
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued
from pingap.stages.acme.words import HeldCertificate


def held_of(issued: Issued) -> HeldCertificate:
    """Raises ValueError for what is no certificate."""
    facts = leaf_facts(issued.cert)
    return HeldCertificate(issued, facts.names, facts.not_before, facts.not_after, facts.fingerprint, facts.is_self_signed)


def held_on(shelf: Shelf, id: str) -> HeldCertificate | None:
    """By the id of what was wanted. None also for what is none, or cannot be read: then another is got. Blocks. Raises StoreError."""
    try:
        issued = CertificateKeeper(shelf).get_issued(id)
        return held_of(issued) if issued is not None else None
    except (ValueUnreadable, ValueError):
        return None
