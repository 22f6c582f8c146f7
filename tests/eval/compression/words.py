# ruff: noqa: SIM905  lists of words read best as words
"""Words of a text as the scorer reads them: numbers, units, times, phones, negations, well-known short forms.

Nothing here is taken from the engine: another reading of the same text is the point.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import msgspec

NEGATORS: Final[dict[str, frozenset[str]]] = {
    "en": frozenset(
        "not no never none nobody nothing neither nor without avoid forbidden prohibited".split()
    ),
    "es": frozenset(
        "no nunca jamas ni sin nadie nada ninguno ninguna ningun tampoco evite evitar prohibido "
        "prohibida".split()
    ),
    "fr": frozenset("ne n pas jamais ni sans aucun aucune rien non evitez eviter interdit interdite".split()),
    "pt": frozenset(
        "nao nunca jamais nem sem ninguem nada nenhum nenhuma tampouco evite evitar proibido proibida".split()
    ),
}
"""Words that deny, accents taken off; contractions are taken apart before they are looked up."""

STOPWORDS: Final[dict[str, frozenset[str]]] = {
    "en": frozenset(
        "a an the of to in on at for and or it its is are be been was were this that these those them they "
        "their you your he she his her him we our us as by with from so very really please also then there "
        "here which who i do does did have has had will would can could may might should must".split()
    ),
    "es": frozenset(
        "a al de del el la los las un una unos unas y o u en por para con que se lo le les su sus es son "
        "esta este esto estas estos ha muy mas como ya si favor usted ser puede debe".split()
    ),
    "fr": frozenset(
        "a au aux de du des d l le la les un une et ou en par pour avec que qu se s lui leur sa son "
        "ses vous votre"
        "vos il elle on est sont ce cet cette ces c y tres plus comme a etre peut doit".split()
    ),
    "pt": frozenset(
        "a ao aos as o os de do da dos das e ou em no na nos nas por para com que se lhe seu sua seus "
        "suas um uma"
        "voce ele ela esta este isto muito mais como ja ser pode deve".split()
    ),
}
"""Words that carry little by themselves."""

LIMITS: Final[dict[str, frozenset[str]]] = {
    "en": frozenset("above below under over less more before after until least most within up max".split()),
    "es": frozenset("encima debajo menos mas antes despues hasta maximo minimo menores mayores".split()),
    "fr": frozenset("dessus dessous moins plus avant apres jusqu maximum minimum".split()),
    "pt": frozenset("acima abaixo menos mais antes depois apos ate maximo minimo menores maiores".split()),
}
"""Words that make a number a bound; lost, the number says something else."""

BACK: Final[dict[str, frozenset[str]]] = {
    "en": frozenset("this that these those it they he she then otherwise afterwards both".split()),
    "es": frozenset("esto eso este esta estos estas entonces ambos despues luego".split()),
    "fr": frozenset("cela ceci ca ce cette ces il elle ils elles alors sinon ensuite puis apres".split()),
    "pt": frozenset("isto isso este esta esse essa ele ela eles elas entao senao depois".split()),
}
"""Words that, at the start of a sentence, point to the sentence before it; «here» points back anywhere."""
OUTCOME: Final[dict[str, re.Pattern[str]]] = {
    "en": re.compile(r"^if (?:it|this|that|they|not)\b|\bnot better\b|\bno improvement\b|\banother \d"),
    "es": re.compile(r"^si (?:esto|eso)\b|\bno mejora|\bsin mejoria|\d+ minutos mas\b"),
    "fr": re.compile(r"^si (?:cela|ca)\b|\bpas mieux\b|\bsans amelioration|\d+ minutes de plus\b"),
    "pt": re.compile(r"^se isso\b|\bnao melhorar|\bsem melhora|\bmais \d+ minutos\b"),
}
"""«If it is not better»: of whom, and after what, stands in the sentence before."""
HERE: Final = frozenset("here aqui ici".split())

UNITS: Final[dict[str, str]] = {
    form: canonical
    for canonical, forms in {
        "mg": "mg milligram milligrams miligramo miligramos milligramme milligrammes miligrama miligramas",
        "g": "g gram grams gramo gramos gramme grammes grama gramas",
        "kg": "kg kilo kilos kilogram kilograms",
        "ml": "ml millilitre millilitres milliliter milliliters mililitro mililitros",
        "l": "l litre litres liter liters litro litros",
        "cm": "cm centimetre centimetres centimetro centimetros",
        "m": "m metre metres meter meters metro metros mètre mètres",
        "km": "km kilometre kilometres kilometro kilometros",
        "h": "h hr hrs hour hours hora horas heure heures",
        "min": "min mins minute minutes minuto minutos",
        "s": "s sec secs second seconds segundo segundos seg seconde secondes",
        "day": "d day days dia dias jour jours j",
        "week": "wk wks week weeks semana semanas semaine semaines sem",
        "month": "month months mes meses mois mês",
        "year": "yr yrs year years ano anos an ans",
        "%": "% percent",
        "°c": "°c c",
        "drop": "drop drops gota gotas goutte gouttes",
        "tablet": (
            "tab tabs tablet tablets comprimido comprimidos comp comprime comprimes pastilla pastillas cp"
        ),
        "time": "time times x vez veces fois vezes",
        "teaspoon": "tsp teaspoon teaspoons cucharadita cucharaditas cdta cdtas tsps",
        "tablespoon": "tbsp tablespoon tablespoons cucharada cucharadas cda cdas tbsps",
        "dollar": "$ dollar dollars dolar dolares",
    }.items()
    for form in forms.split()
}
"""Forms of a unit and the one name the scorer compares; «an(s)» and «ano(s)» are years in these texts."""

NUMBER_WORDS: Final[dict[str, str]] = {
    word: str(value)
    for words in (
        "one two three four five six seven eight nine ten eleven twelve",
        "uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "un deux trois quatre cinq six sept huit neuf dix onze douze",
        "um dois tres quatro cinco seis sete oito nove dez onze doze",
    )
    for value, word in enumerate(words.split(), 1)
} | {"una": "1", "une": "1", "uma": "1", "duas": "2", "once": "1", "twice": "2"}

SHORT_FORMS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "&": "and", "+": "and", "w/": "with", "w/o": "without", "approx": "approximately",
        "temp": "temperature",
        "info": "information", "hosp": "hospital", "dr": "doctor", "st": "street", "rd": "road",
        "ave": "avenue",
        "tel": "telephone", "no.": "number", "nr": "near", "incl": "including", "excl": "excluding",
        "max": "maximum", "med": "medicine", "meds": "medicines", "emerg": "emergency", "avg": "average",
        "mon": "monday", "tue": "tuesday", "tues": "tuesday", "wed": "wednesday", "thu": "thursday",
        "thurs": "thursday", "fri": "friday", "sat": "saturday", "sun": "sunday", "jan": "january",
        "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
        "sep": "september", "sept": "september", "oct": "october", "nov": "november", "dec": "december",
        "vs": "versus", "dept": "department", "govt": "government", "eg": "example", "etc": "etcetera",
        "asap": "possible", "pls": "please", "thx": "thanks", "ppl": "people", "pers": "person",
    },
    "es": {
        "&": "y", "+": "y", "aprox": "aproximadamente", "tel": "telefono", "temp": "temperatura",
        "info": "informacion", "hosp": "hospital", "dr": "doctor", "dra": "doctora", "ej": "ejemplo",
        "max": "maximo", "pág": "pagina", "av": "avenida", "lun": "lunes", "mar": "martes",
        "mie": "miercoles",
        "jue": "jueves", "vie": "viernes", "sab": "sabado", "dom": "domingo", "ud": "usted", "sr": "senor",
        "q": "que", "x": "por", "med": "medicamento", "ene": "enero", "feb": "febrero", "abr": "abril",
        "sept": "septiembre", "sep": "septiembre", "oct": "octubre", "nov": "noviembre", "dic": "diciembre",
    },
    "fr": {
        "&": "et", "+": "et", "env": "environ", "tel": "telephone", "temp": "temperature",
        "info": "information",
        "infos": "informations", "hop": "hopital", "dr": "docteur", "ex": "exemple", "max": "maximum",
        "av": "avenue", "lun": "lundi", "mar": "mardi", "mer": "mercredi", "jeu": "jeudi", "ven": "vendredi",
        "sam": "samedi", "dim": "dimanche", "st": "saint", "ste": "sainte", "svp": "plait",
        "rdv": "rendez-vous",
        "med": "medicament", "janv": "janvier", "fev": "fevrier", "avr": "avril", "juil": "juillet",
        "sept": "septembre", "oct": "octobre", "nov": "novembre", "dec": "decembre",
    },
    "pt": {
        "&": "e", "+": "e", "aprox": "aproximadamente", "tel": "telefone", "temp": "temperatura",
        "info": "informacao", "infos": "informacoes", "hosp": "hospital",
        "dr": "doutor", "dra": "doutora", "ex": "exemplo",
        "max": "maximo", "av": "avenida", "seg": "segunda", "ter": "terca", "qua": "quarta", "qui": "quinta",
        "sex": "sexta", "sab": "sabado", "dom": "domingo", "vc": "voce", "q": "que", "p/": "para",
        "c/": "com",
        "s/": "sem", "r": "rua", "jan": "janeiro", "fev": "fevereiro", "mar": "marco", "abr": "abril",
        "set": "setembro", "out": "outubro", "nov": "novembro", "dez": "dezembro",
    },
}  # fmt: skip
"""Short forms that a tired person reads without thinking, and the word each stands for."""

REWORDED: Final[dict[str, frozenset[str]]] = {
    "now": frozenset({"immediately", "once", "away"}),
    "much": frozenset({"lot"}),
    "many": frozenset({"lot", "number"}),
    "like": frozenset({"such"}),
    "fast": frozenset({"quickly", "soon"}),
    "medicinas": frozenset({"medicamentos"}),
    "vite": frozenset({"suite", "immediatement"}),
    "ya": frozenset({"inmediatamente", "mismo", "inmediato", "enseguida"}),
    "ja": frozenset({"imediatamente", "imediato", "mesmo", "agora"}),
    "use": frozenset({"utilize", "utilise"}),
}
"""Plain words for longer ones, each looked at by hand: they say the same («at once» is «now»)."""

COURTEOUS: Final = re.compile(r"hesit|\|.*(?:dud[ae]|deixe de nos|forget to share)")
"""«Do not hesitate to ask»: a denial that protects nobody."""

TYPOGRAPHY: Final = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-", "…": "...",
     "•": "-", "\u00a0": " ", "\u202f": " ", "‑": "-", "×": "x", "−": "-", "º": "o", "ª": "a", "´": "'"}
)  # fmt: skip

URL: Final = r"(?:https?://|www\.)[^\s,;()]*[^\s,;().!?:]"
PHONE: Final = r"\+?\d{1,4}(?:[ -]\d{1,4}){1,6}"
TIME: Final = r"\d{1,2}(?: ?h ?|:)\d{2}(?!\d)"
NUMBER: Final = r"\d+(?:[.,]\d+)*"
WORD: Final = r"[^\W\d_]+"
PIECE: Final = re.compile(
    rf"(?P<url>{URL})|(?P<time>{TIME})|(?P<phone>{PHONE})|(?P<number>{NUMBER})"
    rf"|(?P<short>\bw/(?:o\b)?|\b[cps]/(?= ?[a-z])|°c\b|%|\$|&|\+)|(?P<word>{WORD})"
)
CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


class Token(msgspec.Struct, frozen=True):
    """One word or number: what is compared, what it is, and where it stands (code points)."""

    form: str
    kind: str
    """word, number, time, phone, url, unit or negator."""
    start: int
    end: int


def plain(text: str) -> str:
    """Lower case without typographic characters; one character for one, so that places stay."""
    return "".join(_plain_one(character) for character in text)


def _plain_one(character: str) -> str:
    folded = character.translate(TYPOGRAPHY)
    if len(folded) != 1:
        return "."
    if folded.isascii():
        return folded.lower()
    base = unicodedata.normalize("NFD", folded)[0].lower()
    return base if len(base) == 1 and base.isalpha() and base.isascii() else folded.lower()[:1]


def tokens(text: str, lang: str) -> list[Token]:
    """Words and numbers in order; «don't» is «do» «not», «500mg» is «500» «mg», «18h30» is «18:30»."""
    return list(_tokens(plain(text), lang))


def _tokens(text: str, lang: str) -> Iterator[Token]:
    position = 0
    last_number = False
    while found := PIECE.search(text, position):
        kind, piece, start, position = found.lastgroup or "word", found[0], found.start(), found.end()
        if kind == "phone" and sum(c.isdigit() for c in piece) < 7:
            kind, piece = "number", re.match(NUMBER, piece.lstrip("+"))[0]  # type: ignore[index]
            start = text.index(piece, start)
            position = start + len(piece)
        if kind == "phone":
            yield Token(re.sub(r"\D", "", piece), kind, start, position)
        elif kind == "time":
            hours, minutes = re.findall(r"\d+", piece)
            yield Token(f"{int(hours)}:{minutes}", kind, start, position)
        elif kind == "number":
            yield Token(piece, kind, start, position)
        elif kind == "url":
            yield Token(piece.rstrip("."), kind, start, position)
        elif CJK.search(piece):
            for offset, character in enumerate(piece):
                yield Token(character, "word", start + offset, start + offset + 1)
        else:
            yield from _words(piece, start, position, text, lang, after_number=last_number)
        last_number = kind == "number"


def _words(piece: str, start: int, end: int, text: str, lang: str, *, after_number: bool) -> Iterator[Token]:
    if lang == "en" and piece == "t" and text[start - 2 : start] == "n'":
        yield Token("not", "negator", start - 2, end)
        return
    if lang == "en" and text[end : end + 2] == "'t" and piece.endswith("n"):
        piece = {"can": "can", "won": "will", "shan": "shall"}.get(piece, piece[:-1])
    if lang == "en" and piece == "cannot":
        yield Token("can", "word", start, start + 3)
        yield Token("not", "negator", start + 3, end)
        return
    piece = {"w/": "with", "w/o": "without", "c/": "com", "p/": "para", "s/": "sem"}.get(piece, piece)
    if piece in NEGATORS.get(lang, ()):
        yield Token(piece, "negator", start, end)
    elif piece in UNITS and (after_number or len(piece) > 2):
        yield Token(UNITS[piece], "unit", start, end)
    elif piece in NUMBER_WORDS and lang in STOPWORDS:
        yield Token(NUMBER_WORDS[piece], "word", start, end)
    else:
        form = SHORT_FORMS.get(lang, {}).get(piece, piece)
        yield Token(form.replace("œ", "oe").replace("æ", "ae"), "word", start, end)


def protected(text: str, lang: str) -> list[str]:
    """What must not be lost, comparable: a number with its unit, times, phones, URLs, negations."""
    found = []
    all_tokens = tokens(text, lang)
    flat = plain(text)
    for here, token in enumerate(all_tokens):
        around = f"{flat[: token.start][-10:].rpartition('.')[2]}|{flat[token.end :][:12]}"
        if token.kind == "negator" and COURTEOUS.search(around):
            continue
        if token.kind in {"time", "phone", "url", "negator"}:
            # Any denial may stand for another; which clause it is in is checked elsewhere.
            found.append("NOT" if token.kind == "negator" and lang != "fr" else token.form)
        elif token.kind == "number":
            follower = all_tokens[here + 1] if here + 1 < len(all_tokens) else None
            near = follower and follower.kind == "unit" and follower.start - token.end <= 1
            found.append(f"{token.form} {follower.form}" if follower and near else token.form)
    return found
