"""The journal against damaged files and disks that refuse: what was accepted and is whole is delivered, no more."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farthing_kit import journal_format
from farthing_kit.journal import MAX_DAMAGED_FILES, Journal, JournalFull, Record

SEGMENT_BYTES = 400


def journal(folder: Path, max_bytes: int = 1_000_000, segment_bytes: int = SEGMENT_BYTES) -> Journal:
    return Journal(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)


def replayed(folder: Path) -> list[Record]:
    made = journal(folder)
    found = made.open()
    made.close()
    return found


def old_framed(body: bytes) -> bytes:
    """A record as earlier versions wrote it."""
    return struct.pack("<II", len(body), zlib.crc32(body)) + body


FORGED = Record("q_forged", "usage.acme", b"from a payload")
# What a payload may hold: nothing, zeros, bytes that earlier versions took for a record, and ones of another segment.
PAYLOADS = (
    b"",
    bytes(40),
    old_framed(journal_format.put(FORGED)),
    journal_format.framed(journal_format.put(FORGED), bytes(8)),
    b"AP" * 30,
)


def record(number: int, payload: bytes | None = None) -> Record:
    return Record(f"q_{number}", "usage.acme", f"payload {number}".encode() if payload is None else payload, "trace")


@dataclass(frozen=True)
class Place:
    """Where one entry stands: a put, or the acknowledgement of an id."""

    path: Path
    start: int
    end: int
    entry: Record | str


History = Sequence[tuple[bool, int, int]]
HISTORIES = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(-1, len(PAYLOADS) - 1)), max_size=40)


def written(folder: Path, history: History) -> list[Place]:
    """Play a history into a journal, and say where on disk each of its entries stands."""
    made, places = journal(folder), []
    made.open()

    def place(entry: Record | str, before: dict[Path, int]) -> None:
        for path, size in sizes(folder).items():
            if size > before.get(path, 0):
                places.append(Place(path, before.get(path, 0), size, entry))

    for put, number, payload in history:
        before, entry = sizes(folder), record(number, None if payload < 0 else PAYLOADS[payload])
        if put and entry.id not in made:
            made.append(entry)
            place(entry, before)
        elif not put and entry.id in made:
            made.acknowledge(entry.id)
            place(entry.id, before)
        left = sizes(folder)  # an acknowledgement may have emptied or deleted a file
        places = [found for found in places if found.end <= left.get(found.path, 0)]
    made.close()
    return places


def sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in sorted(folder.glob("*.journal"))}


def pending(places: Sequence[Place]) -> list[Record]:
    found: dict[str, Record] = {}
    for place in places:
        if isinstance(place.entry, Record):
            found.pop(place.entry.id, None)
            found[place.entry.id] = place.entry
        else:
            found.pop(place.entry, None)
    return list(found.values())


@given(HISTORIES, st.data())
def test_damage_anywhere_costs_the_entries_it_touches_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, history: History, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    places = written(folder, history)
    assume(places)
    target = data.draw(st.sampled_from(places)).path
    raw = target.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    bad = data.draw(st.one_of(st.integers(0, 7).map(lambda bit: bytes([raw[at] ^ 1 << bit])), st.binary(min_size=1)))
    hurt = (raw[:at] + bad + raw[at + len(bad) :])[: len(raw)]
    assume(hurt != raw)
    target.write_bytes(hurt)
    touched = {index for index, (old, new) in enumerate(zip(raw, hurt, strict=True)) if old != new}
    whole = [p for p in places if p.path != target or not touched & set(range(p.start, p.end))]

    made = journal(folder)
    assert made.open() == pending(whole)
    assert made.damages > 0
    assert made.damaged_files == 1
    made.append(record(99))
    made.close()
    assert replayed(folder) == [*pending(whole), record(99)]

    made = journal(folder)
    for left in made.open():
        made.acknowledge(left.id)
    assert (made.pending, made.size, made.damaged_files) == (0, 0, 1)
    made.close()
    assert [path.read_bytes() for path in folder.glob("*.damaged")] == [hurt]
    assert replayed(folder) == []


@given(HISTORIES, st.data())
def test_a_write_that_was_cut_off_loses_only_itself(
    tmp_path_factory: pytest.TempPathFactory, history: History, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    places = written(folder, history)
    assume(places)
    last = max(sizes(folder))
    cut = data.draw(st.integers(0, last.stat().st_size))
    os.truncate(last, cut)
    whole = [place for place in places if place.path != last or place.end <= cut]
    made = journal(folder)
    assert made.open() == pending(whole)
    assert (made.damages, made.damaged_files) == (0, 0)
    made.append(record(99))
    made.close()
    assert replayed(folder) == [*pending(whole), record(99)]


def test_a_file_that_lost_its_end_before_the_last_is_damage_and_no_cut_off_write(tmp_path: Path) -> None:
    written(tmp_path, [(True, number, -1) for number in range(8)])
    first, *_ = sizes(tmp_path)
    os.truncate(first, first.stat().st_size - 3)
    made = journal(tmp_path)
    assert len(made.open()) == 7
    assert (made.damages, made.damaged_files) == (1, 1)
    made.close()


@given(st.lists(st.integers(0, 9), max_size=12, unique=True), st.integers(min_value=0), st.integers(0, 7))
def test_segments_of_the_earlier_version_are_read_around_damage_too(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], at: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("old")
    framed = [old_framed(journal_format.put(record(number))) for number in numbers]
    framed.append(old_framed(journal_format.acknowledge("q_9")))
    raw = bytearray(b"".join(framed))
    at %= len(raw)
    raw[at] ^= 1 << bit
    (folder / "0000000001.seg").write_bytes(raw)
    ends = [sum(map(len, framed[: index + 1])) for index in range(len(framed))]
    hit = next(index for index, end in enumerate(ends) if at < end)
    acknowledged = hit < len(numbers)
    made = journal(folder)
    expected = [record(n) for index, n in enumerate(numbers) if index != hit and not (n == 9 and acknowledged)]
    assert made.open() == expected
    assert made.damages == 1
    made.append(record(99))
    made.close()
    assert replayed(folder) == [*expected, record(99)]


def test_an_upgrade_delivers_what_the_earlier_version_left_and_leaves_its_files_to_nobody(tmp_path: Path) -> None:
    bodies = [journal_format.put(record(number)) for number in range(3)] + [journal_format.acknowledge("q_1")]
    (tmp_path / "0000000007.seg").write_bytes(b"".join(map(old_framed, bodies)))
    made = journal(tmp_path)
    assert made.open() == [record(0), record(2)]
    made.append(record(5))
    made.acknowledge("q_0")
    made.close()
    again = journal(tmp_path)
    assert again.open() == [record(2), record(5)]
    again.acknowledge("q_2")
    assert not list(tmp_path.glob("*.seg"))
    again.close()


def test_damaged_files_are_bounded(tmp_path: Path) -> None:
    for number in range(MAX_DAMAGED_FILES + 3):
        (tmp_path / f"{number:010d}-{number:016x}.journal").write_bytes(b"not a record")
    made = journal(tmp_path)
    assert made.open() == []
    made.append(record(1))
    made.acknowledge("q_1")
    assert made.damaged_files == MAX_DAMAGED_FILES
    made.close()


# ------------------------------------------------------------------------------------------------ disks that refuse


def filled(made: Journal) -> list[str]:
    """Append until the disk refuses; what was accepted."""
    for number in range(10_000):
        try:
            made.append(record(number))
        except JournalFull:
            return [f"q_{accepted}" for accepted in range(number)]
    raise AssertionError("the disk took everything")


def test_a_full_disk_loses_nothing_accepted_and_takes_records_again_when_there_is_room(small_disk: Path) -> None:
    made = journal(small_disk / "outbox", segment_bytes=4_000)
    made.open()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 * 1024))
    accepted = filled(made)
    with pytest.raises(JournalFull, match="disk"):
        made.probe()
    made.acknowledge("q_0")
    made.close()
    # A start on a full disk finds all of it, and is refused as before.
    made = journal(small_disk / "outbox", segment_bytes=4_000)
    assert [found.id for found in made.open()][-len(accepted) + 1 :] == accepted[1:]
    filled(made)
    ballast.unlink()
    made.probe()
    made.append(record(10_000))
    made.close()
    found = journal(small_disk / "outbox")
    assert {*accepted[1:], "q_10000"} <= {left.id for left in found.open()}
    assert found.damages == 0
    for left in accepted:
        found.acknowledge(left)
    found.close()


def test_a_disk_without_names_refuses_a_new_segment_and_goes_on_later(small_disk: Path) -> None:
    made = journal(small_disk / "outbox")
    made.open()
    ballast = [small_disk / str(number) for number in range(3)]
    for path in ballast:
        path.touch()
    accepted = filled(made)
    ballast[0].unlink()
    made.append(record(10_000))
    made.close()
    assert [left.id for left in replayed(small_disk / "outbox")] == [*accepted, "q_10000"]


class RefusingDisk:
    """Stands before `os`: calls of the names in `refused` fail as on a disk that broke."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused: set[str] = set()
        self.partly = 0
        for name in ("open", "write", "ftruncate", "fsync", "dup"):
            monkeypatch.setattr(f"farthing_kit.journal.os.{name}", self._guarded(name, getattr(os, name)))
        for name in ("unlink", "rename"):
            monkeypatch.setattr(Path, name, self._guarded(name, getattr(Path, name)))

    def _guarded(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if name == "write" and self.partly:
                _, raw = args
                assert isinstance(raw, bytes)
                return real(args[0], raw[: self.partly])
            if name in self.refused:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **options)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> RefusingDisk:
    return RefusingDisk(monkeypatch)


@pytest.mark.parametrize("truncates", [True, False])
def test_a_write_that_went_half_way_is_refused_and_costs_nothing(
    tmp_path: Path, disk: RefusingDisk, truncates: bool
) -> None:
    made = journal(tmp_path)
    made.open()
    made.append(record(1))
    disk.partly = 30
    disk.refused = set() if truncates else {"ftruncate"}
    with pytest.raises(JournalFull):
        made.append(record(2))
    disk.partly = 0
    disk.refused = set()
    made.append(record(3))
    made.close()
    assert replayed(tmp_path) == [record(1), record(3)]


@pytest.mark.parametrize("call", ["unlink", "ftruncate", "write", "rename", "open"])
def test_an_acknowledgement_outlives_a_disk_that_refuses(tmp_path: Path, disk: RefusingDisk, call: str) -> None:
    written(tmp_path, [(True, number, -1) for number in range(8)])
    first, *_ = sizes(tmp_path)
    first.write_bytes(first.read_bytes()[:-1])
    made = journal(tmp_path)
    left = made.open()
    assert len(left) == 7
    disk.refused = {call}
    for found in left[:-1]:
        made.acknowledge(found.id)
    assert made.pending == 1
    disk.refused = set()
    made.acknowledge(left[-1].id)
    assert (made.pending, made.size, made.damaged_files) == (0, 0, 1)
    made.close()


@pytest.mark.parametrize("call", ["fsync", "dup", "open"])
def test_a_sync_that_fails_is_said_and_nothing_more_goes_into_what_was_not_synced(
    tmp_path: Path, disk: RefusingDisk, call: str
) -> None:
    made = journal(tmp_path)
    made.open()
    made.append(record(1))
    disk.refused = {call}
    with pytest.raises(JournalFull, match="disk"):
        made.syncer()()
    disk.refused = set()
    made.append(record(2))
    made.syncer()()
    made.close()
    assert len(sizes(tmp_path)) == (2 if call == "fsync" else 1)
    assert replayed(tmp_path) == [record(1), record(2)]
