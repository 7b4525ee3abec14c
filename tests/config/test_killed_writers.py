"""Writers that are killed, that meet, and that find no room: what is there is always wholly old or new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from pingap.config.storage.base import Document, NotWritten
from pingap.config.storage.places import storage_of

pytestmark = pytest.mark.processes

KILLS = int(os.environ.get("PINGAP_TEST_KILLS", "150"))
"""Writers that are killed in each of the tests; thousands by hand."""

KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
from pingap.config.storage.base import Document, reading_of
from pingap.config.storage.places import storage_of

source, kills, several, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "several", int(sys.argv[4])
root = Path(source.partition("?")[0])
chance = random.Random(seed)


def texts(number):
    size = 200 + number * 997 % 30_000
    wanted = {"a.toml": f"a = {number} # " + "x" * size + "\\n"}
    if several:
        wanted |= {"b.toml": f"b = {number}\\n", "sub/c.toml": f"c = {number} # " + "y" * size + "\\n"}
        if number % 2:
            wanted["sub/odd.toml"] = f"odd = {number}\\n"
    return wanted


def state():
    found = {document.name: document.text for document in reading_of(storage_of(source)).documents}
    number = int(found["a.toml"].split()[2]) if found else 0
    assert not found or found == texts(number), f"neither old nor new: {sorted(found)} {[text[:20] for text in found.values()]}"
    return number


def step(number):
    storage = storage_of(source)
    reading = reading_of(storage)
    wanted = texts(number)
    gone = [document.name for document in reading.documents if document.name not in wanted]
    return storage.replace([Document(*one) for one in wanted.items()], gone, reading.version)


began = time.monotonic()
step(1)
step(2)
usual = (time.monotonic() - began) / 2
litter = unfinished = landed = 0
for _ in range(kills):
    before = state()
    child = os.fork()
    if not child:
        number = before
        while True:
            number += 1
            step(number)
    time.sleep(chance.uniform(0, usual * 2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    litter += any(name.endswith(".new") for _, _, names in os.walk(root.parent) for name in names)
    unfinished += (root / ".pingap-journal").exists()
    after = state()
    assert after >= before, "a write that was done is undone"
    landed += after - before
step(state() + 1)
left = [name for _, _, names in os.walk(root.parent) for name in names if name.startswith(".")]
for path in Path(f"{root}-history").glob("*") if "history" in source else []:
    text = path.read_text()
    assert text.endswith("\\n") and any(text == one for one in texts(int(text.split()[2])).values()), f"half of an earlier text: {path}"
print(json.dumps({"kills": kills, "landed": landed, "with_litter": litter, "unfinished": unfinished, "left": left}))
"""


def killed(source: str, several: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", KILLER, source, str(KILLS), several, "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return dict(json.loads(done.stdout))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("several", ["one", "several"])
@pytest.mark.parametrize("query", ["", "?enable_history=true"])
def test_a_writer_that_is_killed_leaves_the_old_or_the_new_and_the_next_clears_up(tmp_path: Path, several: str, query: str) -> None:
    told = killed(f"{tmp_path}/place/conf{query}", several)
    assert told["left"] == []
    assert told["with_litter"] > 0, "some were killed in the middle"


COUNTER = """
import sys
from pathlib import Path
from pingap.config.storage.base import Document, Outdated
from pingap.config.storage.places import storage_of

source, name, key, times = *sys.argv[1:4], int(sys.argv[4])
outdated = landed = 0
print("ready", flush=True)
sys.stdin.readline()
while landed < times:
    storage = storage_of(source)
    reading = storage.read()
    counts = {document.name: document.text for document in reading.documents}
    number = int(counts[name].split()[2])
    try:
        storage.write(Document(name, f"count = {number + 1} # {key}\\n"), reading.version)
        landed += 1
    except Outdated:
        outdated += 1
print(outdated)
"""


@pytest.mark.parametrize("names", [("a.toml", "a.toml"), ("a.toml", "sub/b.toml")])
def test_of_two_that_write_at_once_no_update_is_lost(tmp_path: Path, names: tuple[str, str]) -> None:
    """Into one document, and into two of one configuration: who has not seen the other's change is refused."""
    times = KILLS
    for name in {*names}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("count = 0\n")
    both = [
        subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path), name, key, str(times)], stdin=PIPE, stdout=PIPE, text=True)
        for name, key in zip(names, "xy", strict=True)
    ]
    for one in both:
        assert one.stdout and one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin
        one.stdin.write("\n")
        one.stdin.flush()
    refused = [int(one.communicate(timeout=300)[0]) for one in both]
    print(f"{2 * times} writes landed, {sum(refused)} were refused as outdated")
    assert sum(int((tmp_path / name).read_text().split()[2]) for name in {*names}) == 2 * times
    assert sum(refused) > 0, "they met"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("several", [False, True])
def test_a_disk_without_room_keeps_what_it_has(small: Path, several: bool) -> None:
    root = small / "conf"
    root.mkdir()
    (root / "a.toml").write_text("a = 1 # " + "x" * 20_000)
    (root / "b.toml").write_text("b = 1\n")
    storage = storage_of(f"{root}?enable_history=true")
    before = storage.read()
    written = [Document("a.toml", "a = 2 # " + "y" * 50_000), *([Document("b.toml", "b = 2\n")] if several else [])]
    with pytest.raises(NotWritten, match="no space left on device"):
        storage.replace(written, (), before.version)
    assert storage.read() == before
    assert not [name for _, _, names in os.walk(root) for name in names if name.startswith(".")]
    storage.write(Document("b.toml", "b = 2\n"), before.version)


def test_a_disk_that_may_only_be_read_is_told(small: Path) -> None:
    (small / "a.toml").write_text("a = 1\n")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    storage = storage_of(small)
    with pytest.raises(NotWritten, match=r"a\.toml cannot be written: read-only file system"):
        storage.write(Document("a.toml", "a = 2\n"), storage.read().version)
    assert storage.read().documents == (Document("a.toml", "a = 1\n"),)
