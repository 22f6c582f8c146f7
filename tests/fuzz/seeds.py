"""What each target starts from: well-formed input, which the fuzzer then damages."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from evy_core import Deliver, Submit, encode_pdus

from actors.knowledge import Texts, packer
from subjects.bulletin import Area, Bulletin, Info, Reference
from subjects.event_report import EventReport, Reported
from subjects.mesh import MeshNeeds, MeshPacket, MeshReply
from subjects.messages import (
    Alert,
    Answer,
    DeadLetter,
    Deadline,
    Event,
    Forget,
    InboundSms,
    Message,
    OutboundSms,
    Passage,
    Query,
    ResponderReply,
    SyncReport,
    Unanswered,
    encode,
)

VECTORS: Final = Path(__file__).parents[1] / "vectors"
UNTIL: Final = Deadline("boot", 15.0)


def pdu() -> list[bytes]:
    """Texts in every alphabet, whole and in parts, with national tables; a submission."""
    return encode_pdus(
        [
            Deliver("+34600111222", "help"),
            Deliver("+34600111222", "ayuda rápido 🆘", zone_quarters=8),
            Deliver("600111222", "part", concat=(7, 3, 2)),
            Deliver("600111222", "part", concat=(70, 3, 2), wide_reference=True),
            Deliver("BANK", data=b"\x09", coding=0, header=[(0x24, b"\x02"), (0x25, b"\x03")]),
            Deliver("600111222", data=b"\x01\x02", coding=4, header=[(5, b"\x0b\x84\x23\xf0")]),
            Submit("+34600111222", "go uphill now", validity=167, concat=(1, 2, 1)),
        ]
    )


def text() -> Iterator[bytes]:
    """Texts people send, and scripts that need more than one octet a character."""
    for line in (VECTORS / "triage.jsonl").read_bytes().splitlines()[::7]:
        yield msgspec.json.decode(line)["text"].encode()
    yield "é́ 😀👨‍👩‍👧 पानी ماء +34 600 111 222 € {}[]".encode()


def packed() -> list[bytes]:
    """Frames of texts people send, by each method, and one of a known text."""
    texts = [octets.decode() for octets in islice(text(), 0, None, 10)]
    said = Texts.load()
    packing = packer(said)
    return packing.pack(texts) + packing.pack(said.whole()[:3], to_same=True)


def frames() -> Iterator[bytes]:
    """Frames of each kind, whole and in parts, their octets apart by 0xFE; kept state; a request; beacons."""
    clear = bytes([1 << 5 | 3 << 1, 7, 2, 3, 0, 0, 0, 9])
    for kind in range(5):
        flags = kind << 5 | 1 << 2 | 1 << 1
        whole = bytes([1, 3, 0, 0, kind, flags])
        parts = [bytes([1, 3, 0, 0, kind, flags | 1, index, 3]) + b"help" for index in range(3)]
        yield clear + b"\xfe" + b"\xfe".join([whole + b"help", *parts])
    yield bytes([0, 0, 9, 0b101])
    hears, claims = bytes([2, 3, 0xF7, 254, 0]), bytes([1, 3, 8, 16, 255, 200, 1, 40])
    for power in range(8):  # empty, quarters of a battery, with a model and without
        others = bytes([2, 9, power << 2 | 7 << 5, 10, power << 2 | 3])
        yield bytes([power << 2 | 1 << 7]) + hears + others + claims
    sections = b"EVYM\x01" + bytes([1, 0, 0, 0, 17]) + bytes(11) + bytes([32, 2, 0, 0, 0, 42])
    yield sections + sha256(sections).digest()[:8]
    yield bytes(8) + bytes(11) + bytes([32, 2, 0, 0, 0, 42])
    spent = (869_400_000, 3_600_000, 9_000_000)
    yield bytes(8) + b"".join(number.to_bytes(4) for number in spent) + b"\x03" * 10


def at_lines() -> Iterator[bytes]:
    """Answers to opening, listing and sending, in the order in which the driver asks."""
    stored = encode_pdus([Deliver("+34600111222", "help")])[0]
    whole = f"{len(stored) - 1 - stored[0]}\r\n{stored.hex().upper()}".encode()
    opening = b"\x00".join([b"SIMCOM_SIM800C", *[b""] * 12])
    yield opening + b"\x00+CMGL: 1,1,,%s" % whole + b"\x00+CMGS: 17"
    yield opening + b'\x00+CMTI: "SM",3\x00+CMGR: 0,,%s' % whole
    yield opening + b"\x00+CMS ERROR: 322\x00+CMS ERROR: 38\x00+CDS: 25\r\n0006"
    yield b'RDY\r\n+CFUN: 1\r\nCall Ready\r\nSMS Ready\x00NORMAL POWER DOWN\x00RING\r\n+CLIP: "600",129'


def envelopes() -> Iterator[bytes]:
    """One message of each type with every field that has a shape of its own."""
    address = {"node": "n1", "lang": "es", "lane": "flash"}
    passage = Passage("water", "Boil it for 1 minute.", score=0.5)
    messages: list[Message] = [
        InboundSms(
            id="q", node="n1", sender="+34600", text="ayuda", lane="flash", deadline=UNTIL, smsc_at=1.5
        ),
        Query(id="q", sender_ref="r", text="?", deadline=UNTIL, passages=(passage,), wait=UNTIL, **address),
        Answer(query_id="q", sender_ref="r", text="!", step="verbatim", passages=(passage,), **address),
        OutboundSms(query_id="q", sender_ref="r", text="!", step="alert", kind="alert", **address),
        Alert(query_id="q", sender_ref="r", text="!", priority="emergency", needs=("medical",), **address),
        ResponderReply(
            query_id="q", node="n1", sender_ref="r", responder="c1", answer="coming", lane="flash", case=7
        ),
        Forget(node="n1", refs=("r",), queries=("q",)),
        EventReport(node="n1", stream="0" * 12, events=(Reported(1, 1, "sent", "flash", "", {"ms": 9}),)),
        SyncReport(node="n1", at=1.5, state="refused", version=3, bundle=4, reason="why", octets=9),
        Unanswered(id="0" * 32, node="n1", text="?", lang="es", day="2026-11-22", needs=("water",)),
        _bulletin(),
        MeshPacket(node="n1", lane="flash", peer=3, network=7, id=9, payload=b"\x01\x00", broadcast=True),
        MeshPacket(node="n1", lane="flash", peer=3, reply=MeshReply("0a1b2c3d", "coming")),
        MeshPacket(node="n1", lane="routine", needs=MeshNeeds("mill", {"water": 3})),
        Event(kind="received", node="n1", actor="sms", at=1.5, fields={"parts": [1, None, {"x": True}]}),
        DeadLetter(
            subject="sms.in.flash",
            payload=b"\x00",
            headers={"Nats-Msg-Id": "1"},
            error="why",
            actor="intake",
            node="n1",
            deliveries=6,
            at=1.5,
        ),
    ]
    yield from map(encode, messages)


def _bulletin() -> Bulletin:
    shore = Area(
        "shore",
        polygons=(((1.0, 2.0), (1.0, 3.0), (2.0, 3.0)),),
        circles=((1.0, 2.0, 5.0),),
        geocodes=(("SAME", "1"),),
    )
    return Bulletin(
        identifier="a1",
        sender="met",
        sent_at=1.5,
        status="Actual",
        msg_type="Update",
        scope="Public",
        references=(Reference("met", "a0", 0.5),),
        infos=(Info("Flood", "Immediate", "Extreme", "Observed", expires_at=9.5, areas=(shore,)),),
    )


SEEDS: Final = {
    "pdu": pdu,
    "text": text,
    "packed": packed,
    "frame": frames,
    "at_lines": at_lines,
    "envelopes": envelopes,
}
