"""The send ledger: every crash between INTENT and SUBMITTED ends in one text or in a question."""

import dataclasses

import msgspec
import pytest

from actors._runtime.bus import BusError
from actors._runtime.memory import MemoryKeyValue
from actors.sms.ledger import LAST_WRITTEN, Entry, Ledger
from actors.sms.modem import Concat, Received, Report
from actors.sms.parts import Parts, StoredPart, join, payload_digest
from subjects.names import Lane

KEY = "q1.reply.1"
TO = "ref-+5091"


class Book:
    """A bucket that outlives the processes that write it."""

    def __init__(self) -> None:
        self.bucket = MemoryKeyValue()

    def process(self) -> Ledger:
        return Ledger(self.bucket, "modem", lambda number: f"ref-{number}")

    async def entry(self, key: str = KEY) -> Entry:
        found = await self.bucket.get(key)
        assert found is not None
        return msgspec.json.decode(found[0], type=Entry)


async def crashed_after_intent(book: Book, lane: Lane = "routine", last: int | None = 41) -> None:
    ledger = book.process()
    await ledger.opened(last)
    assert await ledger.intend(KEY, TO, lane, None)


async def test_the_key_can_be_created_once_only() -> None:
    book = Book()
    ledger = book.process()
    await ledger.opened(41)
    assert await ledger.intend(KEY, TO, "routine", None)
    assert await ledger.intend(KEY, TO, "routine", None) is None


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [(41, 41, "UNSENT"), (41, 42, "SUBMITTED"), (255, 0, "SUBMITTED"), (0, 0, "UNSENT")],
)
async def test_the_modems_last_reference_settles_it_exactly(before: int, after: int, state: str) -> None:
    book = Book()
    await crashed_after_intent(book, last=before)
    [(key, entry)] = await book.process().opened(after)
    assert (key, entry.state) == (KEY, state)
    assert (await book.entry()).state == state


async def test_a_modem_that_lost_power_may_have_counted_before_it_sent() -> None:
    for lane, state in (("flash", "UNSENT"), ("priority", "HELD"), ("routine", "HELD")):
        book = Book()
        await crashed_after_intent(book, lane)  # type: ignore[arg-type]  # three literals
        ledger = book.process()
        await ledger.opened(42, power_kept=False)
        assert (await book.entry()).state == state
        await ledger.intend("q2.reply.1", TO, "routine", None)
        await ledger.submitted("q2.reply.1", 43)  # says nothing about the one before
        assert (await book.entry()).state == state
        if state == "HELD":
            assert await ledger.report(Report(42, "5091", delivered=True, final=True, status=0)) == KEY
            assert (await book.entry()).state == "DELIVERED"


async def test_after_a_reboot_the_modem_may_have_lost_power_too() -> None:
    book = Book()
    await crashed_after_intent(book)
    entry = msgspec.structs.replace(await book.entry(), boot="an earlier boot")
    await book.bucket.put(KEY, msgspec.json.encode(entry))
    await book.process().opened(42)
    assert (await book.entry()).state == "HELD"


@pytest.mark.parametrize(("before", "after"), [(41, None), (None, 42), (41, 50)])
async def test_when_nobody_knows_flash_is_sent_again_and_the_rest_is_held(
    before: int | None, after: int | None
) -> None:
    for lane, state in (("flash", "UNSENT"), ("priority", "HELD"), ("routine", "HELD")):
        book = Book()
        await crashed_after_intent(book, lane, before)  # type: ignore[arg-type]  # three literals
        await book.process().opened(after)
        assert (await book.entry()).state == state


@pytest.mark.parametrize(("next_reference", "state"), [(42, "UNSENT"), (43, "SUBMITTED"), (44, "HELD")])
async def test_the_next_reference_settles_what_was_held(next_reference: int, state: str) -> None:
    book = Book()
    await crashed_after_intent(book)
    ledger = book.process()
    await ledger.opened(None)
    await ledger.intend("q2.reply.1", TO, "routine", None)
    await ledger.submitted("q2.reply.1", next_reference)
    assert (await book.entry()).state == state


async def test_a_status_report_settles_what_was_held() -> None:
    book = Book()
    await crashed_after_intent(book)
    ledger = book.process()
    await ledger.opened(None)
    wrong = Report(99, "+5091", delivered=True, final=True, status=0)
    assert await ledger.report(wrong) is None
    assert await ledger.report(Report(42, "5091", delivered=True, final=True, status=0)) == KEY
    assert (await book.entry()).state == "DELIVERED"


async def test_reports_of_other_numbers_and_other_wraps_change_nothing() -> None:
    book = Book()
    ledger = book.process()
    await ledger.opened(41)
    await ledger.intend(KEY, TO, "routine", None)
    await ledger.submitted(KEY, 42)
    assert await ledger.report(Report(42, "+5099", delivered=True, final=True, status=0)) is None
    assert await ledger.report(Report(42, "+5091", delivered=False, final=False, status=0x20)) == KEY
    assert (await book.entry()).state == "SUBMITTED"
    await ledger.intend("q2.reply.1", "ref-+5092", "routine", None)
    await ledger.submitted("q2.reply.1", 42)  # 256 texts later
    assert await ledger.report(Report(42, "+5091", delivered=True, final=True, status=0)) is None
    assert await ledger.report(Report(42, "+5092", delivered=True, final=True, status=0)) == "q2.reply.1"


@pytest.mark.parametrize(("status", "state"), [(0x46, "EXPIRED"), (0x41, "FAILED")])
async def test_a_report_of_failure_is_final(status: int, state: str) -> None:
    book = Book()
    ledger = book.process()
    await ledger.opened(41)
    await ledger.intend(KEY, TO, "routine", None)
    await ledger.submitted(KEY, 42)
    await ledger.report(Report(42, "+5091", delivered=False, final=True, status=status))
    assert (await book.entry()).state == state


async def test_reports_find_texts_of_an_earlier_process() -> None:
    book = Book()
    ledger = book.process()
    await ledger.opened(41)
    await ledger.intend(KEY, TO, "routine", None)
    await ledger.submitted(KEY, 42)
    later = book.process()
    assert await later.opened(42) == []
    assert await later.report(Report(42, "+5091", delivered=True, final=True, status=0)) == KEY


async def test_a_refused_submission_leaves_the_reference_unknown() -> None:
    """The modem may or may not have used up a TP-MR for it, so the next crash must not trust the count."""
    book = Book()
    ledger = book.process()
    await ledger.opened(41)
    await ledger.intend(KEY, TO, "routine", None)
    await ledger.unsent(KEY, "CMS ERROR 38")
    assert await ledger.intend(KEY, TO, "routine", await ledger.read(KEY))
    assert (await book.entry()).tries == 2
    await book.process().opened(42)
    assert (await book.entry()).state == "HELD"


async def test_the_ledger_of_another_modem_is_left_alone() -> None:
    book = Book()
    await crashed_after_intent(book)
    other = Ledger(book.bucket, "second", lambda number: f"ref-{number}")
    assert await other.opened(42) == []
    assert (await book.entry()).state == "INTENT"


def piece(index: int, text: str, total: int = 3) -> Received:
    return Received(index, "+5091", text, 1000.0, Concat(7, total, index))


async def test_parts_come_out_in_order_whatever_order_they_came_in() -> None:
    parts = Parts(MemoryKeyValue())
    group = parts.group("ref", 7, 3)
    for index, text in ((3, "\ude00!"), (1, "one "), (2, "two \ud83d")):
        assert await parts.add(group, piece(index, text))
    found = await parts.of(group)
    assert join(found) == "one two 😀!"
    assert list(await parts.waiting()) == [group]
    await parts.release(group, found)
    assert await parts.of(group) == []
    assert await parts.waiting() == {}


async def test_a_part_that_was_passed_on_is_known_and_any_other_is_kept() -> None:
    parts = Parts(MemoryKeyValue())
    group = parts.group("ref", 7, 3)
    await parts.add(group, piece(1, "one"))
    await parts.release(group, await parts.of(group))
    assert await parts.add(group, piece(1, "one")) is False
    assert await parts.add(group, piece(2, "late, but it may hold the address")) is True
    assert await parts.add(group, piece(1, "a new text under the same reference")) is True


async def test_what_a_crash_left_of_a_text_that_was_passed_on_is_not_fresh() -> None:
    parts = Parts(MemoryKeyValue())
    group = parts.group("ref", 7, 3)
    for index in (1, 2, 3):
        await parts.add(group, piece(index, "words"))
    found = await parts.of(group)
    await parts.release(group, found)
    assert await parts.fresh(group, found[1:]) == []
    assert await parts.fresh("another.7-3", found) == found


async def test_the_rest_of_a_text_is_known_by_its_place_and_time() -> None:
    parts = Parts(MemoryKeyValue())
    group = parts.group("ref", 7, 3)

    async def stored(index: int, smsc_at: float | None) -> list[StoredPart]:
        await parts.add(group, dataclasses.replace(piece(index, "words"), smsc_at=smsc_at))
        return [part for part in await parts.of(group) if part.index == index]

    assert await parts.is_rest(group, await stored(2, 1000.0)) is False  # nothing was passed on yet
    first = await stored(1, 1000.0)
    await parts.release(group, first)
    late = await stored(2, 1000.0 + 30)
    assert await parts.is_rest(group, late) is True
    assert await parts.is_rest(group, await stored(1, 1010.0)) is False
    assert await parts.is_rest(group, await stored(3, 1000.0 + 3600)) is False
    assert await parts.is_rest(group, await stored(3, None)) is False
    await parts.release(group, late, rest=True)
    assert await parts.fresh(group, [*first, *late]) == []
    await parts.release(group, first, flash=True)
    assert await parts.is_rest(group, await stored(2, 1000.0 + 30)) is False


async def test_a_reference_in_use_again_is_noticed() -> None:
    parts = Parts(MemoryKeyValue())
    group = parts.group("ref", 7, 3)
    assert await parts.is_of_another_text(group, piece(1, "one")) is False
    await parts.add(group, piece(1, "one"))
    assert await parts.is_of_another_text(group, piece(1, "one")) is False
    assert await parts.is_of_another_text(group, piece(2, "two")) is False
    assert await parts.is_of_another_text(group, piece(1, "another")) is True


def test_digest_tells_texts_apart_and_a_lone_half_becomes_a_mark() -> None:
    one = StoredPart("+5091", 1, 1, "ab".encode("utf-16-le"), "", 0.0)
    two = StoredPart("+5091", 1, 1, "ac".encode("utf-16-le"), "", 0.0)
    assert payload_digest([one]) != payload_digest([two])
    lone = StoredPart("+5091", 1, 1, "a\ud83d".encode("utf-16-le", "surrogatepass"), "", 0.0)
    assert join([lone]) == "a\ufffd"


class FailingOnce(MemoryKeyValue):
    """A bucket whose next write reaches the card, or not, and then the server's answer is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lose = ""

    async def create(self, key: str, value: bytes) -> int | None:
        written = await super().create(key, value)
        if self.lose == "create":
            self.lose = ""
            raise BusError("no answer")
        return written

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        if self.lose == "update":
            self.lose = ""
            raise BusError("no answer")
        return await super().update(key, value, revision)


def of(bucket: MemoryKeyValue, modem: str) -> Ledger:
    return Ledger(bucket, modem, lambda number: f"ref-{number}")


async def test_a_part_that_another_modem_took_over_is_none_of_the_first_ones_business() -> None:
    book = Book()
    first, second = of(book.bucket, "first"), of(book.bucket, "second")
    await first.opened(41)
    await second.opened(41)
    await first.intend(KEY, TO, "routine", None)
    await first.submitted(KEY, 42)
    assert await second.intend(KEY, TO, "routine", await second.read(KEY))
    # A report for the first one's part, a late result, and the first one back: nothing changes.
    assert await first.report(Report(42, "+5091", delivered=False, final=True, status=0x46)) is None
    await first.unsent(KEY, "a late refusal")
    assert await first.opened(42) == []
    assert (await book.entry()).state == "INTENT"
    await second.submitted(KEY, 42)
    assert await first.report(Report(42, "+5091", delivered=False, final=True, status=0x46)) is None
    assert await second.report(Report(42, "+5091", delivered=True, final=True, status=0)) == KEY
    assert ((await book.entry()).state, (await book.entry()).modem) == ("DELIVERED", "second")


async def test_what_was_open_is_settled_however_much_another_modem_wrote_behind_it() -> None:
    book = Book()
    first, second = of(book.bucket, "first"), of(book.bucket, "second")
    await first.opened(41)
    await first.intend(KEY, TO, "routine", None)  # and its line is lost
    await second.opened(7)
    for n in range(LAST_WRITTEN + 1):
        await second.intend(f"other{n}.reply.1", TO, "routine", None)
        await second.submitted(f"other{n}.reply.1", (8 + n) % 256)
    [(key, entry)] = await first.opened(41)
    assert (key, entry.state) == (KEY, "UNSENT")


async def test_an_intent_that_was_too_old_to_be_found_at_start_is_never_guessed() -> None:
    for lane, state in (("flash", "UNSENT"), ("routine", "HELD")):
        book = Book()
        await crashed_after_intent(book, lane)  # type: ignore[arg-type]  # two literals
        ledger = book.process()
        await ledger.load([])
        await ledger.opened(42)  # one further: but by whom?
        found = await ledger.read(KEY)
        assert found is not None
        await ledger.settle(KEY, found)
        assert (await book.entry()).state == state


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_intent_whose_write_was_not_answered_was_never_sent(restarted: bool) -> None:
    """The part after it uses the TP-MR that would say that it had left."""
    book = Book()
    book.bucket = FailingOnce()
    ledger = book.process()
    await ledger.opened(41)
    book.bucket.lose = "create"
    with pytest.raises(BusError):
        await ledger.intend(KEY, TO, "routine", None)
    await ledger.intend("q2.reply.1", TO, "routine", None)
    await ledger.submitted("q2.reply.1", 42)
    if restarted:
        await book.process().opened(42)
    else:
        found = await ledger.read(KEY)
        assert found is not None
        await ledger.settle(KEY, found)
    assert (await book.entry()).state == "UNSENT"


async def test_a_refusal_that_could_not_be_written_is_not_forgotten() -> None:
    book = Book()
    book.bucket = FailingOnce()
    ledger = book.process()
    await ledger.opened(41)
    await ledger.intend(KEY, TO, "routine", None)
    book.bucket.lose = "update"
    with pytest.raises(BusError):
        await ledger.unsent(KEY, "+CMS ERROR: 38", 42)
    found = await ledger.read(KEY)
    assert found is not None
    await ledger.settle(KEY, found)
    assert (await book.entry()).state == "UNSENT"
