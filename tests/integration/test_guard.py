"""`evy up` under its guard: a real server, systemd's socket, a battery that empties, a poweroff."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors._runtime import clock, health
from actors._runtime.bus import NatsBus
from actors._runtime.health import HUNG_AFTER, Guard, answer_alive
from actors._runtime.identity import Identity
from actors._runtime.notify import Notify
from actors.knowledge import Texts
from simulators.battery import Battery, Gauges
from simulators.modem import Modem
from simulators.network import Entry, Network
from subjects import names
from subjects.messages import Event, InboundSms, encode
from tests.conftest import NODE, Server, free_port

pytestmark = pytest.mark.nats

IDENTITY = Identity(NODE, b"secret of the tests", "0000")
ROOT = Path(__file__).parents[2]
TEXTS = 200


async def test_a_process_that_answers_no_more_is_found_hung(
    server: Server, bus: NatsBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        guard = Guard(
            IDENTITY, server.url, tmp_path, ["a", "b"], Notify(address, 60.0), has_modem=False, every_s=0.05
        )
        other = await NatsBus.connect(IDENTITY, server.url, "b")
        await answer_alive(bus, "a")
        await answer_alive(other, "b")
        found = await guard.look()
        assert [(check.name, check.verdict) for check in found.checks[:2]] == [
            ("bus", "ok"),
            ("workers", "ok"),
        ]
        assert [manager.recv(1000).partition(b"\n")[0] for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        hung = asyncio.create_task(guard.hung("b")())  # type: ignore[arg-type]  # a coroutine is awaitable
        await asyncio.sleep(0)
        await guard.look()
        monkeypatch.setattr(health, "ANSWER_WITHIN_S", 0.3)
        await other.close()
        for _ in range(HUNG_AFTER):
            assert not hung.done()
            found = await guard.look()
            assert "b does not answer" in found.checks[1].reason
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert "has not answered" in await hung
        assert found.sound, "the supervisor kills it; that comes before systemd"
        for _ in range(HUNG_AFTER + 1):
            found = await guard.look()
        assert not found.sound, "that did not help either"
        server.kill()
        found = await guard.look()
        assert (found.checks[0].name, found.checks[0].verdict) == ("bus", "failed")
        server.start()
        monkeypatch.setattr(health, "ANSWER_WITHIN_S", 2.0)
        async with asyncio.timeout(60):
            while (await guard.look()).checks[0].verdict != "ok":
                await asyncio.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            while manager.recv(1000):
                pass
        stop = asyncio.Event()
        stop.set()
        await guard.watch(stop)
        heard = b""
        while not heard.startswith(b"STOPPING=1"):
            heard = manager.recv(1000)


@contextmanager
def up(
    tmp_path: Path, battery: Path, processes: str, notify: str = "", sms: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """`evy up` on ports of its own; gives the process, the server's port and that of ``/healthz``."""
    port, health_port = free_port(), free_port()
    script = tmp_path / "poweroff"
    # The proof that everything had stopped: nobody listens any more when it runs.
    script.write_text(
        f"#!{sys.executable}\n"
        "import socket, pathlib\n"
        f"taken = socket.socket().connect_ex(('127.0.0.1', {port})) == 0\n"
        f"pathlib.Path({str(tmp_path / 'switched-off')!r}).write_text('runs' if taken else 'stopped')\n"
    )
    script.chmod(0o755)
    (tmp_path / "evy.toml").write_text(
        f"""
[node]
name = "{NODE}"
data_dir = "{tmp_path}/data"
nats_port = {port}
health_port = {health_port}
processes = {processes}

[sms]
device = "{sms or ""}"
connection = "dku2at"
driver = "at"

[power]
sys = "{battery}"
gauge = "power_supply"
shutdown_below = 5
shutdown_after_s = 0
shutdown_command = ["{script}"]
"""
    )
    command = [sys.executable, "-m", "actors", "--config", str(tmp_path / "evy.toml"), "up"]
    environment = {**os.environ, "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "30000000"}
    with (tmp_path / "up.log").open("wb") as log:
        node = subprocess.Popen(command, stderr=log, cwd=ROOT, env=environment)
        try:
            yield node, port, health_port
        finally:
            if node.poll() is None:
                node.send_signal(signal.SIGTERM)
                try:
                    node.wait(60)
                finally:
                    node.kill()


def asked(port: int) -> tuple[int, dict[str, Any]] | None:
    """Status and page of ``/healthz``; None while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return None


@pytest.mark.timeout(300)
async def test_an_empty_battery_stops_the_node_and_loses_nothing(tmp_path: Path) -> None:
    battery = Battery(percent=60, hour=22)
    gauges = Gauges(battery, tmp_path / "sys")
    gauges.show()
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        with up(tmp_path, tmp_path / "sys", '[["intake"], ["node"]]', address) as (node, port, health_port):
            until = time.monotonic() + 120
            while (found := await asyncio.to_thread(asked, health_port)) is None or found[0] != 200:
                assert time.monotonic() < until, (found, (tmp_path / "up.log").read_text())
                assert node.poll() is None, (tmp_path / "up.log").read_text()
                await asyncio.sleep(0.1)
            assert found[1]["verdict"] in {"ok", "degraded"}
            assert manager.recv(1000) == b"READY=1"
            assert manager.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=")
            bus = await NatsBus.connect(IDENTITY, f"nats://127.0.0.1:{port}", "test")
            taken = 0
            battery.percent = 3.0
            gauges.show()
            for number in range(TEXTS):
                text = InboundSms(
                    id=f"q{number}",
                    node=NODE,
                    sender=f"+1555010{number:04}",
                    text="how long must i boil water",
                    lane="routine",
                    deadline=clock.deadline_in(600),
                )
                try:
                    await bus.js.publish(f"{names.SMS_IN}.routine", encode(text), timeout=2)
                except Exception:  # noqa: BLE001  # the server is gone: not acknowledged, so the modem keeps it
                    break
                taken += 1
                await asyncio.sleep(0.05)
            await bus.close()
            await asyncio.to_thread(node.wait, 120)
            log = (tmp_path / "up.log").read_text()
            assert node.returncode == 0, log
    assert (tmp_path / "switched-off").read_text() == "stopped", log
    assert "battery 3 % is below 5 %" in log
    assert taken > 0
    server = Server(tmp_path / "data" / "nats")
    try:
        bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=20)
        kept = set()
        subjects = {}
        for subject in (f"{names.SMS_IN}.routine", f"{names.ROUTE}.routine"):
            info = await bus.js.stream_info(f"WORK_{NODE}", subjects_filter=subject)
            subjects[subject] = (info.state.subjects or {}).get(subject, 0)
            sequence = 1
            for _ in range(subjects[subject]):
                raw = await bus.js.get_msg(f"WORK_{NODE}", seq=sequence, subject=subject, next=True)
                kept.add(json.loads(raw.data or b"{}")["id"])
                sequence = (raw.seq or 0) + 1
        await bus.close()
    finally:
        server.stop()
    assert kept == {f"q{number}" for number in range(taken)}, subjects


EMERGENCY = "my brother cut his leg, blood everywhere"
KNOWN = "how long must i boil water"
UNKNOWN = "who won the football match yesterday"


@pytest.mark.modem
@pytest.mark.timeout(300)
async def test_a_whole_node_on_a_falling_battery_answers_everybody_and_says_why(tmp_path: Path) -> None:
    battery = Battery(percent=80, hour=22)
    gauges = Gauges(battery, tmp_path / "sys")
    gauges.show()
    modem = Modem(tmp_path / "tty", Network(seed=9, retry_s=0.02))
    answers: dict[str, str] = {}

    def note(entry: Entry) -> None:
        if entry.what == "read":
            answers[entry.number] = entry.text

    modem.network.listeners.append(note)
    modem.plug()
    processes = '[["sms"], ["intake", "route", "compress", "rag", "node"]]'
    try:
        with up(tmp_path, tmp_path / "sys", processes, sms=tmp_path / "tty") as (node, port, health_port):
            log = tmp_path / "up.log"
            async with asyncio.timeout(120):
                while (found := await asyncio.to_thread(asked, health_port)) is None or (
                    ("modem", "ok") not in verdicts(found) or ("workers", "ok") not in verdicts(found)
                ):
                    assert node.poll() is None, log.read_text()
                    await asyncio.sleep(0.1)
            assert found[0] == 200
            bus = await NatsBus.connect(IDENTITY, f"nats://127.0.0.1:{port}", "test")
            told: list[str] = []

            async def on_event(event: Event) -> None:
                told.append(str(event.fields.get("reason", event.fields.get("reasons"))))

            await bus.follow_events(on_event, ("retrieved", "node_state"))
            battery.percent = 12.0
            gauges.show()
            async with asyncio.timeout(60):
                while not any("battery 12 %: below 20 %" in reason for reason in told):
                    await asyncio.sleep(0.05)
            for number, text in (("+15550101", EMERGENCY), ("+15550102", KNOWN), ("+15550103", UNKNOWN)):
                modem.network.send(number, text)
            async with asyncio.timeout(60):
                while len(answers) < 3 or not any(reason.startswith("low-battery") for reason in told):
                    await asyncio.sleep(0.05)
            await bus.close()
            node.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(node.wait, 60) == 0, log.read_text()
    finally:
        modem.unplug()
        modem.network.close()
    texts = Texts.load()
    template = texts.template("bleeding", "en")
    assert template is not None
    assert answers["+15550101"] == template.text
    assert "1 full minute" in answers["+15550102"], "a reviewed passage is whole on any battery"
    assert answers["+15550103"] == texts.say("low_battery", "en")
    assert not (tmp_path / "switched-off").exists(), "it was stopped, not emptied"


def verdicts(found: tuple[int, dict[str, Any]]) -> set[tuple[str, str]]:
    return {(check["name"], check["verdict"]) for check in found[1]["checks"]}
