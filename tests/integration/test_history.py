"""What commands tell of the past: what is stored, what is only in the stream, and with one of them away."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors._event_store import EventStore, StoreError, path_in
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.event_log import Kept, NatsEventLog, Page, Position
from actors._runtime.identity import load_identity
from actors.analytics.history import History, history
from subjects.errors import ConfigError
from subjects.messages import Event
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats

WITHIN_S = 60.0
NUMBER = "+49171234567"
HERS, HIS = "ab" * 16, "ac" * 16


def event(kind: str, query: str = "", ref: str = "", at: float = 1_790_000_000.0) -> Event:
    return Event(kind=kind, node=NODE, actor="intake", at=at, query_id=query, sender_ref=ref)


def config_of(directory: Path, server: Server) -> Config:
    path = directory / "evy.toml"
    path.write_text(f'[node]\nname = "{NODE}"\ndata_dir = "{directory}"\nnats_url = "{server.url}"\n')
    return Config({"node": {"name": NODE, "data_dir": str(directory), "nats_url": server.url}}, path)


async def emitted(bus: NatsBus, *events: Event) -> None:
    """Events that the stream has, when this returns."""
    before = (await bus.js.stream_info(f"EVT_{NODE}")).state.messages
    for one in events:
        bus.emit(one)
    async with asyncio.timeout(WITHIN_S):
        while (await bus.js.stream_info(f"EVT_{NODE}")).state.messages < before + len(events):
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[History]:
    async with history(config, load_identity(NODE, config.node.directory)) as (found, _):
        yield found


async def test_what_is_stored_and_what_lies_behind_it_in_the_stream_is_one_story(
    bus: NatsBus, server: Server, tmp_path: Path
) -> None:
    config = config_of(tmp_path, server)
    ref = load_identity(NODE, tmp_path).sender_ref(NUMBER)
    await emitted(bus, event("received", HERS, ref), event("received", HIS, "other"))
    page = await NatsEventLog(bus).read(Position(), 10)
    with contextlib.closing(EventStore.open(path_in(tmp_path))) as store:
        store.add(page)
    await emitted(bus, event("sent", HERS, ref, at=1_790_000_100.0), event("link_up"))
    async with opened(config) as found:
        assert found.warnings == []
        assert [one.kind for one in found.events()] == ["received", "received", "sent", "link_up"]
        assert [one.kind for one in found.events(last=3)] == ["received", "sent", "link_up"]
        assert [one.kind for one in found.events(last=1)] == ["link_up"]
        assert [one.kind for one in found.events(query_id="ab")] == ["received", "sent"]
        assert [one.kind for one in found.events(since=1_790_000_050.0)] == ["sent"]
        assert [one.query_id for one in found.events(kinds=("received",), sender_ref="other")] == [HIS]
        spellings = ("last", HERS, "abab", NUMBER, "0049 171 234567"[2:], "+49 (171) 234-567")
        assert [found.query(which) for which in spellings] == [HIS, *[HERS] * 5]
        with pytest.raises(ConfigError, match="begins 2 queries"):
            found.query("a")
        for unknown in ("ffff", "+491", "", "'; DROP TABLE events"):
            with pytest.raises(ConfigError, match=r"nothing is known|begins 2"):
                found.query(unknown)


async def test_with_the_server_away_what_was_stored_is_shown_and_the_reverse(
    bus: NatsBus, server: Server, tmp_path: Path
) -> None:
    config = config_of(tmp_path, server)
    await emitted(bus, event("received", HERS))
    async with opened(config) as found:  # no store yet: all of it is in the stream
        assert [one.kind for one in found.events()] == ["received"]
    path_in(tmp_path).write_bytes(b"no database at all " * 500)
    async with opened(config) as found:
        assert [one.kind for one in found.events()] == ["received"]
        assert "not a database" in found.warnings[0]
    path_in(tmp_path).unlink()
    await bus.close()
    server.kill()
    with pytest.raises(ConfigError, match=r"no event store .* no JetStream"):
        async with opened(config):
            pass
    with contextlib.closing(EventStore.open(path_in(tmp_path))) as store:
        store.add(Page(Position("s", 1), (Kept(1, event("received", HERS)),)))
    async with opened(config) as found:
        assert found.query("last") == HERS
        assert "shown is what was stored before" in found.warnings[0]


async def test_logs_follow_what_happens_until_they_are_stopped(
    bus: NatsBus, server: Server, tmp_path: Path
) -> None:
    config = config_of(tmp_path, server)
    await emitted(bus, event("received", HERS))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors", "--config", str(config.path), "logs", "--follow", "--json", "--kind",
        "received", stdout=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        assert json.loads(await process.stdout.readline())["query_id"] == HERS
        await emitted(bus, event("other"), event("received", HIS))
        assert json.loads(await process.stdout.readline())["query_id"] == HIS
        process.send_signal(signal.SIGINT)
        assert await process.stdout.read() == b""
        assert await process.wait() == 0


async def test_every_event_is_stored_once_though_the_actor_is_killed_again_and_again(
    bus: NatsBus, server: Server, tmp_path: Path
) -> None:
    config = config_of(tmp_path, server)
    count, rounds = 0, 3
    for number in range(rounds):
        await emitted(bus, *(event(f"e{count + one}") for one in range(700)))
        count += 700
        before = _stored(tmp_path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "actors", "--config", str(config.path), "run", "analytics",
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(WITHIN_S):
                # In the middle of what there is, but for the last one.
                while _stored(tmp_path) < (count if number == rounds - 1 else before + 1):
                    await asyncio.sleep(0.01)
        finally:
            process.kill()
            await process.wait()
    with contextlib.closing(EventStore.existing(path_in(tmp_path))) as store:
        stored = [one.kind for one in store.events()]
    assert [kind for kind in stored if kind.startswith("e") and kind[1:].isdigit()] == [
        f"e{number}" for number in range(count)
    ]


def _stored(directory: Path) -> int:
    try:
        with contextlib.closing(EventStore.existing(path_in(directory))) as store:
            return store.position.sequence
    except (ConfigError, StoreError):  # it is being made
        return 0
