"""Sends each tenant to an upstream of its own, by a header that says whose request it is.

    pip install pingap
    pingap up -c examples/plugins/tenants.toml     # its end says what to try
    pingap plugin test examples/plugins/tenants.py

Put a plugin that proves who asks (`jwt`, `key_auth` …) before this one, unless only friends can send the header. The backend gets
one line of it, and none that it could take for one (`x_tenant` is `x-tenant` to CGI, WSGI and PHP).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pingap.plugin import CONTINUE, Exchange, HeaderName, Plugin, Result, Settings, Trouble, reply


class TenantsSettings(Settings):
    """The keys of its section."""

    header: HeaderName = "x-tenant"
    """Says whose request it is."""
    tenants: Mapping[str, str]
    """Tenant → upstream."""
    others: str = ""
    """The upstream of tenants that are not named here; without it they are answered 404."""


class Tenants(Plugin[TenantsSettings]):
    """One object for each section that names this file."""

    model = TenantsSettings

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        if not self.settings.tenants and not self.settings.others:
            yield "tenants", "names nobody", 'tenants = { acme = "acme_backends" }'

    def upstreams(self) -> Iterable[tuple[str, str]]:
        """Those that are named here have to be configured: `pingap check` tells which is not."""
        named = [(f"tenants.{tenant}", upstream) for tenant, upstream in self.settings.tenants.items()]
        return [*named, ("others", self.settings.others)] if self.settings.others else named

    def request(self, exchange: Exchange) -> Result:
        """Chooses, before anything goes to a backend."""
        tenants = exchange.headers.get_all(self.settings.header)
        if len(tenants) != 1:
            return reply(400, f"One {self.settings.header} is wanted\n")
        upstream = self.settings.tenants.get(tenants[0], self.settings.others)
        if not upstream:
            return reply(404, "There is no such tenant\n")
        exchange.headers.remove_alike(self.settings.header)
        exchange.headers[self.settings.header] = tenants[0]
        exchange.upstream = upstream
        exchange.context["tenant"] = tenants[0]  # `{:tenant}` in the access log
        return CONTINUE
