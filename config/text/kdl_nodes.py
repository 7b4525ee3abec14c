"""KDL 2 to nodes, each with its place. What nodes mean is for kdl.py.

The grammar is that of https://kdl.dev/spec (draft-marchan-kdl2, "Full Grammar"). Written here because the library, ckdl,
cannot say where a text is wrong (docs/decisions/0017); tests compare the two. Taken besides, because KDL 1 wrote it so: a
bare `true`, `false` and `null`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pingap.config.text.blocks import BadText
from pingap.config.text.places import DEEPEST

Scalar = str | int | float | bool | None

_BLANK: Final = r" \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_BREAK: Final = r"\n\r\x85\x0b\x0c\u2028\u2029"
_SPACE: Final = re.compile(rf"[{_BLANK}]*+")
_LINES: Final = re.compile(rf"(?:[{_BLANK}{_BREAK}]|//[^{_BREAK}]*+)*+")
_NEW_LINE: Final = re.compile(rf"\r\n|[{_BREAK}]")
_LINE_COMMENT: Final = re.compile(rf"//[^{_BREAK}]*+")
_COMMENT_PART: Final = re.compile(r"/\*|\*/")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_BARE: Final = re.compile(rf'[^\\/(){{}};\[\]"#={_BLANK}{_BREAK}]++')
_LIKE_A_NUMBER: Final = re.compile(r"[+-]?\.?[0-9]")
_DECIMAL: Final = re.compile(r"([+-]?[0-9][0-9_]*+)(\.[0-9][0-9_]*+)?([eE][+-]?[0-9][0-9_]*+)?")
_OF_BASE: Final = re.compile(r"([+-]?)0(?:x([0-9a-fA-F][0-9a-fA-F_]*+)|o([0-7][0-7_]*+)|b([01][01_]*+))")
_QUOTED: Final = re.compile(rf'"([^"\\{_BREAK}]*+)"')
_TEXT_PART: Final = re.compile(rf'[^"\\{_BREAK}]++')
_ESCAPED_SPACE: Final = re.compile(rf"\\[{_BLANK}{_BREAK}]++")
_CODE: Final = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")
_RAW: Final = re.compile(r'#++"')
_WORD: Final = re.compile(r"#(-?[a-z]+)")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "b": "\b", "f": "\f", "s": " "}
_KEYWORDS: Final[dict[str, Scalar]] = {
    "true": True,
    "false": False,
    "null": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
}
_MEANT: Final = {
    "#": "a comment is // or /* */",
    "=": "KDL has no = between a key and its value, but in a line of several: a=1 b=2",
    "/": "paths stand in quotes",
    "[": "a list is written as a b c, without brackets; or is it TOML? its suffix says KDL",
}
_OF_KDL_1: Final = ("true", "false", "null")

LONGEST_NUMBER: Final = 4000
"""Digits; Python refuses to read more than 4300."""


@dataclass(slots=True)
class Node:
    """`(kind)name args… key=value… { children… }`."""

    name: str
    at: int
    """Where its name stands."""
    kind: str | None = None
    args: list[tuple[Scalar, int]] = field(default_factory=list)
    """Values, each with its place."""
    props: dict[str, tuple[Scalar, int]] = field(default_factory=dict)
    """The last one of a key counts, as the specification has it."""
    children: list[Node] | None = None


def nodes_of(text: str) -> list[Node]:
    """Raises BadText."""
    if found := _FORBIDDEN.search(text, 1 if text.startswith("\ufeff") else 0):
        raise BadText(found.start(), f"not KDL: U+{ord(found[0]):04X} may not stand in a text as it is", "write \\u{…} in quotes")
    return _KdlText(text).document()


class _KdlText:
    """Goes through a text from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> list[Node]:
        if self._text.startswith("\ufeff"):
            self._at = 1
        return self._nodes(0, 0)

    # -- nodes ----------------------------------------------------------------------

    def _nodes(self, opened: int, depth: int) -> list[Node]:
        """Up to the `}`; opened: where its `{` is. Depth 0 is the document."""
        if depth > DEEPEST:
            raise BadText(opened, f"not taken: nodes nested more than {DEEPEST} deep")
        found = list[Node]()
        while True:
            self._lines()
            here = self._here()
            if not here:
                if depth:
                    raise BadText(opened, "not KDL: this { is not closed")
                return found
            if here == "}":
                if not depth:
                    raise self._bad("a } without its {")
                self._at += 1
                return found
            is_out = self._starts("/-")
            if is_out:
                self._at += 2
                self._lines()
            node = self._node(depth)
            if not is_out:
                found.append(node)

    def _node(self, depth: int) -> Node:
        kind = self._kind()
        node = Node("", self._at, kind)
        node.name = self._name("expected the name of a node")
        has_block = False
        while True:
            has_space = self._space()
            here = self._here()
            if self._is_end(depth):
                return node
            if is_out := self._starts("/-"):
                self._at += 2
                self._lines()
                here = self._here()
                has_space = True
            if here == "{":
                if node.children is not None and not is_out:
                    raise self._bad("a second { … } of one node")
                has_block = True
                opened = self._at
                self._at += 1
                children = self._nodes(opened, depth + 1)
                if not is_out:
                    node.children = children
            elif has_block:
                raise self._bad("expected the end of the line after }")
            elif not has_space:
                raise self._bad("expected a space", self._on_missing_space(node))
            else:
                self._entry(Node("", 0) if is_out else node)

    def _is_end(self, depth: int) -> bool:
        """Of a node; steps over its terminator."""
        here = self._here()
        if here == "}" and not depth:
            raise self._bad("a } without its {")
        if here in ("", "}"):
            return True
        if here == ";":
            self._at += 1
            return True
        if found := _LINE_COMMENT.match(self._text, self._at) or _NEW_LINE.match(self._text, self._at):
            self._at = found.end()
            return True
        return False

    def _on_missing_space(self, node: Node) -> str:
        last = node.args[-1][0] if node.args else node.name
        return 'KDL 2 writes raw texts as #"…"#' if last == "r" and self._here() in ('"', "#") else ""

    def _entry(self, node: Node) -> None:
        """An argument or a property."""
        at = self._at
        if not self._is_text():
            node.args.append((self._value(), at))
            return
        is_bare = self._here() not in ('"', "#")
        key = self._text_here() if not is_bare else self._bare("expected a value", is_value=True)
        after = self._at
        self._space()
        if self._here() != "=":
            self._at = after
            node.args.append((_KEYWORDS[key] if is_bare and key in _OF_KDL_1 else key, at))
            return
        if is_bare and key in _KEYWORDS:
            raise BadText(at, f"not KDL: {key!r} as a name stands in quotes")
        self._at += 1
        self._space()
        value_at = self._at
        node.props[key] = (self._value(), value_at)

    def _kind(self) -> str | None:
        """`(kind)`, the annotation of a type."""
        if self._here() != "(":
            return None
        self._at += 1
        self._space()
        kind = self._name("expected a name in ( )")
        self._space()
        if self._here() != ")":
            raise self._bad("expected )")
        self._at += 1
        self._space()
        return kind

    # -- values ---------------------------------------------------------------------

    def _value(self) -> Scalar:
        self._kind()
        here = self._here()
        if here == "#" and not _RAW.match(self._text, self._at):
            word = _WORD.match(self._text, self._at)
            if not word or word[1] not in _KEYWORDS or _BARE.match(self._text, word.end()):
                raise self._bad(
                    "expected a value such as #true", "there are #true, #false, #null, #inf, #-inf and #nan; a comment is // or /* */"
                )
            self._at = word.end()
            return _KEYWORDS[word[1]]
        if here in ('"', "#"):
            return self._text_here()
        if _LIKE_A_NUMBER.match(self._text, self._at):
            return self._number()
        bare = self._bare("expected a value", is_value=True)
        return _KEYWORDS[bare] if bare in _OF_KDL_1 else bare

    def _is_text(self) -> bool:
        """What comes may be the key of a property."""
        here = self._here()
        if here == "#":
            return _RAW.match(self._text, self._at) is not None
        return here != "(" and not _LIKE_A_NUMBER.match(self._text, self._at)

    def _name(self, wanted: str) -> str:
        here = self._here()
        if here == '"' or (here == "#" and _RAW.match(self._text, self._at)):
            return self._text_here()
        return self._bare(wanted)

    def _bare(self, wanted: str, is_value: bool = False) -> str:
        found = _BARE.match(self._text, self._at)
        if not found:
            raise self._bad(f"{wanted}, not {self._here()!r}" if self._here() else wanted, _MEANT.get(self._here(), ""))
        if _LIKE_A_NUMBER.match(found[0]):
            raise self._bad("what begins like a number is no word", "write it in quotes")
        if found[0] in _KEYWORDS and not (is_value and found[0] in _OF_KDL_1):
            raise self._bad(f"{found[0]!r} must stand in quotes, or be #{found[0]}")
        self._at = found.end()
        return found[0]

    def _number(self) -> int | float:
        found = _BARE.match(self._text, self._at)
        assert found, "it begins like a number"
        digits = found[0]
        if len(digits) > LONGEST_NUMBER:
            raise self._bad("a number with thousands of digits")
        value: int | float
        if decimal := _DECIMAL.fullmatch(digits):
            plain = digits.replace("_", "")
            value = float(plain) if decimal[2] or decimal[3] else int(plain)
            if value in (float("inf"), float("-inf")):
                raise self._bad("a number that is too large")
        elif other := _OF_BASE.fullmatch(digits):
            base, of_base = next((base, group) for base, group in zip((16, 8, 2), other.groups()[1:], strict=True) if group)
            value = int(other[1] + of_base.replace("_", ""), base)
        else:
            raise self._bad("not a number", "write texts that begin with a digit in quotes")
        self._at = found.end()
        return value

    # -- texts ----------------------------------------------------------------------

    def _text_here(self) -> str:
        """The text that begins with `"` or `#` here."""
        if raw := _RAW.match(self._text, self._at):
            return self._raw(raw.end() - self._at - 1)
        if self._starts('"""'):
            return self._lined()
        if found := _QUOTED.match(self._text, self._at):
            self._at = found.end()
            return found[1]
        opened, parts = self._at, list[str]()
        self._at += 1
        while True:
            if part := _TEXT_PART.match(self._text, self._at):
                parts.append(part[0])
                self._at = part.end()
            here = self._here()
            if here == '"':
                self._at += 1
                return "".join(parts)
            if here != "\\":
                raise BadText(opened, "not KDL: the text is not closed on its line", 'write \\n for a new line, or """ for several lines')
            parts.append(self._escape())

    def _escape(self) -> str:
        """At a backslash: what it stands for."""
        if found := _ESCAPED_SPACE.match(self._text, self._at):
            self._at = found.end()
            return ""
        if (letter := self._text[self._at + 1 : self._at + 2]) and letter in _ESCAPES:
            self._at += 2
            return _ESCAPES[letter]
        if code := _CODE.match(self._text, self._at):
            number = int(code[1], 16)
            if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
                self._at = code.end()
                return chr(number)
        raise self._bad(f"\\{letter} means nothing in a text", 'write \\\\ for one \\; there are \\n \\r \\t \\" \\\\ \\b \\f \\s \\u{…}')

    def _raw(self, signs: int) -> str:
        opened = self._at
        quotes = '"""' if self._text.startswith('"""', opened + signs) else '"'
        begin = opened + signs + len(quotes)
        end = self._text.find(quotes + "#" * signs, begin)
        if end < 0:
            raise BadText(opened, "not KDL: the text is not closed", f"it ends with {quotes}{'#' * min(signs, 10)}")
        body = self._text[begin:end]
        self._at = end + len(quotes) + signs
        if len(quotes) == 1:
            if found := _NEW_LINE.search(body):
                raise BadText(
                    begin + found.start(),
                    "not KDL: the text is not closed on its line",
                    f'write {"#" * min(signs, 10)}""" for several lines',
                )
            return body
        return self._dedented(opened, _NEW_LINE.split(body))

    def _lined(self) -> str:
        """A text of several lines between triple quotes."""
        opened = self._at
        self._at += 3
        # Each line is a list of parts: (as it is written, what it stands for). White space counts only where it is written.
        lines: list[list[tuple[str, str]]] = [[]]
        while not self._starts('"""'):
            here = self._here()
            if not here:
                raise BadText(opened, 'not KDL: the text is not closed by """')
            if part := _TEXT_PART.match(self._text, self._at):
                lines[-1].append((part[0], part[0]))
                self._at = part.end()
            elif end := _NEW_LINE.match(self._text, self._at):
                lines.append([])
                self._at = end.end()
            elif here == '"':
                lines[-1].append(('"', '"'))
                self._at += 1
            else:
                meant = self._escape()
                if meant:
                    lines[-1].append(("\\", meant))
        self._at += 3
        return self._dedented(opened, ["".join(written for written, _ in line) for line in lines], lines)

    def _dedented(self, opened: int, written: list[str], parts: list[list[tuple[str, str]]] | None = None) -> str:
        """The lines between the first and the last, without what the last begins with."""
        first, indent = written[0], written[-1]
        if len(written) == 1 or first:
            raise BadText(opened, 'not KDL: after """ comes a new line')
        if not _is_blank(indent):
            raise BadText(opened, 'not KDL: the last line of this text has more than """')
        found = []
        for number, line in enumerate(written[1:-1], 1):
            if _is_blank(line):
                found.append("")
                continue
            if not line.startswith(indent):
                raise BadText(opened, f"not KDL: line {number} of this text is indented less than its last one")
            if parts is not None:
                line = "".join(meant for _, meant in parts[number])
            found.append(line[len(indent) :])
        return "\n".join(found)

    # -- between the words ----------------------------------------------------------

    def _space(self) -> bool:
        """Steps over spaces, comments and line ends behind a backslash. False when there was nothing."""
        begin = self._at
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._starts("/*"):
                self._comment()
            elif self._here() == "\\":
                self._continued_line()
            else:
                return self._at > begin

    def _continued_line(self) -> None:
        begin = self._at
        self._at += 1
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if not self._starts("/*"):
                break
            self._comment()
        if comment := _LINE_COMMENT.match(self._text, self._at):
            self._at = comment.end()
        if end := _NEW_LINE.match(self._text, self._at):
            self._at = end.end()
        elif self._here():
            raise BadText(begin, "not KDL: expected the end of the line after \\")

    def _lines(self) -> None:
        """Steps over all that may stand between nodes."""
        while True:
            found = _LINES.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._here() not in ("/", "\\") or not self._space():
                return

    def _comment(self) -> None:
        """Comments may be nested."""
        begin, depth = self._at, 0
        while True:
            part = _COMMENT_PART.search(self._text, self._at)
            if not part:
                raise BadText(begin, "not KDL: the comment is not closed")
            self._at = part.end()
            depth += 1 if part[0] == "/*" else -1
            if not depth:
                return

    def _here(self) -> str:
        return self._text[self._at : self._at + 1]

    def _starts(self, word: str) -> bool:
        return self._text.startswith(word, self._at)

    def _bad(self, message: str, hint: str = "") -> BadText:
        return BadText(self._at, f"not KDL: {message}", hint)


def _is_blank(line: str) -> bool:
    found = _SPACE.match(line)
    return found is not None and found.end() == len(line)
