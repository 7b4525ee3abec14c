"""Text from outside, made safe for one line of a log.

Whatever is not printable (line ends, terminal sequences, bidirectional marks), the
double quote and the backslash are written as JSON writes them, so that no client
can end a line, close a quoted field or break a JSON template.
"""

from __future__ import annotations

import re
from typing import Final

_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PRINTABLE: Final = re.compile(r'[^\x20-\x7e]|["\\]')


def text(raw: bytes) -> str:
    """Bytes from the wire; what is not UTF-8 becomes U+FFFD."""
    value = raw.decode("utf-8", "replace")
    if value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return _PRINTABLE.sub(_escaped, value)


def plain(value: str) -> str:
    """The same for text."""
    if value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return _PRINTABLE.sub(_escaped, value)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
