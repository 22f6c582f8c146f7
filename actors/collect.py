"""collect gathers what nodes could not answer, and has the big model draft answers for a person to judge.

Consumes ``unanswered``. Questions of one meaning and language come together; once a cluster is large enough
to point at nobody, a draft is asked of `infer_large`, from passages only and when nobody waits for an answer.
It is shown to the reviewer (`evy knowledge review`) if it passes the post-check and lint. Nothing goes
further without that person.
"""

import asyncio
import datetime as dt
import logging
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from evy_core import Compressor

from actors._collected.clusters import Meaning
from actors._collected.config import CollectConfig
from actors._collected.store import Cluster, Collected, Draft, StoreError, path_in
from actors._people.texts import visible
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.knowledge import Texts, shipped_compressor
from actors.knowledge.writing import Draft as Article
from actors.knowledge.writing import Terms, ascii_of, checked, source_of, words_of
from subjects import names
from subjects.errors import EvyError, RefusedError, RetryLaterError
from subjects.messages import Event, Unanswered
from subjects.services import DraftReply, DraftRequest

log = logging.getLogger("evy.collect")

DRAFT_EVERY_S: Final = 60.0
DRAFT_WITHIN_S: Final = 180.0
"""Longer than any try of `infer_large`."""

Ask = Callable[[DraftRequest], Awaitable[DraftReply]]
Lint = Callable[[str, DraftReply], Sequence[str]]
"""Errors that lint has with a draft in a language."""


class Collect:
    """The handler and what it needs. It keeps nothing between questions but the open file."""

    def __init__(
        self,
        *,
        node: str,
        store: Collected,
        meaning: Meaning,
        config: CollectConfig,
        compressor: Compressor,
        lint: Lint,
        ask: Ask,
        emit: Emit,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives Unix time: a day is all that comes of it."""
        self._node = node
        self._store = store
        self._meaning = meaning
        self._config = config
        self._compressor = compressor
        self._lint = lint
        self._ask = ask
        self._emit = emit
        self._now = now
        self._one = asyncio.Lock()

    async def handle(self, asked: Unanswered) -> Sequence[Output]:
        """Keeps one question. Raises :class:`RefusedError` for one without a word in it, and
        :class:`RetryLaterError` when the file cannot be written."""
        text = " ".join(visible(asked.text).split())
        if not any(map(str.isalpha, text)):
            raise RefusedError("a question without a letter")
        vector = await asyncio.to_thread(self._meaning.vector, text, asked.lang)
        clean = Unanswered(
            id=asked.id,
            node=asked.node,
            text=text,
            lang=asked.lang,
            day=asked.day,
            needs=asked.needs,
            regions=asked.regions,
            near=asked.near,
        )
        async with self._one:
            try:
                what = await asyncio.to_thread(self._store.add, clean, vector, self._today())
            except StoreError as error:
                raise RetryLaterError(str(error)) from error
        self._report("collected", of=asked.node, lang=asked.lang, what=what)
        return ()

    async def work(self, every_s: float) -> None:
        """Drafts, and takes out what is too old, for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                async with self._one:
                    await asyncio.to_thread(self._store.prune, self._today(), self._config.keep_days)
                if self._config.draft:
                    await self.draft_one()
            except EvyError as error:
                log.info("no draft now: %s", error)

    async def draft_one(self) -> Cluster | None:
        """Has the most asked cluster without one drafted; gives it. Raises :class:`EvyError` when there is no
        model for it now."""
        async with self._one:
            cluster = await asyncio.to_thread(self._store.next_to_draft, self._config.least, self._today())
        if cluster is None:
            return None
        reply = await self._ask(DraftRequest(text=cluster.wordings[0], lang=cluster.lang))
        draft = await asyncio.to_thread(self._judged, cluster.lang, reply)
        async with self._one:
            await asyncio.to_thread(self._store.drafted, cluster.id, draft, self._today())
        self._report("drafted", cluster=cluster.id, lang=cluster.lang, usable=bool(draft.text), why=draft.why)
        return cluster

    def _judged(self, lang: str, reply: DraftReply) -> Draft:
        """A draft that a person may be shown, or the passages alone."""
        if not reply.text:
            return Draft(passages=reply.passages, why=reply.why)
        used = set(reply.used)
        # As in `compress`: a passage in another language supports nothing.
        passages = [one.text for one in reply.passages if one.id in used and one.lang == lang]
        said = f"{reply.title}. {reply.text}"
        [unsupported] = self._compressor.check([said], [passages], [lang])
        if not passages:
            return Draft(passages=reply.passages, why=f"none of the passages it names is in {lang!r}")
        wrong = [f"{piece.reason} {piece.token!r} is not in its passages" for piece in unsupported]
        if wrong := wrong or list(self._lint(lang, reply)):
            return Draft(passages=reply.passages, why=f"the draft was refused: {'; '.join(wrong)[:600]}")
        return Draft(passages=reply.passages, title=reply.title, text=reply.text, used=reply.used)

    def _today(self) -> dt.date:
        return dt.datetime.fromtimestamp(self._now(), dt.UTC).date()

    def _report(self, kind: str, **fields: object) -> None:
        self._emit(Event(kind=kind, node=self._node, actor="collect", at=self._now(), fields=fields))


def linted(lang: str, draft: DraftReply) -> list[str]:
    """Errors that the loader and lint have with a draft; takes seconds, all texts are held against it."""
    name = f"collected-{ascii_of(draft.title)[:40].strip('-') or 'draft'}"
    article = Article(name, draft.title, draft.text, (draft.title.lower(),), _tags(draft.title), lang)
    with tempfile.TemporaryDirectory(prefix="evy-draft-") as folder:
        terms = Terms(Path(folder), source_of(Path(folder), ""), "draft", area="collected")
        found = checked(terms, [article])[name]
    return [f"{finding.rule}: {finding.says}" for finding in found if finding.severity == "error"]


def _tags(title: str) -> tuple[str, ...]:
    return tuple(words_of(title)[:4]) or ("collected",)


async def build(context: Context) -> Actor:
    """The actor of a centre. Raises :class:`StoreError` when its file cannot be used."""
    node = context.config.node
    config = context.config.section("collect", CollectConfig)
    articles = Texts.of_node(node.directory, node.emergency_number).articles()
    store = await asyncio.to_thread(Collected, path_in(node.directory))

    async def ask(request: DraftRequest) -> DraftReply:
        reply: DraftReply = await context.ask("infer_large.draft", request, within_s=DRAFT_WITHIN_S)
        return reply

    collect = Collect(
        node=context.identity.node,
        store=store,
        meaning=await asyncio.to_thread(Meaning.of, articles),
        config=config,
        compressor=shipped_compressor(),
        lint=linted,
        ask=ask,
        emit=context.emit,
        now=context.now,
    )

    async def close() -> None:
        store.close()

    return Actor(
        "collect", {names.UNANSWERED: collect.handle}, (partial(collect.work, DRAFT_EVERY_S),), close
    )
