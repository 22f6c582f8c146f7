"""How fast a SIM may send, by a clock that is an argument."""

import msgspec
import pytest

from actors.sms.quota import BACKOFF_S, FLASH_BACKOFF_S, FORGET_S, LEARN_FROM, Limits, Quota, Saved
from subjects.names import LANES

NOW_S = 5_000_000.0
WALL_S = 1_750_000_000.0
TO = "ref-1"


def quota(**limits: int) -> Quota:
    return Quota(Limits(**limits))


def test_without_limits_everything_may_go() -> None:
    made = quota()
    made.sent(NOW_S, 10_000)
    assert [made.wait_s(lane, TO, NOW_S) for lane in LANES] == [0, 0, 0]
    assert made.limit_hour(NOW_S) is None
    assert made.sent_hour(NOW_S) == 10_000


@pytest.mark.parametrize(
    ("limits", "window_s"), [({"per_minute": 10}, 60), ({"per_hour": 10}, 3600), ({"per_day": 10}, 86400)]
)
def test_the_last_tenth_is_for_flash_and_flash_is_held_back_by_no_count(
    limits: dict[str, int], window_s: float
) -> None:
    made = quota(**limits)
    for _ in range(9):
        assert made.wait_s("routine", TO, NOW_S) == 0
        made.sent(NOW_S)
    wait_s = made.wait_s("routine", TO, NOW_S)
    assert window_s - 60 <= wait_s <= window_s
    assert made.wait_s("priority", TO, NOW_S) == wait_s
    assert made.wait_s("routine", TO, NOW_S + wait_s) == 0
    made.sent(NOW_S, 10)
    assert made.wait_s("flash", TO, NOW_S) == 0


def test_a_small_limit_leaves_something_for_everybody() -> None:
    made = quota(per_hour=1)
    assert made.wait_s("routine", TO, NOW_S) == 0
    made.sent(NOW_S)
    assert made.wait_s("routine", TO, NOW_S) > 3000


def test_the_wait_ends_when_as_much_as_needed_has_grown_old() -> None:
    made = quota(per_hour=20)
    made.sent(NOW_S, 10)
    made.sent(NOW_S + 600, 10)
    wait_s = made.wait_s("routine", TO, NOW_S + 700)
    assert made.wait_s("routine", TO, NOW_S + 700 + wait_s) == 0
    assert wait_s < 3000
    assert made.wait_s("routine", TO, NOW_S + 690 + wait_s) > 0


def test_an_outage_is_waited_out_with_growth_and_flash_asks_often() -> None:
    made, now_s = quota(), NOW_S
    for wanted_s in (*BACKOFF_S, BACKOFF_S[-1]):
        made.refused("outage", TO, now_s)
        assert made.wait_s("routine", "another", now_s) == pytest.approx(wanted_s)
        flash_s = made.wait_s("flash", "another", now_s)
        assert flash_s == pytest.approx(min(wanted_s, FLASH_BACKOFF_S))
        assert made.wait_s("flash", "another", now_s + flash_s) == 0
        now_s += wanted_s
    made.sent(now_s)
    assert made.wait_s("routine", TO, now_s) == 0
    made.refused("outage", TO, now_s)
    assert made.wait_s("routine", TO, now_s) == pytest.approx(BACKOFF_S[0])


def test_a_number_that_is_barred_holds_up_nobody_else() -> None:
    made = quota()
    for _ in range(20):
        made.refused("recipient", TO, NOW_S)
    assert made.wait_s("routine", TO, NOW_S) == BACKOFF_S[-1]
    assert made.wait_s("routine", "another", NOW_S) == 0
    made.refused("recipient", "another", NOW_S)  # now it is the SIM, not the number
    assert made.wait_s("routine", "a third", NOW_S) > 0


def test_a_text_that_can_never_be_sent_says_nothing_about_the_carrier() -> None:
    made = quota()
    made.refused("text", TO, NOW_S)
    assert made.wait_s("routine", TO, NOW_S) == 0


def test_a_limit_is_learned_grows_and_is_forgotten() -> None:
    made = quota()
    made.sent(NOW_S, 50)
    assert [made.refused("rate", f"to-{n}", NOW_S) for n in range(4)] == [False, False, True, False]
    assert made.limit_hour(NOW_S) == 40
    assert made.limit_hour(NOW_S + 5 * 3600) == 60
    assert made.limit_hour(NOW_S + FORGET_S) is None
    later_s = NOW_S + BACKOFF_S[-1]
    made.sent(later_s)  # the one that goes through does not lift the limit
    assert made.wait_s("routine", TO, later_s) > 2000
    assert made.wait_s("flash", TO, later_s) == 0


@pytest.mark.parametrize(
    ("scope", "sent", "numbers"),
    [
        ("outage", 50, 4),
        ("recipient", 50, 1),
        ("recipient", 50, 4),
        ("rate", LEARN_FROM - 1, 4),
        ("text", 50, 4),
    ],
)
def test_what_teaches_no_limit(scope: str, sent: int, numbers: int) -> None:
    made = quota()
    made.sent(NOW_S, sent)
    taught = [made.refused(scope, f"to-{n % numbers}", NOW_S) for n in range(9)]  # type: ignore[arg-type]  # literals
    assert not any(taught)
    assert made.limit_hour(NOW_S) is None


def test_a_restart_forgets_neither_the_count_nor_what_was_learned() -> None:
    made = quota(per_day=100)
    made.sent(NOW_S - 7200, 30)
    made.sent(NOW_S, 50)
    for n in range(3):
        made.refused("rate", f"to-{n}", NOW_S)
    saved = msgspec.json.decode(msgspec.json.encode(made.save(NOW_S, WALL_S)), type=Saved)
    # Ten minutes and a reboot later; nine parts are in the ledger that were not in what was saved.
    again = quota(per_day=100)
    ledger = [WALL_S - 10] + [WALL_S + 60] * 9
    again.restore(saved, ledger, 100.0, WALL_S + 600)
    assert again.sent_hour(100.0) == 59
    assert again.sent_in(1440, 100.0) == 89
    assert again.limit_hour(100.0) == 40
    assert again.wait_s("routine", TO, 100.0) > 0
    again.sent(100.0)
    assert again.sent_hour(100.0) == 60


def test_a_clock_that_stands_behind_its_own_notes_counts_them_as_of_now() -> None:
    again = quota(per_day=10)
    again.restore(Saved(WALL_S, ((5, 4),)), [WALL_S + 5] * 5, 100.0, 0.0)
    assert again.sent_hour(100.0) == 9
    assert again.wait_s("routine", TO, 100.0) > 86000


def test_nothing_saved_counts_the_ledger_alone() -> None:
    again = quota()
    again.restore(None, [WALL_S - 30, WALL_S - 7200, WALL_S - 2 * 86400], 100_000.0, WALL_S)
    assert (again.sent_hour(100_000.0), again.sent_in(1440, 100_000.0)) == (1, 2)
