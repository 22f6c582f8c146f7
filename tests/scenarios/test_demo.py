"""`evy demo` with a centre: in one server with the node, and behind links that are cut. On a busy machine the
centre may come second; then its answer is a follow-up."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.model, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]


def played(profile: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "actors", "demo", "--profile", profile, "--no-chat"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=390,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done


def test_a_hybrid_answers_what_only_its_centre_knows() -> None:
    done = played("hybrid")
    assert "made by the centre" in done.stdout
    assert "Every text got what it should." in done.stdout
    assert "starting" in done.stderr
    assert "starting" not in done.stdout


def test_a_cut_link_gives_answers_now_follow_ups_later_and_an_end_to_waiting() -> None:
    shown = played("link").stdout
    for words in (
        "from the node, in time, step template",
        "More on your question",
        "from the centre, follow-up",
        "for a link: expired",
        "Everybody got what they should, once.",
    ):
        assert words in shown
