"""Request methods: which are forwarded, and which may be sent twice."""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT MKACTIVITY CHECKOUT"
    b" MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR ACL BIND REBIND UNBIND LINK UNLINK QUERY".split()
)
"""What is forwarded. CONNECT opens tunnels, which a reverse proxy does not; TRACE would show a client what proxies add for backends."""

IDEMPOTENT: Final = frozenset(b"GET HEAD OPTIONS PUT DELETE PROPFIND SEARCH REPORT QUERY".split())
"""What a backend may see twice without harm (RFC 9110 section 9.2.2)."""
