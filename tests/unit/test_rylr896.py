"""The RYLR896 driver against simulated modules on real pseudo terminals: what works, and every fault of the
module that it must live through (docs/mesh.md, M40 to M44)."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from evy_core import time_on_air_us
from hypothesis import example, given
from hypothesis import strategies as st

from actors.mesh.masking import BLOCK_OCTETS, UNSAFE, mask, masked_octets, unmask
from actors.mesh.radio import LONGEST_FRAME, Heard, Radio, RadioError, RadioSettings
from actors.mesh.rylr896 import Rylr896
from actors.mesh.rylr896_line import Line, ModuleError, SilentError
from simulators.radio import Air, Ground, Module
from simulators.radio.ground import Channel, Place

pytestmark = pytest.mark.modem

WITHIN_S = 30
SPEED = 20.0
GROUND = Ground(
    radio=(Place("one", 0, 0), Place("two", 800, 0)), channel=Channel(shadow_db=0, asymmetry_db=0)
)


class End:
    """A driver with what it has heard."""

    def __init__(self, module: Module, **more: Any) -> None:
        self.module = module
        self.radio = Rylr896(
            str(module.terminal.link),
            RadioSettings(),
            speed=SPEED,
            reopen_wait_s=(0.05, 0.2),
            look_every_s=more.pop("look_every_s", 60.0),
            **more,
        )
        self._reader: asyncio.Task[None] | None = None
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()

    async def open(self) -> None:
        await self.radio.open()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for heard in self.radio.frames():
            self._heard.put_nowait(heard)

    async def close(self) -> None:
        await self.radio.close()
        if self._reader:
            await self._reader  # ends by itself

    async def next(self) -> Heard:
        async with asyncio.timeout(WITHIN_S):
            return await self._heard.get()

    async def until(self, frame: bytes) -> None:
        """Waits for this frame; those that were given up may have left before it."""
        while (await self.next()).frame != frame:
            pass

    async def count(self, name: str, at_least: int = 1) -> None:
        """Waits for a counter."""
        async with asyncio.timeout(WITHIN_S):
            while self.radio.counters.get(name, 0) < at_least:
                await asyncio.sleep(0.01)

    async def well(self, *, well: bool = True) -> None:
        """Waits until the driver says that all is well, or that it is not."""
        async with asyncio.timeout(WITHIN_S):
            while bool(self.radio.trouble) is well:
                await asyncio.sleep(0.01)

    async def persist(self, frame: bytes) -> None:
        """Sends a frame until it leaves, as the mesh does."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    return await self.radio.transmit(frame)
                except RadioError:
                    await asyncio.sleep(0.05)


@pytest.fixture
async def air(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Air]:
    monkeypatch.setattr("actors.mesh.rylr896_line.ANSWER_S", 0.5)
    monkeypatch.setattr("actors.mesh.rylr896.SPARE_S", 0.5)
    air = Air(GROUND, tmp_path, speed=SPEED)
    air.start()
    while any(module.is_starting for module in air.modules):
        await asyncio.sleep(0.01)
    yield air
    air.stop()


@pytest.fixture
async def ends(air: Air) -> AsyncIterator[tuple[End, End]]:
    one, two = (End(module) for module in air.modules)
    await asyncio.gather(one.open(), two.open())
    yield one, two
    await asyncio.gather(one.close(), two.close())


# -- octets that a text protocol cannot carry (M41) ---------------------------------------------------------


@given(st.binary(max_size=LONGEST_FRAME))
@example(bytes(LONGEST_FRAME))
@example(bytes(range(256))[:LONGEST_FRAME])
@example(bytes(range(84)))
def test_masked_octets_have_nothing_unsafe_and_come_back(plain: bytes) -> None:
    masked = mask(plain)
    assert unmask(masked) == plain
    assert not set(masked) & set(UNSAFE)
    assert len(masked) == masked_octets(len(plain)) <= 240


def test_a_mask_is_always_left() -> None:
    assert (
        len(UNSAFE) * (BLOCK_OCTETS + 1) < 256
    )  # each octet, and the mask itself, rules out that many at most
    assert masked_octets(LONGEST_FRAME) == 240 == masked_octets(LONGEST_FRAME + 1) - 1


@given(st.binary(max_size=300))
def test_anything_can_be_unmasked(octets: bytes) -> None:
    assert len(unmask(octets)) <= len(octets)


# -- what works (M40) ---------------------------------------------------------------------------------------


async def test_frames_go_both_ways_with_any_octets(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    radio: Radio = one.radio
    frames = [bytes(range(256))[:LONGEST_FRAME], bytes(1), b"\r\n+OK\r\n", b"+RCV=0,3,a\r\n\0", b"\r" * 84]
    for frame in frames:
        await radio.transmit(frame)
        heard = await two.next()
        assert heard.frame == frame
        assert heard.rssi_dbm == pytest.approx(air.channel.rssi_dbm(0, 1), abs=0.5)
        assert heard.snr_db == pytest.approx(air.channel.rssi_dbm(0, 1) + 117, abs=0.3)
    await two.radio.transmit(b"back")
    assert (await one.next()).frame == b"back"
    assert one.radio.counters["sent"] == len(frames)
    # What the ledger must count is what went on the air: the frame, its masks and 8 octets.
    assert [event.octets for event in air.events] == [masked_octets(len(f)) + 8 for f in [*frames, b"back"]]


async def test_a_frame_has_left_when_transmit_returns(ends: tuple[End, End], air: Air) -> None:
    one, _ = ends
    await one.radio.transmit(bytes(100))
    assert air.channel.next_end_us is None
    assert air.events[-1].heard == ("two",)
    assert air.events[-1].airtime_ms / 1e3 / SPEED == pytest.approx(one.radio.airtime_s(masked_octets(100)))


async def test_two_senders_at_once_take_turns(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    await asyncio.gather(*(one.radio.transmit(bytes([number])) for number in range(3)))
    assert [(await two.next()).frame for _ in range(3)] == [b"\0", b"\1", b"\2"]


async def test_facts_say_what_the_module_hides(air: Air) -> None:
    end = End(air.modules[0])
    facts = await end.radio.open()
    assert (facts.longest_frame, facts.senses, facts.preamble_symbols) == (LONGEST_FRAME, False, 7)
    assert facts.hidden_octets == 8 + masked_octets(LONGEST_FRAME) - LONGEST_FRAME
    for octets in (0, LONGEST_FRAME + 1):
        with pytest.raises(ValueError, match=f"{octets} octets: 1 to {LONGEST_FRAME}"):
            await end.radio.transmit(bytes(octets))
    with pytest.raises(RadioError, match="open already"):
        await end.radio.open()
    await end.close()
    with pytest.raises(RadioError, match="not open"):
        await end.radio.transmit(b"x")


def test_the_ledger_never_counts_less_than_is_on_air() -> None:
    """Hidden octets are one number, masks are not (M44)."""
    radio = Rylr896("/dev/null", RadioSettings())
    for octets in range(1, LONGEST_FRAME + 1):
        counted_us = time_on_air_us(octets + 11, spreading_factor=9, preamble_symbols=8)
        assert counted_us / 1e6 >= radio.airtime_s(masked_octets(octets))


async def test_another_spreading_factor_is_set_between_frames_and_stays(
    ends: tuple[End, End], air: Air
) -> None:
    one, two = ends
    before_s = one.radio.airtime_s(60)
    sending = asyncio.create_task(one.radio.transmit(b"before" * 10))
    await asyncio.gather(sending, one.radio.tune(11))
    assert (await two.next()).frame == b"before" * 10  # it was on its way
    assert air.modules[0].tuning.spreading_factor == 11
    assert one.radio.airtime_s(60) > 3 * before_s
    await one.radio.transmit(b"nobody hears this")
    await two.radio.tune(11)
    await one.radio.transmit(b"after")
    assert (await two.next()).frame == b"after"
    # A module that forgets is set as it is now, and one that is away when it is back.
    air.modules[0].unplug()
    await one.well(well=False)
    await one.radio.tune(8)
    air.modules[0].plug()
    await one.well()
    assert air.modules[0].tuning.spreading_factor == 8


async def test_what_a_module_keeps_is_written_once(air: Air) -> None:
    for _ in range(2):
        end = End(air.modules[0])
        await end.open()
        await end.close()
    kept = [c for c in air.modules[0].commands if c.startswith(("AT+NETWORKID=", "AT+CRFOP="))]
    assert kept == ["AT+NETWORKID=6", "AT+CRFOP=14"]


async def test_nobody_reads_and_the_newest_frames_stay(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.mesh.rylr896.WAITING_FRAMES", 2)
    one, two = (End(module) for module in air.modules)
    await one.open()
    await two.radio.open()
    for number in range(4):
        await one.radio.transmit(bytes([number]))
    await two.count("heard", 4)
    assert two.radio.counters["dropped"] == 2
    frames = two.radio.frames()
    assert [(await anext(frames)).frame for _ in range(2)] == [b"\2", b"\3"]
    await one.close()
    await two.radio.close()


# -- a device that is not there, or no module (M42) ---------------------------------------------------------


async def test_no_device_is_said_with_its_name(tmp_path: Path) -> None:
    radio = Rylr896(str(tmp_path / "none"), RadioSettings())
    with pytest.raises(RadioError, match=r"none cannot be opened: No such file.*plugged in\?"):
        await radio.open()
    await radio.close()


async def test_a_device_that_another_program_has_is_said(ends: tuple[End, End], air: Air) -> None:
    radio = Rylr896(str(air.modules[0].terminal.link), RadioSettings())
    with pytest.raises(RadioError, match="another program has it open"):
        await radio.open()
    await radio.close()


async def test_a_mute_module_is_an_error_that_says_what_to_look_at(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.mesh.rylr896_line.OTHER_BAUDS", ())
    air.modules[0].wedged = True
    radio = Rylr896(str(air.modules[0].terminal.link), RadioSettings())
    with pytest.raises(RadioError, match="TX and RX crossed"):
        await radio.open()
    await radio.close()


async def test_a_module_at_another_speed_is_found_and_set_right(air: Air) -> None:
    air.modules[0].baud = 9600
    end = End(air.modules[0])
    await end.open()
    assert (air.modules[0].baud, end.radio.counters["other_baud"]) == (115200, 1)
    await end.radio.transmit(b"x")
    await end.close()


async def test_a_sleeping_module_wakes(air: Air) -> None:
    air.modules[0].asleep = True
    end = End(air.modules[0])
    await end.open()
    await end.radio.transmit(b"x")
    await end.close()


async def test_a_setting_the_module_refuses_is_named(air: Air) -> None:
    radio = Rylr896(str(air.modules[0].terminal.link), RadioSettings(frequency_hz=433_000_000))
    with pytest.raises(ModuleError, match=r"AT\+BAND=433000000 gave \+ERR=15"):
        await radio.open()
    await radio.close()


# -- any octets at all (M43) ---------------------------------------------------------------------------------

SAID = st.one_of(
    st.binary(max_size=400),
    st.sampled_from(
        [
            b"+OK",
            b"+ERR=",
            b"+ERR=4",
            b"+ERR=12",
            b"+READY",
            b"+RCV=0,3,",
            b"+BAND=",
            b",-1,4",
            b"\r\n",
            b"\n",
        ]
    ),
)


@given(st.lists(SAID, max_size=30), st.sampled_from([b"+OK", b"+BAND="]))
def test_whatever_comes_over_the_line_is_lived_through(pieces: list[bytes], expects: bytes) -> None:
    heard: list[Heard] = []
    master, slave = os.openpty()

    async def feed() -> None:
        counters: Counter[str] = Counter()
        line = Line(os.ttyname(slave), lambda _, frame: heard.append(frame), int, str, counters)
        asked = asyncio.create_task(line.ask(b"AT+BAND?", expects, 5.0))
        await asyncio.sleep(0)
        for piece in pieces:
            line.feed(piece)
        line.feed(b"\r\n" + expects + b"\r\n")  # what comes last is understood, whatever came before
        with contextlib.suppress(ModuleError, SilentError):
            await asked
        line.close()

    try:
        asyncio.run(feed())
    finally:
        os.close(master)
        os.close(slave)
    assert all(len(frame.frame) <= 320 for frame in heard)


# -- faults while it works (M43) ----------------------------------------------------------------------------


async def test_an_unplugged_module_is_found_again(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].unplug()
    await one.well(well=False)
    with pytest.raises(RadioError, match=r"plugged in|cannot be opened"):
        await one.radio.transmit(b"x")
    air.modules[0].plug()
    await one.well()
    await one.persist(b"again")
    assert (await two.next()).frame == b"again"
    assert one.radio.counters["reopened"] == 1


@pytest.mark.parametrize("silent", [False, True], ids=["reset", "brown-out"])
async def test_a_module_that_starts_anew_is_tuned_before_the_next_frame(
    ends: tuple[End, End], air: Air, *, silent: bool
) -> None:
    one, two = ends
    air.modules[0].reset(silent=silent)
    assert air.modules[0].tuning.frequency_hz == 915_000_000
    await one.persist(b"tuned")
    assert (await two.next()).frame == b"tuned"
    assert air.modules[0].tuning == air.modules[1].tuning
    assert all(event.heard and not event.violation for event in air.events)


async def test_a_module_that_forgot_its_tuning_and_hears_nothing_is_asked(air: Air) -> None:
    end = End(air.modules[0], look_every_s=0.1)
    await end.open()
    wanted = air.modules[0].tuning
    air.modules[0].reset(silent=True)
    async with asyncio.timeout(WITHIN_S):
        while air.modules[0].tuning != wanted:
            await asyncio.sleep(0.02)
    assert not end.radio.trouble
    await end.close()


async def test_a_reset_in_the_middle_of_a_frame_is_an_error_at_once(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].resets_while_sending = True
    with pytest.raises(SilentError, match="started anew"):
        await one.radio.transmit(bytes(200))
    await one.persist(b"whole")
    assert (await two.next()).frame == b"whole"


async def test_a_wedged_module_costs_one_frame_and_a_bounded_wait(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].wedged = True
    with pytest.raises(SilentError, match="no answer to"):
        await one.radio.transmit(b"x")
    air.modules[0].wedged = False
    await one.persist(b"works")
    assert (await two.next()).frame == b"works"


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "end of the command"), (13, "longer than 240"), (15, "3.3 V"), (99, "does not have")],
)
async def test_a_refusal_is_said_in_words(ends: tuple[End, End], air: Air, code: int, words: str) -> None:
    one, two = ends
    air.modules[0].fail.append(code)
    with pytest.raises(ModuleError, match=rf"\+ERR={code}: .*{words}"):
        await one.radio.transmit(b"x")
    await one.radio.transmit(b"y")
    assert (await two.next()).frame == b"y"


async def test_a_module_that_is_still_sending_is_asked_again(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].fail.append(10)
    await one.radio.transmit(b"x")
    assert (await two.next()).frame == b"x"


async def test_late_answers_belong_to_nothing_later(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].late_s = 0.8
    with pytest.raises(SilentError):
        await one.radio.transmit(b"x")
    air.modules[0].late_s = 0.0
    for frame in (b"a", b"b"):
        await one.persist(frame)
        await two.until(frame)
    # Each +OK was its own frame's: when transmit returned, the frame had left.
    assert air.channel.next_end_us is None


async def test_half_a_line_does_not_hide_what_follows(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[1].half = 30
    await one.radio.transmit(b"cut off" * 9)
    await one.radio.transmit(b"and this one is in the same line")
    await one.radio.transmit(b"heard")
    assert (await two.next()).frame == b"heard"
    assert two.radio.counters["garbled"] == 1
    await two.radio.transmit(b"works")


async def test_half_an_answer_is_asked_for_again(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].half = 4
    await one.radio.transmit(b"x")
    assert (await two.next()).frame == b"x"


@pytest.mark.parametrize("by", [-3, 7])
async def test_a_length_that_lies_is_no_frame(ends: tuple[End, End], air: Air, by: int) -> None:
    one, two = ends
    air.modules[1].lie = by
    await one.radio.transmit(b"not this")
    await one.radio.transmit(b"but this")
    assert (await two.next()).frame == b"but this"
    assert two.radio.counters["garbled"] == 1


async def test_noise_and_garbled_lines_are_lived_through(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].noise(b"\0\xff+OK\r\n+ERR=\r\n+RCV=1,2\r\n+RCV=0,99999,a,-1,1\r\n\x80", 2000)
    air.modules[0].garble = 0.1
    with contextlib.suppress(RadioError):
        await one.radio.transmit(b"perhaps")
    air.modules[0].garble = 0.0
    await one.persist(b"at last")
    await two.until(b"at last")
    assert one.radio.counters["garbled"] > 0


async def test_a_line_without_end_is_dropped(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.modules[0].noise(b"+RCV=0,240," + b"x" * 4000)
    await one.count("garbled")
    await one.persist(b"x")
    assert (await two.next()).frame == b"x"


async def test_a_broken_frame_is_counted_and_answers_nothing(ends: tuple[End, End], air: Air) -> None:
    one, two = ends
    air.lose(0, 1, 1)
    await one.radio.transmit(b"lost")
    await two.count("broken")
    air.modules[1].noise(b"+ERR=12\r\n")
    await two.radio.transmit(b"sent all the same")
    assert (await one.next()).frame == b"sent all the same"


async def test_a_transmit_that_nobody_waits_for_leaves_the_radio_usable(
    ends: tuple[End, End], air: Air
) -> None:
    one, two = ends
    task = asyncio.create_task(one.radio.transmit(bytes(200)))
    async with asyncio.timeout(WITHIN_S):
        while air.channel.next_end_us is None:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.persist(b"next")
    assert (await two.next()).frame == bytes(200)  # it was on its way
    assert (await two.next()).frame == b"next"


async def test_a_bug_of_the_driver_does_not_end_reception(
    ends: tuple[End, End], air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ends

    async def broken() -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(one.radio, "_look_after", broken)
    air.modules[0].reset()
    await one.count("reopened")
    await one.well()
    await two.persist(b"heard")
    await one.until(b"heard")
