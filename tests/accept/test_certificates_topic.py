"""What the acme stage publishes, at accept: taken as a whole, said to be taken, kept when it is of no use."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from functools import cache
from hashlib import sha256
from typing import Any

import pytest

from pingap.bus.members import Members
from pingap.config.model import Certificate, Server, Snapshot
from pingap.config.parts import Listen
from pingap.stages.accept.actor import AcceptActor
from pingap.stages.accept.certificates.topic import CertificatesFollower, CertificatesValue
from pingap.stages.acme.presenter import Challenge
from pingap.stages.acme.tls_proofs import asked_name, proof_for
from pingap.stages.acme.topic import CertificatesTopic
from pingap.stages.acme.wanted import Issued
from pingap.stages.messages import CertificatesTaken
from tests.e2e.certificate import self_signed
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.waiting import eventually

ACME = 5
DIRECTORY = "https://authority.example/directory"


@cache
def issued(name: str, number: int = 0) -> Issued:
    """number: certificates with different ones are different."""
    return Issued(*self_signed(name))


def fingerprint(one: Issued) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(one.cert)).hexdigest()


class Publisher:
    """The acme stage, in as many lives as the test wants."""

    def __init__(self, accept: FakeContext) -> None:
        self._accept = accept
        self.begins()

    def begins(self) -> None:
        self.context = FakeContext("acme", ACME)
        self.topic = CertificatesTopic(self.context)
        self.tells()

    def tells(self, has_bodies: bool = True) -> int:
        """The newest value comes to accept, and the bodies."""
        if has_bodies:
            self._accept.blobs |= self.context.blobs
        self._accept.following["certificates"](self.context.published["certificates"][-1])
        return self.topic.version

    def publishes(self, **pairs: Issued) -> int:
        self.topic.issued = pairs
        self.topic.publish()
        return self.tells()


class Site:
    """An accept actor that listens, with the certificate of one section by ACME."""

    def __init__(self) -> None:
        self.context = FakeContext("accept", 9)
        self.context.members = Members.of(1, 9, [(ACME, "acme", 0, "", "ready")])
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.context.settings = {"listeners": [{"fd": sock.detach(), "server": "s", "addr": f"127.0.0.1:{self.port}"}]}
        self.actor = AcceptActor(self.context)
        self.generation = 0
        self.own = issued("own.example")
        self.server = Server(addr=(Listen("127.0.0.1", self.port),), global_certificates=True)

    async def begin(self) -> None:
        await self.actor.start()
        self.acme = Publisher(self.context)

    def configure(self, **certificates: Certificate) -> None:
        self.generation += 1
        own = Certificate(tls_cert=self.own.cert, tls_key=self.own.key, domains=("own.example",), is_default=True)
        say_config(self.context, (self.generation, Snapshot(servers={"s": self.server}, certificates={"own": own, **certificates}), {}))

    async def shows(self, name: str, *protocols: str) -> str:
        """Fingerprint of what a client gets that asks for a name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(list(protocols))
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
            secure = writer.get_extra_info("ssl_object")
            self.protocol = secure.selected_alpn_protocol()
            if self.protocol == "acme-tls/1":
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                self.after = await reader.read()
            writer.transport.abort()
        return sha256(secure.getpeercert(binary_form=True)).hexdigest()

    @property
    def taken(self) -> list[int]:
        """Versions that accept has said to go by."""
        return [message.version for to, message in self.context.sent if type(message) is CertificatesTaken and to == ACME]

    def errors(self) -> list[dict[str, Any]]:
        return [fields for level, _, fields in self.context.logged if level == "error"]


BY_ACME = Certificate(domains=("a.example",), acme=DIRECTORY)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.begin()
    yield site
    await site.actor.stop()


async def ready(site: Site) -> None:
    await eventually(lambda: site.context.is_ready)


async def test_the_first_connections_get_what_was_issued_before_this_process_began(site: Site) -> None:
    site.configure(a=BY_ACME)
    await asyncio.sleep(0.05)  # long enough for what would not wait
    assert not site.context.is_ready, "it waits for what the acme stage has"
    version = site.acme.publishes(a=issued("a.example"))
    await ready(site)
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    assert site.taken == [version]


async def test_it_waits_for_no_acme_stage_when_nothing_comes_from_there(site: Site) -> None:
    site.configure()
    await ready(site)


async def test_that_nothing_is_known_yet_takes_nothing_away(site: Site) -> None:
    version = site.acme.publishes(a=issued("a.example"))
    site.configure(a=BY_ACME)
    await ready(site)
    site.acme.begins()
    assert site.taken == [version] and await site.shows("a.example") == fingerprint(issued("a.example"))
    again = site.acme.publishes(a=issued("a.example", 2))
    assert site.taken == [version, again] and again > version
    assert await site.shows("a.example") == fingerprint(issued("a.example", 2))


async def test_what_is_taken_back_falls_to_what_stands_in_the_entry(site: Site) -> None:
    site.acme.publishes(a=issued("a.example"))
    own = issued("a.example", 7)
    site.configure(a=Certificate(domains=("a.example",), acme=DIRECTORY, tls_cert=own.cert, tls_key=own.key))
    await ready(site)
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    site.acme.publishes()
    assert await site.shows("a.example") == fingerprint(own)


async def test_bodies_that_never_come_change_nothing_and_are_given_up_for_a_newer_value(site: Site) -> None:
    version = site.acme.publishes(a=issued("a.example"))
    site.configure(a=BY_ACME)
    await ready(site)
    site.acme.topic.issued = {"a": issued("a.example", 2)}
    site.acme.topic.publish()
    site.acme.tells(has_bodies=False)
    assert site.taken == [version] and len(site.context.fetching) == 1
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    newest = site.acme.publishes(a=issued("a.example", 3))
    assert site.taken == [version, newest] and site.context.fetching == []
    assert await site.shows("a.example") == fingerprint(issued("a.example", 3))


async def test_a_body_that_comes_late_is_of_the_value_of_now(site: Site) -> None:
    site.configure(a=BY_ACME)
    site.acme.topic.issued = {"a": issued("a.example")}
    version = site.acme.topic.publish()
    site.acme.tells(has_bodies=False)
    site.context.blobs_came(site.acme.context.blobs)
    assert site.taken == [version]
    await ready(site)
    assert await site.shows("a.example") == fingerprint(issued("a.example"))


async def test_bodies_of_what_is_over_are_not_kept() -> None:
    context = FakeContext("accept", 9)
    taken: list[int] = []

    def take(value: CertificatesValue) -> bool:
        taken.append(value.version)
        return True

    over = CertificatesFollower(context, take)
    over.start()
    acme = Publisher(context)
    for number in range(5):
        acme.publishes(a=issued("a.example", number))
        context.blobs.clear()
    assert len(over._bodies) == 1 and len(taken) == 5
    asked = len(context.fetching)
    acme.tells(has_bodies=False)
    assert len(context.fetching) == asked and len(taken) == 6, "what is here is not asked for again"


async def test_one_pair_that_is_of_no_use_costs_no_other_its_renewal(site: Site) -> None:
    site.acme.publishes(a=issued("a.example"), b=issued("b.example"))
    site.configure(a=BY_ACME, b=Certificate(domains=("b.example",), acme=DIRECTORY))
    await ready(site)
    for number in (2, 3):
        crossed = Issued(issued("a.example", number).cert, issued("b.example").key)
        version = site.acme.publishes(a=crossed, b=issued("b.example", number))
        assert await site.shows("a.example") == fingerprint(issued("a.example")), "the one before, not none"
        assert await site.shows("b.example") == fingerprint(issued("b.example", number))
        assert site.taken[-1] == version, "or no proof would ever be shown by all"
    assert [fields["certificate"] for fields in site.errors()] == ["a", "a"]
    assert "KEY" not in str(site.errors()[0]["reason"]).replace("KEY_VALUES_MISMATCH", "")
    site.acme.publishes(a=issued("a.example", 4), b=issued("b.example"))
    assert await site.shows("a.example") == fingerprint(issued("a.example", 4))


async def test_what_cannot_be_used_at_all_is_not_said_to_be_taken(site: Site) -> None:
    version = site.acme.publishes(a=issued("a.example"))
    site.configure(a=BY_ACME)
    await ready(site)
    site.acme.topic.challenges["a.example"] = Issued(issued("a.example").cert, issued("b.example").key)
    site.acme.publishes(a=issued("a.example", 2))
    assert site.taken == [version] and len(site.errors()) == 1
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    site.acme.topic.challenges.clear()
    site.acme.publishes(a=issued("a.example", 2))
    assert await site.shows("a.example") == fingerprint(issued("a.example", 2))


async def test_what_cannot_be_used_keeps_no_process_from_its_start(site: Site) -> None:
    """One that starts again while it stands in the topic would otherwise not come."""
    site.acme.topic.challenges["a.example"] = Issued(issued("a.example").cert, issued("b.example").key)
    site.acme.publishes(a=Issued(issued("a.example").cert, issued("b.example").key), b=issued("b.example"))
    site.configure(a=BY_ACME, b=Certificate(domains=("b.example",), acme=DIRECTORY))
    await ready(site)
    assert await site.shows("a.example") == fingerprint(site.own), "there is none that was used before"
    assert await site.shows("b.example") == fingerprint(issued("b.example"))
    site.acme.topic.challenges.clear()
    version = site.acme.publishes(a=issued("a.example"), b=issued("b.example"))
    assert await site.shows("a.example") == fingerprint(issued("a.example")) and site.taken == [version]


async def test_a_new_configuration_goes_by_what_was_published(site: Site) -> None:
    site.acme.publishes(a=issued("a.example"))
    site.configure()
    await ready(site)
    assert await site.shows("a.example") == fingerprint(site.own)
    site.configure(a=BY_ACME)
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    site.acme.publishes(a=issued("a.example", 2))
    site.configure(a=BY_ACME, b=Certificate(domains=("b.example",), acme=DIRECTORY))
    assert await site.shows("a.example") == fingerprint(issued("a.example", 2))
    assert await site.shows("b.example") == fingerprint(site.own), "there is none yet"


async def test_what_the_acme_stage_names_no_more_is_shown_until_it_names_another(site: Site) -> None:
    site.acme.publishes(a=issued("a.example"), b=issued("b.example"))
    site.configure(a=BY_ACME, b=Certificate(domains=("b.example",), acme=DIRECTORY))
    await ready(site)
    site.acme.begins()
    for number in (2, 3):  # it has come anew, and could not read all of its store
        site.acme.publishes(a=issued("a.example", number))
        assert await site.shows("a.example") == fingerprint(issued("a.example", number))
        assert await site.shows("b.example") == fingerprint(issued("b.example"))
    site.acme.publishes(b=issued("b.example", 2))
    assert await site.shows("b.example") == fingerprint(issued("b.example", 2))


async def test_a_section_that_is_renamed_is_served_at_once_for_all_of_its_names_or_not_by_that(site: Site) -> None:
    site.acme.publishes(a=issued("a.example"), b=issued("b.example"))
    site.configure(a=BY_ACME)
    await ready(site)
    site.configure(renamed=BY_ACME)
    assert await site.shows("a.example") == fingerprint(issued("a.example"))
    site.configure(more=Certificate(domains=("a.example", "more.example"), acme=DIRECTORY))
    assert await site.shows("a.example") == fingerprint(site.own)
    site.configure(a=Certificate(domains=("other.example",), acme=DIRECTORY), again=BY_ACME)
    assert await site.shows("other.example") == fingerprint(issued("a.example")), "it is what the acme stage says for that section"
    site.configure(ended=Certificate(domains=("ended.example",), acme=DIRECTORY))
    site.acme.publishes(before=Issued(*self_signed("ended.example", days=-1)))
    assert await site.shows("ended.example") == fingerprint(site.own)


# -- proofs over TLS --------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["a.example", "192.0.2.7", "2001:db8::7", "xn--bcher-kva.example"])
async def test_an_authority_is_shown_the_proof_and_nothing_else_ever(site: Site, domain: str) -> None:
    site.configure(a=BY_ACME)
    site.acme.publishes(a=issued("a.example"))
    await ready(site)
    proof = proof_for(Challenge("tls-alpn-01", domain, "token", "token.thumbprint"))
    site.acme.topic.challenges[asked_name(domain)] = proof
    site.acme.publishes(a=issued("a.example"))
    assert await site.shows(asked_name(domain), "acme-tls/1") == fingerprint(proof)
    assert (site.protocol, site.after) == ("acme-tls/1", b""), "that is all it came for (RFC 8737 section 3)"
    assert await site.shows(asked_name(domain).upper(), "acme-tls/1") == fingerprint(proof)
    assert site.context.sent and not [one for _, one in site.context.sent if type(one).__name__ == "Request"]


async def test_a_proof_that_was_there_before_this_process_is_shown(site: Site) -> None:
    proof = proof_for(Challenge("tls-alpn-01", "a.example", "token", "token.thumbprint"))
    site.acme.topic.challenges["a.example"] = proof
    site.acme.publishes()
    site.configure(a=BY_ACME)
    await ready(site)
    assert await site.shows("a.example", "acme-tls/1") == fingerprint(proof)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("acme-tls/1", "http/1.1"), ("h2", "acme-tls/1")])
async def test_whoever_offers_anything_else_is_a_client(site: Site, protocols: tuple[str, ...]) -> None:
    site.configure(a=BY_ACME)
    site.acme.topic.challenges["a.example"] = proof_for(Challenge("tls-alpn-01", "a.example", "token", "token.thumbprint"))
    site.acme.publishes(a=issued("a.example"))
    await ready(site)
    assert await site.shows("a.example", *protocols) == fingerprint(issued("a.example"))
    assert site.protocol in (None, "http/1.1")


async def test_there_is_no_handshake_for_an_authority_without_a_proof(site: Site) -> None:
    site.configure(a=BY_ACME)
    site.acme.topic.challenges["a.example"] = proof_for(Challenge("tls-alpn-01", "a.example", "token", "token.thumbprint"))
    site.acme.publishes(a=issued("a.example"))
    await ready(site)
    with pytest.raises((ssl.SSLError, OSError)):
        await site.shows("other.example", "acme-tls/1")
    site.acme.topic.challenges.clear()
    site.acme.publishes(a=issued("a.example"))
    with pytest.raises((ssl.SSLError, OSError)):
        await site.shows("a.example", "acme-tls/1")
