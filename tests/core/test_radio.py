"""Time on air, and the simulated channel with the flooding that the mesh is measured against."""

import statistics

import pytest
from evy_core import CoreError, RadioScene, time_on_air_us

from tests.bench import mesh, mesh_rows, mesh_theirs


@pytest.mark.parametrize(
    ("spreading_factor", "octets", "milliseconds"),
    [
        *((7, octets, ms) for octets, ms in ((12, 41.216), (51, 102.656), (140, 230.656))),
        *((9, octets, ms) for octets, ms in ((12, 144.384), (51, 328.704), (140, 738.304))),
        *((12, octets, ms) for octets, ms in ((12, 1155.072), (51, 2465.792), (140, 5251.072))),
    ],
)
def test_time_on_air_is_that_of_the_application_note(
    spreading_factor: int, octets: int, milliseconds: float
) -> None:
    assert time_on_air_us(octets, spreading_factor=spreading_factor) == round(milliseconds * 1000)


@pytest.mark.parametrize(
    ("octets", "spreading_factor", "bandwidth_hz"),
    [(256, 7, 125_000), (1, 6, 125_000), (1, 13, 125_000), (1, 7, 1)],
)
def test_what_no_modem_sends_is_refused(octets: int, spreading_factor: int, bandwidth_hz: int) -> None:
    with pytest.raises(CoreError):
        time_on_air_us(octets, spreading_factor=spreading_factor, bandwidth_hz=bandwidth_hz)


def test_a_scene_needs_two_radios_and_a_shadow_for_each_pair() -> None:
    def scene(places: list[tuple[float, float]], shadows: list[float]) -> RadioScene:
        return RadioScene(
            places,
            shadows,
            power_dbm=14,
            frequency_hz=869.525e6,
            sensitivity_dbm=-126,
            noise_dbm=-117,
            spreading_factor=9,
        )

    for places, shadows in (([], []), ([(0.0, 0.0)], [0.0]), ([(0.0, 0.0), (1.0, 1.0)], [0.0])):
        with pytest.raises(CoreError, match="radios"):
            scene(places, shadows)
    near = scene([(0.0, 0.0), (500.0, 0.0)], [0.0] * 4)
    for wrong in ({"octets": 201}, {"period_s": 0.0}, {"interference": 1.0}):
        with pytest.raises(CoreError, match="octets"):
            near.run("flood", **{"octets": 40, "period_s": 60.0, "seconds": 60.0, "seed": 1} | wrong)


def test_flooding_comes_near_what_its_own_simulator_gives() -> None:
    """Two of the five set-ups of ``make bench-mesh`` (M2); three runs here, so room for their chance."""
    for row in (mesh_theirs.ROWS[1], mesh_theirs.ROWS[3]):
        shares = mesh_theirs.delivery(row, mesh_theirs.THEIR_CODING_RATE, 3)
        assert abs(sum(shares) / len(shares) - row.rebuilt) < 3, (row, shares)


def test_both_ways_stand_on_the_same_ground_and_a_partition_is_one_until_it_is_healed() -> None:
    for row in (row for row in mesh_rows.ROWS if row.nodes == 10):
        ground = mesh_rows.ground(row, 3)
        assert ground == mesh_rows.ground(row._replace(unicast=not row.unicast, period_s=1), 3)
        assert (len(ground.places), len(ground.shadows)) == (10, 100)
        if row.scene == "dying":
            assert len(ground.changes) == 2
        if row.scene == "healed":
            *ends, walker = ground.places
            apart = min(abs(near[0] - far[0]) for near in ends[:5] for far in ends[5:])
            assert apart == pytest.approx(mesh_rows.GAP_M)
            assert ground.changes[-1][2] == pytest.approx((walker[0] + 300 + mesh_rows.GAP_M / 2, walker[1]))
        if row.scene == "returning":
            away = [ground.changes[0:2], ground.changes[2:4]]
            for (dies_s, node, nowhere), (back_s, same, still) in away:
                assert (node, nowhere, still) == (same, None, None)
                assert mesh_rows.AWAY_S[0] <= back_s - dies_s <= mesh_rows.AWAY_S[1]


def test_who_comes_back_gets_what_waited_for_it_and_was_not_awake_meanwhile() -> None:
    scene = RadioScene(
        [(0.0, 0.0), (500.0, 0.0)],
        [0.0] * 4,
        power_dbm=14,
        frequency_hz=869.525e6,
        sensitivity_dbm=-125,
        noise_dbm=-117,
        spreading_factor=9,
        bandwidth_hz=125_000,
    )
    gone, away = (
        scene.run("evy", octets=40, period_s=200, seconds=3600, seed=3, unicast=True, changes=changes)
        for changes in ([(600.0, 1, None)], [(600.0, 1, None), (1200.0, 1, None)])
    )
    assert gone.reached < gone.wanted
    assert away.reached == away.wanted > 20
    assert statistics.median(away.delays_us) < 1_500_000, "counted when it came, not at the next frame"
    assert away.alive_us == (2 * 3600 - 600) * 1_000_000


def test_radios_that_do_not_sense_speak_into_each_other() -> None:
    row = mesh_rows.Row(10, 20, unicast=False, scene="static")
    sensing, deaf = (
        sum(mesh_rows.measure(each, "evy", seed).delivery for seed in (1, 2, 3))
        for each in (row, row._replace(scene="deaf"))
    )
    assert deaf < sensing - 5


def test_the_flooding_keeps_to_the_law_where_it_would_not_fit() -> None:
    row = mesh_rows.Row(30, 20, unicast=False, scene="static")
    ground = mesh_rows.ground(row, 1)
    scene = RadioScene(
        ground.places,
        ground.shadows,
        power_dbm=27,
        frequency_hz=869.525e6,
        sensitivity_dbm=-131.5,
        noise_dbm=-119.25,
        spreading_factor=11,
        bandwidth_hz=250_000,
    )
    for duty, violations in ((None, True), (mesh_rows.DUTY_PER_MILLE, False)):
        outcome = scene.run("flood", octets=40, period_s=20, seconds=3600, seed=1, duty_per_mille=duty)
        assert bool(outcome.violations) == violations


def test_a_broadcast_of_ours_reaches_more_on_less_air() -> None:
    """Seeds and loads of the bench's kind; ``make bench-mesh`` has all of them."""
    row = mesh_rows.Row(30, 900, unicast=False, scene="dying")
    theirs, ours = (
        [mesh_rows.measure(row, way, seed) for seed in (101, 102, 103)] for way in ("flood", mesh.OURS)
    )
    assert sum(run.delivery for run in ours) > sum(run.delivery for run in theirs)


def test_a_difference_is_paired_and_its_interval_students() -> None:
    sure = mesh_rows.difference([3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0])
    assert sure == (2.0, 0.0)
    assert sure.sure
    apart = mesh_rows.difference([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5)
    assert apart.half == pytest.approx(2.776 * 1.5811 / 5**0.5, rel=0.02)
    row = mesh_rows.ROWS[0]
    none = mesh_rows.Difference(0.0, 1.0)
    less = mesh_rows.Difference(-1.0, 2.0)
    assert mesh_rows.verdict(row, none, less) == "better in both, not sure"
    assert mesh_rows.verdict(row._replace(unicast=True), none, less) == "airtime only"
    assert mesh_rows.verdict(row, less, none) == "worse"


def test_a_pattern_without_a_row_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert mesh.main(["--rows", "11/*"]) == 2
    assert "0 rows" in capsys.readouterr().err
