"""From an office's feed over the leaf link to the texts of a node: two real servers, the feed by HTTP."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.errors import NotFoundError

from actors._people.consent import Consent
from actors._runtime.actor import Actor
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.worker import run_actors
from simulators.feeds import Office, served
from subjects import names
from subjects.messages import OutboundSms, decode
from tests.linked import Linked, running

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PLACES = {"valley": {"name": "The valley", "latitude": 38.48, "longitude": -119.95}}


async def built(name: str, bus: NatsBus, directory: Path, **tables: Any) -> Sequence[Actor]:
    node = {
        "name": bus.node,
        "profile": "bigevy" if bus.node == "hub" else "lilevy",
        "data_dir": str(directory),
    }
    return await build_actors((name,), BusContext(Config({"node": node, **tables}), bus))


async def texts(bus: NatsBus) -> list[OutboundSms]:
    """What waits for a modem that is not there, in the order in which it was said."""
    state = (await bus.js.stream_info(f"WORK_{bus.node}")).state
    found = []
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        try:
            raw = await bus.js.get_msg(f"WORK_{bus.node}", sequence)
        except NotFoundError:  # it was work that is done
            continue
        if (raw.subject or "").startswith(names.SMS_OUT):
            found.append(decode(raw.data or b"", OutboundSms))
    return found


async def test_an_alert_crosses_the_link_and_is_told_once_to_who_wants_it(tmp_path: Path) -> None:
    office = Office(seed=5)
    feed = office.feeds["weather"]
    first = feed.say(time.time())
    async with served(office) as port, running(Linked(tmp_path / "land", edges=("e1",))) as (hub, edges):
        edge = edges["e1"]
        consents, ledger = await edge.bucket("consent"), await edge.bucket("ledger")
        for ref, wants in (("ana", True), ("ben", False)):
            await consents.put(ref, msgspec.json.encode(Consent(stopped=False, alerts=wants)))
        table = {
            "weather": {
                "url": f"http://127.0.0.1:{port}/weather/index.xml",
                "senders": [first.theme.sender],
                "every_s": 1,
            }
        }
        here = {"places": PLACES, "least_severity": "Minor", "share": 1.0}
        at_hub = await built("feeds", hub, tmp_path, feeds=table)
        at_edge = await built("bulletin", edge, tmp_path / "e1", bulletin=here)
        stop = asyncio.Event()
        both = ((hub, at_hub), (edge, at_edge))
        running_actors = [asyncio.create_task(run_actors(bus, actors, stop)) for bus, actors in both]
        try:
            async with asyncio.timeout(60):
                while not (told := await texts(edge)):
                    await asyncio.sleep(0.1)
                # The modem took it; the cancel that follows goes to who was told, and nobody else.
                await ledger.put(told[0].ledger_key(1), b'{"state":"SUBMITTED"}')
                await ledger.put(told[0].ledger_key(2), b'{"state":"SUBMITTED"}')
                feed.say(time.time() + 1, "Cancel")
                while len(told := await texts(edge)) < 2:
                    await asyncio.sleep(0.1)
        finally:
            stop.set()
            await asyncio.gather(*running_actors)
    assert [sms.sender_ref for sms in told] == ["ana", "ana"]
    assert first.theme.instruction in told[0].text
    assert told[1].text.startswith("CANCELLED: ")
    assert {sms.lane for sms in told} <= {"priority", "routine"}
