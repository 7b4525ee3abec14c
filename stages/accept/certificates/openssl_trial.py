"""Whether the calls in openssl.py work with this Python and its OpenSSL: tried in a process of its own, which may crash."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import ssl
from base64 import b64decode
from time import monotonic
from typing import Final, NamedTuple

from pingap.stages.accept.certificates.openssl import STATUS_CALLBACK, TICKET_KEY, NotThisLibrary, OpenSsl

PATIENCE: Final = 5.0
"""Seconds for the trial, which takes 10 ms. Long enough for a machine that is busy with other things while pingap starts."""

_STAPLE: Final = b"what a client gets that asks for the status" * 40
_KEY: Final = bytes(range(TICKET_KEY))
_SET_STATUS_TYPE: Final = 65
_GET_STATUS_RESPONSE: Final = 70
_NOT_TAKEN: Final = "it does not work with this Python"

_CERTIFICATE: Final = (
    "MIIBDjCBtaADAgECAgEBMAoGCCqGSM49BAMCMBAxDjAMBgNVBAMMBXRyaWFsMCAXDTAwMDEwMTAwMDAwMFoYDzIwOTkwMTAxMDAwMDAwWjAQMQ4wDAYDVQQD"
    "DAV0cmlhbDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBeGUS+FTKMUVrGWOqiOR3gmAMCqPdLfS4K/pK1A31fgd8O6ST6Q8X6Nk/3nsqasFDzXIO3l9YFI"
    "bTqvB9uvGiYwCgYIKoZIzj0EAwIDSAAwRQIgDVdkYAh3HOMTjqXSzfz5tofbhnikHNzgbsFmyR2l1t8CIQDFKXutZ5cF/YwsfHCYzgnSNg9y+W6QtD1OtfZO"
    "Xxhd3w=="
)
"""Nobody's: for the two ends of the trial alone, so that it need not make one (the library for that takes 0.4 s to import)."""
_ITS_KEY: Final = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgt4S7rni5qjTtQtYFNMG2rjMZOSP3mo3c5Sz2a07gPMShRANCAAQXhlEvhUyjFFaxljqojkd4"
    "JgDAqj3S30uCv6StQN9X4HfDukk+kPF+jZP957KmrBQ81yDt5fWBSG06rwfbrxom"
)


class TrialVerdict(NamedTuple):
    calls: OpenSsl | None
    reason: str
    """Why there are none; "" otherwise."""


_verdicts: Final[list[TrialVerdict]] = []
"""None or one: what was found out, in this process or in one that this was forked from."""


def usable() -> TrialVerdict:
    """The calls, if they may be made. The first time, if no process that this one was forked from has asked, it forks and waits."""
    if not _verdicts:
        reason = _tried()
        calls = None
        if not reason:
            try:
                calls = OpenSsl()
            except NotThisLibrary as error:
                reason = str(error)
        _verdicts.append(TrialVerdict(calls, reason))
    return _verdicts[0]


def _tried() -> str:
    """Why not, from a child that tries; ""."""
    try:
        here, there = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        return str(error)
    try:
        child = os.fork()
    except OSError as error:
        os.close(here)
        os.close(there)
        return str(error)
    if child == 0:
        _judge(there)
    os.close(there)
    try:
        return _heard(here, child)
    finally:
        os.close(here)


def _judge(answer: int) -> None:
    """In the child: tries, answers, ends."""
    try:
        signal.set_wakeup_fd(-1)
        signal.alarm(int(PATIENCE) + 1)  # whoever waits may die
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        try:
            attempt()
            said = b"+"
        except Exception as error:
            said = f"{type(error).__name__}: {error}".encode(errors="replace")[:1000] or b"-"
        os.write(answer, said)
    finally:
        os._exit(0)


def _heard(pipe: int, child: int) -> str:
    deadline = monotonic() + PATIENCE
    said = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while (left := deadline - monotonic()) > 0:
        if poll.poll(left * 1000):
            said = os.read(pipe, 4096)
            break
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # somebody else who waits for any child was faster
        os.waitpid(child, 0)
    if said == b"+":
        return ""
    if said:
        return said.decode(errors="replace")
    return "it crashes with this Python" if left > 0 else f"it was not tried out within {PATIENCE:g} s"


def attempt() -> None:
    """Does all that openssl.py offers, between two ends in memory. Raises something, or crashes, where it does not work."""
    calls = OpenSsl()
    peer_list = calls.library.SSL_get0_peer_CA_list
    peer_list.restype, peer_list.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        one, other = _server(calls, newest), _server(calls, newest)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        heard: list[bytes] = []
        named: list[int] = []

        def told(tls: int, _: int, heard: list[bytes] = heard, named: list[int] = named) -> int:
            named.append(calls.library.OPENSSL_sk_num(peer_list(tls)))
            at = ctypes.c_void_p()
            size = calls.library.SSL_ctrl(tls, _GET_STATUS_RESPONSE, 0, ctypes.addressof(at))
            heard.append(ctypes.string_at(at, size) if size > 0 and at else b"")
            return 1

        callback = STATUS_CALLBACK(told)
        calls.library.SSL_CTX_ctrl(calls.pointer_of(client), _SET_STATUS_TYPE, 1, None)
        calls.library.SSL_CTX_callback_ctrl(calls.pointer_of(client), 63, callback)
        first = _shake(one, client)
        again = _shake(other, client, first.session)
        if named[0] != 1:
            raise NotThisLibrary(_NOT_TAKEN)
        if heard[0] != _STAPLE or first.session_reused or not again.session_reused:
            raise NotThisLibrary(_NOT_TAKEN)
        calls.set_ticket_key(other, bytes(TICKET_KEY))
        calls.set_staple(one, b"")
        heard.clear()
        if _shake(other, client, first.session).session_reused or heard != [_STAPLE]:
            raise NotThisLibrary(_NOT_TAKEN)
        _shake(one, client)
        if heard[1:] != [b""]:
            raise NotThisLibrary(_NOT_TAKEN)


def _server(calls: OpenSsl, newest: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    pointer = calls.pointer_of(context)
    if not _is_mapped(pointer):
        raise NotThisLibrary(_NOT_TAKEN)
    pem = ssl.DER_cert_to_PEM_cert(b64decode(_CERTIFICATE))
    pem += ssl.DER_cert_to_PEM_cert(b64decode(_ITS_KEY)).replace(" CERTIFICATE", " PRIVATE KEY")
    with os.fdopen(os.memfd_create("trial"), "wb") as file:
        file.write(pem.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    calls.keep_no_sessions(context)
    calls.set_ticket_key(context, _KEY)
    if calls.ticket_key(context) != _KEY:
        raise NotThisLibrary(_NOT_TAKEN)
    calls.set_staple(context, _STAPLE)
    context.verify_mode = ssl.CERT_OPTIONAL
    calls.name_authorities(context, ssl.DER_cert_to_PEM_cert(b64decode(_CERTIFICATE)))
    return context


def _is_mapped(pointer: int) -> bool:
    with open("/proc/self/maps") as file:
        for line in file:
            since, until = (int(one, 16) for one in line.partition(" ")[0].split("-"))
            if since <= pointer < until:
                return "rw" in line
    return False


def _shake(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """A handshake and one byte, with which TLS 1.3 brings its ticket; the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, True)
    theirs = client.wrap_bio(to_client, to_server, False, None, session)
    is_done = False
    while not is_done:
        is_done = True
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                is_done = False
    ours.write(b"x")
    theirs.read(1)
    return theirs
