"""The driver alone, with real libgammu on the simulated modem, on a thread as in life."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from evy_core import decode_submitted

from actors.sms.gammu_modem import GammuModem
from actors.sms.modem import ModemLostError, Part, Received, SendFailedError
from simulators.modem import Modem
from simulators.network import Network

pytestmark = pytest.mark.modem

NUMBER = "+34600111222"


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=3, retry_s=0.02))
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.fixture
async def driver(modem: Modem) -> AsyncIterator[GammuModem]:
    made = GammuModem(str(modem.link), "dku2at", send_s=2.0)
    await asyncio.to_thread(made.open)
    yield made
    await asyncio.to_thread(made.close)


async def stored(driver: GammuModem) -> list[Received]:
    texts, _ = await asyncio.to_thread(driver.poll, frozenset())
    return texts


async def test_the_default_connection_of_a_uart(modem: Modem) -> None:
    modem.last_mr = 41
    driver = GammuModem(str(modem.link))
    opened = await asyncio.to_thread(driver.open)
    assert (opened.last_reference, opened.details["model"]) == (41, "SIMCOM_SIM800C")
    assert await asyncio.to_thread(driver.send_part, Part(NUMBER, "hello", "gsm7")) == 42
    await asyncio.to_thread(driver.close)
    assert modem.network.phone(NUMBER).inbox == ["hello"]


async def test_octets_of_strangers_kill_nothing(modem: Modem, driver: GammuModem) -> None:
    """libgammu dies of some of these; none may reach it."""
    chance = random.Random(5)
    pdus = [chance.randbytes(chance.randrange(40)) for _ in range(60)]
    pdus[7:9] = [b"", bytes.fromhex("0791FFFF")]
    modem.network.deliver(pdus)
    seen = 0
    while texts := await stored(driver):
        seen += len(texts)
        assert all(sms.error or sms.text is not None for sms in texts)
        for sms in texts:
            await asyncio.to_thread(driver.delete, sms.location)
    assert seen + modem.network.waiting() + len(modem.sim) == len(pdus)
    assert modem.network.waiting() == 0
    modem.network.send(NUMBER, "still alive")
    while not (texts := await stored(driver)):
        pass
    assert texts[0].text == "still alive"


async def test_a_refusal_tells_the_code_and_the_reference_it_used_up(
    modem: Modem, driver: GammuModem
) -> None:
    modem.refuse = [38, 28]
    for code, permanent, reference in ((38, False, 0), (28, True, 1)):
        with pytest.raises(SendFailedError, match=f"CMS ERROR: {code}") as refused:
            await asyncio.to_thread(driver.send_part, Part(NUMBER, "hello", "gsm7"))
        assert (refused.value.permanent, refused.value.last_reference) == (permanent, reference)
    with pytest.raises(SendFailedError, match="no phone number"):
        await asyncio.to_thread(driver.send_part, Part("ALERT", "hello", "gsm7"))


async def test_a_modem_that_falls_mute_is_given_up_and_comes_back(modem: Modem, driver: GammuModem) -> None:
    modem.mute = True
    with pytest.raises(ModemLostError):
        await asyncio.to_thread(driver.send_part, Part(NUMBER, "hello", "gsm7"))
    modem.mute = False
    opened = await asyncio.to_thread(driver.open)
    assert opened.last_reference == 0xFF
    assert modem.network.log == []


async def test_an_unplugged_modem_is_noticed_without_asking_it(modem: Modem, driver: GammuModem) -> None:
    modem.unplug()
    with pytest.raises(ModemLostError, match="unplugged"):
        await stored(driver)
    with pytest.raises(ModemLostError, match="No such file"):
        await asyncio.to_thread(driver.open)


async def test_what_is_sent_says_how_long_it_is_worth_it_and_wants_a_report(
    modem: Modem, driver: GammuModem, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bytes] = []
    monkeypatch.setattr(modem.network, "submit", lambda pdu, _mr: taken.append(pdu))
    await asyncio.to_thread(driver.send_part, Part(NUMBER, "a~😀", "ucs2", 7, 1, 2))
    (message,) = decode_submitted(taken)
    assert (message.text, message.concat, message.report, message.validity) == ("a∼😀", (7, 2, 1), True, 167)
