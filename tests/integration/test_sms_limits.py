"""The carrier's limits on a simulated modem: configured, learned, and remembered after a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulators.modem import Modem
from simulators.network import Network
from subjects.errors import RetryLaterError
from subjects.messages import OutboundSms
from subjects.node_state import ModemState
from tests.integration.sms_node import IDENTITY, NUMBER, Node, until

pytestmark = pytest.mark.modem


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=7, retry_s=0.05))
    made.plug()
    yield made
    made.unplug()
    made.network.close()


def shown(modem: Modem) -> list[str]:
    return modem.network.phone(NUMBER).inbox


def states(node: Node) -> list[ModemState]:
    return [ModemState.of_event(event.fields) for event in node.events if event.kind == "modem_state"]


def out(text: str, query_id: str, number: str) -> OutboundSms:
    fields: dict[str, Any] = {"lang": "en", "lane": "routine", "step": "verbatim", "number": number}
    return OutboundSms(query_id=query_id, node=IDENTITY.node, text=text, **fields)


async def test_a_days_limit_is_kept_across_restarts_and_flash_goes_all_the_same(
    modem: Modem, tmp_path: Path
) -> None:
    node = Node(tmp_path, modem.link, "at", per_day=10)
    async with node.running():
        for n in range(5):
            await node.send(f"text {n}", query_id=f"q{n}")
    node = Node(tmp_path, modem.link, "at", per_day=10)  # the count is in the ledger
    async with node.running():
        for n in range(5, 9):
            await node.send(f"text {n}", query_id=f"q{n}")
        with pytest.raises(RetryLaterError, match="not to send more") as put_back:
            await node.sms.handle(out("one too many", "late", NUMBER))
        assert put_back.value.delay_s == 300.0
        for n in range(3):
            await node.send(f"flash {n}", query_id=f"f{n}", lane="flash")
    assert shown(modem) == [*(f"text {n}" for n in range(9)), *(f"flash {n}" for n in range(3))]
    node = Node(tmp_path, modem.link, "at", per_day=10)
    async with node.running():
        assert states(node)[-1].sent_hour == 12
        with pytest.raises(RetryLaterError):
            await node.sms.handle(out("one too many", "late", NUMBER))
    assert "one too many" not in shown(modem)


async def test_a_limit_is_learned_from_refusals_and_kept(modem: Modem, tmp_path: Path) -> None:
    node = Node(tmp_path, modem.link, "at")
    async with node.running():
        for n in range(20):
            await node.send(f"text {n}", query_id=f"q{n}")
        modem.refuse = [42, 42, 42]
        await node.send("congestion", query_id="again", lane="flash")
        learned = [event.fields for event in node.events if event.kind == "limit_learned"]
        assert [fields["limit_hour"] for fields in learned] == [16]
        assert states(node)[-1].limit_hour == 16
        refused = [event for event in node.events if event.kind == "refused"]
        assert [event.query_id for event in refused] == ["again"] * 3
    node = Node(tmp_path, modem.link, "at")
    async with node.running():
        assert (states(node)[-1].sent_hour, states(node)[-1].limit_hour) == (21, 16)
        with pytest.raises(RetryLaterError):
            await node.sms.handle(out("one too many", "late", NUMBER))
        await node.send("flash", query_id="f1", lane="flash")
    assert shown(modem)[-2:] == ["congestion", "flash"]


async def test_a_number_that_is_barred_does_not_hold_up_the_others(modem: Modem, tmp_path: Path) -> None:
    node = Node(tmp_path, modem.link, "at")
    async with node.running():
        modem.refuse = [10] * 4
        for _ in range(4):
            with pytest.raises(RetryLaterError, match="barred"):
                await node.sms.handle(out("far away", "far", "+999123"))
        async with asyncio.timeout(20):
            await node.send("here", query_id="q1")
        assert shown(modem) == ["here"]
        await until(lambda: node.kinds().count("refused") == 4)
