"""Where the secret of session tickets is kept, and what becomes of it when that is another place, or nothing is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pingap.stages.acme import ticket_keeper
from pingap.stages.acme.store.base import StoreError
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.ticket_keeper import TicketKeeper
from pingap.stages.acme.ticket_places import FILE, InRunDir, OnShelf, TicketPlace
from tests.kit.context import FakeContext
from tests.kit.waiting import eventually


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An instance's own, in the run dir."""
    (tmp_path / "run/1").mkdir(0o700, parents=True)
    return tmp_path / "run/1"


def test_in_the_run_dir_it_is_for_this_user_alone_and_for_the_next_instance(run_dir: Path) -> None:
    place = InRunDir(str(run_dir))
    assert place.read() is None
    place.write(b"one")
    assert place.read() == b"one" and (run_dir.parent / FILE).stat().st_mode & 0o777 == 0o600
    (run_dir.parent / FILE).write_bytes(b"garbage")
    assert place.read() is None
    place.write(b"two")
    (run_dir.parent / "2").mkdir()
    assert InRunDir(str(run_dir.parent / "2")).read() == b"two"
    (run_dir.parent / FILE).rename(run_dir / "elsewhere")
    (run_dir.parent / FILE).symlink_to(run_dir / "elsewhere")
    with pytest.raises(StoreError):
        place.read()
    with pytest.raises(StoreError):
        InRunDir("/nonexistent").write(b"x")


class Kept:
    def __init__(self, place: Callable[[], TicketPlace]) -> None:
        self.context = FakeContext("acme")
        self.told: list[tuple[bytes, ...]] = []
        self.keeper = TicketKeeper(self.context, place, self.told.append)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticket_keeper, "LOOK", 0.01)


async def test_a_reload_that_moves_it_takes_the_secret_along_so_that_sessions_go_on(run_dir: Path, tmp_path: Path) -> None:
    places: list[TicketPlace] = [InRunDir(str(run_dir))]
    kept = Kept(lambda: places[-1])
    kept.keeper.begin()
    await eventually(lambda: places[0].read() is not None)
    places.append(OnShelf(FileShelf(str(tmp_path / "shelf"))))
    await eventually(lambda: places[1].read() is not None)
    assert places[1].read() == places[0].read() and len(kept.told) == 1
    kept.keeper.stop()


async def test_what_somebody_removes_is_written_again_and_what_another_has_written_is_taken(run_dir: Path) -> None:
    place = InRunDir(str(run_dir))
    kept = Kept(lambda: place)
    kept.keeper.begin()
    await eventually(lambda: place.read() is not None)
    first = place.read()
    (run_dir.parent / FILE).unlink()
    await eventually(lambda: place.read() == first)
    other = Kept(lambda: place)
    other.keeper.begin()
    await eventually(lambda: bool(other.told))
    assert other.told == kept.told, "as after a crash of this stage"
    for each in (kept, other):
        each.keeper.stop()


async def test_where_it_cannot_be_kept_there_is_one_all_the_same_and_the_log_says_so_once() -> None:
    kept = Kept(lambda: InRunDir("/nonexistent"))
    kept.keeper.begin()
    await eventually(lambda: bool(kept.told and kept.context.logged))
    first = kept.keeper._timer
    await eventually(lambda: kept.keeper._timer is not first)
    assert len(kept.told) == 1 and len(kept.context.logged) == 1, "of many looks"
    assert "cannot be kept" in kept.context.logged[0][1]
    kept.keeper.stop()
