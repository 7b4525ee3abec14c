"""Tokens made of answers: what a backend says of a user, signed."""

from __future__ import annotations

from typing import Final, NamedTuple

from pingap.stages.plugins.builtin.tokens.keys import mac
from pingap.stages.plugins.builtin.tokens.token import LONGEST, BadToken, encoded, json_object

LARGEST: Final = LONGEST * 3 // 4 - 256
"""Bytes of claims of which a token can be made that is taken."""

GONE: Final = ("etag", "last-modified", "accept-ranges", "expires", "content-md5", "digest", "content-digest", "repr-digest")
"""Headers that speak of the body as it was."""


class Minter(NamedTuple):
    """Signs claims with a secret."""

    secret: bytes
    alg: str
    ttl: float
    """Seconds; 0: `exp` and `iat` are the backend's business alone."""

    def mint(self, claims: bytes, now: float) -> bytes | None:
        """The token, or None for what is no JSON object. now: seconds since 1970."""
        if len(claims) > LARGEST:
            return None
        try:
            known = json_object(claims)
        except BadToken:
            return None
        if self.ttl:
            # Put into the text, so that all else is signed as the backend wrote it.
            times = {"iat": int(now), "exp": int(now + self.ttl)}
            added = b",".join(b'"%b":%d' % (name.encode(), value) for name, value in times.items() if name not in known)
            before, brace, rest = claims.partition(b"{")
            claims = b"%b%b%b%b%b" % (before, brace, added, b"," if added and known else b"", rest)
        # The spaces are the reference's.
        header = b'{"alg": "%b","typ": "JWT"}' % self.alg.encode()
        signed = b"%b.%b" % (encoded(header), encoded(claims))
        return b"%b.%b" % (signed, encoded(mac(self.secret, self.alg, signed)))
