"""Words of a question are spelled as the articles spell them, whatever marks were left out."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._retrieval.index import KnowledgeIndex
from actors._retrieval.phrases import Phrases, read_phrases
from actors._retrieval.spelling import Spelling
from actors.knowledge import Texts

NO_PHRASES = Phrases(answered={}, unanswered={})


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    return Spelling(Texts.load().articles(), read_phrases())


@pytest.mark.parametrize(
    ("lang", "typed", "full"),
    [
        ("ar", "عندي اسهال", "عندي إسهال"),
        ("ar", "عندي إسهال", "عندي إسهال"),
        ("ar", "حراره الطفل", "حرارة الطفل"),
        ("ar", "إِسْهَال", "إسهال"),
        ("es", "el nino vomita", "el niño vomita"),
        ("hi", "सडक पर", "सड़क पर"),
        ("ar", "كلمةغريبةجدا 12", "كلمةغريبةجدا 12"),
        ("en", "cafe", "cafe"),
        ("xx", "إسهال", "إسهال"),
        ("ar", "", ""),
    ],
)
def test_a_word_is_spelled_as_most_articles_do(spelling: Spelling, lang: str, typed: str, full: str) -> None:
    assert spelling.restored(typed, lang) == full


def test_a_local_article_brings_its_own_words() -> None:
    articles = Texts.load().articles()
    arabic = next(article for article in articles if (article.id, article.lang) == ("diarrhoea", "ar"))
    assert Spelling([], NO_PHRASES).restored("اسهال", "ar") == "اسهال"
    assert Spelling([arabic], NO_PHRASES).restored("اسهال", "ar") == "إسهال"


@given(text=st.text(alphabet=st.characters(codec="utf-8")), lang=st.sampled_from(["ar", "es", "hi", "fr"]))
def test_only_marks_change_and_only_once(spelling: Spelling, text: str, lang: str) -> None:
    once = spelling.restored(text, lang)
    assert spelling.restored(once, lang) == once

    def bare(some: str) -> str:
        folded = unicodedata.normalize("NFD", some).replace("ى", "ي").replace("ة", "ه").replace("ٱ", "ا")
        folded = folded.replace("\u0901", "\u0902")
        return "".join(c for c in folded if unicodedata.category(c) != "Mn" and c not in "ـ\u0902")

    assert bare(once) == bare(text)


@pytest.mark.model
@pytest.mark.parametrize(
    ("typed", "full"),
    [("طفلي عنده اسهال", "طفلي عنده إسهال"), ("ماء امن للشرب", "ماء آمن للشرب")],
)
def test_marks_left_out_change_nothing_of_what_is_found(
    shipped_index: KnowledgeIndex, typed: str, full: str
) -> None:
    assert shipped_index.search(typed, "ar") == shipped_index.search(full, "ar")
