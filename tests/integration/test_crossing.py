"""`evy link`: what people and scripts are told of the link, from real servers."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.api import ExternalStream

from actors._runtime.actor import Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.crossing import Crossing, Held, look
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision
from subjects import names
from subjects.messages import Deadline, Event, Query, encode
from subjects.names import Lane
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats

HYBRID = Place(NODE, "hybrid")
ROOT = Path(__file__).resolve().parents[2]


def query(number: int, lane: Lane = "routine", node: str = NODE) -> Output:
    asked = Query(
        id=f"q{number}",
        node=node,
        sender_ref="ana",
        text="?",
        lang="en",
        lane=lane,
        deadline=Deadline("another boot", 0.0),
    )
    return Output(names.INFER_LARGE, lane, asked, asked.id)


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    connected = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test")
    await provision(connected.js, HYBRID)
    yield connected
    await connected.close()


@pytest.fixture
def config(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "evy.toml"
    path.write_text(
        f'[node]\nname = "{NODE}"\nprofile = "hybrid"\ndata_dir = "{tmp_path}"\nnats_url = "{server.url}"\n'
    )
    return path


async def evy_link(config: Path, *options: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors", "--config", str(config), "link", *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def shown(config: Path) -> tuple[int, dict[str, Any]]:
    code, out, errors = await evy_link(config, "--json")
    assert errors == ""
    report: dict[str, Any] = json.loads(out)
    return code, report


async def until_hears(bus: NatsBus, place: Place) -> None:
    async with asyncio.timeout(20):
        while any(taking.verdict != "ok" for link in await look(bus, place) for taking in link.taking):
            await asyncio.sleep(0.2)


async def test_a_hybrid_sees_both_ways_and_what_waits(bus: NatsBus, config: Path) -> None:
    await until_hears(bus, HYBRID)
    code, report = await shown(config)
    assert (code, report["ok"], report["troubles"]) == (0, True, [])
    [link] = report["links"]
    assert link["up"]
    assert link["rtt_ms"] > 0
    assert {taking["stream"] for taking in link["taking"]} == {f"{s}_{NODE}" for s in ("IN", "FLASH", "WORK")}

    # Queries that arrived and nobody works on: shown by lane with their age, and a trouble with its mend.
    lanes: Sequence[Lane] = ("flash", "routine", "routine")
    for number, lane in enumerate(lanes):
        await bus.publish(query(number, lane), "rag")
    async with asyncio.timeout(20):
        while (await bus.js.stream_info(f"IN_{NODE}")).state.messages < 3:
            await asyncio.sleep(0.05)
    code, report = await shown(config)
    [link] = report["links"]
    assert link["arrived"]["lanes"] == {"flash": 1, "priority": 0, "routine": 2}
    assert 0 <= link["arrived"]["oldest_s"] < 60
    assert code == 1
    [[problem, mend]] = report["troubles"]
    assert "3 queries" in problem
    assert "evy run infer_large" in mend

    code, text, _ = await evy_link(config)
    assert code == 1
    assert f"arrived    3 in IN_{NODE}: flash 1, priority 0, routine 2, the oldest for" in text
    assert re.search(rf"IN_{NODE} takes from UP_{NODE}: heard \d s ago, 0 behind", text)
    assert "-> start it" in text


async def test_a_source_that_never_hears_is_called_stalled(bus: NatsBus, config: Path) -> None:
    info = await bus.js.stream_info(f"WORK_{NODE}")
    [source] = info.config.sources or []
    source.external = ExternalStream("$JS.nowhere.API", "dlv.down.nowhere")
    await bus.js.update_stream(info.config)
    code, report = await shown(config)
    assert code == 1
    verdicts = {taking["stream"]: taking["verdict"] for taking in report["links"][0]["taking"]}
    assert verdicts[f"WORK_{NODE}"] == "stalled"
    assert any(
        f"stalled: WORK_{NODE} has not heard since its start from DOWN_{NODE}" in what
        for what, _ in report["troubles"]
    )


async def test_a_full_lane_at_the_centre_is_named(bus: NatsBus) -> None:
    info = await bus.js.stream_info(f"IN_{NODE}")
    await bus.js.update_stream(info.config.evolve(max_msgs_per_subject=1))
    for number in range(3):
        await bus.publish(query(number), "rag")
    async with asyncio.timeout(20):
        while not (await bus.js.stream_info(f"IN_{NODE}")).state.messages:
            await asyncio.sleep(0.05)
    [link] = await look(bus, HYBRID)
    [taking] = [taking for taking in link.taking if taking.stream == f"IN_{NODE}"]
    assert taking.verdict == "full"
    assert link.leaving is not None
    assert link.leaving.total >= 2
    assert any("full: IN_" in what for what, _ in link.troubles)


async def test_down_since_and_why(bus: NatsBus, config: Path) -> None:
    at = 1_700_000_000.0
    for kind, when in (("link_up", at - 60), ("link_down", at)):
        event = Event(kind=kind, node=NODE, actor="link", at=when)
        await bus.js.publish(names.event_subject(kind), encode(event))
    await bus.js.delete_stream(f"DOWN_{NODE}")
    with pytest.raises(BusError, match="DOWN_n1"):  # the centre half of a hybrid misses it too
        await look(bus, HYBRID)
    await provision(bus.js, HYBRID)
    [link] = await look(bus, HYBRID)
    assert (link.up, link.since) == (True, None)  # the last event says something else
    event = Event(kind="link_up", node=NODE, actor="link", at=at + 5)
    await bus.js.publish(names.event_subject("link_up"), encode(event))
    [link] = await look(bus, HYBRID)
    assert link.since == at + 5
    _, text, _ = await evy_link(config)
    assert "link up since 2023-11-14" in text


async def test_watch_gives_one_object_a_line_until_interrupted(bus: NatsBus, config: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors", "--config", str(config), "link", "--watch", "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    reports = [json.loads(await process.stdout.readline()) for _ in range(2)]
    process.terminate()
    assert await process.wait() in {0, 1}
    assert [report["node"] for report in reports] == [NODE, NODE]


async def test_without_a_centre_there_is_nothing_to_be_wrong(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "evy.toml"
    path.write_text(f'[node]\nname = "{NODE}"\ndata_dir = "{tmp_path}"\nnats_url = "{server.url}"\n')
    code, text, _ = await evy_link(path)
    assert code == 0
    assert "has no centre" in text
    assert "evy nats join" in text
    server.stop()
    code, _, errors = await evy_link(path)
    assert code == 1
    assert "evy up" in errors
    assert "Traceback" not in errors


def test_nobody_works_is_a_trouble_only_when_something_waits() -> None:
    link = Crossing("e1", up=True, reason="it answers", workers=0)
    assert link.troubles == []
    waiting = msgspec.structs.replace(link, arrived=Held("IN_e1", {"routine": 2}, 3.0))
    assert [what for what, _ in waiting.troubles] == [
        "2 queries of e1 wait at the centre, nobody works on them"
    ]
    assert msgspec.structs.replace(waiting, workers=1).troubles == []
