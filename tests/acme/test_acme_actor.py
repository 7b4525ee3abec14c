"""The acme actor with a store of files and an authority that does as the test says: nothing holds up its loop, nothing is left open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import msgpack
import pytest
from msgspec.structs import replace

from pingap.bus.members import Members
from pingap.config.model import Basic, Certificate, Snapshot
from pingap.stages.acme import actor, challenged, reading
from pingap.stages.acme.actor import AcmeActor
from pingap.stages.acme.aside import AsideWork, to_loop
from pingap.stages.acme.authority import authority
from pingap.stages.acme.held import held_of
from pingap.stages.acme.http_proofs import HttpProofs, token_in
from pingap.stages.acme.presenter import Challenge, NotPresented, Presenter
from pingap.stages.acme.reading import ShelfReading
from pingap.stages.acme.records import TryRecord, packed_record, read_record
from pingap.stages.acme.store.base import Shelf, StoreError, ValueUnreadable
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.tls_proofs import TlsProofs
from pingap.stages.acme.tries import Tries
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.words import Event, ShelfAway, ShelfRead, TryFailed, TrySucceeded, TryWasAnothers
from pingap.stages.messages import Affinity, Answered, Cancel, CertificatesTaken, Peer, Response, Routed
from tests.acme.playbook import want
from tests.acme.responders import OcspAuthority
from tests.e2e.certificate import self_signed
from tests.kit.context import FakeContext
from tests.kit.etcd import Etcd
from tests.kit.generations import say_config
from tests.kit.waiting import eventually, free_port, until

PREFIX = b"/.well-known/acme-challenge/"
SID = (9 << 32) + 1
PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 80, "http", 1)
# fmt: off
ASKED = Routed(
    SID, 1, Affinity(2, 3, 4), "s", PEER, b"GET", PREFIX + b"token", 11, b"a.example", b"", 0, b"", True, 0.5, b"",
    "192.0.2.7", "", "", 0, {}, (1.0, 2.0), b"", (),
)
# fmt: on
CHALLENGE = Challenge("http-01", "a.example", "token", "token.thumbprint")

Step = Callable[[str], None]


@cache
def pair(*domains: str) -> Issued:
    return Issued(*self_signed(*domains, days=90))


def fault_of(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def fault(*_: Any) -> Any:
    raise KeyError("what nobody has thought of")


class FakeAuthority:
    """issue: what comes of a try."""

    def __init__(self) -> None:
        self.issue: Callable[[WantedCertificate, Presenter, Step], Issued] = lambda wanted, presenter, step: pair(*wanted.domains)
        self.issued: list[str] = []
        self.pause = 0.0
        self.most_at_once = 0

    def __call__(self, *_: Any) -> Any:
        outer = self

        class Made:
            def issue(self, wanted: WantedCertificate, presenter: Presenter, step: Step) -> Issued:
                outer.issued.append(wanted.name)
                return outer.issue(wanted, presenter, step)

            def settle(self, wanted: WantedCertificate) -> None:
                pass

            def renewal_window(self, wanted: WantedCertificate, chain: str) -> None:
                outer.most_at_once = max(outer.most_at_once, threading.active_count())
                sleep(outer.pause)  # as long as an authority takes to answer

        return Made()


class Run:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.context = FakeContext("acme", 5)
        self.context.members = Members.of(1, 9, [(2, "config", 0, "", "ready")])
        self.actor = AcmeActor(self.context)
        self.number = 0

    def configure(self, **certificates: Certificate) -> None:
        self.number += 1
        say_config(self.context, (self.number, Snapshot(basic=Basic(acme_directory=str(self.root)), certificates=certificates), {}))

    def want(self, *names: str, **more: Any) -> None:
        self.configure(**{one: Certificate(domains=(f"{one}.example",), acme="https://authority.example/", **more) for one in names})

    def said(self) -> list[str]:
        return [message for _, message, _ in self.context.logged]

    def published(self) -> set[str]:
        return set(self.context.published["certificates"][-1]["issued"])

    def asks(self, target: bytes = PREFIX + b"token", method: bytes = b"GET", sid: int = SID) -> None:
        self.actor.receivers()[Routed](replace(ASKED, target=target, method=method, sid=sid))

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        return [(one.status, bytes(one.body)) for _, one in self.context.sent if type(one) is Response]

    @property
    def answered(self) -> int:
        return sum(type(one) is Answered for _, one in self.context.sent)


@pytest.fixture
def by(monkeypatch: pytest.MonkeyPatch) -> FakeAuthority:
    fake = FakeAuthority()
    monkeypatch.setattr(authority, "Authority", fake)
    return fake


@pytest.fixture
async def run(tmp_path: Path, by: FakeAuthority) -> AsyncIterator[Run]:
    run = Run(tmp_path / "acme")
    await run.actor.start()
    yield run
    await run.actor.stop()


async def test_it_is_got_stored_handed_out_and_told_and_after_a_restart_it_is_there(run: Run, by: FakeAuthority) -> None:
    run.want("a")
    assert run.context.is_ready, "nothing waits for an authority"
    await eventually(lambda: run.published() == {"a"})
    run.context.members = Members.of(2, 9, [(9, "accept", 0, "", "ready")])
    assert "certificate was got, and is served" not in run.said(), "accept has not said that it goes by it"
    run.actor.receivers()[CertificatesTaken](CertificatesTaken(9, run.context.published["certificates"][-1]["version"]))
    await eventually(lambda: "certificate was got, and is served" in run.said())
    assert run.published() == {"a"} and by.issued == ["a"]
    again = Run(run.root)
    await again.actor.start()
    again.want("a")
    await eventually(lambda: again.published() == {"a"})
    await again.actor.stop()
    assert by.issued == ["a"]


@pytest.mark.processes
async def test_one_of_which_the_responder_says_that_it_was_revoked_is_got_anew(
    run: Run, by: FakeAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    authority = OcspAuthority(tmp_path / "authority")
    port = free_port()
    cert, chain, private = authority.issue(f"http://127.0.0.1:{port}/", days=90)
    by.issue = lambda wanted, presenter, step: Issued(chain, private) if len(by.issued) == 1 else pair(*wanted.domains)
    with authority.openssl(cert, port=port, revoked=True):
        run.want("a")
        await eventually(lambda: by.issued == ["a", "a"], 20)

    def served() -> str:
        return str(msgpack.unpackb(run.context.blobs[run.context.published["certificates"][-1]["issued"]["a"]])["cert"])

    await eventually(lambda: served() == pair("a.example").cert)
    assert sum(one.startswith("the certificate was revoked by its authority") for one in run.said()) == 1


async def test_a_fault_in_the_library_is_told_kept_and_answered(run: Run, by: FakeAuthority) -> None:
    by.issue = fault
    run.want("a")
    await eventually(lambda: "certificate could not be got" in run.said())
    run.actor.told("cert-renew", (7, "a"))
    await eventually(lambda: run.context.reported)
    ((word, answer),) = run.context.reported
    assert word == "answer" and not answer["ok"] and "KeyError" in answer["value"]
    shelf = FileShelf(str(run.root))
    await eventually(lambda: [read_record(shelf.get("records", id)).attempts for id in shelf.names("records")] == [2])


async def test_a_store_that_cannot_be_used_is_told(run: Run) -> None:
    run.root.write_text("no directory")
    run.want("a")
    await eventually(lambda: any("out of reach" in one for one in run.said()))
    assert run.context.is_ready
    assert [message for _, _, message, _ in run.context.noticed if "out of reach" in message]
    run.actor.told("certs", (7,))
    run.actor.told("cert-renew", (8, "a"))
    await eventually(lambda: len(run.context.reported) == 2)
    (_, rows), (_, renewed) = run.context.reported
    assert [(row["certificate"], row["acme"]["last_error"][:27]) for row in rows["value"]] == [("a", "the store of certificates: ")]
    assert not renewed["ok"] and "must be a directory of its own" in renewed["value"]


async def test_what_can_be_read_of_a_store_is_served_at_the_start(run: Run, by: FakeAuthority) -> None:
    run.want("a", "b")
    await eventually(lambda: run.published() == {"a", "b"})
    await eventually(lambda: len(FileShelf(str(run.root)).names("records")) == 2)
    (run.root / "records").rename(run.root / "records before")
    (run.root / "records").write_text("no directory")
    file = next((run.root / "certificates").glob("b*"))
    file.unlink()
    file.mkdir()
    again = Run(run.root)
    await again.actor.start()
    again.want("a", "b")
    await eventually(lambda: again.published() == {"a"})
    assert any("out of reach" in one for one in again.said())
    await again.actor.stop()
    assert sorted(by.issued) == ["a", "b"]


@pytest.fixture
def etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Etcd]:
    monkeypatch.setattr(actor, "LOOK", 0.2)
    with Etcd(tmp_path) as server:
        yield server


def in_etcd(root: Path, server: Etcd) -> Run:
    run = Run(root)
    run.context.settings["source"] = f"etcd://{server.endpoint}/p?timeout=1s"
    return run


@pytest.mark.processes
async def test_an_etcd_that_is_away_or_was_emptied_takes_nothing_from_clients(tmp_path: Path, by: FakeAuthority, etcd: Etcd) -> None:
    run = in_etcd(tmp_path, etcd)
    await run.actor.start()
    run.want("a", "b")
    await eventually(lambda: run.published() == {"a", "b"}, 10)
    etcd.stop()
    await eventually(lambda: any("out of reach" in one for one in run.said()), 10)
    again = in_etcd(tmp_path, etcd)
    await again.actor.start()
    again.want("a", "b")
    await eventually(lambda: any("out of reach" in one for one in again.said()), 10)
    assert again.context.is_ready and not again.published(), "there is nothing that could be read"
    again.actor.told("cert-renew", (8, "a"))
    await eventually(lambda: again.context.reported)
    assert "no etcd answers" in again.context.reported[0][1]["value"]
    etcd.start()
    await eventually(lambda: "the store of certificates can be read again" in run.said() and again.published() == {"a", "b"}, 20)
    assert run.published() == {"a", "b"} and sorted(by.issued) == ["a", "b"]
    await again.actor.stop()
    etcd.ctl("del", "--prefix", "/p-acme/certificates/")
    await eventually(lambda: "certificates are in the store again" in run.said(), 20)
    assert len(etcd.keys("/p-acme/certificates/")) == 2 and sorted(by.issued) == ["a", "b"]
    assert not any("another instance" in one for one in run.said())
    await run.actor.stop()


async def test_a_disk_that_is_full_takes_nothing_from_clients(run: Run, by: FakeAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "LOOK", 0.2)
    run.want("a")
    await eventually(lambda: run.published() == {"a"})
    full = StoreError("no space left on device: make room there")
    with monkeypatch.context() as patch:
        patch.setattr(FileShelf, "put", fault_of(full))
        next((run.root / "certificates").iterdir()).unlink()
        warning = f"a certificate cannot be put back into the store: {full}"
        await eventually(lambda: warning in run.said(), said=lambda: run.context.logged)
        run.want("a", "b")
        await eventually(lambda: "certificate could not be got" in run.said())
        assert run.published() == {"a"}, "what is not stored is not served: it would be gone after a restart"
    await eventually(lambda: "certificates are in the store again" in run.said())
    assert run.said().count(warning) == 1 and run.published() == {"a"}


async def test_questions_about_renewal_do_not_take_a_thread_each(run: Run, by: FakeAuthority) -> None:
    by.pause = 0.005
    keeper = CertificateKeeper(FileShelf(str(run.root)))
    names = [f"n{n}" for n in range(60)]
    for name in names:
        keeper.put_issued(want(name, directory="https://authority.example/").id, pair(f"{name}.example"), time())
    before = threading.active_count()
    run.want(*names)
    await eventually(lambda: by.most_at_once, 20)
    await eventually(lambda: len(run.published()) == 60, 20)
    assert by.most_at_once - before < 12


# -- who asks for a proof ---------------------------------------------------------------


async def test_every_request_below_that_path_is_answered_and_only_proofs_are_told(run: Run, by: FakeAuthority) -> None:
    run.asks()
    assert [status for status, _ in run.answers] == [404] and run.answered == 1, "before anything is known"
    held = threading.Event()

    def issue(wanted: WantedCertificate, presenter: Presenter, step: Step) -> Issued:
        presenter.present([CHALLENGE])
        held.wait(10)
        presenter.remove(CHALLENGE)
        return pair(*wanted.domains)

    by.issue = issue
    run.want("a", acme_challenge="http-01")
    shelf = FileShelf(str(run.root))
    await eventually(lambda: shelf.names("challenges"))
    run.context.sent.clear()
    try:
        run.asks()
        run.asks(PREFIX + b"token?x=1")
        run.asks(method=b"HEAD")
        assert run.answers == [(200, b"token.thumbprint"), (200, b"token.thumbprint"), (200, b"")]
        for target, method in (
            (PREFIX, b"GET"),
            (PREFIX + b"token", b"POST"),
            (PREFIX + b"token/", b"GET"),
            (PREFIX + b"../token", b"GET"),
        ):
            run.asks(target, method)
        run.asks(PREFIX + b"other")
        await eventually(lambda: run.answered == 8)
        assert [status for status, _ in run.answers[3:]] == [404] * 5
    finally:
        held.set()
    await eventually(lambda: not shelf.names("challenges"))


async def test_a_proof_of_another_instance_is_found_on_the_shelf(run: Run) -> None:
    run.want("a", acme_challenge="http-01")
    await eventually(lambda: run.published() == {"a"})  # no try is left that would meet the authority of the next test
    HttpProofs(FileShelf(str(run.root)), print).present([CHALLENGE])
    run.asks()
    await eventually(lambda: run.answers)
    assert run.answers == [(200, b"token.thumbprint")]


async def test_a_proof_that_cannot_be_stored_is_told_by_this_instance_all_the_same(
    run: Run, by: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()

    def issue(wanted: WantedCertificate, presenter: Presenter, step: Step) -> Issued:
        presenter.present([CHALLENGE])
        step("presented")
        held.wait(10)
        return pair(*wanted.domains)

    def put(shelf: FileShelf, kind: Any, *rest: Any) -> None:
        if kind == "challenges":
            raise StoreError("the disk is full")
        kept(shelf, kind, *rest)

    kept = FileShelf.put
    monkeypatch.setattr(FileShelf, "put", put)
    by.issue = issue
    run.want("a", acme_challenge="http-01")
    try:
        await eventually(lambda: any("a proof over HTTP cannot be stored" in one and "the disk is full" in one for one in run.said()))
        run.asks()
        assert run.answers == [(200, b"token.thumbprint")]
    finally:
        held.set()
    await eventually(lambda: run.published() == {"a"})


async def test_strangers_who_ask_for_whatever_tokens_take_no_proof_from_anybody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.want("a", acme_challenge="http-01")
    await eventually(lambda: run.published() == {"a"})
    looks: list[float] = []
    real = HttpProofs.anywhere

    def anywhere(proofs: HttpProofs) -> dict[str, str]:
        looks.append(monotonic())
        return real(proofs)

    monkeypatch.setattr(HttpProofs, "anywhere", anywhere)
    other = HttpProofs(FileShelf(str(run.root)), print)
    begun, count, threads = monotonic(), 0, threading.active_count()
    for number in range(3):
        proof = CHALLENGE._replace(token=f"token{number}", key_authorization=f"token{number}.thumbprint")
        for _ in range(1000):
            count += 1
            run.asks(PREFIX + b"stranger%d" % count, sid=SID + count)
        assert threading.active_count() <= threads + 1
        other.present([proof])  # after a look has been begun, perhaps
        count += 1
        run.asks(PREFIX + proof.token.encode(), sid=SID + count)
        await eventually(partial(lambda asked: run.answered == asked, count), 5)
        assert run.answers.count((200, proof.key_authorization.encode())) == 1
    assert len(looks) <= monotonic() - begun + 1.5 and run.actor.held() == 0
    run.asks(PREFIX + b"token2", sid=SID + count + 1)
    assert run.answered == count + 1, "what is known is said at once"


async def test_it_is_not_looked_where_nothing_can_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.want("a", acme_challenge="tls-alpn-01")
    monkeypatch.setattr(HttpProofs, "anywhere", fault)
    run.asks()
    assert [status for status, _ in run.answers] == [404] and run.actor.held() == 0


async def test_a_shelf_that_hangs_holds_one_thread_and_so_many_requests(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.want("a", acme_challenge="http-01")
    await eventually(lambda: run.published() == {"a"})
    monkeypatch.setattr(challenged, "WAITING", 8)
    monkeypatch.setattr(challenged, "PAUSE", 0.05)
    looks, goes_on = threading.Event(), threading.Event()
    errors: list[Exception] = [RuntimeError("what nobody has thought of"), StoreError("gone")]

    def anywhere(_: HttpProofs) -> dict[str, str]:
        looks.set()
        goes_on.wait(10)
        if errors:
            raise errors.pop()
        return {}

    monkeypatch.setattr(HttpProofs, "anywhere", anywhere)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    run.asks(PREFIX + b"first", sid=SID)
    await eventually(looks.is_set)
    for number in range(1, 9):
        run.asks(PREFIX + b"t", sid=SID + number)
    assert not run.answers and run.actor.held() == 9
    run.asks(PREFIX + b"one-more", sid=SID + 9)
    assert [status for status, _ in run.answers] == [404]
    run.actor.receivers()[Cancel](Cancel(SID + 8, "it left"))
    assert run.actor.held() == 8
    goes_on.set()
    await eventually(lambda: run.answered == 9)
    assert run.actor.held() == 0
    for number in range(10, 12):
        run.asks(PREFIX + b"t", sid=SID + number)
        await eventually(partial(lambda asked: run.answered == asked, number))


@pytest.mark.parametrize(
    ("target", "token"),
    [
        (PREFIX + b"aZ0-_", "aZ0-_"),
        (PREFIX + b"a?b/c", "a"),
        (PREFIX, ""),
        (PREFIX + b"a/b", ""),
        (PREFIX + b"%61", ""),
        (PREFIX + b"a\xe9", ""),
        (PREFIX + b"a" * 513, ""),
        (b"http://a.example" + PREFIX + b"a", ""),
        (b"/other", ""),
    ],
)
def test_a_token_is_letters_that_name_nothing_else(target: bytes, token: str) -> None:
    assert token_in(target) == token


# -- threads ----------------------------------------------------------------------------


def test_an_actor_that_stops_while_tries_are_under_way_leaves_nothing_that_raises(
    tmp_path: Path, by: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    goes_on, ended = threading.Event(), threading.Event()

    def issue(wanted: WantedCertificate, presenter: Presenter, step: Step) -> Issued:
        goes_on.wait(10)
        try:
            step("challenge a.example")
        finally:
            ended.set()
        raise AssertionError("it goes on although nobody wants it")

    by.issue = issue

    async def life() -> None:
        run = Run(tmp_path / "acme")
        await run.actor.start()
        run.want("a")
        await eventually(lambda: by.issued)
        begun = monotonic()
        await run.actor.stop()
        assert monotonic() - begun < 1

    asyncio.run(life())
    goes_on.set()
    assert ended.wait(5)
    until(lambda: not any(one.name == "acme a" for one in threading.enumerate()), 5, "the try ends")
    assert not raised


async def test_what_is_for_a_loop_that_is_closed_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    to_loop(loop, print, "nothing")


def test_work_aside_is_done_in_order_and_survives_one_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    done: list[int] = []
    work = AsideWork("aside of a test")
    for number in range(100):
        work.do(partial(done.append, number))
    until(lambda: len(done) == 100, 5, "all is done")
    assert done == list(range(100))
    work.do(fault)
    until(lambda: not any(one.name == "aside of a test" for one in threading.enumerate()), 5, "its thread is over")
    work.do(lambda: done.append(100))
    until(lambda: done[-1] == 100, 5, "another goes on")
    work.stop()
    work.do(lambda: done.append(101))
    until(lambda: not any(one.name == "aside of a test" for one in threading.enumerate()), 5, "it ends")
    assert done[-1] == 100


# -- the shelf --------------------------------------------------------------------------


class SlowShelf(FileShelf):
    """hangs: no answer until it is set."""

    goes_on = threading.Event()
    pauses: list[float]

    def version(self) -> str:
        self.goes_on.wait(10)
        return super().version()

    def put(self, kind: Any, name: str, value: bytes, seconds: float | None = None) -> None:
        sleep(self.pauses.pop() if self.pauses else 0)  # as a disk does that is busy
        super().put(kind, name, value, seconds)


@pytest.fixture
def slow(tmp_path: Path) -> SlowShelf:
    shelf = SlowShelf(str(tmp_path / "acme"))
    shelf.goes_on, shelf.pauses = threading.Event(), []
    return shelf


def test_of_several_records_the_last_one_stays(slow: SlowShelf) -> None:
    slow.pauses = [0.0, 0.0, 0.1]
    told: list[Event] = []
    shelf = ShelfReading(slow, told.append)
    for attempts in range(1, 30):
        shelf.keep("a", TryRecord(attempts=attempts))
    until(lambda: read_record(slow.get("records", "a")).attempts == 29, 5, "all are written")
    shelf.stop()
    assert not told


def test_a_store_that_does_not_answer_is_told_once_and_read_as_a_whole_when_it_does(
    slow: SlowShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SLOW", 0.05)
    told: list[Event] = []
    shelf = ShelfReading(slow, told.append)
    wanted = want("a")
    slow.goes_on.set()
    shelf.read([wanted], 0)
    until(lambda: told, 5, "it is read")
    slow.goes_on.clear()
    for _ in range(20):
        shelf.read([wanted], 0)
        sleep(0.01)  # 0.2 s in all: SLOW is over several times
    assert [type(one) for one in told] == [ShelfRead, ShelfAway]
    slow.goes_on.set()
    until(lambda: len(told) >= 3, 5, "it is read again, though nothing has changed")
    assert type(told[2]) is ShelfRead
    shelf.stop()


def test_what_comes_to_be_wanted_while_it_is_read_is_read_next(slow: SlowShelf) -> None:
    told: list[Event] = []
    shelf = ShelfReading(slow, told.append)
    shelf.read([want("a")], 0)
    shelf.read([want("a"), want("b")], 3)
    slow.goes_on.set()
    ids = {want("a").id, want("b").id}
    until(lambda: told and isinstance(told[-1], ShelfRead) and told[-1].records.keys() == ids and told[-1].as_of == 3, 5, "both are read")
    shelf.stop()


def issued_with(days: float) -> Issued:
    return Issued(*self_signed("a.example", days=days))


def test_what_has_left_the_shelf_is_put_back_unless_something_as_good_is_there(tmp_path: Path) -> None:
    keeper = CertificateKeeper(FileShelf(str(tmp_path / "acme")))
    told: list[Event] = []
    warned: list[str] = []
    shelf = ShelfReading(keeper.shelf, told.append, warned.append)
    good = held_of(issued_with(90))
    shelf.put_back("a", good)
    until(lambda: keeper.get_issued("a") == good.issued, 5, "it is there")
    file = next((tmp_path / "acme" / "certificates").iterdir())
    file.write_bytes(file.read_bytes()[:200])
    shelf.put_back("a", good)
    until(lambda: keeper.get_issued("a") == good.issued, 5, "it is there instead of a damaged one")
    keeper.put_issued("a", issued_with(91), time())
    shelf.put_back("a", good)
    shelf.read([], 0)
    until(lambda: told, 5, "it was dealt with")
    assert keeper.get_issued("a") != good.issued
    lease = keeper.shelf.lease("a", 60)
    assert lease is not None
    keeper.shelf.drop("certificates", "a")
    shelf.put_back("a", good)
    shelf.read([], 0)
    until(lambda: len(told) > 1, 5, "it was dealt with")
    assert keeper.get_issued("a") is None, "another instance is at it"
    lease.release()
    (tmp_path / "acme" / "certificates").rmdir()
    (tmp_path / "acme" / "certificates").write_text("in the way")
    shelf.read([], 0)
    until(lambda: warned, 5, "it is told")
    shelf.read([], 0)
    (tmp_path / "acme" / "certificates").unlink()
    shelf.read([], 0)
    until(lambda: keeper.get_issued("a") == good.issued, 5, "it is tried again")
    assert len(warned) == 1 and warned[0].startswith("a certificate cannot be put back into the store: ")
    shelf.stop()


def test_only_with_a_clock_that_goes_steadily_for_a_day_is_anything_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TIDY", 0.0)
    keeper = CertificateKeeper(FileShelf(str(tmp_path / "acme")))
    keeper.put_issued("good", issued_with(90), time())
    keeper.shelf.put("records", "old", packed_record(TryRecord(at=1.0)))
    ahead = [0.0]
    monkeypatch.setattr(reading, "time", lambda: time() + ahead[0])
    told: list[Event] = []
    shelf = ShelfReading(keeper.shelf, told.append)

    def look(*wanted: str) -> list[str]:
        before = len(told)
        shelf.read([want(one) for one in wanted], 0)
        until(lambda: len(told) > before, 5, "it is read")
        return keeper.shelf.names("records")

    assert look("a") == ["old"], "at the first time nothing is known of the clock"
    ahead[0] = 3600.0
    assert look("b") == ["old"], "it was set"
    assert look("c") == []
    shelf.stop()


# -- tries ------------------------------------------------------------------------------


class Nobody:
    is_closed = False

    def present(self, challenges: Sequence[Challenge]) -> None: ...
    def remove(self, challenge: Challenge) -> None: ...

    def close(self) -> None:
        self.is_closed = True


def outcome(shelf: Shelf, by: FakeAuthority, seen: str = "", presenter: Nobody | None = None) -> Event:
    told: list[Event] = []
    tries = Tries(shelf, by, lambda *_: presenter or Nobody(), told.append)
    tries.begin(want("a"), seen)
    ends = (TrySucceeded, TryFailed, TryWasAnothers)
    until(lambda: told and isinstance(told[-1], ends), 5, "the try ends")
    return told[-1]


def test_a_try_leaves_to_another_instance_what_that_is_at(tmp_path: Path, by: FakeAuthority) -> None:
    shelf = FileShelf(str(tmp_path / "acme"))
    lease = shelf.lease(want("a").id, 60)
    assert lease is not None
    found = outcome(shelf, by)
    assert isinstance(found, TryWasAnothers) and found.holder == shelf.holder(want("a").id) != "" and not by.issued
    lease.release()
    assert isinstance(outcome(shelf, by), TrySucceeded)


def test_a_try_takes_what_another_instance_has_got_meanwhile(tmp_path: Path, by: FakeAuthority) -> None:
    shelf = FileShelf(str(tmp_path / "acme"))
    CertificateKeeper(shelf).put_issued(want("a").id, pair("a.example"), time())
    found = outcome(shelf, by)
    assert isinstance(found, TrySucceeded) and found.is_anothers and not by.issued
    assert isinstance(outcome(shelf, by, found.held.fingerprint), TrySucceeded) and by.issued == ["a"]


def test_what_is_no_certificate_on_the_shelf_is_replaced(tmp_path: Path, by: FakeAuthority) -> None:
    shelf = FileShelf(str(tmp_path / "acme"))
    CertificateKeeper(shelf).put_issued(want("a").id, Issued("nonsense", "nonsense"), time())
    assert isinstance(outcome(shelf, by), TrySucceeded) and by.issued == ["a"]


def test_what_cannot_be_read_on_the_shelf_is_replaced(tmp_path: Path, by: FakeAuthority) -> None:
    class BadSector(FileShelf):
        def get(self, kind: Any, name: str) -> bytes | None:
            if kind == "certificates" and not by.issued:
                raise ValueUnreadable("certificates/a cannot be read: input/output error")
            return super().get(kind, name)

    shelf = BadSector(str(tmp_path / "acme"))
    CertificateKeeper(shelf).put_issued(want("a").id, pair("a.example"), time())
    assert isinstance(outcome(shelf, by), TrySucceeded) and by.issued == ["a"]


def test_what_the_library_of_tls_does_not_take_is_not_stored(tmp_path: Path, by: FakeAuthority) -> None:
    by.issue = lambda *_: Issued(pair("a.example").cert, pair("b.example").key)
    shelf = FileShelf(str(tmp_path / "acme"))
    found = outcome(shelf, by)
    assert isinstance(found, TryFailed) and "not taken by the TLS library" in found.reason
    assert not shelf.names("certificates") and "PRIVATE" not in found.reason


@pytest.mark.parametrize("fails", [False, True])
def test_a_presenter_is_closed_whatever_comes_of_its_try(tmp_path: Path, by: FakeAuthority, fails: bool) -> None:
    def issue(*_: object) -> Issued:
        raise NotPresented("no")

    if fails:
        by.issue = issue
    presenter = Nobody()
    assert isinstance(outcome(FileShelf(str(tmp_path / "acme")), by, presenter=presenter), TryFailed if fails else TrySucceeded)
    assert presenter.is_closed


# -- proofs over TLS --------------------------------------------------------------------


def test_a_name_has_one_proof_at_a_time_and_nobody_takes_away_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Issued] = {}

    def show(name: str, proof: Issued, seen: threading.Event) -> None:
        assert name not in shown
        shown[name] = proof
        seen.set()

    def hide(name: str) -> None:
        del shown[name]

    proofs = TlsProofs(show, hide)
    one = CHALLENGE._replace(kind="tls-alpn-01")
    other = one._replace(key_authorization="other.thumbprint")
    proofs.present([one])
    proofs.remove(other)
    assert shown
    waiting = threading.Thread(target=proofs.present, args=([other],))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    before = shown["a.example"]
    proofs.remove(one)
    waiting.join(5)
    assert not waiting.is_alive() and shown["a.example"] != before
    monkeypatch.setattr("pingap.stages.acme.tls_proofs.TURN", 0.01)
    with pytest.raises(NotPresented, match="another certificate"):
        proofs.present([one])


def test_two_orders_with_the_same_names_in_another_order_do_not_wait_for_each_other() -> None:
    shown: set[str] = set()

    def show(name: str, _: Issued, seen: threading.Event) -> None:
        shown.add(name)
        seen.set()

    proofs = TlsProofs(show, shown.discard)
    pairs = [[Challenge("tls-alpn-01", domain, "token", f"{domain} {owner}") for domain in ("a.test", "b.test")] for owner in "xy"]

    def prove(challenges: list[Challenge]) -> None:
        for _ in range(10):
            proofs.present(challenges)
            for challenge in challenges:
                proofs.remove(challenge)

    threads = [threading.Thread(target=prove, args=(one,), daemon=True) for one in (pairs[0], pairs[1][::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads) and not shown


def test_a_proof_that_is_not_shown_everywhere_is_said_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.acme.tls_proofs.TAKING", 0.01)
    proofs = TlsProofs(lambda *_: None, lambda _: None)
    with pytest.raises(NotPresented, match="not every accept process"):
        proofs.present([CHALLENGE._replace(kind="tls-alpn-01")])
