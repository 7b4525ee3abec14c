"""The calls that Python's `ssl` lacks: what they do in handshakes, and what becomes of a Python in which they do not work."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from pingap.stages.accept.certificates import openssl_trial
from pingap.stages.accept.certificates.openssl import STATUS_CALLBACK, TICKET_KEY, NotThisLibrary, OpenSsl
from tests.e2e.certificate import self_signed
from tests.tls.pairs import Asking, serving, shake

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("newest", [TLS12, TLS13], ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def calls() -> OpenSsl:
    found, reason = openssl_trial.usable()
    assert found is not None, reason
    return found


@VERSIONS
def test_a_ticket_is_taken_by_whoever_has_its_key(calls: OpenSsl, newest: ssl.TLSVersion) -> None:
    pair = self_signed("a.example")
    one, other = serving(pair, newest), serving(pair, newest)
    client = Asking(newest)
    session = shake(one, client).session
    assert not shake(other, client, session).session_reused
    for context in (one, other):
        calls.set_ticket_key(context, bytes(TICKET_KEY))
    session = shake(one, client).session
    assert shake(other, client, session).session_reused
    calls.set_ticket_key(other, os.urandom(TICKET_KEY))
    again = shake(other, client, session)
    assert not again.session_reused, "an old ticket costs a whole handshake, no error"
    assert shake(other, client, again.session).session_reused


@VERSIONS
def test_a_staple_is_given_to_who_asks_and_may_change_and_go(calls: OpenSsl, newest: ssl.TLSVersion) -> None:
    server = serving(self_signed("a.example"), newest)
    client = Asking(newest)
    for staple in (b"one", b"", b"two" * 1000, b"three", b""):
        calls.set_staple(server, staple)
        shake(server, client)
        assert client.heard == staple
    calls.set_staple(server, b"again")
    silent = Asking(newest, asks=False)
    shake(server, silent)
    assert silent.heard == b""


@VERSIONS
def test_the_staple_is_that_of_the_certificate_that_the_name_has_chosen(calls: OpenSsl, newest: ssl.TLSVersion) -> None:
    names = {"a.example": serving(self_signed("a.example"), newest), "b.example": serving(self_signed("b.example"), newest)}
    calls.set_staple(names["a.example"], b"of a")
    first = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def choose(tls: Any, name: str, _: ssl.SSLContext) -> None:
        tls.context = names[name]

    first.sni_callback = choose
    client = Asking(newest)
    shake(first, client, name="a.example")
    assert client.heard == b"of a"
    shake(first, client, name="b.example")
    assert client.heard == b""


def test_the_staple_of_a_context_that_is_gone_is_forgotten(calls: OpenSsl) -> None:
    before = len(calls._staples)
    server = serving(self_signed("a.example"))
    calls.set_staple(server, b"x" * 1000)
    assert len(calls._staples) == before + 1
    del server
    gc.collect()
    assert len(calls._staples) == before and len(calls._numbers) <= before + 1


@pytest.mark.slow
def test_two_thousand_staples_leave_nothing_behind(calls: OpenSsl) -> None:
    """Each is a copy of 10 KB that the library has to free: 20 MB if it did not."""
    server = serving(self_signed("a.example"), TLS12)
    client = Asking(TLS12)

    def handshakes(count: int) -> int:
        for number in range(count):
            if number % 10 == 0:
                calls.set_staple(server, os.urandom(16) * 640)
            shake(server, client)
            assert len(client.heard) == 10_240
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = handshakes(500)
    assert handshakes(2_000) - before < 4096, "KiB"


def test_what_the_library_says_otherwise_than_python_ends_it_before_anything_is_written(
    calls: OpenSsl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the field were another: the options of two contexts differ."""
    wrong, context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrong.options |= ssl.OP_NO_TICKET
    at = calls.pointer_of(wrong)
    before = calls.ticket_key(wrong)
    monkeypatch.setattr(calls, "pointer_of", lambda _: at)
    with pytest.raises(NotThisLibrary):
        calls.set_ticket_key(context, bytes(TICKET_KEY))
    with pytest.raises(NotThisLibrary):
        calls.set_staple(context, b"x")
    monkeypatch.undo()
    assert calls.ticket_key(wrong) == before


def test_no_error_goes_through_the_library(calls: OpenSsl, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = serving(self_signed("a.example")), Asking()
    calls.set_staple(server, b"x")
    monkeypatch.setattr(ctypes, "memmove", None)
    shake(server, client)
    assert client.heard == b""


# -- the trial ---------------------------------------------------------------------------------


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(openssl_trial, "_verdicts", [])
    yield monkeypatch


def test_it_is_tried_once(untried: pytest.MonkeyPatch) -> None:
    first = openssl_trial.usable()
    assert first.calls is not None and first.reason == ""
    untried.setattr(os, "fork", None)
    assert openssl_trial.usable() is first


def test_one_that_crashes_says_no_and_takes_nobody_along(untried: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        faulthandler.disable()
        ctypes.string_at(0)

    untried.setattr(openssl_trial, "attempt", crash)
    assert openssl_trial.usable() == (None, "it crashes with this Python")


def test_a_pointer_that_is_none_is_a_no(untried: pytest.MonkeyPatch) -> None:
    untried.setattr(OpenSsl, "pointer_of", lambda *_: 8)
    calls, reason = openssl_trial.usable()
    assert calls is None and "does not work" in reason


def test_one_that_hangs_says_no_in_time_and_is_ended(untried: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def noted() -> int:
        children.append(fork())
        return children[-1]

    untried.setattr(os, "fork", noted)
    untried.setattr(openssl_trial, "attempt", signal.pause)
    untried.setattr(openssl_trial, "PATIENCE", 0.3)
    assert openssl_trial.usable() == (None, "it was not tried out within 0.3 s")
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_another_library_is_not_even_tried_out(untried: pytest.MonkeyPatch) -> None:
    untried.setattr(ssl, "OPENSSL_VERSION", "LibreSSL 4.1.0")
    calls, reason = openssl_trial.usable()
    assert calls is None and "LibreSSL 4.1.0" in reason


def test_the_callback_is_one_that_a_library_of_c_may_call() -> None:
    assert STATUS_CALLBACK._restype_ is ctypes.c_int
