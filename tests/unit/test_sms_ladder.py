"""What is tried when a modem stays away, and what its refusals mean."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from actors.sms import line as line_module
from actors.sms.ladder import DEAD_AFTER_S, RUNGS, STEADY_S, Ladder
from actors.sms.line import Line
from actors.sms.modem import ModemLostError, Opened, Part, Received, Report
from actors.sms.refusals import refusal
from actors.sms.sim import SimError


def test_the_rungs_are_climbed_in_turn_and_again() -> None:
    ladder = Ladder()
    climbed = [ladder.failed(float(n)) for n in range(2 * len(RUNGS))]
    assert tuple(climbed) == RUNGS * 2
    assert climbed.index("restart") < climbed.index("power_key")
    assert ("power_key", "power_key") not in pairwise(climbed)


def test_dead_is_who_stayed_away_long_and_was_tried_everything_on() -> None:
    ladder = Ladder()
    for _ in RUNGS[1:]:
        ladder.failed(0.0)
    assert not ladder.is_dead(DEAD_AFTER_S + 1)
    ladder.failed(1.0)
    assert not ladder.is_dead(DEAD_AFTER_S)
    assert ladder.is_dead(DEAD_AFTER_S + 1)


def test_a_line_that_was_well_for_a_while_starts_anew_one_that_flaps_does_not() -> None:
    ladder = Ladder()
    ladder.failed(0.0)
    ladder.opened(1.0)
    assert ladder.failed(2.0) == RUNGS[1]
    ladder.opened(3.0)
    assert ladder.failed(4.0 + STEADY_S) == RUNGS[0]


@pytest.mark.parametrize(
    ("line", "remedy", "words"),
    [
        ("+CMS ERROR: 38", "later", "network out of order"),
        ("+CMS ERROR: 28", "never", "unidentified"),
        ("+CMS ERROR: 304", "never", "PDU refused"),
        ("+CMS ERROR: 331", "later", "no network"),
        ("+CMS ERROR: 313", "open_again", "SIM failure"),
        ("+CME ERROR: 10", "open_again", "no SIM"),
        ("+CME ERROR: 28", "later", "28"),
        ("+CMS ERROR: 50", "later", "credit"),
        ("ERROR", "later", "ERROR"),
        ("+CMS ERROR", "later", "ERROR"),
        ("+CME ERROR: SIM busy", "later", "SIM busy"),
    ],
)
def test_what_a_refusal_means(line: str, remedy: str, words: str) -> None:
    refused = refusal(line)
    assert refused is not None
    assert refused.remedy == remedy
    assert words in str(refused)


@pytest.mark.parametrize("line", ["OK", "+CMGS: 5", "ERRORS", "", "+CM", "NO ERROR"])
def test_what_is_no_refusal(line: str) -> None:
    assert refusal(line) is None


class Absent:
    """A modem that does not open until it was restarted, or its power key was pressed."""

    def __init__(self, error: ModemLostError, *, wakes: Callable[[], bool]) -> None:
        self.error = error
        self.wakes = wakes
        self.restarts = 0
        self.opened = threading.Event()

    def open(self) -> Opened:
        if not self.wakes():
            raise self.error
        self.opened.set()
        return Opened()

    def wait(self, wake: int, timeout_s: float) -> bool:  # noqa: ARG002  nothing ever comes
        self.opened.wait(timeout_s)
        return False

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:  # noqa: ARG002  no storage
        return [], []

    def status(self) -> dict[str, str]:
        return {}

    def restart(self) -> None:
        self.restarts += 1

    def delete(self, location: int) -> None:
        raise AssertionError(location)

    def send_part(self, part: Part) -> int:
        raise AssertionError(part)

    def close(self) -> None:
        pass


class Owner:
    def __init__(self) -> None:
        self.said: list[str] = []

    async def opened(self, opened: Opened) -> None:  # noqa: ARG002  nothing to settle
        self.said.append("opened")

    async def lost(self, reason: str) -> None:
        self.said.append(f"lost: {reason}")

    async def dead(self, reason: str) -> None:
        self.said.append(f"dead: {reason}")

    async def status(self, status: dict[str, str]) -> None:
        raise AssertionError(status)

    async def received(self, sms: Received) -> bool:
        raise AssertionError(sms)

    async def reported(self, report: Report) -> None:
        raise AssertionError(report)


async def climb(
    modem: Absent,
    power_key: tuple[str, ...],
    end: Callable[[list[str]], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    monkeypatch.setattr(line_module, "REOPEN_WAIT_S", (0.01,))
    owner = Owner()
    line = Line(modem, owner, 0.01, power_key)
    running = asyncio.create_task(line.run())
    async with asyncio.timeout(10):
        while not end(owner.said):
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return owner.said


async def test_the_power_key_is_pressed_when_nothing_else_helped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed = tmp_path / "pressed"
    modem = Absent(ModemLostError("mute"), wakes=pressed.exists)
    said = await climb(modem, ("touch", str(pressed)), lambda said: "opened" in said, monkeypatch)
    assert said == ["lost: mute"] * (RUNGS.index("power_key") + 1) + ["opened"]
    assert modem.restarts == 1


async def test_who_cannot_be_woken_is_called_dead_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.sms.ladder.DEAD_AFTER_S", 0.0)
    modem = Absent(ModemLostError("mute"), wakes=lambda: False)
    said = await climb(modem, ("false",), lambda said: len(said) > 3 * len(RUNGS), monkeypatch)
    assert said.count("dead: mute") == 1
    assert said.index("dead: mute") == len(RUNGS)


async def test_a_sim_that_wants_a_person_is_said_at_once_and_nothing_is_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modem = Absent(SimError("wrong PIN"), wakes=lambda: False)
    said = await climb(modem, ("false",), lambda said: len(said) > 2 * len(RUNGS), monkeypatch)
    assert said[:2] == ["lost: wrong PIN", "dead: wrong PIN"]
    assert (said.count("dead: wrong PIN"), modem.restarts) == (1, 0)
