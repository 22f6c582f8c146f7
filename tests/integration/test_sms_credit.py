"""The card's balance by USSD, on a simulated modem with either driver."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulators.modem import Modem
from simulators.modem.ussd import Form
from simulators.network import Network
from subjects.node_state import ModemState
from tests.integration.sms_node import NUMBER, Node, until

pytestmark = pytest.mark.modem

CREDIT = {"ussd": "*100#", "amount": r"([\d.,]+) EUR", "warn_below": 5.0}


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(tmp_path / "tty", Network(seed=7, retry_s=0.05))
    made.ussd.answers["*100#"] = "Saldo: 12,50 EUR. Valid until 31.12."
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_S", "AGAIN_S", "SUSPECT_S"):
        monkeypatch.setattr(f"actors.sms.credit.{name}", 0.1)


def state(node: Node) -> ModemState:
    return ModemState.of_event([event.fields for event in node.events if event.kind == "modem_state"][-1])


def lows(node: Node) -> list[dict[str, Any]]:
    return [event.fields for event in node.events if event.kind == "credit_low"]


@pytest.mark.parametrize("driver", ["gammu", "at"])
@pytest.mark.parametrize("form", ["text", "ucs2", "packed"])
async def test_the_balance_is_told_in_the_modems_state(
    modem: Modem, tmp_path: Path, driver: str, form: Form
) -> None:
    modem.ussd.form = form
    node = Node(tmp_path, modem.link, driver, credit=CREDIT)
    async with node.running():
        await until(lambda: state(node).credit is not None)
        assert (state(node).credit, state(node).credit_text) == (12.5, modem.ussd.answers["*100#"])
        assert not lows(node)
        await node.send("and texts go on")
    assert modem.network.phone(NUMBER).inbox == ["and texts go on"]


async def test_low_credit_is_told_once_and_a_refusal_has_it_asked(modem: Modem, tmp_path: Path) -> None:
    node = Node(tmp_path, modem.link, "at", credit=CREDIT)
    async with node.running():
        await until(lambda: state(node).credit == 12.5)
        modem.ussd.answers["*100#"] = "Saldo: 0,03 EUR"
        modem.refuse = [21]
        await node.send("patience")
        await until(lambda: state(node).credit == 0.03)
        assert [low["credit"] for low in lows(node)] == [12.5, 0.03]
        assert "credit" in lows(node)[0]["reason"]


async def test_a_text_does_not_wait_for_the_network_to_answer_a_code(modem: Modem, tmp_path: Path) -> None:
    modem.ussd.delay_s = 3600.0
    node = Node(tmp_path, modem.link, "at", credit=CREDIT)
    async with node.running():
        await until(lambda: any("CUSD=1" in command for command in modem.commands))
        async with asyncio.timeout(10):
            await node.send("life at risk", lane="flash")
        asked = [command for command in modem.commands if "CUSD" in command or "CMGS" in command]
        assert [command[:9] for command in asked[:3]] == ["AT+CUSD=1", "AT+CUSD=2", "AT+CMGS=1"] or asked[
            2
        ].startswith("AT+CMGS")
        modem.ussd.delay_s = 0.0
        await until(lambda: state(node).credit == 12.5)


async def test_a_network_without_such_a_code(modem: Modem, tmp_path: Path) -> None:
    modem.ussd.answers.clear()
    node = Node(tmp_path, modem.link, "at", credit=CREDIT)
    async with node.running():
        await until(lambda: sum("CUSD=1" in command for command in modem.commands) > 1)
        await node.send("texts go on")
    assert (state(node).credit, state(node).credit_text) == (None, "")
