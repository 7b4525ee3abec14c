"""Lets only webhooks through that their sender has signed, as GitHub does (X-Hub-Signature-256).

The backend behind it can trust what it gets, and a request that anybody else made never reaches it: without a signature or with
a wrong one it is answered 401, and 405 when it is no POST.

    pip install pingap
    pingap up -c examples/plugins/signed_webhooks.toml     # its end says what to try
    pingap plugin test examples/plugins/signed_webhooks.py
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

from pingap.plugin import CONTINUE, Exchange, HeaderName, Plugin, Reply, Result, Settings, Size, Trouble, reply


class WebhookSettings(Settings):
    """The keys of the section, besides those that every python plugin has."""

    secret: str
    header: HeaderName = "X-Hub-Signature-256"
    max_body: Size = 1024 * 1024


class SignedWebhooks(Plugin[WebhookSettings]):
    """One object for each section of the configuration that names this file."""

    model = WebhookSettings
    reads_request_body = True

    def check(self) -> Iterator[Trouble]:
        """What the model cannot say; `pingap check` tells it with the path of the key."""
        if len(self.settings.secret) < 16:
            yield "secret", "is shorter than 16 characters", 'write secret = "$ENV:WEBHOOK_SECRET"'

    def request(self, exchange: Exchange) -> Result:
        """Runs for each request, before anything of it has gone to the backend."""
        if exchange.method != "POST":
            return reply(405, "Webhooks are POSTed\n", {"allow": "POST"})
        if len(exchange.headers.get_all(self.settings.header)) != 1:
            return reply(401, "One signature is wanted\n")
        exchange.collect_request(self.verify, limit=self.settings.max_body)
        return CONTINUE

    def verify(self, exchange: Exchange, body: bytes) -> Reply | None:
        """Runs when the whole body is here. A reply instead of None, and the backend never hears of the request."""
        wanted = "sha256=" + hmac.new(self.settings.secret.encode(), body, hashlib.sha256).hexdigest()
        given = exchange.headers[self.settings.header].encode("latin-1")  # compare_digest raises for text that is not ASCII
        if not hmac.compare_digest(wanted.encode(), given):
            return reply(401, "The signature is wrong\n")
        exchange.context["webhook"] = "verified"  # `{:webhook}` in the access log
        return None
