"""Contexts with certificates that are made on the fly, of one [certificates.X] section with `is_ca` and for one server.

Not compiled: a generation in use is found again by a weak reference, and what it costs is the TLS library's work.
"""

from __future__ import annotations

import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic, time
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from pingap.config.addresses import host_name
from pingap.config.model import Certificate, Server
from pingap.config.name_bounds import Address
from pingap.config.problems import BadValue
from pingap.stages.accept.certificates.contexts import new_context, settings_of
from pingap.stages.accept.certificates.mint_budget import MintBudget
from pingap.stages.accept.certificates.signing import SigningAuthority

KNOWN: Final = 800
"""Names that were asked for more than once whose certificates are kept."""

NEW: Final = 200
"""Names that were asked for once, the same: whoever asks for one after the other displaces only these."""

RATE: Final = 50
"""Certificates made a second, for each process, server and authority: a tenth of its time."""

BURST: Final = 200

RENEWED: Final = 1 / 3
"""The part of a certificate's life that is left when the next client brings about a new one."""


tally: Final[Counter[tuple[str, str]]] = Counter()
"""(section, "" or the `kind` of NotMinted) → certificates that were made, or were not, in this process since accept counted the last."""


class NotMinted(Exception):
    """Why there is no certificate for a name. `is_passing`: another time there may be one."""

    def __init__(self, kind: str, why: str, is_passing: bool = False) -> None:
        """kind: a word for metrics, one of few."""
        super().__init__(why)
        self.kind = kind
        self.is_passing = is_passing


class _MintedContext(NamedTuple):
    context: ssl.SSLContext
    renewed_at: float
    """Seconds since 1970."""
    ends: float


class CertificateMint:
    """Name or address → context. It is the same over reloads that leave the authority and the server's TLS as they are."""

    def __init__(
        self, server: Server, entry: Certificate, *, clock: Callable[[], float] = time, ticks: Callable[[], float] = monotonic
    ) -> None:
        """clock: seconds since 1970. ticks: on a clock that never goes back. Raises ValueError for an authority that cannot be used."""
        self.section = ""
        """What the newest configuration calls it, for metrics."""
        self._server = server
        self._clock = clock
        self._ticks = ticks
        self._authority = SigningAuthority(entry)  # now: to import what it needs takes 50 ms, which no handshake has
        self._new: OrderedDict[str | Address, _MintedContext] = OrderedDict()
        self._known: OrderedDict[str | Address, _MintedContext] = OrderedDict()
        self._budget = MintBudget(RATE, BURST)

    def of_name(self, name: str) -> ssl.SSLContext:
        """name: in lower case, without a dot at its end. Raises NotMinted."""
        return self._of(name, _checked)

    def of_address(self, text: str) -> ssl.SSLContext:
        """For a client that names nobody, and has connected to this address. Raises NotMinted."""
        return self._of(text, _address)

    @property
    def count(self) -> int:
        """Certificates that are kept."""
        return len(self._new) + len(self._known)

    def _of(self, asked: str, name_of: Callable[[str], str | Address]) -> ssl.SSLContext:
        found = self._kept(asked)
        if found is not None and self._clock() < found.renewed_at:
            return found.context
        try:
            return self._made(asked, name_of(asked))
        except NotMinted as error:
            if found is not None and self._clock() < found.ends:
                return found.context
            tally[self.section, error.kind] += 1
            raise

    def _kept(self, asked: str) -> _MintedContext | None:
        known = self._known
        found = known.get(asked)
        if found is not None:
            known.move_to_end(asked)
            return found
        found = self._new.pop(asked, None)
        if found is not None:
            known[asked] = found
            if len(known) > KNOWN:
                known.popitem(last=False)
        return found

    def _made(self, asked: str, name: str | Address) -> ssl.SSLContext:
        authority = self._authority
        is_permitted = authority.bounds.is_within(name) if isinstance(name, str) else authority.bounds.has_address(name)
        if not is_permitted:
            raise NotMinted("constraints", "its authority may not make one (name constraints)")
        now = self._clock()
        if now >= authority.ends:
            raise NotMinted("expired", "its authority has expired")
        if not self._budget.take(self._ticks()):
            raise NotMinted("budget", f"more than {RATE} certificates a second would have to be made", is_passing=True)
        minted = authority.make(name, now)
        context = new_context(self._server, minted.certificate)
        tally[self.section, ""] += 1
        kept = _MintedContext(context, minted.ends - (minted.ends - now) * RENEWED, minted.ends)
        if asked in self._known:
            self._known[asked] = kept
            return kept.context
        self._new[asked] = kept
        if len(self._new) > NEW:
            self._new.popitem(last=False)
        return kept.context


def _checked(name: str) -> str:
    try:
        checked = host_name(name)
    except BadValue:
        raise NotMinted("name", "it is not a host name") from None
    if checked != name or name.endswith(".") or name.rpartition(".")[2].isdigit():
        raise NotMinted("name", "it is not a host name")
    return name


def _address(text: str) -> Address:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:  # a UNIX socket has none
        raise NotMinted("address", "the client names nobody, and has come to no address") from None


_in_use: Final[WeakValueDictionary[tuple[Any, ...], CertificateMint]] = WeakValueDictionary()
"""By all that goes into what they make."""


def mint_of(server: Server, entry: Certificate, section: str) -> CertificateMint:
    """The one that a generation in use has for the same, or a new one."""
    key = (entry.tls_cert, entry.tls_key, settings_of(server))
    mint = _in_use.get(key)
    if mint is None:
        mint = _in_use[key] = CertificateMint(server, entry)
    mint.section = section
    return mint
