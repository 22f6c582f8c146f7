"""The sms actor with either driver on a simulated modem; the network's log says what really happened."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from evy_core import Deliver, decode_received, encode_pdus

from actors._runtime.bus import BusError
from simulators.modem import Modem, PowerCut
from simulators.modem.session import Session
from simulators.network import Network
from subjects.errors import RefusedError
from tests.integration.sms_node import IDENTITY, NUMBER, Node, until

pytestmark = pytest.mark.modem

OTHER = "+34600333444"


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=7, retry_s=0.05, report_delay_s=0.02))
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.fixture(params=["gammu", "at"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def only(pdu: bytes) -> Deliver:
    (message,) = decode_received([pdu])
    assert isinstance(message, Deliver)
    return message


def submitted(modem: Modem) -> list[str]:
    return [entry.text for entry in modem.network.log if entry.what == "submitted"]


def phone(modem: Modem) -> list[str]:
    return modem.network.phone(NUMBER).inbox


async def test_receiving(modem: Modem, tmp_path: Path, driver: str) -> None:
    node = Node(tmp_path, modem.link, driver, part_timeout_s=1.0)
    network = modem.network
    modem.slots = 6
    long = "Estamos atrapados en el sótano, somos cinco 😀 " * 8
    # What a fresh node finds on the SIM, more than fits into it.
    network.send(NUMBER, "¿Está bien? {€}")
    network.deliver([b"\x07\x91", b"", b"\xff" * 20])
    network.deliver(encode_pdus([Deliver(NUMBER, data=b"\x00\xff", coding=0x04)]))
    spanish = Deliver(NUMBER, data=b"est\x1ba", coding=0, header=[(0x24, b"\x02")])
    network.deliver(encode_pdus([spanish]))
    network.send(NUMBER, long, shuffle=True, wide_reference=True)
    network.send(NUMBER, "HELP 😀", sender="Refugio", smsc_at=1_752_228_784.0, times=2)
    async with node.running():
        await until(lambda: len(node.received) == 6 and len(node.letters) == 4)
        await until(lambda: not modem.sim)
        texts = {sms.text: sms for sms in node.received if sms.kind == "text"}
        assert set(texts) == {"¿Está bien? {€}", "está", long, "HELP 😀"}
        assert (texts[long].parts, texts[long].missing) == (6, 0)
        assert texts["HELP 😀"].lane == "flash"
        first, second = (sms for sms in node.received if sms.text == "HELP 😀")
        assert first.id == second.id
        assert (first.sender, first.smsc_at) == ("Refugio", 1_752_228_784.0)
        assert {letter.payload for letter in node.letters} >= {b"\x07\x91", b"", b"\xff" * 20}
        reasons = {letter.error for letter in node.letters}
        assert {"SMSC address: needs 7 octets, got 1", "data for a program, not a text"} < reasons
        assert await node.parts.keys() == [key for key in await node.parts.keys() if key.endswith(".0")]

        # Shown at once and not stored; and nonsense said unasked.
        network.send(NUMBER, "evacuate", coding=0x10)
        await until(lambda: node.received[-1].text == "evacuate")
        for nonsense in ("+CDS: 2\r\nZZ", "+CDS: 0\r\n", '+CMT: "",1\r\n00', '+CMTI: "SM",99', "RING"):
            modem.session.say(f"\r\n{nonsense}\r\n")

        # A part comes long after the others: the text was passed on as it is, after the timeout, and the
        # rest says nothing new.
        network.send(OTHER, "a" * 300, late=(2,), late_s=4.0)
        await until(lambda: node.received[-1].sender == OTHER)
        assert (node.received[-1].text, node.received[-1].missing) == ("a" * 153, 1)
        await until(lambda: any(event.kind == "late_parts" for event in node.events), 30)
        assert (node.received[-1].text, node.received[-1].missing) == ("a" * 153, 1)

        # Doubles of single parts change nothing; a new text under the same reference is a text.
        pdus = network.send(OTHER, "first " * 40)
        await until(lambda: node.received[-1].text == "first " * 40)
        network.deliver(pdus[1:])
        await until(lambda: node.events[-1].kind == "double_part")
        again = [
            Deliver(OTHER, text, concat=part.concat)
            for text, part in zip(("one ", "two"), [only(pdu) for pdu in pdus], strict=True)
        ]
        network.deliver(encode_pdus(again))
        await until(lambda: node.received[-1].text == "one two")

        # A bus that takes nothing leaves the text on the SIM, and it is offered again.
        node.refuse_publish = BusError("sms.in is full")
        network.send(NUMBER, "patience")
        await until(lambda: bool(modem.sim))
        await asyncio.sleep(0.5)  # time in which it must not be deleted
        assert len(modem.sim) == 1
        node.refuse_publish = None
        await until(lambda: node.received[-1].text == "patience" and not modem.sim)


async def test_sending(modem: Modem, tmp_path: Path, driver: str) -> None:
    modem.last_mr = 253
    node = Node(tmp_path, modem.link, driver)
    async with node.running():
        await node.send("one {€}", query_id="q1")
        long = "El agua sube 😀 ~ " * 8
        # Flash goes between the parts of a long routine text, each text's own parts in order.
        modem.answer_delay_s = 0.2
        slow = asyncio.create_task(node.send(long, query_id="q2"))
        await until(lambda: len(submitted(modem)) == 2)
        await node.send("to the roof", query_id="q3", lane="flash")
        await slow
        modem.answer_delay_s = 0.0
        sent = long.replace("~", "∼") if driver == "gammu" else long  # Gammu cannot send the other one
        assert phone(modem) == ["one {€}", "to the roof", sent]
        references = [entry.mr for entry in modem.network.log if entry.what == "submitted"]
        assert references == [254, 255, 0, 1, 2]
        await until(lambda: [e.kind for e in node.events].count("delivered") == 5)
        assert set((await node.states()).values()) == {"DELIVERED"}

        # The same message delivered again by the bus sends nothing.
        await node.send("one {€}", query_id="q1")
        assert len(submitted(modem)) == 5

        # A full network is tried again, a number that does not exist is not.
        modem.refuse = [38, 38]
        await node.send("patience", query_id="q4")
        assert phone(modem)[-1] == "patience"
        modem.refuse = [28]
        with pytest.raises(RefusedError, match="CMS ERROR: 28"):
            await node.send("nobody", query_id="q5")
        modem.network.phone(NUMBER).status = 0x46
        await node.send("too late", query_id="q6")
        await until(lambda: node.events[-1].kind == "undelivered")
        states = await node.states()
        assert (states["q5.reply.1"], states["q6.reply.1"]) == ("FAILED", "EXPIRED")
        assert submitted(modem).count("patience") == 1
        assert NUMBER not in str([await node.ledger.get(key) for key in states])


async def test_a_modem_unplugged_while_sending_loses_and_doubles_nothing(
    modem: Modem, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.sms.sending.HOLD_S", 0.5)
    node = Node(tmp_path, modem.link, driver)
    cuts: tuple[PowerCut, ...] = ("prompt", "after_network")
    async with node.running():
        for cut in cuts:
            modem.power_cut = cut
            sending = asyncio.create_task(node.send(f"cut {cut}", query_id=cut.replace("_", "")))
            await until(lambda: not modem.powered)
            await until(lambda: node.events[-1].kind == "modem_lost")
            modem.network.send(OTHER, f"while it was away: {cut}")
            modem.plug()
            await sending
        # A text whose deletion was cut off comes again under the same id, which the bus drops.
        await until(lambda: len({sms.id for sms in node.received}) == len(cuts) and not modem.sim)
        states = await node.states()
    assert phone(modem) == ["cut prompt", "cut after_network"]
    assert submitted(modem) == phone(modem)
    # Nobody can know that it left: it is not sent again, and a person can see it.
    assert states["afternetwork.reply.1"] == "HELD"


async def test_a_flash_text_whose_modem_lost_power_before_the_network_had_it_is_sent_again(
    modem: Modem, tmp_path: Path, driver: str
) -> None:
    node = Node(tmp_path, modem.link, driver)
    async with node.running():
        modem.power_cut = "before_network"
        sending = asyncio.create_task(node.send("life at risk", query_id="q1", lane="flash"))
        await until(lambda: not modem.powered)
        await until(lambda: node.events[-1].kind == "modem_lost")
        modem.plug()
        await sending
    assert phone(modem) == ["life at risk"]


@pytest.mark.parametrize("taken", [False, True])
async def test_kill_9_between_intent_and_submitted(
    modem: Modem, tmp_path: Path, driver: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    modem.answer_delay_s = 2.0 if taken else 0.0
    if not taken:
        prompt = Session.prompt

        def prompt_is_lost(session: Session, value: str) -> None:
            modem.cut_to = 0
            prompt(session, value)

        monkeypatch.setattr(Session, "prompt", prompt_is_lost)

    async def process() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.sms_node",
            str(tmp_path),
            str(modem.link),
            driver,
            "once",
            stdout=asyncio.subprocess.PIPE,
        )

    first = await process()
    if taken:
        # The network has it, the modem has not answered yet.
        await until(lambda: bool(submitted(modem)), 30)
    else:
        # The modem has the text but no Ctrl-Z: the next process finds it at the prompt.
        await until(lambda: any(c.startswith("AT+CMGS") for c in modem.commands), 30)
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    monkeypatch.undo()
    assert [e["state"] for e in entries(tmp_path)] == ["INTENT"]
    second = await process()
    said, _ = await second.communicate()
    assert json.loads(said.splitlines()[-1]) in ({"q1.reply.1": "SUBMITTED"}, {"q1.reply.1": "DELIVERED"})
    assert submitted(modem) == phone(modem) == ["once"]


def entries(directory: Path) -> list[dict[str, object]]:
    import base64  # noqa: PLC0415

    stored = json.loads((directory / "ledger").read_text())
    return [json.loads(base64.b64decode(value)) for value, _ in stored.values()]


def test_the_number_is_a_pseudonym() -> None:
    assert NUMBER not in IDENTITY.sender_ref(NUMBER)
