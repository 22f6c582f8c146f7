"""evy_core.Compressor with the shipped rules: what passes the post-check, what must not, and what fits."""

from pathlib import Path

import pytest
from evy_core import Compressor, CoreError, Fitted, Unsupported, segment
from hypothesis import given
from hypothesis import strategies as st

RULES = Path(__file__).parents[2] / "actors" / "knowledge" / "compress"
SHARED = (RULES / "shared.toml").read_text()
LANGUAGES = [path.read_text() for path in sorted(RULES.glob("*.toml")) if path.stem != "shared"]
FOLDING = (RULES.parent / "folding.toml").read_text()
SUBSTANCES = (RULES / "substances.txt").read_text()
COMPRESSOR = Compressor(SHARED, LANGUAGES, SUBSTANCES, FOLDING)

WATER = (
    "Cloudy water: let it settle, pour it through clean cloth. Bring it to a rolling boil for 1 full "
    "minute; above 2000 m (6500 ft) boil 3 minutes. Let it cool covered. Keep in a clean closed container. "
    "Boiling kills germs but does not remove fuel or chemicals."
)
BLEACH = (
    "Bleach: add 6 drops of bleach to 4 litres of clear water, or 12 drops to 4 litres of cloudy water. "
    "Wait 30 minutes. Do not mix bleach with ammonia or vinegar. Never drink bleach. Give paracetamol 500 mg "
    "every 6 hours, no more than 4 g a day. Call 1-800-222-1222 only if someone drank it."
)
CARE = (
    "Do not eat, drink or smoke near the gas. Do not move the person unless there is danger. Stop the "
    "bleeding. If awake, give water. Keep the airway open. The bridge is not safe. Tighten the band above "
    "the wound; never loosen it."
)
ES = (
    "No beba agua sin hervir. Hierva el agua 1 minuto. Nunca mezcle cloro con vinagre. Dé 5 ml cada 4 horas. "
    "No mueva a la persona, ni le dé comida."
)
FR = (
    "Ne donnez pas d'aspirine à un enfant. Faites bouillir l'eau 1 minute. Ne buvez que de l'eau bouillie. "
    "N'utilisez jamais d'eau de Javel avec du vinaigre."
)
PT = (
    "Não é seguro beber a água. Ferva a água por 1 minuto. Não dê aspirina a crianças. Use 2 gotas por litro."
)

SUPPORTED = [
    ("en", WATER, WATER),
    ("en", WATER, "Boil water for 1 minute. Above 2000 m boil for 3 minutes."),
    ("en", WATER, "Let cloudy water settle and pour it through a clean cloth. Then boil it for one minute."),
    ("en", WATER, "Boiling kills germs but not fuel or chemicals."),
    ("en", BLEACH, "Add 6 drops of bleach to 4 l clear water. Never drink bleach."),
    ("en", BLEACH, "Add 12 drops of bleach to 4 litres of cloudy water and wait 30 min."),
    ("en", BLEACH, "Give paracetamol 500 mg every 6 hours, up to 4 g a day."),
    ("en", BLEACH, "Call 1 800 222 1222 only if someone drank it."),
    ("en", CARE, "Do not smoke or eat near the gas."),
    ("en", CARE, "Don't move the person unless there is danger."),
    ("en", CARE, "The bridge isn't safe."),
    ("en", "Wait 10 to 15 minutes.", "Wait 10-15 min."),
    ("en", "Take one and a half tablets.", "Take 1.5 tablets."),
    ("en", "Walk 1,000 metres.", "Walk 1000 m."),
    ("en", "Boil water. Cool it.", "1. Boil water. 2. Cool it."),
    ("es", ES, "No mezcle cloro con vinagre. Hierva el agua un minuto."),
    ("es", ES, "Dé 5 mililitros cada 4 horas."),
    ("fr", FR, "Ne pas donner d'aspirine à un enfant. Faire bouillir l'eau 1 minute."),
    ("pt", PT, "Nao e seguro beber a agua. Use 2 gotas por litro."),
    ("ht", "Bouyi dlo a 1 minit.", "Bouyi dlo a 1 minit."),
]

HARMFUL = [
    ("en", WATER, "Boil for 5 minutes.", "number"),
    ("en", WATER, "Boil for 3 min. Above 2000 m boil 1 minute.", "number"),
    ("en", WATER, "Boiling removes fuel and chemicals.", "polarity"),
    ("en", WATER, "Boiling does not kill germs.", "negation"),
    ("en", WATER, "Do not boil the water.", "negation"),
    ("en", WATER, "Do not let it cool covered.", "negation"),
    ("en", BLEACH, "Add 12 drops of bleach to 4 litres of clear water.", "number"),
    ("en", BLEACH, "Drink bleach.", "polarity"),
    ("en", BLEACH, "Drain bleach.", "action"),
    ("en", BLEACH, "Mix bleach with ammonia.", "polarity"),
    ("en", BLEACH, "Give paracetamol 500 mg every 6 hours, 4 g a day.", "number"),
    ("en", BLEACH, "Give ibuprofen 500 mg every 6 hours.", "substance"),
    ("en", BLEACH, "Give paracetemol 500 mg every 6 hours.", "substance"),
    ("en", BLEACH, "Give paracetamol 500 g every 6 hours.", "number"),
    ("en", BLEACH, "Give paracetamol 500 mg twice a day.", "time"),
    ("en", BLEACH, "Call 1-800-222-1221 only if someone drank it.", "phone"),
    ("en", BLEACH, "Call 1 800 222 1222.", "condition"),
    ("en", BLEACH, "Call 1 800 222 1222 if someone drank it.", "condition"),
    ("en", CARE, "Drink near the gas.", "polarity"),
    ("en", CARE, "Smoke near the gas.", "polarity"),
    ("en", CARE, "Move the person.", "polarity"),
    ("en", CARE, "Do not move the person.", "condition"),
    ("en", CARE, "Do not stop the bleeding.", "negation"),
    ("en", CARE, "Do not move the person or open the airway.", "negation"),
    ("en", CARE, "The bridge is safe.", "polarity"),
    ("en", CARE, "The bridge is unsafe.", "opposite"),
    ("en", CARE, "Give water.", "condition"),
    ("en", CARE, "Loosen the band.", "polarity"),
    ("en", "Do not drink water without boiling it first.", "Drink water without boiling it.", "polarity"),
    ("en", "Avoid lifting the leg.", "Lift the leg.", "polarity"),
    ("en", "Do not remove the knife; press around it.", "Pull out the knife.", "polarity"),
    ("en", "Give 250 mg to children and 500 mg to adults.", "Give 500 mg to children.", "number"),
    ("en", "Open at 10 p.m.", "Open at 10 a.m.", "number"),
    ("en", "Open at 10:35.", "Open at 10:30.", "time"),
    ("en", "Wait 10 to 15 minutes.", "Wait 15 minutes.", "number"),
    ("en", "Take 1.5 tablets.", "Take 15 tablets.", "number"),
    ("en", "Take a few drops.", "Take a few spoons, 5 litres.", "number"),
    ("en", WATER, "The capital of France is Paris.", "unrelated"),
    ("es", ES, "Beba agua sin hervir.", "polarity"),
    ("es", ES, "Mezcle cloro con vinagre.", "polarity"),
    ("es", ES, "Dé 5 ml cada 8 horas.", "number"),
    ("es", ES, "Mueva a la persona.", "polarity"),
    ("es", ES, "No hierva el agua.", "negation"),
    ("fr", FR, "Donnez de l'aspirine à un enfant.", "polarity"),
    ("fr", FR, "Ne buvez pas d'eau bouillie.", "negation"),
    ("fr", FR, "Utilisez de l'eau de Javel avec du vinaigre.", "polarity"),
    ("pt", PT, "É seguro beber a água.", "polarity"),
    ("pt", PT, "Dê aspirina a crianças.", "polarity"),
    ("pt", PT, "Use 4 gotas por litro.", "number"),
    ("en", "Do not take more than 4 g a day.", "Take more than 4 g a day.", "number"),
    ("es", "Tome 1 g. No tome más de 4 g en 24 horas.", "Tome más de 4 g en 24 horas.", "number"),
    ("es", "Si deja de respirar, empiece la reanimación.", "Si respira, empiece la reanimación.", "polarity"),
    ("pt", "Se parar de respirar, comece a reanimação.", "Se respirar, comece a reanimação.", "polarity"),
    ("ht", "Bouyi dlo a 1 minit.", "Bouyi dlo a 5 minit.", "language"),
]


def check(answer: str, passages: list[str], lang: str = "en") -> list[Unsupported]:
    (found,) = COMPRESSOR.check([answer], [passages], [lang])
    return found


def fit(
    text: str, lang: str = "en", max_segments: int = 1, *, verbatim: bool = False, hint: str = "Text MORE."
) -> Fitted:
    (fitted,) = COMPRESSOR.fit([text], [lang], [verbatim], [max_segments], [hint])
    return fitted


@pytest.mark.parametrize(("lang", "passage", "answer"), SUPPORTED)
def test_a_fair_rephrasing_passes(lang: str, passage: str, answer: str) -> None:
    assert check(answer, [passage], lang) == []


@pytest.mark.parametrize(("lang", "passage", "answer", "reason"), HARMFUL)
def test_what_the_passage_does_not_say_is_refused(lang: str, passage: str, answer: str, reason: str) -> None:
    assert reason in {entry.reason for entry in check(answer, [passage], lang)}


def test_the_piece_is_named_as_it_is_written() -> None:
    (entry,) = check("Give paracetamol 500 g every 6 hours.", [BLEACH])
    assert (entry.token, entry.reason) == ("500 g", "number")


def test_several_passages_support_one_answer() -> None:
    answer = "Boil the water for 1 minute. Add 6 drops of bleach to 4 litres of clear water."
    assert check(answer, [WATER, BLEACH]) == []
    assert check(answer, [WATER]) != []


def test_without_passages_only_what_states_nothing_passes() -> None:
    assert check("Hello, how can I help you?", []) == []
    for answer in ("Take 2 tablets.", "Do not worry.", "Take aspirin."):
        assert check(answer, []) != []


@given(st.text(), st.text(), st.sampled_from(["en", "es", "fr", "pt", "ar", ""]))
def test_any_unicode_is_checked(answer: str, passage: str, lang: str) -> None:
    check(answer, [passage], lang)
    assert check(answer, [answer], lang) == []


@given(
    st.integers(0, 3000), st.integers(0, 3000), st.sampled_from(["ml", "mg", "minutes", "metres", "drops"])
)
def test_another_number_never_passes(given_: int, said: int, unit: str) -> None:
    found = check(f"Then {said} {unit} of the syrup.", [f"Give {given_} {unit} of the syrup."])
    assert (found == []) == (given_ == said)


@given(
    st.text()
    | st.lists(st.sampled_from(BLEACH.split(" ") + ES.split(" ") + ["😊", "1.", "\n- "])).map(" ".join),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["en", "es", "fr", "pt", "hi"]),
)
def test_every_text_fits_and_more_ends(text: str, max_segments: int, verbatim: bool, lang: str) -> None:
    for _ in range(len(text) + 1):
        fitted = fit(text, lang, max_segments, verbatim=verbatim)
        (size,) = segment([fitted.text])
        assert (fitted.segments, fitted.encoding) == (size.count, size.encoding)
        assert fitted.segments <= max_segments
        text = fitted.rest
        if not text:
            return
    pytest.fail(f"MORE never ends: {text!r}")


def test_a_text_that_fits_is_left_alone_but_for_clean_up() -> None:
    fitted = fit("  Please   wait…\r\nI hope this helps! ")
    assert fitted.text == "Please wait...\nI hope this helps!"
    assert (fitted.rest, fitted.dropped, fitted.encoding) == ("", [], "gsm7")


def test_shortening_goes_before_cutting_and_drops_only_courtesy() -> None:
    text = (
        "Please make sure to boil the water for 5 minutes. In order to kill germs, please keep it at a "
        "rolling boil. It is important to not drink it before. You should never mix bleach with ammonia. "
        "I hope this helps!"
    )
    fitted = fit(text)
    assert fitted.text == (
        "Boil the water for 5 min. To kill germs, keep it at a rolling boil. It is important to not drink it "
        "before. You should never mix bleach with ammonia."
    )
    assert (fitted.dropped, fitted.rest, fitted.segments) == (["I hope this helps!"], "", 1)
    assert fitted.octets_out < fitted.octets_in


def test_a_verbatim_text_keeps_every_word_over_all_its_pieces() -> None:
    words, rest = [], BLEACH
    while rest:
        fitted = fit(rest, verbatim=True)
        words += fitted.text.removesuffix(" Text MORE.").split()
        rest = fitted.rest
    assert words == BLEACH.split()


def test_accents_fold_where_they_would_cost_a_segment() -> None:
    text = "Después de hervirla, guarde el agua potable en un recipiente limpio con tapa; así dura más."
    assert fit(text, "es").text == text.replace("é", "é").replace("í", "i").replace("á", "a")
    assert fit("Más agua", "es").text == "Más agua"
    assert fit(text, "es", 2).segments == 1


def test_brief_takes_the_fewest_segments_that_hold_all_of_a_text() -> None:
    text = (
        "Please make sure to boil the water for 5 minutes. In order to kill germs, please keep it at a "
        "rolling boil. You should never mix bleach with ammonia. I hope this helps you and your family!"
    )
    request = ([text], ["en"], [False], [2], ["MORE?"])
    [plain] = COMPRESSOR.fit(*request)
    [brief] = COMPRESSOR.fit(*request, [True])
    assert (plain.text, plain.segments) == (text, 2)
    assert (brief.segments, brief.rest) == (1, "")
    [long] = COMPRESSOR.fit([BLEACH], ["en"], [False], [2], ["MORE?"], [True])
    assert (long.segments, long.rest) == (2, "")


LONG_ANSWER = (
    "Sure! Here is how to treat a burn. First, cool the burn under cool running water for at least 20 "
    "minutes. This helps to reduce pain and swelling. Do not use ice, butter or toothpaste. Remove rings "
    "before the area swells, but do not pull off anything that is stuck to the skin. Give paracetamol 500 mg "
    "every 6 hours, and never give it to babies under 2 months. Call 112 if it is larger than your hand."
)
PADDING = " ".join(f"Bus {n}: {n}0 km, {n}5 min." for n in range(1, 30))


def test_what_tells_waits_and_what_warns_is_sent() -> None:
    fitted = fit(LONG_ANSWER)
    assert "at least 20 min" in fitted.text
    assert "Do not use ice, butter or toothpaste." in fitted.text
    assert "This helps to reduce pain" in fitted.rest
    assert fitted.dropped == ["Sure!", "Here is how to treat a burn."]


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "Hello, leave the building now and walk uphill together."),
        ("en", "Do not hesitate to call an ambulance for your neighbour."),
        ("en", "Stay safe by walking uphill together."),
        ("en", "Feel free to leave the building by the stairs on the other side."),
        ("es", "No dude en llamar a una ambulancia para sus vecinos."),
        ("fr", "N'hésitez pas à appeler une ambulance pour vos voisins."),
        ("pt", "Não hesite em chamar uma ambulância para os seus vizinhos."),
    ],
)
def test_an_order_that_begins_like_courtesy_is_not_dropped(lang: str, text: str) -> None:
    assert fit(f"{PADDING} {text}", lang).dropped == []


@pytest.mark.parametrize(
    ("lang", "sentence", "word"),
    [
        ("en", "You can die from the fumes of a generator in a closed room.", "can"),
        ("en", "Do not drink the water immediately after the flood has gone.", "immediately"),
        ("es", "Usted puede morir por los gases de un generador.", "puede"),
        ("es", "No beba el agua inmediatamente después de la inundación.", "inmediatamente"),
        ("fr", "Ne buvez pas l'eau immédiatement après les inondations.", "immédiatement"),
        ("pt", "Você pode morrer com os gases de um gerador.", "pode"),
        ("pt", "Não beba a água imediatamente depois da enchente.", "imediatamente"),
    ],
)
def test_no_short_form_turns_a_sentence_round(lang: str, sentence: str, word: str) -> None:
    fitted = fit(f"{sentence} {PADDING}", lang)
    assert word in fitted.text + fitted.rest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ["x" * 10_000_000]}, "10000000 octets"),
        ({"max_segments": [0]}, "max_segments is 0"),
        ({"max_segments": [256]}, "1 to 255"),
        ({"hints": ["x" * 200]}, "200 units"),
        ({"langs": []}, "equally long"),
    ],
)
def test_impossible_requests_say_why(change: dict[str, list[object]], message: str) -> None:
    request: dict[str, list[object]] = {
        "texts": ["a"],
        "langs": ["en"],
        "verbatim": [False],
        "max_segments": [1],
        "hints": [""],
    }
    with pytest.raises(CoreError, match=message):
        COMPRESSOR.fit(**{**request, **change})  # type: ignore[arg-type]


def test_wrong_rules_are_refused_with_their_name() -> None:
    with pytest.raises(CoreError, match="shared"):
        Compressor("nonsense", LANGUAGES, SUBSTANCES, FOLDING)
    english = next(text for text in LANGUAGES if 'lang = "en"' in text)
    harmful = english.replace("[shorten.replace]\n", '[shorten.replace]\n"do not" = "just"\n')
    with pytest.raises(CoreError, match=r'"do not".*protected fact'):
        Compressor(SHARED, [harmful], SUBSTANCES, FOLDING)
    with pytest.raises(CoreError, match="twice"):
        Compressor(SHARED, [english, english], SUBSTANCES, FOLDING)
    assert COMPRESSOR.languages == ["en", "es", "fr", "pt"]
