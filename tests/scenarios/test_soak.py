"""The short form of `make soak`: some hours of a node's life in half a minute, faults that mend quickly."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.soak import __main__ as soak
from tests.soak.plan import Pace
from tests.soak.site import why_not

FAULTS = (
    "power cut",
    "replug",
    "kill -9 of the server",
    "refusals",
    "lost answers",
    "failing card",
    "link down",
    "low battery",
)
PACE = Pace(hours=5, minutes=0.3, real_up_to_s=2)
SEED = 1


@pytest.mark.nats
@pytest.mark.model
@pytest.mark.timeout(600)
async def test_hours_of_a_node_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    monkeypatch.setattr(soak, "SETTLE_S", 5.0)
    with capsys.disabled():
        console = Console(file=sys.stderr, width=130)
        summary = await soak.soak(tmp_path, PACE, seed=SEED, driver="at", console=console, names=FAULTS)
        soak.show(summary, console)
    assert summary["clean"]
    assert summary["faults_not_done"] == []
    assert len(summary["faults"]) > 4
    assert summary["texts"] == 50
    assert sum(summary["left_in_streams"].values()) == 0
