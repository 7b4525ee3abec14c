"""Markers in the annotations of `config.model`: how the text of one key becomes its value.

The model is imported by every stage, so nothing here imports pydantic until
pydantic itself asks for a schema, which only `config.load` makes it do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

STRICT: dict[str, object] = {"extra": "forbid", "strict": True}
"""The `__pydantic_config__` of each section of the model: no unknown key, no conversion between types."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The value is made by `config.values.parse_<form>` from what the file says."""

    form: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        from pingap.config.values import PARSERS

        return core_schema.no_info_plain_validator_function(PARSERS[self.form])


@dataclass(frozen=True, slots=True)
class EachParsed:
    """A list, each entry of which is made by `config.values.parse_<form>`, so that a problem names its index."""

    form: str
    beside: str = ""
    """A key that stands before this one in the model: the parser is given its value as well, None where that was wrong."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        from pingap.config.values import PARSERS, PARSERS_BESIDE

        if self.beside:
            parse, beside = PARSERS_BESIDE[self.form], self.beside
            entry: CoreSchema = core_schema.with_info_plain_validator_function(lambda value, info: parse(value, info.data.get(beside)))
        else:
            entry = core_schema.no_info_plain_validator_function(PARSERS[self.form])
        return core_schema.tuple_schema([entry], variadic_item_index=0)


@dataclass(frozen=True, slots=True)
class Between:
    """A whole number within limits, both included; without an upper limit, what MessagePack can carry."""

    low: int
    high: int = 2**63 - 1

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.int_schema(strict=True, ge=self.low, le=self.high)
