"""Several modems on one node: who sends what, and what happens when one of them goes away."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors._runtime import clock
from simulators.modem import Modem
from simulators.network import Network
from subjects.node_state import MeshState, NodeState
from tests.integration.sms_node import IDENTITY, NUMBER, Node, until

pytestmark = pytest.mark.modem

OTHER = "+44700900111"
LONG = "The river rises. Take the road to the school, not the bridge. " * 6


@pytest.fixture
async def modems(tmp_path: Path) -> AsyncIterator[tuple[Modem, Modem]]:
    """Two modems with SIMs of two operators: what their networks' phones show is one person's phone."""
    one, two = (
        Modem(tmp_path / name, Network(seed=n, retry_s=0.05, report_delay_s=0.02))
        for n, name in enumerate(("one", "two"))
    )
    one.plug()
    two.plug()
    yield one, two
    for modem in (one, two):
        modem.unplug()
        modem.network.close()


def node_of(tmp_path: Path, modems: tuple[Modem, Modem], **config: float) -> Node:
    return Node(tmp_path, [modem.link for modem in modems], "at", **config)


def shown(modem: Modem, number: str = NUMBER) -> list[str]:
    return modem.network.phone(number).inbox


def submitted(modem: Modem) -> list[str]:
    return [entry.text for entry in modem.network.log if entry.what == "submitted"]


async def entry_of(node: Node, key: str) -> dict[str, object]:
    found = await node.ledger.get(key)
    assert found is not None
    entry: dict[str, object] = json.loads(found[0])
    return entry


async def test_the_answer_comes_from_the_number_that_was_texted(
    modems: tuple[Modem, Modem], tmp_path: Path
) -> None:
    one, two = modems
    node = node_of(tmp_path, modems)
    async with node.running(2):
        await node.send("to whom never texted", query_id="q0")
        two.network.send(NUMBER, "HELP")
        await until(lambda: len(node.received) == 1)
        assert node.received[0].modem == "two"
        await node.send("first", query_id="q1")
        one.network.send(NUMBER, "HELP again")
        await until(lambda: len(node.received) == 2)
        await node.send("second", query_id="q2")
        assert (shown(one), shown(two)) == (["to whom never texted", "second"], ["first"])
        await until(lambda: node.kinds().count("delivered") == 3)
    # It outlives the process.
    node = node_of(tmp_path, modems)
    async with node.running(2):
        await node.send("third", query_id="q3")
    assert shown(one)[-1] == "third"


async def test_a_routine_text_waits_a_little_and_flash_does_not(
    modems: tuple[Modem, Modem], tmp_path: Path
) -> None:
    one, two = modems
    one.last_mr = two.last_mr = 7
    node = node_of(tmp_path, modems, failover_after_s=2.0)
    async with node.running(2):
        one.unplug()
        await until(lambda: "modem_lost" in node.kinds())
        waiting = asyncio.create_task(node.send("routine", query_id="q1"))
        await node.send("flash", query_id="q2", lane="flash")
        assert (shown(two), waiting.done()) == (["flash"], False)
        await waiting
        assert shown(two) == ["flash", "routine"]
        assert node.put_back, "its slot was free for others while it waited"
        await until(lambda: node.kinds().count("delivered") == 2)
        one.plug()
        await until(lambda: node.kinds().count("modem_up") >= 3)
        # On a machine that is slow just now the driver restarts a modem that was long away, once more.
        for attempt in range(5):
            await node.send(f"home again {attempt}", query_id=f"q{3 + attempt}")
            if shown(one):
                break
        assert shown(one) == [f"home again {attempt}"]
        # Both modems have used reference 8, for two texts: each report settles its own modem's.
        home = 3 + attempt
        await until(lambda: node.kinds().count("delivered") == home)
        entries = [await entry_of(node, f"q{n}.reply.1") for n in (1, 2, home)]
        assert [(entry["modem"], entry["reference"]) for entry in entries] == [
            ("two", 9),
            ("two", 8),
            ("one", 8),
        ]


async def test_a_report_of_one_modem_never_settles_a_part_of_another(
    modems: tuple[Modem, Modem], tmp_path: Path
) -> None:
    one, two = modems
    one.last_mr = two.last_mr = 7
    one.network.phone(NUMBER).status = 0x46  # expired, says the network of the first
    node = node_of(tmp_path, modems)
    async with node.running(2):
        await node.send("lost on the way", query_id="q1")
        two.network.send(NUMBER, "HELP")
        await until(lambda: len(node.received) == 1)
        await node.send("arrived", query_id="q2")
        await until(lambda: {"delivered", "undelivered"} <= set(node.kinds()))
        assert await node.states() == {"q1.reply.1": "EXPIRED", "q2.reply.1": "DELIVERED"}


async def test_a_long_text_goes_whole_by_the_other_modem_when_its_own_dies_in_the_middle(
    modems: tuple[Modem, Modem], tmp_path: Path
) -> None:
    one, two = modems
    node = node_of(tmp_path, modems, failover_after_s=0.5)
    async with node.running(2):
        one.answer_delay_s = 0.2
        sending = asyncio.create_task(node.send(LONG, query_id="q1"))
        await until(lambda: len(submitted(one)) == 2)
        one.unplug()
        await sending
        # A phone joins parts from one number only.
        assert (shown(one), shown(two)) == ([], [LONG])
        assert {(await entry_of(node, f"q1.reply.{n}"))["modem"] for n in (1, 2, 3)} == {"two"}
        await until(lambda: set(node.states_now().values()) == {"DELIVERED"})
        # The message delivered again by the bus, and the first modem back with its reports: nothing more.
        one.plug()
        await until(lambda: node.kinds().count("modem_up") == 3)
        await node.send(LONG, query_id="q1")
        assert (len(submitted(one)), len(submitted(two))) == (2, 3)


async def test_flash_that_one_network_refuses_goes_at_once_by_the_other(
    modems: tuple[Modem, Modem], tmp_path: Path
) -> None:
    one, two = modems
    one.refuse = [38] * 9
    node = node_of(tmp_path, modems)
    async with node.running(2):
        await node.send("life at risk", query_id="q1", lane="flash")
        assert (shown(one), shown(two), node.put_back) == ([], ["life at risk"], 0)


@pytest.mark.parametrize("lane", ["routine", "flash"])
async def test_a_part_whose_modem_vanished_while_sending_it(
    modems: tuple[Modem, Modem], tmp_path: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it left: flash goes at once by the other modem, the rest is not doubled."""
    monkeypatch.setattr("actors.sms.sending.HOLD_S", 1.0)
    one, two = modems
    node = node_of(tmp_path, modems, failover_after_s=0.1)
    async with node.running(2):
        one.power_cut = "after_network"
        await node.send("life at risk", query_id="q1", lane="flash" if lane == "flash" else "routine")
        if lane == "flash":
            assert shown(two) == ["life at risk"]
        else:
            assert (shown(one), shown(two)) == (["life at risk"], [])
            assert await node.states() == {"q1.reply.1": "HELD"}
        one.plug()
        await until(lambda: node.kinds().count("modem_up") == 3)
        await node.send("life at risk", query_id="q1")
        assert len(submitted(one) + submitted(two)) == (2 if lane == "flash" else 1)


async def test_kill_9_and_a_modem_that_is_away_afterwards(
    modems: tuple[Modem, Modem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = modems
    one.answer_delay_s = 5.0
    devices = f"{one.link},{two.link}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.sms_node", str(tmp_path), devices, "at", "once"
    )
    await until(lambda: bool(submitted(one)), 30)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    one.unplug()
    one.answer_delay_s = 0.0
    node = node_of(tmp_path, modems, failover_after_s=0.1)
    assert await node.states() == {"q1.reply.1": "INTENT"}
    async with node.running():
        again = asyncio.create_task(node.send("once"))
        await until(lambda: node.put_back > 2)
        for n in range(20):  # much is written behind the open entry
            await node.send(f"other {n}", query_id=f"other{n}")
        one.plug()
        # It lost power while it sent: only its network knows, and a person may ask.
        await until(lambda: node.states_now()["q1.reply.1"] == "HELD")
        monkeypatch.setattr("actors.sms.sending.HOLD_S", 0.0)
        await again
        assert (submitted(one), shown(one)) == (["once"], ["once"])
        assert len(submitted(two)) == 20
        assert (await entry_of(node, "q1.reply.1"))["modem"] == "one"


async def test_what_saves_goes_by_another_nodes_modem_when_none_here_sends(
    modems: tuple[Modem, Modem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.sms.elsewhere.AFTER_S", 0.2)
    monkeypatch.setattr("actors.sms.elsewhere.LOOK_S", 0.05)
    one, two = modems
    node = node_of(tmp_path, modems, failover_after_s=0.1)
    async with node.running(2):
        for modem in modems:
            modem.unplug()
        await until(lambda: node.kinds().count("modem_lost") == 2)
        saves = asyncio.create_task(node.send("go uphill now", query_id="q1", lane="flash"))
        other = asyncio.create_task(node.send("boil it", query_id="q2"))
        await asyncio.sleep(1.0)
        assert node.over_mesh == []  # nobody is within reach who has one
        node.state = NodeState(node="n1", mesh=MeshState(radio="up", neighbours=1, modem=True))
        await until(lambda: len(node.over_mesh) > 2)
        assert not saves.done()  # nobody has said that they have it
        assert {(p.sms and p.sms.number, p.sms and p.sms.text, p.lane) for p in node.over_mesh} == {
            (NUMBER, "go uphill now", "flash")
        }
        await node.mesh.put("sms.q1.reply.0", b"delivered")
        await saves
        assert [event.fields["modem"] for event in node.events if event.kind == "sent"] == ["mesh"]
        for modem in modems:
            modem.plug()
        await other
        assert [text for text in shown(one) + shown(two) if text] == ["boil it"]
    assert {packet.query_id for packet in node.over_mesh} == {"q1"}
    assert all(packet.until and clock.remaining_s(packet.until) <= 900 for packet in node.over_mesh)


async def test_prefixes(modems: tuple[Modem, Modem], tmp_path: Path) -> None:
    one, two = modems
    node = node_of(tmp_path, modems)
    table = [
        {"name": "one", "device": str(one.link), "driver": "at", "connection": "dku2at"},
        {
            "name": "two",
            "device": str(two.link),
            "driver": "at",
            "connection": "dku2at",
            "prefixes": ["+44"],
        },
    ]
    node = Node(tmp_path, [], "at", modem=table)
    await node.numbers.put(IDENTITY.sender_ref(OTHER), OTHER.encode())
    async with node.running(2):
        await node.send("home", query_id="q1")
        await node.send("abroad", query_id="q2", number=OTHER)
    assert (shown(one), shown(two, OTHER)) == (["home"], ["abroad"])
