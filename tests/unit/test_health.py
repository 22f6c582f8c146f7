"""What counts as well, what systemd is told, and the little HTTP server."""

import asyncio
import socket
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest

from actors._runtime.health import Check, Guard, Health, judge_disk, judge_state
from actors._runtime.http import AT_ONCE, HEAD_OCTETS, Page, serve_pages
from actors._runtime.identity import Identity
from actors._runtime.notify import Notify
from subjects.errors import ConfigError
from subjects.node_state import ModemState, NodeState

MODEM = ModemState(name="a", state="up", registered=True)


def test_the_worst_verdict_is_the_node_s() -> None:
    fine, old = Check("bus", "ok", ""), Check("clock", "degraded", "nobody set it")
    assert Health.of("n1", [fine]).verdict == "ok"
    degraded = Health.of("n1", [fine, old])
    assert (degraded.verdict, degraded.page().status) == ("degraded", HTTPStatus.OK)
    dead = Health.of("n1", [fine, Check("modem", "failed", "a dead"), old])
    assert (dead.verdict, dead.page().status) == ("failed", HTTPStatus.SERVICE_UNAVAILABLE)
    assert msgspec.json.decode(dead.page().body)["checks"][1]["reason"] == "a dead"


def test_only_what_a_restart_cures_starves_the_watchdog() -> None:
    bus = Check("bus", "failed", "no answer", cured_by_restart=True)
    assert not Health.of("n1", [bus]).sound
    assert Health.of("n1", [Check("modem", "failed", "dead")]).sound
    assert Health.of("n1", [bus, Check("disk", "failed", "0 MB free")]).sound, "it would be full again"


@pytest.mark.parametrize(
    ("modems", "clock", "found"),
    [
        ((MODEM,), "network", {"modem": "ok", "clock": "ok"}),
        ((), "sms", {"modem": "degraded", "clock": "ok"}),
        ((ModemState(name="a", state="dead"),), "unset", {"modem": "failed", "clock": "degraded"}),
        ((MODEM, ModemState(name="b", state="away")), "network", {"modem": "degraded", "clock": "ok"}),
        ((ModemState(name="a", state="up", registered=False),), "sms", {"modem": "failed", "clock": "ok"}),
    ],
)
def test_modem_and_clock_are_judged_from_the_state(
    modems: tuple[ModemState, ...], clock: str, found: dict[str, str]
) -> None:
    state = msgspec.structs.replace(NodeState(node="n1", modems=modems), clock=clock)
    assert {check.name: check.verdict for check in judge_state(state, has_modem=True)} == found
    assert "modem" not in {check.name for check in judge_state(state, has_modem=False)}


def test_a_disk_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    assert judge_disk(tmp_path).verdict == "ok"
    assert judge_disk(tmp_path / "gone").verdict == "failed"


def manager(path: str) -> socket.socket:
    """What systemd has at the other end."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(path)
    listening.setblocking(False)
    return listening


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_over_its_socket(tmp_path: Path, *, abstract: bool) -> None:
    name = f"@evy-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with manager(f"\0{name[1:]}" if abstract else name) as listening:
        notify = Notify.of_environment({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "90000000"})
        assert notify.watchdog_s == 90.0
        assert notify.tell("READY=1", "STATUS=one\ntwo")
        assert listening.recv(1000) == b"READY=1\nSTATUS=one two"
    assert notify.tell("WATCHDOG=1") is False, "nobody there is no error"


def test_without_systemd_nobody_is_told() -> None:
    assert Notify.of_environment({}).tell("READY=1") is False
    other = Notify.of_environment({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"})
    assert other.watchdog_s == 0.0, "it watches another process"
    assert Notify.of_environment({"WATCHDOG_USEC": "soon"}).watchdog_s == 0.0


async def get(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_pages_are_served_and_nothing_else() -> None:
    async def page() -> Page:
        return Page(b'{"n": 1}\n')

    async def broken() -> Page:
        raise RuntimeError("secret words")

    async with serve_pages(0, {"/healthz": page, "/broken": broken}) as port:
        good = await get(port, b"GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert good.startswith(b"HTTP/1.1 200 OK\r\n")
        assert good.endswith(b'\r\n\r\n{"n": 1}\n')
        head = await get(port, b"HEAD /healthz HTTP/1.0\r\n\r\n")
        assert b"Content-Length: 9" in head
        assert head.endswith(b"\r\n\r\n")
        assert b" 404 " in await get(port, b"GET /etc/passwd HTTP/1.1\r\n\r\n")
        assert b" 405 " in await get(port, b"POST /healthz HTTP/1.1\r\n\r\n")
        failed = await get(port, b"GET /broken HTTP/1.1\r\n\r\n")
        assert b" 500 " in failed
        assert b"secret" not in failed
        for nonsense in (b"\x00\xff\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n"):
            assert b" 405 " in await get(port, nonsense) or b" 404 " in await get(port, nonsense)
        assert await get(port, b"G" * (3 * HEAD_OCTETS)) == b""
        assert b" 200 " in await get(port, b"GET /healthz HTTP/1.1\r\n\r\n"), "it goes on"
        with pytest.raises(ConfigError, match="cannot serve HTTP"):
            async with serve_pages(port, {}):
                pass


async def test_who_opens_many_connections_does_not_keep_others_out_for_ever() -> None:
    async def page() -> Page:
        return Page(b"{}")

    async with serve_pages(0, {"/": page}) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AT_ONCE)]
        assert await get(port, b"GET / HTTP/1.1\r\n\r\n") == b""
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(30):
            while not await get(port, b"GET / HTTP/1.1\r\n\r\n"):
                await asyncio.sleep(0.01)


def guard(tmp_path: Path, notify: Notify, **options: float) -> Guard:
    identity = Identity("n1", b"x", "0")
    return Guard(
        identity,
        "nats://127.0.0.1:9",
        tmp_path,
        ["sms", "node"],
        notify,
        has_modem=True,
        every_s=0.05,
        **options,
    )


async def test_without_a_bus_systemd_hears_neither_ready_nor_watchdog(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listening:
        health = await guard(tmp_path, Notify(address, 60.0)).look()
        assert health.verdict == "failed"
        assert not health.sound
        with pytest.raises(BlockingIOError):
            listening.recv(1000)


async def test_a_centre_has_neither_modem_nor_a_clock_to_tell_of(tmp_path: Path) -> None:
    edge = guard(tmp_path, Notify())
    centre = Guard(
        Identity("hub", b"x", "0"),
        "nats://127.0.0.1:9",
        tmp_path,
        ["infer_large"],
        Notify(),
        has_modem=False,
        every_s=0.05,
    )
    assert {check.name for check in (await edge.look()).checks} >= {"modem", "clock"}
    assert {check.name for check in (await centre.look()).checks} == {"bus", "workers", "disk"}


def test_an_empty_battery_is_believed_after_three_looks(tmp_path: Path) -> None:
    low = NodeState(node="n1", battery_percent=4.0, charging=False)
    watching = guard(tmp_path, Notify(), shutdown_below=5.0, up_at_least_s=0.0)
    others = [
        msgspec.structs.replace(low, charging=True),
        msgspec.structs.replace(low, battery_percent=5.0),
        msgspec.structs.replace(low, battery_percent=None),
    ]
    for other in others:
        for state in (low, low, other):
            watching._judge_battery(state)
        assert watching.shutdown_reason == ""
    for _ in range(3):
        watching._judge_battery(low)
    assert watching.shutdown_reason == "battery 4 % is below 5 %"
    never = guard(tmp_path, Notify(), up_at_least_s=0.0)
    fresh = guard(tmp_path, Notify(), shutdown_below=5.0, up_at_least_s=1e9)
    for _ in range(9):
        never._judge_battery(low)
        fresh._judge_battery(low)
    assert (never.shutdown_reason, fresh.shutdown_reason) == ("", "")
