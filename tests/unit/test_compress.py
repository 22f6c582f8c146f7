"""compress: what is checked, what is sent instead, what waits for MORE, and that nothing happens twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from evy_core import segment

from actors._masked import Taken, restored
from actors._runtime.actor import Output
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryKeyValue
from actors.compress import Compress, build
from actors.knowledge import SHIPPED, Texts, load_compressor, shipped_compressor
from subjects import names
from subjects.errors import ConfigError
from subjects.mesh import MeshPacket
from subjects.messages import Answer, Deadline, Event, OutboundSms, Passage
from subjects.node_state import NodeState

TEXTS = Texts.load()
COMPRESSOR = shipped_compressor()
HINT = TEXTS.say("more_hint", "en")

BLEACH = Passage(
    id="water-bleach",
    text="Add 6 drops of bleach to 4 litres of clear water. Wait 30 minutes. Never drink bleach.",
    source="CDC",
    score=0.8,
)
BOIL = Passage(
    id="water-boil",
    text="Bring the water to a rolling boil for 1 full minute, then let it cool in a clean container.",
    source="C1",
    score=0.7,
)
HERVIR = Passage(id="agua", text="Hierva el agua 1 minuto.", source="OMS", lang="es", score=0.6)
LONG = " ".join(f"{number}. Press on wound {number} for {number} minutes." for number in range(1, 30))


class Desk:
    """A compress actor with its bucket in memory."""

    def __init__(self, max_segments: int | None = None) -> None:
        self.more = MemoryKeyValue()
        self.answered = MemoryKeyValue()
        self.masked = MemoryKeyValue()
        self.events: list[Event] = []
        self.left_s = 60.0
        self.compress = Compress(
            "n1",
            COMPRESSOR,
            self.more,
            self.answered,
            TEXTS,
            self.events.append,
            max_segments,
            masked=self.masked,
            remaining_s=lambda _: self.left_s,
        )

    async def output(self, query_id: str, text: str = "", **fields: Any) -> Output:
        [output] = await self.outputs(query_id, text, **fields)
        return output

    async def outputs(self, query_id: str, text: str = "", **fields: Any) -> Sequence[Output]:
        answer = Answer(
            **{
                "query_id": query_id,
                "node": "n1",
                "sender_ref": "ana",
                "text": text,
                "lang": "en",
                "lane": "priority",
                "step": "model",
                "received_at": 7.0,
                **fields,
            }
        )
        return await self.compress.handle(answer)

    async def answer(self, query_id: str, text: str = "", **fields: Any) -> OutboundSms:
        message = (await self.output(query_id, text, **fields)).message
        assert isinstance(message, OutboundSms)
        [size] = segment([message.text])
        assert size.count <= 2
        return message

    async def ask_more(self, query_id: str, **fields: Any) -> str:
        return (await self.answer(query_id, more=True, step="command", **fields)).text


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_supported_answer_is_sent_with_its_source(desk: Desk) -> None:
    text = "Add 6 drops of bleach to 4 l of clear water and wait 30 min."
    output = await desk.output("q1", text, passages=(BLEACH,), sources=("CDC",))
    assert (output.subject, output.lane, output.query_id, output.kind) == (
        names.SMS_OUT,
        "priority",
        "q1",
        "reply",
    )
    assert output.message == OutboundSms(
        query_id="q1",
        node="n1",
        text=f"{text} [CDC]",
        lang="en",
        lane="priority",
        step="model",
        sender_ref="ana",
        sources=("CDC",),
        received_at=7.0,
    )
    [event] = desk.events
    assert event.kind == "fitted"
    assert event.fields["refused"] == []
    assert event.fields["segments"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "Add 60 drops of bleach to 4 litres of clear water.",
        "Drink bleach.",
        "Add 6 drops of iodine to clear water.",
        "",
        " \n",
    ],
)
async def test_an_unsupported_answer_becomes_its_best_passage(desk: Desk, text: str) -> None:
    worse = Passage(id="other", text="Wash your hands.", source="WHO", score=0.5)
    sms = await desk.answer("q1", text, passages=(worse, BLEACH), sources=("WHO", "CDC"))
    assert sms.step == "verbatim"
    assert sms.text == f"{BLEACH.text} [CDC]"
    assert sms.sources == ("CDC",)
    assert bool(desk.events[0].fields["refused"]) == bool(text.strip())


async def test_the_passage_in_the_persons_language_comes_first(desk: Desk) -> None:
    sms = await desk.answer("q1", "Hierva el agua 5 minutos.", lang="es", passages=(BLEACH, HERVIR))
    assert (sms.text, sms.lang) == (f"{HERVIR.text} [OMS]", "es")
    # An English passage cannot vouch for a Spanish answer, but it is better than nothing.
    sms = await desk.answer("q2", "Hierva el agua.", lang="es", passages=(BLEACH,))
    assert (sms.text, sms.lang, sms.step) == (f"{BLEACH.text} [CDC]", "en", "verbatim")


async def test_without_a_passage_it_says_that_it_does_not_know(desk: Desk) -> None:
    sms = await desk.answer("q1", "Take 2 aspirin.", lang="es")
    assert sms.step == "unsure"
    assert sms.text == TEXTS.say("unsure", "es")


async def test_a_harmless_answer_needs_no_passage(desk: Desk) -> None:
    assert (await desk.answer("q1", "Hello! What happened, and where are you?")).step == "model"


async def test_a_verbatim_text_is_not_judged(desk: Desk) -> None:
    sms = await desk.answer("q1", "Take 2 aspirin… now", verbatim=True, step="template")
    assert (sms.text, sms.step) == ("Take 2 aspirin... now", "template")


async def test_the_source_never_costs_a_segment(desk: Desk) -> None:
    text = "a" * 159
    sms = await desk.answer("q1", text, verbatim=True, sources=("CDC",))
    assert (sms.text, sms.sources) == (text, ("CDC",))


async def test_two_joined_passages_name_both_sources_and_more_gives_the_rest(desk: Desk) -> None:
    both = f"{BLEACH.text}\n{BOIL.text}"
    joined = {"verbatim": True, "step": "joined", "passages": (BLEACH, BOIL), "sources": ("C2", "C1")}
    whole = await desk.answer("q1", both, **joined)
    assert (whole.text, whole.step, whole.sources) == (f"{both} [C2 C1]", "joined", ("C2", "C1"))
    long = f"{LONG[:280]}\n{BOIL.text}"
    first = await desk.answer("q2", long, **joined)
    rest = await desk.ask_more("m1")
    read = [piece.removesuffix(HINT).strip().removesuffix("[C2 C1]").strip() for piece in (first.text, rest)]
    assert " ".join(read).split() == long.split()
    assert rest.endswith("[C2 C1]")


async def test_a_notice_beside_an_answer_has_an_id_of_its_own(desk: Desk) -> None:
    output = await desk.output("q1", "Ask again.", verbatim=True, step="notice", kind="notice", ordinal=3)
    assert (output.kind, output.ordinal) == ("notice", 3)
    assert isinstance(output.message, OutboundSms)
    assert output.message.ledger_key(1) == "q1.notice3.1"


async def test_more_gives_piece_after_piece_until_there_is_no_more(desk: Desk) -> None:
    first = await desk.answer("q1", LONG, verbatim=True, sources=("WHO",))
    assert first.text.endswith(HINT)
    pieces = [first.text]
    while pieces[-1].endswith(HINT):
        pieces.append(await desk.ask_more(f"m{len(pieces)}"))
    read = " ".join(piece.removesuffix(HINT).strip().removesuffix("[WHO]").strip() for piece in pieces)
    assert read == LONG
    assert len(pieces) > 3
    assert any("[WHO]" in piece for piece in pieces)
    assert await desk.ask_more("m99") == TEXTS.say("no_more", "en")


async def test_a_redelivered_answer_does_not_bring_old_text_back(desk: Desk) -> None:
    first = await desk.answer("q1", LONG, verbatim=True)
    second = await desk.ask_more("m1")
    assert await desk.answer("q1", LONG, verbatim=True) == first
    third = await desk.ask_more("m2")
    assert len({first.text, second, third}) == 3


async def test_a_redelivered_more_gets_the_same_piece(desk: Desk) -> None:
    await desk.answer("q1", LONG, verbatim=True)
    second = await desk.ask_more("m1")
    third = await desk.ask_more("m2")
    assert await desk.ask_more("m1") == second
    assert await desk.ask_more("m2") == third
    assert await desk.ask_more("m3") not in {second, third}


async def test_a_newer_answer_replaces_the_rest_of_an_older_one(desk: Desk) -> None:
    await desk.answer("q1", LONG, verbatim=True)
    await desk.answer("q2", "Boil it.", verbatim=True)
    assert await desk.ask_more("m1") == TEXTS.say("no_more", "en")
    # The old answer once more, delivered late: still not meant.
    await desk.answer("q1", LONG, verbatim=True)
    assert await desk.ask_more("m2") == TEXTS.say("no_more", "en")


async def test_a_notice_leaves_the_rest_alone(desk: Desk) -> None:
    await desk.answer("q1", LONG, verbatim=True)
    await desk.answer("q2", "Part of your text did not arrive.", verbatim=True, kind="notice", step="notice")
    assert (await desk.ask_more("m1")).startswith(("7.", "8.", "9.", "6."))


async def test_people_do_not_see_each_others_rest(desk: Desk) -> None:
    await desk.answer("q1", LONG, verbatim=True)
    assert await desk.ask_more("m1", sender_ref="ben") == TEXTS.say("no_more", "en")


async def test_a_text_that_fits_writes_nothing(desk: Desk) -> None:
    await desk.answer("q1", "Boil it.", verbatim=True)
    assert await desk.more.keys() == []


async def test_shortening_is_checked_too_and_keeps_the_answer(desk: Desk) -> None:
    passage = Passage(id="p", text=LONG, source="WHO", score=0.9)
    text = "Please do this: " + " ".join(f"Press on wound {n} for {n} minutes." for n in range(1, 12))
    sms = await desk.answer("q1", text, passages=(passage,), sources=("WHO",))
    assert sms.step == "model"
    assert "for 1 min." in sms.text


async def test_one_segment_is_enough_when_the_node_says_so() -> None:
    desk = Desk(max_segments=1)
    sms = await desk.answer("q1", LONG, verbatim=True)
    assert segment([sms.text])[0].count == 1
    assert sms.text.endswith(HINT)


def test_broken_rules_are_an_error_at_start_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shared\.toml"):
        load_compressor(tmp_path)
    (tmp_path / "compress").mkdir()
    for name in ("compress/shared.toml", "compress/en.toml", "compress/substances.txt", "folding.toml"):
        (tmp_path / name).write_text((SHIPPED / name).read_text())
    assert load_compressor(tmp_path).languages == ["en"]
    english, folding = tmp_path / "compress" / "en.toml", tmp_path / "folding.toml"
    folding.write_text(folding.read_text().replace('"papá"', '"bebé"'))
    with pytest.raises(ConfigError, match='"es", rule "bebé"'):
        load_compressor(tmp_path)
    english.write_text(english.read_text().replace("concord = false", "concord = 7"))
    with pytest.raises(ConfigError, match="concord"):
        load_compressor(tmp_path)


def test_a_hint_that_leaves_no_room_is_an_error_at_start(tmp_path: Path) -> None:
    notices = (SHIPPED / "notices" / "es.toml").read_text()
    old = TEXTS.say("more_hint", "es")
    (tmp_path / "notices").mkdir()
    (tmp_path / "notices" / "es.toml").write_text(notices.replace(old, "Escriba MORE " + "x" * 60))
    texts = Texts.load([SHIPPED, tmp_path])
    with pytest.raises(ConfigError, match="more_hint in 'es'"):
        Compress("n1", COMPRESSOR, MemoryKeyValue(), MemoryKeyValue(), texts, lambda _: None, 1)


WAIT = Deadline("boot", 100.0)
WEAK = Passage(id="shelter", text="Stay in the shelter until officials say so.", source="F1", score=0.3)
UNSURE = {"step": "unsure", "verbatim": True}
CENTRE = {"by_centre": True, "wait": WAIT, "asked": True, "passages": (BOIL,)}


async def test_the_centre_in_time_is_the_reply_and_the_ladder_is_silent() -> None:
    desk = Desk()
    reply = await desk.answer("q1", BOIL.text, **CENTRE)
    assert reply.kind == "reply"
    assert await desk.outputs("q1", "I do not know.", asked=True, wait=WAIT, **UNSURE) == []
    assert (await desk.answer("q1", BOIL.text, **CENTRE)).text == reply.text  # delivered again
    assert (
        await desk.outputs("q1", "Boil the water, then cool it.", **CENTRE) == []
    )  # made again, other words


async def test_a_late_answer_is_one_follow_up() -> None:
    desk = Desk()
    assert (await desk.answer("q1", "I do not know.", asked=True, wait=WAIT, **UNSURE)).kind == "reply"
    late = await desk.answer("q1", BOIL.text, **CENTRE)
    assert late.kind == "followup"
    assert late.text.startswith("More on your question: ")
    assert late.ledger_key(1) == "q1.followup.1"


async def test_a_late_answer_that_adds_nothing_is_not_sent() -> None:
    desk = Desk()
    await desk.answer("q1", BOIL.text, asked=True, wait=WAIT, step="verbatim", verbatim=True)
    assert await desk.outputs("q1", BOIL.text, **CENTRE) == []
    assert await desk.outputs("q1", "I do not know.", **{**CENTRE, **UNSURE}) == []
    # Words that no passage supports fall back to the passage, which the person has read.
    assert await desk.outputs("q1", "Boil it for 20 minutes with bleach.", **CENTRE) == []
    assert {event.kind for event in desk.events} >= {"superseded"}


async def test_a_passage_that_hardly_fits_is_never_sent_by_itself() -> None:
    """The centre's model sees passages that the search is not sure of, and its words may be refused."""
    desk = Desk()
    supported = await desk.answer("q1", WEAK.text, **{**CENTRE, "passages": (WEAK,)})
    assert supported.text == WEAK.text
    refused = {**CENTRE, "passages": (WEAK,)}
    assert await desk.outputs("q2", "Stay there for 20 days with bleach.", **refused) == []
    assert (await desk.answer("q2", "I do not know.", asked=True, wait=WAIT, **UNSURE)).kind == "reply"
    both = {**CENTRE, "passages": (WEAK, BOIL)}
    assert (
        await desk.answer("q3", "Stay there for 20 days with bleach.", **both)
    ).text == f"{BOIL.text} [C1]"


TOWER = Passage(
    id="wiki/1",
    text="The tower of Serrat is 330 m high. Paracetamol is taken as 500 mg tablets. "
    "Call 555 1234 for tickets.",
    source="Wiki",
    score=0.49,
    licence="CC-BY-SA-4.0",
    date="2026-11-01",
)


async def test_a_passage_that_nobody_reviewed_supports_a_fact_and_is_never_sent_by_itself(desk: Desk) -> None:
    fact = await desk.answer("q1", "The tower of Serrat is 330 m high.", passages=(TOWER,), by_centre=True)
    assert fact.text.startswith("The tower of Serrat is 330 m high.")
    sure = Passage(**{**{name: getattr(TOWER, name) for name in TOWER.__struct_fields__}, "score": 0.99})
    for made_up in ("The tower of Serrat is 400 m high.", ""):
        for passage in (TOWER, sure):
            sent = await desk.answer(
                f"q{len(made_up)}-{passage.score}", made_up, passages=(passage,), by_centre=True
            )
            assert sent.step == "unsure"
            assert sent.text == TEXTS.say("unsure", "en")


@pytest.mark.parametrize(
    "advice",
    ["Paracetamol is taken as 500 mg tablets.", "Call 555 1234 for tickets."],
)
async def test_what_one_does_to_a_body_rests_on_reviewed_words(desk: Desk, advice: str) -> None:
    assert (await desk.answer("q1", advice, passages=(TOWER,), by_centre=True)).step == "unsure"
    reviewed = Passage(id="a", text=TOWER.text, score=0.6)
    assert (await desk.answer("q2", advice, passages=(TOWER, reviewed), by_centre=True)).step == "model"


async def test_an_answer_past_its_time_ends_with_an_event() -> None:
    desk = Desk()
    await desk.answer("q1", "I do not know.", asked=True, wait=WAIT, **UNSURE)
    desk.left_s = 0.0
    assert await desk.outputs("q1", BOIL.text, **CENTRE) == []
    assert [event.query_id for event in desk.events if event.kind == "expired"] == ["q1"]
    assert await desk.outputs("q2", BOIL.text, **CENTRE) == []  # and without any answer before


WORDY = " ".join(f"Rest in the shade for {n} minutes and drink {n} cups of water." for n in range(2, 9))
REST = Passage(id="rest", title="Rest", text=WORDY, score=0.7)


async def test_a_low_battery_makes_what_a_model_wrote_one_sms_and_leaves_passages_whole() -> None:
    low = [True]
    desk = Desk(max_segments=4)
    desk.compress._brevity = lambda lane: "battery 29 %" if low[0] and lane == "routine" else None

    async def size_of(query_id: str, lane: str, step: str) -> int:
        verbatim = step == "verbatim"
        fields = {"lane": lane, "step": step, "verbatim": verbatim, "passages": (REST,)}
        [output] = await desk.outputs(query_id, WORDY, **fields)
        assert isinstance(output.message, OutboundSms)
        [size] = segment([output.message.text])
        return size.count

    assert await size_of("q1", "routine", "model") == 1
    assert desk.events[-1].fields["brief"] == "battery 29 %"
    assert await size_of("q2", "routine", "verbatim") == 2, "half a reviewed passage may be the wrong half"
    assert await size_of("q3", "priority", "model") > 2
    assert desk.events[-1].fields["brief"] == ""
    low[0] = False
    assert await size_of("q4", "routine", "model") > 2


async def test_little_memory_makes_an_answer_as_short_as_it_is_whole() -> None:
    text = (
        "Please make sure to rest in the shade for 2 minutes. It is important to drink 3 cups of water "
        "immediately. Kindly keep the head of the person low at this time. I hope this helps!"
    )
    desk = Desk(max_segments=2)
    fields = {
        "lane": "priority",
        "step": "model",
        "passages": (Passage(id="r", title="R", text=text, score=0.7),),
    }
    [whole] = await desk.outputs("q1", text, **fields)
    desk.compress._thrift = lambda lane: None if lane == "flash" else "90 MB free are below 100 MB"
    [brief] = await desk.outputs("q2", text, **fields)
    assert isinstance(whole.message, OutboundSms)
    assert isinstance(brief.message, OutboundSms)
    sizes = segment([whole.message.text, brief.message.text])
    assert [size.count for size in sizes] == [2, 1]
    assert desk.events[-1].fields["brief"] == "90 MB free are below 100 MB"
    assert desk.events[-1].fields["rest"] == 0


async def test_every_shipped_passage_is_whole_on_a_low_battery() -> None:
    desk = Desk()
    desk.compress._brevity = lambda _: "battery 19 %"
    for number, article in enumerate(TEXTS.articles()):
        fields = {"lang": article.lang, "lane": "routine", "step": "verbatim", "verbatim": True}
        [output] = await desk.outputs(f"q{number}", article.text, **fields)
        assert isinstance(output.message, OutboundSms)
        assert not output.message.text.endswith(TEXTS.say("more_hint", article.lang)), article.id


async def test_the_actor_of_a_node_follows_its_battery() -> None:
    context = MemoryContext(Config({"node": {"name": "n1"}}), Identity("n1", b"x", "0"))
    made = await build(context)
    for percent, segments in ((29.0, 1), (31.0, 2), (None, 2)):
        context.state = NodeState(node="n1", battery_rule_percent=percent)
        answer = Answer(
            query_id=f"q{percent}",
            node="n1",
            sender_ref="ana",
            text=WORDY,
            lang="en",
            lane="routine",
            step="model",
            passages=(REST,),
        )
        [output] = await made.handlers["compress"](answer)
        assert isinstance(output.message, OutboundSms)
        [size] = segment([output.message.text])
        assert size.count == segments


# what was taken out before the question left


async def taken_out(desk: Desk, **stands: str) -> None:
    kept = Taken("ana", {f"[{name.replace('_', '-')}]": words for name, words in stands.items()})
    await desk.masked.put("q1", msgspec.json.encode(kept))


async def test_what_was_taken_out_is_put_back_before_the_check(desk: Desk) -> None:
    await taken_out(desk, name1="Kofi Mensah", phone1="0712 345 678")
    said = "[name1]: bring the water to a rolling boil for 1 full minute."
    answer = await desk.answer("q1", said, by_centre=True, passages=(BOIL,))
    assert answer.text == "Kofi Mensah: bring the water to a rolling boil for 1 full minute."
    # A number that no passage has is refused, though the person wrote it; and no event tells it.
    harmful = "Boil it for 1 full minute, then call [phone1]."
    refused = await desk.answer("q1", harmful, by_centre=True, passages=(BOIL,))
    assert refused.text.startswith(BOIL.text)
    told = [event.fields["refused"] for event in desk.events if event.kind == "fitted"][-1]
    assert told
    assert not any("345" in reason for reason in told)


@pytest.mark.parametrize(
    "strange", ["[name2]", "[name]", "[ Name7 ]", "[PHONE1]", "name1", "NAME1", "[place-coordinates1]"]
)
async def test_an_answer_with_an_unknown_placeholder_is_refused(desk: Desk, strange: str) -> None:
    await taken_out(desk, name1="Kofi")
    said = f"Tell {strange} to bring the water to a rolling boil for 1 full minute."
    answer = await desk.answer("q1", said, by_centre=True, passages=(BOIL,))
    assert answer.step == "verbatim"
    assert answer.text.startswith(BOIL.text)
    assert [event.fields["reason"] for event in desk.events if event.kind == "refused"]


async def test_brackets_of_reviewed_texts_stay(desk: Desk) -> None:
    said = "Write [name] and age on the arm band."
    assert (await desk.answer("q1", said, verbatim=True, step="verbatim")).text == said


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("[name1] and [NAME1], [phone1]", "Kofi and Kofi, 5551234"),
        ("nothing", "nothing"),
        ("a surname1 is no placeholder", "a surname1 is no placeholder"),
        ("[name3]", None),
        ("ask name1", None),
    ],
)
def test_placeholders_are_put_back_whole_or_not_at_all(text: str, whole: str | None) -> None:
    assert restored(text, {"[name1]": "Kofi", "[phone1]": "5551234"}) == whole


ORIGIN = "7.0a1b2c3d"


async def over_mesh(desk: Desk, query_id: str, text: str, **fields: Any) -> list[MeshPacket]:
    found = await desk.outputs(query_id, text, origin=ORIGIN, asked=True, **fields)
    assert {output.subject for output in found} <= {names.MESH_OUT}
    return [output.message for output in found if isinstance(output.message, MeshPacket)]


async def test_an_answer_for_another_node_is_checked_here_and_goes_back_by_mesh(desk: Desk) -> None:
    text = "Dear [name1], add 6 drops of bleach to 4 l of clear water and wait 30 min."
    [packet] = await over_mesh(desk, "q1", text, passages=(BLEACH,), sources=("CDC",))
    assert (packet.peer, packet.lane, packet.query_id) == (7, "priority", "q1")
    assert packet.answer is not None
    assert "6 drops of bleach" in packet.answer.text
    assert "[name1]" in packet.answer.text
    assert (packet.answer.passages, packet.answer.question) == ((), "")
    assert packet.answer.sources == ("CDC",)
    wrong = text.replace("6 drops", "60 drops")
    [packet] = await over_mesh(desk, "q2", wrong, passages=(BLEACH,))
    assert packet.answer is not None
    assert packet.answer.text == BLEACH.text


async def test_another_node_hears_one_answer_and_never_that_nothing_is_known(desk: Desk) -> None:
    unsure = {"step": "unsure", "verbatim": True}
    assert await over_mesh(desk, "q1", "I do not know.", **unsure) == []
    assert await over_mesh(desk, "q1", "Drink 60 drops of bleach.", by_centre=True) == []
    [first] = await over_mesh(desk, "q1", LONG, verbatim=True, step="verbatim")
    again = await over_mesh(desk, "q1", LONG, verbatim=True, step="verbatim")
    assert again == [first]  # delivered again: the same message under the same id
    assert await over_mesh(desk, "q1", "Something else.", verbatim=True, step="verbatim") == []
    assert first.answer is not None
    assert segment([first.answer.text])[0].count <= 2
    assert "MORE" not in first.answer.text
    assert [event.kind for event in desk.events].count("superseded") == 3
    assert await desk.more.get("ana") is None
