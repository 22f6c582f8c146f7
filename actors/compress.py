"""compress checks an answer against its passages and fits it into SMS segments.

Consumes ``compress``, publishes ``sms.out``, and later what had no answer on ``unanswered``. An answer that
is not verbatim must say what its passages say, before and after shortening; one that does not is replaced by
the best passage as it is written, or by an honest "I do not know". What does not fit waits in the bucket
``more``, of which this actor is the only writer, until the person texts MORE.

What the node took out of a question before it went to the centre (`actors/_masked.py`) is put back into the
answer before anything is checked, so the post-check sees what the person will read. An answer with a
placeholder that stands for nothing here is refused.

An answer to a question that came by mesh goes back there instead (``mesh.out``).

Two answers may come to a query that the centre has too. The first one here is the reply, kept in the bucket
``answered``; a later one of the centre becomes one follow-up, if it says something new and in time.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Final

import msgspec
from evy_core import Compressor, CoreError, Fitted, Router, Unsupported, segment

from actors._collected.leaving import leaving
from actors._masked import PLACEHOLDER, restored, taken
from actors._retrieval.confidence import UNSURE
from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.context import Context
from actors._runtime.state import change
from actors.knowledge import Texts, route_rules, shipped_compressor
from subjects import names
from subjects.errors import ConfigError
from subjects.mesh import MeshPacket
from subjects.messages import Answer, Deadline, Event, OutboundSms, Passage
from subjects.names import Lane

MAX_SEGMENTS: Final = 2
"""SMS of one answer; articles are written to fit two with their source …"""

MAX_UCS2_SEGMENTS: Final = 3
"""… and three where their letters are outside GSM 7-bit."""

REMEMBERED: Final = 8
"""Queries of one person whose answers are remembered, so that a redelivered one changes nothing: 8 × 300
octets at most."""

MOST_TAGS: Final = 2
"""Sources that a text names: two passages at most are joined."""

Brevity = Callable[[Lane], str | None]
"""Why an answer of a lane should take one segment now; None when it may take all."""

Thrift = Callable[[Lane], str | None]
"""Why an answer of a lane should take the fewest segments that hold all of it; None when it may be longer."""

Note = Callable[[Answer], None]
"""Sees what a person gets; returns at once and never fails."""

ADVICE: Final = frozenset(("substance", "action", "phone"))
"""Findings of the post-check that count against an answer which rests on the centre's library."""

_DOSE: Final = re.compile(
    r"\d\s*(mg|mcg|[µu]g|g|ml|cl|cc|i?u|drops?|gotas?|gouttes?|tablets?|pills?|capsules?|puffs?|comprim\w+|tablet\w+|"
    r"pastillas?|c[aá]psulas?|g[eé]lules?|(tea|table)?spoons?|tsp|tbsp|cuchara\w*|cuill\w+|colher\w*|matone|vidonge)\b",
    re.IGNORECASE,
)
"""A quantity as remedies and poisons are measured."""

GOES_ON: Final = "..."
"""What the core writes where it cuts within a sentence."""


NEW_WORDS: Final = 4
NEW_SHARE: Final = 0.25
"""A follow-up has at least so many words, and so great a share of its words, that the person has not read."""

_WORD = re.compile(r"[^\W_]{4,}")


class Answered(msgspec.Struct, frozen=True):
    """The reply to a query that two may answer: who made it, and its text."""

    by_centre: bool
    text: str


class Remainder(msgspec.Struct, frozen=True):
    """What one person has not read yet."""

    rest: str = ""
    lang: str = "en"
    sources: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    """Queries whose answers were kept here: delivered again, they must not bring old text back."""
    given: tuple[tuple[str, str], ...] = ()
    """The last MOREs, each with the text it got: delivered again, it gets the same one."""


class Compress:
    """Handler of ``compress``."""

    def __init__(  # noqa: PLR0917  # the same order as :func:`actor`
        self,
        node: str,
        compressor: Compressor,
        more: KeyValue,
        answered: KeyValue,
        texts: Texts,
        emit: Emit,
        max_segments: int | None = None,
        brevity: Brevity = lambda _: None,
        thrift: Thrift = lambda _: None,
        note: Note = lambda _: None,
        *,
        masked: KeyValue | None = None,
        now: Callable[[], float] = time.time,
        remaining_s: Callable[[Deadline], float] = clock.remaining_s,
    ) -> None:
        self._node = node
        self._compressor = compressor
        self._more = more
        self._answered = answered
        self._masked = masked
        self._remaining_s = remaining_s
        self._texts = texts
        self._emit = emit
        self._max_segments = max_segments
        self._brevity = brevity
        self._thrift = thrift
        self._note = note
        self._now = now
        for lang in texts.languages:
            try:
                self._fit("", lang, 1, verbatim=True)
            except CoreError as error:
                raise ConfigError(f"notice more_hint in {lang!r}: {error}; shorten it") from error

    async def handle(self, answer: Answer) -> Sequence[Output]:
        """One text to send. The same answer gives the same text, also after a crash in between."""
        if answer.more:
            return [await self._next_piece(answer)]
        if answer.origin:
            return await self._for_node(answer)
        answer, personal, strange = await self._restored(answer)
        answer, refused = self._supported(answer, strange=strange)
        if answer.asked:
            placed = await self._as_told(answer)
            if placed is None:
                return []
            answer = placed
        return [await self._send(answer, refused, personal=personal)]

    async def _for_node(self, answer: Answer) -> Sequence[Output]:
        """An answer to a question that came by mesh: checked here, where its passages are, and as short as an
        SMS. Who asked is at the other node, which knows what its placeholders stand for and what its person
        has read. Nothing is sent to say that nothing is known: that node has said so."""
        stated = msgspec.structs.replace(answer, text=PLACEHOLDER.sub(" ", answer.text))
        checked, refused = self._supported(stated, strange="")
        if checked is not stated:
            answer = checked
        segments = self._segments(answer, "airtime")
        fitted = self._fit(answer.text, answer.lang, segments, verbatim=answer.verbatim, brief=True)
        whole = PLACEHOLDER.sub(" ", self._whole(fitted, answer.lang))
        if not answer.verbatim and (harmed := self._check(answer, whole)):
            answer, refused = self._fall_back(answer), harmed
            fitted = self._fit(answer.text, answer.lang, self._segments(answer, None), verbatim=True)
        text = self._without_hint(fitted, answer.lang) if fitted.rest else fitted.text
        useless = "nothing is known here" if answer.step == "unsure" or answer.kind != "reply" else ""
        mine = Answered(answer.by_centre, text)
        if useless or await self._first(answer.query_id, mine) != mine:
            self._report(answer, "superseded", reason=useless or "another answer has left")
            return []
        self._report(
            answer,
            "fitted",
            step=answer.step,
            purpose="mesh",
            by_centre=answer.by_centre,
            segments=fitted.segments,
            octets_in=fitted.octets_in,
            octets_out=fitted.octets_out,
            rest=len(fitted.rest),
            refused=[piece.reason for piece in refused],
        )
        told = msgspec.structs.replace(answer, text=text, question="", passages=())
        packet = MeshPacket(
            node=self._node,
            lane=answer.lane,
            query_id=answer.query_id,
            peer=int(answer.origin.partition(".")[0]),
            until=answer.wait,
            answer=told,
        )
        return [Output(names.MESH_OUT, answer.lane, packet, answer.query_id, "mesh")]

    async def _restored(self, answer: Answer) -> tuple[Answer, bool, str]:
        """The answer with its placeholders put back, and whether there were any; or as it is, and what is
        strange about it."""
        if answer.verbatim or not answer.by_centre:
            return answer, False, ""
        stands = await taken(self._masked, answer.query_id) if self._masked else {}
        text = restored(answer.text, stands)
        if text is None:
            return answer, False, "a placeholder that stands for nothing here"
        return msgspec.structs.replace(answer, text=text), text != answer.text, ""

    async def _as_told(self, answer: Answer) -> Answer | None:
        """An answer to a query that the centre has too, as its person gets it: as the reply, as a follow-up,
        or not at all."""
        mine = Answered(answer.by_centre, answer.text)
        late = answer.by_centre and (answer.wait is None or self._remaining_s(answer.wait) <= 0)
        useless = answer.by_centre and answer.step == "unsure"
        first = await self._first(answer.query_id, None if late or useless else mine)
        if first == mine:
            return answer
        if useless or late:
            self._report(answer, "expired" if late else "superseded", reason="too late" if late else "unsure")
            return None
        assert first is not None  # noqa: S101  # else ``mine`` would be the first
        if not answer.by_centre or first.by_centre:
            self._report(answer, "superseded", reason="the centre has answered")
            return None
        if not adds(first.text, answer.text):
            self._report(answer, "superseded", reason="nothing new")
            return None
        text = self._texts.say("followup", answer.lang, text=answer.text)
        return msgspec.structs.replace(answer, text=text, kind="followup")

    async def _first(self, query_id: str, mine: Answered | None) -> Answered | None:
        """The first answer to a query: ``mine``, kept from now on, if there was none."""
        while (found := await self._answered.get(query_id)) is None:
            if mine is None or await self._answered.create(query_id, msgspec.json.encode(mine)) is not None:
                return mine
        return msgspec.json.decode(found[0], type=Answered)

    async def _send(self, answer: Answer, refused: Sequence[Unsupported], *, personal: bool) -> Output:
        """Fits a text whose words are supported, and keeps what does not fit. ``personal``: words of the
        person were put into it, which no event tells."""
        brief = self._brevity(answer.lane)
        thrifty = brief or self._thrift(answer.lane)
        fitted = self._fit(
            answer.text,
            answer.lang,
            self._segments(answer, brief),
            verbatim=answer.verbatim,
            brief=thrifty is not None,
        )
        if not answer.verbatim and (harmed := self._check(answer, self._whole(fitted, answer.lang))):
            answer, refused = self._fall_back(answer), harmed
            fitted = self._fit(answer.text, answer.lang, self._segments(answer, brief), verbatim=True)
        await self._keep(answer, fitted.rest)
        self._note(answer)
        text = self._tagged(fitted, answer.lang, answer.sources)
        self._report(
            answer,
            "fitted",
            step=answer.step,
            purpose=answer.kind,
            by_centre=answer.by_centre,
            segments=fitted.segments,
            encoding=fitted.encoding,
            octets_in=fitted.octets_in,
            octets_out=fitted.octets_out,
            dropped=fitted.dropped,
            rest=len(fitted.rest),
            refused=[piece.reason if personal else f"{piece.reason}: {piece.token}" for piece in refused],
            brief=thrifty or "",
        )
        return self._output(answer, text)

    def _segments(self, answer: Answer, brief: str | None) -> int:
        """SMS that an answer may take. A reviewed passage is whole in two: its first half alone may leave
        out what was asked, and MORE would cost two texts to save one."""
        if not answer.verbatim:
            return 1 if brief else self._max_segments or MAX_SEGMENTS
        whole = _whole_in(answer.text)
        most = self._max_segments or whole
        return min(most, whole) if brief else most

    def _supported(self, answer: Answer, *, strange: str) -> tuple[Answer, Sequence[Unsupported]]:
        """The answer itself, or what is sent instead and why."""
        if answer.verbatim:
            return answer, ()
        if strange:
            self._report(answer, "refused", reason=strange)
            return self._fall_back(answer), ()
        refused = self._check(answer, answer.text)
        if answer.text.strip() and not refused:
            return answer, ()
        return self._fall_back(answer), refused

    def _check(self, answer: Answer, text: str) -> Sequence[Unsupported]:
        # A passage in another language shares no words with the answer: it counts, but supports nothing.
        passages = [passage.text if passage.lang == answer.lang else "" for passage in answer.passages]
        [found] = self._compressor.check([text], [passages], [answer.lang])
        if found or all(passage.reviewed for passage in answer.passages):
            return found
        # What somebody may do to a body, or whom they may call, rests on reviewed words alone.
        reviewed = [
            text if passage.reviewed else "" for text, passage in zip(passages, answer.passages, strict=True)
        ]
        [found] = self._compressor.check([text], [reviewed], [answer.lang])
        return [piece for piece in found if piece.reason in ADVICE or _DOSE.search(piece.token)]

    def _fall_back(self, answer: Answer) -> Answer:
        """The best passage as written, in the person's language if there is one; else "I do not know"."""

        def rank(passage: Passage) -> tuple[bool, float]:
            return passage.lang == answer.lang, passage.score

        # The centre's model is also shown passages that hardly fit: none of those is sent by itself.
        # Nor is one of its library ever, which nobody reviewed.
        fitting = (p for p in answer.passages if p.reviewed and (not answer.by_centre or p.score >= UNSURE))
        best = max(fitting, key=rank, default=None)
        if best is None:
            follows = answer.wait is not None and not answer.by_centre and self._remaining_s(answer.wait) > 0
            text = self._texts.say("answer_follows" if follows else "unsure", answer.lang)
            return msgspec.structs.replace(answer, text=text, step="unsure", verbatim=True, sources=())
        sources = (best.source,) if best.source else ()
        return msgspec.structs.replace(
            answer, text=best.text, lang=best.lang, step="verbatim", verbatim=True, sources=sources
        )

    def _fit(self, text: str, lang: str, segments: int, *, verbatim: bool, brief: bool = False) -> Fitted:
        hint = self._texts.say("more_hint", lang)
        [fitted] = self._compressor.fit([text], [lang], [verbatim], [segments], [hint], [brief])
        return fitted

    def _whole(self, fitted: Fitted, lang: str) -> str:
        """The shortened text with its rest, as one: what the person will have read in the end."""
        if not fitted.rest:
            return fitted.text
        head = self._without_hint(fitted, lang)
        if head.endswith(GOES_ON) and fitted.rest.startswith(GOES_ON):
            return f"{head.removesuffix(GOES_ON)} {fitted.rest.removeprefix(GOES_ON)}"
        return f"{head}\n{fitted.rest}"

    def _without_hint(self, fitted: Fitted, lang: str) -> str:
        return fitted.text.removesuffix(self._texts.say("more_hint", lang)).rstrip()

    def _tagged(self, fitted: Fitted, lang: str, sources: Sequence[str]) -> str:
        """The text with the tags of its sources, where they cost no further segment."""
        if not sources:
            return fitted.text
        parts = [fitted.text, f"[{' '.join(sources[:MOST_TAGS])}]"]
        if fitted.rest:
            parts = [self._without_hint(fitted, lang), parts[1], self._texts.say("more_hint", lang)]
        tagged = " ".join(parts)
        [size] = segment([tagged])
        return tagged if size.count <= fitted.segments else fitted.text

    async def _keep(self, answer: Answer, rest: str) -> None:
        """Keeps the rest for MORE. An answer without one takes the older rest away: it is no longer meant."""
        if answer.kind not in ("reply", "followup"):
            return

        def step(record: Remainder | None) -> tuple[Remainder | None, None]:
            record = record or Remainder()
            if answer.query_id in record.answered or not (rest or record.rest):
                return None, None
            kept = Remainder(
                rest=rest,
                lang=answer.lang,
                sources=answer.sources,
                answered=(*record.answered, answer.query_id)[-REMEMBERED:],
                given=record.given,
            )
            return kept, None

        await change(self._more, answer.sender_ref, Remainder, step)

    async def _next_piece(self, answer: Answer) -> Output:
        def step(record: Remainder | None) -> tuple[Remainder | None, tuple[str, Remainder] | None]:
            record = record or Remainder()
            if (before := dict(record.given).get(answer.query_id)) is not None:
                return None, (before, record)
            if not record.rest:
                return None, None
            # Who asks for the rest gets it, whatever the battery says.
            most = self._max_segments or _whole_in(record.rest)
            fitted = self._fit(record.rest, record.lang, most, verbatim=True)
            text = self._tagged(fitted, record.lang, record.sources)
            given = (*record.given, (answer.query_id, text))[-REMEMBERED:]
            after = msgspec.structs.replace(record, rest=fitted.rest, given=given)
            return after, (text, after)

        piece = await change(self._more, answer.sender_ref, Remainder, step)
        self._report(answer, "more", found=piece is not None, rest=len(piece[1].rest) if piece else 0)
        if piece is None:
            return self._output(answer, self._texts.say("no_more", answer.lang))
        text, record = piece
        answer = msgspec.structs.replace(answer, lang=record.lang, sources=record.sources)
        return self._output(answer, text)

    def _output(self, answer: Answer, text: str) -> Output:
        sms = OutboundSms(
            query_id=answer.query_id,
            node=answer.node,
            text=text,
            lang=answer.lang,
            lane=answer.lane,
            step=answer.step,
            kind=answer.kind,
            ordinal=answer.ordinal,
            sender_ref=answer.sender_ref,
            sources=answer.sources,
            received_at=answer.received_at,
        )
        return Output(names.SMS_OUT, answer.lane, sms, answer.query_id, answer.kind, answer.ordinal)

    def _report(self, answer: Answer, kind: str, **fields: object) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="compress",
                at=self._now(),
                query_id=answer.query_id,
                sender_ref=answer.sender_ref,
                lane=answer.lane,
                fields=fields,
            )
        )


def adds(before: str, text: str) -> bool:
    """Whether ``text`` tells somebody who has read ``before`` something new."""
    words = {word.casefold() for word in _WORD.findall(text)}
    new = words - {word.casefold() for word in _WORD.findall(before)}
    return len(new) >= NEW_WORDS and len(new) >= NEW_SHARE * len(words)


def _whole_in(reviewed: str) -> int:
    """SMS that a reviewed text is written for."""
    return MAX_SEGMENTS if segment([reviewed])[0].encoding == "gsm7" else MAX_UCS2_SEGMENTS


def actor(  # noqa: PLR0917  # what it is made of, in the order that all actors use
    node: str,
    compressor: Compressor,
    more: KeyValue,
    answered: KeyValue,
    texts: Texts,
    emit: Emit,
    max_segments: int | None = None,
    brevity: Brevity = lambda _: None,
    thrift: Thrift = lambda _: None,
    note: Note = lambda _: None,
    *,
    masked: KeyValue | None = None,
) -> Actor:
    """Actor for ``compress``; ``max_segments`` None: as many as reviewed texts are written for. Without
    ``masked`` nothing stands behind any placeholder.

    Raises :class:`ConfigError` when a notice is too long for one segment."""
    compress = Compress(
        node, compressor, more, answered, texts, emit, max_segments, brevity, thrift, note, masked=masked
    )
    return Actor("compress", {names.COMPRESS: compress.handle})


class CompressConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[compress]`` table."""

    max_segments: Annotated[int, msgspec.Meta(ge=1, le=255)] | None = None
    """SMS of one answer at most; what does not fit waits for MORE. Without it: 2, and 3 for a reviewed text
    in letters outside GSM 7-bit, such as Hindi and Arabic."""


async def build(context: Context) -> Actor:
    """The actor of a node."""
    config = context.config.section("compress", CompressConfig)
    router, state = Router(route_rules()), context.node_state()

    def brevity(lane: Lane) -> str | None:
        return router.brevity(names.PRIORITY_OF[lane], battery_percent=state().battery_rule_percent)

    def thrift(lane: Lane) -> str | None:
        at = state()
        if lane == "flash":
            return None
        return router.model_obstacle(
            battery_percent=at.battery_rule_percent, free_memory_mb=at.memory_rule_mb
        )

    letting_go = await leaving(context)
    made = actor(
        context.identity.node,
        shipped_compressor(),
        await context.bucket("more"),
        await context.bucket("answered"),
        Texts.of_node(context.config.node.directory, context.config.node.emergency_number),
        context.emit,
        config.max_segments,
        brevity,
        thrift,
        letting_go.note if letting_go else lambda _: None,
        masked=await context.bucket("masked"),
    )
    return replace(made, tasks=(letting_go.keep, letting_go.send)) if letting_go else made
