"""/.well-known/acme-challenge/: proofs and nothing else, on every listener, in whatever way it is asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pingap.stages.acme.store.naming import name_of
from tests.e2e.acme_site import AcmeTown, Talker, Way, leaf_at
from tests.e2e.certificate import section
from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.kit.peers import needs
from tests.kit.waiting import until

PREFIX = "/.well-known/acme-challenge/"


class Waiting(NamedTuple):
    """A site that the authority has not looked at yet, so that its proof stands."""

    town: AcmeTown
    proxy: Pingap
    token: str
    origin: Origin

    def ask(self, target: str, *, method: str = "GET", tls: bool = False, body: bytes | None = None) -> tuple[int, bytes]:
        port = self.town.pebble.tls_port if tls else self.town.pebble.http_port
        with Client(port, tls=tls) as client:
            answer = client.get(target, method=method, body=body)
            return answer.status, answer.body


@pytest.fixture(scope="module", params=["off", "match", "forward"])
def waiting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_origin: Origin) -> Iterator[Waiting]:
    with AcmeTown(tmp_path_factory.mktemp("town")) as town, Way(town.pebble, town.root) as way:
        way.hold("challenge")
        ours = town.certificate("site", ["waits.test"], directory=way.directory) + section("other", "test.local")
        server = f'normalize_path = "{request.param}"'
        with town.site(shared_origin.port, ours, server=server) as proxy:
            assert way.held.wait(20)
            kept = proxy.dir / "acme" / "challenges"
            token = until(lambda: next((name for file in kept.iterdir() if (name := name_of(file.name))), ""), 5, "a proof stands")
            yield Waiting(town, proxy, token, shared_origin)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_proof_is_there_on_every_listener(waiting: Waiting, tls: bool) -> None:
    status, body = waiting.ask(PREFIX + waiting.token, tls=tls)
    assert (status, body.partition(b".")[0].decode()) == (200, waiting.token)
    assert waiting.ask(PREFIX + waiting.token, tls=tls, method="HEAD") == (200, b"")
    assert waiting.ask(f"{PREFIX}{waiting.token}?x=1", tls=tls)[0] == 200


def test_the_proof_is_there_over_http2(waiting: Waiting) -> None:
    needs("curl")
    for token, status in ((waiting.token, "200"), ("x" + waiting.token, "404")):
        argv = ["curl", "-sk", "--http2", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
        argv += ["--resolve", f"test.local:{waiting.town.pebble.tls_port}:127.0.0.1"]
        argv += [f"https://test.local:{waiting.town.pebble.tls_port}{PREFIX}{token}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout == f"2 {status}", done.stderr


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nothing_else_is_ever_served_there(waiting: Waiting, tls: bool) -> None:
    waiting.origin.requests.clear()
    token = waiting.token
    encoded = "".join(f"%{ord(letter):02x}" for letter in token[:3]) + token[3:]
    for rest in (
        *("", "/", "other", "A" * 43, token[:-1], token + "x", token + "/", f"{token}/x", f"x/{token}", f"./{token}"),
        *("../admin", "..%2fadmin", "%2e%2e/admin", f"x/../{token}", "..", ".", "a.txt", "certificates", "site.key"),
        *(f"{token}%00", f"{token}%20", f"%00{token}", "%", token.swapcase()),
    ):
        status, body = waiting.ask(PREFIX + rest, tls=tls)
        assert status == 404 and token.encode() not in body, rest
    # What is the same by RFC 3986 may get the proof, and never anything else.
    assert waiting.ask(PREFIX + encoded, tls=tls)[0] in (200, 404)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert waiting.ask(PREFIX + token, method=method, tls=tls, body=b"x" if method in ("POST", "PUT") else None)[0] == 404
    assert not waiting.origin.requests


def test_another_spelling_of_the_path_is_no_way_around(waiting: Waiting) -> None:
    waiting.origin.requests.clear()
    for path in ("/.well-known/acme%2dchallenge/evil", "/x/../.well-known/acme-challenge/evil", "/%2ewell-known/acme-challenge/evil"):
        waiting.ask(path)
    assert not [one for one in waiting.origin.requests if one.path.startswith(PREFIX)]


def test_all_else_goes_to_the_backend_meanwhile(waiting: Waiting) -> None:
    for path in ("/", "/.well-known/security.txt", "/.well-known/acme-challenge", "/.well-known/acme-challenges/x"):
        assert waiting.ask(path)[0] == 200
        assert waiting.ask(path, tls=True)[0] == 200


def test_until_there_is_a_certificate_its_name_alone_is_refused(waiting: Waiting) -> None:
    port = waiting.town.pebble.tls_port
    other = leaf_at(port, "test.local")
    assert other is not None
    talker = Talker(port, "test.local")
    for _ in range(5):
        assert leaf_at(port, "waits.test") in (None, other)
    assert talker.stop() > 0


def test_without_a_certificate_by_acme_the_path_is_the_backend_s(shared_origin: Origin) -> None:
    shared_origin.requests.clear()
    with Pingap(site([shared_origin.port]), "colocated") as proxy:
        assert proxy.get(PREFIX + "x").status == 200
        assert [one.path for one in shared_origin.requests] == [PREFIX + "x"]
