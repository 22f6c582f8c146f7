"""Newer texts by mesh: told rarely, asked of one node, given in spare air, proven by signature."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors._bundles.arrive import Check, Terms, apply
from actors._bundles.delta import MAX_OCTETS
from actors._bundles.settings import SyncConfig
from actors._bundles.versions import Versions
from actors._runtime.claims import Key
from actors.knowledge import Texts, packer
from actors.mesh import giving
from actors.mesh.giving import Giver, id_of
from actors.mesh.loop import Loop, State
from actors.mesh.newer import BLAMED_S, FAR_AFTER_S, LATER_S, PATIENCE_S, Newer
from actors.mesh.payload import Codec, NotGiven, Piece, Version, Wanted
from actors.mesh.radio import RadioFacts
from actors.mesh.spare import DAY_S, MESSAGE_FRAMES, QUIET, SpareAir, Way
from subjects.node_state import NodeState
from tests.scenarios.disks import small_disk, why_not
from tests.unit.test_bundles import TERMS, Bench, article, disk_free, well

CODEC = Codec(packer(Texts([], {}, [], [], {})))
STEP_S = 240.0
UPDATED = "Do not drink it. Ask the warden for water."


class Clock:
    """The radios' time."""

    def __init__(self) -> None:
        self.s = 1000.0


class Air:
    """What a node sends goes straight to whom it is for, unless ``lost`` takes it."""

    message_octets = 200

    def __init__(self, net: "Net", address: int) -> None:
        self._net = net
        self._address = address
        self.hops: dict[int, int] = {}
        self.busy = ""
        self.day_s = 100.0
        self.spent = 0.0
        self.lost: Callable[[int | None, bytes], State | None] = lambda _to, _payload: None

    def now_s(self) -> float:
        return self._net.clock.s

    def why_not(self) -> str:
        return self.busy

    def ways(self) -> list[Way]:
        return [Way(to, hops, 8.0 * hops) for to, hops in self.hops.items()]

    async def send(self, destination: int | None, payload: bytes) -> State:
        assert not self.busy
        self._net.sent.append((self._address, destination, payload))
        if fate := self.lost(destination, payload):
            return fate
        await self._net.arrive(self._address, destination, payload)
        return "delivered" if destination else "sent"

    def airtime_s(self, octets: int) -> float:
        return octets / 200

    def of_day_s(self) -> float:
        return self.day_s

    def left_s(self) -> float:
        return self.day_s - self.spent

    def spend(self, octets: int) -> None:
        self.spent += octets / 200


class Member:
    """A node: its texts, and its part in giving and taking."""

    def __init__(self, net: "Net", address: int, directory: Path, terms: Terms, check: Check) -> None:
        self.versions = Versions(directory)
        self.air = Air(net, address)
        self.told: list[tuple[str, int, dict[str, Any]]] = []
        self.state = NodeState(node=f"n{address}")
        air: Any = self.air
        self.newer = Newer(
            versions=self.versions,
            terms=terms,
            config=SyncConfig(),
            codec=CODEC,
            air=air,
            state=lambda: self.state,
            unix=lambda: 1.8e9,
            tell=self._tell,
            chance=random.Random(address),
            check=check,
        )
        self.giver = Giver(self.versions, terms, CODEC, air, self._tell)

    def _tell(self, kind: str, peer: int, **fields: Any) -> None:
        self.told.append((kind, peer, fields))

    @property
    def version(self) -> int:
        now = self.versions.current()
        return now.version if now else 0

    async def hears(self, peer: int, payload: bytes) -> None:
        said = CODEC.read(payload)
        if isinstance(said, Wanted):
            self.giver.asked(peer, said)
        elif isinstance(said, Piece):
            await self.newer.piece(peer, said)
        elif isinstance(said, NotGiven):
            self.newer.not_given(peer, said)
        else:
            assert isinstance(said, Version)
            self.newer.heard(peer, said)


class Net:
    """A centre, and nodes that hear each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bench = Bench(directory / "centre")
        self.clock = Clock()
        self.sent: list[tuple[int, int | None, bytes]] = []
        self.members: dict[int, Member] = {}

    async def member(self, address: int, version: int, terms: Terms = TERMS, check: Check = well) -> Member:
        """A node that has a version of the centre."""
        directory = self.directory / f"n{address}"
        made = Member(self, address, directory, terms, check)
        for other_address, other in self.members.items():
            other.air.hops[address] = made.air.hops[other_address] = 1
        self.members[address] = made
        for number in (one for one in self.bench.workshop.built() if one <= version):
            await self.link(made, number)
        await made.newer.look()
        return made

    async def link(self, member: Member, number: int) -> None:
        sealed = self.bench.workshop.sealed(number)
        await apply(member.versions, sealed, TERMS, self.bench.get, by="link", now=1.8e9, check=well)

    async def arrive(self, source: int, destination: int | None, payload: bytes) -> None:
        for address, member in self.members.items():
            if address != source and destination in {None, address}:
                await member.hears(source, payload)

    def kinds(self) -> list[tuple[int, str]]:
        """Who sent what."""
        return [(source, type(CODEC.read(payload)).__name__) for source, _, payload in self.sent]

    async def until(self, condition: Callable[[], bool], within_s: float = 3 * DAY_S) -> None:
        """Lets time pass, and nodes do what they do."""
        givers = [asyncio.create_task(member.giver.run()) for member in self.members.values()]
        end_s = self.clock.s + within_s
        try:
            while not condition():
                assert self.clock.s < end_s, (self.kinds()[-20:], [m.told for m in self.members.values()])
                self.clock.s += STEP_S
                for member in self.members.values():
                    await member.newer.look()
                for _ in range(100):
                    await asyncio.sleep(0)
                while any(member.giver._wishes for member in self.members.values()):
                    await asyncio.sleep(0.005)
                    self.clock.s += STEP_S * any(member.air.busy for member in self.members.values())
        finally:
            for giver in givers:
                giver.cancel()
            await asyncio.gather(*givers, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "LOOK_S", 0.005)


@pytest.fixture
def net(tmp_path: Path) -> Net:
    made = Net(tmp_path)
    made.bench.build()
    made.bench.write("articles/river.toml", article(UPDATED))
    for number in range(12):  # nothing that repeats, so that a delta has some pieces
        words = " ".join(random.Random(number).sample(WORDS, 30))
        made.bench.write(f"articles/more{number}.toml", article(words, f"well-{number}"))
    made.bench.build()
    return made


WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("n", "rt", "st", "lk", "mp")]


def said(member: Member) -> str:
    now = member.versions.current()
    return (now.folder / "all" / "articles" / "river.toml").read_text() if now else ""


async def test_a_node_that_lags_hears_of_it_asks_one_and_takes_it(net: Net) -> None:
    await net.member(1, 2)
    await net.member(3, 2)
    late = await net.member(2, 1)
    await net.until(lambda: late.version == 2)
    assert UPDATED in said(late)
    kinds = net.kinds()
    assert kinds.count((2, "Wanted")) == 1
    givers = {source for source, kind in kinds if kind == "Piece"}
    assert len(givers) == 1
    entry = late.versions.state().history[-1]
    assert (entry.what, entry.version, entry.was, entry.by) == ("applied", 2, 1, "mesh")
    pieces = [payload for source, _, payload in net.sent if source in givers and payload[0] == 10]
    assert entry.octets == sum(len(piece) - 9 for piece in pieces)
    assert len(pieces) > 3
    assert late.newer.status(str).newer == 0
    assert not (late.versions.directory / "mesh.delta").exists()
    # And who took it gives it on.
    last = await net.member(4, 1)
    for giver in (1, 3):
        last.air.hops[giver] = net.members[giver].air.hops[4] = 2
    await net.until(lambda: last.version == 2)
    assert [source for source, _, payload in net.sent if payload[0] == 10][-1] == 2


async def test_nodes_that_have_the_same_hardly_speak_of_it(net: Net) -> None:
    for address in range(1, 6):
        await net.member(address, 2)
    await net.until(lambda: net.clock.s > 7 * DAY_S, 8 * DAY_S)
    assert {kind for _, kind in net.kinds()} == {"Version"}
    assert len(net.sent) < 7 + 12
    assert all(len(payload) == 13 for *_, payload in net.sent)


async def test_nothing_is_said_asked_or_given_while_the_air_is_not_idle(net: Net) -> None:
    giver, late = await net.member(1, 2), await net.member(2, 1)
    for member in (giver, late):
        member.air.busy = "the channel is busy"
    with pytest.raises(AssertionError):
        await net.until(lambda: bool(net.sent), DAY_S)
    giver.air.busy = ""
    await net.until(lambda: bool(late.newer._newer(net.clock.s)))
    assert late.newer.status(str).reason == "the channel is busy"
    with pytest.raises(AssertionError):
        await net.until(lambda: (2, "Wanted") in net.kinds(), DAY_S)
    late.air.busy = ""
    late.state = NodeState(node="n2", link="up")  # the link brings it, better
    with pytest.raises(AssertionError):
        await net.until(lambda: (2, "Wanted") in net.kinds(), DAY_S)
    late.state = NodeState(node="n2")
    await net.until(lambda: late.version == 2)


async def test_a_giver_that_vanishes_is_left_for_another_and_nothing_comes_twice(net: Net) -> None:
    givers = {address: await net.member(address, 2) for address in (1, 3)}
    late = await net.member(2, 1)
    pieces: list[tuple[int, int]] = []

    def cut(address: int) -> Callable[[int | None, bytes], State | None]:
        def lost(_to: int | None, payload: bytes) -> State | None:
            if payload[0] != 10:
                return None
            pieces.append((address, int.from_bytes(payload[7:9], "big")))
            return "expired" if len(pieces) in {3, 4} else None

        return lost

    for address, member in givers.items():
        member.air.lost = cut(address)
    await net.until(lambda: late.version == 2)
    first, second, other = pieces[0][0], pieces[2], pieces[3]
    assert second[0] == first
    assert other[0] != first  # not the one that fell silent
    assert other[1] == second[1]  # from where the first one left off
    got = [offset for number, (_, offset) in enumerate(pieces, 1) if number not in {3, 4}]
    assert sorted(got) == sorted(set(got))
    assert late.newer.counters["texts_in_vain"] >= 1


async def test_what_came_survives_a_restart(net: Net) -> None:
    giver, late = await net.member(1, 2), await net.member(2, 1)
    count = 0

    def lost(_to: int | None, payload: bytes) -> State | None:
        nonlocal count
        count += payload[0] == 10
        return "expired" if count > 2 and payload[0] == 10 else None

    giver.air.lost = lost
    await net.until(lambda: count > 2)
    giver.air.lost = lambda _to, _payload: None
    before = net.members.pop(2)
    again = await net.member(2, 1)
    assert again.versions.current().version == 1 == before.version  # type: ignore[union-attr]
    net.sent.clear()
    await net.until(lambda: again.version == 2)
    offsets = [int.from_bytes(payload[7:9], "big") for *_, payload in net.sent if payload[0] == 10]
    assert offsets[0] == 2 * 191
    assert late.version == 2  # the same card


async def test_what_is_forged_is_refused_and_its_giver_asked_nothing_for_a_day(net: Net) -> None:
    liar, late = await net.member(1, 2), await net.member(2, 1)
    honest = liar.giver._delta

    def forged(wanted: Wanted) -> tuple[int, Any]:
        version, delta = honest(wanted)
        assert isinstance(delta, bytes)
        return version, delta[:63] + bytes([delta[63] ^ 1]) + delta[64:]

    liar.giver._delta = forged  # type: ignore[method-assign]
    await net.until(lambda: late.newer.counters["texts_forged"] > 0)
    assert [(kind, peer) for kind, peer, _ in late.told if "refused" in kind] == [("mesh_texts_refused", 1)]
    assert "bad signature" in late.told[-1][2]["reason"]
    assert (late.version, late.versions.state().held) == (1, "")
    asked = net.kinds().count((2, "Wanted"))
    with pytest.raises(AssertionError):
        await net.until(lambda: late.version == 2, BLAMED_S - 3600.0)
    assert net.kinds().count((2, "Wanted")) == asked
    await net.member(3, 2)
    await net.until(lambda: late.version == 2)


async def test_another_centre_is_not_listened_to(net: Net) -> None:
    await net.member(1, 2)
    stranger = await net.member(2, 1, Terms(Key.create("account").public, frozenset({"valley"})))
    with pytest.raises(AssertionError):
        await net.until(lambda: (2, "Wanted") in net.kinds(), 2 * DAY_S)
    assert stranger.newer.counters["texts_of_another_centre"] > 0


async def test_a_downgrade_is_neither_asked_for_nor_taken(net: Net) -> None:
    await net.member(1, 1)
    node = await net.member(2, 2)
    with pytest.raises(AssertionError):
        await net.until(lambda: (2, "Wanted") in net.kinds(), 2 * DAY_S)
    centre = node.newer._centre
    node.newer.heard(1, Version(centre, 9, b"abcd"))  # it says that it has more
    await net.until(lambda: 1 in node.newer._blamed)
    assert node.told[-1][2]["reason"].startswith("downgrade: version ")
    assert node.version == 2


async def test_what_does_not_pass_the_check_is_not_taken_by_any_way_again(net: Net) -> None:
    await net.member(1, 2)

    async def wrong(*_: object) -> list[str]:
        return ["evy knowledge lint: too long"]

    late = await net.member(2, 1, check=wrong)
    await net.until(lambda: late.newer.counters["texts_refused"] > 0)
    assert late.version == 1
    assert "too long" in late.versions.state().history[-1].reason
    asked = net.kinds().count((2, "Wanted"))
    with pytest.raises(AssertionError):
        await net.until(lambda: late.version == 2, 3 * DAY_S)
    assert net.kinds().count((2, "Wanted")) == asked
    assert not late.newer._blamed  # its giver did nothing wrong


async def test_too_much_for_the_day_is_not_given_and_said(net: Net) -> None:
    giver, late = await net.member(1, 2), await net.member(2, 1)
    giver.air.day_s = 5.0
    await net.until(lambda: late.newer.status(str).by_stick)
    status = late.newer.status(lambda peer: f"n{peer}")
    assert (status.version, status.newer, status.name) == (1, 2, "n1")
    assert status.of > 1000
    assert (1, "Piece") not in net.kinds()
    # What fits a day and not what is left of it comes tomorrow.
    other = await net.member(3, 2)
    other.air.spent = 99.0
    await net.until(lambda: (3, "NotGiven") in net.kinds())
    assert not late.newer.status(str).by_stick
    other.air.spent = 0.0
    before_s = net.clock.s
    await net.until(lambda: late.version == 2)
    assert net.clock.s - before_s >= LATER_S - 600.0
    assert 1000 / 200 < other.air.spent < 100


async def test_who_begins_at_a_version_that_nobody_keeps_gets_all_while_it_is_little(net: Net) -> None:
    late = await net.member(2, 1)
    for number in range(3):
        net.bench.write("articles/river.toml", article(f"{UPDATED} Number {number}."))
        net.bench.build()
    await net.member(1, 5)
    await net.until(lambda: late.version == 5)
    fresh = await net.member(3, 0)
    await net.until(lambda: fresh.version == 5)
    deserter = await net.member(4, 0, msgspec.structs.replace(TERMS, regions=frozenset({"coast"})))
    await net.until(lambda: deserter.version == 5)  # there are no texts of the coast


async def test_a_node_of_another_region_is_not_given_what_is_not_here(net: Net) -> None:
    net.bench.write("regions/coast/articles/c.toml", article("The coast well is salty.", "coast-well"))
    net.bench.build()
    giver = await net.member(1, 3)
    late = await net.member(2, 1, msgspec.structs.replace(TERMS, regions=frozenset({"coast"})))
    await net.until(lambda: late.newer.status(str).by_stick)
    assert giver.told[-1][2]["reason"] == "not_here"
    assert late.version == 1


async def test_a_node_far_away_is_asked_only_when_no_neighbour_has_it(net: Net) -> None:
    far, late = await net.member(1, 2), await net.member(2, 1)
    late.air.hops[1] = far.air.hops[2] = 3
    await net.until(lambda: bool(late.newer._newer(net.clock.s)))
    since_s = net.clock.s
    await net.until(lambda: (2, "Wanted") in net.kinds())
    assert net.clock.s - since_s >= FAR_AFTER_S - STEP_S
    await net.until(lambda: late.version == 2)


async def test_a_wish_without_a_receipt_holds_nothing_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.mesh.newer.LOOK_S", 0.005)
    node = await net.member(2, 1)
    node.air.hops.update({1: 1, 3: 1})
    asked: list[int | None] = []

    async def never(destination: int | None, payload: bytes) -> State:
        if isinstance(CODEC.read(payload), Wanted):
            asked.append(destination)
            await asyncio.Event().wait()
        return "sent"

    monkeypatch.setattr(node.air, "send", never)
    for peer in (1, 3):
        node.newer.heard(peer, Version(node.newer._centre, 5, b"abcd"))
    await node.newer.look()
    net.clock.s += PATIENCE_S + 1
    await node.newer.look()
    assert sorted(peer or 0 for peer in asked) == [1, 3]
    assert node.newer._asking
    node.newer._asking.cancel()


async def test_pieces_that_nobody_asked_for_are_dropped(net: Net) -> None:
    node = await net.member(2, 1)
    await node.newer.piece(1, Piece(b"abcd", 100, 0, bytes(50)))
    node.newer.not_given(1, NotGiven("too_large", 5, 0))
    assert node.newer.counters["texts_unasked"] == 2
    assert not (node.versions.directory / "mesh.delta").exists()
    node.newer.heard(1, Version(node.newer._centre, 5, b"abcd"))
    node.air.hops[1] = 1
    await node.newer.look()
    assert net.kinds()[-1] == (2, "Wanted")
    await node.newer.piece(1, Piece(b"abcd", MAX_OCTETS + 1, 0, bytes(50)))
    assert node.newer.counters["texts_forged"] == 1
    assert 1 in node.newer._blamed


async def test_pieces_of_two_nodes_that_do_not_belong_together_blame_neither(net: Net) -> None:
    node = await net.member(2, 1)
    node.air.hops.update({1: 1, 3: 1})
    delta = bytes(300)
    for peer in (1, 3):
        node.newer.heard(peer, Version(node.newer._centre, 5, b"abcd"))
    await node.newer.look()
    first = net.sent[-1][1]
    assert first
    await node.newer.piece(first, Piece(id_of(delta), 300, 0, b"x" * 191))
    net.clock.s += PATIENCE_S + 1
    await node.newer.look()
    other = net.sent[-1][1]
    assert other
    assert {first, other} == {1, 3}
    await node.newer.piece(other, Piece(id_of(delta), 300, 191, delta[191:]))
    await node.newer.look()
    assert "belong together" in node.told[-1][2]["reason"]
    assert not node.newer._blamed
    assert node.newer._coming is None


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "a disk can be mounted")
async def test_a_full_card_keeps_what_came_and_takes_it_later(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors._bundles.versions.SPARE_OCTETS", 0)
    with small_disk(2 << 20) as disk:
        net.directory = disk
        await net.member(1, 0)
        late = await net.member(2, 1)
        net.directory = net.bench.directory
        giver = await net.member(3, 2)
        giver.air.lost = lambda _to, payload: filled(payload)

        def filled(payload: bytes) -> None:
            if payload[0] == 10 and not (disk / "filler").exists():
                (disk / "filler").write_bytes(bytes(disk_free(disk)))

        with contextlib.suppress(Exception):
            await net.until(lambda: late.version == 2, DAY_S)
        assert late.version == 1
        coming = late.newer._coming
        assert coming
        assert coming.have == coming.total
        (disk / "filler").unlink()
        await net.until(lambda: late.version == 2)


# ── air ───────────────────────────────────────────────────────────────────────────────────────────────────


class Airtime:
    used_us = 0
    limit_us = 360_000_000
    window_us = 3_600_000_000
    busy = 0.0


class Core:
    """A core that takes messages and settles them when told."""

    def __init__(self) -> None:
        self.taken: list[tuple[int | None, bytes, str]] = []
        self.forgotten: list[int] = []
        self.air = Airtime()

    def send(self, destination: int | None, payload: bytes, lane: str, _now_us: int) -> int:
        self.taken.append((destination, payload, lane))
        return len(self.taken)

    def forget(self, message: int) -> None:
        self.forgotten.append(message)

    def airtime(self, _now_us: int) -> Airtime:
        return self.air


class Spare:
    """Spare air over a real loop and a core that is none."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.state = NodeState(node="n")
        self.core = Core()

        async def nothing(_: object) -> None:
            pass

        def no_radio() -> Any:
            raise NotImplementedError

        self.loop = Loop(
            make_radio=no_radio,
            begin=no_radio,
            store=nothing,
            told=lambda _: None,
            now_us=lambda: int(self.now_s * 1e6),
        )
        self.loop.core = self.core  # type: ignore[assignment]
        self.loop.facts = RadioFacts("none", 11, 237, senses=False, preamble_symbols=8)
        self.loop.trouble = ""
        self.loop._ready.set()
        self.air = SpareAir(
            loop=self.loop,
            now_us=lambda: int(self.now_s * 1e6),
            state=lambda: self.state,
            spreading_factor=9,
            battery_from=50.0,
            day_s=180.0,
        )


def test_air_is_idle_only_when_nothing_speaks_against_it() -> None:
    spare = Spare()
    assert spare.air.why_not() == ""
    spare.core.air.busy = QUIET
    assert spare.air.why_not() == "the channel is busy"
    spare.core.air.used_us = spare.core.air.limit_us // 4
    assert spare.air.why_not() == "25 % of the lawful airtime is used"
    spare.state = NodeState(node="n", battery_rule_percent=49.0)
    assert spare.air.why_not() == "battery 49 %, it takes 50"
    spare.loop.trouble = "gone"
    assert spare.air.why_not() == "the radio is down"


async def test_a_spare_message_gives_way_to_whatever_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.mesh.spare.GIVES_WAY_S", 0.005)
    spare = Spare()
    given = asyncio.create_task(spare.air.send(7, b"piece"))
    await until(lambda: len(spare.core.taken) == 1)
    assert spare.core.taken == [(7, b"piece", "routine")]
    assert spare.air.why_not() == ""
    question = asyncio.create_task(spare.loop.send(9, b"question", "routine", within_s=60))
    assert await given == "gave_way"
    assert spare.core.forgotten == [1]
    assert spare.air.why_not() == "messages wait"
    spare.loop._waiting[2].left = True  # on the air: others answer now, and lanes decide
    assert spare.air.why_not() == ""
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_what_is_given_in_a_day_is_bounded_and_comes_back() -> None:
    spare = Spare()
    octets = spare.air.message_octets
    assert octets == MESSAGE_FRAMES * 217 - 4
    assert 3.6 < spare.air.airtime_s(octets) < 3.8
    assert spare.air.of_day_s() == 172.8
    spare.air.spend(octets)
    assert spare.air.left_s() == pytest.approx(172.8 - spare.air.airtime_s(octets))
    spare.now_s += DAY_S + 1
    assert spare.air.left_s() == 172.8
    spare.core.air.limit_us = 36_000_000  # a sub-band of 1 %
    assert spare.air.of_day_s() == 17.28
    spare.core.air.limit_us = 0  # no limit by law
    assert spare.air.of_day_s() == 180.0


# ── octets ────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_payload_comes_back_and_costs_what_is_said() -> None:
    version = Version(b"cent", 7, b"name")
    assert (CODEC.read(CODEC.version(version)), len(CODEC.version(version))) == (version, 13)
    for regions in ((), ("coast", "valley")):
        wanted = Wanted(b"base", 7, b"delt", 1234, regions)
        assert CODEC.read(CODEC.wanted(wanted)) == wanted
    assert len(CODEC.wanted(Wanted(b"base", 7, b"delt", 0, ()))) == 16
    piece = Piece(b"delt", 1000, 300, b"octets")
    assert (CODEC.read(CODEC.piece(piece)), len(CODEC.piece(piece))) == (piece, 9 + 6)
    refused = NotGiven("too_large", 7, 50_000)
    assert (CODEC.read(CODEC.not_given(refused)), len(CODEC.not_given(refused))) == (refused, 8)
