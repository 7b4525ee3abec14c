"""The line that tells a client the id of its request."""

from __future__ import annotations

from typing import Any, Final

from pingap.stages.headers import cutter

_cut: Final = cutter((b"x-request-id",))
_CONTROLS: Final = bytes({*range(32), 127})


def told(headers: bytes, request_id: Any) -> bytes:
    """The block of a backend's answer with our X-Request-Id, and none of the backend's.

    Always under this name, whatever the plugin request_id calls the header that the backend gets. request_id: the context
    key, in which any plugin may have put anything.
    """
    value = str(request_id).encode("latin-1", "replace").translate(None, _CONTROLS).strip(b" ")
    return b"%bx-request-id: %b\r\n" % (_cut(headers), value)
