"""How the mesh does, for people: what is wrong and how to mend it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from actors._cli import mesh_status
from actors._cli.mesh_status import check_device, check_mesh, troubles
from actors._roster.installed import join
from actors._roster.network import shown_at
from actors._roster.operator import Operator
from actors._runtime.config import Config
from actors._runtime.supervisor import port_is_free
from subjects.mesh import MeshNeighbourSeen, MeshRouteSeen, MeshStatus, MeshTexts

NEAR = MeshNeighbourSeen(2, -101.4, 3.25, 0.5, 1.0, 40.0, "n2")


def working(**fields: Any) -> MeshStatus:
    whole: dict[str, Any] = {
        "radio": "up",
        "name": "RYLR896",
        "network": 6,
        "number": 4,
        "address": 1,
        "region": "EU868",
        "frequency_hz": 869_525_000,
        "spreading_factor": 9,
        "neighbours": (NEAR,),
        "airtime_used_ms": 12_340.0,
        "airtime_limit_ms": 360_000.0,
        "airtime_window_s": 3600.0,
    }
    return MeshStatus(**{**whole, **fields})


def shown(status: MeshStatus) -> str:
    console = Console(width=110, no_color=True, markup=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(Group(*mesh_status._shown(status)))
    return captured.get()


@pytest.mark.parametrize(
    ("fields", "what", "mend"),
    [
        ({"radio": "none"}, "no radio", "[mesh] device"),
        ({"radio": "down", "reason": "no answer"}, "the radio is down: no answer", "evy hw check"),
        ({"airtime_used_ms": 288_000.0}, "288.0 of 360 s in 60 min is used up", "spreading factor"),
        ({"neighbours": ()}, "no neighbour was heard yet", "antenna"),
        (
            {"neighbours": (MeshNeighbourSeen(2, -120.0, -5.0, 0.1, 0.1, 9000.0, "n2"),)},
            "no neighbour was heard for 2.5 h",
            "roster",
        ),
        (
            {"agreed_spreading_factor": 10},
            "SF10 is agreed, and SF9 is in use here",
            "newest roster",
        ),
        (
            {"neighbours": (NEAR, MeshNeighbourSeen(7, -90.0, 5.0, 1.0, 1.0, 3.0))},
            "address 7 is heard, and the roster here lacks it",
            "evy mesh roster",
        ),
        (
            {"texts": MeshTexts(5, newer=7, peer=2, name="n2", of=21_000, by_stick=True)},
            "newer texts, version 7, exist at n2 (2) and cannot come by radio (21000 octets)",
            "evy sync export",
        ),
    ],
)
def test_each_trouble_has_its_mend(fields: dict[str, Any], what: str, mend: str) -> None:
    [(found, told)] = troubles(working(**fields))
    assert what in found
    assert mend in told


def test_a_mesh_that_works_has_no_trouble() -> None:
    assert list(troubles(working())) == []
    assert list(troubles(working(airtime_limit_ms=0.0, airtime_used_ms=9e9))) == []


def test_it_is_shown_with_gateways_first() -> None:
    text = shown(
        working(
            uplink=True,
            model=True,
            flash_only=True,
            cannot_know=("It cannot hear whether somebody sends.",),
            waits_s={"flash": 0.0, "routine": 90.0},
            waiting={"flash": 0, "routine": 3},
            routes=(
                MeshRouteSeen(2, 2, 1, 1.0, name="n2"),
                MeshRouteSeen(3, 3, 1, 1.0, model=True, name="hut"),
                MeshRouteSeen(9, 2, 3, 4.0, uplink=True, battery_percent=71, name="hill"),
            ),
        )
    )
    for line in (
        "address 1 of network 6, EU868, 869.525 MHz, SF9, roster 4; this node has link and model;",
        "; battery low: flash only",
        "It cannot hear whether somebody sends.",
        "airtime 12.3 of 360 s in 60 min; until it is lawful: routine 90 s",
        "waits   routine 3",
    ):
        assert line in text
    assert text.index("hill (9)") < text.rindex("n2 (2)")
    row = next(line for line in text.splitlines() if "hill (9)" in line)
    assert row.split() == ["hill", "(9)", "3", "n2", "(2)", "link", "71", "%"]
    assert text.index("hill (9)") < text.index("hut (3)") < text.rindex("n2 (2)")
    near = next(line for line in text.splitlines() if "dBm" in line)
    assert near.split() == ["n2", "(2)", "-101", "dBm", "3.2", "dB", "100%", "50%", "40", "s", "ago"]
    assert shown(MeshStatus(radio="none")).strip() == ""


def test_a_change_is_shown_with_the_time_that_is_left() -> None:
    at = time.time() + 3 * 86_400
    text = shown(working(planned_spreading_factor=10, planned_at=at, agreed_spreading_factor=9))
    assert f"SF10 from {shown_at(at)}, in 3.0 d" in text
    past = {"planned_spreading_factor": 10, "planned_at": 1_800_000_000.0 - 86_400 * 365}
    text = shown(working(**past, spreading_factor=9, agreed_spreading_factor=10, looking=True))
    assert "SF10 since 2026-01-15 08:00 UTC, as planned; it listens for others with the other one now" in text
    assert not list(troubles(working(**past, agreed_spreading_factor=10, looking=True)))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    def made(**mesh: Any) -> Config:
        port = next(port for port in range(15000, 16000) if port_is_free(port))
        node = {"name": "n1", "data_dir": str(tmp_path), "nats_port": port}
        return Config({"node": node, "mesh": mesh})

    return made


def test_doctor_says_what_lacks(
    config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [each.verdict for each in check_mesh(config())] == ["skip"]
    [named] = check_mesh(config(device="/dev/null"))
    assert (named.verdict, "evy mesh enrol NODE" in named.mend) == ("fail", True)

    operator = Operator.create(
        tmp_path / "keys", "valley", region="EU868", frequency_hz=869_525_000, spreading_factor=9
    )
    join(tmp_path, "n1", operator.enrol("n1"))
    alone, unnamed = check_mesh(config())
    assert (alone.verdict, alone.found) == ("warn", "valley: address 1 of 1, EU868, 869.525 MHz, SF9")
    assert (unnamed.found, "[mesh] device" in unnamed.mend) == ("no module named", True)

    operator.enrol("n2")
    join(tmp_path, "n1", operator.file)
    monkeypatch.setattr(mesh_status, "CONNECT_WITHIN_S", 0.3)
    place, missing, asleep = check_mesh(config(device=str(tmp_path / "gone")))
    assert (place.verdict, missing.verdict, asleep.verdict) == ("ok", "fail", "warn")
    assert "does not exist" in missing.found
    assert "evy up" in asleep.mend

    monkeypatch.setattr(os, "access", lambda *_: False)
    [denied] = check_device("/dev/null")
    assert "usermod -aG dialout" in denied.mend

    (tmp_path / "mesh" / "joined.mesh").write_text("{")
    [damaged] = check_mesh(config(device="/dev/null"))
    assert (damaged.verdict, "evy mesh join" in damaged.mend) == ("fail", True)


async def test_doctor_says_how_it_does(
    config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = Operator.create(
        tmp_path / "keys", "valley", region="EU868", frequency_hz=869_525_000, spreading_factor=9
    )
    found = join(tmp_path, "n1", operator.enrol("n1"))
    answers = [working(number=found.number), working(number=1), working(radio="down", reason="no answer")]

    async def ask(_: Config) -> MeshStatus:
        return answers.pop(0)

    monkeypatch.setattr(mesh_status, "_ask", ask)
    [well] = await mesh_status._check_status(config(), found)
    assert (well.verdict, well.found) == (
        "ok",
        "RYLR896, neighbours heard: 1, airtime 12.3 of 360 s in 60 min",
    )
    [old] = await mesh_status._check_status(config(), found)
    assert (old.verdict, old.mend) == ("warn", "restart EVY")
    [down] = await mesh_status._check_status(config(), found)
    assert down.found == "the radio is down: no answer"


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (MeshTexts(0), "only what was shipped"),
        (MeshTexts(5), "version 5"),
        (
            MeshTexts(5, newer=7, peer=2, name="n2", octets=638, of=1204, reason="the channel is busy"),
            "version 5; version 7 is at n2 (2), 638 of 1204 octets came, waits: the channel is busy",
        ),
        (MeshTexts(5, newer=7, peer=2, by_stick=True), "version 7 is at address 2, and cannot come by radio"),
    ],
)
def test_which_texts_are_here_and_which_come_is_shown(texts: MeshTexts, line: str) -> None:
    [found] = [row for row in shown(working(texts=texts)).splitlines() if row.startswith("texts")]
    assert line in found
