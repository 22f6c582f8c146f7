"""What becomes of each kind of SMS, and of calls, with either driver (docs/architecture.md, «Reception»)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from evy_core import Deliver, StatusReport, encode_pdus

from actors._runtime.bus import BusError
from actors.sms.kinds import FATES
from simulators.modem import Modem
from simulators.network import SMSC, Network
from tests.integration.sms_node import NUMBER, Node, until

pytestmark = pytest.mark.modem

OPERATOR = "+12085550199"
NOTIFICATION = (
    b"\x01\x06\x03\xbe\xaf\x84\x8c\x82\x98T1\x00\x8d\x90\x89\x19\x80"
    + NUMBER.encode()
    + b"/TYPE=PLMN\x00\x8a\x80\x8e\x02\x12\x34\x88\x05\x81\x03\x03\xf4\x80\x83http://mms.example/1\x00"
)
TO_WAP_PUSH = (0x05, b"\x0b\x84\x23\xf0")


@dataclass(frozen=True)
class Case:
    """A PDU and what must come of it: the text, or the kind that it is."""

    name: str
    pdu: bytes
    text: str | None = None
    kind: str = ""
    told: str = ""


def pdu(text: str = "", *, sender: str = NUMBER, **fields: object) -> bytes:
    return encode_pdus([Deliver(sender, text, smsc=SMSC, smsc_at=1_752_228_784.0, **fields)])[0]  # type: ignore[arg-type]


def cases() -> list[Case]:
    whole = pdu("abc", header=[(0x70, b"\x01\x02")])
    huge = bytearray(whole)
    huge[-len(b"\x01\x02") - 3 - 3] = 0x8A  # UDHL past the end of the user data
    broken = bytearray(pdu("abc", coding=0x08, header=[(0x70, b"\x01\x02")]))
    broken[-6 - 3] = 9  # the element is longer than the header: the header is ignored, the text is not
    reserved = bytearray(pdu("of a type to come"))
    reserved[8] |= 0x03
    found = [
        Case("class 0", pdu("evacuate", coding=0x10), "evacuate"),
        Case("class 0, other group", pdu("run", coding=0xF0), "run"),
        Case("class 1", pdu("class 1", coding=0x11), "class 1"),
        Case("class 2, for the SIM", pdu("class 2", coding=0xF2), "class 2"),
        Case("class 3", pdu("class 3", coding=0x1B), "class 3"),
        Case("deleted when read", pdu("auto", coding=0x40), "auto"),
        Case("reserved coding", pdu("reserved", coding=0x84), "reserved"),
        *(Case(f"replace type {n}", pdu(f"state {n}", protocol=0x40 + n), f"state {n}") for n in (1, 7)),
        Case("telematic device", pdu("by fax", protocol=0x22), "by fax"),
        Case("reserved TP-MTI", bytes(reserved), "of a type to come"),
        Case("empty text", pdu(""), ""),
        Case("only an unknown element", pdu("with", header=[(0x70, b"\xff" * 100)]), "with"),
        Case("broken header", bytes(broken), "abc"),
        Case("impossible part", pdu("part 3 of 2", header=[(0x00, b"\x07\x02\x03")]), "part 3 of 2"),
        Case("national table", pdu(data=b"est\x1ba", coding=0, header=[(0x24, b"\x02")]), "está"),
        Case("name", pdu("your bill", sender="BANK OF X"), "your bill"),
        Case("short code", pdu("balance 3.20", sender="3020"), "balance 3.20"),
        Case("huge header", bytes(huge), kind="unreadable"),
        Case("no PDU", b"\xff" * 20, kind="unreadable"),
        Case("nothing", b"", kind="unreadable"),
        Case("a draft on the SIM", bytes.fromhex("0001000B914306012121F200000141"), kind="unreadable"),
        Case("type 0", pdu("ping", protocol=0x40), kind="silent"),
        Case("type 0 of class 0", pdu("ping", protocol=0x40, coding=0x10), kind="silent"),
        Case("waiting, discard", pdu("2 calls", sender=OPERATOR, coding=0xC8), kind="waiting"),
        Case("waiting, no text", pdu("", sender=OPERATOR, header=[(0x01, b"\x00\x02")]), kind="waiting"),
        Case("return call", pdu("call us", sender=OPERATOR, protocol=0x5F), kind="waiting"),
        Case("waiting, store", pdu("2 calls", sender=OPERATOR, coding=0xD8), kind="voice_mail"),
        Case("waiting, store, UCS-2", pdu("两", sender=OPERATOR, coding=0xE8), kind="voice_mail"),
        Case("waiting, element", pdu("2", sender=OPERATOR, header=[(0x01, b"\x80\x02")]), kind="voice_mail"),
        Case("data", pdu(data=b"\x00\xff", coding=0x04), kind="data", told="picture"),
        Case("compressed", pdu(data=b"\x00\xff", coding=0x20), kind="data", told="picture"),
        Case("port", pdu("BEGIN:VCARD", header=[(0x05, b"\x23\xf4\0\0")]), kind="data", told="picture"),
        Case("short port", pdu("x", header=[(0x04, b"\xf0\xf0")]), kind="data", told="picture"),
        Case("port of 2 octets", pdu("not a port", header=[(0x05, b"\x23\xf4")]), "not a port"),
        Case(
            "MMS",
            pdu(data=NOTIFICATION, coding=0x04, sender=OPERATOR, header=[TO_WAP_PUSH]),
            kind="picture",
            told="picture",
        ),
        Case(
            "MMS, hidden",
            pdu(data=b"\x01\x06\x01\xbe\x8c\x82\x89\x01\x81", coding=0x04, header=[TO_WAP_PUSH]),
            kind="picture",
        ),
        Case("push", pdu(data=b"\x01\x06\x01\xb6", coding=0xF5, header=[TO_WAP_PUSH]), kind="push"),
        Case("SIM data", pdu(data=b"\x02\x70", coding=0xF6, protocol=0x7F), kind="sim_data"),
        Case("ME data", pdu("x", protocol=0x7D), kind="sim_data"),
    ]
    assert {case.kind for case in found} - {""} == FATES.keys() - {"call"}
    return found


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=7, retry_s=0.05), slots=5)
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.fixture(params=["gammu", "at"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_every_kind_becomes_what_the_table_says_and_leaves_its_slot(
    modem: Modem, tmp_path: Path, driver: str
) -> None:
    node = Node(tmp_path, modem.link, driver)
    async with node.running():
        for case in cases():
            node.received.clear()
            node.letters.clear()
            node.events.clear()
            modem.network.deliver([case.pdu])
            fate = FATES[case.kind] if case.kind else None  # type: ignore[index]
            if fate is None:
                await until(lambda: bool(node.received))
                assert [(sms.kind, sms.text) for sms in node.received] == [("text", case.text)], case.name
            else:
                event = "unreadable" if fate.kept else "discarded"
                await until(lambda event=event: event in [e.kind for e in node.events])  # type: ignore[misc]
                (told,) = [e for e in node.events if e.kind == event]
                assert told.fields["what"] == case.kind, case.name
                assert told.fields["reason"]
                assert NUMBER not in str(told)
                said = [(sms.kind, sms.text, sms.lane) for sms in node.received]
                assert said == [(case.told, "", "priority")] * bool(case.told), case.name
                assert [letter.payload for letter in node.letters] == [case.pdu] * fate.kept, case.name
            if case.told:
                assert node.received[0].sender == NUMBER, case.name
            await until(lambda: not modem.sim and not modem.network.waiting())


async def test_a_status_report_about_nothing_we_sent_is_an_event(
    modem: Modem, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.sms.station.REPORT_WAITS_S", (0.0,))
    node = Node(tmp_path, modem.link, driver)
    async with node.running():
        (report,) = encode_pdus([StatusReport(NUMBER, 77, 0, smsc=SMSC)])
        modem.session.say(f"\r\n{modem.session.shown('+CDS: ', report)}\r\n")
        await until(lambda: node.events[-1].kind == "stray_report")
        assert node.events[-1].fields["reference"] == 77


@pytest.mark.parametrize("calls", ["text", "reject", "ignore"])
async def test_calls(modem: Modem, tmp_path: Path, driver: str, calls: str) -> None:
    node = Node(tmp_path, modem.link, driver, calls=calls)
    async with node.running():
        call = modem.ring(NUMBER, rings=3, every_s=0.3)
        await until(lambda: node.events[-1].kind == "call" and not call.is_ringing)
        assert call.hung_up == (calls != "ignore")
        assert NUMBER not in str(node.events)
        asked = [(sms.kind, sms.sender, sms.lane) for sms in node.received]
        assert asked == [("call", NUMBER, "priority")] * (calls == "text")
        hidden = modem.ring("", rings=3, every_s=0.3)
        await until(lambda: [e.kind for e in node.events].count("call") == 2 and not hidden.is_ringing)
        assert hidden.hung_up == (calls != "ignore")
        assert node.events[-1].fields["hidden"]
        assert len(node.received) == (calls == "text")
        # A text that comes while it rings is a text, and the line is well.
        modem.ring(NUMBER, rings=2, every_s=0.3)
        modem.network.send(NUMBER, "and a text")
        await until(lambda: "and a text" in [sms.text for sms in node.received])


def test_the_documentation_has_every_kind() -> None:
    words = Path("docs/architecture.md").read_text(encoding="utf-8")
    assert [kind for kind in ("text", *FATES) if f"\n| `{kind}` |" not in words] == []


async def test_a_class_0_text_is_the_networks_until_it_is_on_the_bus(
    modem: Modem, tmp_path: Path, driver: str
) -> None:
    """A crash before the PubAck loses neither a text nor a status report that the modem only shows."""
    node = Node(tmp_path, modem.link, driver)
    node.refuse_publish = BusError("sms.in is full")
    async with node.running():
        modem.network.send(NUMBER, "evacuate", coding=0x10)
        await until(lambda: node.publishing > 0)
        assert modem.network.waiting() == 1
    # The process is gone, and the next one gets it, although the modem shows nothing for a while. While it
    # opens, Gammu may swallow half of what is shown: then it comes again after the modem's patience.
    node = Node(tmp_path, modem.link, driver)
    modem.session._give_up()
    modem.receipt_within_s = 1.0
    async with node.running():
        await until(lambda: bool(node.received) and not modem.network.waiting(), 60)
        assert {sms.text for sms in node.received} == {"evacuate"}
        assert len({sms.id for sms in node.received}) == 1


async def test_a_receipt_that_comes_too_late_brings_the_text_again_under_the_same_id(
    modem: Modem, tmp_path: Path, driver: str
) -> None:
    node = Node(tmp_path, modem.link, driver)
    node.refuse_publish = BusError("sms.in is full")
    modem.receipt_within_s = 0.1
    async with node.running():
        modem.network.send(NUMBER, "evacuate", coding=0x10)
        await until(lambda: node.publishing > 0 and not modem.session.texts_shown)
        modem.receipt_within_s = 10.0
        node.refuse_publish = None
        await until(lambda: len(node.received) == 2 and not modem.network.waiting())
        assert len({sms.id for sms in node.received}) == 1
        assert modem.session.texts_shown
        await node.send("one", query_id="q1")
        await until(lambda: node.events[-1].kind == "delivered")


async def test_a_modem_that_takes_no_receipts_goes_on_without(
    modem: Modem, tmp_path: Path, driver: str
) -> None:
    node = Node(tmp_path, modem.link, driver)
    modem.fail = [("AT+CNMA", "ERROR")]
    async with node.running():
        modem.network.send(NUMBER, "evacuate", coding=0x10)
        await until(lambda: not modem.session.wants_receipts)
        modem.network.send(NUMBER, "at once", coding=0x10)
        await until(lambda: "at once" in [sms.text for sms in node.received])
        await node.send("one", query_id="q1")
        await until(lambda: node.events[-1].kind == "delivered")
