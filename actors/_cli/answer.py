"""`evy triage`, `evy compress`, `evy pack` and `evy ask`: the parts of an answer, without a server."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from evy_core import segment
from rich.console import Console
from rich.text import Text

from actors._people.heard import language_detector
from actors._people.session import BEFORE_CHARACTERS
from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.config import load_config
from actors._runtime.context import MemoryContext, build_actors
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryBus
from actors.compress import actor as fitting
from actors.knowledge import ENGLISH, Texts, packer, shipped_compressor, triager
from subjects import names
from subjects.messages import OutboundSms, Query, Session

LONGEST_TEXT: Final = 40_000
"""Characters of one text on the command line: 255 SMS of 153."""


class Line(msgspec.Struct, frozen=True):
    """One line of ``--jsonl`` input."""

    text: str
    id: str | int | float | bool | None = None
    lang: str | None = None
    max_segments: int | None = None
    before: str = ""
    """`evy ask` only: the question that the person asked before this one."""

    def __post_init__(self) -> None:
        if self.max_segments is not None and not 1 <= self.max_segments <= 255:
            raise ValueError("max_segments: 1 to 255")
        if len(self.text) > LONGEST_TEXT:
            raise ValueError(f"text: {len(self.text)} characters, at most {LONGEST_TEXT}")


CLEAR_LANGUAGE: Final = 0.5
"""Confidence from which a text's language is believed: shortened by another language's rules it could lose a
«not»."""
UNKNOWN_LANGUAGE: Final = "und"
"""ISO 639-2 for undetermined."""

Answerer = Callable[[Line], Mapping[str, Any]]


def each_line(answer: Answerer) -> None:
    """Reads JSON objects from stdin and writes one per line to stdout, in the same order.

    A line that cannot be answered gives ``error`` (and its ``id`` when it has one), and the next goes on.
    """
    for octets in sys.stdin.buffer:
        if not octets.strip():
            continue
        given: Any = None
        try:
            given = msgspec.json.decode(octets)
            line = msgspec.convert(given, type=Line)
            result: Mapping[str, Any] = {"id": line.id, **answer(line)}
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, ValueError) as error:
            identity = given.get("id") if isinstance(given, dict) else None
            result = {"id": identity, "error": str(error)}
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


def one_or_many(
    text: tuple[str, ...], *, jsonl: bool, answer: Answerer, lang: str | None, most: int | None
) -> None:
    """The text on the command line for people, or the lines of stdin for programs."""
    if jsonl == bool(text):
        raise click.UsageError("give a text, or --jsonl and one JSON object a line on stdin")
    if jsonl:
        each_line(answer)
        return
    try:
        result = answer(Line(" ".join(text), lang=lang, max_segments=most))
    except ValueError as error:  # the text is too long, or no frame: said as in --jsonl
        raise click.ClickException(str(error)) from error
    console = Console(highlight=False, soft_wrap=True)
    for name, value in result.items():
        console.print(Text(f"{name:>12}  ", style="dim") + Text(_shown(value)))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    return "-" if value in (None, "") else str(value)


@click.command()
@click.argument("text", nargs=-1)
@click.option("--jsonl", is_flag=True, help='Read {"id", "text"} a line, write a verdict a line.')
def triage(text: tuple[str, ...], *, jsonl: bool) -> None:
    """Show how a text is judged: priority, needs, template, language, and why.

    \b
    Example: evy triage my brother is bleding a lot
    """  # noqa: D301  # \b is click's mark against re-wrapping
    shipped = triager()

    def answer(line: Line) -> Mapping[str, Any]:
        [found] = shipped.classify([line.text])
        return {
            "priority": found.priority,
            "needs": found.needs,
            "template": found.template,
            "lang": found.lang,
            "confidence": round(found.confidence, 3),
            "why": [{"cue": cue, "text": line.text[start:end]} for cue, start, end in found.why]
            if jsonl
            else [f"{cue} «{line.text[start:end]}»" for cue, start, end in found.why],
        }

    one_or_many(text, jsonl=jsonl, answer=answer, lang=None, most=2)


@click.command()
@click.argument("text", nargs=-1)
@click.option("--jsonl", is_flag=True, help='Read {"id", "text", "lang", "max_segments"} a line.')
@click.option(
    "--max-segments", default=2, show_default=True, type=click.IntRange(1, 255), help="SMS per answer."
)
@click.option("--lang", help="Language of the text, ISO 639-1. Default: heard from the text.")
@click.option("--verbatim", is_flag=True, help="Clean-up that loses nothing only, as for a reviewed text.")
def compress(
    text: tuple[str, ...], *, jsonl: bool, max_segments: int, lang: str | None, verbatim: bool
) -> None:
    """Fit a text into SMS segments without losing what matters; the rest waits for MORE.

    Words are shortened in English, Spanish, French and Portuguese; a text in another language, or too
    short to tell, is only cleaned up.

    \b
    Example: evy compress --max-segments 1 "Please wash your hands with soap, for 20 seconds…"
    """  # noqa: D301  # \b is click's mark against re-wrapping
    compressor = shipped_compressor()

    def heard(said: str) -> str:
        [(found, confidence)] = triager().detect_lang([said])
        return found if confidence >= CLEAR_LANGUAGE else UNKNOWN_LANGUAGE

    def answer(line: Line) -> Mapping[str, Any]:
        spoken = (line.lang or lang or heard(line.text)).partition("-")[0].lower()
        [fitted] = compressor.fit(
            [line.text], [spoken], [verbatim], [line.max_segments or max_segments], [""]
        )
        return {
            "text": fitted.text,
            "segments": fitted.segments,
            "encoding": fitted.encoding,
            "octets_in": fitted.octets_in,
            "octets_out": fitted.octets_out,
            "dropped": fitted.dropped,
            "rest": fitted.rest,
            "lang": spoken,
        }

    one_or_many(text, jsonl=jsonl, answer=answer, lang=lang, most=max_segments)


@click.command()
@click.argument("text", nargs=-1)
@click.option("--jsonl", is_flag=True, help='Read {"id", "text"} a line, write octets in and out a line.')
@click.option("--same", is_flag=True, help="The receiver knows the same texts: send those by their name.")
@click.option("--unpack", is_flag=True, help="The other way: a frame in hexadecimal gives the text.")
def pack(text: tuple[str, ...], *, jsonl: bool, same: bool, unpack: bool) -> None:
    """Pack a text for the radio, without losing anything: the octets that a frame would carry.

    Never more than one octet longer than the text in UTF-8. What every octet means is in docs/pack.md.

    \b
    Example: evy pack we are 5 people on the roof, water is rising
    """  # noqa: D301  # \b is click's mark against re-wrapping
    shipped = packer(Texts.load())

    def answer(line: Line) -> Mapping[str, Any]:
        if unpack:
            frame = bytes.fromhex(line.text)
            [said] = shipped.unpack([frame])
            return {"octets_in": len(frame), "octets_out": len(said.encode()), "text": said}
        [frame] = shipped.pack([line.text], to_same=same)
        return {"octets_in": len(line.text.encode()), "octets_out": len(frame), "frame": frame.hex()}

    one_or_many(text, jsonl=jsonl, answer=answer, lang=None, most=2)


@click.command()
@click.argument("text", nargs=-1)
@click.option("--jsonl", is_flag=True, help='Read {"id", "text", "lang", "max_segments", "before"} a line.')
@click.option(
    "--max-segments",
    type=click.IntRange(1, 255),
    help="SMS per answer. Default: 2, and 3 for a reviewed text in Hindi or Arabic.",
)
@click.option("--lang", help="Answer in this language, as LANG sets it. Default: the text's own.")
@click.pass_obj
def ask(
    path: Path | None, text: tuple[str, ...], *, jsonl: bool, max_segments: int | None, lang: str | None
) -> None:
    """Answer a text as a node would: triage, retrieval, model, post-check. No server, no modem.

    \b
    Example: evy ask how do I make water safe
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    identity = Identity("ask", b"no pseudonym leaves this process", "ask")
    with asyncio.Runner() as runner:
        asker = runner.run(Asker.open(MemoryContext(config, identity), max_segments))
        try:
            one_or_many(
                text,
                jsonl=jsonl,
                answer=lambda line: runner.run(asker.answer(line)),
                lang=lang,
                most=max_segments,
            )
        finally:
            runner.run(asker.close())


class Asker:
    """The actors between ``route`` and ``sms.out``, run one after the other in this process."""

    def __init__(self, context: MemoryContext, actors: list[Actor], max_segments: int | None) -> None:
        self._context = context
        self._actors = actors
        self._max_segments = max_segments
        self._compressor = shipped_compressor()
        self._texts = Texts.of_node(context.config.node.directory, context.config.node.emergency_number)
        self._language_of = language_detector(triager())
        self._count = 0

    @classmethod
    async def open(cls, context: MemoryContext, max_segments: int | None) -> "Asker":
        """Builds the actors; the small model is loaded when a text first needs it."""
        return cls(context, await build_actors(("route", "rag", "infer_small"), context), max_segments)

    async def _fitting(self, max_segments: int | None) -> Actor:
        more = await self._context.bucket("more")
        answered = await self._context.bucket("answered")
        emit = self._context.emit
        return fitting("ask", self._compressor, more, answered, self._texts, emit, max_segments)

    async def close(self) -> None:
        """Closes the actors."""
        for actor in self._actors:
            await actor.close()

    async def answer(self, line: Line) -> Mapping[str, Any]:
        """What a node would text back."""
        self._count += 1
        started = time.monotonic()
        before = line.before[:BEFORE_CHARACTERS]
        session = Session(
            line.lang or self._language_of(line.text, "") or ENGLISH,
            lang_chosen=line.lang is not None,
            before=before,
        )
        query = Query(
            id=f"ask{self._count}",
            node="ask",
            sender_ref="you",
            text=line.text,
            lang=session.lang,
            lane="routine",
            deadline=clock.deadline_in(self._context.config.node.answer_within_s),
            session=session,
            received_at=time.time(),
        )
        actors = [*self._actors, await self._fitting(line.max_segments or self._max_segments)]
        bus = MemoryBus(self._context.identity, deliveries=1)
        left = await bus.run(actors, Output(names.ROUTE, query.lane, query, query.id))
        reply = next(m for m in left if isinstance(m, OutboundSms) and m.kind == "reply")
        also = {m.kind: m.text for m in left if isinstance(m, OutboundSms)}
        beside = {"further": also.get("followup"), "notice": also.get("notice")}
        self._context.events.clear()
        return {
            "answer": reply.text,
            "segments": segment([reply.text])[0].count,
            "step": reply.step,
            "sources": list(reply.sources),
            "lang": reply.lang,
            "ms": round((time.monotonic() - started) * 1000),
            **{name: text for name, text in beside.items() if text},
        }
