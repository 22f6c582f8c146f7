"""The channel that simulated modules send on, through its Python face (docs/mesh.md, M45, M46)."""

from collections.abc import Callable
from typing import Any

import pytest
from evy_core import CoreError, RadioChannel, time_on_air_us

HZ = 869_525_000
TUNED: dict[str, Any] = {"frequency_hz": HZ, "spreading_factor": 9}


def line(*metres: float, **more: Any) -> RadioChannel:
    """Radios on a line, 14 dBm each, nothing in the way."""
    count = len(metres)
    return RadioChannel(
        [(x, 0.0) for x in metres], [14.0] * count, [0.0] * count**2, **{"frequency_hz": HZ, **more}
    )


def test_frames_land_in_the_order_of_their_ends_each_once() -> None:
    channel = line(0, 800, 1600)
    long, long_ends = channel.begin(0, b"x" * 100, 0, **TUNED)
    short, short_ends = channel.begin(2, b"y", 1000, frequency_hz=HZ, spreading_factor=7)
    assert channel.next_end_us == short_ends < long_ends == time_on_air_us(100, spreading_factor=9)
    assert channel.advance(short_ends - 1) == []
    landings = channel.advance(long_ends)
    assert [(landing.id, landing.sender, landing.frame) for landing in landings] == [
        (short, 2, b"y"),
        (long, 0, b"x" * 100),
    ]
    assert channel.advance(long_ends) == []
    assert channel.next_end_us is None
    [(receiver, rssi_dbm, snr_db, whole)] = [got for got in landings[1].receptions if got[0] == 1]
    assert (receiver, whole) == (1, True)
    assert rssi_dbm == channel.rssi_dbm(0, 1)
    assert snr_db == pytest.approx(rssi_dbm + 117.03, abs=0.01)
    assert channel.airtime_us == [long_ends, 0, short_ends - 1000]


def test_a_higher_spreading_factor_is_heard_further() -> None:
    channel = line(0, 3500)
    heard = []
    for spreading_factor in range(7, 13):
        sensitivity_dbm = channel.sensitivity_dbm(spreading_factor)
        _, ends_us = channel.begin(
            0, b"x", 10**9 * spreading_factor, **TUNED | {"spreading_factor": spreading_factor}
        )
        [landing] = channel.advance(ends_us)
        heard.append(bool(landing.receptions))
        assert heard[-1] == (channel.rssi_dbm(0, 1) >= sensitivity_dbm)
    assert heard == sorted(heard)
    assert set(heard) == {False, True}


def test_the_law_is_told_with_its_numbers() -> None:
    channel = line(0, region="US915")
    _, ends_us = channel.begin(0, b"x" * 51, 0, frequency_hz=915_000_000, spreading_factor=9)
    assert channel.advance(ends_us)[0].violation is None
    _, ends_us = channel.begin(0, b"x" * 51, ends_us, frequency_hz=915_000_000, spreading_factor=9)
    assert channel.advance(ends_us)[0].violation == "duty: 0.657 s on air within 20 s, 0.400 s allowed"
    _, ends_us = channel.begin(0, b"x", ends_us, **TUNED)
    violation = channel.advance(ends_us)[0].violation
    assert violation == "frequency: 869.525 MHz with its bandwidth is in no sub-band"


def test_a_dead_radio_cannot_send_and_a_busy_one_not_twice() -> None:
    channel = line(0, 800)
    channel.begin(0, b"x", 0, **TUNED)
    with pytest.raises(CoreError, match="radio 0 is sending"):
        channel.begin(0, b"x", 1, **TUNED)
    channel.set_alive(1, False)
    with pytest.raises(CoreError, match="radio 1 is dead"):
        channel.begin(1, b"x", 1, **TUNED)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda c: c.begin(2, b"x", 0, **TUNED), "radio 2: there are 2"),
        (lambda c: c.begin(0, b"", 0, **TUNED), "0 octets"),
        (lambda c: c.begin(0, bytes(256), 0, **TUNED), "256 octets"),
        (lambda c: c.begin(0, b"x", 2**63, **TUNED), "now_us"),
        (lambda c: c.begin(0, b"x", 0, frequency_hz=HZ, spreading_factor=6), "SF6"),
        (lambda c: c.move_to(0, float("nan"), 0), "place NaN"),
        (lambda c: c.set_shadow(0, 2, 1), "radio 2"),
        (lambda c: c.set_power(0, float("inf")), "power inf"),
        (lambda c: c.rssi_dbm(9, 0), "radio 9"),
        (lambda _: line(), "0 radios"),
        (lambda _: line(0, region="MARS"), "EU868, US915 or none"),
        (lambda _: line(0, frequency_hz=1.0), "100 to 1,100 MHz"),
        (lambda _: line(0, height_m=0.0), "1 to 100 m"),
        (lambda _: RadioChannel([(0, 0)], [1.0], [0.0, 0.0], frequency_hz=HZ), "2 shadows"),
        (lambda _: line(*range(1001)), "1001 radios"),
    ],
)
def test_what_cannot_be_is_refused_with_the_limit(wrong: Callable[[RadioChannel], Any], reason: str) -> None:
    with pytest.raises(CoreError, match=reason):
        wrong(line(0, 800))
