"""The actor `node`: what it folds into the state, what it tells, and the time it takes from texts."""

import asyncio
import random
from typing import Any

import pytest
from evy_core import Router

from actors._runtime.bus import BusError
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.knowledge import route_rules
from actors.node import GAUGE_SILENT_S, MODEMS, SILENT_S, Node, build
from actors.node.board import Board
from actors.node.gauge import GaugeError, Reading
from actors.node.sms_time import AGREE_FAR, EARLIEST, FAR_S, LATEST, SmsTime
from subjects.messages import Event, decode, encode
from subjects.node_state import STATE_KEY, MeshState, ModemState, NodeState

MB = 1024 * 1024
NOW = EARLIEST + 200 * 86400.0


class Machine:
    """A machine, its battery and its clocks, as a test sets them."""

    def __init__(self) -> None:
        self.board = Board(cpu_percent=7.0, memory_free_octets=900 * MB, under_voltage=False)
        self.percent: float | None = 80.0
        self.broken = False
        self.boot_s = 1000.0
        self.system_s = NOW
        self.by_network = True
        self.name = "a gauge"
        self.context = MemoryContext(Config({"node": {"name": "n1"}}), Identity("n1", b"x", "0"))
        self.bucket_fails = False
        self.node = Node(
            "n1",
            lambda: self.board,
            self,
            Router(route_rules()),
            self.context.emit,
            self.open_bucket,
            now=lambda: self.system_s,
            boot_s=lambda: self.boot_s,
            by_network=lambda: self.by_network,
        )

    async def open_bucket(self) -> Any:
        if self.bucket_fails:
            raise BusError("the server is away")
        return await self.context.bucket("node")

    def read(self) -> Reading:
        if self.broken:
            raise GaugeError("the bus hangs")
        return Reading(self.percent, charging=False, voltage_v=3.7, draw_w=5.0)

    async def turn(self, seconds: float = 5.0) -> NodeState:
        self.boot_s += seconds
        self.system_s += seconds
        return await self.node.turn()

    async def settle(self, percent: float) -> NodeState:
        self.percent = percent
        for _ in range(5):
            state = await self.turn()
        return state

    async def hear(self, kind: str, query_id: str = "", **fields: object) -> None:
        event = Event(kind=kind, node="n1", actor="x", at=1.0, query_id=query_id, fields=fields)
        await self.node.on_event(event)

    @property
    def told(self) -> list[list[str]]:
        return [event.fields["reasons"] for event in self.context.events]


async def test_the_state_is_in_the_bucket_and_told_when_it_begins() -> None:
    machine = Machine()
    state = await machine.turn()
    entry = await (await machine.context.bucket("node")).get(STATE_KEY)
    assert entry is not None
    assert decode(entry[0], NodeState) == state
    assert (state.battery_percent, state.battery_rule_percent) == (80.0, 80.0)
    assert (state.memory_free_octets, state.clock, state.at) == (900 * MB, "network", machine.system_s)
    [event] = machine.context.events
    assert (event.kind, event.actor, event.at) == ("node_state", "node", state.at)
    assert event.fields["battery_percent"] == 80.0
    assert machine.told == [["started"]]


async def test_a_crossed_limit_is_told_at_once_and_only_once() -> None:
    machine = Machine()
    await machine.turn()
    for percent in (31, 29, 31, 29, 33, 34, 29):
        await machine.settle(percent)
    crossings = [reason for reasons in machine.told for reason in reasons if reason.startswith("battery")]
    assert crossings == ["battery 31 %: below 50 %", "battery 29 %: below 30 %"]
    assert (await machine.settle(35)).battery_rule_percent == 35
    assert machine.told[-1] == ["battery 35 %: again above 30 %"]


async def test_one_sag_of_the_voltage_is_no_empty_battery() -> None:
    machine = Machine()
    await machine.settle(60)
    machine.percent = 12.0
    assert (await machine.turn()).battery_percent == 60
    machine.percent = 60.0
    assert (await machine.turn()).battery_rule_percent == 60


async def test_free_memory_has_its_own_margin() -> None:
    machine = Machine()
    for free_mb, rule_mb in ((120, 120), (99, 99), (180, 99), (249, 99), (250, 250)):
        machine.board = Board(memory_free_octets=free_mb * MB)
        assert (await machine.turn()).memory_rule_octets == rule_mb * MB
    assert [reasons for reasons in machine.told if "memory" in reasons[0]] == [
        ["free memory 99 MB: below 100 MB"],
        ["free memory 250 MB: again above 100 MB"],
    ]


async def test_a_gauge_that_falls_silent_is_believed_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    await machine.settle(25)
    machine.broken = True
    assert (await machine.turn()).battery_rule_percent == 25
    assert (await machine.turn(GAUGE_SILENT_S)).battery_percent is None
    assert machine.context.events[-1].fields["gauge_error"] == "the bus hangs"
    assert sum("the bus hangs" in record.message for record in caplog.records) == 1
    machine.broken = False
    assert (await machine.turn()).battery_percent == 25


async def test_once_a_minute_the_state_is_told_without_a_change() -> None:
    machine = Machine()
    for _ in range(30):
        await machine.turn(5)
    assert len(machine.told) == 1 + 2
    assert machine.told[1] == ["a minute has passed"]


async def test_modems_and_link_are_folded_in() -> None:
    machine = Machine()
    await machine.turn()
    await machine.hear("modem_state", modem="b", state="up", registered=True, signal_dbm=-77)
    await machine.hear("modem_state", modem="a", state="away")
    await machine.hear("modem_state", modem="b", state="up", registered=False)
    await machine.hear("modem_state", details="of an older node")
    await machine.hear("link_down", reason="x")
    state = await machine.turn()
    assert state.link == "down"
    assert [(modem.name, modem.state, modem.registered) for modem in state.modems] == [
        ("a", "away", None),
        ("b", "up", False),
    ]
    assert machine.told[-1] == ["link: none -> down", "modem a: away", "modem b: up, not registered"]
    for number in range(3 * MODEMS):
        await machine.hear("modem_state", modem=f"m{number}", state="up")
    assert len((await machine.turn()).modems) == MODEMS


async def test_a_process_that_starts_again_knows_link_and_modems() -> None:
    machine = Machine()
    before = NodeState(
        node="n1", link="up", modems=(ModemState(name="a", state="up"),), battery_rule_percent=29.0
    )
    await (await machine.context.bucket("node")).put(STATE_KEY, encode(before))
    await machine.node.resume()
    machine.percent = 31.0
    state = await machine.turn()
    assert (state.link, state.modems) == ("up", before.modems)
    assert state.battery_rule_percent == 29.0, "a restart is no way round the margin"


async def test_without_a_server_it_goes_on_and_writes_when_there_is_one() -> None:
    machine = Machine()
    machine.bucket_fails = True
    await machine.node.resume()
    await machine.turn()
    machine.bucket_fails = False
    state = await machine.turn()
    entry = await (await machine.context.bucket("node")).get(STATE_KEY)
    assert entry is not None
    assert decode(entry[0], NodeState) == state


async def test_a_bucket_that_ended_with_its_server_is_opened_again() -> None:
    machine = Machine()
    await machine.turn()
    old = await machine.context.bucket("node")

    async def gone(key: str, value: bytes) -> int:
        raise BusError(f"no stream for {key}, {len(value)} octets")

    old.put = gone  # type: ignore[method-assign]
    machine.context.buckets.clear()
    await machine.turn()
    state = await machine.turn()
    entry = await (await machine.context.bucket("node")).get(STATE_KEY)
    assert entry is not None
    assert decode(entry[0], NodeState) == state


async def test_without_a_time_server_the_texts_tell_the_time() -> None:
    machine = Machine()
    machine.by_network = False
    machine.system_s = EARLIEST + 86400.0  # what a Pi restored
    machine.node._time = SmsTime(machine.system_s - machine.boot_s)
    true = machine.system_s + 20 * 86400.0
    assert (await machine.turn()).clock == "unset"
    for number in range(2):
        await machine.hear("received", f"q{number}", smsc_at=true + number)
    state = await machine.turn(5)
    assert state.clock == "sms"
    assert state.at == pytest.approx(true + 6, abs=1)
    assert state.ahead_s == pytest.approx(20 * 86400.0, abs=10)
    assert machine.told[-1] == ["clock: unset -> sms"]
    machine.by_network = True
    state = await machine.turn()
    assert (state.clock, state.ahead_s, state.at) == ("network", 0.0, machine.system_s)


async def test_the_system_s_clock_is_stepped_only_where_it_is_asked_for_and_not_kept() -> None:
    machine, steps = Machine(), list[float]()

    def step(unix_s: float) -> str:
        steps.append(unix_s)
        machine.system_s = unix_s
        return "the clock was set"

    machine.by_network = False
    machine.node._set_clock = step
    await machine.turn()
    assert steps == []
    for number in range(2):
        await machine.hear("received", f"q{number}", smsc_at=machine.system_s + 3600)
    state = await machine.turn(0)
    assert steps == [pytest.approx(machine.system_s)]
    assert state.at == pytest.approx(NOW + 5 + 3600)
    assert "the clock was set" in machine.told[-1]
    state = await machine.turn()
    assert (len(steps), state.ahead_s) == (1, pytest.approx(0, abs=0.001)), "once is enough"
    machine.by_network = True
    machine.system_s -= 3600
    await machine.turn()
    assert len(steps) == 1, "a time server keeps it"


async def test_what_cannot_be_done_to_the_machine_is_said_once() -> None:
    machine = Machine()
    machine.node._govern = lambda _: "governor powersave not set: Permission denied"
    for _ in range(10):
        await machine.turn()
    assert sum("Permission denied" in " ".join(reasons) for reasons in machine.told) == 1


def stamps(clock: SmsTime, *found: float, start: int = 0) -> list[bool]:
    return [clock.observe(f"q{start + n}", stamp, 50.0) for n, stamp in enumerate(found)]


def test_one_stamp_is_not_believed_and_two_are() -> None:
    clock = SmsTime(NOW - 50.0)
    assert stamps(clock, NOW + 3600) == [False]
    assert clock.observe("q0", NOW + 3600, 51.0) is False, "a text does not agree with itself"
    assert clock.offset_s is None
    assert stamps(clock, NOW + 3601, start=1) == [True]
    assert clock.offset_s == NOW + 3601 - 50.0


def test_a_wrong_stamp_does_not_throw_it_years_ahead() -> None:
    clock = SmsTime(NOW - 50.0)
    stamps(clock, NOW, NOW + 1)
    ahead = NOW + 5 * 365 * 86400.0
    stamps(clock, *(ahead + 400 * n for n in range(1, 9)), start=10)
    assert clock.offset_s == NOW + 1 - 50.0, "eight that do not agree"
    stamps(clock, *[ahead] * (AGREE_FAR - 1), start=20)
    assert clock.offset_s == NOW + 1 - 50.0
    stamps(clock, ahead, start=40)
    assert clock.offset_s == ahead - 50.0, "the whole network says so"


def test_it_never_goes_back_and_late_texts_change_nothing() -> None:
    clock = SmsTime(NOW - 50.0)
    stamps(clock, NOW, NOW)
    stamps(clock, *(NOW - 3600.0 * n for n in range(12)), start=10)
    assert clock.offset_s == NOW - 50.0


@pytest.mark.parametrize("stamp", [0.0, -1.0, EARLIEST - 1, LATEST + 1, float("nan"), float("inf")])
def test_stamps_of_no_possible_time_are_ignored(stamp: float) -> None:
    clock = SmsTime(0.0)
    assert stamps(clock, *[stamp] * 8) == [False] * 8


def test_a_long_sleep_takes_more_agreement_but_not_for_ever() -> None:
    clock = SmsTime(EARLIEST)
    later = EARLIEST + 50 + FAR_S + 86400.0
    assert stamps(clock, *[later] * AGREE_FAR) == [False] * (AGREE_FAR - 1) + [True]


def test_honest_texts_with_delays_and_a_liar_give_the_true_time() -> None:
    chance = random.Random(4)
    clock = SmsTime(NOW - 86400.0)
    for number in range(200):
        boot_s = number * 60.0
        delay = chance.expovariate(1 / 30.0) if chance.random() < 0.8 else chance.uniform(0, 86400)
        wrong = chance.uniform(-1, 1) * 9e8 if chance.random() < 0.1 else 0.0
        clock.observe(f"q{number}", NOW + boot_s - delay + wrong, boot_s)
    assert clock.offset_s is not None
    assert clock.offset_s == pytest.approx(NOW, abs=60)


async def test_the_actor_of_this_machine_builds_and_turns(tmp_path: Any) -> None:
    tables = {"node": {"name": "n1", "data_dir": str(tmp_path)}, "power": {"sys": str(tmp_path)}}
    context = MemoryContext(Config(tables), Identity("n1", b"x", "0"))
    made = await build(context)
    [watch] = made.tasks
    task = asyncio.create_task(watch())
    bucket = await context.bucket("node")
    async with asyncio.timeout(30):
        while not (entry := await bucket.get(STATE_KEY)):
            await asyncio.sleep(0.01)
    first = decode(entry[0], NodeState)
    assert first.memory_free_octets
    assert first.battery_percent is None
    context.emit(Event(kind="link_up", node="n1", actor="link", at=1.0))
    async with asyncio.timeout(30):
        while decode((await bucket.get(STATE_KEY) or (b"",))[0], NodeState).link != "up":
            await asyncio.sleep(0.01)
    task.cancel()


async def test_the_mesh_is_known_for_as_long_as_its_actor_speaks() -> None:
    machine = Machine()
    await machine.turn()
    await machine.hear("mesh_state", radio="up", neighbours=2, uplink=True, airtime_percent=1.5, new="field")
    await machine.hear("mesh_state", radio="sideways")
    state = await machine.turn()
    assert state.mesh == MeshState(radio="up", neighbours=2, uplink=True, airtime_percent=1.5)
    assert machine.told[-1] == ["mesh: none -> up, within reach: link"]
    await machine.hear("mesh_state", radio="down")
    await machine.turn()
    assert machine.told[-1] == ["mesh: up, within reach: link -> radio down"]
    assert (await machine.turn(SILENT_S)).mesh is None


async def test_the_model_is_known_for_as_long_as_its_actor_speaks() -> None:
    machine = Machine()
    assert (await machine.turn()).model is None
    await machine.hear("model_state", ready=False, reason="the file is missing")
    await machine.hear("model_state", reason="of another version")
    assert (await machine.turn()).model is False
    assert machine.told[-1] == ["model: unknown -> no"]
    await machine.hear("model_state", ready=True, reason="")
    assert (await machine.turn()).model is True
    assert (await machine.turn(SILENT_S)).model is None
