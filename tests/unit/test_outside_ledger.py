"""Money and trail of outside calls: real files, several processes, and somebody who meddles."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._llm import MICRO_CENTS, micro_cents, shown
from actors._llm.ledger import (
    LOST_AFTER_S,
    Ask,
    Ending,
    Ledger,
    LedgerError,
    Refused,
    Reserved,
)

ROOT = Path(__file__).parents[2]
NOVEMBER = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
BUDGET = 1000


def ask(worst: int = 10, provider: str = "openai") -> Ask:
    return Ask(provider, "m", "enhanced", worst, 100, "how long do I boil water, [name1]")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "data" / "outside.sqlite3")


def reserve(ledger: Ledger, worst: int = 10, *, now: float = NOVEMBER, provider: str = "openai") -> Reserved:
    got = ledger.reserve(ask(worst, provider), BUDGET, 10_000, now)
    assert isinstance(got, Reserved), got
    return got


def test_a_reservation_counts_until_it_is_settled(ledger: Ledger) -> None:
    call, _ = reserve(ledger, 40)
    assert ledger.standing(NOVEMBER).committed == 40
    assert ledger.settle(call, Ending("answered", 7, 30, 5, 120), NOVEMBER).committed == 7
    assert ledger.settle(call, Ending("answered", 40), NOVEMBER).committed == 7  # once
    unknown, _ = reserve(ledger, 40)
    assert ledger.settle(unknown, Ending("cut", None), NOVEMBER).committed == 47
    [first, second] = ledger.calls("2026-11")
    assert (first.cost, first.outcome, first.prompt_tokens, first.ms) == (7, "answered", 30, 120)
    assert (second.cost, second.outcome) == (40, "cut")
    assert ledger.verify().problems == ()
    with pytest.raises(LedgerError, match="no call 77"):
        ledger.settle(77, Ending("answered", 1), NOVEMBER)


def test_no_call_may_cost_more_than_a_twentieth_of_what_is_left(ledger: Ledger) -> None:
    assert isinstance(ledger.reserve(ask(51), BUDGET, 99, NOVEMBER), Refused)
    reserve(ledger, 50)
    refused = ledger.reserve(ask(48), BUDGET, 99, NOVEMBER)  # 950 are left, a twentieth is 47.5
    assert isinstance(refused, Refused)
    assert "twentieth" in refused.reason
    reserve(ledger, 47)


def test_below_a_tenth_of_the_budget_nothing_goes_out(ledger: Ledger) -> None:
    while (left := BUDGET - ledger.standing(NOVEMBER).committed) >= BUDGET / 10:
        reserve(ledger, min(left // 20, left - 99))
    refused = ledger.reserve(ask(1), BUDGET, 10_000, NOVEMBER)
    assert isinstance(refused, Refused)
    assert "tenth" in refused.reason
    assert left == 99
    no_budget = ledger.reserve(ask(0), 0, 10_000, NOVEMBER)
    assert isinstance(no_budget, Refused)


def test_requests_of_a_minute_are_limited_for_each_provider(ledger: Ledger) -> None:
    for second in range(3):
        assert isinstance(ledger.reserve(ask(), BUDGET, 3, NOVEMBER + second), Reserved)
    refused = ledger.reserve(ask(), BUDGET, 3, NOVEMBER + 10)
    assert isinstance(refused, Refused)
    assert refused.wait_s == pytest.approx(50)
    assert isinstance(ledger.reserve(ask(provider="gemini"), BUDGET, 3, NOVEMBER + 10), Reserved)
    assert isinstance(ledger.reserve(ask(), BUDGET, 3, NOVEMBER + 60.5), Reserved)


def test_a_month_has_its_own_budget_and_a_clock_set_back_opens_none(ledger: Ledger) -> None:
    spent, _ = reserve(ledger, 50)
    reserve(ledger, 30, now=DECEMBER)
    assert ledger.standing(DECEMBER).committed == 30
    assert ledger.settle(spent, Ending("answered", 5), DECEMBER).month == "2026-11"
    assert ledger.standing(NOVEMBER)[:2] == ("2026-12", 30)
    reserve(ledger, 1, now=0.0)
    assert ledger.standing(0.0).committed == 31


def test_a_call_whose_process_died_stays_spent(ledger: Ledger) -> None:
    call, _ = reserve(ledger, 50)
    assert ledger.end_lost(NOVEMBER + LOST_AFTER_S / 2) == 0
    assert ledger.end_lost(NOVEMBER + LOST_AFTER_S + 1) == 1
    assert ledger.settle(call, Ending("answered", 1), NOVEMBER).committed == 50
    assert ledger.calls()[0].outcome == "lost"
    assert ledger.verify().problems == ()


def test_who_bills_more_than_a_call_can_cost_is_asked_no_more(ledger: Ledger) -> None:
    call, _ = reserve(ledger, 10)
    assert ledger.settle(call, Ending("answered", 11), NOVEMBER).committed == 11
    refused = ledger.reserve(ask(), BUDGET, 99, NOVEMBER)
    assert isinstance(refused, Refused)
    assert "billed more" in refused.reason
    reserve(ledger, provider="deepseek")


def test_the_alert_is_told_once_a_month(ledger: Ledger) -> None:
    told = []
    for _ in range(4):
        call, _ = reserve(ledger, 40)
        told.append(ledger.settle(call, Ending("answered", 40), NOVEMBER, alert_at=100).crossed)
    assert told == [False, False, True, False]


def test_refusals_are_audited_unless_only_calls_are(tmp_path: Path) -> None:
    for audit_all, count in ((True, 2), (False, 0)):
        ledger = Ledger.open(tmp_path / f"{audit_all}.sqlite3", audit_all=audit_all)
        ledger.reserve(ask(900), BUDGET, 99, NOVEMBER)
        ledger.refuse("", "enhanced", "text", "redaction is unsure", NOVEMBER)
        assert sum(ledger.refusals("2026-11").values()) == count
        assert ledger.verify().entries == count


def test_the_trail_holds_a_hash_and_no_text(ledger: Ledger) -> None:
    call, _ = reserve(ledger)
    ledger.settle(call, Ending("answered", 3), NOVEMBER)
    ledger.refuse("", "enhanced", "where is the quernstone", "unsure", NOVEMBER)
    ledger.close()
    octets = b"".join(path.read_bytes() for path in ledger.path.parent.iterdir())
    assert b"boil" not in octets
    assert b"quernstone" not in octets
    assert ledger.path.stat().st_mode & 0o077 == 0


MEDDLING = {
    "a cheaper end": "UPDATE chain SET entry = replace(entry, '\"cost\":3', '\"cost\":2') WHERE seq = 2",
    "an entry gone": "DELETE FROM chain WHERE seq = 3",
    "entries exchanged": "UPDATE chain SET seq = CASE seq WHEN 1 THEN -4 WHEN 4 THEN 1 ELSE seq END; "
    "UPDATE chain SET seq = 4 WHERE seq = -4",
    "the last gone": "DELETE FROM chain WHERE seq = (SELECT MAX(seq) FROM chain)",
    "an account changed": "UPDATE calls SET cost = 1 WHERE id = 1",
    "a call gone": "DELETE FROM calls WHERE id = 2",
    "a month made cheaper": "UPDATE months SET committed = committed - 1",
}


@pytest.mark.parametrize("how", MEDDLING)
def test_meddling_is_found(ledger: Ledger, how: str) -> None:
    for _ in range(2):
        call, _ = reserve(ledger)
        ledger.settle(call, Ending("answered", 3), NOVEMBER)
    assert ledger.verify().problems == ()
    with sqlite3.connect(ledger.path) as meddler:
        meddler.executescript(MEDDLING[how])
    assert ledger.verify().problems, how


def test_a_trail_written_anew_is_found_by_a_noted_head(ledger: Ledger, tmp_path: Path) -> None:
    call, _ = reserve(ledger)
    ledger.settle(call, Ending("answered", 9), NOVEMBER)
    noted = ledger.verify().head
    reserve(ledger)
    assert ledger.verify(noted).problems == ()
    other = Ledger.open(tmp_path / "other.sqlite3")  # whole in itself, and cheaper
    call, _ = reserve(other)
    other.settle(call, Ending("answered", 1), NOVEMBER)
    assert other.verify().problems == ()
    assert "does not go through" in other.verify(noted).problems[0]


RACE = """
import sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from actors._llm.ledger import Ask, Ending, Ledger, Reserved
from tests.unit.test_outside_ledger import race
print(race(Path(sys.argv[1]), int(sys.argv[2])))
"""


def race(path: Path, seed: int) -> int:
    """Reserves and settles from four threads until nothing is granted; gives what it settled in all."""
    ledger = Ledger.open(path)

    def one(turn: int) -> int:
        total = 0
        for step in range(40):
            got = ledger.reserve(ask(20), BUDGET, 10_000, NOVEMBER)
            if isinstance(got, Reserved):
                cost = (seed + turn + step) % 21
                ledger.settle(got.call, Ending("answered", cost), NOVEMBER)
                total += cost
        return total

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(one, range(4)))


def test_processes_that_race_never_overspend(ledger: Ledger) -> None:
    command = [sys.executable, "-c", RACE, str(ledger.path)]
    others = [
        subprocess.Popen([*command, str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for seed in (5, 9)
    ]
    total = race(ledger.path, 1)
    for other in others:
        out, _ = other.communicate(timeout=120)
        assert other.returncode == 0
        total += int(out)
    committed = ledger.standing(NOVEMBER).committed
    assert committed == total <= BUDGET
    assert total > BUDGET // 3  # they did spend
    assert ledger.verify().problems == ()


KILLED = """
import os, sys
from pathlib import Path
from actors._llm.ledger import Ledger
from tests.unit.test_outside_ledger import NOVEMBER, reserve
reserve(Ledger.open(Path(sys.argv[1])), 50)
os.kill(os.getpid(), 9)
"""


def test_a_crash_between_reserving_and_settling_leaves_it_counted(ledger: Ledger) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(ledger.path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert ledger.standing(NOVEMBER).committed == 50
    assert ledger.end_lost(NOVEMBER + LOST_AFTER_S + 1) == 1
    assert ledger.standing(NOVEMBER).committed == 50


def test_a_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite3"
    broken.write_bytes(b"no database, but long enough to be read as one" * 50)
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger.open(broken)
    with pytest.raises(LedgerError, match="there is none"):
        Ledger.read(tmp_path / "none.sqlite3")


@given(st.integers(0, 10**17))
def test_money_is_exact(micro: int) -> None:
    whole, part = divmod(micro, MICRO_CENTS)
    assert micro_cents(f"{whole}.{part:08d}") == micro


@pytest.mark.parametrize(("written", "micro"), [(20, 2 * 10**9), (0.15, 15_000_000), ("0.0375", 3_750_000)])
def test_money_is_read_as_it_is_written(written: float | str, micro: int) -> None:
    assert micro_cents(written) == micro


@pytest.mark.parametrize("written", ["ten", "-1", "1e99", "nan", "inf", "0.000000001", "", -0.5])
def test_what_is_no_money_is_refused(written: float | str) -> None:
    with pytest.raises(ValueError, match=r"amount of money|at most eight"):
        micro_cents(written)


def test_money_is_shown_as_people_write_it() -> None:
    assert shown(1_234_500_000) == "12.3450"
