"""Lets clients in by the role that their certificate says they have, and tells the backend which.

    pip install pingap
    pingap up -c examples/plugins/roles.toml     # its end says how to make certificates, and what to try
    pingap plugin test examples/plugins/roles.py

The role is in an alternative name of the certificate, a URI such as `role://admin`: whoever issues certificates says who may do what.
The backend gets one line of it, and none that it could take for one (`x_role` is `x-role` to CGI, WSGI and PHP).
"""

from __future__ import annotations

from collections.abc import Iterator

from pingap.plugin import CONTINUE, Exchange, HeaderName, Plugin, Result, Settings, Texts, Trouble, reply


class RolesSettings(Settings):
    """The keys of its section."""

    scheme: str = "role"
    """Of the URIs that are meant."""
    allowed: Texts
    """The roles that are let in."""
    header: HeaderName = "x-role"
    """What the backend is told in."""


class Roles(Plugin[RolesSettings]):
    """One object for each section that names this file."""

    model = RolesSettings

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        if not self.settings.allowed:
            yield "allowed", "lets nobody in", 'allowed = ["admin"]'

    def request(self, exchange: Exchange) -> Result:
        """Before anything goes to a backend."""
        certificate = exchange.client_certificate
        if certificate is None:  # client_auth = "optional"
            return reply(403, "A client certificate is wanted\n")
        start = f"{self.settings.scheme}://"
        roles = [uri.removeprefix(start) for uri in certificate.uris if uri.startswith(start)]
        role = next((role for role in roles if role in self.settings.allowed), "")
        if not role:
            return reply(403, f"{certificate.subject} has no role here\n")
        exchange.headers.remove_alike(self.settings.header)
        exchange.headers[self.settings.header] = role
        exchange.context["role"] = role  # `{:role}` in the access log
        return CONTINUE
