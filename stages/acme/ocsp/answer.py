"""Whether what a responder has sent is to be believed, and what it says (RFC 6960 sections 3.2 and 4.2.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pingap.stages.acme.ocsp.question import OcspQuestion

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509
    from cryptography.x509.ocsp import OCSPResponse, OCSPSingleResponse

SKEW: Final = 300.0
"""Seconds that the responder's clock may be ahead of ours."""

WITHOUT_END: Final = 3600.0
"""Seconds for which an answer holds that does not say until when: newer information may be there at any time."""


class BadOcspAnswer(Exception):
    """It is not to be believed; the text says why."""


class OcspAnswer(NamedTuple):
    """Times are Unix seconds."""

    status: Literal["good", "revoked", "unknown"]
    since: float
    until: float
    revoked: str = ""
    """When, and why if that was said; for people."""


def believed(question: OcspQuestion, der: bytes, now: float) -> OcspAnswer:
    """What `der` says about the certificate in question. Raises BadOcspAnswer."""
    from cryptography.x509 import ocsp

    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise BadOcspAnswer(f"the responder says {response.response_status.name.lower()}")
        single = next((one for one in response.responses if _is_about(one, question)), None)
        if single is None:
            raise BadOcspAnswer("it is about another certificate")
        _check_signature(response, question.issuer, now)
        return _said(single, now)
    except BadOcspAnswer:
        raise
    except Exception as error:  # what cannot be read fails in many ways: ValueError, UnsupportedAlgorithm, a library's own
        raise BadOcspAnswer(f"it cannot be read: {type(error).__name__}: {error}") from error


def _is_about(single: OCSPSingleResponse, question: OcspQuestion) -> bool:
    """Of the hashes of the issuer only that of its key is looked at: with the serial number there is one such certificate."""
    from cryptography.x509.ocsp import OCSPRequestBuilder

    if single.serial_number != question.certificate.serial_number:
        return False
    wanted = OCSPRequestBuilder().add_certificate(question.certificate, question.issuer, single.hash_algorithm).build()
    return single.issuer_key_hash == wanted.issuer_key_hash


def _check_signature(response: OCSPResponse, issuer: X509, now: float) -> None:
    """By the issuer, or by whom it has named for this (RFC 6960 section 4.2.2.2)."""
    if _has_signed(issuer, response):
        return
    reason = "neither the issuer nor anybody that it names has signed it"
    for one in response.certificates:
        if not _has_signed(one, response):
            continue
        try:
            one.verify_directly_issued_by(issuer)
        except Exception:  # it has not, in one of the library's many ways
            reason = "who has signed it was not named by the issuer"
            continue
        if not _may_sign(one):
            reason = "who has signed it may not (id-kp-OCSPSigning)"
        elif not one.not_valid_before_utc.timestamp() - SKEW <= now < one.not_valid_after_utc.timestamp():
            reason = "the certificate of who has signed it is out of its time"
        else:
            return
    raise BadOcspAnswer(reason)


def _has_signed(signer: X509, response: OCSPResponse) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    key, signature, signed, algorithm = (
        signer.public_key(),
        response.signature,
        response.tbs_response_bytes,
        response.signature_hash_algorithm,
    )
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _may_sign(certificate: X509) -> bool:
    from cryptography import x509

    try:
        return x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False


def _said(single: OCSPSingleResponse, now: float) -> OcspAnswer:
    from cryptography.x509.ocsp import OCSPCertStatus

    since = single.this_update_utc.timestamp()
    until = single.next_update_utc.timestamp() if single.next_update_utc is not None else now + WITHOUT_END
    if since > now + SKEW:
        raise BadOcspAnswer(f"it is of {_shown(since)}, which is yet to come: is the clock right?")
    if until <= now:
        raise BadOcspAnswer(f"it has ended on {_shown(until)}")
    if single.certificate_status is OCSPCertStatus.GOOD:
        return OcspAnswer("good", since, until)
    if single.certificate_status is OCSPCertStatus.UNKNOWN:
        return OcspAnswer("unknown", since, until)
    at, why = single.revocation_time_utc, single.revocation_reason
    when = f"on {_shown(at.timestamp())}" if at is not None else ""
    return OcspAnswer("revoked", since, until, f"{when} ({why.value})" if why is not None else when)


def _shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
