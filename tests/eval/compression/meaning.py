"""Whether a short text still says what the long one said: alignment, lost and inserted negations, cuts."""

import re
from bisect import bisect_right
from itertools import pairwise
from typing import Final

import msgspec

from tests.eval.compression.corpus import Answer, Fact
from tests.eval.compression.words import (
    BACK,
    HERE,
    LIMITS,
    OUTCOME,
    REWORDED,
    SHORT_FORMS,
    STOPWORDS,
    Token,
    plain,
    tokens,
)

UNIT_END: Final = re.compile(r"(?<!\d)[.!?…;。！？।؟]+(?=\s|$|[\"»”])|(?<=\d)[.;!?](?=\s|$)|[。！？।]|\n+")
CLAUSE_END: Final = re.compile(r"[.!?…;:,\n。！？।，؟،()—–]")
ITEM: Final = re.compile(r"^\s*(\d{1,2}[.)]|[-•*–—])\s+", re.MULTILINE)
HEAD: Final = 1
"""Words of content behind a negation that it surely denies."""


class Suspect(msgspec.Struct, frozen=True):
    """A place where the short text may say something else; it counts as wrong until a person has looked."""

    kind: str
    what: str


class Reading(msgspec.Struct):
    """A short text laid over the long one it was made from."""

    source: list[Token]
    short: list[Token]
    match: dict[int, int]
    """Place in the short text → place in the long one."""

    @property
    def kept(self) -> set[int]:
        """Places of the long text that are in the short one."""
        return set(self.match.values())


def same(short: Token, source: Token) -> bool:
    """Whether one token may stand for the other: equal, a denial for a denial, or a stump of the word."""
    if short.form == source.form:
        return True
    if short.kind == "negator" and source.kind == "negator":
        return True
    if source.form in REWORDED.get(short.form, ()):
        return True
    return short.kind == source.kind == "word" and (
        len(short.form) >= 3
        and len(source.form) >= len(short.form) + 2
        and source.form.startswith(short.form)
    )


def align(text: str, short: str, lang: str) -> Reading:
    """The best monotone match of the short text's words with the long text's, neighbours preferred.

    Quadratic in the number of possible matches: some hundreds for an answer of 200 words.
    """
    long_tokens, short_tokens = tokens(text, lang), tokens(short, lang)
    pairs: list[tuple[int, int, float]] = []
    for j, token in enumerate(short_tokens):
        for i, candidate in enumerate(long_tokens):
            if same(token, candidate):
                exact = token.form == candidate.form
                common = token.form in STOPWORDS.get(lang, ()) or len(token.form) == 1
                pairs.append((i, j, (0.3 if common else 1.0) * (1.0 if exact else 0.8)))
    long_sentence, short_sentence = _sentences(text, long_tokens), _sentences(short, short_tokens)
    best: list[float] = []
    back: list[int] = []
    for index, (i, j, worth) in enumerate(pairs):
        top, chosen = worth, -1
        for earlier in range(index):
            before_i, before_j, _ = pairs[earlier]
            if before_i < i and before_j < j:
                gap = i - before_i + j - before_j - 2
                score = best[earlier] + worth + (0.3 if gap == 0 else -min(gap, 40) * 0.004)
                if (long_sentence[i] != long_sentence[before_i]) != (
                    short_sentence[j] != short_sentence[before_j]
                ):
                    # Words of one sentence come from one sentence: «do not» of the one left out is not meant.
                    score -= 0.5
                if score > top:
                    top, chosen = score, earlier
        best.append(top)
        back.append(chosen)
    match = {}
    place = max(range(len(pairs)), key=best.__getitem__, default=-1)
    while place >= 0:
        match[pairs[place][1]] = pairs[place][0]
        place = back[place]
    return Reading(long_tokens, short_tokens, match)


def _sentences(text: str, of: list[Token]) -> list[int]:
    ends = [found.end() for found in re.finditer(r"[.!?;:\n]+(?=\s|$)|\n", text)]
    return [bisect_right(ends, token.start) for token in of]


def spans(text: str, ends: re.Pattern[str]) -> list[tuple[int, int]]:
    """Stretches of the text between the ends, the end included."""
    cuts = [0, *(found.end() for found in ends.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(cuts) if text[a:b].strip()]


def units(text: str) -> list[tuple[int, int]]:
    """Sentences, parts between semicolons, and list items; the mark of an item belongs to it."""
    marks = {found.start(1): found.end() for found in ITEM.finditer(text)}
    joined: list[tuple[int, int]] = []
    for a, b in spans(text, UNIT_END):
        first = a + len(text[a:b]) - len(text[a:b].lstrip())
        if joined and any(joined[-1][0] <= mark < joined[-1][1] <= end for mark, end in marks.items()):
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((first, b))
    return joined


def items(text: str) -> list[tuple[int, int]]:
    """Numbered steps, from the mark to the end of their line."""
    return [
        (found.start(1), (text.find("\n", found.end()) + 1 or len(text) + 1) - 1)
        for found in ITEM.finditer(text)
        if found[1][0].isdigit()
    ]


def content(token: Token, lang: str) -> bool:
    """Whether a word says something by itself."""
    return token.kind != "word" or token.form not in STOPWORDS.get(lang, ())


def inside(source: list[Token], start: int, end: int) -> list[int]:
    """Places of the tokens that stand within a span."""
    return [place for place, token in enumerate(source) if start <= token.start < end]


def fact_kept(fact: Fact, reading: Reading, lang: str) -> bool:
    """Whether a marked fact survived.

    Its numbers, units, times, phones and negations must all be there; drug and phone word for word; of other
    words of content two thirds, since a readable short form or a dropped adverb loses nothing.
    """
    kept = reading.kept
    places = inside(reading.source, fact.start, fact.end)
    hard = [p for p in places if reading.source[p].kind not in {"word", "negator"}]
    denied = [p for p in places if reading.source[p].kind == "negator"]
    # French «ne … pas» is one denial in two words.
    denial_gone = denied and not any(p in kept for p in denied)
    if denial_gone or any(p not in kept for p in hard):
        return False
    words = [p for p in places if reading.source[p].kind == "word" and content(reading.source[p], lang)]
    needed = len(words) if fact.kind == "drug" else (2 * len(words) + 2) // 3
    return sum(p in kept for p in words) >= needed if words or hard or denied else True


def suspects(answer: Answer, short: str, reading: Reading) -> list[Suspect]:
    """Every place where the short text may mean something else than the long one."""
    return [
        *_negations(answer, reading),
        *_conditions(answer, reading),
        *_limits(answer, reading),
        *_inserted(answer, short, reading),
        *_moved(short, reading),
    ]


def _negations(answer: Answer, reading: Reading) -> list[Suspect]:
    """Negations that are gone while what they denied is still there."""
    found = []
    kept, source = reading.kept, reading.source
    clauses = spans(answer.text, CLAUSE_END)
    for place, token in enumerate(source):
        if token.kind != "negator" or place in kept:
            continue
        start, end = next(((a, b) for a, b in clauses if a <= token.start < b), (0, 0))
        clause = inside(source, start, end)
        if any(_one_denial(place, p, source) for p in clause if p in kept and source[p].kind == "negator"):
            continue
        heads = [p for p in clause if p > place and content(source[p], answer.lang)][:HEAD]
        heads = heads or [p for p in clause if p < place and content(source[p], answer.lang)][-HEAD:]
        if any(p in kept for p in heads):
            found.append(Suspect("negation dropped", answer.text[start:end].strip()))
    return found + _restrictions(answer, reading, clauses)


def _one_denial(gone: int, there: int, source: list[Token]) -> bool:
    """French «ne … pas» in one: without «ne» it still denies."""
    return (
        source[gone].form in {"ne", "n"}
        and gone < there <= gone + 4
        and source[there].form not in {"ne", "n"}
    )


def _restrictions(answer: Answer, reading: Reading, clauses: list[tuple[int, int]]) -> list[Suspect]:
    """French «ne … que»: one half alone denies or allows everything."""
    found = []
    for start, end in clauses if answer.lang == "fr" else []:
        forms = {reading.source[p].form: p in reading.kept for p in inside(reading.source, start, end)}
        half = [forms[form] for form in ("ne", "n") if form in forms]
        other = [forms[form] for form in ("que", "qu") if form in forms]
        full = {"pas", "jamais", "rien", "ni", "aucun", "aucune"} & set(forms)
        if half and other and not full and any(half) != any(other):
            found.append(Suspect("negation dropped", answer.text[start:end].strip()))
    return found


def _conditions(answer: Answer, reading: Reading) -> list[Suspect]:
    """Conditions and exceptions that are gone while what they govern is still there."""
    found = []
    boundaries = units(answer.text)
    for fact in answer.facts:
        if fact.kind not in {"condition", "exception"} or fact_kept(fact, reading, answer.lang):
            continue
        start, end = next(((a, b) for a, b in boundaries if a <= fact.start < b), (fact.start, fact.end))
        if answer.text[start:end].rstrip().endswith(":"):
            # A heading governs the list below it.
            end = (answer.text.find("\n\n", end) + 1 or len(answer.text) + 1) - 1
        governed = [
            p
            for p in inside(reading.source, start, end)
            if not fact.start <= reading.source[p].start < fact.end
            and content(reading.source[p], answer.lang)
        ]
        left = [p for p in governed if p in reading.kept]
        if len(left) >= 2 or (governed and len(left) == len(governed)):
            found.append(Suspect(f"{fact.kind} lost", f"{fact.text} ← {answer.text[start:end].strip()}"))
    return found


def _limits(answer: Answer, reading: Reading) -> list[Suspect]:
    """Numbers that lost the word that makes them a bound: «above 2000 m», «no more than 4»."""
    found = []
    bounds = LIMITS.get(answer.lang, frozenset())
    for place, token in enumerate(reading.source):
        if token.kind not in {"number", "time"} or place not in reading.kept:
            continue
        follower = place + 1
        if follower < len(reading.source) and follower not in reading.kept:
            unit = reading.source[follower]
            if unit.kind == "unit" and unit.start - token.end <= 1:
                found.append(Suspect("number without its unit", answer.text[token.start : unit.end]))
        before = [
            p
            for p in range(max(place - 3, 0), place)
            if reading.source[p].form in bounds
            and not CLAUSE_END.search(answer.text[reading.source[p].end : token.start])
        ]
        if before and before[-1] not in reading.kept:
            around = answer.text[reading.source[before[-1]].start : token.end + 12]
            found.append(Suspect("limit lost", around))
    return found


def _inserted(answer: Answer, short: str, reading: Reading) -> list[Suspect]:
    """Negations that the long text has not there: new, over other words, or over nothing."""
    found = []
    clauses = spans(answer.text, CLAUSE_END)
    for place, token in enumerate(reading.short):
        if token.kind != "negator":
            continue
        shown = short[max(token.start - 20, 0) : token.end + 30]
        if place not in reading.match:
            found.append(Suspect("negation inserted", shown))
            continue
        origin = reading.source[reading.match[place]]
        start, end = next(((a, b) for a, b in clauses if a <= origin.start < b), (0, 0))
        following = [
            other
            for other in range(place + 1, min(place + 5, len(reading.short)))
            if not CLAUSE_END.search(short[token.end : reading.short[other].start])
            and content(reading.short[other], answer.lang)
        ]
        denied = inside(reading.source, origin.start + 1, end)
        if following and following[0] in reading.match:
            head = reading.source[reading.match[following[0]]]
            if not start <= head.start < end and _strong(answer.text[origin.end : head.start]):
                found.append(Suspect("negation moved", shown))
        elif not following and any(content(reading.source[p], answer.lang) for p in denied):
            found.append(Suspect("negation over nothing", shown))
    return found


def _strong(between: str) -> bool:
    return bool(re.search(r"[.!?;:\n]", between))


def _moved(short: str, reading: Reading) -> list[Suspect]:
    """Numbers and units that the long text has elsewhere: another order, or another's number."""
    return [
        Suspect("number moved", short[max(token.start - 20, 0) : token.end + 20])
        for place, token in enumerate(reading.short)
        if token.kind in {"number", "time", "phone", "unit"} and place not in reading.match
    ]


def new_words(reading: Reading, lang: str) -> list[str]:
    """Words and numbers of the short text that are nowhere in the long one, known short forms aside."""
    vocabulary = {token.form for token in reading.source}
    stems = [token for token in reading.source if token.kind == "word"]
    return [
        token.form
        for token in reading.short
        if token.form not in vocabulary
        and token.kind != "negator"
        and not any(same(token, other) for other in stems)
    ]


def unreadable(short: str, source: str, lang: str) -> tuple[int, int]:
    """Words that are neither in the long text as they stand nor well-known short forms, and all words."""
    # A word keeps its accents' place but not the accents: folding to GSM 7-bit costs no readability.
    ordinary = set(re.findall(r"[^\W\d_]+", plain(source)))
    known = set(SHORT_FORMS.get(lang, ())) | {
        "min",
        "h",
        "hr",
        "hrs",
        "sec",
        "s",
        "ml",
        "l",
        "cm",
        "m",
        "km",
        "kg",
    }
    words = re.findall(r"[^\W\d_]+", plain(short))
    return sum(word not in ordinary and word not in known for word in words), len(words)


class Cuts(msgspec.Struct, frozen=True):
    """Where the first text ends, if it ends in the wrong place."""

    word: bool
    number: bool
    sentence: bool
    step: bool
    """Within a numbered step that would have fitted whole."""
    long_step: bool
    """Within a numbered step that is longer than the whole budget."""


def cuts(answer: Answer, short: str, reading: Reading, octets_left: int) -> Cuts:
    """How the first text ends. ``octets_left``: characters a step may have to fit by itself."""
    nothing = Cuts(word=False, number=False, sentence=False, step=False, long_step=False)
    if not reading.short or not reading.match:
        return nothing
    last = len(reading.short) - 1
    token = reading.short[last]
    source = reading.source
    if last not in reading.match:
        near = reading.match.get(last - 1, -2) + 1
        stump = near < len(source) and source[near].form.startswith(token.form)
        return Cuts(
            word=token.kind in {"word", "unit", "negator"} and stump,
            number=token.kind in {"number", "time", "phone"},
            sentence=True,
            step=False,
            long_step=False,
        )
    place = reading.match[last]
    here = source[place]
    end = next((b for a, b in units(answer.text) if a <= here.start < b), 0)
    after = [p for p in inside(source, here.end, end) if content(source[p], answer.lang)]
    if len(after) == 1 and re.search(r"[^.][.!?]$", short.rstrip()):
        # «the injured person.» may become «the injured.»: a sentence with a word less, not a cut one.
        after = []
    partial = (
        here.kind == "word" and here.form != token.form and plain(short)[token.end : token.end + 1] != "."
    )
    known = token.form in SHORT_FORMS.get(answer.lang, {}).values()
    number = (
        token.kind == "number" and bool(after) and source[after[0]].kind == "unit" and after[0] == place + 1
    )
    within = next(((a, b) for a, b in items(answer.text) if a <= here.start < b), None)
    cut_step = within is not None and any(
        content(source[p], answer.lang) for p in inside(source, here.end, within[1])
    )
    too_long = within is not None and within[1] - within[0] > octets_left
    return Cuts(
        word=partial and not known,
        number=number,
        sentence=bool(after),
        step=cut_step and not too_long,
        long_step=cut_step and too_long,
    )


def order_broken(answer: Answer, reading: Reading, short: str) -> bool:
    """Whether two marked steps, known by words that occur once, stand in another order."""
    counts: dict[str, int] = {}
    for token in reading.source:
        counts[token.form] = counts.get(token.form, 0) + 1
    first = {token.form: place for place, token in reversed(list(enumerate(reading.short)))}
    places = []
    for fact in answer.facts:
        if fact.kind == "step":
            rare = [
                first[token.form]
                for p in inside(reading.source, fact.start, fact.end)
                if counts[(token := reading.source[p]).form] == 1
                and token.form in first
                and content(token, answer.lang)
            ]
            if rare:
                places.append(min(rare))
    return any(a > b for a, b in pairwise(places))


def pointing_back(answer: Answer, reading: Reading) -> list[str]:
    """Kept sentences that begin with «this» or «then», or say «here», without the one before them."""
    found = []
    kept = reading.kept
    before: list[int] = []
    for start, end in units(answer.text):
        here = inside(reading.source, start, end)
        words = [p for p in here if reading.source[p].kind in {"word", "negator"}]
        back = BACK.get(answer.lang, frozenset())
        pointing = any(reading.source[p].form in back for p in words[:1]) or any(
            reading.source[p].form in HERE for p in words[2:]
        )
        outcome = OUTCOME.get(answer.lang)
        pointing = pointing or bool(outcome and outcome.search(plain(answer.text[start:end]).strip()))
        there = [p for p in here if p in kept and content(reading.source[p], answer.lang)]
        if pointing and len(there) >= 2 and before and not any(p in kept for p in before):
            found.append(answer.text[start:end].strip())
        before = here or before
    return found


def whole_sentences(short: str) -> str:
    """A text that breaks off, without the sentence that does."""
    ends = [b for _, b in units(short)][:-1]
    return short[: ends[-1]] if ends else ""


def untidy(short: str, source: str) -> bool:
    """Punctuation left behind by what was taken out: at the start, doubled, or after a space."""
    wrong = re.compile(r"^[.,;:!?)]|,,|,\.| [,.](?=\s|$)|\.\s+\.(?=\s)|\.[:;]|[¡¿] ?[!?]")
    return bool(wrong.search(short)) and not wrong.search(source)


def steps_skipped(answer: Answer, reading: Reading) -> int:
    """Numbered steps that are gone while a later one is there."""
    present = [
        any(
            p in reading.kept and content(reading.source[p], answer.lang)
            for p in inside(reading.source, a + 2, b)
        )
        for a, b in items(answer.text)
    ]
    last = max((place for place, there in enumerate(present) if there), default=-1)
    return present[: last + 1].count(False) if last >= 0 else 0
