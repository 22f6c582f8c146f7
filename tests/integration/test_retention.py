"""What a node keeps, and for how long: `[node] keep_days` on a real server, and the bound in the docs."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from nats.js.api import StreamConfig

from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.provision import Place, provision
from subjects import registry
from subjects.errors import ConfigError
from subjects.messages import Event, encode
from tests.conftest import NODE, PLACE

ROOT = Path(__file__).parents[2]
DAY_S = 86400.0


async def stream(bus: NatsBus, name: str) -> StreamConfig:
    return (await bus.js.stream_info(f"{name}_{NODE}")).config


@pytest.mark.nats
async def test_an_existing_node_keeps_no_longer_than_its_configuration_says(bus: NatsBus) -> None:
    assert (await stream(bus, "DLQ")).max_age == 90 * DAY_S
    place = Place.of(Config({"node": {"name": NODE, "keep_days": 3}}).node)
    assert await provision(bus.js, place) == []
    ages = {row.name: (await stream(bus, f"KV_{row.name}")).max_age for row in registry.BUCKETS}
    assert ages["numbers"] == ages["ledger"] == 3 * DAY_S
    assert ages["more"] == DAY_S
    assert ages["consent"] == 0
    assert (await stream(bus, "EVT")).max_age == (await stream(bus, "DLQ")).max_age == 3 * DAY_S
    assert (await stream(bus, "WORK")).max_age == 0

    event = Event(kind="received", node=NODE, actor="intake", at=1.0)
    await bus.js.publish("evt.received", encode(event))
    await provision(bus.js, msgspec.structs.replace(place, keep_days=1 / DAY_S))
    async with asyncio.timeout(30):
        while (await bus.js.stream_info(f"EVT_{NODE}")).state.messages:
            await asyncio.sleep(0.1)


@pytest.mark.nats
async def test_an_operator_may_keep_less_and_not_more(bus: NatsBus) -> None:
    for days, kept in ((20, 20), (200, 90)):
        changed = (await stream(bus, "DLQ")).evolve(max_age=days * DAY_S)
        await bus.js.update_stream(changed)
        await provision(bus.js, PLACE)
        assert (await stream(bus, "DLQ")).max_age == kept * DAY_S


@pytest.mark.nats
async def test_a_newer_release_widens_a_stream_and_the_older_goes_on_with_it(bus: NatsBus) -> None:
    config = await stream(bus, "WORK")
    subjects = config.subjects or []
    await bus.js.update_stream(config.evolve(subjects=subjects[:-1]))
    assert await provision(bus.js, PLACE) == []
    assert sorted((await stream(bus, "WORK")).subjects or []) == sorted(subjects)

    await bus.js.update_stream(config.evolve(subjects=[*subjects, "newer.routine"]))
    await bus.js.add_stream(StreamConfig(name=f"NEWER_{NODE}", subjects=["newest.>"]))
    [drift] = await provision(bus.js, PLACE)
    assert "newer.routine" in drift
    assert (await bus.js.publish("newer.routine", b"waits for the newer one")).seq


def test_less_than_a_text_may_be_tried_is_refused() -> None:
    with pytest.raises(ConfigError, match="keep_days"):
        Config({"node": {"keep_days": 1}})


def test_the_bound_is_what_the_documentation_says() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [(megabytes, waiting)] = re.findall(r"at most ([0-9]+) MB of records .*?at most ([0-9 ]+) messages", page)
    assert int(megabytes) * 2**20 == registry.most_octets()
    assert int(waiting.replace(" ", "")) == registry.most_waiting()
    [server] = re.findall(r"max_file_store: ([0-9]+)GB", (ROOT / "nats" / "lilevy.conf").read_text())
    assert f"{server} GB" in page
    assert registry.most_octets() < int(server) * 2**30 / 2
