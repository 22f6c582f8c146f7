"""The actor `mesh`: what leaves for other nodes, what comes from them, and the radio between."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from evy_core import MeshError, MeshFullError, time_on_air_us
from hypothesis import given, settings
from hypothesis import strategies as st

from actors._masked import Taken
from actors._roster.installed import Installed, join, open_network
from actors._roster.operator import Operator
from actors._runtime import clock
from actors._runtime.bus import BusError
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryKeyValue
from actors.knowledge import Texts, packer
from actors.mesh import Mesh, MeshConfig, build
from actors.mesh.inward import Inward, asked_key, case_key
from actors.mesh.keep import EPOCH, Keep, LostError
from actors.mesh.loop import Loop, State
from actors.mesh.needs import HOUR_S, KEPT_S, MOST_PLACES, NeedsBoard
from actors.mesh.outward import Outward, Route
from actors.mesh.parts import Parts
from actors.mesh.payload import (
    LANGUAGES,
    MAX_TEXT,
    NEED_LIST,
    Asked,
    Codec,
    Danger,
    PayloadError,
    Sms,
    Told,
    ref_of,
)
from actors.mesh.radio import Heard, RadioError, RadioFacts
from subjects import names
from subjects.bulletin import Area, Bulletin, Info, Reference
from subjects.errors import RefusedError, RetryLaterError
from subjects.mesh import MAX_PAYLOAD_OCTETS, MeshNeeds, MeshPacket, MeshReply, MeshStatusRequest
from subjects.messages import Alert, Answer, Event, OutboundSms, Place, Query, ResponderReply, encode
from subjects.node_state import ModemState, NodeState
from tests.fuzz.seeds import _bulletin

CODEC = Codec(packer(Texts.load()))


def context_of(**tables: Any) -> MemoryContext:
    return MemoryContext(Config({"node": {"name": "n1"}, **tables}), Identity("n1", b"x", "0"))


async def test_a_node_without_a_radio_says_so_and_goes_on() -> None:
    context = context_of()
    actor = await build(context)
    packet = MeshPacket(node="n1", lane="routine", query_id="q1", needs=MeshNeeds("mill", {"water": 3}))
    assert list(await actor.handlers[names.MESH_OUT](packet)) == []
    assert list(await actor.handlers[names.MESH_IN](packet)) == []
    assert [(event.kind, event.query_id) for event in context.events] == [("mesh_refused", "q1")] * 2
    assert "[mesh] device" in context.events[0].fields["reason"]
    assert (await actor.services["mesh.status"](MeshStatusRequest())).radio == "none"
    assert not actor.tasks


async def test_a_node_that_belongs_to_no_mesh_says_how_to_join(tmp_path: Path) -> None:
    tables = {"node": {"name": "n1", "data_dir": str(tmp_path)}, "mesh": {"device": str(tmp_path / "tty")}}
    actor = await build(MemoryContext(Config(tables), Identity("n1", b"x", "0")))
    status = await actor.services["mesh.status"](MeshStatusRequest())
    assert (status.radio, actor.tasks) == ("none", ())
    assert "evy mesh join" in status.reason


# ── octets ────────────────────────────────────────────────────────────────────────────────────────────────


def query_of(text: str = "how do I solder a tap?", **fields: Any) -> Query:
    return Query(
        **{
            "id": "q1",
            "node": "n1",
            "sender_ref": "ana",
            "text": text,
            "lang": "en",
            "lane": "priority",
            "deadline": clock.deadline_in(15),
            "wait": clock.deadline_in(3600),
            **fields,
        }
    )


def answer_of(text: str = "Heat the joint, then touch it with the solder.", **fields: Any) -> Answer:
    return Answer(
        **{
            "query_id": "far",
            "node": "n2",
            "sender_ref": "mesh7-x",
            "text": text,
            "lang": "en",
            "lane": "priority",
            "step": "model",
            "origin": f"7.{ref_of('q1')}",
            **fields,
        }
    )


def alert_of(**fields: Any) -> Alert:
    return Alert(
        **{
            "query_id": "q1",
            "node": "n1",
            "sender_ref": "ana",
            "text": "my leg",
            "lang": "sw",
            "lane": "flash",
            "priority": "emergency",
            "needs": ("medical", "rescue"),
            "topic": "bleeding",
            **fields,
        }
    )


def sms_of(number: str = "+34600111222") -> OutboundSms:
    return OutboundSms(
        query_id="q1", node="n1", text="Go uphill", lang="es", lane="flash", step="alert", number=number
    )


def test_each_payload_comes_back_as_it_was_meant() -> None:
    assert CODEC.read(CODEC.query(query_of(lang="ht", privacy="enhanced"))) == Asked(
        ref_of("q1"), "ht", "enhanced", "how do I solder a tap?"
    )
    answer = answer_of(sources=("CDC", "OMS"), step="verbatim", lang="es")
    assert CODEC.read(CODEC.answer(answer, ref_of("q1"))) == Told(
        ref_of("q1"), "es", "verbatim", answer.text, ("CDC", "OMS")
    )
    assert CODEC.read(CODEC.reply(MeshReply("0a1b2c3d", "coming"))) == MeshReply("0a1b2c3d", "coming")
    counts = MeshNeeds("the mill", {"water": 3, "food": 1000, "none": 4})
    assert CODEC.read(CODEC.needs(counts)) == MeshNeeds("the mill", {"water": 3, "food": 255})
    for number in ("+34600111222", "0600111222", "112"):
        assert CODEC.read(CODEC.sms(sms_of(number))) == Sms(ref_of("q1.reply.0"), "es", number, "Go uphill")


@pytest.mark.parametrize(
    "place", [None, Place("the mill"), Place("1.5, 36.5", 1.5, 36.5), Place("", -89.99, -179.99)]
)
@pytest.mark.parametrize("kind", ["danger", "safe"])
def test_an_alert_carries_place_and_need_and_no_words(place: Place | None, kind: str) -> None:
    octets = CODEC.alert(alert_of(place=place, kind=kind, text="call 0712 345 678"))
    found = CODEC.read(octets)
    assert isinstance(found, Danger)
    assert (found.ref, found.lang, found.needs) == (ref_of("q1"), "sw", ("medical", "rescue"))
    assert (found.topic, found.safe) == ("bleeding", kind == "safe")
    if place is None:
        assert found.place is None
    else:
        assert found.place is not None
        assert found.place.text == place.text
        assert found.place.latitude == pytest.approx(place.latitude, abs=2e-5)
        assert found.place.longitude == pytest.approx(place.longitude, abs=2e-5)


def test_what_a_payload_costs_beside_its_words() -> None:
    """The figures of docs/mesh.md, M51."""

    def words(text: str) -> int:
        [frame] = packer_of().pack([text])
        return len(frame)

    text = "how do I solder a tap?"
    assert len(CODEC.query(query_of(text))) - words(text) == 6
    assert len(CODEC.answer(answer_of(text), ref_of("q1"))) - words(text) == 6
    assert len(CODEC.alert(alert_of())) - words("bleeding\x1e") == 9
    assert len(CODEC.alert(alert_of(place=Place("", 1.0, 2.0)))) - words("bleeding\x1e") == 15
    assert len(CODEC.reply(MeshReply("0a1b2c3d", "coming"))) == 6
    assert len(CODEC.needs(MeshNeeds("mill", {"water": 3, "food": 1}))) - words("mill") == 2 + 4
    assert len(CODEC.sms(sms_of())) - words("Go uphill") == 13


def test_a_question_of_160_characters_takes_less_than_600_ms_a_hop_at_sf9() -> None:
    """Headers of the frame, the pair and the payload, and what an RYLR896 hides."""
    texts = [
        msgspec.json.decode(line)["text"]
        for line in (Path(__file__).parents[1] / "vectors" / "triage.jsonl").read_bytes().splitlines()
    ]
    random.Random(7).shuffle(texts)
    joined = " ".join(texts)
    long = [joined[at : at + 160] for at in range(0, 160 * 60, 160)]
    on_air = [
        time_on_air_us(len(CODEC.query(query_of(text))) + 18 + 4 + 11, spreading_factor=9) for text in long
    ]
    assert max(on_air) <= 600_000


def packer_of() -> Any:
    return packer(Texts.load())


def test_the_lists_behind_the_numbers_only_grow() -> None:
    """A place in these lists is on the air: what stands here may never change, only be added to."""
    assert LANGUAGES[:9] == ("en", "es", "fr", "pt", "sw", "hi", "ar", "ht", "fil")
    assert NEED_LIST[:5] == ("medical", "rescue", "fire", "violence", "water")
    assert NEED_LIST[5:10] == ("food", "shelter", "missing_person", "evacuation", "utilities")
    assert NEED_LIST[10:] == ("hazard_info", "aid_info", "mental_health", "childbirth", "hygiene")
    assert [CODEC.read(CODEC.query(query_of(lang=lang))).lang for lang in ("en", "fil", "xx")] == [  # type: ignore[union-attr]  # a query
        "en",
        "fil",
        "en",
    ]


def test_a_public_alert_keeps_what_decides_and_loses_its_long_texts() -> None:
    ring = tuple((10.0 + i / 100, 20.0 - i / 50) for i in range(9))
    bulletin = Bulletin(
        identifier="urn:oid:2.49.0.1.404.0.2026.11.22.1",
        sender="alerts@met.example",
        sent_at=1_795_000_000.0,
        status="Actual",
        msg_type="Update",
        scope="Public",
        references=(Reference("alerts@met.example", "a0", 1_794_000_000.0), Reference("b", "c", 5.0)),
        infos=(
            Info(
                "Flash flood",
                "Immediate",
                "Extreme",
                "Observed",
                lang="en",
                categories=("Met", "Geo"),
                responses=("Evacuate",),
                codes=(("SAME", "FFW"),),
                expires_at=1_795_007_200.0,
                sender_name="Met Office",
                headline="Flash flood in the Tana valley",
                description="x" * 5000,
                instruction="y" * 5000,
                areas=(
                    Area("Tana valley", polygons=(ring, ring * 6), geocodes=(("UGC", "KE1"),)),
                    Area("Garissa", circles=((0.5, 39.6, 12.0),)),
                ),
            ),
        ),
    )
    octets = CODEC.bulletin(bulletin)
    assert len(octets) < 260
    found = CODEC.read(octets)
    assert isinstance(found, Bulletin)
    assert (found.key, found.feed, found.lane) == (bulletin.key, "mesh", "priority")
    assert found.references == bulletin.references
    [info], [meant] = found.infos, bulletin.infos
    for field in (
        "event",
        "urgency",
        "severity",
        "certainty",
        "responses",
        "codes",
        "expires_at",
        "headline",
    ):
        assert getattr(info, field) == getattr(meant, field), field
    assert (set(info.categories), info.onset_at) == ({"Met", "Geo"}, None)
    assert (info.description, info.instruction) == ("", "")
    first, second = info.areas
    assert first.polygons == (ring,)
    [circle] = first.circles  # the ring of too many points, as the circle around it
    assert circle[:2] == pytest.approx((10.04, 19.92), abs=1e-3)
    assert 9.83 < circle[2] < 10.2
    assert second.circles == ((0.5, 39.6, 12.0),)
    assert CODEC.read(CODEC.bulletin(_bulletin())).key == _bulletin().key  # type: ignore[union-attr]  # a bulletin


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "size"),
        (bytes(MAX_PAYLOAD_OCTETS + 1), "size"),
        (bytes([1 << 5 | 1]) + bytes(20), "version"),
        (bytes([31]) + bytes(20), "kind"),
        (bytes([0]), "kind"),
        (bytes([1, 1, 2]), "form"),
        (bytes([1, 1, 2, 3, 4, 0xC0, 0x00, 65]), "form"),  # a privacy that is none
        (bytes([1, 1, 2, 3, 4, 0, 0x00]), "form"),  # no words
        (bytes([1, 1, 2, 3, 4, 0, 0x00]) + b"a" * (MAX_TEXT + 1), "form"),
        (bytes([1, 1, 2, 3, 4, 0, 0x1F, 9]), "form"),  # a model that is not here
        (bytes([2, 1, 2, 3, 4, 0, 0x00]) + b"a\x1eb\x1ec\x1ed\x1ee", "form"),
        (bytes([3, 1, 2, 3, 4, 0x40, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0, 0, 0, 0x00, 0x1E]), "form"),
        (bytes([4, 1, 2, 3, 4]), "form"),
        (bytes([4, 1, 2, 3, 4, 9]), "form"),
        (bytes([5, 200]), "form"),
        (bytes([5, 1, 30, 4, 0, 65]), "form"),  # a need that is none
        (bytes([7, 1, 2, 3, 4, 0, 200, 0x12]), "form"),
        (bytes([7, 1, 2, 3, 4, 0, 4, 0x12, 0xAB, 0x00, 65]), "form"),
        (bytes([6, 0, 4]) + b"abcd" + b"\x00", "form"),
        (bytes([8]) + bytes(11), "form"),
        (bytes([9]) + bytes(10), "form"),
        (bytes([9]) + bytes(14) + b"\x00" + b"r" * 401, "form"),
        (bytes([10]) + bytes(8), "form"),  # no octets
        (bytes([10, 1, 2, 3, 4, 0, 5, 0, 4, 1, 2]), "form"),  # more than there are
        (bytes([11, 3]) + bytes(6), "form"),  # a reason that is none
    ],
    ids=range(25),
)
def test_what_no_node_sends_is_refused_with_a_reason(octets: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        CODEC.read(octets)
    assert refused.value.reason == reason


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 11), st.binary(max_size=80))
def test_any_octets_are_read_or_refused(kind: int, octets: bytes) -> None:
    reason = "form"
    try:
        CODEC.read(bytes([kind]) + octets)
    except PayloadError as error:
        reason = error.reason
    assert reason in {"form", "kind"}


# ── what must not be forgotten ────────────────────────────────────────────────────────────────────────────

NOW = EPOCH + 1000.0


def test_the_state_is_kept_and_fresh_keys_begin_at_nothing(tmp_path: Path) -> None:
    keep = Keep(tmp_path, 7, 3)
    (tmp_path / "fresh").touch()
    assert keep.start(None) == (b"", 0, "")
    assert keep.start(NOW) == (
        b"",
        1000,
        "",
    )  # a card that was wiped and joined with its old file is fresh too
    keep.write(b"one")
    assert not (tmp_path / "fresh").exists()
    keep.write(b"two")
    assert Keep(tmp_path, 7, 3).start(None) == (b"two", 0, "")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another node's", "too long", "gone"])
def test_counters_that_are_lost_go_on_far_ahead_or_not_at_all(tmp_path: Path, damage: str) -> None:
    keep, path = Keep(tmp_path, 7, 3), tmp_path / "state"
    keep.write(b"state of three kilobytes" * 100)
    whole = path.read_bytes()
    broken = {
        "cut": whole[:-1],
        "flipped": bytes([*whole[:50], whole[50] ^ 1, *whole[51:]]),
        "empty": b"",
        "too long": whole + bytes(2**20),
    }
    if damage == "gone":
        path.unlink()
    elif damage == "another node's":
        keep = Keep(tmp_path, 7, 4)
    else:
        path.write_bytes(broken[damage])
    with pytest.raises(LostError, match="clock"):
        keep.start(None)
    start = keep.start(NOW)
    assert (start.state, start.lost_s) == (b"", 1000)
    assert str(path) in start.why
    if damage != "gone":
        assert (tmp_path / "state.damaged").exists()


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────


class Came(NamedTuple):
    source: int
    id: int
    lane: Any
    payload: bytes
    broadcast: bool = False


class Wanted(NamedTuple):
    transmit: bytes | None = None
    wake_at_us: int | None = None
    arrived: Sequence[Any] = ()
    states: Sequence[tuple[int, State]] = ()
    keep: bytes | None = None


class Scripted:
    """A core that does what a test says: one result of `poll` after the other."""

    def __init__(self) -> None:
        self.polls: asyncio.Queue[Wanted] = asyncio.Queue()
        self.log: list[str] = []
        self.messages: list[tuple[int | None, bytes, str]] = []
        self.room = 1000
        self.forgotten: list[int] = []
        self.heard: list[bytes] = []

    def send(self, destination: int | None, payload: bytes, lane: str, _now_us: int) -> int:
        if not payload:
            raise MeshError("nothing to send")
        if len(self.messages) >= self.room:
            raise MeshFullError("full")
        self.messages.append((destination, payload, lane))
        return len(self.messages)

    def receive(self, frame: bytes, _rssi_dbm: float, _snr_db: float, _now_us: int) -> None:
        self.heard.append(frame)

    def sent(self, _now_us: int) -> None:
        self.log.append("sent")

    def poll(self, _now_us: int) -> Wanted:
        return Wanted() if self.polls.empty() else self.polls.get_nowait()

    def forget(self, message: int) -> None:
        self.forgotten.append(message)

    def set_status(self, **status: object) -> None:
        self.log.append(f"status {status}")

    def neighbours(self, _now_us: int) -> list[Any]:
        return []

    def routes(self, _now_us: int) -> list[Any]:
        return []

    def airtime(self, _now_us: int) -> Any:
        return None

    def counters(self) -> dict[str, int]:
        return {}


class Set:
    """A radio whose condition a test sets."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.trouble = ""
        self.counters: dict[str, int] = {}
        self.refuses_open = ""
        self.refuses = ""
        self.heard: asyncio.Queue[Heard | None] = asyncio.Queue()

    async def open(self) -> RadioFacts:
        self.log.append("open")
        if self.refuses_open:
            raise RadioError(self.refuses_open)
        return RadioFacts("test", 0, 237, senses=False, preamble_symbols=8)

    async def transmit(self, frame: bytes) -> None:
        self.log.append(f"transmit {frame.decode()}")
        if self.refuses:
            raise RadioError(self.refuses)

    async def tune(self, spreading_factor: int) -> None:
        self.log.append(f"radio SF{spreading_factor}")
        if self.refuses:
            raise RadioError(self.refuses)

    async def frames(self) -> AsyncIterator[Heard]:
        while (heard := await self.heard.get()) is not None:
            yield heard

    async def close(self) -> None:
        self.log.append("close")


class Bench:
    """A loop with a scripted core, a radio that a test sets, and a real file."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("FULL_WAIT_S", "RETRY_S", "LONGEST_SLEEP_S"):
            monkeypatch.setattr(f"actors.mesh.loop.{name}", 0.01)
        monkeypatch.setattr("actors.mesh.loop.REOPEN_S", (0.01,))
        (tmp_path / "fresh").touch()
        self.core = Scripted()
        self.log = self.core.log
        self.radio = Set(self.log)
        self.keep = Keep(tmp_path, 7, 3)
        self.stored: list[Any] = []
        self.told: list[str] = []
        self.bus_fails = 0
        self.states: list[str] = []
        self.loop = Loop(
            make_radio=lambda: self.radio,
            begin=self.begin,
            store=self.store,
            told=self.told.append,
            now_us=lambda: int(clock.boot_s() * 1e6),
            tune=self.tune,
        )
        self.lost = ""
        self.tunes: list[int] = []

    def tune(self, _: Any) -> int | None:
        return self.tunes.pop(0) if self.tunes else None

    def begin(self, _: RadioFacts) -> tuple[Any, Keep]:
        if self.lost:
            raise LostError(self.lost)
        return self.core, self.keep

    async def store(self, arrival: Any) -> None:
        if self.bus_fails:
            self.bus_fails -= 1
            raise BusError("the server is away")
        self.log.append(f"stored {arrival.id}")
        self.stored.append(arrival)

    async def until(self, *wanted: str) -> None:
        async with asyncio.timeout(10):
            while not set(wanted) <= set(self.log):
                await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    task = asyncio.create_task(made.loop.run())
    yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_leaves_before_what_arrived_is_stored_and_the_counters_are_on_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = bench.keep.write

    def noted(state: bytes) -> None:
        if "failed" not in bench.log:
            bench.log.append("failed")
            raise OSError(28, "No space left on device")
        write(state)
        bench.log.append("kept")

    monkeypatch.setattr(bench.keep, "write", noted)
    bench.bus_fails = 2
    bench.core.polls.put_nowait(Wanted(b"receipt", arrived=[Came(7, 5, "flash", b"x")], keep=b"state"))
    await bench.until("sent")
    after = bench.log[bench.log.index("open") + 1 :]
    assert after == ["stored 5", "failed", "kept", "transmit receipt", "sent"]
    assert bench.keep.start(None).state == b"state"
    assert bench.loop.counters["bus_waits"] == 2
    assert bench.loop.counters["disk_waits"] == 1


async def test_a_message_is_waited_for_until_its_fate_is_known(bench: Bench) -> None:
    seen: list[str] = []
    sending = asyncio.create_task(bench.loop.send(7, b"hello", "priority", within_s=10, changed=seen.append))
    everybody = asyncio.create_task(bench.loop.send(None, b"all", "routine", within_s=10))
    async with asyncio.timeout(10):
        while len(bench.core.messages) < 2:
            await asyncio.sleep(0.005)
    assert bench.core.messages == [(7, b"hello", "priority"), (None, b"all", "routine")]
    assert bench.loop.waiting == {"priority": 1, "routine": 1}
    bench.core.polls.put_nowait(Wanted(states=[(1, "queued"), (1, "sent"), (2, "sent"), (1, "relayed")]))
    assert await everybody == "sent"  # nobody acknowledges what is for everybody
    assert not sending.done()
    bench.core.polls.put_nowait(Wanted(states=[(1, "delivered"), (1, "delivered"), (99, "expired")]))
    assert await sending == "delivered"
    assert seen == ["queued", "sent", "relayed", "delivered"]
    assert bench.loop.waiting == {}
    assert bench.core.forgotten == []


async def test_a_full_core_holds_the_message_and_one_that_nobody_wants_any_more_is_taken_back(
    bench: Bench,
) -> None:
    bench.core.room = 0
    held = asyncio.create_task(bench.loop.send(7, b"a", "routine", within_s=10))
    async with asyncio.timeout(10):
        while not bench.loop.counters["full"]:
            await asyncio.sleep(0.005)
    assert not held.done()
    assert await bench.loop.send(7, b"b", "routine", within_s=0.05) == "expired"
    bench.core.room = 10
    async with asyncio.timeout(10):
        while not bench.core.messages:
            await asyncio.sleep(0.005)
    assert await bench.loop.send(7, b"c", "routine", within_s=0.05) == "expired"
    assert bench.core.forgotten == [2]
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert bench.core.forgotten == [2, 1]
    with pytest.raises(MeshError):
        await bench.loop.send(7, b"", "routine", within_s=10)


async def test_a_dead_radio_is_said_once_and_the_node_goes_on(bench: Bench) -> None:
    await bench.until("open")
    async with asyncio.timeout(10):
        while bench.told != [""]:
            await asyncio.sleep(0.005)
    bench.radio.trouble = "it answers nothing: plug it in again"
    bench.core.polls.put_nowait(Wanted(b"later"))
    async with asyncio.timeout(10):
        while len(bench.told) < 2:
            await asyncio.sleep(0.005)
    waits = asyncio.create_task(bench.loop.send(7, b"x", "flash", within_s=10))
    await asyncio.sleep(0.1)
    assert bench.told == ["", "it answers nothing: plug it in again"]
    before = list(bench.log)
    bench.radio.trouble = ""
    await bench.until("transmit later")
    assert "transmit later" not in before  # what the core wants sent is not asked of it while nobody can
    async with asyncio.timeout(10):
        while not bench.core.messages:
            await asyncio.sleep(0.005)
    bench.core.polls.put_nowait(Wanted(states=[(1, "delivered")]))
    assert await waits == "delivered"
    assert bench.told == ["", "it answers nothing: plug it in again", ""]


async def test_a_frame_that_did_not_leave_counts_as_sent_and_a_closed_line_is_opened_again(
    bench: Bench,
) -> None:
    bench.radio.refuses = "no answer"
    bench.core.polls.put_nowait(Wanted(b"one"))
    await bench.until("sent")
    assert bench.loop.counters["transmit_failed"] == 1
    bench.radio.refuses = ""
    bench.radio.heard.put_nowait(Heard(b"frame", -90.0, 5.0))
    async with asyncio.timeout(10):
        while bench.core.heard != [b"frame"]:
            await asyncio.sleep(0.005)
    bench.radio.heard.put_nowait(None)
    async with asyncio.timeout(10):
        while bench.log.count("open") < 2:
            await asyncio.sleep(0.005)
    assert bench.log.count("close") >= 1


async def test_a_radio_that_is_not_there_is_tried_again_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    bench.radio.refuses_open = "no such device"
    task = asyncio.create_task(bench.loop.run())
    async with asyncio.timeout(10):
        while bench.log.count("open") < 4:
            await asyncio.sleep(0.005)
    assert bench.told == ["no such device"]
    bench.radio.refuses_open, bench.lost = "", "the counters are lost"
    async with asyncio.timeout(10):
        while len(bench.told) < 2:
            await asyncio.sleep(0.005)
    bench.lost = ""
    async with asyncio.timeout(10):
        while len(bench.told) < 3:
            await asyncio.sleep(0.005)
    assert bench.told == ["no such device", "the counters are lost", ""]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ── what leaves ───────────────────────────────────────────────────────────────────────────────────────────


class Desk:
    """Both handlers with a loop that does what a test says."""

    def __init__(self) -> None:
        self.kept, self.masked = MemoryKeyValue(), MemoryKeyValue()
        self.routes: list[Route] = []
        self.low = False
        self.outcome: State = "delivered"
        self.bad = False
        self.sent: list[tuple[int | None, bytes, str]] = []
        self.told: list[tuple[str, MeshPacket, dict[str, Any]]] = []
        self.now_s = 0.0
        self.needs = NeedsBoard("here", lambda: self.now_s)
        self.outward = Outward(
            codec=CODEC,
            loop=self,  # type: ignore[arg-type]  # only `send` is asked
            kept=self.kept,
            routes=lambda: self.routes,
            only_flash=lambda: self.low,
            own=3,
            tell=self.tell,
        )
        self.inward = Inward(
            node="n1", codec=CODEC, kept=self.kept, masked=self.masked, needs=self.needs, tell=self.tell
        )

    def tell(self, kind: str, packet: MeshPacket, **fields: Any) -> None:
        self.told.append((kind, packet, fields))

    async def send(self, destination: int | None, payload: bytes, lane: Any, **rest: Any) -> State:
        if self.bad:
            raise MeshError("no key of node 9")
        self.sent.append((destination, payload, lane))
        rest["changed"]("sent")
        return self.outcome

    async def out(self, lane: Any = "priority", **fields: Any) -> None:
        packet = MeshPacket(node="n1", lane=lane, query_id="q1", **fields)
        assert list(await self.outward.handle(packet)) == []

    async def come(self, payload: bytes, **fields: Any) -> list[Any]:
        settings = {"lane": "priority", "peer": 7, "network": 1, "id": 5, **fields}
        packet = MeshPacket(node="n1", payload=payload, **settings)
        return list(await self.inward.handle(packet))

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_question_goes_to_the_nearest_node_with_a_link_and_is_remembered_first(desk: Desk) -> None:
    desk.routes = [Route(4, 9.0, True, False), Route(5, 2.0, True, True), Route(6, 1.0, False, True)]
    await desk.out(query=query_of())
    assert desk.sent == [(5, CODEC.query(query_of()), "priority")]
    assert await desk.kept.get(asked_key(ref_of("q1"))) is not None
    assert desk.kinds() == ["mesh_sent", "mesh_delivered"]
    desk.routes = [
        Route(4, 9.0, False, True, True),
        Route(5, 2.0, False, False, True),
        Route(6, 1.0, False, True),
    ]
    await desk.out(query=query_of())
    assert desk.sent[-1][0] == 5, "a model, where nobody has a link"
    desk.routes.append(Route(7, 50.0, True, False))
    await desk.out(query=query_of())
    assert desk.sent[-1][0] == 7, "a link before a model, however far"
    desk.routes = [Route(6, 1.0, False, True)]
    with pytest.raises(RetryLaterError, match="no node with a link or a model"):
        await desk.out(query=query_of())


async def test_where_each_kind_goes(desk: Desk) -> None:
    desk.routes = [Route(4, 9.0, True, False), Route(6, 1.0, False, True)]
    desk.outcome = "sent"
    await desk.out(alert=alert_of(), lane="flash")
    await desk.out(bulletin=_bulletin())
    await desk.out(needs=MeshNeeds("mill", {"water": 1}))
    await desk.out(sms=sms_of(), lane="flash")
    await desk.out(answer=answer_of(), peer=7)
    await desk.out(reply=MeshReply("0a1b2c3d", "coming"), peer=8)
    assert [destination for destination, _, _ in desk.sent] == [None, None, None, 6, 7, 8]
    assert await desk.kept.get(case_key(ref_of("q1"))) is not None
    for broken in ({}, {"answer": answer_of()}, {"answer": answer_of(origin="x"), "peer": 7}, {"peer": 3}):
        with pytest.raises(RefusedError):
            await desk.out(**broken)  # type: ignore[arg-type]  # broken on purpose


async def test_a_low_battery_carries_only_flash(desk: Desk) -> None:
    desk.low = True
    with pytest.raises(RetryLaterError, match="battery"):
        await desk.out(needs=MeshNeeds("mill", {"water": 1}))
    await desk.out(alert=alert_of(), lane="flash")
    assert len(desk.sent) == 1


async def test_what_nobody_wants_any_more_or_nobody_can_send_ends_with_an_event(desk: Desk) -> None:
    await desk.out(query=query_of(), until=clock.deadline_in(-1))
    desk.bad = True
    await desk.out(alert=alert_of(), lane="flash")
    desk.bad, desk.outcome = False, "expired"
    await desk.out(alert=alert_of(), lane="flash")
    assert desk.kinds() == ["mesh_expired", "mesh_refused", "mesh_sent", "mesh_expired"]
    assert desk.outward.counters == {
        "query_expired": 1,
        "alert_refused": 1,
        "alert_sent": 1,
        "alert_expired": 1,
    }


# ── what comes ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_question_of_another_node_is_answered_like_one_of_a_person_here(desk: Desk) -> None:
    payload = CODEC.query(query_of(privacy="public"))
    [output] = await desk.come(payload)
    [again] = await desk.come(payload, id=6)  # sent again after a restart there: the same question
    query = output.message
    assert isinstance(query, Query)
    assert (output.subject, output.lane, query.node) == (names.ROUTE, "priority", "n1")
    assert (query.text, query.privacy, query.origin) == (
        "how do I solder a tap?",
        "public",
        f"7.{ref_of('q1')}",
    )
    assert query.sender_ref.startswith("mesh7-")
    assert len(query.id) == 32
    assert (again.query_id, again.kind) == (output.query_id, output.kind)
    [flash] = await desk.come(payload, lane="flash")
    assert flash.lane == "priority"  # emergencies are answered at home
    [other] = await desk.come(payload, peer=8)
    assert other.query_id != output.query_id
    assert not query.node_only
    keeps = Inward(
        node="n1",
        codec=CODEC,
        kept=desk.kept,
        masked=desk.masked,
        needs=desk.needs,
        tell=desk.tell,
        node_only=True,
    )
    packet = MeshPacket(node="n1", lane="routine", peer=7, network=1, payload=payload)
    [kept] = await keeps.handle(packet)
    assert isinstance(kept.message, Query)
    assert kept.message.node_only


async def test_an_answer_becomes_one_of_the_centres_with_its_names_put_back(desk: Desk) -> None:
    await desk.kept.put(asked_key(ref_of("q1")), encode(query_of("who is [name1]?", received_at=9.0)))
    await desk.masked.put("q1", msgspec.json.encode(Taken("ana", {"[name1]": "Ana"})))
    payload = CODEC.answer(answer_of("Ask [name1] to heat the joint.", sources=("CDC",)), ref_of("q1"))
    [output] = await desk.come(payload, peer=5)
    answer = output.message
    assert isinstance(answer, Answer)
    assert (output.subject, output.query_id, output.lane) == (names.COMPRESS, "q1", "priority")
    assert (answer.text, answer.sender_ref, answer.sources) == ("Ask Ana to heat the joint.", "ana", ("CDC",))
    assert (answer.asked, answer.by_centre, answer.verbatim, answer.received_at) == (True, True, True, 9.0)
    assert answer.wait is not None
    assert answer.origin == ""
    strange = CODEC.answer(answer_of("Ask [name2] to heat the joint."), ref_of("q1"))
    assert await desk.come(strange) == []
    nobody = CODEC.answer(answer_of(), ref_of("another"))
    assert await desk.come(nobody) == []
    assert [fields["reason"] for kind, _, fields in desk.told if kind == "mesh_dropped"] == [
        "a placeholder that stands for nothing here",
        "nobody here asked that, or long ago",
    ]


async def test_somebody_in_danger_elsewhere_is_an_alert_here_and_its_news_finds_the_person(
    desk: Desk,
) -> None:
    payload = CODEC.alert(alert_of(place=Place("the mill")))
    [output] = await desk.come(payload, lane="flash", broadcast=True)
    alert = output.message
    assert isinstance(alert, Alert)
    assert (output.subject, output.lane) == (names.ALERT, "flash")
    assert (alert.text, alert.needs, alert.place) == ("", ("medical", "rescue"), Place("the mill"))
    assert (alert.origin, alert.place_asked) == (f"7.{ref_of('q1')}", True)
    [moved] = await desk.come(CODEC.alert(alert_of(place=Place("the bridge"))), lane="flash", broadcast=True)
    assert moved.query_id != output.query_id
    assert isinstance(moved.message, Alert)
    assert moved.message.sender_ref == alert.sender_ref
    # At the person's own node.
    await desk.kept.put(case_key(ref_of("q1")), encode(alert_of()))
    for state, answer in (("coming", "coming"), ("unheard", "cannot")):
        [told] = await desk.come(CODEC.reply(MeshReply(ref_of("q1"), state)), lane="flash")  # type: ignore[arg-type]
        assert isinstance(told.message, ResponderReply)
        assert (told.subject, told.message.sender_ref) == (names.ALERT_REPLY, "ana")
        assert (told.message.responder, told.message.answer) == ("mesh7", answer)
    assert await desk.come(CODEC.reply(MeshReply("00000000", "coming")), lane="flash") == []


async def test_an_sms_for_another_node_is_sent_only_when_it_saves(desk: Desk) -> None:
    [output] = await desk.come(CODEC.sms(sms_of()), lane="flash")
    assert isinstance(output.message, OutboundSms)
    assert (output.subject, output.message.number, output.message.text) == (
        names.SMS_OUT,
        "+34600111222",
        "Go uphill",
    )
    assert await desk.come(CODEC.sms(sms_of()), lane="priority") == []


async def test_alerts_and_needs_of_others(desk: Desk) -> None:
    [output] = await desk.come(CODEC.bulletin(_bulletin()), broadcast=True)
    assert (output.subject, output.query_id) == (names.BULLETIN, _bulletin().key)
    assert await desk.come(CODEC.needs(MeshNeeds("mill", {"water": 3})), broadcast=True) == []
    assert desk.needs.all() == {"mill": {"water": 3}}


@pytest.mark.parametrize(
    ("payload", "broadcast", "reason", "dead"),
    [
        (bytes([1 << 5 | 1]) + bytes(20), False, "version", True),
        (bytes([30]) + bytes(20), False, "kind", True),
        (bytes(0), False, "size", False),
        (bytes([1, 0]), False, "form", False),
        (CODEC.sms(sms_of()), True, "broadcast", False),
        (CODEC.query(query_of()), True, "broadcast", False),
    ],
    ids=["version", "kind", "size", "form", "sms for all", "question for all"],
)
async def test_a_forged_payload_of_an_enrolled_node_is_counted_and_harms_nothing(
    desk: Desk, payload: bytes, broadcast: bool, reason: str, dead: bool
) -> None:
    if dead:
        with pytest.raises(RefusedError, match="bring its EVY up to date"):
            await desk.come(payload, broadcast=broadcast)
    else:
        assert await desk.come(payload, broadcast=broadcast) == []
    assert desk.inward.counters == {f"dropped_{reason}": 1}
    assert desk.kinds() == ["mesh_dropped"]


def test_needs_are_counts_of_an_hour_and_those_of_others_of_a_day() -> None:
    now_s = 0.0
    board = NeedsBoard("here", lambda: now_s)
    board.count(["water", "food"])
    now_s = HOUR_S / 2
    board.count(["water"])
    assert board.own() == MeshNeeds("here", {"water": 2, "food": 1})
    now_s = HOUR_S + 1
    assert board.own() == MeshNeeds("here", {"water": 1})
    places = [f"place {number}" for number in range(MOST_PLACES + 5)]
    random.Random(7).shuffle(places)
    for place in places:
        now_s += 1
        board.heard(MeshNeeds(place, {"shelter": 1}))
    assert len(board.all()) == MOST_PLACES + 1
    assert set(places[5:]) < set(board.all())
    now_s += KEPT_S + 1
    assert board.all() == {}


async def test_the_radio_is_set_between_frames_and_one_that_refuses_is_opened_again(bench: Bench) -> None:
    bench.core.polls.put_nowait(Wanted(b"before"))
    await bench.until("sent")
    bench.tunes.append(10)
    await bench.until("radio SF10")
    bench.core.polls.put_nowait(Wanted(b"after"))
    await bench.until("transmit after")
    assert [line for line in bench.log if line != "sent"] == [
        "open",
        "transmit before",
        "radio SF10",
        "transmit after",
    ]
    bench.radio.refuses = "it is still SF10"
    bench.tunes.append(11)
    await bench.until("close")
    assert "it is still SF10" in bench.told
    bench.radio.refuses = ""
    async with asyncio.timeout(10):
        while bench.loop.trouble:
            await asyncio.sleep(0.005)


# ── the actor, with the real core ─────────────────────────────────────────────────────────────────────────


class Site:
    """An actor of a node that joined, with a radio that a test sets, on the memory bus."""

    def __init__(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        planned: tuple[int, int] | None = None,
        region: str = "EU868",
        **mesh: Any,
    ) -> None:
        monkeypatch.setattr("actors.mesh.loop.RETRY_S", 0.01)
        frequency_hz = {"EU868": 869_525_000, "US915": 915_000_000}[region]
        operator = Operator.create(
            tmp_path / "keys", "valley", region=region, frequency_hz=frequency_hz, spreading_factor=7
        )
        if planned:
            operator.plan(*planned, time.time())
        join(tmp_path, "n1", operator.enrol("n1"))
        tables = {
            "node": {"name": "n1", "data_dir": str(tmp_path)},
            "mesh": {"device": "x", "place": "mill", **mesh},
        }
        self.context = MemoryContext(Config(tables), Identity("n1", b"x", "0"))
        self.radio = Set([])
        self.made: list[int] = []
        """The spreading factor of each radio that was made."""
        network = open_network(tmp_path)
        self.mesh = Mesh(
            self.context,
            self.context.config.section("mesh", MeshConfig),
            network,
            parts=Parts(self.make_radio),
            kept=MemoryKeyValue(),
            masked=MemoryKeyValue(),
            codec=CODEC,
        )

    def make_radio(self, network: Installed, _: MeshConfig) -> Set:
        self.made.append(network.spreading_factor)
        return self.radio

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.context.events if event.kind == kind]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.mesh.loop.run())
        async with asyncio.timeout(10):
            while self.mesh.loop.trouble:
                await asyncio.sleep(0.005)
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_the_node_decides_by_is_told_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch)
    await site.mesh.look()
    assert [told["radio"] for told in site.told("mesh_state")] == ["down"]
    async with site.running():
        for _ in range(3):
            await site.mesh.look()
        assert [told["radio"] for told in site.told("mesh_state")] == ["down", "up"]
        [_, told] = site.told("mesh_state")
        assert (told["neighbours"], told["uplink"], told["modem"], told["airtime_percent"]) == (
            0,
            False,
            False,
            0.0,
        )
        site.context.state = NodeState(
            node="n1",
            link="up",
            battery_rule_percent=19.0,
            model=True,
            modems=(ModemState(name="m", state="up"),),
        )
        await site.mesh.look()
        status = await site.mesh.status(MeshStatusRequest())
        assert (status.uplink, status.modem, status.flash_only) == (True, True, True)
        assert not status.model, "there is one, and no power for it"
        for model, percent, told in ((True, 35.0, True), (True, None, True), (False, 90.0, False)):
            site.context.state = NodeState(node="n1", battery_rule_percent=percent, model=model)
            assert (await site.mesh.status(MeshStatusRequest())).model is told
        site.context.state = NodeState(node="n1")
        assert not (await site.mesh.status(MeshStatusRequest())).model, "nobody has told"
        assert (status.radio, status.name, status.frequency_hz) == ("up", "test", 869_525_000)
        assert (status.airtime_window_s, status.airtime_limit_ms) == (3600.0, 360_000.0)
        site.radio.trouble = "it answers nothing"
        async with asyncio.timeout(10):
            while not site.told("mesh_radio_down"):
                await asyncio.sleep(0.005)
        await site.mesh.look()
        assert site.told("mesh_state")[-1]["radio"] == "down"
        assert (await site.mesh.status(MeshStatusRequest())).reason == "it answers nothing"
        site.radio.trouble = ""


async def test_needs_of_people_here_are_shared_while_there_is_air(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.mesh.NEEDS_LEAST_S", 0.01)
    site = Site(tmp_path, monkeypatch)
    for ref, needs in (("0a1b", ["water", "food"]), ("mesh7-0a", ["water"]), ("0a1c", ["water"])):
        fields = {"needs": needs}
        await site.mesh.triaged(
            Event(kind="triaged", node="n1", actor="route", at=1.0, sender_ref=ref, fields=fields)
        )
    async with site.running():
        task = asyncio.create_task(site.mesh.share_needs())
        async with asyncio.timeout(10):
            while not site.context.published:
                await asyncio.sleep(0.005)
        task.cancel()
        [output] = site.context.published
        assert (output.subject, output.lane, output.optional) == (names.MESH_OUT, "routine", True)
        assert isinstance(output.message, MeshPacket)
        assert output.message.needs == MeshNeeds("mill", {"water": 2, "food": 1})
        assert (await site.mesh.status(MeshStatusRequest())).needs == {"mill": {"water": 2, "food": 1}}


async def test_a_planned_change_sets_core_and_radio_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.mesh.loop.LONGEST_SLEEP_S", 0.01)
    at = round(time.time()) + 3600
    site = Site(tmp_path, monkeypatch, planned=(9, at))
    async with site.running():
        status = await site.mesh.status(MeshStatusRequest())
        assert (status.spreading_factor, status.agreed_spreading_factor) == (7, 7)
        assert (status.planned_spreading_factor, status.planned_at) == (9, at)
        site.context.state = NodeState(node="n1", at=1.0, clock="sms", ahead_s=3601.0)
        async with asyncio.timeout(10):
            while "radio SF9" not in site.radio.log:
                await asyncio.sleep(0.005)
        assert site.told("mesh_tuned") == [{"spreading_factor": 9, "before": 7, "why": "planned"}]
        status = await site.mesh.status(MeshStatusRequest())
        assert (status.spreading_factor, status.agreed_spreading_factor) == (9, 9)
        assert status.counters["tuned"] == 1
    # A radio that is made anew, or a node that starts then, has it from the start.
    assert site.made[-1] == 7
    task = asyncio.create_task(site.mesh.loop.run())
    async with asyncio.timeout(10):
        while site.made[-1] != 9:
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_radio_that_the_law_leaves_no_room_for_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.mesh.loop.LONGEST_SLEEP_S", 0.01)
    monkeypatch.setattr("actors._roster.operator._check_law", lambda *_: None)
    site = Site(tmp_path, monkeypatch, planned=(10, round(time.time()) + 3600), region="US915")
    async with site.running():
        site.context.state = NodeState(node="n1", at=1.0, clock="sms", ahead_s=3601.0)
        async with asyncio.timeout(10):
            while not site.told("mesh_not_tuned"):
                await asyncio.sleep(0.005)
        [told] = site.told("mesh_not_tuned")
        assert "SF10" in str(told["reason"])
        assert (await site.mesh.status(MeshStatusRequest())).spreading_factor == 7
        assert not any(line.startswith("radio SF") for line in site.radio.log)


async def test_a_state_that_the_core_cannot_read_is_lost_and_without_a_clock_the_radio_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch)
    network = open_network(tmp_path)
    Keep(network.folder, network.network, network.address).write(b"no state of any core")
    site.context.state = NodeState(node="n1", at=1.0, clock="unset")
    task = asyncio.create_task(site.mesh.loop.run())
    async with asyncio.timeout(10):
        while "clock" not in site.mesh.loop.trouble:
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "clock" in site.told("mesh_radio_down")[0]["reason"]
    site.context.state = NodeState(node="n1", at=1.0, clock="sms")
    async with site.running():
        [lost] = site.told("mesh_counters_lost")
        assert "missing" in lost["reason"]  # it was moved aside at the first try
    assert (network.folder / "state.damaged").exists()


def test_only_what_is_told_of_one_danger_keeps_its_order() -> None:
    asked = MeshPacket(node="n1", lane="routine", query=query_of())
    danger = MeshPacket(node="n1", lane="flash", alert=alert_of())
    told = MeshPacket(node="n2", lane="routine", answer=answer_of())
    assert [(packet.person, packet.sender_ref) for packet in (asked, danger, told)] == [
        ("", "ana"),
        ("ana", "ana"),
        ("", ""),
    ]
