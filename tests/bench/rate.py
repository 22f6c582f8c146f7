"""How many texts a second EVY passes on and loses none, beside the bare chain on the same server set-up."""

import asyncio
import functools
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from subjects import registry
from tests.bench import chain
from tests.bench.flow import build_between, emergencies, from_many, questions
from tests.bench.node import MemoryModem, Node, build_sms, on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting


class Passed(msgspec.Struct, frozen=True):
    """One run of many texts."""

    texts: int
    seconds: float
    answered: int
    doubled: int
    work_messages: int
    key_value_writes: int
    cpu_s: tuple[float, float]
    """Of the process under test, of the server."""

    @property
    def rate(self) -> float:
        """Texts per second."""
        return self.texts / self.seconds


async def pass_through(
    directory: Path, texts: Sequence[tuple[str, str]], *, retrieval: bool, under: Sequence[str] = ()
) -> Passed:
    """Sends texts, each of another phone, and waits until each has its reply."""
    modem = MemoryModem()
    async with running_node(directory, under) as node:
        actors = [
            await build_sms(node.context, modem),
            *await build_between(node.context, retrieval=retrieval),
        ]
        async with node.running(actors):
            stored, cpu = await node.stored(), node.cpu_s()
            started = time.perf_counter()
            modem.arrive(texts)
            async with asyncio.timeout(600):
                while len({number for number, _ in modem.replies()}) < len(texts):
                    await asyncio.sleep(0.05)
            used = node.cpu_s()
        replies = list(modem.replies())
        after = await node.stored()
    count = Counter(number for number, _ in replies)
    return Passed(
        texts=len(texts),
        seconds=max(at for _, at in replies) - started,
        answered=sum(number in count for number, _ in texts),
        doubled=sum(times - 1 for times in count.values()),
        work_messages=after[0] - stored[0],
        key_value_writes=after[1] - stored[1],
        cpu_s=(used[0] - cpu[0], used[1] - cpu[1]),
    )


class Chained(msgspec.Struct, frozen=True):
    """One run of a chain: texts per second, and processor seconds of client and server."""

    rate: float
    cpu_s: tuple[float, float]


async def bare(
    directory: Path,
    texts: int,
    under: Sequence[str] = (),
    run: Callable[[Node, int], Awaitable[float]] = chain.run,
) -> Chained:
    """A run of the bare chain, or of another one."""
    async with running_node(directory, under) as node:
        before = node.cpu_s()
        seconds = await run(node, texts)
        after = node.cpu_s()
    return Chained(texts / seconds, (after[0] - before[0], after[1] - before[1]))


def sustained(setting: Setting) -> list[Row]:
    """The bare chain and EVY in turn, so that both meet the same load of the machine."""
    count = setting.count(400, 40)
    asked, urgent = list(from_many(list(questions()), count)), list(from_many(emergencies(), count))
    chains: list[Chained] = []
    under_runtime: list[Chained] = []
    as_durable: list[Chained] = []
    runs: dict[str, list[Passed]] = {"questions": [], "emergencies": []}
    for turn in range(setting.repeats):
        folder = setting.directory / f"rate-{turn}"
        chains.append(on_uvloop(bare(folder / "bare", count)))
        under_runtime.append(on_uvloop(bare(folder / "runtime", count, run=chain.run_under_runtime)))
        for name, texts in (("questions", asked), ("emergencies", urgent)):
            runs[name].append(on_uvloop(pass_through(folder / name, texts, retrieval=False)))
        writes = round(runs["questions"][0].key_value_writes / count)
        as_durable.append(
            on_uvloop(bare(folder / "durable", count, run=functools.partial(chain.run, writes=writes)))
        )
    what = f"{len(chain.HOPS)} publish + ack_sync hops, {chain.KEY_VALUE_WRITES} KV writes"
    rates = [run.rate for run in chains]
    share = _ratio(runs["questions"], as_durable)
    return [
        Row(
            "chain",
            f"bare chain: {what}",
            (Figure("rate", "texts/s", tuple(rates)),),
            notes=(f"{count} texts, {chain.IN_FLIGHT} in flight per hop; {_cpu(chains, count)}",),
        ),
        Row(
            "chain-runtime",
            "the same hops under EVY's runtime, handlers that do nothing",
            _rates(under_runtime, rates),
            notes=(f"{registry.Slots().routine} in flight per hop (one lane); {_cpu(under_runtime, count)}",),
        ),
        *(_rate_row(name, passed, rates) for name, passed in runs.items()),
        Row(
            "chain-durable",
            f"bare chain with as many KV writes as a question has here ({writes}), for comparison",
            _rates(as_durable, rates),
            notes=(f"questions pass at {share:.2f} of it; {_cpu(as_durable, count)}",),
        ),
    ]


def _ratio(runs: Sequence[Passed], chains: Sequence[Chained]) -> float:
    """Median of the ratios of each turn."""
    return statistics.median(run.rate / bare.rate for run, bare in zip(runs, chains, strict=True))


def _rates(runs: Sequence[Chained | Passed], chain_rates: Sequence[float]) -> tuple[Figure, Figure]:
    """Rate and ratio to the bare chain of the same turn."""
    ratios = tuple(run.rate / rate for run, rate in zip(runs, chain_rates, strict=True))
    return (
        Figure("rate", "texts/s", tuple(run.rate for run in runs)),
        Figure("ratio", "of the bare chain", ratios),
    )


def _cpu(runs: Sequence[Chained | Passed], texts: int) -> str:
    """Processor milliseconds per text: what a busy machine changes least."""
    own, server = (statistics.median(run.cpu_s[part] / texts * 1000 for run in runs) for part in (0, 1))
    return f"processor per text {own:.2f} ms here and {server:.2f} ms in the server"


_WHAT = {
    "questions": "sustained: questions, a look-up instead of the search, modem excluded",
    "emergencies": "sustained: emergencies with alert, modem excluded",
}


_SET_UP = (
    "real sms, intake, route, rag, compress, alert in one process with one connection; a modem of no delay, "
    f"SIM of {MemoryModem.SIM_CAPACITY}; every text from a phone unknown so far"
)


def _rate_row(name: str, runs: Sequence[Passed], chain_rates: Sequence[float]) -> Row:
    last = runs[-1]
    per_text = (
        f"per text {last.work_messages / last.texts:.2f} work messages, "
        f"{last.key_value_writes / last.texts:.2f} key-value writes; {_cpu(runs, last.texts)}"
    )
    return Row(
        f"sustained-{name}",
        _WHAT[name],
        (
            *_rates(runs, chain_rates),
            Figure("lost", "texts", (sum(run.texts - run.answered for run in runs),)),
            Figure("doubled", "texts", (sum(run.doubled for run in runs),)),
        ),
        (Goal("ratio", 0.6, at_least=True), Goal("lost", 0), Goal("doubled", 0)),
        (_SET_UP, per_text),
    )
