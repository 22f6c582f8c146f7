"""How long the network keeps a text, by what it is."""

import asyncio
from pathlib import Path
from typing import get_args

import pytest
from evy_core import decode_submitted
from hypothesis import given
from hypothesis import strategies as st

from actors.sms.at_modem import AtModem
from actors.sms.gammu_modem import GammuModem
from actors.sms.modem import Modem as Driver
from actors.sms.modem import Part
from actors.sms.validity import VALIDITY_S, tp_vp, validity_s
from simulators.modem import Modem
from simulators.network import Network
from subjects.messages import OutboundKind
from subjects.names import LANES

MINUTES = {**{n: 5 * (n + 1) for n in range(144)}, **{n: 720 + 30 * (n - 143) for n in range(144, 168)}}
MINUTES |= {n: 1440 * (n - 166) for n in range(168, 197)} | {n: 10080 * (n - 192) for n in range(197, 256)}
"""TP-VP as TS 23.040 §9.2.3.12.1 has it."""


@given(st.integers(1, 10**8))
def test_the_octet_is_the_shortest_time_that_is_long_enough(seconds: int) -> None:
    value = tp_vp(seconds)
    assert MINUTES[value] * 60 >= seconds or value == 255
    assert value == 0 or MINUTES[value - 1] * 60 < seconds


def test_every_text_has_one_and_what_is_of_now_has_a_short_one() -> None:
    for lane in LANES:
        for kind in get_args(OutboundKind):
            assert 0 < validity_s(lane, kind) <= 3 * 86400
    assert validity_s("flash", "reply") > validity_s("routine", "reply") > validity_s("routine", "notice")


@pytest.mark.modem
@pytest.mark.parametrize("driver", ["at", "gammu"])
async def test_both_drivers_ask_the_network_for_it(driver: str, tmp_path: Path) -> None:
    network, pdus = Network(), []
    take = network.submit

    def submit(pdu: bytes, mr: int) -> None:
        pdus.append(pdu)
        take(pdu, mr)

    network.submit = submit  # type: ignore[method-assign]  # listens in
    modem = Modem(tmp_path / "tty", network)
    modem.plug()
    made: Driver = AtModem(str(modem.link)) if driver == "at" else GammuModem(str(modem.link), "dku2at")
    wanted = sorted({seconds for seconds, _ in VALIDITY_S.values()})
    await asyncio.to_thread(made.open)
    try:
        for seconds in wanted:
            await asyncio.to_thread(made.send_part, Part("+34600111222", "x", "gsm7", validity_s=seconds))
    finally:
        await asyncio.to_thread(made.close)
        modem.unplug()
        network.close()
    assert [60 * MINUTES[message.validity or 0] for message in decode_submitted(pdus)] == wanted
