"""Either driver alone on the simulated modem, on a thread as in life: one behaviour, whoever speaks."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from evy_core import decode_submitted

from actors.sms.at_modem import AtModem
from actors.sms.gammu_modem import GammuModem
from actors.sms.modem import Modem as Driver
from actors.sms.modem import ModemLostError, Part, Received, Report, SendFailedError
from actors.sms.sim import Pin, SimError
from simulators.modem import Modem
from simulators.network import Network

pytestmark = pytest.mark.modem

NUMBER = "+34600111222"
PIN = "2580"


@pytest.fixture(params=["sim800c", "sim7000"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=3, retry_s=0.02))
    made.plug()
    yield made
    made.unplug()
    made.network.close()


def new(name: str, modem: Modem, *, answer_s: float = 10.0) -> Driver:
    folder = modem.link.parent
    pin = Pin(folder / "pin", folder / "tried")
    if name == "at":
        return AtModem(str(modem.link), pin=pin, answer_s=answer_s, send_s=2.0)
    return GammuModem(str(modem.link), "dku2at", pin=pin, send_s=2.0)


@pytest.fixture(params=["gammu", "at"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def driver(name: str, modem: Modem) -> AsyncIterator[Driver]:
    made = new(name, modem, answer_s=2.0)
    await asyncio.to_thread(made.open)
    yield made
    await asyncio.to_thread(made.close)


@pytest.fixture
async def direct(modem: Modem) -> AsyncIterator[Driver]:
    """The direct driver, for faults of a line that Gammu cannot be asked to bear."""
    made = new("at", modem, answer_s=0.5)
    await asyncio.to_thread(made.open)
    yield made
    await asyncio.to_thread(made.close)


async def stored(driver: Driver) -> list[Received]:
    texts, _ = await asyncio.to_thread(driver.poll, frozenset())
    return texts


async def heard(driver: Driver) -> tuple[list[Received], list[Report]]:
    """What the driver offers once the modem has said something."""
    never, _ = os.pipe()
    async with asyncio.timeout(15):
        while True:
            await asyncio.to_thread(driver.wait, never, 0.2)
            texts, reports = await asyncio.to_thread(driver.poll, frozenset())
            if texts or reports:
                os.close(never)
                return texts, reports


async def send(driver: Driver, text: str, number: str = NUMBER) -> int:
    return await asyncio.to_thread(driver.send_part, Part(number, text, "gsm7"))


async def test_the_default_connection_of_a_uart(modem: Modem) -> None:
    modem.last_mr = 41
    driver = GammuModem(str(modem.link))
    opened = await asyncio.to_thread(driver.open)
    assert (opened.last_reference, opened.details["model"]) == (41, "SIMCOM_SIM800C")
    assert await send(driver, "hello") == 42
    await asyncio.to_thread(driver.close)
    assert modem.network.phone(NUMBER).inbox == ["hello"]


async def test_what_it_says_of_itself_and_a_text_there_and_back(
    name: str, model: str, tmp_path: Path
) -> None:
    modem = Modem(tmp_path / "tty", Network(retry_s=0.02), model=model)
    modem.last_mr = 255
    modem.plug()
    driver = new(name, modem)
    opened = await asyncio.to_thread(driver.open)
    assert opened.last_reference == 255
    assert opened.details["model"].startswith("SIMCOM_SIM")
    assert len(opened.details["imei"]) == 15
    state = {"registration": "home", "operator": "EVY", "signal": "20", "storage": "0 of 30"}
    assert state.items() <= opened.details.items()
    modem.network.send(NUMBER, "¿Está bien? 😀")
    texts, _ = await heard(driver)
    assert [(sms.sender, sms.text) for sms in texts] == [(NUMBER, "¿Está bien? 😀")]
    assert (await asyncio.to_thread(driver.status))["storage"] == "1 of 30"
    await asyncio.to_thread(driver.delete, texts[0].location)
    assert await send(driver, "qué {€}") == 0  # TP-MR wraps
    _, [report] = await heard(driver)
    assert report == Report(0, NUMBER, delivered=True, final=True, status=0, location=report.location)
    assert (report.location > 0) == (model == "sim7000") == bool(modem.sim)  # only that one stores them
    if report.location:
        await asyncio.to_thread(driver.delete, report.location)
    assert (modem.sim, modem.network.phone(NUMBER).inbox) == ({}, ["qué {€}"])
    modem.registration = 2
    assert (await asyncio.to_thread(driver.status))["registration"] == "searching"
    with pytest.raises(SendFailedError, match="331") as refused:
        await send(driver, "nobody hears this")
    assert not refused.value.permanent
    await asyncio.to_thread(driver.close)
    modem.unplug()
    modem.network.close()


async def test_octets_of_strangers_kill_nothing(modem: Modem, driver: Driver) -> None:
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
    texts, _ = await heard(driver)
    assert texts[0].text == "still alive"


async def test_a_full_sim_is_emptied_and_the_network_brings_what_waits(modem: Modem, driver: Driver) -> None:
    modem.slots = 3
    wanted = {f"text {n}" for n in range(8)}
    for text in sorted(wanted):
        modem.network.send(NUMBER, text)
    got = set()
    while got != wanted:
        texts, _ = await heard(driver)
        for sms in texts:
            got.add(sms.text)
            await asyncio.to_thread(driver.delete, sms.location)
    assert (modem.sim, modem.network.waiting()) == ({}, 0)


async def test_a_refusal_tells_the_code_and_the_reference_it_used_up(modem: Modem, driver: Driver) -> None:
    modem.refuse = [38, 28]
    for code, permanent, reference in ((38, False, 0), (28, True, 1)):
        with pytest.raises(SendFailedError, match=f"CMS ERROR: {code}") as refused:
            await send(driver, "hello")
        assert (refused.value.permanent, refused.value.last_reference) == (permanent, reference)
    with pytest.raises(SendFailedError, match="no phone number"):
        await send(driver, "hello", "ALERT")


async def test_a_modem_that_falls_mute_is_given_up_and_comes_back(modem: Modem, driver: Driver) -> None:
    modem.mute = True
    with pytest.raises(ModemLostError):
        await send(driver, "hello")
    modem.mute = False
    opened = await asyncio.to_thread(driver.open)
    assert opened.last_reference == 0xFF
    assert modem.network.log == []


async def test_what_another_program_left_behind_is_put_right(name: str, modem: Modem) -> None:
    modem.session.text_mode = True
    modem.session.charset = "UCS2"
    modem.session.expected = 20  # a text half given
    modem.network.send(NUMBER, "hello")
    driver = new(name, modem)
    await asyncio.to_thread(driver.open)
    texts, _ = await heard(driver)
    assert [sms.text for sms in texts] == ["hello"]
    await asyncio.to_thread(driver.close)


async def test_a_modem_that_starts_is_waited_for(name: str, modem: Modem) -> None:
    modem.reboot(1.5)
    driver = new(name, modem)
    opened = await asyncio.to_thread(driver.open)
    assert opened.details["registration"] == "home"
    await asyncio.to_thread(driver.restart)
    opened = await asyncio.to_thread(driver.open)
    assert "AT+CFUN=1,1" in modem.commands
    assert await send(driver, "hello") == 0
    await asyncio.to_thread(driver.close)


async def test_an_unplugged_modem_is_noticed_without_asking_it(modem: Modem, driver: Driver) -> None:
    modem.unplug()
    with pytest.raises(ModemLostError, match="unplugged"):
        await stored(driver)
    with pytest.raises(ModemLostError, match="No such file"):
        await asyncio.to_thread(driver.open)


async def test_what_is_sent_says_how_long_it_is_worth_it_and_wants_a_report(
    name: str, modem: Modem, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bytes] = []
    monkeypatch.setattr(modem.network, "submit", lambda pdu, _mr: taken.append(pdu))
    await asyncio.to_thread(driver.send_part, Part(NUMBER, "a~😀", "ucs2", 7, 1, 2))
    (message,) = decode_submitted(taken)
    text = "a~😀" if name == "at" else "a∼😀"  # Gammu cannot send the other one
    assert (message.text, message.concat, message.report, message.validity) == (text, (7, 2, 1), True, 167)


def is_noted(modem: Modem) -> bool:
    return (modem.link.parent / "tried").exists()


async def test_a_pin_is_entered_and_a_wrong_one_never_twice(name: str, tmp_path: Path) -> None:
    modem = Modem(tmp_path / "tty", Network(), pin=PIN)
    modem.plug()

    async def opening() -> None:
        driver = new(name, modem)  # a new one each time: the process was started again
        try:
            await asyncio.to_thread(driver.open)
        finally:
            await asyncio.to_thread(driver.close)

    for written, why in (
        (None, "pin_file cannot be read"),
        ("my PIN", "holds none"),
        ("1111", "refuses the PIN"),
        ("1111", "refused before"),
    ):
        if written:
            (tmp_path / "pin").write_text(written)
        with pytest.raises(SimError, match=why):
            await opening()
    assert modem.pin_left == 2
    (tmp_path / "pin").write_text(f"{PIN}\n")
    await opening()
    assert (modem.pin_left, is_noted(modem)) == (3, False)
    # One that somebody else has tried: the last but one is not risked.
    modem.unplug()
    modem.pin_left = 1
    modem.plug()
    with pytest.raises(SimError, match="tries left: 1"):
        await opening()
    modem.unplug()
    modem.network.close()


async def test_garbage_half_lines_and_silence_lose_nothing(modem: Modem, direct: Driver) -> None:
    chance = random.Random(11)
    for n in range(24):
        modem.noise(chance.randbytes(chance.randrange(60)))
        modem.network.send(NUMBER, f"text {n}")
        if n % 3 == 0:
            modem.cut_to = chance.randrange(1, 30)
        if n % 7 == 0:
            modem.fail.append(("AT+CMGR", chance.choice(["+CMS ERROR: 314", "+CME ERROR: 14", ""])))
        got: set[str] = set()
        while f"text {n}" not in got:
            try:
                texts, _ = await heard(direct)
                for sms in texts:
                    got.add(sms.text)
                    assert not sms.error
                    await asyncio.to_thread(direct.delete, sms.location)
            except ModemLostError:
                await asyncio.to_thread(direct.open)


async def test_a_prompt_that_does_not_come_sends_nothing_and_the_next_text_is_sent(
    modem: Modem, direct: Driver
) -> None:
    modem.fail = [("AT+CMGS", "")]
    with pytest.raises(SendFailedError, match="did not ask for the text") as refused:
        await send(direct, "hello")
    assert (refused.value.permanent, refused.value.last_reference) == (False, 0xFF)
    # Lost on the line, while the modem waits for the text.
    modem.cut_to = 0
    with pytest.raises(SendFailedError, match="did not ask for the text"):
        await send(direct, "hello")
    assert await send(direct, "hello") == 0
    assert modem.network.phone(NUMBER).inbox == ["hello"]


async def test_a_reference_lost_on_the_line_is_asked_for(modem: Modem, direct: Driver) -> None:
    modem.last_mr = 8
    real = modem.sent  # what the modem says when the network has answered
    modem.sent = lambda _mr: real("garbled")  # type: ignore[method-assign,arg-type]
    assert await send(direct, "hello") == 9


async def test_texts_and_reports_between_the_lines_of_an_answer(modem: Modem, direct: Driver) -> None:
    """A slow network, and everything at once when the line is free again."""
    modem.answer_delay_s = 0.3
    sending = asyncio.create_task(send(direct, "slow"))
    while not modem.network.log:
        await asyncio.sleep(0.01)
    modem.network.send(NUMBER, "meanwhile")
    modem.network.send(NUMBER, "and at once", coding=0x10)
    assert await sending == 0
    texts: set[str] = set()
    reports: list[Report] = []
    while len(texts) < 2 or not reports:
        more, told = await heard(direct)
        texts |= {sms.text for sms in more}
        reports += told
    assert texts == {"meanwhile", "and at once"}
    assert [report.reference for report in reports] == [0]


async def test_a_modem_that_restarts_by_itself_is_set_up_again(modem: Modem, direct: Driver) -> None:
    modem.reboot(0.2)
    with pytest.raises(ModemLostError, match="restarted by itself"):
        await heard(direct)
    modem.network.send(NUMBER, "after it")
    await asyncio.to_thread(direct.open)
    texts, _ = await heard(direct)
    assert [sms.text for sms in texts] == ["after it"]


async def test_a_sim_that_fails_in_the_middle_opens_the_line_again(modem: Modem, direct: Driver) -> None:
    modem.fail = [("AT+CMGS", "+CMS ERROR: 313")]
    with pytest.raises(SendFailedError, match="SIM failure"):
        await send(direct, "hello")
    with pytest.raises(ModemLostError, match="SIM failure"):
        await stored(direct)


async def test_nobody_else_can_take_the_line(modem: Modem, direct: Driver) -> None:
    with pytest.raises(ModemLostError, match="lock"):
        await asyncio.to_thread(new("at", modem).open)
    assert await send(direct, "hello") == 0
