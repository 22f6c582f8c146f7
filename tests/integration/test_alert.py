"""alert on a real nats-server: a mass incident, two workers that race, one of them lost in the middle."""

import asyncio
import contextlib
import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from nats.js.errors import NotFoundError

from actors._cli import evy
from actors._people.cases import Case, Rota, case_key, rota_key
from actors._people.contacts import load_contacts
from actors._runtime.actor import Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.handling import end
from actors._runtime.worker import run_actors
from actors.alert import rota
from actors.knowledge import Texts
from subjects import names
from subjects.messages import Alert, OutboundSms, ResponderReply, decode
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats

PEOPLE = 40
CONTACTS = """\
[[contacts]]
name = "Ana"
number = "+15550000001"
[[contacts]]
name = "Ben"
number = "+15550000002"
"""


async def worker(bus: NatsBus, directory: Path) -> "asyncio.Task[None]":
    config = Config({"node": {"name": NODE, "data_dir": str(directory)}})
    actors = await build_actors(("alert",), BusContext(config, bus))
    return asyncio.create_task(run_actors(bus, actors, asyncio.Event()))


async def outgoing(bus: NatsBus) -> list[OutboundSms]:
    """What waits for the modem, which nobody works for here."""
    state = (await bus.js.stream_info(f"FLASH_{NODE}")).state
    subject = names.work_subject(names.SMS_OUT, "flash")
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        with contextlib.suppress(NotFoundError):  # it was work that is done
            found.append(await bus.js.get_msg(f"FLASH_{NODE}", sequence))
    return [decode(raw.data or b"", OutboundSms) for raw in found if raw.subject == subject]


@pytest.mark.timeout(240)
async def test_a_mass_incident_is_told_in_full_and_once_whoever_is_lost(
    bus: NatsBus, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rota, "GATHER_S", 0.3)
    monkeypatch.setattr(rota, "DIGEST_EVERY_S", 0.5)
    (tmp_path / "contacts.toml").write_text(CONTACTS)
    contacts = load_contacts(tmp_path / "contacts.toml")
    cases = await bus.bucket("alerts")

    async def publish(number: int) -> None:
        alert = Alert(
            query_id=f"q{number}",
            node=NODE,
            sender_ref=f"person-{number}",
            text=f"house {number} is burning",
            lang="en",
            lane="flash",
            priority="emergency",
            needs=("fire",),
            topic="fire_trapped",
        )
        await bus.publish(Output(names.ALERT, "flash", alert, alert.query_id), "test")

    first, second = await worker(bus, tmp_path), await worker(bus, tmp_path)
    await asyncio.gather(*(publish(number) for number in range(PEOPLE)))
    while len(await cases.keys("case.")) < PEOPLE // 4:  # the server does not tell
        await asyncio.sleep(0.02)
    await end([first])  # what it had in hand comes again, to the other

    async def settled() -> bool:
        keys = await cases.keys("case.")
        found = [await cases.get(key) for key in keys]
        opened = [msgspec.json.decode(entry[0], type=Case) for entry in found if entry]
        rotas = [
            msgspec.json.decode(e[0], type=Rota) for c in contacts if (e := await cases.get(rota_key(c.key)))
        ]
        work = (await bus.js.consumer_info(f"FLASH_{NODE}", f"{NODE}_alert_flash")).num_ack_pending
        return (
            len(opened) == PEOPLE
            and not work
            and not any(case.outbox for case in opened)
            and not any(one.held or one.outbox for one in rotas)
        )

    async with asyncio.timeout(120):
        while not await settled():
            await asyncio.sleep(0.2)

    entries = [await cases.get(key) for key in await cases.keys("case.")]
    numbers = [str(msgspec.json.decode(entry[0], type=Case).number) for entry in entries if entry]
    assert len(set(numbers)) == PEOPLE
    texts = await outgoing(bus)
    keys = Counter((sms.query_id, sms.kind, sms.ordinal) for sms in texts)
    assert set(keys.values()) == {1}
    asks = Texts.load().say("ask_place", "en")
    assert sum(sms.text == asks for sms in texts) == PEOPLE
    for contact in contacts:
        mine = [sms.text for sms in texts if sms.number == contact.number]
        single = {text.split()[2] for text in mine if text.startswith("EVY ALERT")}
        listed = [
            item.split()[0]
            for text in mine
            if "people in danger" in text
            for item in text.split("danger: ")[1].partition(". Reply")[0].split(" +")[0].split("; ")
        ]
        assert len(mine) <= 20
        assert Counter([*single, *listed]) == Counter(numbers)

    # One of those in a digest: the responder gets the words, the person the truth.
    number = int(listed[0])
    reply = ResponderReply(
        query_id="r1",
        node=NODE,
        sender_ref="ben",
        responder=contacts[1].key,
        answer="coming",
        lane="flash",
        case=number,
    )
    for _ in range(2):
        await bus.publish(Output(names.ALERT_REPLY, "flash", reply, "r1"), "test")
    async with asyncio.timeout(60):
        while len(new := (await outgoing(bus))[len(texts) :]) < 3:
            await asyncio.sleep(0.1)
    assert sorted(sms.kind for sms in new) == ["alert", "notice", "reply"]
    [details] = [sms for sms in new if sms.kind == "alert"]
    assert details.text.startswith(f"EVY ALERT {number} ")
    assert details.about_ref == next(sms.sender_ref for sms in new if sms.kind == "notice")
    await end([second])

    # What a person at the node sees of it.
    toml = tmp_path / "evy.toml"
    toml.write_text(f'[node]\nname = "{NODE}"\ndata_dir = "{tmp_path}"\nnats_url = "{server.url}"\n')

    async def evy_cases(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, evy, ["--config", str(toml), "cases", *arguments])

    shown = await evy_cases("--json")
    listed_cases = json.loads(shown.stdout)
    assert (shown.exit_code, len(listed_cases)) == (0, PEOPLE)
    [going] = [case for case in listed_cases if case["state"] == "coming"]
    assert (going["number"], going["asked"], going["words"]) == (number, {"Ana": "", "Ben": "coming"}, "")
    assert "house" not in (await evy_cases()).stdout
    assert "house 7 is burning" in (await evy_cases("--full")).stdout
    await cases.put(
        case_key("person-0"), msgspec.json.encode(Case(number=1, boot_id="b0", unheard=True, text="x"))
    )
    shown = await evy_cases()
    assert shown.exit_code == 1
    assert "unheard" in shown.stdout
