"""Which texts hold two questions, which go on from the one before, and what may answer those."""

import tomllib
from collections.abc import Iterator

import pytest
from evy_core import Router
from hypothesis import given
from hypothesis import strategies as st

from actors._runtime import clock
from actors.knowledge import Texts, route_rules
from actors.rag import SHOWN_QUESTION, KnowledgeIndex, Library, actor, by_rules
from actors.rag.turns import WORDS, folded, reader
from subjects.messages import Answer, Event, Passage, Query, Session

LANGS = sorted(tomllib.loads(WORDS.read_text(encoding="utf-8"))["lang"])

TWO = [
    (
        "en",
        "how do i boil water and what do i do with a burn",
        "how do i boil water",
        "what do i do with a burn",
    ),
    ("en", "how do i boil water n how long does meat keep", "how do i boil water", "how long does meat keep"),
    (
        "en",
        "My well was flooded. What do I do? How much water per day",
        "What do I do?",
        "How much water per day",
    ),
    ("en", "how do i clean a cut, how much water do we need. thanks", "clean a cut", "do we need. thanks"),
    ("es", "¿cómo hiervo el agua y qué hago con una herida?", "hiervo el agua", "qué hago con una herida?"),
    (
        "fr",
        "comment bouillir l'eau et que faire pour une plaie",
        "bouillir l'eau",
        "que faire pour une plaie",
    ),
    ("pt", "como fervo a água e o que faço com um corte", "como fervo a água", "o que faço com um corte"),
    ("ht", "kijan pou m bouyi dlo epi kisa m fe pou yon blese", "bouyi dlo", "kisa m fe pou yon blese"),
    ("sw", "nachemsha maji jinsi gani na nifanye nini kwa jeraha", "jinsi gani", "nifanye nini kwa jeraha"),
    ("hi", "पानी कैसे उबालें और घाव पर क्या करें", "पानी कैसे उबालें", "घाव पर क्या करें"),
    ("ar", "كيف اغلي الماء وماذا افعل للجرح", "كيف اغلي الماء", "ماذا افعل للجرح"),
    ("tl", "paano pakuluan ang tubig at ano ang gagawin sa sugat", "ang tubig", "ano ang gagawin sa sugat"),
]


@pytest.mark.parametrize(("lang", "text", "first", "second"), TWO)
def test_two_questions_are_told_apart(lang: str, text: str, first: str, second: str) -> None:
    parts = reader(lang).parts(text)
    assert parts is not None
    assert first in parts[0]
    assert parts[1].endswith(second)
    assert second not in parts[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "how do i boil water",
        "can i eat rice and beans after the flood",
        "how do i boil water and what do i do with it",
        "the fridge is off, can i eat the meat and when is it bad",
        "is it safe to drink and why",
        "what do i do? my house is flooded",
        "my baby is hot and he cries all night",
        "how do i boil water? how do i clean a wound? how long does meat keep?",
    ],
)
def test_one_question_three_or_one_that_leans_on_the_other_stay_whole(text: str) -> None:
    assert reader("en").parts(text) is None


GOING_ON = [
    ("en", "and for a baby?"),
    ("en", "what about salt"),
    ("en", "And snow"),
    ("es", "¿y para un bebé?"),
    ("fr", "et pour un bébé ?"),
    ("pt", "e para um bebê?"),
    ("ht", "e pou yon tibebe?"),
    ("sw", "na kwa mtoto mchanga?"),
    ("hi", "और शिशु के लिए?"),
    ("ar", "وللرضيع؟"),
    ("tl", "eh sa sanggol?"),
]


@pytest.mark.parametrize(("lang", "text"), GOING_ON)
def test_a_text_that_goes_on(lang: str, text: str) -> None:
    assert reader(lang).goes_on(text)


def test_the_same_people_are_known_in_every_language() -> None:
    babies = [(lang, text) for lang, text in GOING_ON if text not in ("what about salt", "And snow")]
    assert {lang for lang, _ in babies} == set(LANGS)
    assert [lang for lang, text in babies if reader(lang).who(text) != {"baby"}] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "and?",
        "and then?",
        "for a baby?",
        "and without boiling?",
        "what if i dont have bleach",
        "and so we walked all night through the water to get to the school on the hill",
    ],
)
def test_a_text_without_a_subject_turned_round_or_long_does_not_go_on(text: str) -> None:
    assert not reader("en").goes_on(text)


FEVER = Passage(id="f", title="Fever", text="A baby with fever needs care now. A child drinks often.")
BOIL = Passage(id="b", title="Boiling", text="Boil 1 minute. It kills germs but takes no salt or fuel out.")


def test_only_a_passage_that_names_them_answers_about_somebody_else() -> None:
    read = reader("en")
    assert read.answers(FEVER, "my child has a fever", "and for a newborn?")
    assert not read.answers(BOIL, "how do i boil water", "and for a baby?")
    # Of whom the question before spoke counts on.
    assert not read.answers(BOIL, "my baby needs water", "and boiling?")
    assert reader("es").answers(FEVER, "mi hijo tiene fiebre", "y para un bebe?")
    # «Pregnant» is no other word for «baby».
    assert not read.answers(FEVER, "fever of my child", "and if i am pregnant")


def test_only_a_passage_that_speaks_of_what_is_new_answers() -> None:
    read = reader("en")
    assert read.answers(BOIL, "how do i make water clean", "what about salty water")
    assert read.answers(BOIL, "how do i make water clean", "and boiling it?")
    assert not read.answers(BOIL, "how do i make water clean", "and snow?")
    # Their number stays theirs: nothing is multiplied, and nothing has to name it.
    assert read.answers(BOIL, "how long do i boil a litre of water", "and 20?")


def test_accents_and_case_do_not_matter_and_hindi_keeps_its_vowels() -> None:
    assert folded("¿CÓMO está el bebé?") == "¿como esta el bebe?"
    assert folded("أين") == "اين"
    assert folded("की") != folded("का")


@given(st.text(max_size=300), st.sampled_from([*LANGS, "xx"]))
def test_parts_are_pieces_of_the_text(text: str, lang: str) -> None:
    read = reader(lang)
    read.goes_on(text)
    if parts := read.parts(text):
        assert all(part and part in text for part in parts)
        assert text.index(parts[0]) < text.rindex(parts[1])


@pytest.mark.parametrize("lang", LANGS)
def test_every_phrase_can_be_found(lang: str) -> None:
    """A phrase with a capital, an accent or a fourth word would never be seen."""
    tables = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    phrases = [p for key, value in tables["lang"][lang].items() if isinstance(value, list) for p in value]
    phrases += [phrase for group in tables["who"].values() for phrase in group]
    assert [p for p in phrases if p != folded(p) or len(p.split()) > 3 or not p.strip()] == []


# the actor

SHIPPED = Texts.load()
ARTICLES = {
    article.id: article
    for article in SHIPPED.articles()
    if article.lang == "en" and article.id in ("water-boil", "child-fever", "food-no-power", "generator")
}
BOILING, FOOD = ARTICLES["water-boil"], ARTICLES["food-no-power"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeIndex]:
    few = Texts([], {}, list(ARTICLES.values()), [], {})
    opened = KnowledgeIndex.open(tmp_path_factory.mktemp("index"), few)
    yield opened
    opened.close()


async def ask(
    index: KnowledgeIndex, text: str, before: str = "", lang: str = "en"
) -> tuple[list[Answer | Query], Event]:
    events: list[Event] = []
    built = actor("n1", Library(index), by_rules(Router(route_rules())), SHIPPED, events.append)
    query = Query(
        id="q1",
        node="n1",
        sender_ref="ana",
        text=text,
        lang=lang,
        lane="routine",
        deadline=clock.deadline_in(60),
        session=Session(lang, before=before),
    )
    outputs = await built.handlers["rag"](query)
    assert len({(o.subject, o.kind, o.ordinal) for o in outputs}) == len(outputs), "each has its own id"
    return [o.message for o in outputs], events[-1]  # type: ignore[misc]  # the two kinds rag makes


@pytest.mark.model
async def test_two_sure_passages_are_joined_as_they_are_written(index: KnowledgeIndex) -> None:
    [answer], event = await ask(index, f"{BOILING.questions[1]} and {FOOD.questions[0]}")
    assert isinstance(answer, Answer)
    assert (answer.step, answer.verbatim, answer.kind) == ("joined", True, "reply")
    assert answer.text == f"{BOILING.text}\n{FOOD.text}"
    assert answer.sources == (BOILING.source.tag, FOOD.source.tag)
    assert [passage.id for passage in answer.passages] == ["water-boil", "food-no-power"]
    assert event.fields["joined"] is True


@pytest.mark.model
async def test_two_questions_with_one_answer_get_it_once(index: KnowledgeIndex) -> None:
    [answer], _ = await ask(index, f"{BOILING.questions[0]} and {BOILING.questions[1]}")
    assert isinstance(answer, Answer)
    assert (answer.step, answer.text) == ("verbatim", BOILING.text)


@pytest.mark.model
@pytest.mark.parametrize("known_first", [True, False])
async def test_a_part_that_nothing_answers_is_named(index: KnowledgeIndex, *, known_first: bool) -> None:
    unknown = "who won the football match in the big town on sunday?"
    questions = [BOILING.questions[1], unknown] if known_first else [unknown, BOILING.questions[1]]
    [answer, notice], _ = await ask(index, " And ".join(questions))
    assert isinstance(answer, Answer)
    assert isinstance(notice, Answer)
    assert (answer.step, answer.text, answer.kind) == ("verbatim", BOILING.text, "reply")
    assert (notice.step, notice.kind, notice.verbatim, notice.sources) == ("notice", "notice", True, ())
    said = f"{unknown[: SHOWN_QUESTION - 3]}..."
    assert notice.text == SHIPPED.say("other_question", "en", question=said)


class Scripted:
    """An index whose confidence the test says: what the real one makes of texts changes with its articles."""

    rebuilt = ""

    def __init__(self, **best: str) -> None:
        self._best = best

    def search(self, text: str, _lang: str, limit: int, _served: object = None) -> list[Passage]:
        found = next((id_ for word, id_ in self._best.items() if word in text), None)
        return [Passage(id=found, text=f"About {found}.", source="C1", score=0.9)][:limit] if found else []

    def close(self) -> None:
        """Nothing to close."""


async def test_an_unanswered_question_is_said_back_readably_in_every_script() -> None:
    text = "how long do i boil water? मेरे बच्चे को दस्त है क्या करें?"
    [_, notice], _ = await ask(Scripted(boil="water-boil"), text)  # type: ignore[arg-type]  # as below
    assert isinstance(notice, Answer)
    assert "मेरे बच्चे को दस्त है क्या करें" in notice.text


async def test_what_the_whole_text_is_about_goes_before_its_parts() -> None:
    text = "we had a flood what should i clean and can i eat the garden beans"
    index = Scripted(flood="flood-food", beans="beans", clean="clean")
    [answer], event = await ask(index, text)  # type: ignore[arg-type]  # it has what the actor calls
    assert isinstance(answer, Answer)
    assert (answer.step, answer.text) == ("joined", "About flood-food.\nAbout beans.")
    # Only both parts together tell that these beans stood in the flood.
    index = Scripted(**{text: "flood-garden", "beans": "beans", "clean": "clean"})
    [answer], event = await ask(index, text)  # type: ignore[arg-type]  # likewise
    assert isinstance(answer, Answer)
    assert (answer.step, answer.text) == ("verbatim", "About flood-garden.")
    assert not event.fields["joined"]


@pytest.mark.model
async def test_what_is_for_anybody_does_not_answer_for_a_child(index: KnowledgeIndex) -> None:
    """The second question may mean the child of the first: a passage that names none is not joined."""
    [answer, notice], _ = await ask(index, f"my child has a fever what do i do and {BOILING.questions[1]}")
    assert isinstance(answer, Answer)
    assert isinstance(notice, Answer)
    assert answer.passages[0].id == "child-fever"
    assert BOILING.questions[1] in notice.text


@pytest.mark.model
async def test_a_text_that_goes_on_is_read_with_the_question_before(index: KnowledgeIndex) -> None:
    before = "my child has a fever"
    [answer], event = await ask(index, "and for a baby?", before)
    assert isinstance(answer, Answer)
    assert (answer.step, answer.passages[0].id) == ("verbatim", "child-fever")
    assert answer.question == f"{before} and for a baby?"
    assert event.fields["goes_on"] is True
    [alone], _ = await ask(index, "and for a baby?")
    assert not getattr(alone, "sources", ())


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["and for a baby?", "and for my dog?", "what about snow", "and for diabetics"]
)
async def test_advice_is_not_carried_over_to_what_it_does_not_name(index: KnowledgeIndex, text: str) -> None:
    [left], event = await ask(index, text, BOILING.questions[1])
    assert event.fields["article"] != "water-boil"
    assert isinstance(left, Query)
    assert left.passages == ()
    assert left.text.startswith(BOILING.questions[1]), "whoever answers must know what it is about"


@pytest.mark.model
@pytest.mark.parametrize("text", [FOOD.questions[0], f"and {FOOD.questions[0]}"])
async def test_a_question_that_stands_alone_needs_none_before(index: KnowledgeIndex, text: str) -> None:
    [answer], event = await ask(index, text, BOILING.questions[1])
    assert isinstance(answer, Answer)
    assert (answer.text, answer.question) == (FOOD.text, text)
    assert event.fields["goes_on"] is False


@pytest.mark.model
async def test_a_passage_in_english_says_that_it_is(index: KnowledgeIndex) -> None:
    [answer], _ = await ask(index, "cuanto tiempo hay que hervir el agua para tomar", lang="es")
    assert isinstance(answer, Answer)
    assert (answer.text, answer.lang) == (BOILING.text, "en")
