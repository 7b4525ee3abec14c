"""KDL to tables: what its nodes mean.

    location "api" {            the block; its name
        path "/api"             a key and its value
        match_headers "x-a:1"   a list of one, as the model has a list there; in plugins of users: (list)key "one"
        upstream "app" { … }    a block in a block: with keys, it is one; without, it is the key `upstream`
    }

Facts: the reference's kdl.rs. Where that guesses by itself which keys are lists (eight of them), the model is asked here.
"""

from __future__ import annotations

from typing import Any, Final

from pingap.config.problems import Problem
from pingap.config.storage.base import SINGLE
from pingap.config.text.blocks import BY_WORD, INNER, BadText, Block, lifted, section_of
from pingap.config.text.kdl_nodes import Node, Scalar, nodes_of
from pingap.config.text.lists import list_keys
from pingap.config.text.places import place_of

LIST: Final = "list"
"""The annotation of a value that is a list whatever it looks like."""
TABLE: Final = "table"
"""The same of a table."""
VALUE: Final = "value"
"""The same of a text, a number, true or false: for a key that should be a list."""
ENTRIES: Final = ("item", "-")
"""The names of nodes that are the entries of a list: the reference's, and that of JSON-in-KDL."""

_AS_KEYS: Final = {("locations", "upstreams"): "upstream", ("locations", "plugins"): "plugins", ("servers", "locations"): "locations"}
"""(outer, inner) section → the key that names of inner ones are, when no block is written."""


def parse(name: str, text: str) -> dict[str, Any] | Problem:
    """The tables of a document, or why there are none. name: of the document. A key that is null is left out."""
    try:
        return lifted([_block(node, section_of(node.name, node.at)) for node in nodes_of(text)])
    except BadText as error:
        return Problem(place_of(name, text, error.at), error.message, error.hint)


def as_key(section: str, word: str) -> str:
    """The key that a node of this name is in a block of `section` when it is no block itself."""
    return _AS_KEYS.get((section, BY_WORD.get(word, "")), word)


def _block(node: Node, section: str) -> Block:
    block = Block(node.name, node.at, None)
    if node.args and section not in SINGLE:
        block.name = _name(*node.args[0])
    if more := node.args[section not in SINGLE :]:
        hint = 'keys are written in { }, or as key="value"' if block.name else f"write: {node.name} {{ … }}"
        raise BadText(more[0][1], f"{node.name!r} takes {'one name' if block.name else 'no name'}, and no value besides", hint)
    keys = _Keys(list_keys(section, _category(node) if section == "plugins" else ""))
    keys.add_props(node)
    for child in node.children or ():
        inner = BY_WORD.get(child.name)
        if inner not in INNER.get(section, ()):
            keys.add(child.name, child)
        elif child.children is not None or child.props:
            block.blocks.append(_block(child, inner))
        else:
            keys.add(as_key(section, child.name), child)
    block.keys = keys.table
    return block


def _name(value: Scalar, at: int) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadText(at, "expected a name", "write it in quotes")
    return str(value)


def _category(node: Node) -> str:
    """Of a plugin: what kind it is."""
    found = [child.args[0][0] for child in node.children or () if child.name == "category" and child.args]
    found += [node.props["category"][0]] if "category" in node.props else []
    return found[0] if found and isinstance(found[0], str) else ""


class _Keys:
    """The keys of a block or of a table in it, as they come."""

    def __init__(self, lists: frozenset[str]) -> None:
        self._lists = lists
        self.table: dict[str, Any] = {}

    def add_props(self, node: Node) -> None:
        for key, (value, at) in node.props.items():
            self._put(key, _listed([value], at) if key in self._lists else value, at)

    def add(self, key: str, node: Node) -> None:
        self._put(key, _value(node, self._lists, key in self._lists), node.at)

    def _put(self, key: str, value: Any, at: int) -> None:
        if value is None:
            return
        if key not in self.table:
            self.table[key] = value
        elif isinstance(found := self.table[key], list):
            found.extend(value if isinstance(value, list) else [value])
        else:
            raise BadText(at, f"{key!r} is written twice", f'write all values of a list in one line: {key} "a" "b"')


def _value(node: Node, lists: frozenset[str], is_list: bool) -> Any:
    """What a node is worth as a key's value."""
    if node.kind not in (None, LIST, TABLE, VALUE):
        raise BadText(node.at, f"({node.kind}) means nothing here", f"there are ({LIST}), ({TABLE}) and ({VALUE})")
    is_list = node.kind == LIST or (is_list and node.kind is None)
    if (node.children is not None or node.props) and node.args:
        raise BadText(node.args[0][1], f"{node.name!r} has both values and keys of its own", "a value, or a table in { }")
    if node.children and node.kind != TABLE and not node.props and _are_entries(node.children):
        return [_entry(child, lists) for child in node.children]
    if node.children is not None or node.props or node.kind == TABLE:
        table = _table(node, lists)
        return [table] if is_list else table
    values = [value for value, _ in node.args]
    if is_list or len(values) > 1:
        return _listed(values, node.args[0][1] if node.args else node.at)
    return values[0] if values else ""


def _are_entries(nodes: list[Node]) -> bool:
    name = nodes[0].name
    return name in ENTRIES and all(node.name == name for node in nodes)


def _entry(node: Node, lists: frozenset[str]) -> Any:
    """One value of a list that is written in { }."""
    if node.name == "item" and not node.args and node.kind is None:
        return _table(node, lists)
    value = _value(node, lists, False)
    return _listed([value], node.at)[0]


def _table(node: Node, lists: frozenset[str]) -> dict[str, Any]:
    keys = _Keys(lists)
    keys.add_props(node)
    for child in node.children or ():
        keys.add(child.name, child)
    return keys.table


def _listed(values: list[Any], at: int) -> list[Any]:
    if any(value is None for value in values):
        raise BadText(at, "not taken: null in a list", "leave it out")
    return values
