"""`evy forget` on a real server: nothing of one person is left in any file, and nobody else is touched."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from evy_core import Deliver, encode_pdus

from actors._cli.forget import EmergencyError, forget_person, person_of
from actors._event_store import EventStore, StoreError, path_in
from actors._people.cases import Asked, AskedAbout, Case, Held, Rota, case_key, rota_key
from actors._reports import open_store
from actors._runtime import erase
from actors._runtime.actor import Output
from actors._runtime.bus import NatsBus
from actors._runtime.clock import boot_id, boot_s, deadline_in
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.event_log import Kept, Position
from actors._runtime.event_log import Page as EventPage
from actors._runtime.identity import Identity, load_identity
from actors._runtime.provision import provision
from actors._runtime.worker import run_actors
from subjects import names
from subjects.errors import ConfigError
from subjects.event_report import EventReport, Reported
from subjects.messages import DeadLetter, Deadline, Event, InboundSms, OutboundSms, Query, decode, encode
from subjects.names import Lane
from tests.conftest import NODE, PLACE, Server
from tests.linked import Linked, holds, running

pytestmark = pytest.mark.nats

NUMBER, OTHER = "+491711234567", "+491717654321"
WORDS = "how do I keep rice dry under the table"


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here holds work in hand for a quarter of a minute."""
    monkeypatch.setattr(erase.erase, "__kwdefaults__", {**erase.erase.__kwdefaults__, "linger_s": 1.0})
    monkeypatch.setattr(erase, "PAUSE_S", 0.1)


def text(bus: NatsBus, number: str, words: str, lane: Lane = "routine", serial: str = "") -> Output:
    query_id = bus.identity.sender_ref(number + words + serial)[:16] * 2
    sms = InboundSms(
        id=query_id,
        node=NODE,
        sender=number,
        text=words,
        lane=lane,
        deadline=deadline_in(60),
        received_at=1.0,
    )
    return Output(names.SMS_IN, lane, sms, query_id)


@asynccontextmanager
async def at_work(bus: NatsBus) -> AsyncIterator[None]:
    """intake, route and compress; questions wait for `rag` and replies for a modem."""
    actors = await build_actors(
        ("intake", "route", "compress"), BusContext(Config({"node": {"name": NODE}}), bus)
    )
    stop = asyncio.Event()
    running = asyncio.create_task(run_actors(bus, actors, stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def waits(bus: NatsBus, subject: str, count: int) -> None:
    """Waits until so many messages of a subject wait in a work stream."""
    async with asyncio.timeout(20):
        while True:
            there = 0
            for stream in (f"WORK_{NODE}", f"FLASH_{NODE}"):
                info = await bus.js.stream_info(stream, subjects_filter=subject)
                there += (info.state.subjects or {}).get(subject, 0)
            if there == count:
                return
            await asyncio.sleep(0.02)


async def lived_in(bus: NatsBus) -> None:
    """Two people have texted, thrice and with a lost part; one text each is a dead letter."""
    numbers = await bus.bucket("numbers")
    for number in (NUMBER, OTHER):
        for serial in "123":
            await bus.publish(text(bus, number, f"{WORDS} {number[-4:]}", serial=serial), "test")
        await bus.publish(text(bus, number, "STOP"), "test")
        ref = bus.identity.sender_ref(number)
        part = json.dumps({"sender": number, "total": 2, "utf16": "aGk="}).encode()
        await (await bus.bucket("parts")).put(f"{ref}.7-2.1", part)
        more = await bus.bucket("more")
        for _ in range(3):
            await more.put(ref, json.dumps({"rest": WORDS}).encode())
        ledger = json.dumps({"state": "SUBMITTED", "modem": "m", "to": ref, "lane": "routine"}).encode()
        await (await bus.bucket("ledger")).put(f"{ref[:16] * 2}.reply.1", ledger)
        answered = json.dumps({"by_centre": False, "text": WORDS}).encode()
        await (await bus.bucket("answered")).put(ref[:16] * 2, answered)
        letter = DeadLetter(
            subject="sms.in.routine",
            payload=encode(text(bus, number, f"{WORDS} dead").message),
            headers={},
            error="bad",
            actor="intake",
            node=NODE,
            deliveries=6,
            at=1.0,
        )
        await bus.dead_letter(letter)
        [pdu] = encode_pdus([Deliver(number, data=b"\x00\xff", coding=0x04)])
        await bus.dead_letter(msgspec.structs.replace(letter, payload=pdu))
        await waits(bus, "rag.routine", 3 if number == NUMBER else 6)
        for _ in range(3):  # as intake does, once a day
            await numbers.put(ref, number.encode())
    await waits(bus, "sms.out.routine", 2)


def files_with(directory: Path, *words: str) -> Iterator[str]:
    """Files of a directory that hold a word, as it is or in base64 at any of its three offsets."""
    for path in directory.rglob("*"):
        octets = path.read_bytes() if path.is_file() else b""
        for word in words:
            # Of the first and last digit of base64 some bits are the neighbours'.
            wrapped = [base64.b64encode(b"x" * pad + word.encode())[pad and 4 : -4] for pad in range(3)]
            if any(mark in octets for mark in (word.encode(), *wrapped)):
                yield f"{word!r} in {path.name} of {path.parents[1].name}"


@pytest.mark.parametrize("store_key", ["", "a store key of the tests, 32 long"])
async def test_nothing_of_a_person_is_left_in_any_file_and_nobody_else_is_touched(
    tmp_path: Path, store_key: str, request: pytest.FixtureRequest
) -> None:
    server = Server(tmp_path / "nats", store_key=store_key)
    request.addfinalizer(server.stop)
    bus = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test", wait_s=10)
    assert await provision(bus.js, PLACE) == []
    person = await person_of(NUMBER, bus)
    [ref] = [ref for ref in person.refs if ref == bus.identity.sender_ref(NUMBER)]
    async with at_work(bus):
        await lived_in(bus)
        found = ["numbers, WORK and DLQ, encrypted"]
        if not store_key:
            found = list(files_with(server.store, NUMBER, f"{WORDS} 4567"))
        assert all(any(name in place for place in found) for name in ("numbers", "WORK", "DLQ")), found
        report = await forget_person(bus, NUMBER, everything=False, now=False)
        assert report.opt_out_kept
        assert report.swept, report.later
        assert {"bucket numbers", "bucket session", "bucket parts", "bucket more", "bucket ledger"} <= set(
            report.erased
        )
        assert report.erased[f"stream DLQ_{NODE}"] == 2
        assert report.erased[f"stream WORK_{NODE}"] == 4
        assert list(files_with(server.store, NUMBER, f"{WORDS} 4567", NUMBER.removeprefix("+"))) == []
        again = await forget_person(bus, ref, everything=False, now=False)
        assert again.erased == {}
    assert await (await bus.bucket("consent")).get(ref) is not None
    last = await forget_person(bus, NUMBER, everything=True, now=False)
    assert last.erased == {"bucket consent": 1}
    await waits(bus, "rag.routine", 3)
    assert list(files_with(server.store, NUMBER, f"{WORDS} 4567", NUMBER.removeprefix("+"))) == []
    other = bus.identity.sender_ref(OTHER)
    for name in ("numbers", "session", "consent", "more"):
        assert await (await bus.bucket(name)).get(other) is not None, name
    assert (await bus.js.stream_info(f"DLQ_{NODE}")).state.messages == 2

    server.kill()
    await bus.close()
    server.start()
    fresh = await NatsBus.connect(bus.identity, server.url, "test", wait_s=10)
    try:
        assert await provision(fresh.js, PLACE) == []
        for name in ("numbers", "session", "consent", "more", "parts", "ledger", "answered"):
            assert not await (await fresh.bucket(name)).keys(ref), name
        assert await (await fresh.bucket("numbers")).get(other) is not None
    finally:
        await fresh.close()


async def test_an_emergency_under_way_is_not_forgotten_by_the_way(bus: NatsBus) -> None:
    await bus.publish(text(bus, NUMBER, "trapped under a wall", "flash"), "test")
    with pytest.raises(EmergencyError, match="1 messages"):
        await forget_person(bus, NUMBER, everything=False, now=False)
    await waits(bus, "sms.in.flash", 1)
    report = await forget_person(bus, NUMBER, everything=False, now=True)
    assert report.erased == {f"stream FLASH_{NODE}": 1}


async def test_a_case_goes_and_the_responders_other_cases_stay(bus: NatsBus) -> None:
    ref, alerts = bus.identity.sender_ref(NUMBER), await bus.bucket("alerts")
    case = Case(number=7, query_id="7" * 32, boot_id=boot_id(), heard_at_s=boot_s(), asked=(Asked("ben"),))
    await alerts.put(case_key(ref), msgspec.json.encode(case))
    other = msgspec.structs.replace(case, number=8, query_id="8" * 32)
    await alerts.put(case_key("other"), msgspec.json.encode(other))
    mine, theirs = (
        Held(n, who, "flash", f"{n} water", str(n) * 32, 0.0, f"{n}.0") for n, who in ((7, ref), (8, "other"))
    )
    asked = (AskedAbout(7, ref), AskedAbout(8, "other"))
    await alerts.put(rota_key("ben"), msgspec.json.encode(Rota(asked=asked, held=(mine, theirs))))
    for number in (7, 8):
        query = Query(
            id=str(number) * 32,
            node=NODE,
            sender_ref="",
            text="",
            lang="en",
            lane="routine",
            deadline=Deadline("", 0.0),
        )
        await bus.publish(Output(names.RAG, "routine", query, query.id), "test")
    with pytest.raises(EmergencyError, match="evy cases"):
        await forget_person(bus, NUMBER, everything=False, now=False)
    report = await forget_person(bus, NUMBER, everything=False, now=True)
    assert report.erased == {"bucket alerts": 1, f"stream WORK_{NODE}": 1}
    entry = await alerts.get(rota_key("ben"))
    assert entry is not None
    assert msgspec.json.decode(entry[0], type=Rota) == Rota(asked=asked[1:], held=(theirs,))
    assert await alerts.keys("case.") == [case_key("other")]
    await waits(bus, "rag.routine", 1)


async def test_a_responder_is_found_by_number_and_an_alert_by_whom_it_is_about(bus: NatsBus) -> None:
    ref = bus.identity.sender_ref(NUMBER)
    for query, number, about in (("1" * 32, OTHER, ref), ("2" * 32, NUMBER, ""), ("3" * 32, OTHER, "")):
        out = OutboundSms(
            query_id=query,
            node=NODE,
            text="{number} needs help",
            lang="en",
            lane="priority",
            step="alert",
            kind="alert",
            number=number,
            about_ref=about,
        )
        await bus.publish(Output(names.SMS_OUT, "priority", out, query), "test")
    report = await forget_person(bus, "+49 171 123-4567", everything=False, now=False)
    assert report.erased == {f"stream WORK_{NODE}": 2}


async def test_the_event_store_forgets_too(bus: NatsBus, tmp_path: Path) -> None:
    refs = [bus.identity.sender_ref(number) for number in (NUMBER, OTHER)]
    for serial, ref in enumerate(refs):
        event = Event(
            kind="received", node=NODE, actor="intake", at=1.0, query_id=f"{serial:032x}", sender_ref=ref
        )
        await bus.js.publish("evt.received", encode(event))
    [analytics] = await build_actors(
        ("analytics",), BusContext(Config({"node": {"name": NODE, "data_dir": str(tmp_path)}}), bus)
    )
    stop = asyncio.Event()
    running = asyncio.create_task(run_actors(bus, [analytics], stop))
    path = path_in(tmp_path)
    async with asyncio.timeout(20):
        while not path.exists() or len(_events(path)) < 2:
            await asyncio.sleep(0.05)
    report = await forget_person(bus, NUMBER, everything=False, now=False, events=path)
    assert report.erased == {f"stream EVT_{NODE}": 1, "event store": 1}
    stop.set()
    await running
    assert {event.sender_ref for event in _events(path)} - {""} == {refs[1]}
    assert list(files_with(tmp_path, refs[0])) == []


def _events(path: Path) -> list[Event]:
    try:
        with closing(EventStore.existing(path)) as store:
            return list(store.events())
    except StoreError:  # it is being made
        return []


async def test_a_card_without_room_is_not_swept_and_says_where_the_number_still_is(
    bus: NatsBus, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = bus.identity.sender_ref(NUMBER)
    for key in ("another", ref):  # a stream that runs empty begins a new file
        await (await bus.bucket("numbers")).put(key, NUMBER.encode() if key == ref else b"+1")
    monkeypatch.setattr("actors._cli.forget.ROOM_OCTETS", 2**60)
    report = await forget_person(bus, NUMBER, everything=False, now=False, store=server.store)
    assert not report.swept
    assert "make room" in report.later[0]
    assert f"KV_numbers_{NODE}" in report.later[1]


async def test_what_is_no_number_and_no_reference_is_refused(bus: NatsBus) -> None:
    with pytest.raises(ConfigError, match="neither a phone number"):
        await person_of("somebody", bus)


def test_the_command(tmp_path: Path, server: Server) -> None:
    (tmp_path / "evy.toml").write_text(
        f'[node]\nname = "{NODE}"\ndata_dir = "{tmp_path}"\nnats_url = "{server.url}"\n'
    )
    identity = load_identity(NODE, tmp_path)

    async def prepare() -> None:
        bus = await NatsBus.connect(Identity(NODE, identity.secret, "0"), server.url, "test", wait_s=10)
        await provision(bus.js, PLACE)
        await (await bus.bucket("numbers")).put(identity.sender_ref(NUMBER), NUMBER.encode())
        await bus.close()

    asyncio.run(prepare())

    def evy(*arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "actors",
            "--config",
            str(tmp_path / "evy.toml"),
            "forget",
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "1  bucket numbers" in evy(NUMBER)
    assert json.loads(evy(NUMBER, "--json"))["erased"] == {}


async def test_the_centre_forgets_too_when_the_link_is_back(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges), AsyncExitStack() as stack:
        bus = edges["e1"]
        for number, serial in ((NUMBER, "1"), (NUMBER, "2"), (OTHER, "3")):
            ref = bus.identity.sender_ref(number)
            query = Query(
                id=serial * 32,
                node="e1",
                sender_ref=ref,
                text=WORDS,
                lang="en",
                lane="routine",
                deadline=deadline_in(60),
            )
            await bus.publish(Output(names.INFER_LARGE, "routine", query, query.id), "test")
        await holds(hub, "IN_e1", 3)
        await holds(bus, "UP_e1", 0)
        linked.hubs["hub1"].kill()
        # Of these texts the streams know nothing any more, and the centre has what was reported of them.
        own, texts = path_in(tmp_path / "e1"), ("4" * 32, "5" * 32)
        with closing(EventStore.open(own)) as store:
            told = [
                Event(kind="sent", node="e1", actor="sms", at=1.0, query_id=query, sender_ref=ref)
                for query, ref in zip(texts, map(bus.identity.sender_ref, (NUMBER, OTHER)), strict=True)
            ]
            store.add(EventPage(Position("made", 2), tuple(map(Kept, (1, 2), told))))
        hers, theirs = map(bus.identity.report_ref, texts)
        reports = open_store(Config({"node": {"profile": "bigevy", "data_dir": str(tmp_path / "centre")}}))
        stack.callback(reports.close)
        rows = (Reported(1, 1, "sent", "flash", hers), Reported(2, 1, "sent", "flash", theirs))
        reports.add(EventReport(node="e1", stream="0" * 12, events=rows), 1.8e9)
        report = await forget_person(bus, NUMBER, everything=False, now=False, events=own, linked=True)
        assert "waits for the link" in report.later[0]
        await holds(bus, "UP_e1", 1)
        linked.hubs["hub1"].start()
        again = await linked.connect_hub()
        stack.push_async_callback(again.close)
        stop = asyncio.Event()
        config = Config({"node": {"profile": "bigevy", "data_dir": str(tmp_path / "centre")}})
        events = path_in(tmp_path / "centre")
        with closing(EventStore.open(events)) as store:
            kept = [
                Event(
                    kind="decided",
                    node="hub",
                    actor="infer_large",
                    at=1.0,
                    query_id=serial * 32,
                    sender_ref=ref,
                )
                for serial, ref in (
                    ("1", bus.identity.sender_ref(NUMBER)),
                    ("3", bus.identity.sender_ref(OTHER)),
                )
            ]
            store.add(EventPage(Position("made", 2), tuple(map(Kept, (1, 2), kept))))
        actors = await build_actors(("forget",), BusContext(config, again))
        working = asyncio.create_task(run_actors(again, actors, stop))
        await holds(again, "IN_e1", 1, within_s=60)
        await holds(bus, "UP_e1", 0)
        left = await again.js.get_msg("IN_e1", subject="infer.large.e1.routine")
        assert decode(left.data or b"", Query).id == "3" * 32
        async with asyncio.timeout(60):
            while len(_events(events)) > 1:
                await asyncio.sleep(0.05)
        assert [event.query_id for event in _events(events)] == ["3" * 32]
        assert [row.text for row in reports.rows(0, 2e9)] == [theirs]
        stop.set()
        await working
        by_hand = await forget_person(again, bus.identity.sender_ref(OTHER), everything=False, now=False)
        assert by_hand.erased == {"stream IN_e1": 1}
