"""Public alerts: what is read, whom it concerns, what it says, and who is told again or not."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from evy_core import segment
from hypothesis import given, settings
from hypothesis import strategies as st

from actors._bulletins import cap, judge
from actors._bulletins.judge import Wanted
from actors._bulletins.places import BulletinConfig, PlaceConfig, within
from actors._bulletins.words import BRIEF_SEGMENTS, SEGMENTS, Words
from actors._people.consent import Consent
from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.memory import MemoryKeyValue
from actors.bulletin import Bulletins, told_key
from actors.knowledge import Texts, shipped_compressor
from subjects.bulletin import Bulletin, Info
from subjects.mesh import MeshPacket
from subjects.messages import Event, OutboundSms, decode, encode
from subjects.node_state import MeshState, NodeState
from tests import cap_vectors

NODE = cap_vectors.node()
WORDS = Words(Texts.load(), shipped_compressor, zone=NODE.bulletin.zone)
SENT = 1_780_695_780.0
"""2026-06-05T14:43:00-07:00, when the flood's first alert was sent."""


def alert(name: str) -> Bulletin:
    return cap.read((cap_vectors.FOLDER / f"{name}.xml").read_bytes())


@pytest.mark.parametrize("path", cap_vectors.files(), ids=lambda path: path.stem)
def test_each_alert_becomes_what_was_read_and_approved(path: Path) -> None:
    assert cap_vectors.happens(path, NODE, WORDS) == cap_vectors.expected()[path.stem]


def test_every_text_names_its_sender_and_fits() -> None:
    texts = [
        (name, text)
        for name, people in cap_vectors.expected().items()
        for key, text in people.items()
        if key not in {"refused", "not sent"}
    ]
    assert len(texts) > 150
    for name, text in texts:
        [cut] = segment([text])
        assert cut.count <= SEGMENTS[cut.encoding == "ucs2"], (name, text)
        assert any(
            f"{word}: " in text for word in ("From", "De", "Soti nan", "Kutoka", "Mula sa", "भेजा", "من")
        )


def test_a_text_on_a_low_battery_takes_one_sms_and_keeps_what_where_until_and_who() -> None:
    for name in ("flood", "long-words", "nine-languages", "chemical"):
        bulletin = alert(name)
        for lang in WORDS.phrases:
            matter = judge.matter(bulletin, Wanted("p", lang), NODE.bulletin, bulletin.sent_at)
            assert matter is not None
            text = WORDS.tells(
                matter.info, matter.area, lang, sender=matter.sender, now=SENT, own=matter.own, brief=True
            )
            [cut] = segment([text])
            assert cut.count <= BRIEF_SEGMENTS[cut.encoding == "ucs2"], text
            assert "18:00" in text


@pytest.mark.parametrize("lang", sorted(WORDS.phrases))
def test_every_phrase_is_in_letters_that_do_not_halve_the_sms(lang: str) -> None:
    phrases = WORDS.phrases[lang]
    assert phrases.same_keys(WORDS.phrases["en"])
    assert phrases.event.keys() == WORDS.events.keys()
    said = [
        text
        for name in ("say", "severity", "urgency", "certainty", "response", "category", "event")
        for text in getattr(phrases, name).values()
    ]
    if lang not in {"ar", "hi"}:
        assert [text for text in said if segment([text])[0].encoding != "gsm7"] == []
    topics = Texts.load().topics
    assert {event.template for event in WORDS.events.values() if event.template} <= topics


@given(st.binary(max_size=2000))
@settings(max_examples=60)
def test_nothing_but_a_cap_error_comes_of_any_octets(octets: bytes) -> None:
    with pytest.raises(cap.CapError):
        cap.read(octets)


FLOOD = (cap_vectors.FOLDER / "flood.xml").read_bytes()


@given(st.integers(0, len(FLOOD) - 1), st.integers(0, 255))
@settings(max_examples=60)
def test_a_damaged_alert_is_read_or_refused(at: int, octet: int) -> None:
    try:
        read = cap.read(FLOOD[:at] + bytes([octet]) + FLOOD[at + 1 :])
    except cap.CapError:
        return
    assert decode(encode(read), Bulletin) == read


def test_what_is_too_large_or_too_deep_is_refused_unread() -> None:
    with pytest.raises(cap.CapError, match="at most 1048576"):
        cap.read(FLOOD + b" " * 10_000_000)
    with pytest.raises(cap.CapError):
        cap.read(b"<a>" * 300_000)
    ring = " ".join(f"{index / 1000:.3f},1" for index in range(12_000))
    with pytest.raises(cap.CapError, match="points, at most"):
        cap.read(
            FLOOD.replace(
                b"38.40,-120.05 38.40,-119.80 38.60,-119.80 38.60,-120.05 38.40,-120.05", ring.encode()
            )
        )


def test_an_identity_is_the_same_in_another_zone() -> None:
    first, update = alert("flood"), alert("flood-update-longer")
    assert update.references[0].key == first.key
    assert first.sent_at == SENT


@given(
    st.floats(-80, 80),
    st.floats(-180, 180),
    st.floats(0.05, 5),
    st.floats(0.05, 5),
    st.booleans(),
    st.integers(0, 3),
)
@settings(max_examples=80)
def test_a_box_holds_its_middle_wherever_it_lies_and_whichever_way_it_goes(  # noqa: PLR0917  # hypothesis'
    latitude: float, longitude: float, high: float, wide: float, backwards: bool, begin: int
) -> None:
    def at(lat: float, lon: float) -> tuple[float, float]:
        return lat, (lon + 180) % 360 - 180

    corners = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
    corners = corners[begin:] + corners[:begin]
    ring = [
        at(latitude + high * a, longitude + wide * b)
        for a, b in (reversed(corners) if backwards else corners)
    ]
    ring.append(ring[0])
    assert within(at(latitude, longitude), ring)
    assert not within(at(latitude, longitude + 3 * wide), ring)
    assert not within(at(latitude - 2.5 * high, longitude), ring)


def test_a_place_near_the_edge_is_in_the_area_by_its_radius_only() -> None:
    ring = ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0))
    assert not within((0.5, 1.05), ring)
    assert within((0.5, 1.05), ring, radius_km=6)
    assert not within((0.5, 1.05), ring, radius_km=5)


def test_a_place_that_nothing_could_find_is_refused() -> None:
    with pytest.raises(ValueError, match="give latitude and longitude, geocodes or words"):
        PlaceConfig("Nowhere")
    with pytest.raises(msgspec.ValidationError, match="Mars/Olympus"):
        msgspec.convert({"timezone": "Mars/Olympus"}, BulletinConfig)


class Town:
    """The actor of a node in memory; each text has left as soon as it is published."""

    def __init__(self, people: Sequence[Wanted] = (), **config: object) -> None:
        self.sent: list[OutboundSms] = []
        self.events: list[Event] = []
        self.at = SENT + 60
        self.leaves = True
        self.state = NodeState(node="n1")
        self.consents, self.ledger, self.kept = MemoryKeyValue(), MemoryKeyValue(), MemoryKeyValue()
        self.people = people or (Wanted("ana", "en", ("alpine",)), Wanted("luz", "es", ("alpine",)))
        self.config = msgspec.structs.replace(NODE.bulletin, **config)
        self.actor = self.started()

    def started(self) -> Bulletins:
        return Bulletins(
            node="n1",
            config=self.config,
            words=WORDS,
            kept=self.kept,
            consents=self.consents,
            sessions=MemoryKeyValue(),
            ledger=self.ledger,
            publish=self.publish,
            emit=self.events.append,
            state=lambda: self.state,
            clock=lambda: self.at,
            now_s=lambda: self.at,
        )

    async def publish(self, output: Output, _: str) -> None:
        sms = output.message
        assert isinstance(sms, OutboundSms)
        assert output.lane == sms.lane
        self.sent.append(sms)
        if self.leaves:
            for part in range(1, 4):
                await self.ledger.put(sms.ledger_key(part), b'{"state":"SUBMITTED"}')

    async def hear(self, *names: str) -> list[tuple[str, str]]:
        """Alerts arrive, everything due goes out; gives who got what."""
        for person in self.people:
            consent = Consent(stopped=False, alerts=True, places=person.places, lang=person.lang)
            await self.consents.put(person.ref, msgspec.json.encode(consent))
        for name in names:
            await self.actor.handle(alert(name))
        return await self.drain()

    async def drain(self, most: int = 1000) -> list[tuple[str, str]]:
        before = len(self.sent)
        await self.actor.look()
        while most and (saying := await self.actor.next()):
            most -= 1
            await self.actor._tell(saying)
        return [(sms.sender_ref, sms.text) for sms in self.sent[before:]]

    def reasons(self) -> list[str]:
        return [event.fields["reason"] for event in self.events if event.kind == "bulletin_ignored"]


async def test_an_alert_is_told_once_to_who_wants_it_and_not_again_after_a_restart() -> None:
    town = Town()
    assert [ref for ref, _ in await town.hear("flood")] == ["ana", "luz"]
    assert await town.hear("flood") == []
    assert town.reasons() == ["known already"]
    town.actor = town.started()
    assert await town.hear("flood") == []


async def test_who_wants_no_alerts_or_lives_elsewhere_hears_nothing() -> None:
    town = Town([Wanted("far", "en", ("la",)), Wanted("all", "en", ())])
    await town.consents.put("stop", msgspec.json.encode(Consent(stopped=True, alerts=True)))
    await town.consents.put("none", msgspec.json.encode(Consent(stopped=False)))
    assert [ref for ref, _ in await town.hear("flood")] == ["all"]


async def test_an_update_is_told_only_when_something_changed_that_matters() -> None:
    town = Town()
    await town.hear("flood")
    assert await town.hear("flood-update-wording") == []
    [(_, text), _] = await town.hear("flood-update-worse")
    assert text.startswith("UPDATE. EXTREME DANGER: ")
    assert "Climb to higher ground now. Do not wait." in text


async def test_an_update_replaces_what_was_not_sent_yet() -> None:
    town = Town()
    await town.hear()
    await town.actor.handle(alert("flood"))
    assert [ref for ref, _ in await town.drain(most=1)] == ["ana"]
    texts = dict(await town.hear("flood-update-longer"))
    assert texts["ana"].startswith("UPDATE. ")
    assert texts["luz"].startswith("PELIGRO: ")
    assert len(town.sent) == 3


async def test_a_text_that_never_left_is_not_taken_for_told() -> None:
    town = Town()
    town.leaves = False
    await town.hear()
    await town.actor.handle(alert("flood"))
    await town.actor.look()
    saying = await town.actor.next()
    assert saying is not None
    telling = asyncio.create_task(town.actor._tell(saying))
    await asyncio.sleep(0)
    await town.actor.heard(
        Event(kind="withheld", node="n1", actor="sms", at=0, query_id=town.sent[0].query_id)
    )
    await telling
    town.leaves = True
    texts = dict(await town.hear("flood-update-longer"))
    assert texts["ana"].startswith("DANGER: ")


async def test_a_cancel_goes_to_who_got_the_alert_and_in_its_own_words_where_it_has_any() -> None:
    town = Town()
    await town.hear("flood")
    town.people = [*town.people, Wanted("new", "en", ("alpine",))]
    texts = dict(await town.hear("flood-cancel"))
    assert texts == {
        "ana": "CANCELLED: flood, Alpine, CA. The heavy rain has ended. Flooding is no longer expected. "
        "From: NWS Sacramento CA.",
        "luz": "CANCELADO: inundacion, Alpine, CA. De: NWS Sacramento CA.",
    }
    assert await town.hear("flood-cancel") == []


async def test_an_update_that_moves_away_and_an_all_clear_end_it_for_who_was_told() -> None:
    town = Town()
    await town.hear("flood")
    texts = dict(await town.hear("flood-update-moved"))
    assert texts["ana"] == "No longer for Alpine, CA: flood. From: NWS Sacramento CA."
    town = Town()
    await town.hear("flood")
    town.people = [*town.people, Wanted("new", "en", ("alpine",))]
    texts = dict(await town.hear("flood-all-clear"))
    assert texts.keys() == {"ana", "luz"}
    assert "The flood water has gone down." in texts["ana"]
    assert "El peligro ha pasado." in texts["luz"]


@pytest.mark.parametrize("first", ["flood-cancel", "flood-update-longer"])
async def test_what_comes_after_its_own_update_or_cancel_is_not_told(first: str) -> None:
    town = Town()
    before = await town.hear(first)
    assert await town.hear("flood") == []
    assert [ref for ref, _ in before] == ([] if first == "flood-cancel" else ["ana", "luz"])


async def test_of_two_updates_of_one_alert_the_later_one_holds_in_any_order() -> None:
    for order in (
        ("flood-update-longer", "flood-update-worse"),
        ("flood-update-worse", "flood-update-longer"),
    ):
        town = Town()
        texts = await town.hear("flood", *order)
        assert [ref for ref, _ in texts] == ["ana", "luz"]
        assert all("EXTREM" in text for _, text in texts)


async def test_nobody_but_its_sender_cancels_an_alert() -> None:
    town = Town()
    await town.hear("flood")
    assert await town.hear("flood-cancel-by-another") == []
    assert town.reasons() == [f"refers to alerts of {alert('flood').sender}"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scope-restricted", "scope Restricted"),
        ("scope-private", "scope Private"),
        ("status-test", "status Test"),
        ("status-draft", "status Draft"),
        ("status-system", "status System"),
        ("status-exercise", "an exercise"),
        ("type-ack", "msgType Ack"),
        ("type-error", "msgType Error"),
        ("expired", "expired"),
        ("area-elsewhere", "no place"),
    ],
)
async def test_what_is_not_for_these_people_is_an_event_and_no_text(name: str, reason: str) -> None:
    town = Town()
    town.at = alert(name).sent_at + 600
    assert await town.hear(name) == []
    assert town.reasons()[0].startswith(reason)


async def test_an_exercise_goes_out_marked_where_that_is_wanted() -> None:
    town = Town(exercises=True)
    assert [text.partition(".")[0] for _, text in await town.hear("status-exercise")] == [
        "EXERCISE, not real",
        "SIMULACRO, no es real",
    ]


async def test_the_worst_is_told_first_and_in_the_priority_lane() -> None:
    town = Town([Wanted("ana", "en", ("alpine",))])
    await town.hear("power-outage", "unknown-event", "tornado-same", "flood")
    assert [sms.text.partition(":")[0] for sms in town.sent] == [
        "EXTREME DANGER",
        "DANGER",
        "WARNING",
        "WARNING",
    ]
    assert [sms.lane for sms in town.sent] == ["priority", "routine", "routine", "routine"]
    assert {sms.kind for sms in town.sent} == {"alert"}


async def test_an_expired_alert_is_never_told_however_late_its_turn_comes() -> None:
    town = Town()
    await town.hear()
    await town.actor.handle(alert("flood"))
    await town.drain(most=1)
    town.at = alert("flood").infos[0].expires_at or 0
    assert await town.drain() == []


async def test_a_node_without_a_clock_goes_by_the_centre_s() -> None:
    town = Town()
    town.at = 1000.0
    late = msgspec.structs.replace(alert("flood"), as_of=SENT + 5 * 3600)
    await town.hear()
    await town.actor.handle(late)
    assert town.reasons() == ["expired"]


@pytest.mark.parametrize(("battery", "told"), [(None, 3), (50.0, 3), (29.0, 2), (19.0, 1)], ids=str)
async def test_a_low_battery_is_for_the_worst(battery: float | None, told: int) -> None:
    town = Town([Wanted("ana", "en", ("alpine",))])
    town.state = NodeState(node="n1", battery_rule_percent=battery)
    texts = await town.hear("power-outage", "flood", "tornado-same")
    assert len(texts) == told
    if battery and battery < 30:
        assert {segment([text])[0].count for _, text in texts} == {1}
    town.state = NodeState(node="n1", battery_rule_percent=60.0)
    assert len(await town.drain()) == 3 - told


async def test_half_of_the_modem_s_time_is_left_to_others() -> None:
    town = Town([Wanted("ana", "en", ("alpine",))])
    await town.hear()
    await town.actor.handle(alert("flood"))
    await town.actor.look()
    saying = await town.actor.next()
    assert saying is not None
    town.leaves = False
    telling = asyncio.create_task(town.actor._tell(saying))
    await asyncio.sleep(0)
    town.at += 6
    await town.ledger.put(town.sent[0].ledger_key(1), b'{"state":"SUBMITTED"}')
    await town.ledger.put(town.sent[0].ledger_key(2), b'{"state":"SUBMITTED"}')
    assert await telling == pytest.approx(6.0)


async def test_what_was_told_is_the_person_s_to_be_forgotten() -> None:
    town = Town()
    await town.hear("flood")
    assert told_key(alert("flood").key, "ana") in await town.kept.keys("told.")
    assert len(town.sent[0].query_id) == 32  # as `evy forget` knows ids


def test_what_is_due_is_kept_a_day_after_its_end_and_then_goes() -> None:
    async def main() -> None:
        town = Town()
        await town.hear("flood")
        town.at += 40 * 3600
        await town.actor.look()
        assert await town.kept.keys() == []

    asyncio.run(main())


def test_events_are_known_in_many_languages() -> None:
    def key(event: str, *codes: tuple[str, str]) -> str:
        return WORDS.event_of(Info(event, "Immediate", "Severe", "Observed", codes=codes))

    known = {
        "Winter Storm Warning": "snow",
        "Tropical Storm Watch": "cyclone",
        "Storm Surge Warning": "surge",
        "Air Quality Alert": "smoke",
        "Inondation": "flood",
        "Ouragan": "cyclone",
        "Vague de chaleur / canicule": "heat",
        "बाढ़ की चेतावनी": "flood",
        "زلزال": "earthquake",
        "Boil Water Notice": "water",
        "Water Main Break": "",
        "Red Flag Warning": "wildfire",
        "911 Telephone Outage": "phones",
    }
    assert {event: key(event) for event in known} == known
    assert key("Advisory", ("SAME", "TOR")) == "tornado"


async def test_a_crash_before_it_is_noted_says_it_under_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    town = Town()
    await town.hear()
    await town.actor.handle(alert("flood"))
    await town.actor.look()
    saying = await town.actor.next()
    assert saying is not None

    async def dies(_: object) -> None:
        raise BusError("gone")

    monkeypatch.setattr(town.actor, "_note", dies)
    with pytest.raises(BusError):
        await town.actor._tell(saying)
    town.actor = town.started()
    assert [ref for ref, _ in await town.drain()] == ["ana", "luz"]
    first, again, _ = town.sent
    assert again == first


async def test_a_grave_alert_goes_to_the_other_nodes_of_the_mesh_unless_it_came_from_there() -> None:
    town = Town()
    flood = alert("flood")
    [info] = flood.infos[:1]

    async def over_mesh(name: str, severity: str, feed: str = "weather") -> list[Output]:
        infos = (msgspec.structs.replace(info, severity=severity),)
        said = msgspec.structs.replace(flood, identifier=name, infos=infos, feed=feed)
        return list(await town.actor.handle(said))

    assert await over_mesh("a", "Extreme") == []  # there is no mesh
    town.state = NodeState(node="n1", mesh=MeshState(radio="up", neighbours=1))
    [output] = await over_mesh("b", "Severe")
    assert isinstance(output.message, MeshPacket)
    assert (output.subject, output.lane, output.optional) == ("mesh.out", "routine", True)
    assert output.message.bulletin is not None
    assert output.message.bulletin.identifier == "b"
    assert output.message.until is not None
    assert await over_mesh("c", "Minor") == []
    assert await over_mesh("d", "Extreme", feed="mesh") == []
