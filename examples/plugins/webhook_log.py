"""Sends a line for each request to a webhook, as JSON, many at a time.

    pip install pingap
    pingap up -c examples/plugins/webhook_log.toml     # its end says what to try
    pingap plugin test examples/plugins/webhook_log.py

No request waits for the webhook. When it is away the newest lines are kept, as many as `most` says, and sent again and
again; those that had to go are told in the next batch, and counted (`webhook_log_dropped`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pingap.plugin import Duration, Exchange, FetchFailed, HeaderLine, Host, Overloaded, Plugin, Settings, Trouble, Url

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a webhook that is away."""


class WebhookLogSettings(Settings):
    """The keys of its section."""

    url: Url
    """Where each batch is POSTed: `{"dropped": 0, "requests": [{…}, …]}`."""
    token: str = ""
    """Sent as `Authorization: Bearer …`."""
    batch: int = 100
    """Lines of one batch, at most."""
    every: Duration = 1.0
    """After which one is sent that is not full."""
    most: int = 10_000
    """Lines that may wait."""


class WebhookLog(Plugin[WebhookLogSettings]):
    """One object for each section that names this file."""

    model = WebhookLogSettings

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        if not 1 <= self.settings.batch <= self.settings.most:
            yield "batch", "has to be from 1 to `most`"
        if self.settings.every < 0.01:
            yield "every", "is less than 10 ms"
        if not (self.settings.token.isascii() and self.settings.token.isprintable()):
            yield "token", "has characters in it that no header may have"

    def start(self, host: Host) -> None:
        """Called once, before the first request."""
        self.host = host
        self.waiting: deque[dict[str, Any]] = deque(maxlen=self.settings.most)
        self.dropped = 0
        self.is_full = asyncio.Event()
        self.sending = asyncio.create_task(self.send_all())

    async def stop(self) -> None:
        """Called once, when no request has this object any more. It has 1.5 s."""
        self.sending.cancel()
        while self.waiting and await self.send(timeout=0.5):
            pass

    def request(self, exchange: Exchange) -> None:
        """Runs for each request, whoever answers it."""
        line: dict[str, Any] = {
            "time": time.time(),
            "client": exchange.client_ip,
            "method": exchange.method,
            "host": exchange.host,
            "path": exchange.path,  # not the query: that may have secrets in it
        }
        exchange.state[self] = line
        began = time.monotonic()

        def over() -> None:
            line["seconds"] = round(time.monotonic() - began, 4)
            self.take(line)

        self.host.when_done(exchange, over)

    def response(self, exchange: Exchange) -> None:
        """Runs when a backend has answered."""
        if exchange.response is not None:
            exchange.state[self]["status"] = exchange.response.status

    def take(self, line: dict[str, Any]) -> None:
        """The oldest one goes when there is no room."""
        if len(self.waiting) == self.settings.most:
            self.dropped += 1
            self.host.count("webhook_log_dropped")
        self.waiting.append(line)
        if len(self.waiting) >= self.settings.batch:
            self.is_full.set()

    async def send_all(self) -> None:
        """Batch after batch; after one that failed, each time twice as long a pause."""
        pause = 0.0
        while True:
            try:
                async with asyncio.timeout(self.settings.every):
                    await self.is_full.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(pause)
            is_sent = not self.waiting or await self.send()
            pause = 0.0 if is_sent else min(max(2 * pause, self.settings.every), LONGEST_PAUSE)
            if len(self.waiting) < self.settings.batch:
                self.is_full.clear()

    async def send(self, timeout: float = 10.0) -> bool:
        """One batch; False when it is to be sent again."""
        lines, dropped = list(islice(self.waiting, self.settings.batch)), self.dropped
        headers: list[HeaderLine] = [("content-type", "application/json")]
        if self.settings.token:
            headers.append(("authorization", f"Bearer {self.settings.token}"))
        body = json.dumps({"dropped": dropped, "requests": lines})
        try:
            answer = await self.host.fetch_url(self.settings.url, "POST", headers, body, timeout=timeout)
        except (FetchFailed, Overloaded) as error:
            self.host.log("warn", "the webhook cannot be reached", error=str(error))
            return False
        if answer.status >= 500 or answer.status in (408, 429):
            return False
        if answer.status >= 300:  # it will say so of this batch for ever
            self.host.log("error", "the webhook refuses what it is sent", status=answer.status)
            self.host.count("webhook_log_dropped", len(lines))
        for line in lines:
            if self.waiting and self.waiting[0] is line:  # else it had to go meanwhile, and counts as dropped
                self.waiting.popleft()
        self.dropped -= dropped
        return True
