"""A certificate that is there, made of what is on the shelf or stands in an entry."""

from __future__ import annotations

from pingap.config.leaf_facts import leaf_facts
from pingap.stages.acme.store.base import Shelf, ValueUnreadable
from pingap.stages.acme.store.kept import issued_in
from pingap.stages.acme.wanted import Issued
from pingap.stages.acme.words import HeldCertificate


def held_of(issued: Issued) -> HeldCertificate:
    """Raises ValueError for what is no certificate."""
    facts = leaf_facts(issued.cert)
    return HeldCertificate(issued, facts.names, facts.not_before, facts.not_after, facts.fingerprint, facts.is_self_signed)


def held_on(shelf: Shelf, id: str) -> HeldCertificate | None:
    """By the id of what was wanted. None also for what is none, or cannot be read: then another is got. Blocks. Raises StoreError."""
    try:
        value = shelf.get("certificates", id)
    except ValueUnreadable:
        return None
    return held_in(value) if value is not None else None


def held_in(value: bytes) -> HeldCertificate | None:
    """Of a value that is on the shelf; None for what is no certificate with a key."""
    issued = issued_in(value)
    try:
        return held_of(issued) if issued is not None else None
    except ValueError:
        return None
