"""Session tickets of servers by a secret that replicas share, and staples of contexts that come and go."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from hashlib import sha256

import pytest

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates import openssl_trial
from pingap.stages.accept.certificates.choice import compile_choices
from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.accept.certificates.staples import Staples, leaf_digest, staples
from pingap.stages.accept.certificates.ticket_keys import ticket_key
from tests.e2e.certificate import chained, self_signed
from tests.tls.pairs import Asking, shake

WEB = Server(addr=(), global_certificates=True)
PAIR = self_signed("a.example")
SECRETS = [os.urandom(32) for _ in range(2)]


def chooser(name: str = "web", server: Server = WEB) -> Chooser:
    certificate = Certificate(tls_cert=PAIR[0], tls_key=PAIR[1], domains=("a.example",))
    choice = compile_choices({"web": server}, {"a": certificate})["web"]
    return Chooser(server, choice, name=name)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_replicas_with_one_secret_take_each_others_tickets_until_it_is_another(newest: ssl.TLSVersion) -> None:
    replicas = [chooser(), chooser()]
    client = Asking(newest)
    for replica in replicas:
        assert replica.use_secrets(SECRETS[:1]) == ""
    session = shake(replicas[0].context, client).session
    assert shake(replicas[1].context, client, session).session_reused
    for replica in replicas:
        replica.update(WEB, replica._choice)
        assert shake(replica.context, client, session).session_reused, "a reload leaves it"
        replica.use_secrets([])
        assert shake(replica.context, client, session).session_reused, "and so does one that is told nothing"
    for replica in replicas:
        replica.use_secrets([SECRETS[1], SECRETS[0]])
    assert not shake(replicas[0].context, client, session).session_reused, "the newest counts"
    session = shake(replicas[0].context, client).session
    assert shake(replicas[1].context, client, session).session_reused


def test_a_ticket_is_good_for_the_server_alone_that_gave_it() -> None:
    one, other = chooser("one"), chooser("two")
    for each in (one, other):
        each.use_secrets(SECRETS)
    client = Asking()
    session = shake(one.context, client).session
    assert not shake(other.context, client, session).session_reused


def test_every_setting_that_says_whom_a_ticket_proves_makes_another_key() -> None:
    servers = [WEB, replace(WEB, tls_min_version="tlsv1.3"), replace(WEB, tls_max_version="tlsv1.2")]
    known = replace(WEB, client_ca="PEM")
    servers += [known, replace(known, client_auth="optional"), replace(known, client_ca="another PEM")]
    keys = [ticket_key(secret, name, server) for secret in SECRETS for name in ("one", "two") for server in servers]
    assert len(set(keys)) == len(keys) == 24
    assert {len(key) for key in keys} == {80}
    assert len({key[:16] for key in keys}) == 24, "the name that stands in a ticket in the clear tells nothing of what it was made of"
    assert ticket_key(SECRETS[0], "one", replace(WEB, enabled_h2=True)) == ticket_key(SECRETS[0], "one", WEB)


def test_where_the_library_has_no_such_calls_tickets_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl_trial, "_verdicts", [openssl_trial.TrialVerdict(None, "it crashes")])
    one = chooser()
    assert one.use_secrets(SECRETS) == "it crashes"
    own = Staples()
    assert own.use({}) == ""
    assert own.use({"00": b"x"}) == "it crashes"
    monkeypatch.undo()
    client = Asking()
    session = shake(one.context, client).session
    assert shake(one.context, client, session).session_reused


def test_staples_reach_contexts_that_there_are_and_those_to_come() -> None:
    client = Asking()
    one = chooser()
    leaf = sha256(ssl.PEM_cert_to_DER_cert(PAIR[0])).hexdigest()

    def heard(of: Chooser) -> bytes:
        shake(of.context, client)
        return client.heard

    try:
        assert heard(one) == b""
        assert staples.use({leaf: b"first", "00": b"of another"}) == ""
        assert heard(one) == b"first"
        later = chooser(server=replace(WEB, enabled_h2=True))
        assert heard(later) == b"first"
        staples.use({leaf: b"second"})
        assert heard(one) == heard(later) == b"second"
        staples.use({leaf: b"x" * 20_000})
        assert heard(one) == b"", "with one that long clients would break off"
        staples.use({leaf: b"third"})
        assert heard(one) == b"third"
    finally:
        staples.use({})
    assert heard(one) == b""


def test_the_digest_is_that_of_the_servers_own_certificate() -> None:
    chain, _, _ = chained("a.example")
    own = chain[: chain.index("-----END CERTIFICATE-----") + 26]
    assert leaf_digest("text before\n" + chain) == sha256(ssl.PEM_cert_to_DER_cert(own)).hexdigest()
    assert leaf_digest("") == leaf_digest("-----END CERTIFICATE-----") == ""
