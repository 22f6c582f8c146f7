"""A modem that is plugged in again under another device name, and modems that changed places."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.modem import Modem
from simulators.network import Network
from tests.integration.sms_node import NUMBER, Node, until

pytestmark = pytest.mark.modem

IMEIS = ("866104020000011", "866104020000022")


def made(tmp_path: Path, number: int) -> Modem:
    modem = Modem(tmp_path / f"ttyUSB{number}", Network(seed=number, retry_s=0.05))
    answers = {**modem.model.answers, "AT+CGSN": IMEIS[number]}
    modem.model = dataclasses.replace(modem.model, answers=answers)
    modem.plug()
    return modem


@pytest.fixture
async def modems(tmp_path: Path) -> AsyncIterator[list[Modem]]:
    both = [made(tmp_path, number) for number in range(2)]
    yield both
    for modem in both:
        modem.unplug()
        modem.network.close()


def table(tmp_path: Path, driver: str, imeis: tuple[str, ...] = ("", "")) -> list[dict[str, str]]:
    return [
        {
            "name": f"m{number}",
            "device": str(tmp_path / f"ttyUSB{number}"),
            "driver": driver,
            "connection": "dku2at",
            "imei": imei,
        }
        for number, imei in enumerate(imeis)
    ]


def inbox(modem: Modem) -> list[str]:
    return modem.network.phone(NUMBER).inbox


@pytest.mark.parametrize("driver", ["gammu", "at"])
async def test_a_modem_that_comes_back_under_another_name(
    modems: list[Modem], tmp_path: Path, driver: str
) -> None:
    modem, foreign = modems
    only = table(tmp_path, driver)[:1]
    node = Node(tmp_path, [], driver, modem=only)
    async with node.running():
        await node.send("first", query_id="q1")
        modem.unplug()
        await until(lambda: "modem_lost" in node.kinds())
        modem.link = tmp_path / "ttyUSB7"
        modem.plug()
        modem.network.send(NUMBER, "HELP")
        await node.send("second", query_id="q2")
        await until(lambda: len(node.received) == 1)
        assert inbox(modem) == ["first", "second"]
        assert node.events[-1].fields is not None
        assert not inbox(foreign)
    # A restart finds it too: its IMEI was noted.
    node = Node(tmp_path, [], driver, modem=only)
    async with node.running():
        await node.send("third", query_id="q3")
    assert inbox(modem) == ["first", "second", "third"]


async def test_modems_that_changed_places_keep_their_names(modems: list[Modem], tmp_path: Path) -> None:
    node = Node(tmp_path, [], "at", modem=table(tmp_path, "at", (IMEIS[1], IMEIS[0])))
    async with node.running(2):
        await node.send("by the first in the file", query_id="q1")
        opened = {
            event.fields["modem"]: event.fields["details"]
            for event in node.events
            if event.kind == "modem_up"
        }
        assert {name: details["imei"] for name, details in opened.items()} == {"m0": IMEIS[1], "m1": IMEIS[0]}
    assert [inbox(modem) for modem in modems] == [[], ["by the first in the file"]]


async def test_a_modem_that_is_not_the_configured_one_is_not_used_and_the_mend_is_said(
    modems: list[Modem], tmp_path: Path
) -> None:
    modems[1].unplug()
    only = table(tmp_path, "at", (IMEIS[1],))
    node = Node(tmp_path, [], "at", modem=only)
    async with node.running(0):
        await until(lambda: "modem_lost" in node.kinds())
        reason = next(event.fields["reason"] for event in node.events if event.kind == "modem_lost")
        assert f"has IMEI {IMEIS[0]}, not {IMEIS[1]}" in reason
        assert not any("CPIN" in command or "CMGF" in command for command in modems[0].commands)
        modems[1].plug()
        await until(lambda: "modem_up" in node.kinds())


async def test_a_modem_in_the_place_of_an_unknown_one_is_accepted(
    modems: list[Modem], tmp_path: Path
) -> None:
    (tmp_path / "m0.imei").write_text("866104020000099\n")
    modems[1].unplug()
    node = Node(tmp_path, [], "at", modem=table(tmp_path, "at")[:1])
    async with node.running():
        await node.send("by the new one")
    assert inbox(modems[0]) == ["by the new one"]
    assert (tmp_path / "m0.imei").read_text().strip() == IMEIS[0]


@pytest.mark.parametrize("note", [b"", b"\xff\x00", b"x" * 10_000_000])
async def test_a_spoilt_note_changes_nothing(modems: list[Modem], tmp_path: Path, note: bytes) -> None:
    (tmp_path / "m0.imei").write_bytes(note)
    node = Node(tmp_path, [], "at", modem=table(tmp_path, "at")[:1])
    async with node.running():
        await node.send("all the same")
    assert inbox(modems[0]) == ["all the same"]


async def test_a_copy_that_calls_itself_something_else_is_driven_by_its_profile(
    modems: list[Modem], tmp_path: Path
) -> None:
    modems[0].model = dataclasses.replace(
        modems[0].model, answers={**modems[0].model.answers, "AT+CGMM": "NONAME 1"}
    )
    for profile in ("", "SIMCOM_SIM800"):
        modems[0].commands.clear()
        node = Node(tmp_path, modems[0].link, "at", profile=profile)
        async with node.running():
            assert ("AT+CSCLK=0" in modems[0].commands) == bool(profile)
