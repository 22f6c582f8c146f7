"""Four ways to fit a text into segments: EVY's, and three that anybody would write first."""

import re
from collections.abc import Callable
from typing import Final

import msgspec
import smsutil

from actors.knowledge import shipped_compressor
from tests.eval.compression.words import SHORT_FORMS, TYPOGRAPHY, UNITS

HINTS: Final = {"en": "Reply MORE", "es": "Responda MAS", "fr": "Envoyez SUITE", "pt": "Responda MAIS"}
"""What stands at the end when there is more; another language gets «MORE»."""

BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""3GPP TS 23.038 §6.2.1."""
EXTENDED: Final = frozenset("^{}\\[~]|€\f")
"""Two septets each, §6.2.1.1."""
FOLDED: Final = str.maketrans("áâãçêëîïíóôõúûÁÂÃÀÊÈËÍÎÏÓÔÕÚÛ", "aaaceeiiiooouuAAAAEEEIIIOOOUU")


class Made(msgspec.Struct, frozen=True):
    """What one way made of a text."""

    first: str
    """What is sent, without the hint."""
    sent: str
    """What is sent."""
    everything: str
    """What a person has read who asked for MORE until nothing was left."""
    dropped: tuple[str, ...] = ()


def segments(text: str) -> int:
    """Segments by an independent codec of GSM 03.38."""
    return len(smsutil.split(text).parts)


def gsm7(text: str) -> bool:
    """Whether the text is sent in GSM 7-bit."""
    return all(c in BASIC or c in EXTENDED for c in text)


def fits(text: str, budget: int) -> bool:
    """Whether a text fits, by this module's own tables; the sender's codec is asked once, at the end."""
    if gsm7(text):
        septets = sum(2 if c in EXTENDED else 1 for c in text)
        return septets <= (160 if budget == 1 else 153 * budget)
    return len(text.encode("utf-16-le")) // 2 <= (70 if budget == 1 else 67 * budget)


def used(text: str, budget: int) -> float:
    """How much of the room of ``budget`` segments a text takes, in the alphabet it is sent in."""
    if gsm7(text):
        return sum(2 if c in EXTENDED else 1 for c in text) / (160 if budget == 1 else 153 * budget)
    return len(text.encode("utf-16-le")) / 2 / (70 if budget == 1 else 67 * budget)


def hint(lang: str) -> str:
    """The hint in a language."""
    return HINTS.get(lang, "MORE")


def folded(text: str, lang: str) -> str:
    """Typographic characters and, in four languages, accents that GSM 7-bit has not; fair to all."""
    text = text.translate(TYPOGRAPHY).replace("°", "").replace("œ", "oe")
    return text.translate(FOLDED) if lang in HINTS else text


def _lead(text: str, lang: str, budget: int, ends: str) -> Made:
    whole = folded(text, lang)
    if fits(whole, budget):
        return Made(whole, whole, whole)
    cut = ""
    for found in re.finditer(ends, whole):
        if not fits(f"{whole[: found.end()].rstrip()} {hint(lang)}", budget):
            break
        cut = whole[: found.end()].rstrip()
    if not cut:
        words = [found.end() for found in re.finditer(r"\S+", whole)]
        cut = next((whole[:e] for e in reversed(words) if fits(f"{whole[:e]} {hint(lang)}", budget)), "")
    return Made(cut, f"{cut} {hint(lang)}", whole)


SENTENCES: Final = r"(?<!\n\d)(?<!^\d)[.!?。।؟！]+(?=\s|$)|\n+|[。！]"
WORDS: Final = r"\S+(?=\s|$)"


def lead(text: str, lang: str, budget: int) -> Made:
    """As many whole sentences from the start as fit, then the hint."""
    return _lead(text, lang, budget, SENTENCES)


def abbreviated(text: str, lang: str, budget: int) -> Made:
    """Well-known short forms for everything that has one, then as many whole words as fit, then the hint."""
    return _lead(_short(text, lang), lang, budget, WORDS)


def abbreviated_lead(text: str, lang: str, budget: int) -> Made:
    """The same short forms, then whole sentences: the strongest of the simple ways that is not reckless."""
    return _lead(_short(text, lang), lang, budget, SENTENCES)


def _short(text: str, lang: str) -> str:
    text = folded(text, lang)
    short = {long: form for form, long in SHORT_FORMS.get(lang, {}).items() if len(form) < len(long)}
    units = {
        long: form
        for long, form in UNITS.items()
        if form in {"mg", "g", "kg", "ml", "l", "cm", "m", "km", "h", "min", "s"}
    }
    text = re.sub(
        r"(?<=\d )[^\W\d_]+" if lang in HINTS else r"(?!)", lambda f: units.get(f[0].lower(), f[0]), text
    )
    return re.sub(
        r"(?<![\w'])[^\W\d_]+(?![\w'])", lambda f: short.get(f[0], short.get(f[0].lower(), f[0])), text
    )


def naive(text: str, lang: str, budget: int) -> Made:
    """The first characters that fit, as the text stands; nothing tells that there was more."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle], budget) else (low, middle - 1)
    return Made(text[:low], text[:low], text[:low])


COMPRESSOR: Final = shipped_compressor()
PIECES: Final = 40
"""No answer has more texts than this; a loop that does not end is an error."""


def ours(text: str, lang: str, budget: int) -> Made:
    """The engine, and every MORE after it."""
    [fitted] = COMPRESSOR.fit([text], [lang], [False], [budget], [hint(lang)])
    first = _without(fitted.text, lang) if fitted.rest else fitted.text
    pieces, rest = [first], fitted.rest
    while rest and len(pieces) < PIECES:
        [piece] = COMPRESSOR.fit([rest], [lang], [True], [budget], [hint(lang)])
        pieces.append(_without(piece.text, lang) if piece.rest else piece.text)
        rest = piece.rest
    assert not rest, f"MORE does not end after {PIECES} texts"
    return Made(first, fitted.text, "\n".join(pieces), tuple(fitted.dropped))


def _without(text: str, lang: str) -> str:
    assert text.endswith(hint(lang)), text
    return text.removesuffix(hint(lang)).rstrip()


Way = Callable[[str, str, int], Made]
WAYS: Final[dict[str, Way]] = {
    "EVY": ours,
    "lead": lead,
    "short, lead": abbreviated_lead,
    "short, words": abbreviated,
    "characters": naive,
}
