"""Ordinary questions through the whole node: real search, real model, everything but the modem."""

import time
from collections import Counter

import evy_core

from actors._runtime.actor import Actor
from actors.infer_small import SHIPPED, ModelUnavailableError, XllamaModel, find
from actors.knowledge import Texts, route_rules, triager
from actors.rag import KnowledgeIndex
from subjects import names
from subjects.messages import Event, OutboundSms
from tests.bench import flow
from tests.bench.node import on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting, SkippedError, spread

PERCENTS = (50, 95)


def measure(setting: Setting) -> list[Row]:
    """Answers sent as written and answers that went by the model, apart; the model's load and the index's."""
    try:
        loads = tuple(_load_s() for _ in range(1 if setting.quick else 3))
    except ModelUnavailableError as error:
        raise SkippedError(str(error)) from error
    started = time.perf_counter()
    index = KnowledgeIndex.open(setting.directory / "index", Texts.load())
    built_s = time.perf_counter() - started
    sure, unsure = _chosen(index, setting.count(40, 2), setting.count(10, 1))
    index.close()
    turns = range(min(setting.repeats, 3))
    answers = [on_uvloop(_run(setting, turn, sure, unsure)) for turn in turns]
    written = [[ms for ms, by_model, _ in run if not by_model] for run in answers]
    modelled = [[ms for ms, by_model, _ in run if by_model] for run in answers]
    rows = [
        Row(
            "model-load",
            "small model: load, checksum included; search index: build at first start",
            (Figure("load", "s", loads), Figure("index", "s", (built_s,))),
        )
    ]
    for name, what, runs, limit in (
        ("answer-verbatim", "answer as written: search included, modem excluded", written, 300),
        ("answer-model", "answer after the small model wrote: modem excluded", modelled, 5000),
    ):
        steps = Counter(
            reply.step for run in answers for _, model, reply in run if model == (runs is modelled)
        )
        note = (
            f"{sum(map(len, runs))} questions of tests/vectors, one at a time, sms.in published to sms.out "
            f"delivered; steps {', '.join(f'{n} {step}' for step, n in steps.most_common())}"
        )
        if all(runs):
            rows.append(Row(name, what, spread(runs, "ms", PERCENTS), (Goal("p95", limit),), (note,)))
        else:
            rows.append(Row(name, what, skipped="no question took this way"))
    return rows


def _load_s() -> float:
    model = XllamaModel(find("", SHIPPED))
    started = time.perf_counter()
    model.generate("", "x", 1, 60)
    loaded_s = time.perf_counter() - started
    started = time.perf_counter()
    model.generate("", "x", 1, 60)
    again_s = time.perf_counter() - started
    model.unload()
    return loaded_s - again_s


def _chosen(index: KnowledgeIndex, sure: int, unsure: int) -> tuple[list[str], list[str]]:
    """Questions that the search is sure of, and some of which it is nearly so: those the model gets."""
    router = evy_core.Router(route_rules())
    found: tuple[list[str], list[str]] = ([], [])
    for text in flow.questions():
        best = next(iter(index.search(text, "en", 1)), None)
        [judged] = triager().classify([text])
        # An emergency gets its template, and the small model writes English only.
        if best is None or judged.priority == "emergency" or {best.lang, judged.lang} != {"en"}:
            continue
        score = best.score
        if score < router.unsure:
            continue
        found[score < router.sure].append(text)
        if len(found[0]) >= sure and len(found[1]) >= unsure:
            break
    return found[0][:sure], found[1][:unsure]


async def _run(
    setting: Setting, turn: int, sure: list[str], unsure: list[str]
) -> list[tuple[float, bool, OutboundSms]]:
    """Milliseconds, whether the model wrote something, and the reply, of each question."""
    generated: set[str] = set()
    directory = setting.directory / f"answers-{turn}"
    tables = {"rag": {"index": str(setting.directory / "index")}}
    warm_up = [] if setting.quick else unsure[:1]  # the first one would pay for the model's load
    texts = list(flow.from_many([*warm_up, *sure, *unsure], len(warm_up) + len(sure) + len(unsure)))
    async with running_node(directory, tables=tables) as node:
        emit = node.context.emit

        def note(event: Event) -> None:
            if event.kind == "generated":
                generated.add(event.query_id)
            emit(event)

        node.context.emit = note
        arrivals = flow.Arrivals()
        actors = await flow.build_between(node.context, retrieval=True)
        sms = Actor("sms", {names.SMS_OUT: arrivals.handle})
        async with node.running([sms, *actors]):
            answers = await flow.one_by_one(node, texts, arrivals)
    return [(ms, reply.query_id in generated, reply) for ms, reply in answers[len(warm_up) :]]
