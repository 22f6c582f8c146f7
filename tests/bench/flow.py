"""Texts through EVY's real actors on a real server, modem excluded."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import evy_core

from actors import rag
from actors._runtime.actor import Actor, Output
from actors._runtime.clock import deadline_in
from actors._runtime.context import BusContext, build_actors
from actors.knowledge import Texts, route_rules, triage_files
from subjects import names
from subjects.messages import InboundSms, OutboundSms, Passage
from tests.bench.core import VECTORS
from tests.bench.node import RESPONDER, MemoryModem, Node, build_sms, on_uvloop, running_node
from tests.bench.rows import Goal, Row, Setting, spread
from tests.conftest import NODE

CONTACTS = f'[[contacts]]\nname = "Volunteer"\nnumber = "{RESPONDER}"\n'


def vectors(name: str) -> list[dict[str, Any]]:
    """Lines of a file of test vectors."""
    return [json.loads(line) for line in (VECTORS / name).read_text(encoding="utf-8").splitlines()]


def questions() -> dict[str, str]:
    """Questions that are no emergency, each with the id of the article that answers it."""
    triager = evy_core.Triager(triage_files())
    rows = [row for row in vectors("questions.jsonl") if row["expect"]]
    found = triager.classify([row["text"] for row in rows])
    return {
        row["text"]: row["expect"][0]
        for row, triage in zip(rows, found, strict=True)
        if triage.priority != "emergency"
    }


def emergencies() -> list[str]:
    """Texts that the triage takes for emergencies: they get a template and raise an alert."""
    texts = [row["text"] for row in vectors("triage.jsonl")]
    found = evy_core.Triager(triage_files()).classify(texts)
    return [text for text, triage in zip(texts, found, strict=True) if triage.priority == "emergency"]


def from_many(texts: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """``count`` texts in turn, each from a phone of its own: nobody is known and nothing is a repeat."""
    for index, text in enumerate(itertools.islice(itertools.cycle(texts), count)):
        yield f"+1555{index:07}", text


class LookUp:
    """Stands in for the search of the index: the article of a known question, surely. For what the
    bus and the other actors take, without the time of the embedding."""

    rebuilt = ""

    def __init__(self) -> None:
        articles = {article.id: article for article in Texts.load().articles()}
        self._of = {
            text: Passage(article, a.text, a.title, a.source.tag, a.lang, 1.0)
            for text, article in questions().items()
            if (a := articles[article])
        }

    def search(self, text: str, lang: str, limit: int) -> list[Passage]:  # noqa: ARG002  # as the index
        """The passage."""
        return [self._of[text]]

    def close(self) -> None:
        """Nothing to close."""


async def build_between(context: BusContext, *, retrieval: bool) -> list[Actor]:
    """The actors between `sms.in` and `sms.out`."""
    contacts = context.config.node.directory / "contacts.toml"
    contacts.write_text(CONTACTS, encoding="utf-8")
    actors = await build_actors(("intake", "route", "compress", "alert"), context)
    if retrieval:
        return [*actors, *await build_actors(("rag", "infer_small"), context)]
    texts = Texts.load()
    look_up: Any = LookUp()
    return [
        *actors,
        rag.actor(NODE, look_up, rag.by_rules(evy_core.Router(route_rules())), texts, context.emit),
    ]


class Arrivals:
    """In place of `sms`: notes when a text would be handed to the modem, and what kind it is."""

    def __init__(self) -> None:
        self.at: dict[str, tuple[float, OutboundSms]] = {}
        self.changed = asyncio.Event()

    async def handle(self, sms: OutboundSms) -> Sequence[Output]:
        """Notes the first reply to each query; alerts and notices pass by."""
        if sms.kind == "reply":
            self.at.setdefault(sms.query_id, (time.perf_counter(), sms))
            self.changed.set()
        return []

    async def of(self, query_id: str, timeout_s: float = 60) -> tuple[float, OutboundSms]:
        """Waits for the reply to a query."""
        async with asyncio.timeout(timeout_s):
            while query_id not in self.at:
                self.changed.clear()
                await self.changed.wait()
        return self.at[query_id]


def inbound(query_id: str, sender: str, text: str) -> InboundSms:
    """A text as `sms` publishes it."""
    return InboundSms(
        id=query_id,
        node=NODE,
        sender=sender,
        text=text,
        lane="routine",
        deadline=deadline_in(15),
        received_at=time.time(),
    )


async def one_by_one(
    node: Node, texts: Sequence[tuple[str, str]], arrivals: Arrivals
) -> list[tuple[float, OutboundSms]]:
    """Milliseconds from publishing each text on `sms.in` to its arrival from `sms.out`, and the reply."""
    measured = []
    for index, (sender, text) in enumerate(texts):
        sms = inbound(f"{index:032}", sender, text)
        started = time.perf_counter()
        await node.context.publish(Output(names.SMS_IN, sms.lane, sms, sms.id), "sms")
        at, reply = await arrivals.of(sms.id)
        measured.append(((at - started) * 1000, reply))
    return measured


def gateway(setting: Setting) -> list[Row]:
    """The whole way of an ordinary text at low load, five durable hops, without search and modem."""
    count = setting.count(200, 20)
    texts = list(from_many(list(questions()), count))

    async def run(turn: int) -> list[float]:
        async with running_node(setting.directory / f"gateway-{turn}") as node:
            arrivals = Arrivals()
            actors = await build_between(node.context, retrieval=False)
            sms = Actor("sms", {names.SMS_OUT: arrivals.handle})
            async with node.running([sms, *actors]):
                return [ms for ms, _ in await one_by_one(node, texts, arrivals)]

    runs = [on_uvloop(run(turn)) for turn in range(setting.repeats)]
    return [
        Row(
            "gateway",
            "gateway, modem and search excluded: sms.in published to sms.out delivered",
            spread(runs, "ms"),
            (Goal("p99", 20),),
            (f"{count} questions, one at a time; five durable hops",),
        )
    ]


async def singly(
    directory: Path, texts: Sequence[tuple[str, str]], under: Sequence[str] = ()
) -> tuple[float, float, list[float]]:
    """Texts through the real `sms`, each when the one before it has been answered and all is quiet again.

    Unix times of begin and end, and milliseconds from the modem showing a text to the reply's first part.
    """
    modem = MemoryModem()
    async with running_node(directory, under) as node:
        actors = [await build_sms(node.context, modem), *await build_between(node.context, retrieval=False)]
        async with node.running(actors):
            started = time.time()
            for answered, text in enumerate(texts, 1):
                modem.arrive([text])
                async with asyncio.timeout(60):
                    while len(list(modem.replies())) < answered or not await node.idle():
                        await asyncio.sleep(0.01)
            ended = time.time()
    return started, ended, [(at - modem.shown_at[number]) * 1000 for number, at in modem.replies()]


def emergency(setting: Setting) -> list[Row]:
    """From the moment the modem shows a text until its reply is handed to an idle modem."""
    count = setting.count(100, 15)
    texts = list(from_many(emergencies(), count))
    runs = [
        on_uvloop(singly(setting.directory / f"emergency-{turn}", texts))[2]
        for turn in range(setting.repeats)
    ]
    return [
        Row(
            "emergency",
            "emergency: text received to reply handed to an idle modem",
            spread(runs, "ms"),
            (Goal("p99", 100),),
            (f"{count} emergencies, one at a time, ledger entry included; see writes for its fsyncs",),
        )
    ]
