"""The simulated modem at its serial line, its network and its control socket, without Gammu."""

import asyncio
import os
import tty
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from evy_core import Deliver, StatusReport, Submit, decode_received, encode_pdus

from simulators.control import (
    AnyOrder,
    Control,
    Cut,
    Fail,
    Half,
    Log,
    Muddle,
    Mute,
    Noise,
    Phone,
    Plug,
    Raw,
    Reboot,
    Refuse,
    Register,
    Send,
    Slots,
    Slow,
    Unplug,
    serve,
)
from simulators.modem import Modem
from simulators.modem.__main__ import main
from simulators.network import Network

NUMBER = "+34600111222"


class Terminal:
    """A client of the serial line that reads until it has seen what it waits for."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.descriptor)
        self.seen = ""

    async def until(self, words: str) -> str:
        """What came up to and with ``words``."""
        async with asyncio.timeout(5):
            while words not in self.seen:
                try:
                    self.seen += os.read(self.descriptor, 4096).decode("latin-1")
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        head, _, self.seen = self.seen.partition(words)
        return head + words

    async def ask(self, command: str, final: str = "OK\r\n") -> str:
        os.write(self.descriptor, f"{command}\r".encode())
        return await self.until(final)

    async def submit(self, message: Submit, final: str = "OK\r\n") -> str:
        (pdu,) = encode_pdus([message])
        await self.ask(f"AT+CMGS={len(pdu) - 1 - pdu[0]}", "> ")
        os.write(self.descriptor, pdu.hex().upper().encode() + b"\x1a")
        return await self.until(final)

    def close(self) -> None:
        os.close(self.descriptor)


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=1, retry_s=0.01))
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.fixture
async def terminal(modem: Modem) -> AsyncIterator[Terminal]:
    made = Terminal(modem.link)
    yield made
    made.close()


def only(pdu: bytes) -> Deliver:
    (message,) = decode_received([pdu])
    assert isinstance(message, Deliver)
    return message


async def test_a_text_is_stored_announced_shown_and_deleted(modem: Modem, terminal: Terminal) -> None:
    modem.network.send(NUMBER, "¿Está bien? 😀", smsc_at=1_752_228_784.0)
    assert '+CMTI: "SM",1' in await terminal.until("1\r\n")
    shown = await terminal.ask("AT+CMGR=1")
    status, pdu = shown.split("\r\n")[1:3]
    read = only(bytes.fromhex(pdu))
    assert (read.sender, read.text, read.smsc_at) == (NUMBER, "¿Está bien? 😀", 1_752_228_784.0)
    assert status == f'+CMGR: 0,"",{len(pdu) // 2 - 8}'
    assert "+CMGL: 1,1," in await terminal.ask("AT+CMGL=4")
    await terminal.ask("AT+CMGD=1")
    assert await terminal.ask("AT+CMGR=1") == "AT+CMGR=1\r\r\nOK\r\n"


async def test_a_submit_gets_the_next_reference_and_a_report(modem: Modem, terminal: Terminal) -> None:
    modem.last_mr = 254
    await terminal.ask("AT+CNMI=2,1,0,1,0")
    assert "+CMGS: 255" in await terminal.submit(Submit(NUMBER, "one"))
    await terminal.until("+CDS: ")
    report = bytes.fromhex((await terminal.until("\r\n") + await terminal.until("\r\n")).split("\r\n")[1])
    (message,) = decode_received([report])
    assert isinstance(message, StatusReport)
    assert (message.reference, message.recipient, message.outcome) == (255, NUMBER, "delivered")
    assert '+CRSM: 144,0,"FFFF"' in await terminal.ask("AT+CRSM=176,28483,0,0,2")
    assert "+CMGS: 0" in await terminal.submit(Submit(NUMBER, "two"))
    assert modem.network.phone(NUMBER).inbox == ["one", "two"]
    assert [e.mr for e in modem.network.log if e.what == "submitted"] == [255, 0]


async def test_without_cnmi_a_report_is_gone(modem: Modem, terminal: Terminal) -> None:
    await terminal.submit(Submit(NUMBER, "one"))
    await true(lambda: modem.network.log[-1].what == "reported")
    assert modem.network.waiting() == 0
    assert "CDS" not in await terminal.ask("AT")


async def test_escape_leaves_the_prompt_and_nothing_is_sent(modem: Modem, terminal: Terminal) -> None:
    await terminal.ask("AT+CMGS=20", "> ")
    os.write(terminal.descriptor, b"0011\x1b")
    await terminal.until("OK")
    assert modem.last_mr == 0xFF
    await terminal.ask("AT")


async def test_announcements_wait_while_a_text_is_given(modem: Modem, terminal: Terminal) -> None:
    (pdu,) = encode_pdus([Submit(NUMBER, "hello")])
    await terminal.ask(f"AT+CMGS={len(pdu) - 1}", "> ")
    modem.network.send(NUMBER, "meanwhile")
    os.write(terminal.descriptor, pdu.hex().encode() + b"\x1a")
    answer = await terminal.until("+CMTI")
    assert "+CMGS: 0\r\n\r\nOK\r\n" in answer


@pytest.mark.parametrize("line", [b"zz\x1a", b"\x1a", b"0011\x1a", b"00110003912143000004\x1a"])
async def test_what_is_no_pdu_is_refused(modem: Modem, terminal: Terminal, line: bytes) -> None:
    await terminal.ask("AT+CMGS=20", "> ")
    os.write(terminal.descriptor, line)
    await terminal.until("+CMS ERROR: 304")
    assert modem.network.log == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("AT+NONSENSE", "ERROR"),
        ("AT+CMGR=0", "+CMS ERROR: 321"),
        ("AT+CMGR=31", "+CMS ERROR: 321"),
        ("AT+CMGD=x", "+CMS ERROR: 321"),
        ("AT+CMGL=9", "+CMS ERROR: 321"),
        ('AT+CPMS="ME"', "+CMS ERROR: 321"),
        ("AT+CNMI=9", "ERROR"),
        ("AT+CMGS=", "+CMS ERROR: 304"),
    ],
)
async def test_commands_that_cannot_be_are_errors(terminal: Terminal, command: str, error: str) -> None:
    assert error in await terminal.ask(command, f"{error}\r\n")


async def test_a_full_sim_leaves_texts_in_the_network_until_there_is_room(
    modem: Modem, terminal: Terminal
) -> None:
    modem.slots = 2
    for text in ("one", "two", "three"):
        modem.network.send(NUMBER, text)
    assert (len(modem.sim), modem.network.waiting()) == (2, 1)
    assert '+CRSM: 144,0,"FFFE"' in await terminal.ask("AT+CRSM=176,28483,0,0,2")
    await terminal.ask("AT+CMGD=1")
    await terminal.until('+CMTI: "SM",1')
    assert [only(pdu).text for pdu, _ in modem.sim.values()] == ["two", "three"]


async def test_a_client_may_die_and_another_comes(modem: Modem, terminal: Terminal) -> None:
    await terminal.ask("AT+CMGS=20", "> ")
    terminal.close()
    second = Terminal(modem.link)
    await second.ask("\x1bAT")
    terminal.descriptor = second.descriptor


@pytest.mark.parametrize(
    ("at", "taken", "reference"), [("prompt", 0, 0xFF), ("before_network", 0, 0), ("after_network", 1, 0)]
)
async def test_power_cuts_while_sending(
    modem: Modem, terminal: Terminal, at: str, taken: int, reference: int
) -> None:
    modem.power_cut = at  # type: ignore[assignment]  # parametrize knows no literals
    (pdu,) = encode_pdus([Submit(NUMBER, "hello")])
    os.write(terminal.descriptor, f"AT+CMGS={len(pdu) - 1}\r".encode() + pdu.hex().encode() + b"\x1a")
    await true(lambda: not modem.powered)
    assert not modem.link.exists()
    with pytest.raises(OSError, match="Input/output"):
        os.write(terminal.descriptor, b"AT\r")
    assert len([e for e in modem.network.log if e.what == "submitted"]) == taken
    modem.plug()
    again = Terminal(modem.link)
    assert f'"{reference:02X}FF"' in await again.ask("AT+CRSM=176,28483,0,0,2")
    again.close()


async def test_long_texts_in_both_references_are_joined_by_a_reader(modem: Modem) -> None:
    text = "{" * 400
    for wide, parts in ((False, 6), (True, 6)):
        pdus = modem.network.send(NUMBER, text, wide_reference=wide, shuffle=True)
        read = sorted((only(pdu) for pdu in pdus), key=lambda part: part.concat or (0, 0, 0))
        assert len(read) == parts
        assert "".join(part.text or "" for part in read) == text
        assert {part.header[0][0] for part in read} == {8 if wide else 0}
    assert len(modem.network.send(NUMBER, text, drop=(2, 3))) == 4
    assert len(modem.network.send(NUMBER, "twice", times=2)) == 2


async def test_a_phone_shows_a_long_text_once_it_has_all_parts(modem: Modem, terminal: Terminal) -> None:
    for number in (2, 1):
        await terminal.submit(Submit(NUMBER, f"part {number} ", concat=(9, 2, number)))
    assert modem.network.phone(NUMBER).inbox == ["part 1 part 2 "]


async def test_orders_over_the_socket(modem: Modem, terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serve(path, modem), Control(path) as control, Control(path) as watcher:
        await control.do(Send(NUMBER, "before"))
        seen = watcher.watch()
        assert (await anext(seen)).text == "before"
        await control.do(Send(NUMBER, "after", sender="ALERT"))
        entry = await anext(seen)
        assert (entry.what, entry.number, entry.text, entry.number_from) == ("sent", NUMBER, "after", "ALERT")
        await control.do(Raw(("0791",)))
        assert modem.sim[3][0] == b"\x07\x91"
        with pytest.raises(ValueError, match="hexadecimal"):
            await control.do(Raw(("zz",)))
        await control.do(Refuse((38,)))
        await terminal.submit(Submit(NUMBER, "refused"), "+CMS ERROR: 38")
        await control.do(Refuse((38, 21), always=True))
        for code in (38, 21, 21, 21):
            await terminal.submit(Submit(NUMBER, "refused"), f"+CMS ERROR: {code}")
        await control.do(Refuse(()))
        await control.do(Phone(NUMBER, 0x46))
        await control.do(Slots(1))
        await terminal.submit(Submit(NUMBER, "never read"))
        assert modem.network.phone(NUMBER).inbox == []
        await control.do(Cut("prompt"))
        assert modem.power_cut == "prompt"
        await control.do(Mute())
        await control.do(Unplug())
        assert not modem.link.exists()
        await control.do(Plug())
        assert modem.link.exists()
        log = (await control.do(Log())).log
        assert log is not None
        assert [e.what for e in log][:3] == ["sent", "sent", "submitted"]


async def test_the_socket_answers_nonsense_with_an_error(modem: Modem, tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serve(path, modem):
        reader, writer = await asyncio.open_unix_connection(path)
        for line in (b"nonsense\n", b'{"do": "dance"}\n', b'{"do": "send"}\n'):
            writer.write(line)
            assert b'"error"' in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_faults_on_demand(modem: Modem, terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serve(path, modem), Control(path) as control:
        await control.do(Fail("AT+CMGR", "+CMS ERROR: 314", times=2))
        for result in ("+CMS ERROR: 314", "+CMS ERROR: 314", "OK"):
            await terminal.ask("AT+CMGR=1", f"{result}\r\n")
        await control.do(Fail("AT+CSQ", ""))
        await terminal.ask("AT+CSQ", "AT+CSQ\r")
        assert (await terminal.ask("AT")).startswith("AT\r")
        await control.do(Noise("002123"))
        await terminal.until("!#")
        await terminal.ask("ATE0")
        await control.do(Half(6))
        os.write(terminal.descriptor, b"AT+CSQ\r")
        await terminal.until("\r\n+CSQ")
        await control.do(Register(3))
        assert "+CREG: 0,3" in await terminal.ask("AT+CREG?")
        await terminal.submit(Submit(NUMBER, "no network"), "+CMS ERROR: 331")
        await control.do(Send(NUMBER, "waits"))
        assert (modem.sim, modem.network.waiting()) == ({}, 1)
        await control.do(Register(5))
        assert modem.network.waiting() == 0
        await control.do(Slow(0.05))
        await terminal.submit(Submit(NUMBER, "slow"))
        await terminal.ask("AT+CNMI=2,1,0,1,0")
        await control.do(Reboot(0.05))
        os.write(terminal.descriptor, b"AT+CSQ\r")  # deaf
        said = await terminal.until("SMS Ready\r\n")
        assert "RDY" in said
        assert "CSQ" not in said
        assert "+CNMI: 2,1,0,0,0" in await terminal.ask("AT+CNMI?")


async def test_a_sim_with_a_pin_gives_nothing_before_it_and_three_wrong_ones_lock_it(tmp_path: Path) -> None:
    modem = Modem(tmp_path / "tty", Network(retry_s=0.01), pin="1234")
    modem.plug()
    terminal = Terminal(modem.link)
    modem.network.send(NUMBER, "waits")
    await terminal.ask("AT+CMGL=4", "+CMS ERROR: 311")
    await terminal.ask("AT+CMEE=1")
    await terminal.ask('AT+CPIN="0000"', "+CME ERROR: 16")
    assert "+SPIC: 2," in await terminal.ask("AT+SPIC")
    await terminal.ask('AT+CPIN="1234"')
    await terminal.until('+CMTI: "SM",1')
    assert "+SPIC: 3," in await terminal.ask("AT+SPIC")
    terminal.close()
    modem.unplug()
    modem.plug()
    terminal = Terminal(modem.link)
    for _ in range(3):
        await terminal.ask('AT+CPIN="0000"', "ERROR")
    assert "+CPIN: SIM PUK" in await terminal.ask("AT+CPIN?")
    await terminal.ask('AT+CPIN="1234"', "ERROR")
    terminal.close()
    modem.unplug()
    modem.network.close()


async def test_a_sim7000_keeps_status_reports(tmp_path: Path) -> None:
    modem = Modem(tmp_path / "tty", Network(retry_s=0.01), model="sim7000")
    modem.plug()
    terminal = Terminal(modem.link)
    assert "SIM7000" in await terminal.ask("AT+CGMM")
    assert "+CEREG: 0,1" in await terminal.ask("AT+CEREG?")
    await terminal.ask("AT+CNMI=2,1,0,2,0")
    await terminal.submit(Submit(NUMBER, "one"))
    await terminal.until('+CDSI: "SM",1\r\n')
    pdu = (await terminal.ask("AT+CMGR=1")).split("\r\n")[2]
    (report,) = decode_received([bytes.fromhex(pdu)])
    assert isinstance(report, StatusReport)
    terminal.close()
    modem.unplug()
    modem.network.close()


async def test_text_mode(modem: Modem, terminal: Terminal) -> None:
    modem.network.send(NUMBER, "plain", smsc_at=1_752_228_784.0)
    modem.network.send(NUMBER, "¿qué? 😀", smsc_at=1_752_228_784.0)
    await terminal.ask("AT+CMGF=1")
    assert "+CMGF: 1" in await terminal.ask("AT+CMGF?")
    shown = await terminal.ask("AT+CMGR=1")
    assert f'+CMGR: "REC UNREAD","{NUMBER}","","25/07/11,10:13:04+00"\r\nplain\r\n' in shown
    assert 'CMGL: 1,"REC READ"' in await terminal.ask('AT+CMGL="REC READ"')
    # What plain characters cannot show comes as UCS-2.
    assert "00BF007100750" in await terminal.ask('AT+CMGL="ALL"')
    await terminal.ask("AT+CSMP=49,167,0,0")
    await terminal.ask("AT+CNMI=2,1,0,1,0")
    await terminal.ask(f'AT+CMGS="{NUMBER}"', "> ")
    os.write(terminal.descriptor, b"typed\x1a")
    await terminal.until("+CMGS: 0")
    assert f'6,0,"{NUMBER}",145,' in await terminal.until(",0\r\n")
    await terminal.ask('AT+CSCS="UCS2"')
    number, text = (words.encode("utf-16-be").hex() for words in (NUMBER, "sí"))
    await terminal.ask(f'AT+CMGS="{number}"', "> ")
    os.write(terminal.descriptor, text.encode() + b"\x1a")
    await terminal.until("+CMGS: 1")
    await terminal.ask(f'AT+CMGS="{number}"', "> ")
    os.write(terminal.descriptor, b"no digits\x1a")
    await terminal.until("+CMS ERROR: 304")
    assert modem.network.phone(NUMBER).inbox == ["typed", "sí"]


def parts_of(pdus: list[bytes]) -> list[int]:
    """Numbers of the parts, in order."""
    return [(only(pdu).concat or (0, 0, 0))[2] for pdu in pdus]


async def test_a_part_that_comes_late_comes_after_the_others(modem: Modem) -> None:
    modem.network.send(NUMBER, "a" * 400, late=(1,), late_s=0.05)
    assert parts_of([pdu for pdu, _ in modem.sim.values()]) == [2, 3]
    await true(lambda: len(modem.sim) == 3)
    assert parts_of([pdu for pdu, _ in modem.sim.values()]) == [2, 3, 1]


async def muddled(directory: Path) -> list[bytes]:
    """What a network that muddles delivers of twenty texts of three parts."""
    modem = Modem(directory / "tty", Network(seed=7), slots=255)
    path = directory / "control"
    modem.plug()
    async with serve(path, modem), Control(path) as control:
        await control.do(Muddle(twice=0.3, late=0.3, shuffled=0.5))
        for n in range(20):
            await control.do(Send(NUMBER, f"{n:03}" + "x" * 400, smsc_at=1_752_228_784.0))
        await true(lambda: not modem.network._late)
        came = [pdu for pdu, _ in modem.sim.values()]
        await control.do(Muddle())
        with pytest.raises(ValueError, match=r"<= 1"):
            await control.do(Muddle(twice=2))
        assert parts_of(modem.network.send(NUMBER, "y" * 400)) == [1, 2, 3]
    modem.unplug()
    modem.network.close()
    return came


async def test_a_network_that_muddles_loses_nothing_and_repeats_itself_by_seed(tmp_path: Path) -> None:
    pdus = await muddled(tmp_path)
    assert len(set(pdus)) == 60
    assert 60 < len(pdus) < 90
    assert parts_of(pdus) != sorted(parts_of(pdus))
    assert Counter(await muddled(tmp_path)) == Counter(pdus)


async def test_a_slow_network_and_a_noisy_line(modem: Modem, terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with serve(path, modem), Control(path) as control:
        await control.do(Slow(0.1, 0.2))
        loop = asyncio.get_running_loop()
        began = loop.time()
        await terminal.submit(Submit(NUMBER, "slow"))
        assert loop.time() - began > 0.09
        await control.do(Noise("0d0a", random=64))
        await terminal.ask("AT")


def test_the_help_tells_every_order() -> None:
    told = CliRunner().invoke(main, ["--help"]).output
    for kind in get_args(AnyOrder):
        assert f"\n  {kind.__name__.lower()}" in told
    refused = CliRunner().invoke(main, ["--link", "/nowhere/tty", "--order", '{"do": "dance"}'])
    assert refused.exit_code == 2
    assert "dance" in refused.output


async def test_several_commands_in_a_line_end_at_the_first_that_fails(
    modem: Modem, terminal: Terminal
) -> None:
    assert await terminal.ask("ATE0;+CMEE=1;+CREG=2") == "ATE0;+CMEE=1;+CREG=2\r\r\nOK\r\n"
    assert await terminal.ask("AT+CREG?;+CMEE?") == (
        '\r\n+CREG: 2,1,"0001","00E1"\r\n\r\n+CMEE: 1\r\n\r\nOK\r\n'
    )
    assert await terminal.ask("AT+CMGD=99;+CMEE=0", "321\r\n") == "\r\n+CMS ERROR: 321\r\n"
    assert "+CMEE: 1" in await terminal.ask("AT+CMEE?")
    await terminal.ask('AT+CSCS="UCS2";+CMGF=1')
    assert modem.session.text_mode


async def test_texts_may_go_straight_to_the_client(modem: Modem, terminal: Terminal) -> None:
    await terminal.ask("AT+CNMI=2,2,0,1,0")
    modem.network.send(NUMBER, "at once")
    pdu = (
        await terminal.until("+CMT: ") + await terminal.until("\r\n") + await terminal.until("\r\n")
    ).split()
    assert only(bytes.fromhex(pdu[-1])).text == "at once"
    assert modem.sim == {}
