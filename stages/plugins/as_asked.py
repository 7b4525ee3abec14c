"""An answer as its request wants it: whole, some parts of it (206), that there is none of them (416), that the client has it (304).

`as_asked` does all of it for whoever has the whole answer; the rest is what that is made of, for those who answer many requests with
the same and know more of it.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any, Final

from pingap.stages.conditions import FAILED, NOT_MODIFIED, Validators, is_range_meant, judge, validators_of
from pingap.stages.headers import cutter, value_of, values_of
from pingap.stages.plugins.exchange import Exchange, Reply
from pingap.stages.plugins.file_body import DividedBody, JoinedBody
from pingap.stages.ranges import Spans, content_range, part_heads, spans_of

_NOT_KEPT: Final = b"content-type: text/plain; charset=utf-8\r\ncache-control: private, no-store\r\n"
PRECONDITION_FAILED: Final = Reply(412, _NOT_KEPT, b"Precondition Failed")

_CUT_CONTENT: Final = cutter(
    (b"content-type", b"content-encoding", b"content-language", b"content-disposition", b"content-range", b"accept-ranges")
)
_CUT_TYPE: Final = cutter((b"content-type",))


def as_asked(exchange: Exchange, whole: Reply, known: Validators | None = None) -> Reply:
    """What becomes of a whole answer by the conditions and the Range of the request (RFC 9110 sections 13 and 14): 200 as it is, 206,
    304, 412 or 416. known: what tells it from other versions; None: what its ETag and Last-Modified say.

    Answers that are not 200, requests that are neither GET nor HEAD, and bodies that are pieces without a length are left as they are.
    """
    headers = exchange.headers.raw
    if (headers.find(b"if-") < 0 and headers.find(b"range: ") < 0) or whole.status != 200:
        return whole
    method = exchange._routed.method
    if method not in (b"GET", b"HEAD"):
        return whole
    if known is None:
        known = validators_of(whole.headers)
    verdict = judge(headers, known)
    if verdict is NOT_MODIFIED:
        return Reply(304, without_content(whole.headers), b"")
    if verdict is FAILED:
        return PRECONDITION_FAILED
    body: Any = whole.body
    if method == b"HEAD" or not isinstance(body, bytes | DividedBody):
        return whole
    size = len(body) if isinstance(body, bytes) else body.length
    spans = asked_spans(headers, known, size) if size >= 0 else None
    return whole if spans is None else parts_reply(whole.headers, body, spans)


def asked_spans(headers: bytes, known: Validators, size: int) -> Spans | None:
    """The parts that a GET asks for of a body of `size` bytes; [] where it has none of them; None where the whole of it is to be sent."""
    if headers.find(b"range: ") < 0:
        return None
    asked = values_of(headers, b"range")
    return spans_of(asked[0], size) if len(asked) == 1 and is_range_meant(headers, known) else None


def parts_reply(block: bytes, body: bytes | DividedBody, spans: Spans) -> Reply:
    """206 with these parts of the body of a 200, whose head is `block`; 416 when there are none."""
    size = len(body) if isinstance(body, bytes) else body.length
    if not spans:
        return no_such_part(size)
    if len(spans) == 1:
        first, end = spans[0]
        return Reply(206, b"%bcontent-range: %b\r\n" % (block, content_range(first, end, size)), _part(body, first, end))
    boundary = token_hex(16).encode()
    *heads, last = part_heads(spans, size, value_of(block, b"content-type") or b"", boundary)
    block = b"%bcontent-type: multipart/byteranges; boundary=%b\r\n" % (_CUT_TYPE(block), boundary)
    parts: list[Any] = []
    for head, (first, end) in zip(heads, spans, strict=True):
        parts += (head, _part(body, first, end))
    parts.append(last)
    return Reply(206, block, b"".join(parts) if isinstance(body, bytes) else JoinedBody(parts))


def no_such_part(size: int) -> Reply:
    """416 for a body of `size` bytes."""
    return Reply(416, b"%bcontent-range: bytes */%d\r\n" % (_NOT_KEPT, size), b"Range Not Satisfiable")


def without_content(block: bytes) -> bytes:
    """The head of a 304 in place of a 200 (RFC 9110 section 15.4.5): without what it tells about a body, and with the validators."""
    return _CUT_CONTENT(block)


def _part(body: bytes | DividedBody, first: int, end: int) -> bytes | DividedBody:
    return body[first:end] if isinstance(body, bytes) else body.part(body.offset + first, end - first)
