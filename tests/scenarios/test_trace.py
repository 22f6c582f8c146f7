"""A text traced from end to end on a whole node with a simulated modem, by the commands that people use."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors._cli import stage as stage_module
from actors._cli.stage import Stage, on_stage
from tests.conftest import free_port
from tests.integration.test_otlp import Collector
from tests.unit.test_metrics import read, scraped, value

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.model, pytest.mark.timeout(240)]

PHONE = "+15557000001"
HURT = "+15557000002"
WITHIN_S = 60.0


async def evy(stage: Stage, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors", "--config", str(stage.directory / "evy.toml"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert errors == b"", errors.decode()
    return out.decode()


def of_kind(stage: Stage, kind: str, number: str) -> list[Any]:
    queries = {event.query_id for event in stage.events_of(number, "received")}
    return [event for event in stage.events if event.kind == kind and event.query_id in queries]


def check_path(trace: dict[str, Any], actors: list[str]) -> None:
    """Every hop in its order, each the child of the one that published to it, waits and work apart."""
    hops = [hop for hop in trace["hops"] if hop["id"]]
    assert [hop["actor"] for hop in hops] == actors
    assert len({hop["trace"] for hop in hops}) == 1
    assert [hop["parent"] for hop in hops] == ["", *(hop["id"] for hop in hops[:-1])]
    assert hops[0]["waited_s"] is None
    assert all(hop["waited_s"] >= 0 and hop["worked_s"] > 0 for hop in hops[1:])
    assert sum(hop["worked_s"] for hop in hops) > 0.5  # a simulated modem takes 0.7 s


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


async def test_a_text_is_traced_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    port = free_port()
    table = f'\n[telemetry]\nmetrics_port = {port}\notlp_endpoint = "{collector.url}"\n'
    monkeypatch.setattr(stage_module, "CONFIGURATION", stage_module.CONFIGURATION + table)
    async with on_stage(tmp_path, lambda _: None) as stage:
        await stage.text(PHONE, "how do i make river water safe to drink")
        assert await stage.until(lambda: len(of_kind(stage, "delivered", PHONE)) == 2, WITHIN_S), stage.events
        await stage.text(HURT, "my hand is bleeding badly")
        # The template in two parts, and its menu.
        assert await stage.until(lambda: len(of_kind(stage, "delivered", HURT)) == 3, WITHIN_S), stage.events

        trace = json.loads(await evy(stage, "trace", PHONE, "--json"))
        check_path(trace, ["sms", "intake", "route", "rag", "compress", "sms"])
        told = {told["kind"]: told["fields"] for hop in trace["hops"] for told in hop["told"]}
        assert told["triaged"]["reason"]
        assert told["retrieved"]["reason"].startswith("sure")
        assert told["fitted"]["step"] == "verbatim"
        submits = [step for hop in trace["hops"] for step in hop["steps"] if step["name"] == "modem submit"]
        assert len(submits) == told["sent"]["segments"] == 2
        assert [(part["key"], part["state"]) for part in trace["parts"]] == [
            ("reply.1", "DELIVERED"),
            ("reply.2", "DELIVERED"),
        ]
        assert 0 < trace["submitted_s"] <= trace["delivered_s"]

        # The same by a prefix, and the other text as the last one; numbers appear nowhere.
        assert json.loads(await evy(stage, "trace", trace["query_id"][:10], "--json")) == trace
        page = await evy(stage, "trace", "last")
        assert "triaged: priority=emergency" in page
        assert "delivered after" in page
        assert "no spans" not in page

        stats = json.loads(await evy(stage, "stats", "--json", "--since", "1h"))
        assert (stats["received"], stats["answered"], stats["modem_outages"]) == (2, 2, 0)
        assert stats["steps"] == {"verbatim": 1, "template": 1}
        assert stats["lanes"] == {"routine": 1, "flash": 1}
        assert stats["submitted"]["texts"] == stats["delivered"]["texts"] == 2
        assert "answered     2 (" in await evy(stage, "stats")

        lines = (
            await evy(stage, "logs", "--query", HURT, "--kind", "received", "--kind", "sent")
        ).splitlines()
        assert [line.split()[3] for line in lines] == ["received", "sent", "sent"]
        everything = await evy(stage, "logs", "--json", "--since", "1h")
        kinds = [json.loads(line)["kind"] for line in everything.splitlines()]
        assert {"received", "triaged", "retrieved", "fitted", "sent", "delivered"} <= set(kinds)
        for number in (PHONE, HURT):
            assert number.removeprefix("+") not in everything + page + json.dumps([trace, stats])
        assert (tmp_path / "events.sqlite3").exists()

        # The same counted for Prometheus, and the spans at a collector.
        found: dict[Any, float] = {}
        async with asyncio.timeout(WITHIN_S):
            while value(found, "evy_reply_seconds_count", lane="flash") != 1:
                await asyncio.sleep(0.2)
                found = read(await asyncio.to_thread(scraped, port))
        assert value(found, "evy_texts_received_total", lane="flash") == 1
        assert value(found, "evy_texts_sent_total", lane="flash", purpose="reply", step="template") == 1
        assert value(found, "evy_stage_seconds_count", stage="rag", lane="routine") == 1
        assert (value(found, "evy_memory_free_bytes") or 0) > 0
        assert (value(found, "evy_stream_messages", stream="EVT_demo") or 0) > 10
        memory = {labels[0][1] for name, labels in found if name == "evy_process_resident_memory_bytes"}
        assert {"sms", "analytics+sync", "nats-server"} <= memory
        async with asyncio.timeout(WITHIN_S):
            while {hop["id"] for hop in trace["hops"] if hop["id"]} - {
                span.span_id.hex() for span in collector.spans()
            }:
                await asyncio.sleep(0.2)
