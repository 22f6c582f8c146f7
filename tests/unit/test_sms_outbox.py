"""The outbox: what a person may do with a part whose fate nobody knows, whatever happens meanwhile."""

import msgspec
import pytest

from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.memory import MemoryKeyValue
from actors.sms.ledger import Entry, Ledger, State
from actors.sms.outbox import Outbox
from subjects.errors import RefusedError
from subjects.messages import Event, OutboundSms
from subjects.services import HeldPart, OutboxDecision, OutboxRequest

KEY = "q1.reply.2"
NUMBER = "+34600111222"
OUT = OutboundSms(
    query_id="q1",
    node="n1",
    text="first " * 30 + "second part",
    lang="en",
    lane="routine",
    step="verbatim",
    sender_ref="ana",
)


class Desk:
    """An outbox with one held part."""

    def __init__(self) -> None:
        self.bucket, self.ledger, self.numbers = MemoryKeyValue(), MemoryKeyValue(), MemoryKeyValue()
        self.published: list[Output] = []
        self.events: list[Event] = []
        self.fails = 0
        self.outbox = Outbox(
            self.bucket, self.ledger, self.numbers, self.publish, self.events.append, now=lambda: 50.0
        )

    async def publish(self, output: Output, _: str) -> None:
        if self.fails:
            self.fails -= 1
            raise BusError("the card is full")
        self.published.append(output)

    async def hold(self, state: State = "HELD") -> None:
        entry = Entry(state, "modem", "ref", "routine", 3, None, 1, "", 40.0, "nobody knows whether it left")
        await self.ledger.put(KEY, msgspec.json.encode(entry))
        await self.numbers.put("ana", NUMBER.encode())
        await self.outbox.keep(OUT, 2)

    async def state(self) -> str:
        found = await Ledger(self.ledger, "modem", str).read(KEY)
        assert found
        return found[0].state

    async def held(self, *, full: bool = False) -> tuple[HeldPart, ...]:
        return (await self.outbox.list(OutboxRequest(full=full))).held

    async def decide(self, *, send: bool) -> str:
        return (await self.outbox.decide(OutboxDecision(key=KEY, send=send))).state


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.hold()
    return made


async def test_it_says_which_part_of_what_and_why(desk: Desk) -> None:
    [part] = await desk.held()
    assert (part.key, part.state, part.since, part.part, part.parts) == (KEY, "HELD", 50.0, 2, 2)
    assert part.note == "nobody knows whether it left"
    assert (part.text, part.number, part.characters > 10) == ("", "", True)
    [part] = await desk.held(full=True)
    assert part.text.endswith("second part")
    assert part.number == NUMBER


async def test_keeping_it_twice_keeps_when_it_began(desk: Desk) -> None:
    desk.outbox = Outbox(
        desk.bucket, desk.ledger, desk.numbers, desk.publish, desk.events.append, now=lambda: 99.0
    )
    await desk.outbox.keep(OUT, 2)
    assert [part.since for part in await desk.held()] == [50.0]


async def test_sent_again_goes_the_way_of_every_text_under_an_id_of_its_own(desk: Desk) -> None:
    assert await desk.decide(send=True) == "UNSENT"
    [output] = desk.published
    assert (output.subject, output.lane, output.message, output.query_id) == ("sms.out", "routine", OUT, "q1")
    assert output.kind == f"again.{KEY}"
    assert await desk.held() == ()
    assert [event.kind for event in desk.events] == ["decided"]
    with pytest.raises(RefusedError, match="is not held: it is UNSENT"):
        await desk.decide(send=True)
    await desk.hold()  # and again nobody knows
    await desk.decide(send=True)
    assert len({output.ordinal for output in desk.published}) == 2


async def test_dropped_is_never_sent(desk: Desk) -> None:
    assert await desk.decide(send=False) == "FAILED"
    assert desk.published == []
    assert await desk.held() == ()
    assert await desk.state() == "FAILED"


async def test_what_was_settled_meanwhile_is_not_decided_and_leaves_the_list(desk: Desk) -> None:
    await desk.hold("DELIVERED")
    with pytest.raises(RefusedError, match="settled meanwhile: it is DELIVERED"):
        await desk.decide(send=True)
    assert desk.published == []
    assert await desk.bucket.keys() == []
    await desk.hold("SUBMITTED")
    assert await desk.held() == ()
    assert await desk.bucket.keys() == []


async def test_a_report_that_comes_between_reading_and_writing_wins(desk: Desk) -> None:
    update = desk.ledger.update

    async def slower(key: str, value: bytes, revision: int) -> int | None:
        desk.ledger.update = update  # type: ignore[method-assign]
        await desk.hold("DELIVERED")
        return await update(key, value, revision)

    desk.ledger.update = slower  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="DELIVERED"):
        await desk.decide(send=True)
    assert await desk.state() == "DELIVERED"
    assert desk.published == []


async def test_a_crash_between_ledger_and_bus_leaves_it_to_decide_again(desk: Desk) -> None:
    desk.fails = 1
    with pytest.raises(BusError):
        await desk.decide(send=True)
    assert [part.state for part in await desk.held()] == ["UNSENT"]
    assert await desk.decide(send=True) == "UNSENT"
    assert len(desk.published) == 1


async def test_what_is_unknown_is_refused() -> None:
    desk = Desk()
    with pytest.raises(RefusedError, match="the ledger does not know it"):
        await desk.decide(send=True)
