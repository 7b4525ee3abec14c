"""The files on which a configuration depends besides its own, whether they are there or not: a change of one is worth a reading.

One that is away is awaited: a certificate may come after the configuration that names it, or be away while it is renewed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.encryption import decrypt
from pingap.config.gathering import section_in
from pingap.config.pem import path_in
from pingap.config.problems import BadValue
from pingap.config.references import References, files_named, is_reference, of_environment, of_file
from pingap.config.storage.base import Document

_FILES: Final = {"certificates": ("tls_cert", "tls_key", "acme_ca"), "servers": ("client_ca",)}
"""Section → its keys that may be the path of a file with PEM."""


@dataclass(frozen=True, slots=True)
class Followed:
    """As far as the configuration can be read."""

    files: tuple[str, ...] = ()
    """Of certificates and keys, and those for which texts of storages stand: renewed in their place, and taken over then."""
    plugins: Mapping[str, Any] = field(default_factory=dict)
    """The sections of plugins, which may name code; with what their texts stand for."""


def followed(documents: Collection[Document], env: Mapping[str, str] = os.environ) -> Followed:
    """What the texts name, `$ENV:NAME` and `$SECRET:NAME` filled in. It judges nothing, and never fails for what is written."""
    storages = section_in(documents, "storages")

    def stored(name: str) -> str:
        table = opener.fill(storages.get(name), ())
        value, secret = (table.get(key, "") if isinstance(table, dict) else None for key in ("value", "secret"))
        if not isinstance(value, str) or not isinstance(secret, str) or is_reference(secret):
            raise BadValue("")
        try:
            return decrypt(value, secret) if secret else value
        except ValueError:
            raise BadValue("") from None

    opener = References({"ENV": of_environment(env), "FILE": of_file}, lambda place, why: None)
    references = References({"ENV": of_environment(env), "SECRET": stored}, lambda place, why: None)
    files = {path for table in storages.values() for path in files_named(table)}
    for section, keys in _FILES.items():
        for table in section_in(documents, section).values():
            values = (references.fill(table.get(key), ()) for key in keys) if isinstance(table, dict) else ()
            files.update(path for value in values if isinstance(value, str) and not is_reference(value) and (path := path_in(value)))
    return Followed(tuple(sorted(files)), references.fill(section_in(documents, "plugins"), ()))
