"""What every shelf does, in a directory and in a real etcd."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pingap.stages.acme.store.base import KINDS, Shelf, StoreError
from pingap.stages.acme.store.naming import LONGEST, file_of, name_of, part_of
from pingap.stages.acme.store.places import shelf_of
from tests.kit.etcd import Etcd
from tests.kit.waiting import until

_numbers = itertools.count(1)

Sources = tuple[str | None, str]
"""What `shelf_of` takes."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(params=["files", pytest.param("etcd", marks=pytest.mark.processes)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Sources:
    if request.param == "files":
        return str(tmp_path / "config.toml"), str(tmp_path / "acme")
    server: Etcd = request.getfixturevalue("etcd")
    return f"etcd://{server.endpoint}/shelf{next(_numbers)}", str(tmp_path / "unused")


@pytest.fixture
def shelf(place: Sources) -> Shelf:
    return shelf_of(*place)


@pytest.fixture
def other(place: Sources) -> Shelf:
    """Another instance's."""
    return shelf_of(*place)


CHILD = """
import os, sys, time
from pingap.stages.acme.store.places import shelf_of
shelf = shelf_of(sys.argv[1], sys.argv[2])
"""


def child(place: Sources, code: str) -> subprocess.Popen[str]:
    """Another process, with a `shelf`."""
    words = [sys.executable, "-c", CHILD + code, str(place[0]), place[1]]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestEveryShelf:
    def test_what_is_put_is_found_by_another_instance(self, shelf: Shelf, other: Shelf) -> None:
        value = bytes(range(256)) * 20
        shelf.put("certificates", "a.example-12", value)
        assert other.get("certificates", "a.example-12") == value
        shelf.put("certificates", "a.example-12", b"")
        assert other.get("certificates", "a.example-12") == b""

    def test_nothing_is_there_at_first(self, shelf: Shelf) -> None:
        assert [shelf.names(kind) for kind in KINDS] == [[]] * len(KINDS)
        assert shelf.get("accounts", "x") is None
        shelf.drop("accounts", "x")
        assert shelf.version() == shelf.version()

    def test_kinds_are_apart(self, shelf: Shelf) -> None:
        for kind in KINDS:
            shelf.put(kind, "same", kind.encode())
        assert [shelf.get(kind, "same") for kind in KINDS] == [kind.encode() for kind in KINDS]
        shelf.drop("orders", "same")
        assert [kind for kind in KINDS if shelf.names(kind) == ["same"]] == [kind for kind in KINDS if kind != "orders"]

    def test_names_are_told_as_they_were_given(self, shelf: Shelf, other: Shelf) -> None:
        names = [
            "https://acme.example/dir?a=1%2f",
            "A",
            "a",
            "..",
            ".x.new",
            "*.example",
            "ü",
            "x" * LONGEST,
            "ü" * (LONGEST // 2),
            "a/b",
            "~",
        ]
        for name in names:
            shelf.put("accounts", name, name.encode())
        assert other.names("accounts") == sorted(names)
        assert other.values("accounts") == {name: other.get("accounts", name) for name in names}
        assert all(other.get("accounts", name) == name.encode() for name in names)
        for name in names:
            other.drop("accounts", name)
        assert shelf.names("accounts") == []

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(names=st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), min_size=1, max_size=4))
    def test_any_name_is_a_name_of_its_own(self, place: Sources, names: set[str]) -> None:
        shelf = shelf_of(*place)
        for name in names:
            shelf.put("accounts", name, name.encode())
        assert all(shelf.get("accounts", name) == name.encode() for name in names)
        assert set(shelf.names("accounts")) == names
        for name in names:
            shelf.drop("accounts", name)

    @pytest.mark.parametrize("name", ["", "x" * (LONGEST + 1), "\ud800"])
    def test_what_is_no_name_is_refused(self, shelf: Shelf, name: str) -> None:
        for work in (lambda: shelf.put("accounts", name, b"1"), lambda: shelf.get("accounts", name), lambda: shelf.lease(name, 5)):
            with pytest.raises(StoreError, match="is no name"):
                work()

    def test_the_version_tells_of_each_change_and_of_nothing_else(self, shelf: Shelf, other: Shelf) -> None:
        seen = [other.version()]

        def changed() -> bool:
            seen.append(other.version())
            return seen[-1] not in seen[:-1]

        shelf.put("certificates", "a", b"1")
        assert changed()
        for value in (b"2", b"3", b"2", b"2") * 5:  # faster than the clock of a file system
            shelf.put("certificates", "a", value)
            assert changed()
        shelf.put("orders", "a", b"1", 100)
        assert changed()
        version = other.version()
        shelf.get("certificates", "a")
        shelf.names("certificates")
        lease = shelf.lease("issuing", 10)
        assert lease is not None and lease.renew()
        assert other.version() == version
        lease.release()
        assert other.version() == version
        shelf.drop("orders", "a")
        assert other.version() != version

    def test_what_has_an_end_is_forgotten(self, shelf: Shelf, other: Shelf) -> None:
        shelf.put("challenges", "token", b"1", 2)
        shelf.put("challenges", "later", b"2", 100)
        shelf.put("challenges", "always", b"3")
        assert other.get("challenges", "token") == b"1"
        until(lambda: other.get("challenges", "token") is None, 10, "it is forgotten", every=0.1)
        assert shelf.names("challenges") == ["always", "later"]

    def test_what_is_put_anew_has_its_new_end(self, shelf: Shelf) -> None:
        shelf.put("challenges", "token", b"1", 1)
        shelf.put("challenges", "token", b"2")
        shelf.put("challenges", "mark", b"1", 1)
        until(lambda: shelf.get("challenges", "mark") is None, 10, "the mark is forgotten", every=0.1)
        assert shelf.get("challenges", "token") == b"2"

    # -- leases ---------------------------------------------------------------------

    def test_a_lease_is_of_one_at_a_time(self, shelf: Shelf, other: Shelf) -> None:
        lease = shelf.lease("issuing", 10)
        assert lease is not None
        assert other.lease("issuing", 10) is None and shelf.lease("issuing", 10) is None
        assert other.holder("issuing") == shelf.holder("issuing") == f"{os.uname().nodename}:{os.getpid()}"
        second = other.lease("other", 10)
        assert second is not None
        assert lease.renew() and lease.renew()
        lease.release()
        assert not lease.renew()
        third = other.lease("issuing", 10)
        assert third is not None
        lease.release()  # once more, of one that is another's now
        assert third.renew() and shelf.lease("issuing", 10) is None
        third.release()
        second.release()

    def test_a_lease_that_nobody_has_has_no_holder(self, shelf: Shelf) -> None:
        assert shelf.holder("issuing") == ""
        lease = shelf.lease("issuing", 10)
        assert lease is not None
        lease.release()
        assert shelf.holder("issuing") == ""

    @pytest.mark.processes
    def test_a_lease_ends_with_its_holder(self, place: Sources, shelf: Shelf) -> None:
        with child(place, "lease = shelf.lease('issuing', 2)\nprint(lease is not None, flush=True)\nsys.stdin.read()") as process:
            assert line_of(process) == "True"
            assert shelf.holder("issuing") == f"{os.uname().nodename}:{process.pid}"
            assert shelf.lease("issuing", 2) is None
            process.send_signal(signal.SIGKILL)
        until(lambda: shelf.lease("issuing", 2) is not None, 15, "the lease is free", every=0.1)

    @pytest.mark.processes
    def test_of_processes_that_race_one_at_a_time_has_the_lease(self, place: Sources, shelf: Shelf) -> None:
        code = """
sys.stdin.readline()
done = 0
until = time.monotonic() + 30
while done < 15 and time.monotonic() < until:
    lease = shelf.lease('issuing', 20)
    if lease is None:
        time.sleep(0.001)  # the other two are to get on, too
        continue
    number = int(shelf.get('records', 'count') or b'0')
    time.sleep(0.001)  # so that a second holder, if there could be one, reads the same number
    shelf.put('records', 'count', b'%d' % (number + 1))
    lease.release()
    done += 1
print(done, flush=True)
"""
        racers = [child(place, code) for _ in range(3)]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        assert [racer.communicate(timeout=50)[0].strip() for racer in racers] == ["15"] * 3
        assert shelf.get("records", "count") == b"45"

    # -- at the same time --------------------------------------------------------------

    @pytest.mark.processes
    def test_processes_that_put_at_once_lose_nothing(self, place: Sources, shelf: Shelf) -> None:
        code = """
sys.stdin.readline()
for number in range(20):
    shelf.put('records', f'{os.getpid()}.{number}', b'x' * 3000)
    shelf.put('records', 'shared', b'%d' % os.getpid() * 500)
"""
        writers = [child(place, code) for _ in range(3)]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        whole = {b"%d" % writer.pid * 500 for writer in writers}
        while any(writer.poll() is None for writer in writers):
            assert shelf.get("records", "shared") in {None, *whole}
            time.sleep(0.002)  # reads all along, and leaves the writers their time
        assert [writer.wait(5) for writer in writers] == [0, 0, 0]
        assert shelf.names("records") == sorted([*(f"{one.pid}.{number}" for one in writers for number in range(20)), "shared"])
        for writer in writers:
            writer.communicate()

    def test_threads_share_a_shelf(self, shelf: Shelf) -> None:
        def work(number: int) -> bytes | None:
            shelf.put("records", f"{number}", b"%d" % number)
            return shelf.get("records", f"{number}")

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(40))) == [b"%d" % number for number in range(40)]
        assert len(shelf.names("records")) == 40

    def test_two_hundred_certificates_are_no_burden(self, shelf: Shelf, other: Shelf) -> None:
        names = [f"site{number}.example-{number:016x}" for number in range(200)]
        for name in names:
            shelf.put("certificates", name, name.encode() * 100)
        began = time.monotonic()
        version = other.version()
        assert other.names("certificates") == sorted(names)
        assert all(other.get("certificates", name) == name.encode() * 100 for name in names)
        assert other.version() == version
        assert time.monotonic() - began < 10  # a bound for what hangs, not a measure


@settings(max_examples=200)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80), st.text(st.characters(codec="utf-8"), min_size=1, max_size=80))
def test_parts_are_safe_and_of_one_name(one: str, other: str) -> None:
    part = part_of(one)
    assert name_of(part) == one and (part_of(other) == part) == (one == other)
    assert (file_of(other) == file_of(one)) == (one == other)
    assert file_of(one).isascii() and file_of(one) == file_of(one).lower() and len(file_of(one)) <= 100
    assert not file_of(one).startswith(".") and "/" not in file_of(one)


@pytest.mark.parametrize("part", ["A", "%41%", "%zz", "%61", ".x", "", "%ff", "a/b", "ü"])
def test_what_is_nobodys_part_is_none(part: str) -> None:
    assert name_of(part) is None


# -- killed writers ---------------------------------------------------------------------

KILLS = int(os.environ.get("PINGAP_TEST_KILLS", "200"))

KILLER = """
import os, random, signal, sys, time
from pingap.stages.acme.store.places import shelf_of

source, root, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(int(sys.argv[4]))


def value(number):
    return b"%d " % number * (200 + number * 997 % 3000)


def state():
    found = shelf_of(source, root).get("certificates", "x")
    number = int(found.split()[0]) if found else 0
    assert found in (None, value(number)), "neither old nor new"
    return number


shelf = shelf_of(source, root)
began = time.monotonic()
shelf.put("certificates", "x", value(1))
shelf.put("certificates", "x", value(2))
usual = (time.monotonic() - began) / 2
landed = 0
for _ in range(kills):
    before = state()
    child = os.fork()
    if not child:
        number = before
        shelf = shelf_of(source, root)
        while True:
            number += 1
            shelf.put("certificates", "x", value(number))
    time.sleep(chance.uniform(0, usual * 2))  # killed at any moment of one or two puts
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    after = state()
    assert after >= before, "what was put is gone"
    landed += after - before
last = state() + 1
shelf.put("certificates", "x", value(last))
assert state() == last
print(landed)
"""


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_of_writers_that_are_killed_nothing_half_is_left(place: Sources) -> None:
    words = [sys.executable, "-c", KILLER, str(place[0]), place[1], str(KILLS), "14"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
    folder = Path(place[1]) / "certificates"
    assert not folder.exists() or os.listdir(folder) == ["x"]  # what the killed have left is cleared


def test_readers_see_the_old_or_the_new_and_never_none(shelf: Shelf, other: Shelf) -> None:
    shelf.put("certificates", "x", b"0" * 5000)
    over = threading.Event()

    def write() -> None:
        for number in range(100):
            shelf.put("certificates", "x", b"%d" % (number % 10) * 5000)
        over.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not over.is_set() and not writing.done():
            found = other.get("certificates", "x")
            assert found is not None and found == found[:1] * 5000
        writing.result(5)
