"""A shelf in etcd: beside the configuration and never in it, and what is seen of an etcd that is away, restarted or guarded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, Reading
from pingap.config.storage.etcd.gateway import EtcdUnreachable, EtcdUnsure, Gateway
from pingap.config.storage.etcd.storage import EtcdStorage
from pingap.stages.acme.store.base import StoreError
from pingap.stages.acme.store.etcd import EtcdShelf
from pingap.stages.acme.store.places import shelf_of
from tests.kit.etcd import Etcd
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """For a test that stops it, or gives it users."""
    with Etcd(tmp_path) as server:
        yield server


def all_keys(server: Etcd) -> list[str]:
    return server.ctl("get", "--from-key", "--keys-only", "").split()


@pytest.mark.parametrize(
    ("prefix", "ours"),
    [("/", "-acme/"), ("/pingap", "/pingap-acme/"), ("/slash/", "/slash-acme/"), ("/a/b c", "/a/b c-acme/"), ("/ü", "/ü-acme/")],
)
def test_it_is_beside_the_configuration_and_never_in_it(tmp_path: Path, prefix: str, ours: str) -> None:
    with Etcd(tmp_path) as server:
        source = f"etcd://{server.endpoint}{prefix}?enable_history=true"
        storage = EtcdStorage(source)
        try:
            version = storage.replace((Document("basic.toml", "a = 1\n"), Document("servers/x.toml", "b = 1\n")), (), Reading(()).version)
            shelf = shelf_of(source, str(tmp_path / "unused"))
            storage.read()
            before = storage.fingerprint()
            shelf.put("certificates", "a", b"key")
            shelf.put("challenges", "b", b"1", 100)
            lease = shelf.lease("issuing", 10)
            assert lease is not None
            assert [one.name for one in storage.read().documents] == ["basic.toml", "servers/x.toml"]
            assert storage.read().version == version and storage.fingerprint() == before
            version = storage.replace((Document("basic.toml", "a = 2\n"),), (), version)
            assert [one.text for one in storage.history("basic.toml") or ()] == ["a = 1\n"]
            seen = shelf.version()
            storage.replace((), ("servers/x.toml",), version)
            assert shelf.version() == seen
            assert shelf.names("certificates") == ["a"] and shelf.get("certificates", "a") == b"key"
            new = [key for key in server.ctl("get", "--from-key", "--keys-only", "").splitlines() if key.startswith(ours)]
            assert sorted(new) == sorted([f"{ours}certificates/a", f"{ours}challenges/b", f"{ours}~leases/issuing"])
            lease.release()
        finally:
            storage.watcher.stop(5)
        assert not (tmp_path / "unused").exists()


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match="no prefix"):
        shelf_of("etcd://127.0.0.1:2379", str(tmp_path))


def test_keys_that_others_put_there_are_no_names(etcd: Etcd) -> None:
    shelf = EtcdShelf(f"etcd://{etcd.endpoint}/foreign")
    etcd.put("/foreign-acme/certificates/Not%Ours", "1")
    etcd.put("/foreign-acme/certificates/", "1")
    etcd.put(b"/foreign-acme/certificates/\xff".decode("latin-1"), "1")
    shelf.put("certificates", "a", b"1")
    assert shelf.names("certificates") == ["a"]


def test_a_lease_that_was_taken_away_is_seen(etcd: Etcd) -> None:
    shelf = EtcdShelf(f"etcd://{etcd.endpoint}/taken")
    lease = shelf.lease("issuing", 60)
    assert lease is not None and lease.renew()
    etcd.delete("/taken-acme/~leases/issuing")
    assert not lease.renew() and not lease.renew()
    other = shelf.lease("issuing", 60)
    assert other is not None
    lease.release()
    assert other.renew()
    other.release()
    third = shelf.lease("issuing", 60)
    assert third is not None
    (number,) = (word for word in etcd.ctl("get", "/taken-acme/~leases/issuing", "-w", "fields").splitlines() if word.startswith('"Lease"'))
    etcd.ctl("lease", "revoke", f"{int(number.split()[-1]):x}")
    assert not third.renew()


@pytest.mark.parametrize(("is_done", "is_reached"), [(True, True), (False, True), (True, False)])
def test_an_answer_that_was_lost_makes_nobody_a_holder(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch, is_done: bool, is_reached: bool
) -> None:
    call = Gateway.call

    def lost(gateway: Gateway, method: str, body: dict[str, Any], is_repeatable: bool = True) -> dict[str, Any]:
        if method == "kv/txn":
            if is_done:
                call(gateway, method, body, is_repeatable)
            raise EtcdUnsure("127.0.0.1: the connection was closed")
        if method == "lease/keepalive" and not is_reached:
            raise EtcdUnreachable("127.0.0.1: connection refused")
        return call(gateway, method, body, is_repeatable)

    source = f"etcd://{etcd.endpoint}/unsure-{is_done}-{is_reached}"
    with monkeypatch.context() as patch:
        patch.setattr(Gateway, "call", lost)
        if is_reached:
            lease = EtcdShelf(source).lease("issuing", 60)
            assert (lease is not None) == is_done
        else:
            with pytest.raises(StoreError, match="no etcd answers"):
                EtcdShelf(source).lease("issuing", 60)
    if is_done and is_reached:
        assert lease is not None and lease.renew() and EtcdShelf(source).lease("issuing", 60) is None
        lease.release()
    again = EtcdShelf(source).lease("issuing", 60)  # what was in doubt was given back
    assert again is not None
    again.release()


def test_who_did_not_get_a_lease_leaves_nothing_behind(own_etcd: Etcd) -> None:
    shelf = EtcdShelf(f"etcd://{own_etcd.endpoint}/p")
    lease = shelf.lease("issuing", 60)
    for _ in range(3):
        assert shelf.lease("issuing", 60) is None
    assert "found 1 leases" in own_etcd.ctl("lease", "list")
    assert lease is not None
    lease.release()
    assert "found 0 leases" in own_etcd.ctl("lease", "list") and own_etcd.keys("/p-acme/") == []


def test_an_etcd_that_restarts_has_all_of_it(own_etcd: Etcd) -> None:
    shelf = EtcdShelf(f"etcd://{own_etcd.endpoint}/p?timeout=1s")
    shelf.put("certificates", "a", b"1")
    lease = shelf.lease("issuing", 60)
    assert lease is not None
    version = shelf.version()
    own_etcd.stop()
    began = time.monotonic()
    for work in (lambda: shelf.get("certificates", "a"), shelf.version, lambda: shelf.lease("x", 5)):
        with pytest.raises(StoreError, match=rf"^/p-acme/ in etcd://{own_etcd.endpoint}/p.* cannot be .*: no etcd answers: .*refused"):
            work()
    assert lease.renew()  # nobody else can have it before its time is over
    assert time.monotonic() - began < 10
    own_etcd.start()
    assert shelf.get("certificates", "a") == b"1" and shelf.version() == version
    assert lease.renew() and shelf.lease("issuing", 60) is None
    lease.release()
    shelf.put("certificates", "a", b"2")
    assert shelf.get("certificates", "a") == b"2"


def test_a_lease_that_cannot_be_renewed_is_lost_when_its_time_is_over(own_etcd: Etcd) -> None:
    lease = EtcdShelf(f"etcd://{own_etcd.endpoint}/p?timeout=1s").lease("issuing", 2)
    assert lease is not None
    own_etcd.stop()
    until(lambda: not lease.renew(), 15, "it is lost", every=0.1)
    own_etcd.start()
    assert not lease.renew()
    lease.release()


def test_one_that_does_not_answer_is_waited_for_no_longer_than_the_address_says() -> None:
    shelf = EtcdShelf(f"etcd://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/p?timeout=500ms&connect_timeout=200ms")
    began = time.monotonic()
    with pytest.raises(StoreError, match="no etcd answers"):
        shelf.put("certificates", "a", b"1", 10)
    assert time.monotonic() - began < 5


def test_who_may_not_is_told_what_to_grant(own_etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_WORD", "s3cr3t&x")
    own_etcd.ctl("role", "add", "us")
    own_etcd.ctl("role", "grant-permission", "--prefix=true", "us", "readwrite", "/p/")
    for user, role in (("us", "us"), ("root", "root")):
        own_etcd.ctl("user", "add", f"{user}:s3cr3t&x")
        own_etcd.ctl("user", "grant-role", user, role)
    own_etcd.ctl("auth", "enable")
    shelf = EtcdShelf(f"etcd://{own_etcd.endpoint}/p?user=us&password=$ENV:ETCD_WORD")
    with pytest.raises(StoreError, match=r"us must be allowed to read and write keys that begin with /p-acme/ \(etcdctl role") as refused:
        shelf.put("certificates", "a", b"1")
    assert "s3cr3t" not in str(refused.value)
    own_etcd.ctl("--user", "root:s3cr3t&x", "role", "grant-permission", "--prefix=true", "us", "readwrite", "/p-acme/")
    shelf.put("certificates", "a", b"1", 100)
    lease = shelf.lease("issuing", 60)
    assert lease is not None and lease.renew()
    assert shelf.get("certificates", "a") == b"1"
    lease.release()
    assert shelf.lease("issuing", 60) is not None
    with pytest.raises(StoreError, match=r"add \?user=NAME"):
        EtcdShelf(f"etcd://{own_etcd.endpoint}/p").version()


def test_a_value_that_is_larger_than_etcd_takes_is_told(etcd: Etcd) -> None:
    with pytest.raises(StoreError, match="more than etcd takes"):
        EtcdShelf(f"etcd://{etcd.endpoint}/large").put("certificates", "a", bytes(3 << 20))
