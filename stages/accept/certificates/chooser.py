"""What stays the same of a server's TLS over all reloads: where handshakes begin, and with that the key of session tickets."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from pingap.config.model import Server
from pingap.stages.accept.certificates.choice import Choice
from pingap.stages.accept.certificates.contexts import client_rules, set_up
from pingap.stages.accept.certificates.minting import NotMinted
from pingap.stages.accept.certificates.openssl import NotThisLibrary
from pingap.stages.accept.certificates.openssl_trial import usable
from pingap.stages.accept.certificates.ticket_keys import ticket_key
from pingap.stages.client_hello import Hello

SHARED: Final = 16
"""Servers whose session tickets every accept process of an instance takes before it is told a secret for them."""

_beginnings: Final = tuple(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(SHARED))
"""Where handshakes begin. OpenSSL draws the key of a context's tickets when it is made, and Python's `ssl` can neither read nor
set it: made here, before the spawner forks the processes, they have one key each in all of them (0.5 ms and 45 KB apiece). These
hold until there is a secret, and where openssl.py does not work."""

_TICKETS: Final = 2
"""That TLS 1.3 gives with a handshake: OpenSSL's own number."""


class Chooser:
    """What stays the same of a server's TLS over all reloads.

    Every handshake begins in `context`, to which session tickets belong: so a client can go on with a session from
    before a reload, and by another replica. The certificate comes from the `choice` of the newest generation.
    """

    def __init__(self, server: Server, choice: Choice, place: int = SHARED, name: str = "") -> None:
        """place: of the server among those of the instance, the same in each of its processes. name: of its section."""
        self._name = name
        self._secret = b""
        self._shared = _beginnings[place] if place < SHARED else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._rules = ("", "")
        self.context = self._shared
        self.unknown = ""
        """The last name that somebody asked for in vain, as text that cannot forge a log line; "" for no name."""
        self.proofs: Mapping[str, ssl.SSLContext] = {}
        """What authorities are shown, by the name that is to be proved (certificates/proofs.py)."""
        self.not_minted: NotMinted | None = None
        """Why none was made for it, when one should have been."""
        self.update(server, choice)

    def update(self, server: Server, choice: Choice) -> None:
        """Clients that have to prove who they are begin in a context of their own, and in another when the rules for that change:
        with the old one go its sessions, who was known by which would be let in without a look at the new rules."""
        self._choice = choice
        self._server = server
        rules = client_rules(server)
        if rules != self._rules:
            self._rules = rules
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if server.client_ca else self._shared
        self.context.sni_callback = self._choose
        set_up(self.context, server)
        self._set_ticket_key()

    def use_secrets(self, secrets: Sequence[bytes]) -> str:
        """Tickets are under a key of the newest secret, which is the first, and no older ones are taken; without any all stays.

        Why that cannot be, for the log; else "".
        """
        self._secret = secrets[0] if secrets else self._secret
        return self._set_ticket_key()

    def _set_ticket_key(self) -> str:
        if not self._secret:
            return ""
        calls, reason = usable()
        if calls is None:
            return reason
        try:
            calls.set_ticket_key(self.context, ticket_key(self._secret, self._name, self._server))
            if self._server.client_ca:  # with the rules for clients in its key, a ticket is worth what it is elsewhere
                calls.keep_no_sessions(self.context)
                self.context.options &= ~ssl.OP_NO_TICKET
                self.context.num_tickets = _TICKETS
        except NotThisLibrary as error:
            return str(error)
        return ""

    def context_for(self, hello: Hello, address: str = "") -> ssl.SSLContext | None:
        """What the handshake of a client begins in; None when there is no certificate for the name that it asks for.

        No certificate is for a name outside ASCII, and the TLS library's `sni_callback` breaks on one: it gets the default at once.
        address: where it has connected, for one that names nobody.
        """
        name = hello.name
        if hello.is_acme:
            proof = self.proofs.get(name.decode("latin-1").lower())
            if proof is None:
                self._refused(f"{name[:255]!a}, as an authority that looks for a proof")
            return proof
        if not name:
            try:
                return self._choice.of_address(address) or self.context
            except NotMinted as error:
                self._refused("", error)
                return None
        if name.isascii():
            return self.context
        self._refused(ascii(name[:255]))
        return self._choice.default

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        shown = ascii(name[:255]) if name else ""
        try:
            found = self._choice.of(name)
        except NotMinted as error:
            self._refused(shown, error)
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        if found is None:
            self._refused(shown)
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = found
        return None

    def _refused(self, shown: str, error: NotMinted | None = None) -> None:
        self.unknown = shown
        self.not_minted = error.with_traceback(None) if error is not None else None  # whose frames would keep the connection
