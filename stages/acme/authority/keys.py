"""Private keys, and requests to certify them (RFC 2986, RFC 8555 section 7.4). Decides only, but for the dice in new keys."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pingap.stages.acme.wanted import KeyType

CertifiedKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key(kind: KeyType) -> str:
    """PEM, PKCS #8, not encrypted."""
    key: CertifiedKey
    if kind.startswith("rsa-"):
        key = rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))
    else:
        key = ec.generate_private_key(ec.SECP384R1() if kind == "ecdsa-p384" else ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def read_key(pem: str) -> CertifiedKey:
    """Raises ValueError."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("a key of another kind")
    return key


def as_address(domain: str) -> IPv4Address | IPv6Address | None:
    """None: it is a name."""
    try:
        return ip_address(domain)
    except ValueError:
        return None


def identifiers(domains: tuple[str, ...]) -> list[dict[str, str]]:
    """Of a newOrder: names, and addresses (RFC 8738), which are written in their one shortest form."""
    addresses = [(domain, as_address(domain)) for domain in domains]
    return [{"type": "dns", "value": domain} if address is None else {"type": "ip", "value": str(address)} for domain, address in addresses]


def signing_request(pem: str, domains: tuple[str, ...]) -> bytes:
    """DER. The names are in its SAN alone: a common name has room for 64 letters, and new certificates have none."""
    addresses = [(domain, as_address(domain)) for domain in domains]
    names = [x509.DNSName(domain) if address is None else x509.IPAddress(address) for domain, address in addresses]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    key = read_key(pem)
    digest = hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384 else hashes.SHA256()
    request = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, digest)
    return request.public_bytes(serialization.Encoding.DER)
