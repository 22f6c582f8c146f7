"""One process of a scenario, that may die at any moment: ``python -m tests.scenarios.worker ROLE TOML``.

``compress`` and ``sms`` are the real actors, ``sms`` with a modem whose air is a file. ``infer_large`` stands
in for the model, which is not under test: the runtime around it is the real one. Beside ``compress`` runs
the real actor `link`, as under `evy up`. ``feed`` publishes queries as ``rag`` does.
``line`` is the bad network between an edge and the centre. What each of them sees is appended to a file of
JSON lines under ``log/`` in its data directory, see :mod:`tests.scenarios.truth`.
"""

import asyncio
import os
import select
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from actors import compress as compress_actor
from actors import link as link_actor
from actors import sms as sms_actor
from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.context import BusContext
from actors._runtime.identity import load_identity
from actors._runtime.process import log_to_stderr, run_until_signal, serve
from actors._runtime.provision import Place
from actors.sms.modem import Opened, Part, Received, Report
from actors.sms.outbox import Outbox
from simulators.link import Link, take_orders
from subjects import names
from subjects.messages import Answer, Query, answer_to
from tests.scenarios.truth import Log, Saw, lane_of, number_of, query_name

AGAIN_S = 0.2


class FileModem:
    """A modem that is always there, and whose air is a log: a line, on the disk, is a text that was sent.

    Its TP-MR outlives the process, as EF_SMSS does (3GPP TS 51.011 §10.5.7).
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._count = 0

    def open(self) -> Opened:
        """Ready at once."""
        self._count = sum(1 for _ in self._log.read())
        return Opened(last_reference=self._count % 256)

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:  # noqa: ARG002  # none come
        """Nothing comes."""
        return [], []

    def wait(self, wake: int, timeout_s: float) -> bool:
        """Nothing comes; waits to be asked."""
        select.select([wake], [], [], timeout_s)
        return False

    def status(self) -> dict[str, str]:
        """Nothing to tell."""
        return {}

    def restart(self) -> None:
        """Nothing hangs."""

    def delete(self, location: int) -> None:
        """There is nothing."""

    def send_part(self, part: Part) -> int:
        """Sends."""
        self._log.write(Saw(part.text, time.monotonic(), part.number))
        self._count += 1
        return self._count % 256

    def close(self) -> None:
        """Nothing to let go of."""


async def build_sms(context: BusContext, log: Log) -> Actor:
    """The actor `sms` as it builds itself, but with another modem."""
    identity = context.identity
    entries, numbers = await context.bucket("ledger"), await context.bucket("numbers")
    outbox = Outbox(await context.bucket("outbox"), entries, numbers, context.publish, context.emit)
    sms = sms_actor.Sms(
        config=sms_actor.SmsConfig(device="file", poll_interval_s=0.05),
        identity=identity,
        drivers={"modem": FileModem(log)},
        lane_of=lambda _: "routine",
        ledger=entries,
        parts=await context.bucket("parts"),
        modems=await context.bucket("modems"),
        outbox=outbox,
        numbers=numbers,
        consent=await context.bucket("consent"),
        bulletins=await context.bucket("bulletins"),
        publish=context.publish,
        dead_letter=context.dead_letter,
        emit=context.emit,
    )
    return Actor("sms", {names.SMS_OUT: sms.handle}, tasks=[sms.run])


async def build_compress(context: BusContext, log: Log) -> Actor:
    """The actor `compress`; what it is given is noted before it is handled."""
    real = await compress_actor.build(context)
    handler = real.handlers[names.COMPRESS]

    async def handle(answer: Answer) -> Sequence[Output]:
        log.write(Saw(answer.query_id, time.monotonic()))
        return await handler(answer)

    return Actor(real.name, {names.COMPRESS: handle}, real.tasks, real.close)


async def build_infer_large(context: BusContext, log: Log) -> Actor:
    """A centre that knows one answer: the name of the query."""
    return answering(log, "Answer to {}")


async def build_solder(context: BusContext, log: Log) -> Actor:
    """A centre that knows one answer, which says more than «I do not know»."""
    return answering(log, "Heat the joint with the torch, not the rod; brush flux on it first. Reference {}")


def answering(log: Log, words: str) -> Actor:
    """The actor `infer_large` as far as others see it; ``{}`` in its words is the query."""

    async def handle(query: Query) -> Sequence[Output]:
        log.write(Saw(query.id, time.monotonic()))
        answer = answer_to(query, "verbatim", words.format(query.id), by_centre=True)
        return [Output(names.down(query.node, names.COMPRESS), query.lane, answer, query.id)]

    return Actor("infer_large", {names.INFER_LARGE: handle})


ROLES = {
    "compress": build_compress,
    "sms": build_sms,
    "infer_large": build_infer_large,
    "solder": build_solder,
}


def work(role: str, config: Config) -> int:
    """Runs one actor as `evy run` does."""
    node = config.node
    log = Log(node.directory, role)

    async def build(bus: NatsBus) -> Sequence[Actor]:
        context = BusContext(config, bus)
        beside = [await link_actor.build(context)] if role == "compress" else []
        return [await ROLES[role](context, log), *beside]

    identity = load_identity(node.name, node.directory)
    return run_until_signal(lambda stop: serve(identity, Place.of(node), node.url, [role], build, stop))


class Plan(msgspec.Struct, frozen=True):
    """What a feeder publishes: ``count`` queries of each sender, each when the last one is acknowledged."""

    batch: str
    senders: int
    count: int
    pause_s: float = 0.0


async def feed(config: Config, plan: Plan) -> int:
    """Publishes until everything is acknowledged; started again it goes on where it was."""
    node = config.node
    identity = load_identity(node.name, node.directory)
    log = Log(node.directory, "acknowledged")
    acknowledged = {saw.what for saw in log.read()}
    bus = await NatsBus.connect(identity, node.url, "feed")
    numbers = await bus.bucket("numbers")

    async def sender(index: int) -> None:
        number = number_of(index)
        reference = identity.sender_ref(number)
        lane = lane_of(index)
        while True:
            try:
                await numbers.put(reference, number.encode())
                break
            except BusError:
                await asyncio.sleep(AGAIN_S)
        for count in range(plan.count):
            name = query_name(plan.batch, node.name, index, count)
            if name in acknowledged:
                continue
            query = Query(
                id=name,
                node=node.name,
                sender_ref=reference,
                text=f"Question {name}?",
                lang="en",
                lane=lane,
                deadline=clock.deadline_in(15),
                asked=True,
                wait=clock.deadline_in(node.wait_s),
            )
            while True:
                try:
                    await bus.publish(Output(names.INFER_LARGE, lane, query, name), "rag")
                    break
                except BusError:
                    await asyncio.sleep(AGAIN_S)
            log.write(Saw(name, time.monotonic(), number))
            await asyncio.sleep(plan.pause_s)

    await asyncio.gather(*(sender(index) for index in range(plan.senders)))
    await bus.close()
    return 0


class Ends(msgspec.Struct, frozen=True):
    """Where an edge's line begins and ends: one pair for each server of the centre."""

    listen: tuple[tuple[str, int], ...]
    to: tuple[tuple[str, int], ...]
    seed: int


async def line(directory: Path, ends: Ends) -> int:
    """A proxy for each pair, with a control socket ``line<n>``; the same seed lets them fail as one line."""
    async with AsyncExitStack() as stack:
        for number, (here, there) in enumerate(zip(ends.listen, ends.to, strict=True)):
            link = await stack.enter_async_context(Link(here, there, seed=ends.seed))
            await stack.enter_async_context(take_orders(link, directory / f"line{number}"))
        await asyncio.Event().wait()
    return 0


def main(arguments: Sequence[str]) -> int:
    """Runs one role; what follows its name depends on it."""
    log_to_stderr()
    role, *rest = arguments
    if role == "line":
        return asyncio.run(line(Path(rest[0]), msgspec.json.decode(rest[1], type=Ends)))
    config = load_config(Path(rest[0]))
    if role == "feed":
        plan = msgspec.json.decode(rest[1], type=Plan)
        return run_until_signal(lambda _: feed(config, plan))
    return work(role, config)


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))  # a thread of the modem must not keep a process that has ended
