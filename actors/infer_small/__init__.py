"""Actor ``infer_small``: the edge model, grounded in passages, and what to say when it cannot help.

It joins and shortens reviewed passages and makes small talk; it is never the author of medical, chemical or
rescue advice. Whatever stops it (no file, no time, another language, an emergency) the person still gets
the best passage as it was written, or an honest "I do not know".
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import psutil
from evy_core import Router

from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.infer_small import prompt
from actors.infer_small.files import SHIPPED, ModelFile, ModelUnavailableError, find
from actors.infer_small.llama import LlamaModel
from actors.infer_small.manager import Models
from actors.infer_small.model import Generation, Model
from actors.infer_small.thread import ModelThread
from actors.infer_small.xllama import XllamaModel
from actors.knowledge import Texts, route_rules
from subjects import names
from subjects.messages import Answer, Deadline, Event, Passage, Query, Step, answer_to
from subjects.node_state import MEGABYTE

__all__ = [
    "SHIPPED",
    "Generation",
    "LlamaModel",
    "Model",
    "ModelFile",
    "ModelUnavailableError",
    "Models",
    "Runtime",
    "XllamaModel",
    "actor",
    "build",
    "find",
]

Runtime = Literal["xllamacpp", "llama-cpp-python"]
"""The package that runs a model: prebuilt, or built on the node (`make llama`)."""

RUNTIMES: Final[Mapping[Runtime, Callable[[ModelFile, int], Model]]] = {
    "xllamacpp": XllamaModel,
    "llama-cpp-python": LlamaModel,
}

IDLE_S: Final = 300.0
"""The model's memory is given back after so long without a question."""

MAX_GENERATE_S: Final = 15.0
"""A person waits no longer for a better wording of what we could send at once."""

TELL_EVERY_S: Final = 60.0
"""How often it is told whether there is a model: a node on the mesh is asked, or asks, by it."""

LOOK_EVERY_S: Final = 5.0
"""How often the node's state is looked at while a model is loaded."""

RESERVE_S: Final = 2.0
"""Left before the deadline for the post-check and the modem."""


def actor(
    node: str,
    model: Model,
    texts: Texts,
    emit: Emit,
    *,
    remaining_s: Callable[[Deadline], float] = clock.remaining_s,
    now: Callable[[], float] = time.time,
    idle_s: float = IDLE_S,
    max_generate_s: float = MAX_GENERATE_S,
    obstacle: Callable[[], str | None] = lambda: None,
    look_every_s: float = LOOK_EVERY_S,
    tell_every_s: float = TELL_EVERY_S,
) -> Actor:
    """Actor for ``infer.small``; closing it unloads the model.

    ``obstacle`` tells why the node's power or memory forbids the model now: a query may have waited since it
    was sent here, and what is loaded is given back.

    ``remaining_s`` reads the boot clock, ``now`` gives Unix time for events. A missing or wrong model file
    is reported as an event at once, with its fix, and the ladder goes on without it.
    """
    ladder = _Ladder(node, model, texts, emit, now, remaining_s, ModelThread(model, idle_s), obstacle)

    async def handle(query: Query) -> Sequence[Output]:
        budget_s = min(max_generate_s, remaining_s(query.deadline) - RESERVE_S)
        return (Output(names.COMPRESS, query.lane, await ladder.answer(query, budget_s), query.id),)

    async def spare() -> None:
        while True:
            await asyncio.sleep(look_every_s)
            if model.loaded and (why := obstacle()):
                ladder.thread.unload()
                ladder.report("model_unloaded", reason=why)

    async def tell() -> None:
        while True:
            why = await asyncio.to_thread(missing)
            ladder.report("model_state", ready=not why, reason=why)
            await asyncio.sleep(tell_every_s)

    def missing() -> str:
        try:
            model.check()
        except ModelUnavailableError as error:
            return str(error)
        return ""

    if why := missing():
        ladder.report("model_unavailable", reason=why)
    return Actor("infer_small", {names.INFER_SMALL: handle}, (spare, tell), ladder.thread.close)


class InferSmallConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[infer_small]`` table."""

    model: str = ""
    """Name of an entry of ``models`` to prefer; empty: in their order. One that does not fit into free memory
    is passed over for the next."""
    models: str = ""
    """A ``models.toml`` of the node's own; a relative path lies in the data directory. Empty: EVY's."""
    threads: int = 0
    """Cores for the model; 0: what its entry says, else all but one."""
    runtime: Runtime = "xllamacpp"
    idle_s: float = IDLE_S
    max_generate_s: float = MAX_GENERATE_S


async def build(context: Context) -> Actor:
    """The actor of a node. A wrong table or ``models.toml`` is an error, a missing model file is not."""
    node = context.config.node
    config = context.config.section("infer_small", InferSmallConfig)
    models = node.directory / config.models if config.models else SHIPPED
    router, state = Router(route_rules()), context.node_state()

    def obstacle() -> str | None:
        at = state()
        return router.model_obstacle(
            battery_percent=at.battery_rule_percent, free_memory_mb=at.memory_rule_mb
        )

    def make(file: ModelFile) -> Model:
        return RUNTIMES[config.runtime](file, config.threads)

    def report(kind: str, reason: str) -> None:
        at = time.time()
        fields = {"reason": reason}
        context.emit(Event(kind=kind, node=context.identity.node, actor="infer_small", at=at, fields=fields))

    return actor(
        context.identity.node,
        Models(models, make, _free_mb, wanted=config.model, report=report),
        Texts.of_node(node.directory, node.emergency_number),
        context.emit,
        idle_s=config.idle_s,
        max_generate_s=config.max_generate_s,
        obstacle=obstacle,
        tell_every_s=TELL_EVERY_S,
    )


def _free_mb() -> float:
    return float(psutil.virtual_memory().available) / MEGABYTE


@dataclass(frozen=True, slots=True)
class _Ladder:
    """The rungs of this actor: the model's text, else the best passage as written, else "unsure"."""

    node: str
    model: Model
    texts: Texts
    emit: Emit
    now: Callable[[], float]
    remaining_s: Callable[[Deadline], float]
    thread: ModelThread
    obstacle: Callable[[], str | None]

    async def answer(self, query: Query, budget_s: float) -> Answer:
        """The answer to send, whatever happens to the model."""
        text, passages, reason = await self._write(query, budget_s)
        step: Step = "model" if text else "verbatim"
        if not text and query.passages:
            passages = prompt.notes(query)[:1]
            text = passages[0].text
        elif not text:
            follows = query.wait is not None and self.remaining_s(query.wait) > 0
            step, text = "unsure", self.texts.say("answer_follows" if follows else "unsure", query.lang)
        self.report("decided", query, step=step, reason=reason)
        answer = answer_to(query, step, text, passages)
        # A passage as written may be in another language than the question.
        return msgspec.structs.replace(answer, lang=passages[0].lang) if step == "verbatim" else answer

    async def _write(self, query: Query, budget_s: float) -> tuple[str, tuple[Passage, ...], str]:
        """A text by the model and the passages it rests on, or "" and why there is none."""
        if reason := prompt.refusal(query, self.model.langs):
            return "", (), reason
        if why := self.obstacle():
            return "", (), why
        if budget_s <= 0:
            return "", (), "no time left"
        tasks: list[prompt.Task] = []

        def generate(left_s: float) -> Generation:
            # Which model answers is only known now: it may have changed since the query came.
            able = self.model.ready()
            if reason := prompt.refusal(query, able.langs):
                raise ModelUnavailableError(reason)
            task = prompt.task(query, free=able.free)
            tasks.append(task)
            if task.choice and not task.choice.lines:
                return Generation("", 0, 0.0, "stop")  # it could say nothing but the whole passage
            most = task.most_tokens(able.max_answer_tokens)
            return self.model.generate(task.system, task.turn, most, left_s, task.grammar)

        try:
            made = await self.thread.run(query.lane, generate, budget_s)
        except ModelUnavailableError as error:
            self.report("model_unavailable", query, reason=str(error))
            return "", (), str(error)
        self.report("generated", query, tokens=made.tokens, ms=round(made.ms), finish=made.finish)
        text, passages = tasks[0].kept(made) if tasks else ("", ())
        if any(text == passage.text for passage in passages):
            return "", (), "the model left its passage as it was"
        return text, passages, "the model" if text else f"nothing usable from the model ({made.finish})"

    def report(self, kind: str, query: Query | None = None, **fields: object) -> None:
        """Publishes an event, about a query if there is one."""
        event = Event(kind=kind, node=self.node, actor="infer_small", at=self.now(), fields=fields)
        if query is not None:
            event = msgspec.structs.replace(
                event, query_id=query.id, sender_ref=query.sender_ref, lane=query.lane
            )
        self.emit(event)
