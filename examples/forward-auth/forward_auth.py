"""Asks a service of yours whether a request may pass, as `auth_request` of nginx and `forwardAuth` of Traefik do.

The service gets the head of the request. 2xx lets it pass, with the headers of `copy_headers` for the backend; any other
answer (a 401, a 302 to where one logs in) is what the client gets. See pingap.toml beside this file.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pingap.plugin import CONTINUE, Duration, Exchange, FetchFailed, Host, Plugin, Result, Settings, reply

TOLD = ("cookie", "authorization", "accept", "accept-language", "user-agent", "x-request-id")
"""Headers of the client that the service gets; its body stays here."""
ANSWERED = ("www-authenticate", "location", "set-cookie", "content-type", "cache-control")
"""Headers of a refusal that the client gets."""


class ForwardAuthSettings(Settings):
    upstream: str
    """The service: the name of an [upstreams.X], with its pool, TLS and health check."""
    target: str = "/auth"
    copy_headers: list[str] = Field(default_factory=list)
    """Of the service's answer, for the backend: `X-User`. What clients send under these names never gets there."""
    patience: Annotated[Duration, Field(gt=0)] = 2.0


class ForwardAuth(Plugin[ForwardAuthSettings]):
    model = ForwardAuthSettings

    def start(self, host: Host) -> None:
        self.host = host

    async def request(self, exchange: Exchange) -> Result:
        settings = self.settings
        headers = [(name, value) for name in TOLD for value in exchange.headers.get_all(name)]
        headers += [
            ("x-forwarded-for", exchange.client_ip),
            ("x-forwarded-proto", exchange.scheme),
            ("x-forwarded-host", exchange.authority),
            ("x-forwarded-method", exchange.method),
            ("x-forwarded-uri", exchange.original_target),
        ]
        try:
            answer = await self.host.fetch(settings.upstream, "GET", settings.target, headers, timeout=settings.patience)
        except FetchFailed as failed:
            self.host.log("error", "the service that says who may pass does not answer", error=str(failed))
            return reply(503, "Nobody can say whether you may pass. Try again shortly.\n")
        if not 200 <= answer.status < 300:
            return reply(answer.status, answer.body, [(name, value) for name in ANSWERED for value in answer.headers.get_all(name)])
        for name in settings.copy_headers:
            exchange.headers.remove(name)
            for value in answer.headers.get_all(name):
                exchange.headers.add(name, value)
        return CONTINUE
