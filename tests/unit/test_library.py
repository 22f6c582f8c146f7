"""The centre's library: files of each kind, good and bad, to passages that are found with their source."""

import bz2
import datetime as dt
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from actors._library import importing, shelf, volumes
from actors._library.categories import assigned, categories
from actors._library.documents import (
    MAX_LINE,
    Document,
    Kind,
    Refusal,
    Section,
    UnreadableError,
    day,
    licence,
    one_line,
)
from actors._library.importing import files_of, import_files, plan_of
from actors._library.library import MOST_SURE, Library
from actors._library.passages import LEAST, MAX_PASSAGE, cut, key
from actors._library.readers import READERS
from actors._library.shelf import Wanted
from actors._library.volumes import FOLDER, State, Terms, Volume, editions, of_source
from actors._retrieval.confidence import UNSURE
from actors._retrieval.vectors import embedder
from subjects.errors import ConfigError

IMPORTS = Path(__file__).parents[1] / "vectors" / "imports"


def read(kind: Kind, file: Path) -> tuple[list[Document], list[str]]:
    """Documents of a file, and its refusals; an error that ends it is the last of these."""
    documents, refused = [], []
    try:
        for found in READERS[kind].read(file):
            if isinstance(found, Refusal):
                refused.append(f"{found.where}: {found.reason}")
            else:
                documents.append(found)
    except UnreadableError as error:
        refused.append(str(error))
    return documents, refused


def written(tmp_path: Path, name: str, octets: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(octets.encode() if isinstance(octets, str) else octets)
    return path


def quiet(_: str, __: float, ___: State) -> None:
    """Nobody looks."""


def imported(library: Path, kind: Kind, *files: Path, **terms: Any) -> tuple[Volume, bool]:
    stated = {"source": kind.title(), "licence": "CC-BY-4.0", "date": "2026-11-01", **terms}
    edition, done = import_files(library, plan_of(Terms(kind, **stated), files_of(kind, files)), quiet)
    volume = edition.volume()
    assert volume is not None
    return volume, done


# bad input first


def test_broken_xml_gives_what_came_before_it(tmp_path: Path) -> None:
    whole = (IMPORTS / "encyclopaedic" / "wiki.xml").read_bytes()
    broken = written(tmp_path, "dump.xml", whole[: whole.index(b"<title>Talk")])
    documents, refused = read("encyclopaedic", broken)
    assert [document.title for document in documents] == ["Mount Harun"]
    [reason] = refused
    assert "XML is broken" in reason


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize(
    "octets", [b"", b"\x00" * 4000, b"\xff\xfe\x00", b"<", b"\x1f\x8b\x08 no gzip", b"{}{}"]
)
def test_what_is_no_such_file_is_refused_with_a_reason(tmp_path: Path, kind: Kind, octets: bytes) -> None:
    for ending in READERS[kind].endings:
        documents, refused = read(kind, written(tmp_path, f"file{ending}", octets))
        said = "".join(section.text for document in documents for section in document.sections)
        assert len(said) < LEAST  # which no import keeps
        assert all(refused)
    assert read(kind, written(tmp_path, f"torn{READERS[kind].endings[0]}.gz", b"\x1f\x8b\x08 no gzip"))[1]


def test_entities_are_not_expanded_and_nothing_is_fetched(tmp_path: Path) -> None:
    secret = written(tmp_path, "secret.txt", "the secret of this machine")
    lols = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    for entity in (f'<!ENTITY l0 "lol">{lols}', f'<!ENTITY l11 SYSTEM "{secret.as_uri()}">'):
        bomb = written(
            tmp_path,
            "bomb.xml",
            f"<!DOCTYPE x [{entity}]><health-topics><health-topic title='A' language='English' "
            "date-created='01/02/2026'><full-summary>Words before &l11; and after.</full-summary>"
            "</health-topic></health-topics>",
        )
        documents, _ = read("medical", bomb)
        said = " ".join(section.text for document in documents for section in document.sections)
        assert len(said) < 200
        assert "secret" not in said


def test_one_text_of_many_megabytes_ends_the_file(tmp_path: Path) -> None:
    page = (
        b"<mediawiki><page><title>T</title><ns>0</ns><revision><text>%s</text></revision></page></mediawiki>"
    )
    huge = written(tmp_path, "huge.xml.gz", gzip.compress(page % (b"word " * 3_000_000), 1))
    documents, refused = read("encyclopaedic", huge)
    assert documents == []
    assert "huge" in refused[0] or "XML is broken" in refused[0]


def test_a_line_of_ten_megabytes_is_passed_over(tmp_path: Path) -> None:
    good = '{"title": "A", "text": "A good line after a bad one."}\n'
    file = written(tmp_path, "x.jsonl", '{"title": "L", "text": "' + "x" * 10_000_000 + '"}\n' + good)
    documents, refused = read("encyclopaedic", file)
    assert [document.title for document in documents] == ["A"]
    assert refused == [f"line 1: more than {MAX_LINE} octets"]


def test_other_encodings_are_named_or_read(tmp_path: Path) -> None:
    act = (
        IMPORTS / "legal" / "act.txt"
    ).read_text() + "Section 4. Señor\nEl señor de las aguas decide cada año.\n"
    assert "is not UTF-8" in read("legal", written(tmp_path, "a.txt", act.encode("latin-1")))[1][0]
    [law], _ = read("legal", written(tmp_path, "b.txt", act.encode("utf-16")))
    assert "cada año" in law.sections[-1].text
    page = "<html><head><meta charset='latin-1'></head><body><p>Señor, the sluice is open.</p></body></html>"
    [leaf], _ = read("government", written(tmp_path, "c.html", page.encode("latin-1")))
    assert "Señor" in leaf.sections[0].text


def test_archives_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="encyclopaedic reads a MediaWiki XML dump"):
        files_of("encyclopaedic", [Path("dump.zip")])


def test_a_pdf_without_text_or_with_a_password_is_refused(tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(tmp_path / "scan.pdf")
    assert "text recognition" in read("government", tmp_path / "scan.pdf")[1][0]
    writer.encrypt("password")
    writer.write(tmp_path / "locked.pdf")
    assert "encrypted" in read("government", tmp_path / "locked.pdf")[1][0]


def test_a_page_nested_at_will_is_read_or_refused(tmp_path: Path) -> None:
    deep = written(tmp_path, "deep.html", "<div>" * 50_000 + "At the bottom." + "</div>" * 50_000)
    documents, refused = read("government", deep)
    assert documents or refused


@settings(max_examples=50)
@given(st.binary(max_size=300), st.sampled_from(get_args(Kind)))
def test_octets_of_any_sort_are_no_error(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes, kind: Kind
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for ending in READERS[kind].endings:
        if ending != ".pdf":
            read(kind, written(folder, f"any{ending}", octets))


@pytest.mark.parametrize("name", ["", "unknown", "None", " n/a ", "All rights reserved.", "?", "\x00"])
def test_a_licence_that_names_none_is_none(name: str) -> None:
    assert not licence(name)


def test_days() -> None:
    assert [
        day(text) for text in ("2026-02-03T10:00:00Z", "20260203", "2026-13-01", "2026", "yesterday", "")
    ] == [
        "2026-02-03",
        "2026-02-03",
        *[""] * 4,
    ]


# what files say


@pytest.mark.parametrize(
    ("file", "titles", "says", "refused"),
    [
        ("encyclopaedic/wiki.xml", ["Mount Harun", "Water buffalo of the valley"], "by Dr. Ines Marlow.", []),
        (
            "encyclopaedic/articles.jsonl",
            ["Lantern festival", "Fiesta de los faroles"],
            "Paper boats",
            ["line 2"],
        ),
        ("medical/topics.xml", ["Valley fever of goats and people"], "rises in the evening", ["no summary"]),
        (
            "government/permit.html",
            ["Fishing permits – Office of the Valley"],
            "It costs 12 crowns a year.",
            [],
        ),
        ("government/notice.md", ["Road works on the pass"], "Lorries use the eastern road.", []),
        ("news/feed.rss", ["Bridge of Serrat opens again"], "after eight months", ["no text"]),
        ("news/feed.atom", ["School holidays begin early"], "two days early", []),
        ("news/feed.json", ["Market moves"], "school yard", []),
        ("legal/act.txt", ["Water Act of the Valley"], "Nobody may sell them.", []),
        ("legal/act.xml", ["Forest Act of the Valley"], "for their own stove.", ["Article 2 Repealed"]),
        ("academic/paper.xml", ["Limestone caves of Mount Harun"], "forty samples", []),
        (
            "academic/refs.bib",
            ["The first ascent of Mount Harun"],
            "northern ridge",
            ["never closed", "empty2000"],
        ),
        ("academic/arxiv.jsonl", ["Echoes in caves", "Untitled licence"], "cave walls", []),
    ],
)
def test_each_format_is_read(file: str, titles: list[str], says: str, refused: list[str]) -> None:
    path = IMPORTS / file
    kind: Any = path.parent.name
    documents, reasons = read(kind, path)
    assert [document.title for document in documents] == titles
    text = "\n".join(section.text for document in documents for section in document.sections)
    assert says in text
    for noise in (
        "Infobox",
        "diary",
        "summit in May",
        "nobody reads",
        "Category",
        "script",
        "alert",
        "Imprint",
        "<",
    ):
        assert noise not in text
    assert len(reasons) == len(refused)
    assert all(any(part in reason for reason in reasons) for part in refused)


def test_documents_carry_their_own_terms() -> None:
    [paper], _ = read("academic", IMPORTS / "academic" / "paper.xml")
    assert (paper.licence, paper.date) == ("https://creativecommons.org/licenses/by/4.0/", "2025-09-07")
    assert paper.url == "https://doi.org/10.1000/harun.1"
    [law], _ = read("legal", IMPORTS / "legal" / "act.xml")
    assert (law.lang, law.date, law.sections[0].heading) == ("en", "2021-04-01", "Article 1 Firewood")
    [item], _ = read("news", IMPORTS / "news" / "feed.rss")
    assert (item.lang, item.date, item.licence) == ("en", "2026-11-10", "")
    mountain = read("encyclopaedic", IMPORTS / "encyclopaedic" / "wiki.xml")[0][0]
    assert (mountain.url, mountain.date) == ("https://wiki.example.org/wiki/Mount_Harun", "2026-05-04")


def test_packed_files_are_read_as_they_stream(tmp_path: Path) -> None:
    octets = (IMPORTS / "encyclopaedic" / "wiki.xml").read_bytes()
    plain = read("encyclopaedic", IMPORTS / "encyclopaedic" / "wiki.xml")
    assert read("encyclopaedic", written(tmp_path, "w.xml.bz2", bz2.compress(octets))) == plain
    torn = written(tmp_path, "w.xml.gz", gzip.compress(octets)[:-200])
    assert (
        "cannot be read on" in read("encyclopaedic", torn)[1][0]
        or "broken" in read("encyclopaedic", torn)[1][0]
    )


def test_a_dump_takes_no_memory(tmp_path: Path) -> None:
    """40 MB of pages, read with less than a tenth of it."""
    import resource  # noqa: PLC0415

    page = (
        "<page><title>T%d</title><ns>0</ns><revision><text>"
        + "Words of a page. " * 2400
        + "</text></revision></page>"
    )
    with (tmp_path / "big.xml").open("w") as file:
        file.write("<mediawiki>")
        for number in range(1000):
            file.write(page % number)
        file.write("</mediawiki>")
    next(READERS["encyclopaedic"].read(tmp_path / "big.xml"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    from actors._library.readers.trees import elements  # noqa: PLC0415

    assert sum(1 for _ in elements(tmp_path / "big.xml", "page")) == 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


# passages


@settings(max_examples=50)
@given(st.text(), st.text(max_size=200), st.text(max_size=200))
def test_passages_are_bounded_and_nothing_is_said_twice(text: str, title: str, heading: str) -> None:
    document = Document(title, (Section(heading, one_line(text)),))
    pieces = list(cut(document, "en"))
    assert all(len(above) + 2 + len(piece) <= MAX_PASSAGE for above, piece in pieces)
    said = "".join("".join(piece.split()) for _, piece in pieces)
    assert said.removesuffix(".") == "".join(one_line(text).split()).removesuffix(".")


def test_passages_end_where_sentences_do() -> None:
    text = " ".join(f"Sentence {n} was written by Dr. Marlow at 5 p.m. of a long day." for n in range(40))
    pieces = [piece for _, piece in cut(Document("T", (Section("", text),)), "en")]
    assert len(pieces) > 3
    assert all(piece.startswith("Sentence ") and piece.endswith("day.") for piece in pieces)


def test_the_same_words_have_one_key() -> None:
    assert key("Boil it, for one minute!") == key("boil it for one  minute") != key("boil it for two minutes")


def test_fifteen_categories_and_what_is_advice_is_marked() -> None:
    assert len(categories()) == 15
    said = {
        "Paracetamol: the usual dose for adults is one or two tablets of 500 mg.": ("medicine", True),
        "Mixing bleach with ammonia makes toxic gas.": ("chemistry", True),
        "Cover the wound with a clean cloth and press.": ("first-aid", True),
        "If you induce vomiting after swallowing petrol you may choke.": ("first-aid", True),
        "Wash your hands with soap after the toilet.": ("food-water", True),
        "Nairobi is the capital of Kenya. It has a population of 4.4 million.": ("places", False),
        "A transistor amplifies electric signals.": ("technology", False),
        "Black holes bend light.": ("science", False),
        "The minimum wage rises in January.": ("money-work", False),
        "How to apply for a birth certificate at the registry office.": ("government", False),
    }
    vectors = embedder().passages(list(said))
    assert assigned("encyclopaedic", vectors) == list(said.values())
    assert {name for name, _ in assigned("news", vectors)} == {"news"}
    assert all(advice for _, advice in assigned("medical", vectors))
    assert assigned("legal", vectors)[1] == ("law", True)


# from files to a finished edition


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of the vectors, imported once; the text is some fifty passages."""
    folder = tmp_path_factory.mktemp("centre") / FOLDER
    for kind in get_args(Kind):
        terms = {"licence": ""} if kind == "academic" else {}
        imported(folder, kind, IMPORTS / kind, **terms)
    return folder


def test_an_import_says_what_it_left_out(library: Path) -> None:
    by_name = {edition.name: edition.volume() for edition in editions(library)}
    assert sorted(by_name) == sorted(get_args(Kind))
    wiki, academic = by_name["encyclopaedic"], by_name["academic"]
    assert wiki is not None
    assert academic is not None
    assert (wiki.state.doubles, wiki.langs) == (0, {"en": 4, "es": 1})
    assert any("articles.jsonl, line 2" in reason for reason in wiki.state.refusals)
    assert any("Untitled licence: names no licence" in reason for reason in academic.state.refusals)
    assert (academic.first, academic.last) == ("1903-05-01", "2026-01-09")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"licence": ""}, "names no licence, and none was given with --licence"),
        ({"date": ""}, "names no date, and none was given with --date"),
        ({"date": "2999-01-01"}, "not in the future"),
        ({"date": "soon"}, "a day as"),
        ({"source": "x" * 33}, "1 to 32 printable"),
        ({"source": "../.."}, "one of them a-z"),
    ],
)
def test_terms_that_cannot_stand_are_refused(tmp_path: Path, terms: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        imported(tmp_path / FOLDER, "legal", IMPORTS / "legal" / "act.txt", **terms)
    assert editions(tmp_path / FOLDER) == []


def test_the_same_words_are_kept_once_within_a_source(tmp_path: Path) -> None:
    line = '{"title": "%s", "text": "The dam of the valley was finished in 1971 and holds a lake."}\n'
    file = written(tmp_path, "x.jsonl", (line % "Dam") + (line % "Lake").replace("holds a", "HOLDS  a"))
    volume, _ = imported(tmp_path / FOLDER, "encyclopaedic", file)
    assert (volume.state.passages, volume.state.doubles) == (1, 1)


def test_a_second_run_does_nothing_and_a_change_computes_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    embed = type(embedder()).passages

    def counted(self: Any, texts: Any) -> Any:
        made.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(type(embedder()), "passages", counted)
    file = written(tmp_path, "act.txt", (IMPORTS / "legal" / "act.txt").read_bytes())
    folder = tmp_path / FOLDER
    assert imported(folder, "legal", file)[1]
    made.clear()
    assert not imported(folder, "legal", file)[1]
    assert made == []
    file.write_text(
        file.read_text() + "\nSection 4. Fines\nWho sells a spring pays twenty crowns to the school.\n"
    )
    volume, done = imported(folder, "legal", file)
    assert done
    assert (volume.number, volume.state.passages) == (2, 3)
    assert [text for text in made if "Water Act" in text] == [
        "Water Act of the Valley: Section 4. Fines. Who sells a spring pays twenty crowns to the school."
    ]
    assert [edition.number for edition in of_source(folder, "legal")] == [2]


def test_an_import_that_breaks_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        msgspec.json.encode(
            {"title": f"Village {n}", "text": f"Village number {n} lies {n} miles east of the lake."}
        )
        for n in range(30)
    ]
    file = written(tmp_path, "x.jsonl", b"\n".join(lines))
    monkeypatch.setattr(importing, "TOGETHER", 8)
    keep, rounds = importing._keep, 0

    def power_cut(making: Any, *rest: Any) -> None:
        nonlocal rounds
        rounds += 1
        keep(making, *rest)
        if rounds == 3:
            for each in making._files.values():
                each.write(b"torn")
                each.flush()
            raise KeyboardInterrupt

    monkeypatch.setattr(importing, "_keep", power_cut)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path / FOLDER, "encyclopaedic", file)
    assert editions(tmp_path / FOLDER) == []
    counted: list[int] = []

    def count(making: Any, terms: Any, waiting: Any, known: Any) -> None:
        counted.append(len(waiting))
        keep(making, terms, waiting, known)

    monkeypatch.setattr(importing, "_keep", count)
    volume, _ = imported(tmp_path / FOLDER, "encyclopaedic", file)
    assert sum(counted) == 30 - 16
    assert (volume.state.passages, volume.state.read, volume.state.doubles) == (30, 30, 0)
    [edition] = editions(tmp_path / FOLDER)
    assert [passage.title for passage in edition.every()] == [f"Village {n}" for n in range(30)]
    assert edition.passages([29])[0].text == "Village number 29 lies 29 miles east of the lake."
    assert len(edition.vectors()) == len(edition.keys()) == 30


def test_two_imports_of_one_source_do_not_meet(tmp_path: Path) -> None:
    with volumes.alone(tmp_path, "legal"), pytest.raises(ConfigError, match="by another process"):
        imported(tmp_path, "legal", IMPORTS / "legal")


def test_a_full_library_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MOST_SOURCES", 0)
    with pytest.raises(ConfigError, match="0 sources are the most"):
        imported(tmp_path / FOLDER, "legal", IMPORTS / "legal")


# searching


@pytest.fixture(scope="module")
def opened(library: Path) -> Iterator[Library]:
    made = Library(library)
    yield made
    for each in made._open:
        each.shelf.close()


async def test_a_passage_is_found_with_where_it_is_from(opened: Library) -> None:
    best = (await opened.search("how high is mount harun", "en", 3))[0]
    assert best.passage.title == "Mount Harun"
    assert best.score > 0.5
    passage = best.as_passage()
    assert (passage.source, passage.licence, passage.date) == ("Encyclopaedic", "CC-BY-4.0", "2026-05-04")
    assert not passage.reviewed
    assert passage.score <= MOST_SURE < UNSURE
    # Words of another language are found by what they mean.
    found = await opened.search("cuando es la fiesta de los faroles", "es", 3)
    assert {"Fiesta de los faroles", "Lantern festival"} == {one.passage.title for one in found[:2]}


async def test_what_has_nothing_to_do_with_it_is_hardly_probable(opened: Library) -> None:
    for text in ("who won the world cup in 1998", "my printer does not print", "cheap flights to tokyo"):
        assert all(one.score < 0.2 for one in await opened.search(text, "en", 3)), text
    assert await opened.search("?!", "en", 3) == []


async def test_searches_are_filtered(opened: Library) -> None:
    asked = "valley"
    every = await opened.search(asked, "en", 20)

    async def found(**wanted: Any) -> set[str]:
        return {one.id for one in await opened.search(asked, "en", 20, Wanted(**wanted))}

    def having(condition: Any) -> set[str]:
        return {one.id for one in every if condition(one.passage)}

    assert len(every) > 10
    assert await found(categories=("news",)) >= having(lambda p: p.category == "news") != set()
    spanish = await opened.search(asked, "en", 5, Wanted(lang="es"))
    assert {one.passage.lang for one in spanish} == {"es"}
    general = await opened.search(asked, "en", 20, Wanted(general=True))
    assert general
    assert not any(one.passage.advice for one in general)
    assert having(lambda p: p.advice)
    since, until = dt.date(2026, 11, 1), dt.date(2026, 11, 12)
    dates = {
        one.passage.date for one in await opened.search(asked, "en", 20, Wanted(since=since, until=until))
    }
    assert dates == {"2026-11-01", "2026-11-10", "2026-11-12"}
    assert {one.partition("/")[0] for one in await found(sources=("legal",))} == {"legal"}


async def test_the_same_words_of_two_sources_are_found_once(library: Path, tmp_path: Path) -> None:
    for name in ("One", "Two"):
        imported(tmp_path / FOLDER, "legal", IMPORTS / "legal" / "act.txt", source=name)
    two = Library(tmp_path / FOLDER)
    texts = [one.passage.text for one in await two.search("who owns the springs", "en", 5)]
    assert len(texts) == len(set(texts)) == 2
    await two.close()


async def test_a_new_edition_is_seen_and_a_withdrawn_one_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    library = Library(folder)
    assert await library.search("who owns the springs", "en", 1) == []
    file = written(tmp_path, "act.txt", (IMPORTS / "legal" / "act.txt").read_bytes())
    imported(folder, "legal", file)
    assert "community" in (await library.search("who owns the springs", "en", 1))[0].passage.text
    file.write_text(file.read_text().replace("the community", "everybody"))
    imported(folder, "legal", file)
    assert "everybody" in (await library.search("who owns the springs", "en", 1))[0].passage.text
    for edition in of_source(folder, "legal"):
        volumes.drop(edition)
    assert await library.search("who owns the springs", "en", 1) == []
    await library.close()


async def test_a_damaged_index_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / FOLDER
    imported(folder, "legal", IMPORTS / "legal" / "act.txt")
    imported(folder, "news", IMPORTS / "news")
    [law, _] = editions(folder)
    for path in shelf.folder(law).rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    library = Library(folder)
    found = await library.search("when does the bridge open", "en", 3)
    assert {one.source for one in found} == {"News"}
    assert "cannot be opened and is left out" in caplog.text
    await library.close()
