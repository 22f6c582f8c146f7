"""What telemetry costs: recording a hop, storing what a text leaves behind, both as a share of the text."""

import asyncio
import time
from pathlib import Path

import msgspec

from actors._runtime.handling import end
from actors._runtime.telemetry import TRACEPARENT, Spans, TelemetryConfig, step
from actors.analytics import Analytics
from subjects.messages import Event, encode
from tests.bench.flow import build_between, from_many, questions
from tests.bench.node import MemoryModem, build_sms, on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting

HOPS = 7
"""Spans of a question: reception, six messages."""


class Cost(msgspec.Struct, frozen=True):
    """Processor milliseconds a text."""

    text: float
    """Of the actors and the server."""
    storing: float
    store_octets: float


def hop_us(sample: float, count: int) -> float:
    """Processor microseconds of recording one hop with one publish, its part of the event included."""

    async def run() -> float:
        sent: list[bytes] = []
        spans = Spans("n1", lambda event: sent.append(encode(event)))
        spans.sample(sample)
        with spans.root("sms", "routine", "0" * 32) as hop:
            headers = {TRACEPARENT: hop.traceparent}
        began = time.thread_time()
        for _ in range(count):
            hop = spans.begin(headers, "routine", "0" * 32)
            with step("publish route.routine"):
                assert hop.traceparent
            spans.end(hop, "intake", "sms.in", 0.001)
            if not hop.elapsed_us() % 500:
                spans.flush()
        spans.flush()
        return (time.thread_time() - began) / count * 1e6

    return on_uvloop(run())


async def _text(directory: Path, count: int) -> Cost:
    texts = list(from_many(list(questions()), count))
    modem = MemoryModem()
    async with running_node(directory) as node:
        actors = [await build_sms(node.context, modem), *await build_between(node.context, retrieval=False)]
        async with node.running(actors):
            before = sum(node.cpu_s())
            modem.arrive(texts)
            async with asyncio.timeout(600):
                while len({number for number, _ in modem.replies()}) < count:
                    await asyncio.sleep(0.05)
            text_s = sum(node.cpu_s()) - before
        node.bus.spans.flush()
        stored: list[int] = []
        analytics = Analytics(
            node=node.bus.node,
            path=directory / "events.sqlite3",
            events=node.context.event_log(),
            emit=_nobody,
            config=TelemetryConfig(),
            seen=[lambda page: stored.append(len(page.events))],
            every_s=0.1,
        )
        before = sum(node.cpu_s())
        task = asyncio.create_task(analytics.run())
        async with asyncio.timeout(120):
            while not analytics.caught_up:
                await asyncio.sleep(0.1)
        storing_s = sum(node.cpu_s()) - before
        octets = analytics.store.octets if analytics.store else 0
        await end([task])
        await analytics.close()
    return Cost(text_s / count * 1000, storing_s / count * 1000, octets / count)


def _nobody(_: Event) -> None:
    """Nobody listens."""


def measure(setting: Setting) -> list[Row]:
    """Both costs, with everything sampled."""
    count = setting.count(400, 30)
    turns = range(setting.repeats)
    recorded = tuple(min(hop_us(1.0, 5000) for _ in range(3)) for _ in turns)
    left_out = tuple(min(hop_us(0.0, 5000) for _ in range(3)) for _ in turns)
    costs = [on_uvloop(_text(setting.directory / f"telemetry-{turn}", count)) for turn in turns]
    shares = tuple(
        100 * (HOPS * us / 1000 + cost.storing) / (cost.text + cost.storing)
        for us, cost in zip(recorded, costs, strict=True)
    )
    return [
        Row(
            "telemetry",
            "telemetry: spans of every text recorded, everything stored",
            (
                Figure("hop", "µs", recorded),
                Figure("not sampled", "µs", left_out),
                Figure("storing", "ms/text", tuple(cost.storing for cost in costs)),
                Figure("share", "% of a text", shares),
                Figure("store", "octets/text", tuple(cost.store_octets for cost in costs)),
            ),
            (Goal("share", 5),),
            (
                f"{count} questions, {HOPS} hops each; {costs[-1].text:.2f} ms of processor per text",
                "storing is bounded to 4 % of a core besides",
            ),
        )
    ]
