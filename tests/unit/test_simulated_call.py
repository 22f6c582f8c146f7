"""Calls to the simulated modem, as its serial line tells of them."""

from pathlib import Path

import pytest

from simulators.control import Control, Ring, serve
from simulators.modem import Modem
from tests.unit.test_simulated_modem import Terminal, modem, terminal, true

__all__ = ["modem", "terminal"]


async def test_a_call_rings_with_its_number_until_it_is_rejected(modem: Modem, terminal: Terminal) -> None:
    await terminal.ask("AT+CLIP=1")
    call = modem.ring("+34600111222", every_s=0.01)
    for _ in range(2):
        await terminal.until('RING\r\n\r\n+CLIP: "+34600111222",145,"",0,"",0\r\n')
    await terminal.ask("AT+CHUP")
    assert (call.is_ringing, call.hung_up) == (False, True)
    await terminal.ask("ATH")
    assert "RING" not in terminal.seen


async def test_a_caller_gives_up(modem: Modem, terminal: Terminal, tmp_path: Path) -> None:
    async with serve(tmp_path / "control", modem), Control(tmp_path / "control") as control:
        await control.do(Ring(rings=1))
    [call] = modem.calls
    assert call.is_ringing
    call.ring()
    said = await terminal.until("NO CARRIER\r\n")
    assert "RING" in said
    assert "+CLIP" not in said  # nobody asked for the number
    assert not call.hung_up


@pytest.mark.parametrize("away", ["unplugged", "searching"])
async def test_nothing_rings_without_power_or_network(modem: Modem, away: str) -> None:
    ringing = modem.ring("+34600111222")
    if away == "unplugged":
        modem.unplug()
        assert not ringing.is_ringing
        modem.plug()
        modem.unplug()
    else:
        modem.register(2)
    assert not modem.ring("+34600111222").is_ringing
    ringing.cut_off()
    await true(lambda: not ringing.hung_up)
