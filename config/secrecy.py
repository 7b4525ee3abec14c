"""What is secret in a configuration, and how it is kept out of what pingap says: problems, differences, notices.

Secret is what the tables below name, and whatever came out of an encrypted storage or from `$SECRET:NAME`, wherever that is.
Of a secret nothing is shown, neither its length nor a digest: a short one would be found out by trying.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final, TypeVar

from pingap.config.dns_service import secret_parts
from pingap.config.problems import Note, Problem, path_of
from pingap.config.references import WITHIN, is_reference

Told = TypeVar("Told", Problem, Note)

MASK: Final = "***"

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "basic": frozenset(("webhook", "sentry", "pyroscope")),
    "certificates": frozenset(("tls_key", "tls_key_passphrase", "dns_service_url", "acme_eab_hmac_key")),
    "storages": frozenset(("value", "secret")),
    "bus": frozenset(("secret_key",)),
}
"""Section → its keys whose values are secret as a whole."""

_PLUGIN_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "accept_encoding": frozenset(),
    "admin": frozenset(("authorizations",)),
    "basic_auth": frozenset(("authorizations",)),
    "cache": frozenset(),
    "combined_auth": frozenset(("authorizations",)),
    "compression": frozenset(),
    "cors": frozenset(),
    "csrf": frozenset(("key",)),
    "directory": frozenset(),
    "forward_auth": frozenset(),
    "geo_restriction": frozenset(),
    "image_optim": frozenset(),
    "ip_restriction": frozenset(),
    "jwt": frozenset(("secret",)),
    "key_auth": frozenset(("keys",)),
    "limit": frozenset(),
    "mock": frozenset(),
    "ping": frozenset(),
    "redirect": frozenset(),
    "referer_restriction": frozenset(),
    "request_id": frozenset(),
    "response_headers": frozenset(),
    "stats": frozenset(),
    "sub_filter": frozenset(),
    "traffic_splitting": frozenset(),
    "ua_restriction": frozenset(),
}
"""Category → the same. Of other categories, which users wrote, the name of a key decides."""

_LONGEST_PATH: Final = 200
"""Characters: no key is so short that its PEM, or the base64 of that, is no longer."""

_NAME: Final = re.compile(
    r"(?i)(?:^|[_-])(?:api[_-]?keys?|auth|authorizations?|cookies?|credentials?|dsn|keys?|pass|passphrases?|passwords?|passwd|private|secrets?|tokens?)(?:$|[_-])"
)
"""Names of keys, headers and parameters whose values are taken to be secret."""

_HEADER: Final = re.compile(r"(?s)([!#$%&'*+.^_`|~0-9A-Za-z-]+)(\s*[:=]\s*)(\S.*)")
_USER: Final = re.compile(r"(?i)(?<=[a-z0-9+.-])(://)[^/@\s]+@")
_PARAMETER: Final = re.compile(r"([?&;]([\w.-]+)=)([^&;#\s]+)")
_QUOTED: Final = re.compile(r"""'((?:[^'\\]|\\.)+)'|"((?:[^"\\]|\\.)+)\"""")
_WORD: Final = re.compile(r"(?<!\S)(?!-----)\S{4,}")
_LONG: Final = 6
"""Characters of a secret that is looked for wherever it might be said; a shorter one would be found in any text."""


def is_secret(section: str, key: str, value: Any, category: Any = "") -> bool:
    """Whether the value of a key is secret as a whole. category: of a plugin."""
    if key == "tls_key" and isinstance(value, str) and len(value) <= _LONGEST_PATH and "\n" not in value and "-----" not in value:
        return False  # the path of a file, and not PEM, nor that in base64
    if section == "plugins":
        known = _PLUGIN_KEYS.get(category) if isinstance(category, str) else None
        return key in known if known is not None else bool(_NAME.search(key))
    return key in _KEYS.get(section, ())


def masked(text: str) -> str:
    """A text that may be shown, without passwords and tokens of a URL or a header line in it."""
    if (line := _HEADER.fullmatch(text)) and not line[3].startswith("//") and _NAME.search(line[1]):
        return f"{line[1]}{line[2]}{MASK}"
    text = _USER.sub(rf"\1{MASK}@", text)
    return _PARAMETER.sub(lambda found: found[1] + (MASK if _NAME.search(found[2]) else found[3]), text)


def masked_value(value: Any, by_name: bool) -> Any:
    """A value of TOML that may be shown. by_name: entries of tables in it whose names say so are secret as a whole."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list | tuple):
        return [masked_value(entry, by_name) for entry in value]
    if isinstance(value, Mapping):
        return {key: MASK if by_name and _NAME.search(key) else masked_value(entry, by_name) for key, entry in value.items()}
    return value


def secrets_of(tables: Mapping[str, Any], outer: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """(path, text) of each secret in a configuration. outer: paths of values that are secret because of where they came from."""
    for section, table in tables.items():
        items = {"": table} if section in ("basic", "bus") else table
        for name, item in items.items() if isinstance(items, dict) else ():
            for key, value in item.items() if isinstance(item, dict) else ():
                path = path_of(section, name, key) if name else path_of(section, key)
                whole = is_secret(section, key, value, item.get("category")) or is_within(path, outer)
                yield from _texts(path, value, whole, outer)


def _texts(path: str, value: Any, is_wholly: bool, outer: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            inner = f"{path}.{path_of(key)}"
            yield from _texts(inner, entry, is_wholly or is_within(inner, outer), outer)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            inner = f"{path}[{index}]"
            yield from _texts(inner, entry, is_wholly or is_within(inner, outer), outer)
    elif isinstance(value, str) and is_reference(value):
        return
    elif is_wholly and isinstance(value, str) and path.endswith(f".{WITHIN}"):
        yield from ((path, part) for part in secret_parts(value))
    elif is_wholly:
        yield path, str(value)
    elif isinstance(value, str) and (shown := masked(value)) != value:
        yield from ((path, part) for part in _hidden(value, shown))


def _hidden(text: str, shown: str) -> Iterator[str]:
    """What a mask stands for, as far as it can be told."""
    before, _, rest = shown.partition(MASK)
    after = rest.rpartition(MASK)[2]
    yield text[len(before) : len(text) - len(after)]


def is_within(path: str, outer: AbstractSet[str]) -> bool:
    """Whether a path is one of others, or inside one."""
    return path in outer or any(path[:at] in outer for at, sign in enumerate(path) if sign in ".[")


def without_secrets(said: Iterable[Told], secrets: Iterable[tuple[str, str]]) -> list[Told]:
    """Problems and notes that show nothing of any secret. secrets: (path, text)."""
    known = _Secrets(secrets)
    return [_without_secrets(one, known) for one in said]


class _Secrets:
    """Secrets by where they are and by how they end: of thousands of notes none is to be compared with thousands of secrets."""

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        # The longest first: one may be a part of another, whose rest would stay.
        self.texts = sorted(((path, text) for path, text in secrets if text), key=lambda secret: -len(secret[1]))
        self._at: dict[str, list[int]] = {}
        """Path → the ranks in `texts` of those that are there."""
        self._in: dict[str, list[int]] = {}
        """Path → the ranks of those further in."""
        self._ending: dict[str, list[int]] = {}
        """The last characters, in all forms, of long ones → their ranks. Not the first: those are `Bearer` of all."""
        for rank, (path, text) in enumerate(self.texts):
            self._at.setdefault(path, []).append(rank)
            for outer in _outer(path):
                self._in.setdefault(outer, []).append(rank)
            for end in {form[-_LONG:] for form in _forms(text)} if len(text) >= _LONG else ():
                self._ending.setdefault(end, []).append(rank)

    def near(self, path: str) -> set[int]:
        """Ranks of those at a path, inside of it and around it."""
        found = {*self._at.get(path, ()), *self._in.get(path, ())}
        for outer in _outer(path):
            found.update(self._at.get(outer, ()))
        return found

    def maybe_in(self, said: str) -> set[int]:
        """Ranks of the long ones that a text may show: it shows how they end."""
        endings = self._ending
        pieces = {said[at : at + _LONG] for at in range(len(said) - _LONG + 1)} if endings else ()
        return {rank for piece in pieces if piece in endings for rank in endings[piece]}


def _outer(path: str) -> Iterator[str]:
    return (path[:at] for at, sign in enumerate(path) if sign in ".[")


def without_secrets_of_plugins(said: str, plugins: Mapping[str, Any], outer: AbstractSet[str]) -> str:
    """What a plugin, or who starts it, says, without secrets of any. outer: as of `secrets_of`."""
    known = _Secrets(secrets_of({"plugins": plugins}, outer))
    for rank in sorted(known.maybe_in(said)):
        said = _without(said, known.texts[rank][1], False)
    return _USER.sub(rf"\1{MASK}@", said)


def _without_secrets(problem: Told, secrets: _Secrets) -> Told:
    message, hint = problem.message, problem.hint
    near = secrets.near(problem.path)
    for rank in sorted(near | secrets.maybe_in(message) | secrets.maybe_in(hint)):
        text, is_near = secrets.texts[rank][1], rank in near
        message, hint = _without(message, text, is_near), _without(hint, text, is_near)
    return replace(problem, message=message, hint=hint) if (message, hint) != (problem.message, problem.hint) else problem


def _forms(text: str) -> set[str]:
    """As it is, and as `repr` quotes it."""
    return {text, repr(text)[1:-1]}


def _without(said: str, text: str, is_near: bool) -> str:
    """is_near: what is said is about the secret itself, so that a part of it may be quoted, too."""
    for form in _forms(text):
        if form in said:
            said = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, said) if len(form) < _LONG else said.replace(form, MASK)
    if is_near:
        said = _QUOTED.sub(lambda found: f"'{MASK}'" if (found[1] or found[2]) in text else found[0], said)
        said = _WORD.sub(lambda found: MASK if found[0] in text and not found[0].isalpha() else found[0], said)
    return said
