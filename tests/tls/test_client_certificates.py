"""Which clients a server with `client_ca` lets in, with TLS 1.2 and 1.3, by whichever name they ask for it."""

from __future__ import annotations

import ctypes
import ssl
import tempfile
from dataclasses import replace
from datetime import timedelta

import pytest

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates import openssl, openssl_trial
from pingap.stages.accept.certificates.choice import Choice, compile_choices
from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.accept.certificates.openssl_trial import usable
from pingap.stages.client_hello import Hello
from tests.e2e.certificate import self_signed
from tests.kit.authority import TestAuthority
from tests.kit.identities import CLIENT, SERVER, Identity, alone, root

ROOT, OTHER, THIRD = root("Root"), root("Other"), root("Third")
BETWEEN = ROOT.issue("Between", is_authority=True)
DEEP = BETWEEN.issue("Deep", is_authority=True)
OURS, THEIRS = ROOT.issue("ours"), OTHER.issue("theirs")

SITES = {
    name: Certificate(tls_cert=pair[0], tls_key=pair[1], domains=(name,), is_default=name == "default.example")
    for name, pair in ((name, self_signed(name)) for name in ("a.example", "b.example", "default.example"))
}
OPEN = Server(addr=(), global_certificates=True)
REQUIRED = replace(OPEN, client_ca=ROOT.pem)
OPTIONAL = replace(REQUIRED, client_auth="optional")
NEWEST = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

versions = pytest.mark.parametrize("version", list(NEWEST))


def choices(server: Server) -> Choice:
    return compile_choices({"web": server}, SITES)["web"]


def chooser(server: Server) -> Chooser:
    return Chooser(server, choices(server))


def client(identity: Identity | None, version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = NEWEST[version]
    if identity is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(identity.key_pem + identity.pem + "".join(ssl.DER_cert_to_PEM_cert(one) for one in ders(identity)))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def ders(identity: Identity) -> list[bytes]:
    return [Identity(one, identity.key).der for one in identity.chain]


class Handshake:
    """One between the two, over memory, and a few bytes each way behind it."""

    def __init__(
        self, server: Chooser, context: ssl.SSLContext, name: str | None = "a.example", session: ssl.SSLSession | None = None
    ) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        begun = server.context_for(Hello((name or "").encode()))
        assert begun is not None
        self.server = begun.wrap_bio(to_server, to_client, True)
        self.client = context.wrap_bio(to_client, to_server, False, name, session)
        self.refused: ssl.SSLError | None = None
        """Why the server does not let it in."""
        self.alert = ""
        """What the client is told then."""
        waiting = [(self.client, False), (self.server, True)]
        for _ in range(6):
            for one, is_server in list(waiting):
                try:
                    one.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    if is_server:
                        self.refused = error
                    else:
                        self.alert = error.reason or ""
                waiting.remove((one, is_server))
        if self.refused is None:
            self.server.write(b"hello")
        if not self.alert:
            try:
                self.client.read(5)
            except ssl.SSLError as error:
                self.alert = error.reason or ""

    @property
    def known_as(self) -> bytes | None:
        """The certificate by which the server has let it in; b"" without one, None when it has not."""
        return None if self.refused else self.server.getpeercert(True) or b""


@versions
@pytest.mark.parametrize("name", ["a.example", "b.example", "unknown.example", None], ids=str)
def test_by_whatever_name_a_client_comes_it_is_asked(version: str, name: str | None) -> None:
    web = chooser(REQUIRED)
    assert Handshake(web, client(OURS, version), name).known_as == OURS.der
    assert Handshake(web, client(THEIRS, version), name).known_as is None
    assert Handshake(web, client(None, version), name).known_as is None
    lenient = chooser(OPTIONAL)
    assert Handshake(lenient, client(OURS, version), name).known_as == OURS.der
    assert Handshake(lenient, client(None, version), name).known_as == b""
    assert Handshake(lenient, client(THEIRS, version), name).known_as is None


@versions
def test_a_client_is_asked_by_names_that_certificates_are_made_for_too(version: str) -> None:
    made = TestAuthority().entry("made.example")
    web = Chooser(REQUIRED, compile_choices({"web": REQUIRED}, SITES | {"made": made})["web"])
    assert Handshake(web, client(OURS, version), "made.example").known_as == OURS.der
    assert Handshake(web, client(THEIRS, version), "made.example").known_as is None
    assert Handshake(web, client(None, version), "made.example").known_as is None


@versions
def test_a_name_outside_ascii_is_no_way_past_it(version: str) -> None:
    """Its handshake begins in the default certificate's own context."""

    class Odd(Chooser):
        def context_for(self, hello: Hello, address: str = "") -> ssl.SSLContext | None:
            return super().context_for(Hello(b"\xff.example"))

    web = Odd(REQUIRED, choices(REQUIRED))
    assert Handshake(web, client(OURS, version)).known_as == OURS.der
    assert Handshake(web, client(None, version)).known_as is None
    assert Handshake(web, client(THEIRS, version)).known_as is None


NO_ONE = {"1.2": "SSLV3_ALERT_HANDSHAKE_FAILURE", "1.3": "TLSV13_ALERT_CERTIFICATE_REQUIRED"}
HOUR, DAY = timedelta(hours=1), timedelta(1)
REFUSED = {
    "expired": (ROOT.issue("x", since=-DAY, until=-HOUR), 10, "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
    "not yet valid": (ROOT.issue("x", since=HOUR), 9, "SSLV3_ALERT_BAD_CERTIFICATE"),
    "of another authority": (THEIRS, 20, "TLSV1_ALERT_UNKNOWN_CA"),
    "of another authority of that name": (root("Root").issue("ours"), 7, "TLSV1_ALERT_DECRYPT_ERROR"),
    "signed by itself": (alone("x"), 18, "TLSV1_ALERT_UNKNOWN_CA"),
    "for servers alone": (ROOT.issue("x", usage=[SERVER]), 26, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    "without the one between": (BETWEEN.issue("x", sends=False), 20, "TLSV1_ALERT_UNKNOWN_CA"),
    "of one who is no authority": (OURS.issue("x"), 79, "TLSV1_ALERT_UNKNOWN_CA"),
}


@versions
@pytest.mark.parametrize("server", [REQUIRED, OPTIONAL], ids=["required", "optional"])
@pytest.mark.parametrize("case", REFUSED)
def test_one_that_is_not_accepted_is_refused_even_where_none_is_needed(case: str, server: Server, version: str) -> None:
    identity, code, alert = REFUSED[case]
    tried = Handshake(chooser(server), client(identity, version))
    assert isinstance(tried.refused, ssl.SSLCertVerificationError) and tried.refused.verify_code == code, tried.refused
    assert tried.alert == alert


@versions
def test_without_one_the_alert_says_so(version: str) -> None:
    tried = Handshake(chooser(REQUIRED), client(None, version))
    assert tried.refused is not None and tried.refused.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert tried.alert == NO_ONE[version]


@versions
def test_those_between_it_and_its_authority_may_be_several(version: str) -> None:
    deep = DEEP.issue("client", usage=[CLIENT, SERVER])
    assert len(deep.chain) == 2
    assert Handshake(chooser(REQUIRED), client(deep, version)).known_as == deep.der


@versions
def test_any_of_several_authorities_is_believed_also_one_that_is_no_root(version: str) -> None:
    between = THIRD.issue("Third's", is_authority=True)
    web = chooser(replace(REQUIRED, client_ca=ROOT.pem + OTHER.pem + between.pem))
    for identity in (OURS, THEIRS, between.issue("x", sends=False)):
        assert Handshake(web, client(identity, version)).known_as == identity.der
    assert Handshake(web, client(THIRD.issue("x"), version)).known_as is None, "its own authority is not listed"


@versions
def test_a_session_does_not_outlive_the_rules_by_which_it_began(version: str) -> None:
    """Who goes on with one is not asked again who he is."""
    for before, after in (
        (REQUIRED, replace(REQUIRED, client_ca=OTHER.pem)),
        (OPTIONAL, REQUIRED),
        (OPEN, REQUIRED),
        (REQUIRED, replace(OPTIONAL, client_ca=OTHER.pem)),
    ):
        web = chooser(before)
        context = client(OURS if before.client_ca and before is not OPTIONAL else None, version)
        first = Handshake(web, context)
        assert first.refused is None
        session = first.client.session
        web.update(after, choices(after))
        again = Handshake(web, context, session=session)
        assert again.known_as is None, (before.client_auth, after.client_auth)


@versions
def test_a_session_is_no_way_into_another_server(version: str) -> None:
    context = client(OURS, version)
    first = Handshake(chooser(REQUIRED), context)
    other = Handshake(chooser(replace(REQUIRED, client_ca=OTHER.pem)), context, session=first.client.session)
    assert other.known_as is None


@versions
def test_who_proves_nothing_any_more_goes_on_with_sessions_as_before(version: str) -> None:
    web = chooser(OPEN)
    context = client(None, version)
    session = Handshake(web, context).client.session
    web.update(OPTIONAL, choices(OPTIONAL))
    web.update(OPEN, choices(OPEN))
    again = Handshake(web, context, session=session)
    assert again.known_as == b"" and again.client.session_reused


@versions
def test_with_a_secret_for_tickets_who_was_known_goes_on_and_no_further_than_the_rules_hold(version: str) -> None:
    """By another replica too: the key is made of the rules."""
    replicas = [chooser(REQUIRED), chooser(REQUIRED)]
    for each in replicas:
        assert each.use_secrets([b"s" * 32]) == ""
    context = client(OURS, version)
    session = Handshake(replicas[0], context).client.session
    again = Handshake(replicas[1], context, session=session)
    assert again.client.session_reused and again.known_as == OURS.der
    for after in (replace(REQUIRED, client_ca=OTHER.pem), replace(OPTIONAL, client_ca=OTHER.pem)):
        replicas[1].update(after, choices(after))
        assert Handshake(replicas[1], context, session=session).known_as is None
    replicas[1].update(OPTIONAL, choices(OPTIONAL))
    again = Handshake(replicas[1], context, session=session)
    assert again.known_as == OURS.der and not again.client.session_reused
    replicas[1].update(REQUIRED, choices(REQUIRED))
    assert Handshake(replicas[1], context, session=session).client.session_reused
    replicas[1].use_secrets([b"t" * 32])
    assert not Handshake(replicas[1], context, session=session).client.session_reused


def named_by(begun: ssl.SSLContext, version: str, name: str | None) -> list[bytes]:
    """The names of authorities, DER, that a client is told when it is asked for its certificate."""
    calls, reason = usable()
    assert calls is not None, reason
    library = calls.library
    library.SSL_CTX_set_cert_cb.argtypes, library.SSL_CTX_set_cert_cb.restype = (ctypes.c_void_p, ASKED, ctypes.c_void_p), None
    library.SSL_get0_peer_CA_list.argtypes, library.SSL_get0_peer_CA_list.restype = (ctypes.c_void_p,), ctypes.c_void_p
    found: list[bytes] = []

    def asked(tls: int, _: int) -> int:
        names = library.SSL_get0_peer_CA_list(tls)
        for at in range(max(0, library.OPENSSL_sk_num(names))):
            one = library.OPENSSL_sk_value(names, at)
            out = ctypes.create_string_buffer(library.i2d_X509_NAME(one, None))
            library.i2d_X509_NAME(one, ctypes.byref(ctypes.c_void_p(ctypes.addressof(out))))
            found.append(out.raw)
        return 1

    context, callback = client(OURS, version), ASKED(asked)
    library.SSL_CTX_set_cert_cb(calls.pointer_of(context), callback, None)

    class Begun(Chooser):
        def __init__(self) -> None:
            pass

        def context_for(self, hello: Hello, address: str = "") -> ssl.SSLContext:
            return begun

    Handshake(Begun(), context, name)
    return found


ASKED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def subject(identity: Identity) -> bytes:
    return identity.certificate.subject.public_bytes()


@versions
@pytest.mark.parametrize("name", ["a.example", "unknown.example", None], ids=str)
def test_clients_are_told_whose_certificates_would_do_also_after_a_change(version: str, name: str | None) -> None:
    """So that a browser offers no others."""
    web = chooser(replace(REQUIRED, client_ca=ROOT.pem + OTHER.pem + ROOT.pem))
    assert sorted(named_by(web.context, version, name)) == sorted([subject(ROOT), subject(OTHER)])
    for after, told in ((replace(OPTIONAL, client_ca=THIRD.pem), [subject(THIRD)]), (OPEN, [])):
        web.update(after, choices(after))
        assert named_by(web.context, version, name) == told


@versions
def test_more_names_than_a_handshake_has_room_for_are_left_out(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "MOST_NAMES", 2 * len(subject(ROOT)))
    two = chooser(replace(REQUIRED, client_ca=ROOT.pem + OTHER.pem))
    assert named_by(two.context, version, "a.example") == []
    assert Handshake(two, client(OURS, version)).known_as == OURS.der
    assert named_by(chooser(replace(REQUIRED, client_ca=OTHER.pem)).context, version, "a.example") == [subject(OTHER)]


@versions
def test_where_names_cannot_be_told_clients_are_let_in_all_the_same(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl_trial, "_verdicts", [openssl_trial.TrialVerdict(None, "not here")])
    web = chooser(replace(REQUIRED, client_ca=THIRD.pem + ROOT.pem))
    assert Handshake(web, client(OURS, version)).known_as == OURS.der
    assert Handshake(web, client(THEIRS, version)).known_as is None
    monkeypatch.undo()
    assert named_by(web.context, version, "unknown.example") == []
