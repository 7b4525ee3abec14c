"""h11 as the book of HTTP/1.1, with the one thing that it refuses though a recipient has to take it.

White space before a chunk's extension (BWS, RFC 9112 section 7.1.1; nginx and HAProxy take it).
"""

from __future__ import annotations

import re

from h11 import _readers

_readers.chunk_header_re = re.compile(_readers.chunk_header_re.pattern.replace(b"(?P<chunk_ext>;.*)", b"[ \\t]*(?P<chunk_ext>;.*)"))
