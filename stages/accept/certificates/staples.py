"""OCSP staples (RFC 6066 section 8): for which certificate there is one, and in which contexts."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from weakref import WeakSet

from pingap.stages.accept.certificates.openssl import NotThisLibrary
from pingap.stages.accept.certificates.openssl_trial import usable

_END: Final = "-----END CERTIFICATE-----"


class Staples:
    """Of one process. Whoever makes a context tells it; who gets new staples gives it all of them."""

    def __init__(self) -> None:
        self._by_leaf: dict[str, bytes] = {}
        self._contexts: dict[str, WeakSet[ssl.SSLContext]] = {}

    def use(self, staples: Mapping[str, bytes]) -> str:
        """From now on these and no others: SHA-256 of a server's certificate (of its DER, in hex) → DER of the response.

        Why none can be given to clients, for the log; "" when they are, or when there are none.
        """
        changed = {leaf for leaf in self._by_leaf.keys() | staples.keys() if self._by_leaf.get(leaf) != staples.get(leaf)}
        self._by_leaf = dict(staples)
        calls, reason = usable() if staples or changed else (None, "")
        if calls is None:
            return reason
        for leaf in changed:
            for context in self._contexts.get(leaf, ()):
                try:
                    calls.set_staple(context, self._by_leaf.get(leaf, b""))
                except NotThisLibrary as error:
                    reason = str(error)
        self._contexts = {leaf: contexts for leaf, contexts in self._contexts.items() if contexts}
        return reason

    def made(self, context: ssl.SSLContext, chain: str) -> None:
        """A context has come to be. chain: PEM, the server's own certificate first."""
        leaf = leaf_digest(chain)
        self._contexts.setdefault(leaf, WeakSet()).add(context)
        staple = self._by_leaf.get(leaf)
        if staple and (calls := usable().calls) is not None:
            try:
                calls.set_staple(context, staple)
            except NotThisLibrary:
                return


def leaf_digest(chain: str) -> str:
    """SHA-256 of the DER of the first certificate, in hex; "" when there is none."""
    end = chain.find(_END)
    if end < 0:
        return ""
    begin = chain.rfind("-----BEGIN CERTIFICATE-----", 0, end)
    return sha256(ssl.PEM_cert_to_DER_cert(chain[begin : end + len(_END)])).hexdigest() if begin >= 0 else ""


staples: Final = Staples()
"""Of this process: contexts are shared by servers and by generations, and so are these."""
