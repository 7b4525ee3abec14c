"""The storage with a real etcd: reading, writing with a precondition, history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pingap.config import edit
from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, NothingThere, NotWritten, Outdated, Reading, reading_of
from pingap.config.storage.etcd import storage as module
from pingap.config.storage.etcd import transactions
from pingap.config.storage.etcd.gateway import EtcdUnsure, Gateway
from pingap.config.storage.etcd.storage import EtcdStorage
from tests.etcd.conftest import Open
from tests.kit.config import load
from tests.kit.etcd import Etcd, coded

pytestmark = pytest.mark.processes


def texts(storage: EtcdStorage) -> dict[str, str]:
    return {document.name: document.text for document in reading_of(storage).documents}


def put(storage: EtcdStorage, **documents: str) -> str:
    """Writes documents of type TOML against what is there."""
    written = [Document(f"{name.replace('__', '/')}.toml", text) for name, text in documents.items()]
    return storage.replace(written, (), reading_of(storage).version)


# -- reading ----------------------------------------------------------------------


def test_what_the_reference_has_written_is_read_as_it_is(etcd: Etcd, prefix: str) -> None:
    etcd.put(f"{prefix}/basic.toml", '[basic]\nname = "ours"\n')
    etcd.put(f"{prefix}/servers/web.toml", '[servers.web]\naddr = "127.0.0.1:1"\nlocations = ["all"]\n')
    etcd.put(f"{prefix}/locations/all.toml", '[locations.all]\nupstream = "api"\n')
    etcd.put(f"{prefix}/upstreams/api.toml", '[upstreams.api]\naddrs = ["127.0.0.1:2"]\n')
    etcd.put(f"{prefix}/plugins.toml", "")
    etcd.put(f"{prefix}-history/servers/web.toml/3-1700000000", "of long ago")
    etcd.put(f"{prefix}2/basic.toml", "of another")
    snapshot = load(f"etcd://{etcd.endpoint}{prefix}")
    assert snapshot.basic.name == "ours"
    assert list(snapshot.servers) == ["web"]
    assert snapshot.upstreams["api"].addrs[0].port == 2


def test_items_that_are_written_are_keys_as_the_reference_has_them(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    version = reading_of(storage).version
    for section, name, item in (
        ("basic", "", {"name": "x"}),
        ("servers", "web", {"addr": "127.0.0.1:1"}),
        ("storages", "s", {"value": "v"}),
    ):
        etcd_before = reading_of(storage).version
        assert etcd_before == version
        version = _first(storage, section, name, item, version)
    assert etcd.keys(f"{prefix}/") == [f"{prefix}/basic.toml", f"{prefix}/servers/web.toml", f"{prefix}/storages/s.toml"]
    assert etcd.get(f"{prefix}/servers/web.toml") == '[servers.web]\naddr = "127.0.0.1:1"\n'


def _first(storage: EtcdStorage, section: str, name: str, item: dict[str, Any], version: str) -> str:
    try:
        return edit.put(storage, section, name, item, version)
    except NothingThere:  # of an empty storage nothing can be edited: a document is written
        return storage.write(Document(storage.home_of(section, name), f'[{section}]\nname = "x"\n'), version)


def test_a_prefix_without_keys_says_so_and_can_be_written(storage: EtcdStorage, prefix: str) -> None:
    with pytest.raises(NothingThere, match=f"there is no key that begins with {prefix}/"):
        storage.read()
    version = storage.write(Document("basic.toml", "[basic]\n"), Reading(()).version)
    assert storage.read().version == version


def test_the_version_is_that_of_the_texts_wherever_they_are(storage: EtcdStorage) -> None:
    documents = (Document("basic.toml", "[basic]\n"), Document("servers/a.toml", "x"))
    storage.replace(documents, (), Reading(()).version)
    assert storage.read() == Reading(documents)
    assert storage.read().version == Reading(documents).version


def test_odd_names_and_texts_come_back_as_they_were(storage: EtcdStorage) -> None:
    names = ['a "b" c', "ü€😀", "100%", "*", ".hidden", "a.b.c", "-", "new\nline", "'"]
    documents = tuple(
        sorted((Document(storage.home_of("locations", name), f"# {name!r}\n\u2028 ä") for name in names), key=lambda d: d.name)
    )
    storage.replace(documents, (), Reading(()).version)
    assert sorted(storage.read().documents, key=lambda d: d.name) == list(documents)


def test_what_is_not_utf8_is_a_problem_with_its_key(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    etcd.put(f"{prefix}/a.toml", b"x = '\xff'")
    etcd.put(f"{prefix}/b.toml", "\ufeffx = 1")
    etcd.call("kv/put", {"key": coded(f"{prefix}/".encode() + b"\xfe"), "value": ""})
    with pytest.raises(ConfigRefused) as caught:
        storage.read()
    assert [str(problem) for problem in caught.value.problems] == [
        f"{prefix}/a.toml: its value is not UTF-8 at byte 5",
        f"{prefix}/\\xfe: its name is not UTF-8 at byte {len(prefix) + 1}",
    ]


def test_a_text_that_does_not_parse_is_told_with_its_place(etcd: Etcd, prefix: str) -> None:
    etcd.put(f"{prefix}/servers/web.toml", "[servers.web\n")
    with pytest.raises(ConfigRefused, match=r"servers/web\.toml:1:13"):
        load(f"etcd://{etcd.endpoint}{prefix}")


def test_all_pages_are_of_one_revision(etcd: Etcd, prefix: str, storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes between any two pages."""
    monkeypatch.setattr(module, "PAGE", 3)
    put(storage, **{f"a{number}": "old" for number in range(10)})
    call, calls = Gateway.call, 0

    def disturbed(self: Gateway, method: str, body: dict[str, Any], is_repeatable: bool = True) -> dict[str, Any]:
        nonlocal calls
        if calls and method == "kv/range":
            etcd.put(f"{prefix}/a9.toml", "new")
            etcd.put(f"{prefix}/b{calls}.toml", "new")
        calls += 1
        return call(self, method, body, is_repeatable)

    monkeypatch.setattr(Gateway, "call", disturbed)
    assert texts(storage) == {f"a{number}.toml": "old" for number in range(10)}
    assert calls == 4


def test_a_reading_whose_revision_is_compacted_meanwhile_begins_anew(
    etcd: Etcd, prefix: str, storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    put(storage, **{f"a{number}": "old" for number in range(10)})
    call, calls = Gateway.call, 0

    def disturbed(self: Gateway, method: str, body: dict[str, Any], is_repeatable: bool = True) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            revision = etcd.put(f"{prefix}/a9.toml", "new")
            etcd.call("kv/compaction", {"revision": str(revision)})
        return call(self, method, body, is_repeatable)

    monkeypatch.setattr(Gateway, "call", disturbed)
    assert texts(storage)["a9.toml"] == "new"


# -- writing ----------------------------------------------------------------------


def test_who_has_not_seen_the_newest_cannot_write(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    old = put(storage, a="1", b="1")
    etcd.put(f"{prefix}/b.toml", "2")
    with pytest.raises(Outdated):
        storage.write(Document("a.toml", "3"), old)
    assert texts(storage) == {"a.toml": "1", "b.toml": "2"}


CHANGES: dict[str, Callable[[Etcd, str], object]] = {
    "the same document is changed": lambda etcd, prefix: etcd.put(f"{prefix}/a.toml", "theirs"),
    "another is changed": lambda etcd, prefix: etcd.put(f"{prefix}/b.toml", "theirs"),
    "one is added": lambda etcd, prefix: etcd.put(f"{prefix}/c.toml", "theirs"),
    "the same is removed": lambda etcd, prefix: etcd.delete(f"{prefix}/a.toml"),
    "another is removed": lambda etcd, prefix: etcd.delete(f"{prefix}/b.toml"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_others_do_between_our_look_and_our_write_is_not_lost(
    etcd: Etcd, prefix: str, storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch, change: Callable[[Etcd, str], object]
) -> None:
    version = put(storage, a="1", b="1")
    transaction = transactions.transaction

    def late(*arguments: Any) -> dict[str, Any]:
        change(etcd, prefix)
        return transaction(*arguments)

    monkeypatch.setattr(transactions, "transaction", late)
    with pytest.raises(Outdated):
        storage.write(Document("a.toml", "ours"), version)
    assert "ours" not in texts(storage).values()


def test_a_removal_by_one_of_us_is_seen_by_another_however_many_documents_there_are(
    etcd: Etcd, prefix: str, storage: EtcdStorage, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a transaction has room to ask for one by one."""
    version = put(storage, **{f"a{number:03}": "1" for number in range(200)})
    other = opened(f"etcd://{etcd.endpoint}{prefix}")
    transaction, is_first = transactions.transaction, True

    def late(*arguments: Any) -> dict[str, Any]:
        nonlocal is_first
        if is_first:
            is_first = False
            other.replace((), ("a199.toml",), version)
        return transaction(*arguments)

    monkeypatch.setattr(transactions, "transaction", late)
    with pytest.raises(Outdated):
        storage.write(Document("a000.toml", "ours"), version)
    assert texts(storage)["a000.toml"] == "1"
    assert len(texts(storage)) == 199


def test_no_update_is_lost_when_two_write_at_once(etcd: Etcd, prefix: str, opened: Open) -> None:
    """Each adds one to a number, fifty times, and the texts are their sum."""
    opened(f"etcd://{etcd.endpoint}{prefix}").write(Document("n.toml", "0"), Reading(()).version)
    refused = []

    def count(storage: EtcdStorage) -> None:
        done = 0
        while done < 50:
            reading = storage.read()
            try:
                storage.write(Document("n.toml", str(int(reading.documents[0].text) + 1)), reading.version)
                done += 1
            except Outdated:
                refused.append(1)

    writers = [threading.Thread(target=count, args=(opened(f"etcd://{etcd.endpoint}{prefix}"),)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert etcd.get(f"{prefix}/n.toml") == "100"
    assert refused, "they never met"


def test_many_documents_are_one_transaction(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    version = put(storage, **{f"a{number}": "1" for number in range(1000)})
    revisions = {kv["mod_revision"] for kv in etcd.call("kv/range", transactions.range_of(f"{prefix}/"))["kvs"]}
    assert len(revisions) == 1
    written = [Document(f"b{number}.toml", "1") for number in range(300)]
    version = storage.replace(written, [f"a{number}.toml" for number in range(999)], version)
    assert len(texts(storage)) == 301
    assert storage.read().version == version


def test_what_is_too_large_for_one_request_goes_in_several_in_an_order_that_leaves_no_reference_open(
    storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    call = Gateway.call

    def watched(self: Gateway, method: str, body: dict[str, Any], is_repeatable: bool = True) -> dict[str, Any]:
        answer = call(self, method, body, is_repeatable)
        if method == "kv/txn":
            seen.append(sorted({name.partition("/")[0] for name in texts(storage)}))
        return answer

    monkeypatch.setattr(Gateway, "call", watched)
    big = "# " + "x" * 700_000
    version = put(storage, servers__a=big, locations__a=big, upstreams__a=big)
    assert seen == [["upstreams"], ["locations", "upstreams"], ["locations", "servers", "upstreams"]]
    assert storage.read().version == version


def test_one_document_that_etcd_does_not_take_is_refused_with_the_reason(storage: EtcdStorage) -> None:
    with pytest.raises(NotWritten, match="max-request-bytes"):
        put(storage, a="x" * 1_700_000)


def test_the_same_text_once_more_is_no_write(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    version = put(storage, a="1")
    before = etcd.call("kv/range", transactions.range_of(f"{prefix}/"))
    assert storage.write(Document("a.toml", "1"), version) == version
    assert etcd.call("kv/range", transactions.range_of(f"{prefix}/"))["kvs"] == before["kvs"]


def test_what_is_not_there_cannot_be_removed(storage: EtcdStorage) -> None:
    version = put(storage, a="1")
    with pytest.raises(NotWritten, match=r"b\.toml is not there"):
        storage.replace((), ("b.toml",), version)


def test_the_last_document_can_be_removed(storage: EtcdStorage) -> None:
    assert storage.replace((), ("a.toml",), put(storage, a="1")) == Reading(()).version
    assert texts(storage) == {}


@pytest.mark.parametrize("is_lost_before", [True, False])
def test_an_answer_that_is_lost_is_looked_for(storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch, is_lost_before: bool) -> None:
    version = put(storage, a="1")
    call = Gateway._somewhere

    def lossy(self: Gateway, method: str, *arguments: Any) -> Any:
        if method == "kv/txn":
            if not is_lost_before:
                call(self, method, *arguments)
            raise EtcdUnsure("127.0.0.1:1: no answer in time")
        return call(self, method, *arguments)

    monkeypatch.setattr(Gateway, "_somewhere", lossy)
    if is_lost_before:
        with pytest.raises(NotWritten, match="did not say whether"):
            storage.write(Document("a.toml", "2"), version)
    else:
        assert storage.write(Document("a.toml", "2"), version) == storage.read().version


# -- history ----------------------------------------------------------------------


def test_earlier_texts_are_kept_where_the_reference_keeps_them(etcd: Etcd, prefix: str, opened: Open) -> None:
    storage = opened(f"etcd://{etcd.endpoint}{prefix}?enable_history=true")
    version = put(storage, servers__web="0")
    revision = int(etcd.call("kv/range", transactions.range_of(f"{prefix}/"))["kvs"][0]["mod_revision"])
    for number in range(1, 13):
        version = storage.write(Document("servers/web.toml", str(number)), version)
    found = storage.history("servers/web.toml")
    assert found is not None
    assert [earlier.text for earlier in found] == [str(number) for number in range(11, 1, -1)]
    kept = etcd.keys(f"{prefix}-history/servers/web.toml/")
    assert len(kept) == 10, "no more than are told of"
    assert f"{prefix}-history/servers/web.toml/{revision + 11}-{found[0].until}" in kept
    storage.replace((), ("servers/web.toml",), version)
    after = storage.history("servers/web.toml")
    assert after is not None
    assert after[0].text == "12"


def test_what_the_reference_has_kept_is_listed(etcd: Etcd, prefix: str, opened: Open) -> None:
    storage = opened(f"etcd://{etcd.endpoint}{prefix}?enable_history=true")
    etcd.put(f"{prefix}-history/basic.toml/3-1700000000", "first")
    etcd.put(f"{prefix}-history/basic.toml/20-1700000005", "second")
    etcd.put(f"{prefix}-history/basic.toml/x", "no such")
    found = storage.history("basic.toml")
    assert found is not None
    assert [(earlier.until, earlier.text) for earlier in found] == [(1700000005, "second"), (1700000000, "first")]


def test_without_being_asked_for_it_keeps_none(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    storage.write(Document("a.toml", "2"), put(storage, a="1"))
    assert storage.history("a.toml") is None
    assert etcd.keys(f"{prefix}-history") == []
