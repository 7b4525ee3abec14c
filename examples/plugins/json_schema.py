"""Refuses bodies that are not what a JSON Schema says, with all that is wrong with them.

pip install pingap jsonschema
pingap up -c examples/plugins/json_schema.toml     # its end says what to try
pingap plugin test examples/plugins/json_schema.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from pingap.plugin import CONTINUE, SKIP, Exchange, Host, Plugin, Reply, Result, Settings, Size, Trouble, reply

METHODS = ("POST", "PUT", "PATCH")
"""Requests of other methods have nothing to look at."""

MOST_REASONS = 20


class JsonSchemaSettings(Settings):
    """The keys of its section."""

    rules: dict[str, Any]
    """The schema (draft 2020-12), as a table: `[plugins.NAME.rules]`. References to other documents are not fetched."""
    max_body: Size = 1024 * 1024
    """Longer bodies are answered 413."""


class JsonSchema(Plugin[JsonSchemaSettings]):
    """One object for each section that names this file."""

    model = JsonSchemaSettings
    reads_request_body = True

    def __init__(self, settings: JsonSchemaSettings) -> None:
        super().__init__(settings)
        self.validator = Draft202012Validator(settings.rules)

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        try:
            Draft202012Validator.check_schema(self.settings.rules)
        except SchemaError as error:
            yield "rules", f"is no JSON Schema: {error.json_path}: {error.message}"

    def start(self, host: Host) -> None:
        """Called once, before the first request."""
        self.host = host

    def request(self, exchange: Exchange) -> Result:
        """Runs for each request, before anything of it has gone to the backend."""
        if exchange.method not in METHODS:
            return SKIP
        kind = (exchange.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            return reply(415, "application/json is wanted\n", {"accept": "application/json"})
        exchange.collect_request(self.judge, limit=self.settings.max_body)
        return CONTINUE

    async def judge(self, exchange: Exchange, body: bytes) -> Reply | None:
        """Runs when the whole body is here. A large one takes its time, so it is looked at in a thread."""
        try:
            reasons = await self.host.in_thread(self.reasons, body)
        except (ValueError, RecursionError):
            return _answer(400, [{"at": "$", "why": "is no JSON"}])
        return _answer(422, reasons) if reasons else None

    def reasons(self, body: bytes) -> list[dict[str, str]]:
        """What is wrong with a body, and where. Raises ValueError for what is no JSON, RecursionError for what is too deep."""
        errors = self.validator.iter_errors(json.loads(body))
        return [{"at": error.json_path, "why": error.message[:300]} for error in islice(errors, MOST_REASONS)]


def _answer(status: int, reasons: list[dict[str, str]]) -> Reply:
    return reply(status, json.dumps({"errors": reasons}) + "\n", {"content-type": "application/json"})
