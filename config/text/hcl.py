"""HCL to tables: blocks, literals, lists, objects, heredocs. Nothing is evaluated.

The grammar is that of HCL's native syntax (hashicorp/hcl, hclsyntax/spec.md), less its expressions. Written here because
the library takes 22 s and 1 GB for 20,000 locations (docs/decisions/0017); tests compare the two.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pingap.config.problems import Problem
from pingap.config.text.blocks import BadText, Block, lifted
from pingap.config.text.places import DEEPEST, place_of

_SPACE: Final = re.compile(r"(?:[ \t]++|\r(?=\n))*+")
_COMMENT: Final = re.compile(r"(?:#|//)[^\n]*+|/\*(?s:.*?)\*/")
_WORD: Final = re.compile(r"[^\W\d][\w-]*+")
_NUMBER: Final = re.compile(r"-?[0-9]++(\.[0-9]++)?([eE][+-]?[0-9]++)?")
_PLAIN: Final = re.compile(r"""[^"\\$%\n]++""")
_HEREDOC: Final = re.compile(r"<<(-?)([^\W\d][\w.-]*+)[ \t]*+\r?(?:\n|$)")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_CODE: Final = re.compile(r"u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_LITERALS: Final = {"true": True, "false": False, "null": None}

LONGEST_NUMBER: Final = 4000
"""Digits; Python refuses to read more than 4300."""

NOT_EVALUATED: Final = "pingap evaluates nothing in HCL: write the value itself, or $ENV:NAME for an environment variable"


def parse(name: str, text: str) -> dict[str, Any] | Problem:
    """The tables of a document, or why there are none. name: of the document. A key that is null is left out."""
    try:
        return lifted(blocks_of(text))
    except BadText as error:
        return Problem(place_of(name, text, error.at), error.message, error.hint)


def blocks_of(text: str) -> list[Block]:
    """Raises BadText."""
    reader = _HclText(text)
    whole = Block("", 0, None)
    reader.body(whole, 0)
    return whole.blocks


class _HclText:
    """Goes through a text from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def body(self, block: Block, depth: int) -> None:
        """Fills in all that there is up to the `}` of the block; depth 0 is the file."""
        if depth > DEEPEST:
            raise BadText(block.at, f"not taken: blocks nested more than {DEEPEST} deep")
        places: dict[str, int] = {}
        while True:
            self._lines()
            here = self._here()
            if not here:
                if depth:
                    raise BadText(block.at, f"not HCL: the block {block.word!r} is not closed")
                return
            if here == "}" and depth:
                self._at += 1
                return
            at = self._at
            key = self._word("expected a key or a block")
            self._spaces()
            if self._here() == "=" and not self._starts("=="):
                self._at += 1
                self._attribute(block, key, at, places, depth)
            else:
                block.blocks.append(self._block(key, at, depth))
            self._spaces()
            self._comment()
            if self._here() not in ("", "\n", "}"):
                raise self._bad(f"expected the end of the line, not {self._here()!r}", self._why())

    def _attribute(self, block: Block, key: str, at: int, places: dict[str, int], depth: int) -> None:
        if not depth:
            raise BadText(at, f"{key!r} is in no block", 'keys belong into blocks, as in: basic { name = "edge" }')
        if key in places:
            raise BadText(at, f"{key!r} is written twice in one block", "keep one")
        places[key] = at
        self._spaces()
        value = self._value(1)
        if value is not None:
            block.keys[key] = value

    def _block(self, word: str, at: int, depth: int) -> Block:
        labels = []
        while (here := self._here()) != "{":
            if here == '"':
                labels.append(self._quoted())
            elif _WORD.match(self._text, self._at):
                labels.append(self._word(""))
            else:
                raise self._bad(f"expected `=`, or `{{` for a block, after {word!r}")
            self._spaces()
        if len(labels) > 1:
            raise BadText(at, f"a block {word!r} has one name, not {len(labels)}")
        self._at += 1
        block = Block(word, at, labels[0] if labels else None)
        self.body(block, depth + 1)
        return block

    def _value(self, depth: int) -> Any:
        here = self._here()
        if depth > DEEPEST:
            raise self._bad(f"lists or objects nested more than {DEEPEST} deep")
        if here == '"':
            return self._quoted()
        if here == "[":
            return self._list(depth)
        if here == "{":
            return self._object(depth)
        if here == "<" and self._starts("<<"):
            return self._heredoc()
        if number := _NUMBER.match(self._text, self._at):
            return self._number(number)
        at = self._at
        word = self._word("expected a value")  # it is not quoted: it may be a password without quotes
        if word in _LITERALS:
            return _LITERALS[word]
        is_call = self._here() == "("
        raise BadText(at, f"not taken: a {'function' if is_call else 'word without quotes'}", "texts stand in quotes; " + NOT_EVALUATED)

    def _number(self, found: re.Match[str]) -> int | float:
        if len(found[0]) > LONGEST_NUMBER:
            raise self._bad("a number with thousands of digits")
        value = float(found[0]) if found[1] or found[2] else int(found[0])
        if value in (float("inf"), float("-inf")):
            raise self._bad("a number that is too large")
        self._at = found.end()
        return value

    def _list(self, depth: int) -> list[Any]:
        opened, values = self._at, list[Any]()
        self._at += 1
        while True:
            self._lines()
            if self._here() == "]":
                self._at += 1
                return values
            at = self._at
            if not self._here():
                raise BadText(opened, "not HCL: the list is not closed")
            value = self._value(depth + 1)
            if value is None:
                raise BadText(at, "not taken: null in a list", "leave it out")
            values.append(value)
            self._lines()
            if self._here() == ",":
                self._at += 1
            elif self._here() not in ("]", ""):
                raise self._bad("expected `,` or `]`", self._why())

    def _object(self, depth: int) -> dict[str, Any]:
        opened = self._at
        values: dict[str, Any] = {}
        seen = set()
        self._at += 1
        while True:
            self._lines()
            if self._here() == "}":
                self._at += 1
                return values
            if not self._here():
                raise BadText(opened, "not HCL: the object is not closed")
            at = self._at
            key = self._quoted() if self._here() == '"' else self._word("expected a key")
            self._spaces()
            if self._here() not in ("=", ":") or self._starts("=="):
                raise self._bad("expected `=` after the key")
            if key in seen:
                raise BadText(at, f"{key!r} is written twice in one object", "keep one")
            seen.add(key)
            self._at += 1
            self._lines()
            value = self._value(depth + 1)
            if value is not None:
                values[key] = value
            self._spaces()
            self._comment()
            if self._here() == ",":
                self._at += 1
            elif self._here() not in ("\n", "}", ""):
                raise self._bad("expected `,`, `}` or the end of the line", self._why())

    def _quoted(self) -> str:
        opened, parts = self._at, list[str]()
        self._at += 1
        while True:
            if plain := _PLAIN.match(self._text, self._at):
                parts.append(plain[0])
                self._at = plain.end()
            here = self._here()
            if here == '"':
                self._at += 1
                return "".join(parts)
            if here in ("", "\n"):
                raise BadText(opened, "not HCL: the text is not closed on its line", "write \\n for a new line, or <<EOT for several lines")
            parts.append(self._escape() if here == "\\" else self._dollar())

    def _escape(self) -> str:
        letter = self._text[self._at + 1 : self._at + 2]
        if letter in _ESCAPES and letter:
            self._at += 2
            return _ESCAPES[letter]
        if code := _CODE.match(self._text, self._at + 1):
            number = int(code[1] or code[2], 16)
            if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
                self._at = code.end()
                return chr(number)
        raise self._bad(f"\\{letter} means nothing in a text", 'write \\\\ for one \\; there are \\n \\r \\t \\" \\\\ \\uXXXX \\UXXXXXXXX')

    def _dollar(self) -> str:
        """At a `$` or `%`: what it stands for."""
        sign = self._here()
        if self._starts(f"{sign}{sign}{{"):
            self._at += 3
            return f"{sign}{{"
        if self._starts(f"{sign}{{"):
            hint = f"write {sign}{sign}{{ for the characters {sign}{{; {NOT_EVALUATED}"
            raise BadText(self._at, f"not taken: the template {sign}{{…}}", hint)
        self._at += 1
        return sign

    def _heredoc(self) -> str:
        opened = self._at
        head = _HEREDOC.match(self._text, opened)
        if not head:
            raise self._bad("expected a word and the end of the line after <<")
        dedents, marker = bool(head[1]), head[2]
        lines, at = list[str](), head.end()
        while True:
            if at >= len(self._text):
                raise BadText(opened, f"not HCL: no line {marker} closes the text")
            end = self._text.find("\n", at)
            end = len(self._text) if end < 0 else end
            line = self._text[at:end].removesuffix("\r")
            if line.strip(" \t") == marker:
                self._at = at + len(line)
                break
            self._check_templates(at, end)
            lines.append(line.replace("$${", "${").replace("%%{", "%{"))
            at = end + 1
        if dedents:
            indent = min((len(line) - len(line.lstrip(" \t")) for line in lines if line.strip(" \t")), default=0)
            lines = [line[indent:] if line.strip(" \t") else "" for line in lines]
        return "".join(f"{line}\n" for line in lines)

    def _check_templates(self, at: int, end: int) -> None:
        for sign in "$%":
            found = self._text.find(f"{sign}{{", at, end)
            while found >= 0:
                if self._text[found - 1] != sign:
                    self._at = found
                    self._dollar()
                found = self._text.find(f"{sign}{{", found + 1, end)

    def _why(self) -> str:
        """A hint on what follows a value."""
        return NOT_EVALUATED if re.match(r"[-+*/?.\[(<>=&|!]", self._here()) else ""

    # -- between the words ---------------------------------------------------------

    def _lines(self) -> None:
        """To the next character that is no space, no line end and in no comment."""
        while True:
            self._spaces()
            if self._here() == "\n":
                self._at += 1
            elif not self._comment():
                return

    def _spaces(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _comment(self) -> bool:
        if self._here() not in ("#", "/"):
            return False
        found = _COMMENT.match(self._text, self._at)
        if not found:
            if self._starts("/*"):
                raise self._bad("the comment is not closed")
            return False
        self._at = found.end()
        return True

    def _word(self, wanted: str) -> str:
        found = _WORD.match(self._text, self._at)
        if not found:
            hint = "is it TOML? its suffix says HCL" if self._here() == "[" else ""
            raise self._bad(f"{wanted}, not {self._here()!r}" if self._here() not in ("", "\n") else wanted, hint)
        self._at = found.end()
        return found[0]

    def _here(self) -> str:
        return self._text[self._at : self._at + 1]

    def _starts(self, word: str) -> bool:
        return self._text.startswith(word, self._at)

    def _bad(self, message: str, hint: str = "") -> BadText:
        return BadText(self._at, f"not HCL: {message}", hint)
