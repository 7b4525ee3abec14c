"""The calls of OpenSSL that Python's `ssl` module lacks: keys of session tickets, OCSP staples (RFC 6066 section 8), and the names of
authorities that clients are asked for certificates of (RFC 5246 section 7.4.4, RFC 8446 section 4.2.4).

They are made in the library that `ssl` itself uses, on the `SSL_CTX` inside an `SSLContext`. No interface of Python promises where that is,
so nobody makes one of these before openssl_trial.py has seen, in a process of its own, that they do what they are to do here.
"""

from __future__ import annotations

import _ssl
import ctypes
import itertools
import os
import ssl
import sys
from typing import Any, Final
from weakref import finalize

LONGEST_STAPLE: Final = 10 * 1024
"""Bytes. With TLS 1.2 a client of OpenSSL takes 16 KiB, and breaks off at more; those of authorities have 0.3 to 3 KB."""

MOST_NAMES: Final = 16 * 1024
"""Bytes of all names of authorities together, DER; with more none is named. They are in each handshake, which fails at 64 KiB."""

TICKET_KEY: Final = 80
"""Bytes: 16 by which it is known in a ticket, 32 of its HMAC, 32 of AES-256."""

# ssl.h
_GET_TICKET_KEYS: Final = 58
_SET_TICKET_KEYS: Final = 59
_SET_SESSION_CACHE: Final = 44
_SET_STATUS_CALLBACK: Final = 63
_SET_STATUS_ARGUMENT: Final = 64
_SET_STATUS_RESPONSE: Final = 71
_GIVEN: Final = 0
_NOT_GIVEN: Final = 3

STATUS_CALLBACK: Final[Any] = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "SSL_CTX_ctrl": (ctypes.c_long, (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)),
    "SSL_CTX_callback_ctrl": (ctypes.c_long, (ctypes.c_void_p, ctypes.c_int, STATUS_CALLBACK)),
    "SSL_CTX_get_options": (ctypes.c_uint64, (ctypes.c_void_p,)),
    "SSL_ctrl": (ctypes.c_long, (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)),
    "SSL_load_client_CA_file": (ctypes.c_void_p, (ctypes.c_char_p,)),
    "SSL_CTX_set_client_CA_list": (None, (ctypes.c_void_p, ctypes.c_void_p)),
    "OPENSSL_sk_num": (ctypes.c_int, (ctypes.c_void_p,)),
    "OPENSSL_sk_value": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)),
    "i2d_X509_NAME": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
    "ERR_clear_error": (None, ()),
    "CRYPTO_malloc": (ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int)),
}


class NotThisLibrary(Exception):
    """These calls cannot be made here; the text says why."""


class OpenSsl:
    """The calls. Not to be made before the trial; `usable` of openssl_trial.py gives one that may be.

    With the interpreter's lock held throughout (PyDLL): each takes a microsecond, and no other thread changes the same context.
    """

    def __init__(self) -> None:
        """Raises NotThisLibrary."""
        if sys.implementation.name != "cpython" or not ssl.OPENSSL_VERSION.startswith("OpenSSL ") or ssl.OPENSSL_VERSION_INFO < (1, 1, 1):
            raise NotThisLibrary(f"{sys.implementation.name} with {ssl.OPENSSL_VERSION}")
        try:
            # What is looked for in a module is looked for in the libraries that it was linked with, too. Built in, it is the program's.
            self.library: Any = ctypes.PyDLL(getattr(_ssl, "__file__", None))
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self.library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise NotThisLibrary(str(error)) from error
        self._staples: dict[int, bytes] = {}
        """By the number that the callback is given: never an address of something of ours that may be gone."""
        self._numbers: dict[int, int] = {}
        """Of contexts with a staple, by address, while they live."""
        self._count = itertools.count(1)
        self._callback = STATUS_CALLBACK(self._status)
        self._no_callback = STATUS_CALLBACK()

    def pointer_of(self, context: ssl.SSLContext) -> int:
        """The `SSL_CTX`: the first field behind the head of the object (Modules/_ssl.c, PySSLContext)."""
        return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0

    def _checked(self, context: ssl.SSLContext) -> int:
        """Raises NotThisLibrary where the library says otherwise than `ssl` of the same context."""
        pointer = self.pointer_of(context)
        if not pointer or self.library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
            raise NotThisLibrary("the options of a context are others in the library")
        return pointer

    def set_ticket_key(self, context: ssl.SSLContext, key: bytes) -> None:
        """From now on tickets of handshakes that begin in `context` are under `key`, and no older ones are taken. Raises NotThisLibrary."""
        pointer = self._checked(context)
        if self.library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, 0, None) != TICKET_KEY == len(key):
            raise NotThisLibrary("the keys of tickets have another size")
        if self.library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, TICKET_KEY, key) != 1:
            raise NotThisLibrary("the key of tickets was not taken")

    def ticket_key(self, context: ssl.SSLContext) -> bytes:
        """Raises NotThisLibrary."""
        found = ctypes.create_string_buffer(TICKET_KEY)
        if self.library.SSL_CTX_ctrl(self._checked(context), _GET_TICKET_KEYS, TICKET_KEY, found) != 1:
            raise NotThisLibrary("the key of tickets was not told")
        return found.raw

    def keep_no_sessions(self, context: ssl.SSLContext) -> None:
        """Clients that take no tickets always get a whole handshake. Raises NotThisLibrary."""
        self.library.SSL_CTX_ctrl(self._checked(context), _SET_SESSION_CACHE, 0, None)

    def set_staple(self, context: ssl.SSLContext, der: bytes) -> None:
        """What clients that ask for the status of the certificate in `context` get; b"" is nothing. Raises NotThisLibrary."""
        pointer = self._checked(context)
        der = der if len(der) <= LONGEST_STAPLE else b""
        number = self._numbers.get(id(context))
        if number is None:
            if not der:
                return
            number = self._numbers[id(context)] = next(self._count)
            finalize(context, self._forget, id(context), number).atexit = False
        if der:
            self._staples[number] = der
            self.library.SSL_CTX_ctrl(pointer, _SET_STATUS_ARGUMENT, 0, number)
            self.library.SSL_CTX_callback_ctrl(pointer, _SET_STATUS_CALLBACK, self._callback)
        else:
            self.library.SSL_CTX_callback_ctrl(pointer, _SET_STATUS_CALLBACK, self._no_callback)
            self._staples.pop(number, None)

    def name_authorities(self, context: ssl.SSLContext, authorities: str) -> None:
        """Clients that handshakes in `context` ask for a certificate are told whose would do. authorities: PEM. Raises NotThisLibrary."""
        pointer = self._checked(context)
        library = self.library
        with os.fdopen(os.memfd_create("authorities", os.MFD_CLOEXEC), "w") as file:
            file.write(authorities)
            file.flush()
            names = library.SSL_load_client_CA_file(b"/proc/self/fd/%d" % file.fileno())
        library.ERR_clear_error()  # that the file has ended is an error to it, which `ssl` would take for the next call's
        if not names:
            raise NotThisLibrary("the names of authorities were not read")
        size = sum(2 + library.i2d_X509_NAME(library.OPENSSL_sk_value(names, at), None) for at in range(library.OPENSSL_sk_num(names)))
        library.SSL_CTX_set_client_CA_list(pointer, names)  # which is the library's from now on
        if size > MOST_NAMES:
            library.SSL_CTX_set_client_CA_list(pointer, None)

    def _forget(self, address: int, number: int) -> None:
        self._staples.pop(number, None)
        self._numbers.pop(address, None)

    def _status(self, tls: int, number: int) -> int:
        """Called by the library in a handshake whose client asks for the status. An error must not go through it."""
        try:
            der = self._staples.get(number)
            if not der:
                return _NOT_GIVEN
            copy = self.library.CRYPTO_malloc(len(der), b"", 0)  # the library frees it
            if not copy:
                return _NOT_GIVEN
            ctypes.memmove(copy, der, len(der))
            return _GIVEN if self.library.SSL_ctrl(tls, _SET_STATUS_RESPONSE, len(der), copy) == 1 else _NOT_GIVEN
        except Exception:  # the client gets a handshake without a staple
            return _NOT_GIVEN
