"""The simulated link between real sockets: every kind of bad network, alone and by order."""

import asyncio
import json
import os
import random
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from actors._cli.sim import sim
from simulators.flow import HELD_OCTETS
from simulators.link import Link, outages, take_orders
from simulators.link_control import (
    Cut,
    Drop,
    Flap,
    Heal,
    LinkControl,
    LinkReply,
    Shape,
    Show,
    Stall,
    Truncate,
)
from simulators.orders import give

ROOT = Path(__file__).parents[2]
WITHIN_S = 20


class End:
    """A connection of a test, either side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def get(self, octets: int) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.readexactly(octets)

    async def rest(self) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.read()

    async def is_reset(self) -> bool:
        try:
            await self.rest()
        except ConnectionResetError:
            return True
        return False


class Centre:
    """Takes connections; each is an :class:`End` in a queue."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[End] = asyncio.Queue()
        self.all: list[End] = []
        self.address = ("127.0.0.1", 0)

    async def accept(self) -> End:
        async with asyncio.timeout(WITHIN_S):
            return await self.ends.get()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Centre"]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.all.append(End(reader, writer))
            self.ends.put_nowait(self.all[-1])

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()
        try:
            yield self
        finally:
            server.close()
            for end in self.all:
                end.writer.close()
            await asyncio.sleep(0)


@pytest.fixture
async def centre() -> AsyncIterator[Centre]:
    async with Centre().running() as running:
        yield running


@pytest.fixture
async def link(centre: Centre) -> AsyncIterator[Link]:
    async with Link(("127.0.0.1", 0), centre.address, seed=1) as running:
        yield running


Dial = Callable[[], Coroutine[Any, Any, End]]


@pytest.fixture
async def dial(link: Link) -> AsyncIterator[Dial]:
    writers = []

    async def dialled() -> End:
        reader, writer = await asyncio.open_connection(*link.address)
        writers.append(writer)
        return End(reader, writer)

    yield dialled
    for writer in writers:
        writer.close()
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_octets_pass_both_ways_and_are_counted(link: Link, centre: Centre, dial: Dial) -> None:
    edge = await dial()
    hub = await centre.accept()
    sent = random.Random(7).randbytes(3_000_000)
    sending = asyncio.create_task(edge.send(sent))
    assert await hub.get(len(sent)) == sent
    await sending
    await hub.send(b"answer")
    assert await edge.get(6) == b"answer"
    state = link.state()
    assert (state.connections, state.accepted) == (1, 1)
    assert (state.up.taken, state.up.passed, state.up.lost, state.up.held) == (3_000_000, 3_000_000, 0, 0)
    assert (state.down.taken, state.down.passed) == (6, 6)


async def test_a_closed_direction_leaves_the_other_open(link: Link, centre: Centre, dial: Dial) -> None:
    edge = await dial()
    hub = await centre.accept()
    edge.writer.write_eof()
    assert await hub.rest() == b""
    await hub.send(b"late answer")
    assert await edge.get(11) == b"late answer"
    hub.writer.close()
    assert await edge.rest() == b""
    await until(lambda: link.state().connections == 0)


@pytest.mark.parametrize("by", ["edge", "hub"])
async def test_a_reset_reaches_the_other_side(link: Link, centre: Centre, dial: Dial, by: str) -> None:
    edge = await dial()
    hub = await centre.accept()
    one, other = (edge, hub) if by == "edge" else (hub, edge)
    one.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    one.writer.transport.abort()
    assert await other.is_reset()
    await until(lambda: link.state().connections == 0)


async def test_who_sends_to_a_receiver_that_is_gone_is_reset(link: Link, centre: Centre, dial: Dial) -> None:
    edge, hub = await dial(), await centre.accept()
    edge.writer.close()
    assert await hub.rest() == b""

    async def ask() -> None:
        while True:
            await hub.send(b"anybody there?")
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(ask(), WITHIN_S)
    await until(lambda: link.state().connections == 0)


async def test_delay_and_jitter_come_on_top_and_keep_the_order(
    link: Link, centre: Centre, dial: Dial
) -> None:
    link.shape("up", delay_s=0.1, jitter_s=0.05)
    edge = await dial()
    hub = await centre.accept()
    loop = asyncio.get_running_loop()
    started = loop.time()
    sent = b"".join(b"%06d" % n for n in range(200))
    for n in range(200):
        await edge.send(sent[6 * n : 6 * n + 6])
        await asyncio.sleep(0)
    assert await hub.get(len(sent)) == sent
    assert loop.time() - started >= 0.1


async def test_all_connections_share_the_rate(link: Link, centre: Centre, dial: Dial) -> None:
    link.shape("up", rate=100_000)
    edges = [await dial() for _ in range(4)]
    hubs = [await centre.accept() for _ in edges]
    started = asyncio.get_running_loop().time()
    for edge in edges:
        await edge.send(bytes(10_000))
    await asyncio.gather(*(hub.get(10_000) for hub in hubs))
    # 40,000 octets at 100,000 a second, less what may pass at once after a pause.
    assert asyncio.get_running_loop().time() - started >= 0.37


async def test_a_receiver_that_does_not_read_stops_the_sender(link: Link, centre: Centre, dial: Dial) -> None:
    edge = await dial()
    hub = await centre.accept()
    hub.reader._transport.pause_reading()  # type: ignore[attr-defined]
    sending = asyncio.create_task(edge.send(bytes(60_000_000)))
    await until(lambda: link.up.count.held >= HELD_OCTETS)
    assert link.up.count.held <= HELD_OCTETS + 2 * 64 * 1024
    assert not sending.done()
    hub.reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await hub.get(60_000_000)) == 60_000_000
    await sending


async def test_cut_resets_or_closes_and_the_next_connection_works(
    link: Link, centre: Centre, dial: Dial
) -> None:
    async def joined() -> tuple[End, End]:
        edge, hub = await dial(), await centre.accept()
        await edge.send(b"hello")
        assert await hub.get(5) == b"hello"
        return edge, hub

    edge, hub = await joined()
    assert link.cut("reset") == 1
    assert await edge.is_reset()
    assert await hub.is_reset()
    edge, hub = await joined()
    assert link.cut("close") == 1
    assert await edge.rest() == b""
    assert await hub.rest() == b""
    await joined()


async def test_refused_until_healed_at_the_same_port(link: Link, centre: Centre, dial: Dial) -> None:
    edge, hub = await dial(), await centre.accept()
    address = link.address
    link.refuse()
    with pytest.raises(ConnectionRefusedError):
        await dial()
    await edge.send(b"stands")
    assert await hub.get(6) == b"stands"
    link.heal()
    await until(lambda: link._server is not None)
    assert link.address == address
    await dial()
    await centre.accept()


async def test_a_stall_loses_nothing(link: Link, centre: Centre, dial: Dial) -> None:
    edge, hub = await dial(), await centre.accept()
    link.stall("up")
    await edge.send(b"held")
    edge.writer.write_eof()
    await hub.send(b"the other way is open")  # half-open
    assert await edge.get(21) == b"the other way is open"
    assert (link.state().stalled, link.up.count.passed) == (("up",), 0)
    link.heal()
    assert await hub.rest() == b"held"
    assert link.up.count.lost == 0


async def test_who_dials_during_a_stall_is_connected_after_it_or_forgotten(
    link: Link, centre: Centre, dial: Dial
) -> None:
    link.stall()
    patient, impatient = await dial(), await dial()
    await patient.send(b"hello")
    impatient.writer.close()
    await until(lambda: link.state().connections == 1)
    assert centre.all == []
    link.heal()
    assert await (await centre.accept()).get(5) == b"hello"
    assert len(centre.all) == 1


async def test_a_drop_resets_what_lost_something_and_nothing_else(
    link: Link, centre: Centre, dial: Dial
) -> None:
    edge, hub = await dial(), await centre.accept()
    idle, idle_hub = await dial(), await centre.accept()
    link.drop("up")
    await edge.send(b"vanishes")
    await until(lambda: link.up.count.lost == 8)
    late = await dial()
    await hub.send(b"down works")
    assert await edge.get(10) == b"down works"
    await until(
        lambda: any(connection.number == 3 and connection.broken for connection in link._running.values())
    )
    link.heal()
    assert await edge.is_reset()
    assert await hub.is_reset()
    assert await late.is_reset()
    await idle.send(b"stands")
    assert await idle_hub.get(6) == b"stands"
    assert len(centre.all) == 2


async def test_a_close_during_a_drop_does_not_arrive(link: Link, centre: Centre, dial: Dial) -> None:
    edge, hub = await dial(), await centre.accept()
    link.drop()
    edge.writer.close()
    await until(lambda: all(connection.broken for connection in link._running.values()))
    assert not hub.reader.at_eof()
    link.heal()
    assert await hub.is_reset()


async def truncated(seed: int, frames: list[bytes], after_octets: int) -> bytes:
    """What arrives of frames that are sent one after the other, the next once the last arrived."""
    async with Centre().running() as centre, Link(("127.0.0.1", 0), centre.address, seed=seed) as link:
        link.truncate("up", after_octets)
        reader, writer = await asyncio.open_connection(*link.address)
        hub, got = await centre.accept(), b""
        for frame in frames:
            writer.write(frame)
            try:
                got += await hub.get(len(frame))
            except asyncio.IncompleteReadError as error:
                got += error.partial
        assert await End(reader, writer).is_reset()
        writer.close()
        return got


async def test_a_frame_is_truncated_in_its_middle_by_the_seed() -> None:
    frames = [b"first frame\n", b"second frame\n"]
    got = await truncated(3, frames, 12)
    assert b"first frame\n" < got < b"first frame\nsecond frame\n"
    assert len(got) > 12
    assert await truncated(3, frames, 12) == got
    assert {await truncated(seed, frames, 12) for seed in range(4, 9)} != {got}


def test_the_same_seed_flaps_the_same_way() -> None:
    flap = Flap(for_s=100)
    schedule = list(outages(1, flap))
    assert schedule == list(outages(1, flap))
    assert schedule != list(outages(2, flap))
    assert {outage for _, _, outage in schedule} <= set(flap.how)
    total = sum(up_s + down_s for up_s, down_s, _ in schedule)
    assert 100 <= total <= 100 + flap.up_s[1] + flap.down_s[1]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names, no paths


async def test_flapping_under_hundreds_of_reconnects_leaves_nothing(
    link: Link, centre: Centre, dial: Dial
) -> None:
    await asyncio.sleep(0)
    files, tasks = open_files(), len(asyncio.all_tasks())
    link.flap(Flap(up_s=(0.0, 0.03), down_s=(0.0, 0.03), for_s=3))

    async def client() -> int:
        times = 0
        while link.state().flapping:
            try:
                reader, writer = await asyncio.open_connection(*link.address)
            except ConnectionError:
                await asyncio.sleep(0.005)
                continue
            times += 1
            try:
                async with asyncio.timeout(0.02):
                    writer.write(bytes(1000))
                    await reader.read(1)
            except (TimeoutError, ConnectionError):
                pass
            writer.close()
        return times

    async def hub() -> None:
        while True:
            end = await centre.ends.get()
            end.writer.write(b"x")
            end.writer.close()

    serving = asyncio.create_task(hub())
    times = sum(await asyncio.gather(*(client() for _ in range(8))))
    link.heal()
    await until(lambda: link.state().connections == 0)
    serving.cancel()
    for end in centre.all:
        end.writer.transport.abort()
    await until(lambda: open_files() <= files and len(asyncio.all_tasks()) <= tasks)
    for count in (link.up.count, link.down.count):
        assert (count.held, count.taken) == (0, count.passed + count.lost)
    assert times > 100


async def test_captures_the_octets_of_each_connection(centre: Centre, tmp_path: Path) -> None:
    async with Link(("127.0.0.1", 0), centre.address, capture=tmp_path / "octets") as link:
        for n in (1, 2):
            reader, writer = await asyncio.open_connection(*link.address)
            edge, hub = End(reader, writer), await centre.accept()
            await edge.send(b"question %d" % n)
            assert await hub.get(10) == b"question %d" % n
            await hub.send(b"answer")
            assert await edge.get(6) == b"answer"
            writer.close()
    captured = {path.name: path.read_bytes() for path in (tmp_path / "octets").iterdir()}
    assert captured == {
        "000001.up": b"question 1",
        "000001.down": b"answer",
        "000002.up": b"question 2",
        "000002.down": b"answer",
    }


async def test_a_target_that_is_not_there_resets_who_dials() -> None:
    async with Link(("127.0.0.1", 0), ("127.0.0.1", 1)) as link:
        reader, writer = await asyncio.open_connection(*link.address)
        assert await End(reader, writer).is_reset()
        writer.close()


async def test_runs_alone_and_takes_orders(centre: Centre, tmp_path: Path) -> None:
    control = tmp_path / "control"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulators.link", "--listen", "127.0.0.1:0", "--to", "{}:{}".format(*centre.address)),
        *("--control", str(control), "--seed", "5"),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        await until(control.is_socket)
        async with LinkControl(control) as orders:
            host, _, port = (await orders.do(Show())).listen.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            edge, hub = End(reader, writer), await centre.accept()
            assert (await orders.do(Shape(rate=1e6, delay_s=0.01))).error == ""
            assert (await orders.do(Stall("down"))).stalled == ("down",)
            assert (await orders.do(Drop("up"))).dropping == ("up",)
            assert (await orders.do(Truncate("up"))).connections == 1
            assert (await orders.do(Heal())).stalled == ()
            await edge.send(b"hello")
            assert await hub.get(5) == b"hello"
            assert (await orders.do(Flap(for_s=60))).flapping
            assert not (await orders.do(Heal())).flapping
            await orders.do(Cut())
            assert await edge.is_reset()
            writer.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    assert f"leads to 127.0.0.1:{centre.address[1]}" in told.decode()
    assert not control.exists()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("stall", "malformed"),
        ('{"do": "explode"}', "explode"),
        ('{"do": "stall", "way": "sideways"}', "sideways"),
        ('{"do": "shape", "delay_s": -1}', "delay_s"),
        ('{"do": "shape", "rate": 0}', "rate"),
        ('{"do": "truncate"}', "way"),
        ('{"do": "flap", "how": []}', "how"),
        ('{"do": "flap", "up_s": [0, 0], "down_s": [0, 0]}', "both zero"),
        ('{"do": "cut", "hwo": "reset"}', "hwo"),
    ],
)
async def test_a_bad_order_is_refused_with_its_reason(
    link: Link, tmp_path: Path, order: str, reason: str
) -> None:
    socket = tmp_path / "control"
    async with take_orders(link, socket):
        reply = msgspec.json.decode(await give(socket, order), type=LinkReply)
        assert reason in reply.error
        async with LinkControl(socket) as control:  # and it goes on
            assert (await control.do(Show())).listen


def test_help_and_bad_options() -> None:
    runner = CliRunner()
    told = runner.invoke(sim, ["link", "--help"])
    assert told.exit_code == 0
    assert "--control" in told.output
    assert "flap" in told.output
    for listen in ("nowhere", "127.0.0.1:99999", ":1"):
        refused = runner.invoke(sim, ["link", "--listen", listen, "--to", "127.0.0.1:1"])
        assert refused.exit_code == 2
        assert "not HOST:PORT" in refused.output


def test_order_without_a_simulator_says_so(tmp_path: Path) -> None:
    told = CliRunner().invoke(sim, ["order", str(tmp_path / "none"), json.dumps({"do": "show"})])
    assert told.exit_code == 1
    assert "no simulator listens" in told.output
