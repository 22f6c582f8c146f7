"""The leaf link of EVY by itself: edge → centre → edge, uplink, catch-up, octets on the wire, memory.

No model and no actor: at the centre a consumer answers each question with an answer of typical size to
``down.<node>.compress.<lane>``. Every hop is a JetStream stream that syncs each message.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from nats.aio.msg import Msg

from simulators.link_control import Shape
from subjects import names
from subjects.messages import Answer, Query, answer_to, decode, encode
from tests.bench.bridges import leaf, servers
from tests.bench.bridges.crossing import (
    EDGE,
    IN_FLIGHT,
    WARM_UP,
    Arrivals,
    id_of,
    in_flight,
    one_by_one,
    queries,
    resident_mb,
)
from tests.bench.bridges.relay import Octets, relayed
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Goal, Row, Setting, spread
from tests.conftest import free_port

WORDS: Final = (
    "Boil the water hard for one minute, or for three minutes above 2000 m. If you cannot boil it, let it "
    "settle, pour it through a clean cloth, then add 2 drops of plain unscented bleach per litre, stir and "
    "wait 30 minutes. It should smell faintly of bleach."
)
"""What a big model may answer; fits two segments."""
LONG_LINK: Final = "s2_best"
"""What ``s2_auto`` chooses above 100 ms of round trip; on a loopback it would not compress at all."""

SLOW: Final = Shape(delay_s=0.3, rate=50_000 / 8)
LESS_SLOW: Final = Shape(delay_s=0.03, rate=500_000 / 8)


def answer(payload: bytes) -> tuple[str, bytes]:
    """Query id and an answer with the passages it rests on, as the centre sends it down."""
    query = decode(payload, Query)
    return query.id, encode(answer_to(query, "model", WORDS, query.passages, by_centre=True))


class Echo:
    """A pair of servers whose centre answers, while ``answering``; the edge notes the answers."""

    def __init__(self, pair: leaf.Pair) -> None:
        self.pair = pair
        self.answering = True
        self.questions = Arrivals()
        self.answers = Arrivals()
        self.publish: Callable[[bytes], Awaitable[None]] = pair.publisher()

    async def start(self) -> None:
        """Provisions, and begins to answer."""
        await self.pair.provision()
        await self.pair.consume_up(self._answer)
        await self.pair.consume_down(self._note)

    async def _answer(self, msg: Msg) -> None:
        self.questions.note(id_of(msg.data))
        if not self.answering:
            return
        query_id, octets = answer(msg.data)
        await self.pair.centre.js.publish(
            names.work_subject(names.down(EDGE, names.COMPRESS), leaf.LANE),
            octets,
            timeout=30,
            headers={"Nats-Msg-Id": f"{EDGE}.0000.{query_id}.infer_large.compress.0"},
        )

    async def _note(self, msg: Msg) -> None:
        self.answers.note(decode(msg.data, Answer).query_id)

    async def round_trips(self, count: int, first: int) -> list[float]:
        """Milliseconds from publish to the answer's arrival at the edge, one in flight."""
        times = []
        for payload in queries(count, first):
            self.answers.expect(1)
            started = time.perf_counter()
            await self.publish(payload)
            await self.answers.all(30)
            if self.answers.missing:
                raise RuntimeError(f"no answer to question {first + len(times)} within 30 s")
            times.append((self.answers.last_at - started) * 1000)
        return times


class Trips(msgspec.Struct, frozen=True):
    """One run over a direct link."""

    round_trip_ms: list[float]
    uplink_rate: float
    idle_mb: tuple[float, float]
    used_mb: tuple[float, float]


async def _trips(directory: Path, single: int, many: int) -> Trips:
    async with leaf.pair(directory) as pair:
        echo = Echo(pair)
        await echo.start()
        edge, centre = pair.processes
        idle = resident_mb(edge), resident_mb(centre)
        await echo.round_trips(WARM_UP, 0)
        times = await echo.round_trips(single, WARM_UP)
        echo.answering = False
        echo.questions.expect(many)
        started = time.perf_counter()
        await in_flight(echo.publish, queries(many, WARM_UP + single))
        await echo.questions.all(600)
        seconds = echo.questions.last_at - started
        used = resident_mb(edge), resident_mb(centre)
    return Trips(times, (many - echo.questions.missing) / seconds, idle, used)


def measure(setting: Setting) -> list[Row]:
    """Round trips, uplink and memory over a direct link."""
    single, many = setting.count(500, 20), setting.count(10_000, 100)
    runs = [on_uvloop(_trips(setting.directory / f"link-{n}", single, many)) for n in range(setting.repeats)]
    return [
        Row(
            "link",
            "edge → centre → edge without model, one in flight",
            spread([run.round_trip_ms for run in runs], "ms"),
            (Goal("p50", 4.6), Goal("p99", 6.6)),
            ("four streams, each message synced in each of them; no relay",),
        ),
        Row(
            "uplink",
            "edge → centre, as many as go",
            (Figure("rate", "messages/s", tuple(run.uplink_rate for run in runs)),),
            notes=(f"{many} questions to the last at the consumer; {IN_FLIGHT} publishes in flight",),
        ),
        Row(
            "link-memory",
            "memory of nats-server at edge and centre",
            tuple(
                Figure(name, "MB", tuple(value))
                for name, value in (
                    ("edge-idle", [run.idle_mb[0] for run in runs]),
                    ("centre-idle", [run.idle_mb[1] for run in runs]),
                    ("edge", [run.used_mb[0] for run in runs]),
                    ("centre", [run.used_mb[1] for run in runs]),
                )
            ),
            notes=(f"resident; idle after provisioning, then after {many} questions went up",),
        ),
    ]


class CaughtUp(msgspec.Struct, frozen=True):
    """One run of a backlog over a link that came back."""

    stored_rate: float
    resumed_s: float
    rate: float
    lost: int
    doubled: int
    memory_mb: tuple[float, float]


async def _catch_up(directory: Path, backlog: int) -> CaughtUp:
    async with leaf.bridge(directory) as bridge:
        await one_by_one(bridge, list(queries(WARM_UP, backlog)))  # the sources are awake
        await bridge.relay.down()
        stored = await in_flight(bridge.publish, queries(backlog))
        bridge.arrivals.expect(backlog)
        await bridge.relay.up()
        up_at = time.perf_counter()
        await bridge.arrivals.all(600)
        arrivals = bridge.arrivals
        return CaughtUp(
            stored_rate=backlog / stored,
            resumed_s=arrivals.first_at - up_at,
            rate=(backlog - arrivals.missing) / (arrivals.last_at - arrivals.first_at),
            lost=arrivals.missing,
            doubled=arrivals.doubled,
            memory_mb=(resident_mb(bridge.edge), resident_mb(bridge.centre)),
        )


def catch_up(setting: Setting) -> list[Row]:
    """A backlog that the edge stored while the link was down."""
    backlog = setting.count(50_000, 200)
    turns = min(setting.repeats, 3)
    runs = [on_uvloop(_catch_up(setting.directory / f"catch-up-{n}", backlog)) for n in range(turns)]
    return [
        Row(
            "catch-up",
            f"catch-up after a backlog of {backlog} questions",
            (
                Figure("rate", "messages/s", tuple(run.rate for run in runs)),
                Figure("resumed", "s", tuple(run.resumed_s for run in runs)),
                Figure("stored", "messages/s", tuple(run.stored_rate for run in runs)),
                Figure("edge", "MB", tuple(run.memory_mb[0] for run in runs)),
                Figure("centre", "MB", tuple(run.memory_mb[1] for run in runs)),
                Figure("lost", "messages", tuple(run.lost for run in runs)),
                Figure("doubled", "messages", tuple(run.doubled for run in runs)),
            ),
            (Goal("lost", 0), Goal("doubled", 0)),
            ("one lane, without the registry's bounds; rate from the first at the centre to the last",),
        )
    ]


class StalledError(Exception):
    """A source of nats-server did not go on after its link was back."""


STALLED_S = 120.0
"""After so long nothing is awaited any more; the slowest return ever measured took a tenth of it."""


async def _resume(directory: Path, cuts_s: Sequence[float]) -> list[float]:
    """Seconds from the link's return until the question that waited is at the centre, for each cut."""
    async with leaf.bridge(directory) as bridge:
        await one_by_one(bridge, list(queries(WARM_UP)))
        times = []
        for number, cut_s in enumerate(cuts_s):
            await bridge.relay.down()
            bridge.arrivals.expect(1)
            for payload in queries(1, WARM_UP + number):
                await bridge.publish(payload)
            await asyncio.sleep(cut_s)
            await bridge.relay.up()
            up_at = time.perf_counter()
            await bridge.arrivals.all(STALLED_S)
            if bridge.arrivals.missing:
                raise StalledError(f"nothing crosses {STALLED_S:.0f} s after a cut of {cut_s} s")
            times.append(bridge.arrivals.last_at - up_at)
            await asyncio.sleep(min(cut_s, 5))  # cuts that follow each other closely are flapping
        return times


def resume(setting: Setting) -> list[Row]:
    """How soon work crosses again."""
    cuts_s = (0.5,) if setting.quick else (1, 15, 60)
    turns = min(setting.repeats, 3)
    runs: list[list[float]] = []
    stalled = 0
    while len(runs) < turns:
        try:
            runs.append(on_uvloop(_resume(setting.directory / f"resume-{len(runs)}-{stalled}", cuts_s)))
        except StalledError:
            stalled += 1  # a node says so: `evy link`
            if stalled > 1:
                raise
    return [
        Row(
            "resume",
            "first question at the centre after the link's return",
            tuple(
                Figure(f"cut {cut_s} s", "s", tuple(run[place] for run in runs))
                for place, cut_s in enumerate(cuts_s)
            ),
            notes=(
                f"the question was published at the edge during the cut; sources that stalled: {stalled}",
            ),
        )
    ]


async def _slow(directory: Path, shape: Shape, count: int) -> tuple[list[float], Octets]:
    async with leaf.pair(directory, through_relay=True, shape=shape) as pair:
        assert pair.relay is not None
        echo = Echo(pair)
        await echo.start()
        await echo.round_trips(1, 0)
        before = await pair.relay.count()
        times = await echo.round_trips(count, 1)
        used = (await pair.relay.count()).since(before)
    return times, Octets(round(used.up / count), round(used.down / count))


def slow(setting: Setting) -> list[Row]:
    """The round trip over a satellite's or an old modem's link."""
    count, turns = setting.count(30, 3), min(setting.repeats, 3)
    shape = LESS_SLOW if setting.quick else SLOW
    assert shape.rate
    runs = [on_uvloop(_slow(setting.directory / f"slow-{turn}", shape, count)) for turn in range(turns)]
    return [
        Row(
            "link-slow",
            f"edge → centre → edge at {shape.rate * 8 / 1000:.0f} kbit/s and {shape.delay_s * 2000:.0f} ms",
            (
                *spread([[time_ms / 1000 for time_ms in times] for times, _ in runs], "s"),
                Figure("up", "octets", tuple(octets.up for _, octets in runs)),
                Figure("down", "octets", tuple(octets.down for _, octets in runs)),
            ),
            notes=("one in flight, without model; compression as shipped (s2_auto); heartbeats included",),
        )
    ]


class Wire(msgspec.Struct, frozen=True):
    """TCP payload of questions with their answers, and of a link on which nothing happens."""

    per_query: Octets
    idle_per_minute: float
    asked: float
    answered: float


async def _wire(directory: Path, compression: str, count: int, idle_s: float) -> Wire:
    async with leaf.pair(directory, compression, through_relay=True) as pair:
        assert pair.relay is not None
        echo = Echo(pair)
        await echo.start()
        await echo.round_trips(WARM_UP, 0)
        before = await pair.relay.count()
        await echo.round_trips(count, WARM_UP)
        used = (await pair.relay.count()).since(before)
        await asyncio.sleep(min(idle_s, 6))  # the sources' last acknowledgements go within about 5 s
        before = await pair.relay.count()
        await asyncio.sleep(idle_s)
        quiet = (await pair.relay.count()).since(before)
    asked = list(queries(count, WARM_UP))
    return Wire(
        per_query=Octets(round(used.up / count), round(used.down / count)),
        idle_per_minute=(quiet.up + quiet.down) * 60 / idle_s,
        asked=sum(map(len, asked)) / count,
        answered=sum(len(answer(payload)[1]) for payload in asked) / count,
    )


def wire(setting: Setting) -> list[Row]:
    """Octets that one question and its answer take, without compression and with a long link's."""
    count, idle_s = setting.count(200, 10), setting.count(20, 1)
    turns = min(setting.repeats, 3)
    rows = []
    for name, compression in (("wire", "off"), ("wire-s2", LONG_LINK)):
        runs = [
            on_uvloop(_wire(setting.directory / f"{name}-{n}", compression, count, idle_s))
            for n in range(turns)
        ]
        rows.append(
            Row(
                name,
                f"octets on the link per question with its answer, compression {compression}",
                (
                    Figure("up", "octets", tuple(run.per_query.up for run in runs)),
                    Figure("down", "octets", tuple(run.per_query.down for run in runs)),
                    Figure("idle", "octets/min", tuple(run.idle_per_minute for run in runs)),
                ),
                notes=(
                    f"TCP payload; {runs[0].asked:.0f} asked, {runs[0].answered:.0f} answered",
                    "idle: a heartbeat a second for each of three sources, which nats-server fixes",
                ),
            )
        )
    return rows


_ECHO: Final = """\
import socket
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    end, _ = listener.accept()
    while octets := end.recv(65536):
        end.sendall(octets)
"""


async def _tcp(port: int, payloads: list[bytes]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for payload in payloads:
        started = time.perf_counter()
        writer.write(payload)
        await reader.readexactly(len(payload))
        times.append((time.perf_counter() - started) * 1000)
    writer.close()
    return times


async def _tcp_both(directory: Path, payloads: list[bytes]) -> tuple[list[float], list[float]]:
    port = free_port()
    program = [sys.executable, "-c", _ECHO.format(port=port)]
    with servers.running(program, directory / "echo") as process:
        await servers.listening(port, process, directory / "echo")
        async with relayed(port, directory) as relay:
            return await _tcp(port, payloads), await _tcp(relay.port, payloads)


def tcp(setting: Setting) -> list[Row]:
    """A question there and back over loopback TCP: what the wire takes, and what the relay adds."""
    payloads = list(queries(setting.count(500, 20)))
    runs = [on_uvloop(_tcp_both(setting.directory / f"tcp-{n}", payloads)) for n in range(setting.repeats)]
    octets = round(sum(map(len, payloads)) / len(payloads))
    note = f"{octets} octets there and back between two processes"
    return [
        Row(name, what, spread([run[which] for run in runs], "ms"), notes=(note,))
        for which, (name, what) in enumerate(
            (
                ("tcp", "loopback TCP round trip (context)"),
                ("tcp-relay", "the same through the relay of the bridges (context)"),
            )
        )
    ]
