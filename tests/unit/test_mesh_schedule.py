"""When a node changes its spreading factor, by whatever clock it has, and how it finds others (M70, M71)."""

import random
from collections.abc import Sequence

import pytest

from actors._roster.network import Change, Network
from actors.mesh.schedule import LOOK_AGAIN_S, Schedule, Tuning, interval_s, quiet_s, window_s

AT = 1_800_000_000
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
STEP_S = 30.0
FORMER, LATER = 9, 10


def network(planned: Change | None = Change(LATER, AT), spreading_factor: int = FORMER) -> Network:  # noqa: B008  # frozen
    return Network(
        name="valley",
        network=7,
        number=2,
        operator=bytes(32),
        region="EU868",
        frequency_hz=869_525_000,
        spreading_factor=spreading_factor,
        planned=planned,
    )


class Node:
    """A schedule with a clock that is ``ahead_s`` of the true time, and ``known`` to be right or not."""

    def __init__(self, ahead_s: float = 0.0, *, known: bool = True, file: Network | None = None) -> None:
        self.ahead_s = ahead_s
        self.known = known
        self.file = file or network()
        self.heard_s: float | None = None
        self.urgent = False
        self.tunings: list[tuple[float, Tuning]] = []
        self.beacon_at_s = 0.0
        self.silent = False

    def start(self, true: float, seed: int) -> None:
        self.schedule = Schedule(self.file, 0.0, true + self.ahead_s, random.Random(seed).random)

    @property
    def on(self) -> int:
        return self.schedule.spreading_factor


class World:
    """Nodes that all hear each other where they are set alike; time goes in steps, ``begin_s`` before the
    change at first."""

    def __init__(self, nodes: Sequence[Node], begin_s: float = DAY_S) -> None:
        self.nodes = nodes
        self.now_s = 0.0
        self.begin_s = begin_s
        self.draw = random.Random(5)
        for number, node in enumerate(nodes):
            node.start(self.true, number)

    @property
    def true(self) -> float:
        return AT - self.begin_s + self.now_s

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            for node in self.nodes:
                if node.silent or self.now_s < node.beacon_at_s:
                    continue
                node.beacon_at_s = self.now_s + interval_s(node.on) * self.draw.uniform(0.5, 1.5)
                for other in self.nodes:
                    if other is not node and other.on == node.on:
                        other.heard_s = self.now_s
                        other.silent = False
            for node in self.nodes:
                tuning = node.schedule.next(
                    self.now_s,
                    self.true + node.ahead_s,
                    node.heard_s,
                    known=node.known,
                    urgent=node.urgent,
                )
                if tuning:
                    assert tuning.spreading_factor == node.on
                    assert tuning.why == "looking" if node.schedule.looking else not tuning.listen
                    node.silent = tuning.listen
                    node.beacon_at_s = self.now_s
                    node.tunings.append((self.true - AT, tuning))

    def on(self) -> list[int]:
        return [node.on for node in self.nodes]


def test_without_a_plan_nothing_ever_changes() -> None:
    alone = Node(file=network(None))
    world = World([alone])
    world.run(10 * DAY_S)
    assert (alone.on, alone.tunings) == (FORMER, [])


def test_who_knows_the_time_changes_then_and_once() -> None:
    nodes = [Node(), Node(), Node()]
    world = World(nodes)
    world.run(3 * DAY_S)
    for node in nodes:
        [(at_s, tuning)] = node.tunings
        assert 0 <= at_s < STEP_S
        assert tuning == Tuning(LATER, listen=False, why="planned")


@pytest.mark.parametrize(("late_s", "expected"), [(-HOUR_S, FORMER), (0.0, LATER), (DAY_S, LATER)])
def test_a_file_that_comes_early_or_late_means_the_same(late_s: float, expected: int) -> None:
    world = World([Node()], begin_s=-late_s)
    assert world.on() == [expected]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ahead_s", [-9 * HOUR_S, -40 * DAY_S])
def test_a_clock_that_is_behind_finds_the_others_and_stays(ahead_s: float, *, known: bool) -> None:
    late = Node(ahead_s, known=known)
    world = World([Node(), Node(), late])
    world.run(DAY_S + quiet_s(FORMER) + window_s(LATER))
    assert world.on() == [LATER] * 3
    found = len(late.tunings)
    world.run(10 * DAY_S)
    # One that is said to be right goes on looking where it says that others are.
    assert late.schedule.looking or world.on() == [LATER] * 3
    more = late.tunings[found:]
    assert len(more) <= (2 * 2 * 11 if known else 0)


@pytest.mark.parametrize("known", [True, False])
def test_a_clock_that_is_ahead_comes_back_and_goes_with_the_others(*, known: bool) -> None:
    early = Node(9 * HOUR_S, known=known)
    world = World([Node(), Node(), early])
    world.run(DAY_S - 9 * HOUR_S + quiet_s(LATER) + window_s(FORMER) + window_s(LATER))
    assert early.tunings
    assert world.on() == [FORMER] * 3
    world.run(9 * HOUR_S)
    world.run(LOOK_AGAIN_S + window_s(FORMER))
    assert world.on() == [LATER] * 3


def test_who_starts_after_the_change_with_an_old_clock_need_not_wait_for_an_hour() -> None:
    world = World([Node(), Node(), Node(-3 * DAY_S, known=False)], begin_s=-DAY_S)
    world.run(window_s(FORMER) + window_s(LATER))
    assert world.on() == [LATER] * 3


def test_two_that_lag_together_are_not_left_behind() -> None:
    """They hear each other, so neither is alone; each looks now and then all the same."""
    pair = [Node(-3 * DAY_S, known=False), Node(-5 * DAY_S, known=False)]
    world = World([Node(), Node(), *pair])
    world.run(DAY_S + LOOK_AGAIN_S + window_s(LATER))
    assert world.on() == [LATER] * 4


def test_a_mesh_whose_clocks_nobody_set_changes_at_the_time() -> None:
    nodes = [Node(ahead_s, known=False) for ahead_s in (-300.0, 0.0, 200.0, 400.0)]
    world = World(nodes)
    world.run(DAY_S - HOUR_S)
    assert all(node.on == FORMER or node.schedule.looking for node in nodes)
    world.run(HOUR_S + window_s(LATER))
    assert world.on() == [LATER] * 4
    world.run(5 * DAY_S)
    assert world.on() == [LATER] * 4


def test_a_mesh_whose_clocks_lag_by_days_comes_together() -> None:
    nodes = [Node(-days * DAY_S, known=False) for days in (0.1, 1.3, 2.2, 4.9)]
    world = World(nodes)
    world.run(9 * DAY_S)
    assert world.on() == [LATER] * 4


def test_who_missed_that_the_plan_was_cancelled_comes_back_to_the_others() -> None:
    others = [Node(file=network(None)), Node(file=network(None))]
    old = Node()
    world = World([*others, old])
    world.run(DAY_S + quiet_s(LATER) + window_s(FORMER))
    assert world.on() == [FORMER] * 3
    world.run(10 * DAY_S)
    looks = [tuning for at_s, tuning in old.tunings[3:] if tuning.spreading_factor == LATER]
    assert len(looks) * window_s(LATER) < 0.1 * 10 * DAY_S
    assert {tuning.why for tuning in looks} == {"looking"}


def test_who_is_alone_looks_rarely_and_lives_where_the_clock_says() -> None:
    alone = Node()
    world = World([alone])
    world.run(21 * DAY_S)
    looks = [at_s for at_s, tuning in alone.tunings if tuning.why == "looking" and at_s > 0]
    days = 20
    share = len(looks) * window_s(FORMER) / (days * DAY_S)
    assert 0.25 < share < 0.35
    backs = [tuning for at_s, tuning in alone.tunings if not tuning.listen and at_s > STEP_S]
    assert {tuning.spreading_factor for tuning in backs} == {LATER}


def test_a_flash_is_not_kept_waiting_by_a_look_where_others_are_in_reach() -> None:
    pair = [Node(known=False), Node(known=False)]
    world = World(pair, begin_s=30 * DAY_S)
    node = pair[0]
    while not node.schedule.looking:
        world.run(STEP_S)
        assert world.now_s < 2 * LOOK_AGAIN_S
    node.urgent = True
    world.run(STEP_S)
    assert (node.on, node.schedule.looking) == (FORMER, False)
    world.run(3 * LOOK_AGAIN_S)
    assert len([tuning for _, tuning in node.tunings if tuning.why == "looking"]) == 1
    alone = Node()
    world = World([alone])
    while not alone.schedule.looking:
        world.run(STEP_S)
    alone.urgent = True
    world.run(STEP_S)
    assert alone.schedule.looking  # nobody hears it elsewhere


def test_a_radio_that_cannot_be_set_so_stays_as_it_is() -> None:
    node = Node()
    world = World([node, Node()])
    world.run(DAY_S - STEP_S)
    tuning = node.schedule.next(world.now_s + STEP_S, AT, world.now_s, known=True)
    assert tuning == Tuning(LATER, listen=False, why="planned")
    node.schedule.stay_on(FORMER)
    node.tunings.clear()
    world.run(DAY_S)
    assert (node.on, node.tunings) == (FORMER, [])
