"""Distinguished names with all that makes trouble when they are written as one line."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from cryptography.x509.oid import ObjectIdentifier as Oid

Attribute: TypeAlias = "x509.NameAttribute[Any]"
CN, O, L = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME  # noqa: E741  # as they are called everywhere


def one(oid: Oid, value: str, kind: Kind | None = None) -> Attribute:
    return x509.NameAttribute(oid, value, kind, _validate=False)


def name(*parts: Attribute | tuple[Attribute, ...]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName(part if isinstance(part, tuple) else [part]) for part in parts])


ODD_NAMES: Final = {
    "specials": name(one(NameOID.COUNTRY_NAME, "DE"), one(O, 'Müller, "Söhne" + Co; <x> = #1\\2'), one(CN, " spaces at both ends ")),
    "multi-valued": name(
        (one(CN, "multi"), one(NameOID.USER_ID, "42"), one(NameOID.EMAIL_ADDRESS, "a@b.c")), one(NameOID.DOMAIN_COMPONENT, "x")
    ),
    "short": name(one(CN, "#"), one(O, " "), one(L, "#a"), one(NameOID.TITLE, "\\")),
    "unknown": name(one(Oid("1.2.3.4.5.6.7"), "unknown"), one(CN, "日本\U0001f600"), one(NameOID.TITLE, "a\nb\tc\x7f\x00d")),
    "kinds": name(
        one(CN, "ünï", Kind.BMPString),
        one(O, "lat", Kind.T61String),
        one(L, "print", Kind.PrintableString),
        one(CN, "\U0001f600", Kind.UniversalString),
    ),
    "empty": name(),
    "ends": name(one(CN, "  "), one(CN, "# "), one(NameOID.SERIAL_NUMBER, "a=b"), one(NameOID.BUSINESS_CATEGORY, "~`'!@$%^&*()")),
    "enterprise": name(one(Oid("1.3.6.1.4.1.311.60.2.1.3"), "DE"), one(NameOID.PSEUDONYM, "Zoë"), one(NameOID.UNSTRUCTURED_NAME, "host")),
    "long": name(one(CN, "x" * 64), one(O, "é" * 64)),
}
