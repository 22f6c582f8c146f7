"""Programs that we did not write accept our modem: they receive and send every kind of text on it.

What a phone sent must be what the program received, and what the program was given must be what the phone
shows, character by character; a status report must reach the program that asked for it.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.modem import Modem
from simulators.network import Network
from tests.integration.gateways import PACKAGES, Gateway, why_not
from tests.integration.sms_node import until

NUMBER = "+34600111222"
TEXTS = {
    "single": "how do i make river water safe?",
    "multipart": "We are eleven people at the school on the hill. " * 8 + "What now?",
    "unicode": "¿Está bien? 水 😀",
    "multipart unicode": "Wir sind 11 Leute 😀 auf dem Hügel, das Wasser ist braun 🌊. " * 3,
}
WITHIN_S = 90.0


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if reason := why_not(name):
        pytest.skip(reason)
    return name


@pytest.fixture
async def modem(tmp_path: Path, package: str) -> AsyncIterator[Modem]:
    network = Network(seed=1, report_delay_s=0.1)
    made = Modem(tmp_path / "tty", network, model=PACKAGES[package].model)
    made.plug()
    yield made
    made.unplug()
    made.network.close()


@pytest.mark.modem
@pytest.mark.timeout(600)
async def test_texts_and_reports_both_ways(package: str, modem: Modem, tmp_path: Path) -> None:
    folder = tmp_path / package
    folder.mkdir()
    async with PACKAGES[package].start(folder, modem.link) as gateway:
        await receives(gateway, modem)
        await sends(gateway, modem)


async def receives(gateway: Gateway, modem: Modem) -> None:
    """All at once: they wait on the SIM for a program that looks every few seconds."""
    for text in TEXTS.values():
        modem.network.send(NUMBER, text, shuffle=True)
    await until(lambda: len(gateway.received()) >= len(TEXTS), WITHIN_S)
    assert sorted(gateway.received()) == sorted((NUMBER, text) for text in TEXTS.values())
    await until(lambda: not modem.sim, WITHIN_S)


async def sends(gateway: Gateway, modem: Modem) -> None:
    inbox = modem.network.phone(NUMBER).inbox
    for text in TEXTS.values():
        await gateway.send(NUMBER, text)
    await until(lambda: len(inbox) >= len(TEXTS), WITHIN_S)
    assert sorted(inbox) == sorted(TEXTS.values())
    await until(lambda: gateway.delivered() >= len(TEXTS), WITHIN_S)
    assert len(inbox) == len(TEXTS)
