"""Bundles at a node: signed, versioned, checksummed; applied whole or not at all, and back by one command."""

import asyncio
import contextlib
import json
import os
import signal
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import msgspec
import pytest

from actors._bundles.arrive import DAMAGED, Terms, apply, over_the_link, pack_name, rollback
from actors._bundles.check import of_triage, problems, tried
from actors._bundles.manifest import (
    BundleRefusedError,
    BundleWaitError,
    Manifest,
    Pack,
    Part,
    digest,
    name_of,
    public_key,
    seal,
    unseal,
)
from actors._bundles.pack import check_path, tree_hash, unpack, ways, whole
from actors._bundles.renew import until_renewed
from actors._bundles.settings import SyncConfig
from actors._bundles.versions import KEPT, Versions
from actors._bundles.workshop import Stick, Workshop
from actors._people.contacts import contacts_of
from actors._runtime.bus import BusError
from actors._runtime.claims import Key
from actors._runtime.objects import CHUNK_OCTETS, Found
from actors.knowledge import SHIPPED, Texts, bundled, triager
from actors.sync import Puller
from subjects.errors import ConfigError
from subjects.node_state import NodeState
from tests.scenarios.disks import small_disk, why_not

KEY = Key.create("account")
TERMS = Terms(KEY.public, frozenset({"valley"}))

SOURCE = """
[[source]]
id = "district"
tag = "D99"
organisation = "District health office"
document = "Notices to the valley"
year = 2026
"""


def article(text: str, name: str = "river-water") -> str:
    """An article file as COLLECT or a person would write it."""
    return textwrap.dedent(f'''
        area = "water"
        lang = "en"
        source = "district"

        [[article]]
        id = "{name}"
        title = "Is the {name} safe"
        text = "{text}"
        questions = ["is {name} safe", "can i drink {name}", "{name} ok to drink", "may we use {name}"]
        tags = ["water"]
        review = {{ author = "District office", reviewed_on = 2026-11-01, state = "reviewed" }}
    ''')


async def well(_folders: Sequence[Path], _today: date) -> list[str]:
    """A check that finds nothing, for tests of other things."""
    return []


@dataclass
class Bench:
    """A centre's workshop and a node's versions."""

    directory: Path
    source: Path = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.directory / "texts"
        self.write("sources.toml", SOURCE)
        self.write("articles/river.toml", article("Boil the river water for 1 minute. Let it cool."))
        self.workshop = Workshop(self.directory / "centre", KEY.public)
        self.node = self.directory / "node"
        self.versions = Versions(self.node)

    def write(self, name: str, content: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def build(self, **more: object) -> Manifest:
        made = self.workshop.build(self.source, KEY.sign_octets, now=1.8e9, **more)  # type: ignore[arg-type]
        assert made
        return made

    async def get(self, pack: Pack) -> bytes:
        return self.workshop.pack(pack)

    def apply(self, version: int, *, terms: Terms = TERMS, check: object = well, **more: object) -> object:
        sealed = self.workshop.sealed(version)
        return asyncio.run(
            apply(self.versions, sealed, terms, self.get, by="test", now=1.8e9, check=check, **more)  # type: ignore[arg-type]
        )

    def said(self) -> str:
        """What the node's bundle says of the river now."""
        files = [folder / "articles" / "river.toml" for folder in bundled(self.node)]
        return "".join(file.read_text() for file in files)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_bundle_is_applied_and_what_changed_comes_alone(bench: Bench) -> None:
    bench.write(
        "articles/more.toml",
        "".join(article("Do not drink it. Boil it first.", f"well-{n}") for n in range(1)),
    )
    first = bench.build()
    assert bench.apply(1).octets == first.parts[0].packs[0].octets  # type: ignore[attr-defined]
    assert "Boil the river" in bench.said()
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    second = bench.build(note="cholera")
    smallest = min(pack.octets for pack in second.parts[0].packs)
    assert smallest < 0.7 * second.parts[0].packs[0].octets
    entry = bench.apply(2)
    assert (entry.what, entry.version, entry.was, entry.octets) == ("applied", 2, 1, smallest)  # type: ignore[attr-defined]
    assert "Do not drink" in bench.said()
    assert bench.apply(2) is None
    assert [one.version for one in bench.versions.kept()] == [1, 2]


def test_a_node_takes_the_texts_of_its_regions_only(bench: Bench) -> None:
    bench.write("regions/valley/articles/v.toml", article("The valley well is safe.", "valley-well"))
    bench.write("regions/coast/articles/c.toml", article("The coast well is salty.", "coast-well"))
    bench.write("regions/valley/contacts.toml", '[[contacts]]\nname = "Ana"\nnumber = "+15550100"\n')
    bench.build()
    bench.apply(1)
    known = {a.id for a in Texts.of_node(bench.node, "112").articles()}
    assert {"river-water", "valley-well"} <= known
    assert "coast-well" not in known
    assert [path.name for path in bundled(bench.node)] == ["all", "in-valley"]
    assert [contact.name for contact in contacts_of(bench.node, "contacts.toml")] == ["Ana"]
    assert bench.apply(1, terms=Terms(KEY.public, frozenset({"coast"})))  # the node moved
    assert "coast-well" in {a.id for a in Texts.of_node(bench.node, "112").articles()}


def test_what_nobody_signed_or_somebody_changed_is_refused(bench: Bench) -> None:
    bench.build()
    sealed = bench.workshop.sealed(1)
    stranger = Key.create("account")
    cases = {
        "bad signature": seal(unseal(sealed, KEY.public), stranger.sign_octets),
        "no manifest": b"{}",
        "no manifest of a bundle": b"\xff" * 100,
        "octets, at most": b"x" * 100_000,
    }
    for reason, octets in cases.items():
        entry = asyncio.run(apply(bench.versions, octets, TERMS, bench.get, by="test", now=0.0, check=well))
        assert entry
        assert entry.what == "refused"
        assert reason in entry.reason
        assert bench.versions.current() is None
    flipped = json.loads(sealed)
    flipped["manifest"] = flipped["manifest"].replace("A", "B", 1)
    with pytest.raises(BundleRefusedError, match="bad signature"):
        unseal(json.dumps(flipped).encode(), KEY.public)
    for key in ("", "UABC", KEY.public[:-1] + ("A" if KEY.public[-1] != "A" else "B")):
        with pytest.raises(BundleRefusedError, match="no public key"):
            public_key(key)


def test_a_downgrade_takes_a_person(bench: Bench) -> None:
    bench.build()
    bench.apply(1)
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    bench.build()
    bench.apply(2)
    refused = bench.apply(1)
    assert (refused.what, bench.versions.current().version) == ("refused", 2)  # type: ignore[attr-defined,union-attr]
    assert "downgrade" in refused.reason  # type: ignore[attr-defined]
    assert bench.apply(1, person=True).what == "applied"  # type: ignore[attr-defined]
    assert bench.versions.current().version == 1  # type: ignore[union-attr]
    state = bench.versions.state()
    assert (state.highest, state.held) == (2, name_of(bench.workshop.manifest(2)))


def test_two_bundles_of_one_number_are_one_too_many(bench: Bench, tmp_path: Path) -> None:
    bench.build()
    bench.apply(1)
    other = Bench(tmp_path / "other")
    other.write("articles/river.toml", article("Drink as much as you like of it."))
    other.build()
    sealed = other.workshop.sealed(1)
    entry = asyncio.run(apply(bench.versions, sealed, TERMS, other.get, by="test", now=0.0, check=well))
    assert entry
    assert "--version 2" in entry.reason
    assert "Boil" in bench.said()


def test_rollback_goes_back_at_once_and_stays(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="only what was shipped"):
        rollback(bench.versions, None, by="test", now=0.0)
    for text in ("one", "two", "three", "four"):
        bench.write("articles/river.toml", article(f"Boil the river water, says number {text}."))
        bench.apply(bench.build().version)
    assert [one.version for one in bench.versions.kept()] == [2, 3, 4][-KEPT:]
    entry = rollback(bench.versions, None, by="test", now=0.0)
    assert (entry.version, entry.was) == (3, 4)
    assert "number three" in bench.said()
    assert bench.versions.state().held == name_of(bench.workshop.manifest(4))
    with pytest.raises(ConfigError, match="there are 2, 3, 4"):
        rollback(bench.versions, 1, by="test", now=0.0)
    rollback(bench.versions, 0, by="test", now=0.0)
    assert bench.said() == ""
    assert bench.apply(4, person=True).what == "applied"  # type: ignore[attr-defined]
    assert [entry.what for entry in bench.versions.state().history][-3:] == [
        "rolled_back",
        "rolled_back",
        "applied",
    ]


SHIPPED_WORDS = (SHIPPED / "triage" / "en.toml").read_text()


def test_what_fails_lint_or_the_self_test_is_refused_with_the_reason(bench: Bench) -> None:
    bench.build()
    bench.apply(1)
    bench.write("articles/bad.toml", article("Put butter on the burn and wait.", "butter"))
    bench.write("articles/long.toml", article("x" * 400 + ".", "long"))
    rules = (SHIPPED / "triage" / "rules.toml").read_text()
    bench.write("triage/rules.toml", rules.replace('topic = "cpr_unresponsive"', 'topic = "choking_adult"'))
    bench.write("contacts.toml", '[[contacts]]\nname = "Ana"\n')
    bench.build()

    async def here(folders: Sequence[Path], today: date) -> list[str]:
        return problems(folders, today)

    refused = bench.apply(2, check=here)
    assert refused.what == "refused"  # type: ignore[attr-defined]
    for reason in (
        "evy knowledge lint: article butter",
        "length",
        "«he is not breathing» is no emergency of the template cpr_unresponsive",
        "contacts:",
    ):
        assert reason in refused.reason  # type: ignore[attr-defined]
    assert bench.versions.current().version == 1  # type: ignore[union-attr]
    assert not list(bench.versions.directory.glob("*.new"))
    assert "Boil" in bench.said()


async def test_the_check_runs_in_a_process_of_its_own(bench: Bench) -> None:
    assert await tried([bench.source], date(2026, 11, 22)) == []
    bench.write("articles/bad.toml", "[[article")
    [wrong] = await tried([bench.source], date(2026, 11, 22))
    assert "bad.toml" in wrong


def test_triage_words_of_the_centre_are_heard(bench: Bench) -> None:
    bench.write("triage/en.toml", f"{SHIPPED_WORDS}\n# the same, from the centre\n")
    bench.build()

    async def here(folders: Sequence[Path], _today: date) -> list[str]:
        return list(of_triage(folders))

    assert bench.apply(1, check=here).what == "applied"  # type: ignore[attr-defined]
    heard = triager(bench.node)
    assert heard is not triager()
    assert heard.classify(["he is not breathing"])[0].priority == "emergency"


def test_a_pack_says_nothing_but_what_was_signed() -> None:
    old = {"articles/a.toml": b"a" * 1000, "articles/b.toml": b"b" * 1000}
    new = {"articles/a.toml": b"a" * 1000 + b"!", "articles/c.toml": b"c" * 10}
    part = Part("", tree_hash(new), 2, 1011, ())
    for pack, octets in [whole(new), *ways(new, old)]:
        assert unpack(pack, octets, old, part) == new
        with pytest.raises(BundleRefusedError, match="wrong checksum"):
            unpack(pack, octets[:-1] + bytes([octets[-1] ^ 1]), old, part)
        with pytest.raises(BundleRefusedError, match="wrong checksum"):
            unpack(pack, octets, old, msgspec.structs.replace(part, tree="0" * 64))
        bomb = msgspec.structs.replace(pack, unpacked=5)
        with pytest.raises(BundleRefusedError, match="not as large inside"):
            unpack(bomb, octets, old, part)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.toml",
        "/etc/passwd",
        "articles/../../x.toml",
        "articles/x.py",
        "articles",
        "x.toml",
        "articles/.x.toml",
    ],
)
def test_no_file_goes_anywhere_else(name: str) -> None:
    with pytest.raises(BundleRefusedError, match="no file of a bundle"):
        check_path(name)
    tree = {name: b"x"}
    pack, octets = whole(tree)
    with pytest.raises(BundleRefusedError, match="no file of a bundle"):
        unpack(pack, octets, {}, Part("", tree_hash(tree), 1, 1, (pack,)))


def test_a_stick_brings_a_bundle_without_a_link(bench: Bench, tmp_path: Path) -> None:
    bench.build()
    file = tmp_path / "texts.evy"
    bench.workshop.export(1, file)
    stick = Stick(file)
    entry = asyncio.run(
        apply(bench.versions, stick.sealed, TERMS, stick.get, by="stick", now=0.0, check=well)
    )
    assert entry
    assert entry.what == "applied"
    assert bench.said()
    for octets in (b"", b"no tar", file.read_bytes()[:700]):
        (tmp_path / "bad").write_bytes(octets)
        with pytest.raises(ConfigError, match="bad"):
            Stick(tmp_path / "bad")


class Cut:
    """The centre behind a line that ends after every so many chunks, and may damage one."""

    def __init__(self, objects: dict[str, bytes], after: int, damage: int = 0) -> None:
        self.objects = objects
        self.after = after
        self.damage = damage
        self.sent = 0

    async def find(self, name: str) -> Found | None:
        return Found(name.removeprefix("pack."), len(self.objects[name])) if name in self.objects else None

    async def chunk(self, found: Found, sequence: int) -> tuple[int, bytes] | None:
        if self.after and self.sent and self.sent % self.after == 0:
            self.sent += 1
            raise BusError("no connection to the centre")
        self.sent += 1
        octets = self.objects[f"pack.{found.nuid}"][sequence * CHUNK_OCTETS : (sequence + 1) * CHUNK_OCTETS]
        if self.damage and sequence == 1:
            self.damage -= 1
            octets = bytes([octets[0] ^ 1]) + octets[1:]
        return sequence + 1, octets


async def no_rest(_: float) -> None:
    """Nobody else uses this line."""


async def test_what_arrived_stays_over_cuts_and_new_processes(tmp_path: Path) -> None:
    octets = os.urandom(12 * CHUNK_OCTETS + 5)
    pack = Pack("whole", digest(octets), len(octets), 1)
    cut = Cut({pack_name(pack): octets}, after=2)
    tries = 0
    while True:
        tries += 1
        with contextlib.suppress(BundleWaitError):
            came = await over_the_link(cut, tmp_path, sleep=no_rest)(pack)
            break
    assert came == octets
    assert cut.sent == 13 + tries - 1  # every chunk came once
    assert tries > 5


async def test_a_damaged_chunk_comes_again_once(tmp_path: Path) -> None:
    octets = os.urandom(3 * CHUNK_OCTETS)
    pack = Pack("whole", digest(octets), len(octets), 1)
    get = over_the_link(Cut({pack_name(pack): octets}, after=0, damage=1), tmp_path, sleep=no_rest)
    with pytest.raises(BundleWaitError, match="came damaged and is fetched anew"):
        await get(pack)
    assert await get(pack) == octets
    get = over_the_link(Cut({pack_name(pack): octets}, after=0, damage=9), tmp_path / "b", sleep=no_rest)
    for _ in range(DAMAGED - 1):
        with pytest.raises(BundleWaitError, match="damaged"):
            await get(pack)
    with pytest.raises(BundleRefusedError, match=r"wrong checksum.*at the centre"):
        await get(pack)


async def test_a_bundle_rests_as_long_as_a_chunk_took(tmp_path: Path) -> None:
    octets = os.urandom(4 * CHUNK_OCTETS)
    pack = Pack("whole", digest(octets), len(octets), 1)
    ticks = iter(range(100))
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    cut = Cut({pack_name(pack): octets}, after=0)
    await over_the_link(cut, tmp_path, clock=lambda: 2.0 * next(ticks), sleep=rest)(pack)
    assert rests == [2.0, 2.0, 2.0]


STEPS = ("fsync", "rename", "replace", "symlink", "unlink", "mkdir", "rmdir", "open")
"""What an apply asks of the file system."""


def dies_at(point: int, work: Callable[[], object]) -> bool:
    """Does some work in a process of its own that is killed -9 before its step number ``point``; whether it
    was."""
    child = os.fork()
    if child == 0:
        steps = 0

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **more: object) -> object:
                nonlocal steps
                steps += 1
                if steps == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return step

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    ended = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == 0
    return os.WIFSIGNALED(ended)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_killed_at_any_step_it_is_the_old_or_the_new(bench: Bench) -> None:
    """kill -9 before each write, sync and rename of an apply: what is read then is one version, and the next
    apply ends well."""
    bench.build()
    bench.apply(1)
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    bench.write("articles/new.toml", article("The new well is safe.", "new-well"))
    bench.build()
    hashes = {n: bench.workshop.manifest(n).parts[0].tree for n in (1, 2)}
    seen, point = set(), 1
    while dies_at(point, lambda: bench.apply(2)):
        now = bench.versions.current()
        assert now
        assert tree_hash(bench.versions.trees(now)[""]) == hashes[now.version]
        seen.add(now.version)
        if now.version == 2:  # from the beginning again, to reach the later steps
            rollback(bench.versions, 1, by="test", now=0.0)
        point += 1
    assert seen == {1, 2}
    assert point > 30
    assert "Do not drink" in bench.said()
    assert not list(bench.versions.directory.glob("*.new"))


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "a disk can be mounted")
def test_a_full_card_keeps_the_former_texts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.build()
    with small_disk(2 << 20) as disk:
        bench.node = disk / "node"
        bench.versions = Versions(bench.node)
        with pytest.raises(BundleWaitError, match="no room"):
            bench.apply(1)
        monkeypatch.setattr("actors._bundles.versions.SPARE_OCTETS", 0)
        bench.apply(1)
        bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
        bench.build()
        (disk / "filler").write_bytes(bytes(disk_free(disk) - 4096))
        with pytest.raises(BundleWaitError, match=r"card cannot take it|no room"):
            bench.apply(2)
        assert "Boil" in bench.said()
        (disk / "filler").unlink()
        assert bench.apply(2).what == "applied"  # type: ignore[attr-defined]
        assert "Do not drink" in bench.said()


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "a disk can be mounted")
async def test_a_card_that_fills_up_on_the_way_loses_nothing(tmp_path: Path) -> None:
    octets = os.urandom(20 * CHUNK_OCTETS)
    pack = Pack("whole", digest(octets), len(octets), 1)
    cut = Cut({pack_name(pack): octets}, after=0)
    with small_disk(1 << 20) as disk:
        (disk / "filler").write_bytes(bytes(disk_free(disk) - 10 * CHUNK_OCTETS))
        get = over_the_link(cut, disk, sleep=no_rest)
        with pytest.raises(BundleWaitError, match="card cannot take it"):
            await get(pack)
        came = cut.sent - 1
        assert came > 2
        (disk / "filler").unlink()
        assert await get(pack) == octets
        assert cut.sent - came <= 20 - came + 2


def disk_free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_a_centre_makes_no_version_of_the_same_texts_and_never_counts_back(bench: Bench) -> None:
    bench.build()
    assert bench.workshop.build(bench.source, KEY.sign_octets, now=0.0) is None
    critical = bench.build(critical=True)
    assert (critical.version, critical.critical) == (2, 2)
    with pytest.raises(ConfigError, match="higher number"):
        bench.build(version=2)
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    assert bench.build().critical == 2  # who has not seen 2 still may not wait
    with pytest.raises(ConfigError, match="no articles"):
        bench.workshop.build(bench.directory / "nothing", KEY.sign_octets, now=0.0)


def test_a_restored_node_finds_its_version_without_the_link(bench: Bench) -> None:
    bench.build()
    bench.apply(1)
    (bench.versions.directory / "current").unlink()  # a backup holds no links
    assert bench.versions.current() is None
    bench.versions.mend()
    assert "Boil" in bench.said()
    rollback(bench.versions, 0, by="test", now=0.0)
    bench.versions.mend()
    assert bench.said() == ""


class Published:
    """A centre with one bundle, for a node whose link, battery and clock a test sets."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked = 0

    async def find(self, name: str) -> Found | None:
        self.asked += 1
        octets = self._octets(name)
        return Found(name.replace(".", ""), len(octets))

    def _octets(self, name: str) -> bytes:
        newest = self.bench.workshop.built()[-1]
        if name == "manifest":
            return self.bench.workshop.sealed(newest)
        packs = [pack for part in self.bench.workshop.manifest(newest).parts for pack in part.packs]
        return self.bench.workshop.pack(
            next(pack for pack in packs if pack_name(pack) in {name, f"pack.{name[4:]}"})
        )

    async def chunk(self, found: Found, sequence: int) -> tuple[int, bytes] | None:
        octets = self._octets(found.nuid)
        return sequence + 1, octets[sequence * CHUNK_OCTETS : (sequence + 1) * CHUNK_OCTETS]


NOON = 1_800_014_400.0


@pytest.mark.parametrize(
    ("state", "critical", "comes"),
    [
        ({"link": "down"}, False, False),
        ({"link": "up"}, False, True),
        ({"link": "up", "battery_rule_percent": 49.0}, False, False),
        ({"link": "up", "battery_rule_percent": 49.0}, True, True),
        ({"link": "up", "battery_rule_percent": 19.0}, True, False),
        ({"link": "up", "clock": "network"}, False, False),
        ({"link": "up", "clock": "network"}, True, True),
    ],
)
async def test_link_battery_and_hours_decide_when_it_comes(
    bench: Bench, state: dict[str, object], critical: bool, comes: bool
) -> None:
    hour = (time.localtime(NOON).tm_hour + 2) % 24
    config = SyncConfig(hours=(f"{hour:02}:00-{hour:02}:59",))
    bench.build(critical=critical)
    known = NodeState(node="n1", **state)  # type: ignore[arg-type]
    centre = Published(bench)
    puller = Puller(bench.versions, centre, TERMS, config, lambda: known, lambda: NOON, check=well)
    if comes:
        entry = await puller.look()
        assert entry
        assert entry.what == "applied"
        assert await puller.look() is None
    elif known.link == "up":
        with pytest.raises(BundleWaitError, match="version 1 waits"):
            await puller.look()
    else:
        assert await puller.look() is None
        assert centre.asked == 0


async def test_a_process_ends_when_its_own_words_change(bench: Bench) -> None:
    async def apply_next() -> None:
        sealed = bench.workshop.sealed(bench.build().version)
        await apply(bench.versions, sealed, TERMS, bench.get, by="test", now=0.0, check=well)

    await apply_next()
    running = {
        names: asyncio.create_task(until_renewed(bench.node, names, every_s=0.01))
        for names in (("sms",), ("intake", "route"), ("analytics", "sync"))
    }
    await asyncio.sleep(0.05)
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    await apply_next()
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in running.values())  # rag takes articles up by itself
    bench.write("contacts.toml", '[[contacts]]\nname = "Ana"\nnumber = "+15550100"\n')
    await apply_next()
    await asyncio.wait_for(running["intake", "route"], 5)
    assert not running["sms",].done()
    bench.write("triage/en.toml", SHIPPED_WORDS)
    await apply_next()
    await asyncio.wait_for(running["sms",], 5)
    assert not running["analytics", "sync"].done()
    running["analytics", "sync"].cancel()
