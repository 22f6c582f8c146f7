"""The plan and the judge of a soak; the soak itself is in `tests/scenarios/test_soak.py`."""

import msgspec
import pytest

from actors.knowledge import Texts
from actors.sms.ledger import Entry as LedgerEntry
from simulators.network import Entry
from tests.soak import plan
from tests.soak.judge import Judge, Verdict
from tests.soak.plan import KINDS, Kind, Pace, Text

NUMBER = "+15560000001"
KIND = {kind.name: kind for kind in KINDS}
TEXTS = Texts.load()
INCOMPLETE = TEXTS.say("incomplete", "es", emergency_number="112")
FOLLOWUP = TEXTS.say("followup", "en", text="The ferry leaves at 7.")
ASIDE = TEXTS.say("told_unheard", "en", emergency_number="112")
LENGTHS = [("mute", 5.0, 120.0), ("power cut", 1.0, 10_800.0)]


def got(*texts: str, number: str = NUMBER, part: int = 1) -> list[Entry]:
    """What the network saw of texts to a phone."""
    submitted = [Entry("submitted", 0.0, number, text, part=part) for text in texts]
    return submitted + [Entry("read", 0.0, number, text) for text in texts]


def judged(kind: Kind, entries: list[Entry], *ledger: LedgerEntry) -> Verdict:
    """The verdict on one text."""
    text = Text(0.0, NUMBER, kind, kind.words[0])
    return Judge().judge([text], entries, {NUMBER: ledger})


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("question", got("Boil it.")),
        ("of the centre", got("I do not know.", FOLLOWUP)),
        ("emergency", got("Press hard.", ASIDE)),
        ("long", got("Boil it.")),
        ("long", got(INCOMPLETE)),
        ("long, part lost", got(INCOMPLETE)),
        ("delivered twice", got("Boil it.")),
        ("from nobody", []),
    ],
)
def test_what_is_promised_is_clean(kind: str, entries: list[Entry]) -> None:
    assert judged(KIND[kind], entries).is_clean


@pytest.mark.parametrize("entries", [[], got(FOLLOWUP), got(ASIDE), got("Boil it.", number="+15560000002")])
def test_who_got_no_answer_lost_it(entries: list[Entry]) -> None:
    assert judged(KIND["question"], entries).lost.keys() == {NUMBER}


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("question", got("Boil it.", "Boil it.")),
        ("question", got("Boil it.", INCOMPLETE)),
        ("question", got(INCOMPLETE)),
        ("question", [*got("Boil it."), Entry("submitted", 1.0, NUMBER, "Boil it.")]),
        ("of the centre", got("I do not know.", FOLLOWUP, FOLLOWUP + "!")),
        ("emergency", got("Press hard.", ASIDE, ASIDE)),
        ("long, part late", got(INCOMPLETE, "Boil it.")),
        ("long, part lost", got("Boil it.")),
        ("from nobody", got("Hello?")),
    ],
)
def test_what_nobody_promised_is_doubled(kind: str, entries: list[Entry]) -> None:
    assert judged(KIND[kind], entries).doubled.keys() == {NUMBER}


def test_only_the_ledger_exempts() -> None:
    held = LedgerEntry("HELD", "modem", "ref", "routine", note="nobody knows")
    assert judged(KIND["question"], [], held).held.keys() == {NUMBER}
    assert judged(KIND["question"], [], msgspec.structs.replace(held, state="SUBMITTED")).lost
    again = LedgerEntry("DELIVERED", "modem", "ref", "flash", tries=2)
    assert judged(KIND["emergency"], got("Press hard.", "Press hard."), again).flash_again.keys() == {NUMBER}
    assert judged(KIND["emergency"], got("Press.", "Press."), msgspec.structs.replace(again, tries=1)).doubled


def test_a_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan.texts(1, 72) == plan.texts(1, 72) != plan.texts(2, 72)
    assert plan.faults(1, 72, LENGTHS) == plan.faults(1, 72, LENGTHS) != plan.faults(2, 72, LENGTHS)
    planned = plan.texts(1, 72)
    assert len({text.number for text in planned}) == len(planned) == 72 * 10 + 3 * 20
    assert {text.kind.name for text in planned} == KIND.keys()
    assert [text.at_s for text in planned] == sorted(text.at_s for text in planned)
    at_night = sum(text.at_s / plan.HOUR_S % 24 < 6 for text in planned)
    assert at_night < len(planned) / 6


def test_lengths_are_real_up_to_a_point_and_compressed_beyond() -> None:
    pace = Pace(hours=72, minutes=36)
    assert pace.factor == 120
    assert pace.real_s(7) == 7
    assert pace.real_s(20 + 1200) == 30
    for fault in plan.faults(3, 72, LENGTHS):
        least_s, most_s = next(bounds for name, *bounds in LENGTHS if name == fault.name)
        assert least_s <= fault.for_s <= most_s
        assert fault.at_s < 0.9 * 72 * plan.HOUR_S
