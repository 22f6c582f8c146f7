"""Area `compression`: what long answers keep at one and at two segments, scored by a program of its own.

The scorer shares no code with the engine. Everything is deterministic; the resampling has a fixed seed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.eval.compression import alignment, endings, meaning, post_check, ways
from tests.eval.compression.corpus import RULED, Answer, answers
from tests.eval.compression.words import protected, tokens
from tests.eval.report import Report, Table

BUDGETS: Final = (1, 2)
RESAMPLES: Final = 2000
SHOWN: Final = 40
"""Suspects printed; all are in the JSON's figures by number."""


class Scored(msgspec.Struct):
    """What one way made of one answer."""

    answer: Answer
    protected_of: int
    protected: int
    protected_whole: int
    """Of those, in sentences that stand there to their end."""
    protected_after_more: int
    facts: int
    critical_of: int
    critical: int
    first_critical: bool
    suspects: list[meaning.Suspect]
    new: list[str]
    cuts: endings.Cuts
    order_broken: bool
    skipped: int
    segments: int
    over_budget: bool
    unreadable: int
    words: int
    gsm7: bool
    room_used: float
    hanging: bool
    """Ends on a question or a heading whose answer or list comes with MORE."""
    untidy: bool
    pointing_back: int
    dropped_protected: int

    @property
    def bad_cut(self) -> bool:
        """Ends within a word, a number, a sentence or a step that would have fitted."""
        return self.cuts.word or self.cuts.number or self.cuts.sentence or self.cuts.step


def protected_of(answer: Answer) -> Counter[str]:
    """Every token that must not be lost, with how often; drugs and places by hand."""
    named = [
        token.form
        for fact in answer.facts
        if fact.kind in {"drug", "place"}
        for token in tokens(fact.text, answer.lang)
        if token.kind == "word" and alignment.content(token, answer.lang)
    ]
    return Counter([*protected(answer.text, answer.lang), *named])


def _there(text: str, answer: Answer) -> Counter[str]:
    words = [token.form for token in tokens(text, answer.lang) if token.kind == "word"]
    return Counter([*protected(text, answer.lang), *words])


def score(answer: Answer, way: ways.Way, budget: int) -> Scored:
    """One answer, one way, one budget."""
    made = way(answer.text, answer.lang, budget)
    reading = alignment.align(answer.text, made.first, answer.lang)
    wanted = protected_of(answer)
    kept = [alignment.fact_kept(fact, reading, answer.lang) for fact in answer.facts]
    critical = [there for there, fact in zip(kept, answer.facts, strict=True) if fact.critical]
    cut = endings.cuts(answer, made.first, reading, _room(answer, budget))
    whole = endings.whole_sentences(made.first) if cut.word or cut.number or cut.sentence else made.first
    unreadable, words = alignment.unreadable(made.first, answer.text, answer.lang)
    segments = ways.segments(made.sent)
    return Scored(
        answer=answer,
        protected_of=wanted.total(),
        protected=(wanted & _there(made.first, answer)).total(),
        protected_whole=(wanted & _there(whole, answer)).total(),
        protected_after_more=(wanted & _there(made.everything, answer)).total(),
        facts=sum(kept),
        critical_of=len(critical),
        critical=sum(critical),
        first_critical=bool(critical) and critical[0],
        suspects=meaning.suspects(answer, made.first, reading),
        new=alignment.new_words(reading, answer.lang),
        cuts=cut,
        order_broken=endings.order_broken(answer, reading, made.first),
        skipped=endings.steps_skipped(answer, reading),
        segments=segments,
        over_budget=segments > budget,
        unreadable=unreadable,
        words=words,
        gsm7=ways.gsm7(made.sent),
        room_used=ways.used(made.sent, budget),
        hanging=made.first != made.sent and made.first.endswith((":", "?")),
        pointing_back=len(endings.pointing_back(answer, reading)),
        untidy=endings.untidy(made.first, answer.text),
        dropped_protected=sum(len(protected(sentence, answer.lang)) for sentence in made.dropped),
    )


def _room(answer: Answer, budget: int) -> int:
    return (160 if budget == 1 else 153 * budget) - len(ways.hint(answer.lang)) - 1


def scores(corpus: Sequence[Answer], budget: int) -> dict[str, list[Scored]]:
    """Every way over the same answers, in the same order."""
    return {name: [score(answer, way, budget) for answer in corpus] for name, way in ways.WAYS.items()}


Count = Callable[[Scored], int]
PROTECTED: Final[tuple[Count, Count]] = (lambda s: s.protected, lambda s: s.protected_of)
WHOLE: Final[tuple[Count, Count]] = (lambda s: s.protected_whole, lambda s: s.protected_of)
AFTER_MORE: Final[tuple[Count, Count]] = (lambda s: s.protected_after_more, lambda s: s.protected_of)
FACTS: Final[tuple[Count, Count]] = (lambda s: s.facts, lambda s: len(s.answer.facts))
CRITICAL: Final[tuple[Count, Count]] = (lambda s: s.critical, lambda s: s.critical_of)


def _weights(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(5).multinomial(count, [1 / count] * count, size=RESAMPLES)


def share(rows: Sequence[Scored], what: tuple[Count, Count]) -> float:
    """Hits of all rows by what there was in all rows."""
    return sum(map(what[0], rows)) / max(sum(map(what[1], rows)), 1)


def interval(rows: Sequence[Scored], what: tuple[Count, Count]) -> tuple[float, float]:
    """Bootstrap 95 % interval of a share, whole answers resampled."""
    hits, of = (np.array([count(row) for row in rows]) for count in what)
    weights = _weights(len(rows))
    low, high = np.quantile(weights @ hits / (weights @ of), [0.025, 0.975])
    return float(low), float(high)


def ahead(
    one: Sequence[Scored], other: Sequence[Scored], what: tuple[Count, Count]
) -> tuple[float, float, float]:
    """How much the first keeps more than the second of the same answers, with the paired interval."""
    of = np.array([what[1](row) for row in one])
    difference = np.array([what[0](a) - what[0](b) for a, b in zip(one, other, strict=True)])
    weights = _weights(len(one))
    low, high = np.quantile(weights @ difference / (weights @ of), [0.025, 0.975])
    return share(one, what) - share(other, what), float(low), float(high)


def _with_interval(rows: Sequence[Scored], what: tuple[Count, Count]) -> str:
    low, high = interval(rows, what)
    return f"{share(rows, what):.3f} [{low:.3f}, {high:.3f}]"


LINES: Final[tuple[tuple[str, Callable[[Sequence[Scored]], str]], ...]] = (
    ("protected tokens kept", lambda rows: _with_interval(rows, PROTECTED)),
    ("… in whole sentences", lambda rows: _with_interval(rows, WHOLE)),
    ("… after every MORE", lambda rows: f"{share(rows, AFTER_MORE):.3f}"),
    ("marked facts kept", lambda rows: _with_interval(rows, FACTS)),
    ("… critical ones", lambda rows: _with_interval(rows, CRITICAL)),
    ("… the first critical one", lambda rows: f"{_first(rows):.3f}"),
    ("texts without any marked fact", lambda rows: str(sum(row.facts == 0 for row in rows))),
    ("suspects of another meaning", lambda rows: str(sum(len(row.suspects) for row in rows))),
    ("… a negation", lambda rows: str(_kinds(rows, "negation"))),
    ("… a condition or exception", lambda rows: str(_kinds(rows, "condition", "exception"))),
    ("… a bound of a number", lambda rows: str(_kinds(rows, "limit"))),
    ("… a number or unit elsewhere", lambda rows: str(_kinds(rows, "number"))),
    ("new words or numbers", lambda rows: str(sum(len(row.new) for row in rows))),
    ("ends within a word", lambda rows: str(sum(row.cuts.word for row in rows))),
    ("ends within a number", lambda rows: str(sum(row.cuts.number for row in rows))),
    ("ends within a sentence", lambda rows: str(sum(row.cuts.sentence for row in rows))),
    ("ends within a step that fits", lambda rows: str(sum(row.cuts.step for row in rows))),
    ("ends within a longer step", lambda rows: str(sum(row.cuts.long_step for row in rows))),
    ("ends on a question or a heading", lambda rows: str(sum(row.hanging for row in rows))),
    ("order of steps broken", lambda rows: str(sum(row.order_broken for row in rows))),
    ("steps left out before a kept one", lambda rows: str(sum(row.skipped for row in rows))),
    (
        "protected tokens in what is dropped for good",
        lambda rows: str(sum(r.dropped_protected for r in rows)),
    ),
    (
        "readable words",
        lambda rows: f"{1 - sum(r.unreadable for r in rows) / sum(r.words for r in rows):.4f}",
    ),
    ("in GSM 7-bit", lambda rows: f"{sum(row.gsm7 for row in rows)} of {len(rows)}"),
    ("segments, mean", lambda rows: f"{sum(row.segments for row in rows) / len(rows):.2f}"),
    ("room used, mean", lambda rows: f"{sum(row.room_used for row in rows) / len(rows):.2f}"),
    ("over the budget", lambda rows: str(sum(row.over_budget for row in rows))),
)


def _first(rows: Sequence[Scored]) -> float:
    return sum(row.first_critical for row in rows) / len(rows)


def _kinds(rows: Sequence[Scored], *kinds: str) -> int:
    return sum(suspect.kind.split()[0] in kinds for row in rows for suspect in row.suspects)


def _main_table(scored: dict[str, list[Scored]], budget: int, which: str) -> Table:
    rows = [(name, *(line(scored[way]) for way in scored)) for name, line in LINES]
    mine = scored["EVY"]
    for name, what in (("protected", PROTECTED), ("in whole sentences", WHOLE), ("critical facts", CRITICAL)):
        cells = []
        for way, theirs in scored.items():
            difference, low, high = ahead(mine, theirs, what)
            cells.append("" if way == "EVY" else f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]")
        rows.append((f"EVY ahead, {name}", *cells))
    return Table(f"{which}, {_segments(budget)}", ("", *scored), tuple(rows))


def _segments(budget: int) -> str:
    return f"{budget} segment{'s' if budget > 1 else ''}"


def _breakdown(scored: dict[str, list[Scored]], budget: int, by: str) -> Table:
    names = list(dict.fromkeys(getattr(row.answer, by) for row in scored["EVY"]))
    rows = []
    for name in names:
        cells = []
        for way_rows in scored.values():
            mine = [row for row in way_rows if getattr(row.answer, by) == name]
            bad = sum(len(row.suspects) for row in mine)
            cells.append(f"{share(mine, PROTECTED):.2f} / {share(mine, CRITICAL):.2f} / {bad}")
        count = sum(getattr(row.answer, by) == name for row in scored["EVY"])
        rows.append((f"{name} ({count})", *cells))
    title = f"by {by}, {_segments(budget)}: protected tokens / critical facts / suspects"
    return Table(title, ("", *scored), tuple(rows))


def open_suspects(rows: Sequence[Scored], budget: int, *, hidden: bool = True) -> Table:
    """What a person should look at; of held answers the kind alone."""
    lines = [
        (
            row.answer.id,
            f"{budget}",
            suspect.kind,
            "(held)" if row.answer.held and hidden else suspect.what[:110],
        )
        for row in rows
        for suspect in row.suspects
    ]
    return Table("suspects in EVY's texts", ("answer", "segments", "kind", "where"), tuple(lines[:SHOWN]))


def run() -> Report:
    """All tables of the area."""
    corpus = answers(*RULED)
    cleaned = answers("other")
    tables: list[Table] = []
    figures: dict[str, float | int | str] = {"answers": len(corpus), "answers_clean_up_only": len(cleaned)}
    notes: list[str] = []
    suspect_tables = []
    for budget in BUDGETS:
        everything = scores(corpus, budget)
        tables.append(_main_table(everything, budget, f"{len(corpus)} answers in four languages"))
        for held in (False, True):
            part = {way: [row for row in rows if row.answer.held == held] for way, rows in everything.items()}
            for name, what in (
                ("protected", PROTECTED),
                ("protected_whole", WHOLE),
                ("critical", CRITICAL),
                ("facts", FACTS),
            ):
                for way, rows in part.items():
                    key = f"{'held' if held else 'seen'}_{name}_{way.replace(', ', '_').lower()}_{budget}"
                    figures[key] = round(share(rows, what), 4)
            tables.append(_main_table(part, budget, "held half" if held else "half the author may look at"))
        tables += [_breakdown(everything, budget, by) for by in ("lang", "kind")]
        tables.append(_main_table(scores(cleaned, budget), budget, "clean-up only: other languages"))
        mine = everything["EVY"]
        figures |= {
            f"first_critical_{way.replace(', ', '_').lower()}_{budget}": round(_first(rows), 4)
            for way, rows in everything.items()
        }
        figures[f"inverted_suspects_{budget}"] = sum(len(row.suspects) for row in mine)
        figures[f"bad_cuts_{budget}"] = sum(row.bad_cut for row in mine)
        figures[f"new_words_{budget}"] = sum(len(row.new) for row in mine)
        suspect_tables.append(open_suspects(mine, budget))
        suspected = figures[f"inverted_suspects_{budget}"]
        notes.append(f"inverted meaning at {_segments(budget)}: {suspected} suspects, goal 0")
    adversarial = answers("adversarial")
    for budget in BUDGETS:
        attacked = scores(adversarial, budget)
        tables.append(_main_table(attacked, budget, "40 answers built to turn a meaning around"))
        figures[f"adversarial_suspects_{budget}"] = sum(len(row.suspects) for row in attacked["EVY"])
        suspect_tables.append(open_suspects(attacked["EVY"], budget, hidden=False))
    checked, check_figures = post_check.tables()
    figures |= check_figures
    notes += [
        "in whole sentences: a sentence that breaks off counts for nothing, whatever numbers stand in it",
        "intervals: bootstrap over answers, 2,000 resamples, fixed seed; differences are paired",
        "lead: whole sentences from the start; short: well-known short forms first, then sentences or words",
        "both carry the same hint as EVY and are folded to GSM 7-bit for free; characters: a plain cut",
        "a suspect counts as wrong until a person has looked; «seen» rows were open to the engine's author",
    ]
    return Report("what shortened answers keep", (*tables, *suspect_tables, *checked), figures, tuple(notes))
