"""Refuses bodies that are not what a JSON Schema says, with all that is wrong with them.

    pip install pingap jsonschema
    pingap up -c examples/plugins/json_schema.toml     # its end says what to try
    pingap plugin test examples/plugins/json_schema.py

What two parsers could take for two things is refused too: a name that comes twice, `NaN`, and any encoding but UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pingap.plugin import CONTINUE, SKIP, Exchange, Host, Plugin, Reply, Result, Settings, Size, Trouble, reply

METHODS = ("POST", "PUT", "PATCH")
"""They have to have a body. Those of other methods may have one; without it there is nothing to look at."""

MOST_REASONS = 20


class JsonSchemaSettings(Settings):
    """The keys of its section."""

    rules: dict[str, Any]
    """The schema (draft 2020-12), as a table: `[plugins.NAME.rules]`. Nothing is fetched:
    references lead to places in it, or to the drafts of JSON Schema themselves."""
    max_body: Size = 1024 * 1024
    """Longer bodies are answered 413."""


class JsonSchema(Plugin[JsonSchemaSettings]):
    """One object for each section that names this file."""

    model = JsonSchemaSettings
    reads_request_body = True

    def __init__(self, settings: JsonSchemaSettings) -> None:
        super().__init__(settings)
        self.validator = Draft202012Validator(settings.rules, registry=REGISTRY)  # its own would ask the network

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        try:
            Draft202012Validator.check_schema(self.settings.rules)
        except SchemaError as error:
            yield "rules", f"is no JSON Schema: {error.json_path}: {error.message}"
            return
        yield from (("rules", f"has a reference that leads nowhere: {reference}") for reference in sorted(_dangling(self.settings.rules)))

    def start(self, host: Host) -> None:
        """Called once, before the first request."""
        self.host = host

    def request(self, exchange: Exchange) -> Result:
        """Runs for each request, before anything of it has gone to the backend."""
        if exchange.method not in METHODS and not exchange.has_request_body:
            return SKIP
        if not _is_json(exchange.headers.get_all("content-type")):
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
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse)
        errors = self.validator.iter_errors(value)
        return [{"at": error.json_path, "why": error.message[:300]} for error in islice(errors, MOST_REASONS)]


def _answer(status: int, reasons: list[dict[str, str]]) -> Reply:
    return reply(status, json.dumps({"errors": reasons}) + "\n", {"content-type": "application/json"})


def _is_json(content_types: list[str]) -> bool:
    """Whether it is JSON for everybody: a backend may follow a `charset`."""
    kind, *parameters = (part.strip().lower() for part in "".join(content_types[:1]).split(";"))
    charsets = [value for name, _, value in (one.partition("=") for one in parameters) if name == "charset"]
    is_json = kind == "application/json" or kind.endswith("+json")
    return len(content_types) == 1 and is_json and all(value in ("utf-8", '"utf-8"') for value in charsets)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a name that comes twice: the backend may take the other one."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name comes twice")
    return made


def _refuse(constant: str) -> None:
    """NaN and the infinities, which only Python takes for JSON."""
    raise ValueError(f"{constant} is no JSON")


def _dangling(rules: dict[str, Any]) -> set[str]:
    """The references of a schema that lead nowhere."""
    root: Resource[Any] = DRAFT202012.create_resource(rules)
    todo = [(root, REGISTRY.resolver_with_root(root))]
    seen: set[int] = set()
    dangling: set[str] = set()
    while todo:
        resource, resolver = todo.pop()
        if id(resource.contents) in seen:
            continue
        seen.add(id(resource.contents))
        todo += [(one, resolver.in_subresource(one)) for one in resource.subresources()]
        contents = resource.contents if isinstance(resource.contents, dict) else {}
        for reference in (contents[name] for name in ("$ref", "$dynamicRef") if name in contents):
            try:
                found = resolver.lookup(reference)
            except Unresolvable:
                dangling.add(reference)
            else:
                todo.append((DRAFT202012.create_resource(found.contents), found.resolver))
    return dangling
