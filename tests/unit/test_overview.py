"""`evy report`: what is counted, what needs a look, and the three forms it comes in."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from actors._cli import evy
from actors._reports import ReportStore, Row, Sqlite
from actors.analytics.overview import Overview, overview, span
from subjects.errors import EvyError
from subjects.event_report import EventReport, Reported

NOW = 1_790_000_000
DAY = 86400


def row(node: str, at: int, kind: str, text: str = "", **fields: object) -> Row:
    return Row(node, at, kind, "routine", text, fields, at)


def text_of(
    node: str, number: int, *, step: str = "verbatim", ms: int = 500, need: str = "water"
) -> Iterator[Row]:
    at, text = NOW - 3600 + number * 10, f"{number:016x}"
    yield row(node, at, "received", text, parts=1)
    yield row(node, at, "triaged", text, lang="es", needs=[need] if need else [])
    yield row(node, at, "retrieved", text, article="latrine", confidence=0.35)
    yield row(node, at + 1, "sent", text, step=step, purpose="reply", segments=2, ms=ms)
    yield row(node, at + 5, "delivered", text)


def made(*rows: Row, heard: dict[str, int] | None = None) -> Overview:
    last = heard if heard is not None else {one.node: NOW for one in rows}
    return overview(rows, last, NOW - DAY, NOW)


def test_what_is_counted_of_each_node_and_of_all() -> None:
    found = made(
        *(one for n in range(20) for one in text_of("a", n, ms=100 * (n + 1))),
        row("a", NOW - 60, "node_state", battery_percent=41.0, charging=True),
        row("a", NOW - 50, "node_state", battery_percent=55.5, charging=False),
        *(one for n in range(4) for one in text_of("b", n, step="unsure", ms=9000, need="" if n else "food")),
        row("b", NOW - 9, "undelivered"),
    )
    a, b = found.nodes
    assert (a.node, a.figures.texts, a.figures.answered, a.figures.unanswered) == ("a", 20, 20, 0)
    assert (a.figures.replied.p50_s, a.figures.replied.p95_s) == (1.0, 1.9)
    assert (a.figures.arrived.p50_s, a.figures.sms_sent, a.figures.sms_delivered) == (5.0, 40, 20)
    assert (a.battery_percent, a.battery_lowest_percent, a.charging) == (55.5, 41.0, False)
    assert b.figures.unanswered_topics == {"near latrine": 3, "food": 1}
    assert (b.figures.sms_delivered, b.figures.sms_undelivered, b.battery_percent) == (4, 1, None)
    every = found.all
    assert (every.texts, every.steps) == (24, {"verbatim": 20, "unsure": 4})
    assert (every.needs, every.languages) == ({"water": 20, "food": 1}, {"es": 24})
    assert (every.replied.texts, every.replied.p95_s) == (24, 9.0)
    assert sum(day.texts for day in found.days) == sum(day.answered for day in found.days) == 24
    assert found.attention == []


def test_needs_by_place() -> None:
    found = made(
        row("a", NOW - 9, "alert_sent", needs=["medical"], latitude=12.3, longitude=-45.7),
        row("a", NOW - 8, "alert_place", needs=["rescue"], latitude=9.0, longitude=1.0),
        row("b", NOW - 7, "alert_place", needs=["medical"], latitude=12.3, longitude=-45.7),
        row("b", NOW - 6, "alert_sent"),
    )
    [first, second] = found.areas
    assert (first.latitude, first.longitude, first.told, first.needs) == (12.3, -45.7, 2, {"medical": 2})
    assert (second.told, second.needs) == (1, {"rescue": 1})


def test_what_needs_a_look_is_said_first() -> None:
    found = made(
        row("a", NOW - 9, "alert_unheard"),
        row("a", NOW - 9, "node_state", battery_percent=18.4, charging=False),
        row("a", NOW - 900, "modem_lost", modem="m1"),
        row("a", NOW - 9, "dead_letter", subject="route.routine"),
        *(one for n in range(20) for one in text_of("b", n, ms=70_000)),
        *(row("b", NOW - 5, "undelivered") for _ in range(5)),
        heard={"a": NOW - 5, "b": NOW - 7200, "c": NOW - 9 * DAY},
    )
    assert found.attention == [
        "a: 1 alerts that no responder answered",
        "a: battery 18 %",
        "a: 15 min without a modem",
        "a: 1 dead letters (`evy dlq ls` there)",
        "b: not heard for 2 h",
        "b: 5 of 25 SMS did not arrive",
        "b: one reply in twenty took longer than 70.0 s",
        "c: not heard for 9 days",
    ]
    assert [one.node for one in found.nodes] == ["a", "b", "c"]
    assert found.nodes[2].figures.texts == 0


def test_outages_of_two_modems_of_one_name_are_two() -> None:
    found = made(
        row("a", NOW - 900, "modem_lost", modem="m1"),
        row("a", NOW - 800, "modem_up", modem="m1"),
        row("b", NOW - 500, "modem_lost", modem="m1"),
    )
    assert (found.all.modem_outages, found.all.modem_down_s) == (2, 600.0)


def test_spans_for_people() -> None:
    assert [span(s) for s in (0.25, 119, 180, 7200, 3 * DAY)] == [
        "0.2 s",
        "119.0 s",
        "3 min",
        "2 h",
        "3 days",
    ]


@pytest.fixture
def centre(tmp_path: Path) -> Path:
    """Configuration of a centre that two nodes have reported to."""
    file = tmp_path / "evy.toml"
    file.write_text(f'[node]\nprofile = "bigevy"\ndata_dir = "{tmp_path / "data"}"\n')
    now = int(time.time())
    with contextlib.closing(ReportStore(Sqlite(tmp_path / "data" / "reports.sqlite3"))) as store:
        for node in ("valley-1", "valley-2"):
            rows = [one for n in range(9) for one in text_of(node, n, step="unsure" if n > 6 else "verbatim")]
            rows.append(row(node, NOW, "node_state", battery_percent=12.0, charging=False))
            rows.append(row(node, NOW, "alert_place", needs=["medical"], latitude=12.3, longitude=-45.7))
            events = [
                Reported(n, now - NOW + one.at, one.kind, "flash", one.text, one.fields)
                for n, one in enumerate(rows, 1)
            ]
            store.add(EventReport(node=node, stream="0" * 12, events=tuple(events)), now)
    return file


def run(file: Path, *arguments: str) -> str:
    done = CliRunner(catch_exceptions=False).invoke(evy, ["--config", str(file), "report", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_as_text_and_as_json(centre: Path) -> None:
    text = run(centre)
    lines = text.splitlines()
    assert lines[0].startswith("2 nodes, ")
    assert lines[1:3] == ["! valley-1: battery 12 %", "! valley-2: battery 12 %"]
    assert "unsure     4, 22 % (water 4)" in text
    assert "12.3, -45.7" in text
    found = msgspec.json.decode(run(centre, "--node", "valley-2", "--json"), type=Overview)
    assert [one.node for one in found.nodes] == ["valley-2"]
    assert found.all.texts == 9
    assert found.all.lanes == {"flash": 9}
    assert msgspec.json.decode(run(centre, "--days", "0.01", "--json"))["all"]["texts"] == 0


def test_the_names_of_the_json_stay(centre: Path) -> None:
    found = msgspec.json.decode(run(centre, "--json"))
    assert set(found) == {"since", "until", "attention", "all", "nodes", "areas", "days"}
    assert set(found["all"]) == {
        "texts", "lanes", "languages", "needs", "answered", "steps", "unanswered", "unanswered_topics",
        "replied", "arrived", "sms_sent", "sms_delivered", "sms_undelivered", "alerts", "refusals",
        "dead_letters", "modem_outages", "modem_down_s",
    }  # fmt: skip
    assert set(found["all"]["replied"]) == {"texts", "p50_s", "p95_s"}
    assert set(found["nodes"][0]) == {
        "node", "heard_at", "battery_percent", "battery_lowest_percent", "charging", "figures",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "begin"), [("week.png", b"\x89PNG"), ("week.svg", b"<?xml")])
def test_the_picture(centre: Path, tmp_path: Path, name: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib", reason="the extra `picture` is not installed")
    file = tmp_path / name
    assert f"drawn: {file}" in run(centre, "--picture", str(file))
    drawn = file.read_bytes()
    assert drawn.startswith(begin)
    assert len(drawn) > 10_000


def test_what_cannot_be_shown_is_said(centre: Path, tmp_path: Path) -> None:
    def refusal(*arguments: str, config: Path = centre) -> str:
        with pytest.raises(EvyError) as error:
            run(config, *arguments)
        return str(error.value)

    assert "no node 'valley-3' has reported; there are valley-1, valley-2" in refusal("--node", "valley-3")
    edge = tmp_path / "edge.toml"
    edge.write_text(f'[node]\ndata_dir = "{tmp_path / "edge"}"\n')
    assert "`evy stats`" in refusal(config=edge)
    assert not (tmp_path / "edge").exists()
    pytest.importorskip("matplotlib", reason="the extra `picture` is not installed")
    assert "cannot be written" in refusal("--picture", str(tmp_path / "nowhere" / "x.png"))
    wrong = CliRunner().invoke(evy, ["--config", str(centre), "report", "--picture", "x.gif"])
    assert wrong.exit_code == 2
    assert ".png or .svg" in wrong.output
