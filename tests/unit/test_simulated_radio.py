"""Simulated radios at their serial lines: who hears what, what the law says, maps, orders and the picture
(docs/mesh.md, M45 to M48)."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import serial
from click.testing import CliRunner
from defusedxml.ElementTree import fromstring
from evy_core import time_on_air_us

from actors._cli.sim import sim
from simulators.orders import give
from simulators.radio import Air, Ground, Module
from simulators.radio.air import Event
from simulators.radio.ground import Channel, Place, crosses
from simulators.radio.orders import (
    Die,
    Draw,
    Fail,
    Log,
    Lose,
    Loss,
    Move,
    RadioControl,
    Revive,
    Routes,
    Send,
    Shadow,
    Show,
    Watch,
    serve,
    write_picture,
)

pytestmark = pytest.mark.modem

WITHIN_S = 30
SPEED = 50.0
SLOW = 5.0
"""Where one frame must begin within another: the longest lasts a fifth of a second then."""
PLAIN = Channel(shadow_db=0, asymmetry_db=0)


class Host:
    """A program at a module's terminal, as simple as can be."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._serial = serial.Serial(str(module.terminal.link), 115200, timeout=0, exclusive=True)
        self._buffer = b""

    def close(self) -> None:
        self._serial.close()

    def write(self, command: bytes) -> None:
        self._serial.write(command)

    async def line(self) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            while b"\r\n" not in self._buffer:
                self._buffer += self._serial.read(4096)
                await asyncio.sleep(0.001)
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def ask(self, command: bytes) -> bytes:
        self.write(command + b"\r\n")
        return await self.line()

    async def tune(self, spreading_factor: int = 9, band: int = 869_525_000) -> None:
        for command in (b"AT+BAND=%d" % band, b"AT+PARAMETER=%d,7,1,7" % spreading_factor):
            assert await self.ask(command) == b"+OK"

    async def begin(self, data: bytes) -> None:
        """Has a frame begin and waits until it is on the air."""
        before = self.module.is_sending
        assert not before
        self.write(b"AT+SEND=0,%d,%b\r\n" % (len(data), data))
        async with asyncio.timeout(WITHIN_S):
            while not self.module.is_sending:
                await asyncio.sleep(0.0005)


@asynccontextmanager
async def radios(
    directory: Path, *places: tuple[str, float, float], tuned: bool = True, **more: Any
) -> AsyncIterator[tuple[Air, list[Host]]]:
    """An air with radios at places, each with a host."""
    extra = {name: more.pop(name) for name in ("link", "obstacle", "channel") if name in more}
    ground = Ground(radio=tuple(Place(name, x, y) for name, x, y in places), **{"channel": PLAIN, **extra})
    air = Air(ground, directory, **{"speed": SPEED, **more})
    air.start()
    hosts = [Host(module) for module in air.modules]
    try:
        for host in hosts:
            assert await host.line() == b"+READY"
            if tuned:
                await host.tune()
        yield air, hosts
    finally:
        for host in hosts:
            host.close()
        air.stop()


async def landed(air: Air, frames: int) -> list[Event]:
    """Waits until so many frames have left."""
    async with asyncio.timeout(WITHIN_S):
        while len(air.events) < frames:
            await asyncio.sleep(0.002)
    return list(air.events)


# -- the serial line ----------------------------------------------------------------------------------------


async def test_the_at_set_is_the_guides(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0), tuned=False) as (air, [host]):
        asked = {
            b"AT": b"+OK",
            b"AT+BAND?": b"+BAND=915000000",
            b"AT+PARAMETER?": b"+PARAMETER=12,7,1,4",
            b"AT+BAND=869525000": b"+OK",
            b"AT+BAND=433000000": b"+ERR=15",
            b"AT+PARAMETER=9,7,1,8": b"+ERR=15",
            b"AT+PARAMETER=9,7,1": b"+ERR=15",
            b"AT+PARAMETER=9,8,4,7": b"+OK",
            b"AT+ADDRESS=65535": b"+OK",
            b"AT+ADDRESS=65536": b"+ERR=15",
            b"AT+NETWORKID=6": b"+OK",
            b"AT+CRFOP=16": b"+ERR=15",
            b"AT+CPIN=FABC0002EEDCAA90FABC0002EEDCAA90": b"+OK",
            b"AT+CPIN?": b"+CPIN=FABC0002EEDCAA90FABC0002EEDCAA90",
            b"AT+MODE=1": b"+OK",
            b"AT+VER?": b"+VER=RYLR89C_V1.2.7",
            b"AT+NOTHING=1": b"+ERR=4",
            b"AT+NOTHING?": b"+ERR=4",
            b"AT+SEND": b"+ERR=3",
            b"HELLO": b"+ERR=2",
            b"AT+SEND=0,5,HELL": b"+ERR=15",
            b"AT+SEND=0,241," + b"x" * 241: b"+ERR=13",
            b"AT+SEND=x,1,x": b"+ERR=4",
            b"AT+IPR=9601": b"+ERR=15",
        }
        for command, answer in asked.items():
            assert await host.ask(command) == answer, command
        host.write(b"AT")
        assert await host.line() == b"+ERR=1"
        assert await host.ask(b"AT+RESET") == b"+RESET"
        assert await host.line() == b"+READY"
        # What the guide calls stored stays; frequency, parameters and password go.
        for question, answer in (
            (b"AT+ADDRESS?", b"+ADDRESS=65535"),
            (b"AT+NETWORKID?", b"+NETWORKID=6"),
            (b"AT+BAND?", b"+BAND=915000000"),
            (b"AT+PARAMETER?", b"+PARAMETER=12,7,1,4"),
            (b"AT+CPIN?", b"+CPIN=No Password!"),
        ):
            assert await host.ask(question) == answer
        assert not air.events


async def test_a_payload_is_a_c_string(tmp_path: Path) -> None:
    """The worst that firmware built on C strings does; why the driver masks (M41)."""
    async with radios(tmp_path, ("a", 0, 0)) as (_, [host]):
        assert await host.ask(b"AT+SEND=0,3,a\0b") == b"+ERR=15"
        host.write(b"AT+SEND=0,4,a\r\nb\r\n")
        assert [await host.line() for _ in range(2)] == [b"+ERR=15", b"+ERR=2"]


async def test_addresses_and_networks_filter(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0), ("b", 300, 0), ("c", 0, 300)) as (_, [a, b, c]):
        for host, address in ((a, 1), (b, 2), (c, 3)):
            await host.ask(b"AT+ADDRESS=%d" % address)
        await c.ask(b"AT+NETWORKID=9")
        assert await a.ask(b"AT+SEND=3,5,other") == b"+OK"
        assert await a.ask(b"AT+SEND=2,3,you") == b"+OK"
        assert await a.ask(b"AT+SEND=0,3,all") == b"+OK"
        assert (await b.line()).startswith(b"+RCV=1,3,you,")
        assert (await b.line()).startswith(b"+RCV=1,3,all,")
        await c.ask(b"AT+NETWORKID=0")
        assert await a.ask(b"AT+SEND=0,5,again") == b"+OK"
        assert (await c.line()).startswith(b"+RCV=1,5,again,")


# -- the air (M45) ------------------------------------------------------------------------------------------


async def test_ok_comes_when_the_frame_has_left_and_not_earlier(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0)) as (air, [a]):
        assert await a.ask(b"AT+SEND=0,100," + b"x" * 100) == b"+OK"
        [event] = air.events
        exact_us = time_on_air_us(108, spreading_factor=9, preamble_symbols=7)
        assert event.airtime_ms == exact_us / 1e3
        assert air.counts[0].airtime_us == exact_us == air.channel.airtime_us[0]


async def test_who_sends_hears_nothing(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0), ("b", 300, 0), speed=SLOW) as (air, [a, b]):
        await a.begin(b"x" * 200)
        await b.begin(b"y" * 20)
        first, second = await landed(air, 2)
        # b began to send in the middle of a's frame, and a was sending all the while.
        assert (first.sender, first.busy, first.heard) == ("b", ("a",), ())
        assert (second.sender, second.busy, second.heard) == ("a", ("b",), ())
        assert (air.counts[0].busy, air.counts[1].busy) == (1, 1)


@pytest.mark.parametrize(("near_m", "survives"), [(300, True), (950, False)])
async def test_the_much_stronger_of_two_survives_and_of_equals_none(
    tmp_path: Path, near_m: float, *, survives: bool
) -> None:
    # b and c hear each other too, but both send.
    places = ("a", 0, 0), ("b", near_m, 0), ("c", -1000, 0)
    async with radios(tmp_path, *places, speed=SLOW) as (air, [a, b, c]):
        await c.begin(b"x" * 200)
        await b.begin(b"y" * 20)
        first, second = await landed(air, 2)
        assert (first.sender, second.sender) == ("b", "c")
        assert ("a" in first.heard) is survives
        assert "a" in second.collided
        lines = [await a.line() for _ in range(2)]
        assert lines[1] == b"+ERR=12"
        assert lines[0].startswith(b"+RCV=0,20,yyy") is survives


async def test_another_spreading_factor_neither_disturbs_nor_is_heard(tmp_path: Path) -> None:
    places = ("a", 0, 0), ("b", 500, 0), ("c", 0, 500), ("d", 500, 500)
    async with radios(tmp_path, *places, speed=SLOW) as (air, [a, b, c, d]):
        for host in (c, d):
            await host.tune(10)
        await a.begin(b"x" * 200)
        await c.begin(b"y" * 20)
        first, second = await landed(air, 2)
        assert (first.sender, first.heard) == ("c", ("d",))
        assert (second.sender, second.heard) == ("a", ("b",))
        assert not first.collided + second.collided
        assert (await b.line()).startswith(b"+RCV=0,200,")
        assert (await d.line()).startswith(b"+RCV=0,20,")


async def test_another_frequency_is_not_heard(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0), ("b", 500, 0)) as (air, [a, b]):
        await b.tune(9, 868_300_000)
        await a.ask(b"AT+SEND=0,1,x")
        assert air.events[-1].heard == ()
        await b.tune()
        await a.ask(b"AT+SEND=0,1,y")
        assert air.events[-1].heard == ("b",)


async def test_a_radio_that_dies_cuts_its_frame_off_and_hears_nothing(tmp_path: Path) -> None:
    async with radios(tmp_path, ("a", 0, 0), ("b", 500, 0), speed=SLOW) as (air, [a, b]):
        await a.begin(b"x" * 200)
        air.modules[0].unplug()
        [event] = await landed(air, 1)
        assert (event.heard, event.collided) == ((), ("b",))
        await b.ask(b"AT+SEND=0,1,x")
        assert air.events[-1].heard == ()
        air.modules[0].plug()
        assert air.modules[0].tuning.frequency_hz == 915_000_000


async def test_loss_is_drawn_from_the_seed(tmp_path: Path) -> None:
    got = []
    for _ in range(2):
        async with radios(tmp_path, ("a", 0, 0), ("b", 500, 0), loss=0.5, seed=3) as (air, [a, _]):
            for _ in range(12):
                await a.ask(b"AT+SEND=0,1,x")
            got.append([bool(event.heard) for event in air.events])
    assert got[0] == got[1]
    assert {True, False} == set(got[0])


# -- the law (M46) ------------------------------------------------------------------------------------------


async def test_too_much_air_is_a_violation_on_record_and_in_the_picture(tmp_path: Path) -> None:
    # 0.1 % of an hour are 3.6 s: four frames of SF12 are too much.
    channel = Channel(shadow_db=0, frequency_hz=864_000_000, spreading_factor=12)
    async with radios(tmp_path, ("a", 0, 0), channel=channel, speed=2000.0) as (air, [a]):
        await a.tune(12, 864_000_000)
        await a.ask(b"AT+CRFOP=14")
        for _ in range(3):
            assert await a.ask(b"AT+SEND=0,4,help") == b"+OK"
        assert not air.counts[0].violations
        assert await a.ask(b"AT+SEND=0,4,help") == b"+OK"
        used_s = 4 * time_on_air_us(12, spreading_factor=12, preamble_symbols=7) / 1e6
        assert air.events[-1].violation == f"duty: {used_s:.3f} s on air within 3600 s, 3.600 s allowed"
        assert air.counts[0].violations == 1
        await a.tune(9, 869_100_000)
        await a.ask(b"AT+CRFOP=15")
        await a.ask(b"AT+SEND=0,4,help")
        assert air.events[-1].violation.startswith("power: 15.0 dBm, 14")
        [picture] = drawn(air, tmp_path)
        assert "frames against the law" in picture


async def test_more_than_four_tenths_of_a_second_in_twenty_is_a_violation(tmp_path: Path) -> None:
    channel = Channel(region="US915", frequency_hz=915_000_000)
    async with radios(tmp_path, ("a", 0, 0), channel=channel) as (air, [a]):
        await a.tune(9, 915_000_000)
        await a.ask(b"AT+SEND=0,40," + b"x" * 40)
        assert not air.events[-1].violation
        await a.ask(b"AT+SEND=0,40," + b"x" * 40)
        assert air.events[-1].violation.endswith("within 20 s, 0.400 s allowed")


# -- maps (M47) ---------------------------------------------------------------------------------------------

MAP = """
[channel]
shadow_db = 0
asymmetry_db = 0
[[radio]]
name = "school"
x_m = 0
y_m = 0
[[radio]]
name = "clinic"
x_m = 1500
y_m = 400
gain_db = 3.0
[[radio]]
name = "shop"
x_m = 1500
y_m = -400
[[link]]
from = "school"
to = "shop"
loss_db = 12.5
one_way = true
[[obstacle]]
name = "<ridge> & wall"
from = [700, 100]
to = [700, 900]
loss_db = 20.0
"""


def test_a_map_gives_each_link_what_stands_in_its_way(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text(MAP)
    air = Air(Ground.read(path), tmp_path)
    free = Air(Ground(radio=Ground.read(path).radio, channel=PLAIN), tmp_path)

    def more_db(one: int, other: int) -> float:
        return free.channel.rssi_dbm(one, other) - air.channel.rssi_dbm(one, other)

    assert more_db(0, 1) == pytest.approx(20.0)
    assert more_db(1, 0) == pytest.approx(20.0)
    assert more_db(0, 2) == pytest.approx(12.5)
    assert more_db(2, 0) == pytest.approx(0.0)
    # The clinic's better antenna helps both ways.
    assert free.channel.rssi_dbm(2, 1) - free.channel.rssi_dbm(2, 0) != 0
    for number in range(3):
        free.set_power(number, 14)
    assert free.channel.rssi_dbm(1, 2) == pytest.approx(free.channel.rssi_dbm(2, 1))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "radio"),
        ("radio = 3", "Expected `array`"),
        ("[[radio]]\nname = 'a'\nx_m = 0\ny_m = 0\nz_m = 0", "unknown field `z_m`"),
        ("[[radio]]\nname = '../x'\nx_m = 0\ny_m = 0", "name"),
        ("[[radio]]\nname = 'a'\nx_m = 1e99\ny_m = 0", "<= 1000000"),
        ("[[radio]]\nname = 'a'\nx_m = nan\ny_m = 0", "x_m"),
        (MAP.replace("shop", "school"), "two radios are called 'school'"),
        (MAP.replace('to = "shop"', 'to = "shops"'), "a link names 'shops'"),
        ("[channel", "Expected ']'"),
    ],
)
def test_a_bad_map_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(text)
    result = CliRunner().invoke(sim, ["radio", "--dry", "--map", str(path)])
    assert result.exit_code == 1
    assert str(path) in result.output
    assert reason in result.output


def test_made_maps_are_the_seeds_and_hang_together(tmp_path: Path) -> None:
    for nodes, seed in ((1, 0), (5, 1), (30, 2), (100, 3)):
        ground = Ground.made(nodes, seed, PLAIN)
        assert ground == Ground.made(nodes, seed, PLAIN)
        assert len(ground.radio) == nodes
        air = Air(ground, tmp_path)
        for number in range(nodes):
            air.set_power(number, 14)
        floor_dbm = air.channel.sensitivity_dbm(9)
        reached = {0}
        while more := {
            other
            for number in reached
            for other in range(nodes)
            if other not in reached and air.channel.rssi_dbm(number, other) > floor_dbm + 5
        }:
            reached |= more
        assert len(reached) == nodes
    assert Ground.made(5, 1) != Ground.made(5, 2)
    with pytest.raises(ValueError, match="301 radios, 1 to 300"):
        Ground.made(301, 0)


def test_lines_cross_or_do_not() -> None:
    assert crosses((0, 0), (10, 0), (5, -1), (5, 1))
    assert not crosses((0, 0), (10, 0), (11, -1), (11, 1))
    assert not crosses((0, 0), (10, 0), (5, 1), (5, 2))


# -- orders (M47) -------------------------------------------------------------------------------------------


async def test_orders_change_the_world(tmp_path: Path) -> None:
    socket = tmp_path / "control"
    places = ("a", 0, 0), ("b", 500, 0)
    async with (
        radios(tmp_path, *places, speed=500.0) as (air, [a, _]),
        serve(socket, air),
        RadioControl(socket) as control,
        RadioControl(socket) as watcher,
    ):
        await watcher.do(Watch())

        async def heard() -> bool:
            assert await a.ask(b"AT+SEND=0,1,x") == b"+OK"
            event = (await watcher.reply()).event
            assert event is not None
            return "b" in event.heard

        assert await heard()
        await control.do(Shadow(radio="a", other="b", loss_db=60))
        assert not await heard()
        await control.do(Shadow(radio="a", other="b", loss_db=0))
        await control.do(Lose(radio="a", other="b", frames=1))
        assert [await heard(), await heard()] == [False, True]
        await control.do(Loss(chance=0.99999))
        assert not await heard()
        await control.do(Loss(chance=0.0))
        await control.do(Move(radio="b", x_m=50_000, y_m=0))
        assert not await heard()
        await control.do(Move(radio="b", x_m=500, y_m=0, within_s=100))
        async with asyncio.timeout(WITHIN_S):
            while air.place(1) != (500, 0):
                await asyncio.sleep(0.01)
        assert await heard()
        await control.do(Fail(radio="a", codes=(13,)))
        assert await a.ask(b"AT+SEND=0,1,x") == b"+ERR=13"
        await control.do(Send(radio="b", octets="00" * 9))
        event = (await watcher.reply()).event
        assert event is not None
        assert event.sender == "b"
        await control.do(Die(radio="b"))
        state = (await control.do(Show())).radios
        assert state is not None
        assert [(radio.name, radio.alive) for radio in state] == [("a", True), ("b", False)]
        assert state[0].frames == 7
        assert not air.modules[1].terminal.link.exists()
        await control.do(Revive(radio="b"))
        assert air.modules[1].terminal.link.exists()
        assert len((await control.do(Log())).log or ()) == 8


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ('{"do": "die", "radio": "z"}', "no radio is called 'z'; there are a"),
        ('{"do": "die"}', "missing required field `radio`"),
        ('{"do": "explode"}', "Invalid value 'explode'"),
        ('{"do": "loss", "chance": 1.5}', "< 1.0"),
        ('{"do": "noise", "radio": "a", "octets": "xy"}', "non-hexadecimal"),
        ('{"do": "send", "radio": "a", "octets": "zz"}', "non-hexadecimal"),
        ('{"do": "move", "radio": "a", "x_m": 1e300, "y_m": 0}', "1000000"),
        ('{"do": "routes", "radio": "a", "via": {"b": "a"}}', "no radio is called 'b'"),
        ('{"do": "draw", "svg": "/nowhere/at/all.svg"}', "cannot be written"),
        ("nonsense", "JSON"),
    ],
)
async def test_bad_orders_are_refused_with_a_reason(tmp_path: Path, order: str, reason: str) -> None:
    socket = tmp_path / "control"
    async with radios(tmp_path, ("a", 0, 0), tuned=False) as (air, _), serve(socket, air):
        reply = json.loads(await give(socket, order))
        assert reason in reply["error"]
        assert json.loads(await give(socket, '{"do": "show"}'))["radios"]


# -- the picture (M48) --------------------------------------------------------------------------------------


def drawn(air: Air, directory: Path) -> list[str]:
    """The picture as text, after a look whether it is one."""
    path = directory / "picture.svg"
    write_picture(air, path)
    text = path.read_text(encoding="utf-8")
    root = fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [text]


async def test_the_picture_shows_radios_links_deliveries_and_routes(tmp_path: Path) -> None:
    ground = tmp_path / "map.toml"
    ground.write_text(MAP)
    read = Ground.read(ground)
    socket = tmp_path / "control"
    air = Air(read, tmp_path, speed=SPEED)
    air.start()
    hosts = [Host(module) for module in air.modules]
    async with serve(socket, air), RadioControl(socket) as control:
        for host in hosts:
            assert await host.line() == b"+READY"
            await host.tune()
        assert await hosts[1].ask(b"AT+SEND=0,5,HELLO") == b"+OK"
        await control.do(Routes(radio="school", via={"clinic": "shop", "shop": "shop"}))
        await control.do(Die(radio="school"))
        path = tmp_path / "now.svg"
        await control.do(Draw(svg=str(path)))
    for host in hosts:
        host.close()
    air.stop()
    root = fromstring(path.read_text(encoding="utf-8"))
    parts = {group.get("class"): group for group in root.iter("{http://www.w3.org/2000/svg}g")}
    names = {g.get("data-name") for g in root.iter("{http://www.w3.org/2000/svg}g")} - {None}
    assert names == {"school", "clinic", "shop"}
    titles = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("clinic → shop" in title and "1 of 1 frames heard" in title for title in titles)
    assert "school hands to shop what goes to clinic, shop" in titles
    assert "<ridge> & wall, 20 dB" in titles
    assert any(title.startswith("school (dead): ") for title in titles)
    # A dead radio has no links; the others hear each other.
    assert len(parts["links"].findall("{http://www.w3.org/2000/svg}line")) == 1
    assert len(parts["routes"]) == 1


def test_a_hundred_radios_can_be_drawn(tmp_path: Path) -> None:
    air = Air(Ground.made(100, 4), tmp_path)
    [text] = drawn(air, tmp_path)
    assert text.count('data-name="') == 100
    assert "and 64 that were on air less" in text


# -- the command --------------------------------------------------------------------------------------------


def test_dry_says_who_hears_whom(tmp_path: Path) -> None:
    result = CliRunner().invoke(sim, ["radio", "--dry", "--nodes", "4", "--seed", "1"])
    assert result.exit_code == 0
    assert [line.split(" is heard by ")[0] for line in result.output.splitlines()] == ["n1", "n2", "n3", "n4"]
    assert CliRunner().invoke(sim, ["radio", "--nodes", "301"]).exit_code == 2
    path = tmp_path / "map.toml"
    path.write_text(MAP)
    both = CliRunner().invoke(sim, ["radio", "--nodes", "4", "--map", str(path)])
    assert both.exit_code == 2
    assert "leave --nodes out" in both.output


async def test_the_command_prints_terminals_obeys_and_draws_at_the_end(tmp_path: Path) -> None:
    picture = tmp_path / "end.svg"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.radio", "--nodes", "2", "--speed", "50", "--svg", str(picture),
        "--dir", str(tmp_path / "radios"), "--order", '{"do": "loss", "chance": 0.5}',
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        lines = [(await process.stdout.readline()).decode().split("\t") for _ in range(3)]
    assert [name for name, _ in lines] == ["n1", "n2", "control"]
    assert sorted(os.listdir(tmp_path / "radios")) == ["control", "n1", "n2"]  # noqa: PTH208
    assert json.loads(await give(Path(lines[2][1].rstrip()), '{"do": "show"}'))["radios"][1]["alive"]
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(WITHIN_S):
        await process.communicate()
    assert process.returncode == 0
    assert fromstring(picture.read_text(encoding="utf-8")) is not None
    assert not os.listdir(tmp_path / "radios")  # noqa: PTH208
