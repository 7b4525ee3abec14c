"""A server's context and a client that asks for the status of its certificate, and handshakes between them in memory."""

from __future__ import annotations

import ctypes
import ssl
import tempfile

from pingap.stages.accept.certificates.openssl import STATUS_CALLBACK
from pingap.stages.accept.certificates.openssl_trial import usable


def serving(pair: tuple[str, str], newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(pair))
        file.flush()
        context.load_cert_chain(file.name)
    return context


class Asking:
    """The client. `heard` is what came with its last handshake."""

    def __init__(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, asks: bool = True) -> None:
        self.heard = b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.maximum_version = newest
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        calls, reason = usable()
        assert calls is not None, reason
        library = calls.library

        def told(tls: int, _: int) -> int:
            at = ctypes.c_void_p()
            size = library.SSL_ctrl(tls, 70, 0, ctypes.addressof(at))
            self.heard = ctypes.string_at(at, size) if size > 0 and at else b""
            return 1

        self._callback = STATUS_CALLBACK(told)
        if asks:
            library.SSL_CTX_ctrl(calls.pointer_of(self.context), 65, 1, None)
            library.SSL_CTX_callback_ctrl(calls.pointer_of(self.context), 63, self._callback)


def shake(server: ssl.SSLContext, client: Asking, session: ssl.SSLSession | None = None, name: str = "a.example") -> ssl.SSLObject:
    """A handshake and one byte, with which TLS 1.3 brings its ticket; the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client.heard = b""
    ours = server.wrap_bio(to_server, to_client, True)
    theirs = client.context.wrap_bio(to_client, to_server, False, name, session)
    is_done = False
    while not is_done:
        is_done = True
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                is_done = False
    ours.write(b"x")
    assert theirs.read(1) == b"x"
    return theirs
