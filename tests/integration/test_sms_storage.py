"""A SIM that is full: seen, told, cleared, and nothing on it is lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from evy_core import StatusReport, encode_pdus

from actors._runtime.bus import BusError
from simulators.modem import Modem
from simulators.network import Network
from subjects.node_state import ModemState
from tests.integration.sms_node import NUMBER, Node, until

pytestmark = pytest.mark.modem


@pytest.fixture(params=["gammu", "at"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def modem(tmp_path: Path) -> AsyncIterator[Modem]:
    made = Modem(
        tmp_path / "tty", Network(seed=7, retry_s=0.05, report_delay_s=0.02), model="sim7000", slots=4
    )
    made.plug()
    yield made
    made.unplug()
    made.network.close()


def state(node: Node) -> ModemState:
    return ModemState.of_event([event.fields for event in node.events if event.kind == "modem_state"][-1])


async def test_a_full_sim_is_told_and_cleared_without_losing_a_text(
    modem: Modem, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.sms.line.STATUS_EVERY_S", 0.2)
    monkeypatch.setattr("actors.sms.station.REPORT_WAITS_S", (0.0, 0.1))
    node = Node(tmp_path, modem.link, driver)
    # Rubbish, and a status report of a text that nobody remembers.
    modem.network.deliver([b"\xff" * 20])
    modem.network.deliver(encode_pdus([StatusReport("+4912345", 77, 0)]))
    async with node.running():
        await until(lambda: not modem.sim)
        assert [letter.payload for letter in node.letters] == [b"\xff" * 20]
        assert "stray_report" in node.kinds()
        # The bus takes nothing: texts stay, first on the SIM and then in the network.
        node.refuse_publish = BusError("sms.in is full")
        words = [f"word {n}" for n in range(6)]
        for word in words:
            modem.network.send(NUMBER, word)
        await until(lambda: "storage_full" in node.kinds())
        assert (state(node).storage_used, state(node).storage_size) == (4, 4)
        assert modem.network.waiting() == 2
        node.refuse_publish = None
        await until(lambda: {sms.text for sms in node.received} == set(words) and not modem.sim)
        await until(lambda: state(node).storage_used == 0)
        assert len(node.received) == len(words)


async def test_a_status_report_stays_on_the_sim_until_the_ledger_has_it(
    modem: Modem, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path, modem.link, driver)
    down = [True]
    update = node.ledger.update

    async def fails(key: str, value: bytes, revision: int) -> int | None:
        if b'"DELIVERED"' in value and down:
            raise BusError("the card is full")
        return await update(key, value, revision)

    monkeypatch.setattr(node.ledger, "update", fails)
    async with node.running():
        await node.send("hello")
        await until(lambda: bool(modem.sim))
        assert node.states_now() == {"q1.reply.1": "SUBMITTED"}
    assert modem.sim, "a process that dies now leaves it to the next one"
    down.clear()
    node = Node(tmp_path, modem.link, driver)
    async with node.running():
        await until(lambda: node.states_now() == {"q1.reply.1": "DELIVERED"} and not modem.sim)
        assert node.kinds().count("delivered") == 1
