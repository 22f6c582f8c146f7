"""What of a simulated card survives a power cut: any sequence of operations against a plain model of it."""

import errno
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simulators.disk.card import BLOCK_OCTETS, Access, Card, File, Folder

MB = 1024 * 1024
OURS = (os.getuid(), os.getgid())
RW, RWX = Access(0o644, *OURS), Access(0o755, *OURS)
NAMES = st.sampled_from([b"a", b"b", b"c"])
FOLDERS = st.sampled_from([b"", b"d"])


class Model:
    """One file: what programs see, what is on the card, and truncations that only the journal knows."""

    def __init__(self) -> None:
        self.seen = b""
        self.kept = b""
        self.truncations: list[int] = []
        self.touched = False

    def sync_journal(self) -> None:
        for size in self.truncations:
            self.kept = self.kept[:size].ljust(size, b"\0")
        self.truncations = []


Tree = dict[tuple[bytes, bytes], Model]


class PowerCuts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.backing = Path(tempfile.mkdtemp())
        self.card = Card(self.backing, MB)
        self.card.mkdir(self.card.root, b"d", RWX)
        self.card.sync(None)
        self.seen: Tree = {}
        self.kept: Tree = {}

    def teardown(self) -> None:
        self.card.cut()
        shutil.rmtree(self.backing)

    def folder(self, name: bytes) -> Folder:
        if not name:
            return self.card.root
        found = self.card.lookup(self.card.root, name)
        assert isinstance(found, Folder)
        return found

    def file(self, folder: bytes, name: bytes) -> File:
        found = self.card.lookup(self.folder(folder), name)
        assert isinstance(found, File)
        return found

    @rule(folder=FOLDERS, name=NAMES)
    def create(self, folder: bytes, name: bytes) -> None:
        if (folder, name) in self.seen:
            with pytest.raises(FileExistsError):
                self.card.create(self.folder(folder), name, RW)
            return
        self.card.create(self.folder(folder), name, RW)
        self.seen[folder, name] = Model()

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), offset=st.integers(0, 40), octets=st.binary(min_size=1, max_size=30))
    def write(self, data: st.DataObject, offset: int, octets: bytes) -> None:
        place = data.draw(st.sampled_from(sorted(self.seen)))
        model = self.seen[place]
        assert self.card.write(self.file(*place), offset, octets) == len(octets)
        model.seen = model.seen[:offset].ljust(offset, b"\0") + octets + model.seen[offset + len(octets) :]
        model.touched = True

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), size=st.integers(0, 60))
    def truncate(self, data: st.DataObject, size: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.seen)))
        model = self.seen[place]
        self.card.resize(self.file(*place), size)
        model.seen = model.seen[:size].ljust(size, b"\0")
        model.truncations.append(size)
        model.touched = True

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.seen)))
        self.card.remove(self.folder(place[0]), place[1], directory=False)
        del self.seen[place]

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), folder=FOLDERS, name=NAMES)
    def rename(self, data: st.DataObject, folder: bytes, name: bytes) -> None:
        place = data.draw(st.sampled_from(sorted(self.seen)))
        self.card.rename(self.folder(place[0]), place[1], self.folder(folder), name)
        self.seen[folder, name] = self.seen.pop(place)

    def commit(self) -> None:
        self.kept = dict(self.seen)
        for model in self.seen.values():
            model.sync_journal()

    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([None, *sorted(self.seen)]))
        self.card.sync(self.file(*place) if place else None)
        self.commit()
        if place:
            self.seen[place].kept = self.seen[place].seen
            self.seen[place].touched = False

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def fail_to_sync(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.seen)))
        with pytest.raises(OSError, match="failed to write") as raised:
            self.card.sync(self.file(*place), fails=True)
        assert raised.value.errno == errno.EIO
        self.cut()

    @rule()
    def cut(self) -> None:
        self.card.cut()
        self.seen = {}
        for place, model in self.kept.items():
            self.seen[place] = after = Model()
            after.seen = after.kept = model.kept
        self.kept = dict(self.seen)
        assert self.card.held()[2:] == (0, 0, 0)

    @rule(seed=st.integers(0, 1000))
    def cut_and_tear(self, seed: int) -> None:
        """What was synced and not touched since is there as it was; for the rest there are no promises."""
        steady = {
            place: model.kept
            for place, model in self.kept.items()
            if self.seen.get(place) is model and not model.touched
        }
        self.card.cut(random.Random(seed))
        survived = self.content()
        for place, content in steady.items():
            assert survived[place] == content
        self.seen = {}
        for place, content in survived.items():
            self.seen[place] = after = Model()
            after.seen = after.kept = content
        self.kept = dict(self.seen)

    def content(self) -> dict[tuple[bytes, bytes], bytes]:
        return {
            (folder, name): self.card.read(node, 0, MB)
            for folder in (b"", b"d")
            for name, node in self.folder(folder).entries.items()
            if isinstance(node, File)
        }

    @invariant()
    def programs_see_what_they_wrote(self) -> None:
        assert self.content() == {place: model.seen for place, model in self.seen.items()}


PowerCuts.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_power_cuts = PowerCuts.TestCase


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(tmp_path, 4 * BLOCK_OCTETS)


def test_torn_writes_are_repeatable_and_differ_by_seed(tmp_path: Path) -> None:
    outcomes = []
    for number, seed in enumerate([1, 1, *range(2, 12)]):
        backing = tmp_path / str(number)
        backing.mkdir()
        card = Card(backing, MB)
        file = card.create(card.root, b"log", RW)
        card.sync(file)
        for record in range(20):
            card.write(file, record * 10, b"%09d\n" % record)
        card.cut(random.Random(seed))
        outcomes.append((backing / "log").read_bytes())
    whole = b"".join(b"%09d\n" % record for record in range(20))
    assert all(whole.startswith(outcome) for outcome in outcomes)
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes)) > 5
    assert any(len(outcome) % 10 for outcome in outcomes)


def test_a_failed_sync_loses_its_data_though_the_next_succeeds(card: Card, tmp_path: Path) -> None:
    file = card.create(card.root, b"log", RW)
    card.sync(file)
    card.write(file, 0, b"one")
    with pytest.raises(OSError, match="failed to write"):
        card.sync(file, fails=True)
    card.write(file, 3, b"two")
    card.sync(file)
    assert card.read(file, 0, 10) == b"onetwo"
    card.cut()
    assert (tmp_path / "log").read_bytes() == b"\0\0\0two"


def test_a_full_card_takes_what_fits_and_has_room_again_after_unlinking(card: Card) -> None:
    file = card.create(card.root, b"big", RW)
    assert card.write(file, 0, b"x" * 5 * BLOCK_OCTETS) == 3 * BLOCK_OCTETS  # the root takes a block
    other = card.create(card.root, b"other", RW)
    with pytest.raises(OSError, match="full") as raised:
        card.write(other, 0, b"x")
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="full"):
        card.mkdir(card.root, b"d", RWX)
    assert card.write(file, 0, b"again") == 5  # in place needs no room
    card.remove(card.root, b"big", directory=False)
    assert card.write(other, 0, b"x") == 1


def test_an_unlinked_file_lives_while_somebody_has_it_open(card: Card) -> None:
    file = card.create(card.root, b"a", RW)
    file.known = 1
    card.write(file, 0, b"x" * BLOCK_OCTETS)
    used = card.used_octets
    card.remove(card.root, b"a", directory=False)
    assert card.read(card.file(file.number), 0, 1) == b"x"
    assert card.used_octets == used
    card.forget(file.number, 1)
    assert card.used_octets == used - BLOCK_OCTETS
    with pytest.raises(OSError, match="before a power cut"):
        card.node(file.number)


def test_directories_obey_the_rules(card: Card) -> None:
    folder = card.mkdir(card.root, b"d", RWX)
    card.create(folder, b"f", Access(0o600, *OURS))
    with pytest.raises(OSError, match="d") as raised:
        card.remove(card.root, b"d", directory=True)
    assert raised.value.errno == errno.ENOTEMPTY
    with pytest.raises(IsADirectoryError):
        card.remove(card.root, b"d", directory=False)
    with pytest.raises(NotADirectoryError):
        card.remove(folder, b"f", directory=True)
    card.rename(card.root, b"d", card.root, b"e")
    card.sync(None)
    card.cut()
    moved = card.lookup(card.root, b"e")
    assert isinstance(moved, Folder)
    assert card.lookup(moved, b"f").mode & 0o777 == 0o600
