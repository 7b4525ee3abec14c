"""What backends are forgiven in the head of an answer, brought into the form that the engines take. Requests are forgiven nothing here.

Scripts under BusyBox httpd, mini_httpd and Python's CGI server end their lines with LF alone, and so do many devices
(RFC 9112 section 2.2 lets a recipient take that for a line's end). A minor version above 1 is read as 1 (RFC 9110 section
2.5). Nothing of it is passed on: heads are written anew, and the connection of such a backend is used for no other request.
"""

from __future__ import annotations

import re
from typing import Final

_END: Final = re.compile(rb"\n\r?\n")
_BARE: Final = re.compile(rb"(?<!\r)\n")
_LATER: Final = re.compile(rb"HTTP/1\.[2-9] ")


def end_of_head(data: bytes) -> int:
    """Bytes of the head that `data` begins with, however its lines end; 0 when its empty line is not here."""
    match = _END.search(data)
    return match.end() if match is not None else 0


def mended(block: bytes) -> bytes:
    """A whole head, whose lines all end with CRLF; `block` itself when there is nothing to mend."""
    if _BARE.search(block):
        block = _BARE.sub(b"\r\n", block)
    return b"HTTP/1.1" + block[8:] if _LATER.match(block) else block
