"""Gauges of a battery, the simulated one among them, and the hysteresis of the rules."""

import struct
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from evy_core import Router
from hypothesis import given
from hypothesis import strategies as st

from actors.knowledge import route_rules
from actors.node import board
from actors.node.gauge import (
    PACKS,
    GaugeError,
    Ina219,
    PowerConfig,
    find_power_supply,
    i2c_register,
    load_pack,
    open_gauge,
)
from actors.node.governor import Governor, choose
from actors.node.held import held
from simulators.battery import Battery, Gauges, main
from subjects.errors import ConfigError
from subjects.node_state import NodeState


def chip(tmp_path: Path, shunt: int, bus_mv: int, config: int = 0x399F, **options: object) -> Ina219:
    registers = tmp_path / "registers"
    registers.write_bytes(struct.pack(">HhH", config, shunt, bus_mv // 4 << 3))
    made = {"cells": 1, "shunt_ohms": 0.1, **options}
    return Ina219(i2c_register(registers, 0x40), load_pack("li-ion"), **made)  # type: ignore[arg-type]


def test_an_ina219_is_read_as_its_datasheet_says(tmp_path: Path) -> None:
    # SBOS448 §8.6.3.1: 0x8300 is -320 mV across the shunt; 3.2 A through 0.1 ohm.
    reading = chip(tmp_path, struct.unpack(">h", b"\x83\x00")[0], 3752).read()
    assert reading.voltage_v == pytest.approx(3.752)
    assert reading.draw_w == pytest.approx(3.2 * 3.752)
    assert reading.charging is False
    assert reading.percent == pytest.approx(50, abs=1)
    charging = chip(tmp_path, 2000, 3752).read()
    assert charging.charging is True
    assert charging.draw_w == pytest.approx(-0.2 * 3.752)
    assert chip(tmp_path, 1, 3752).read().charging is None, "noise says nothing"
    wired_round = chip(tmp_path, 2000, 3752, charge_is_positive=False).read()
    assert wired_round.draw_w == pytest.approx(0.2 * 3.752)


def test_the_charge_is_judged_without_the_sag_of_the_load(tmp_path: Path) -> None:
    plain = chip(tmp_path, -2000, 3600).read()
    judged = chip(tmp_path, -2000, 3600, resistance_ohms=0.75).read()
    assert plain.percent == pytest.approx(22)
    assert judged.percent == pytest.approx(50), "0.2 A through 0.75 ohm are 0.15 V"


@pytest.mark.parametrize(
    ("shunt", "bus_mv", "config", "says"),
    [
        (-1, 0xFFFF // 2, 0xFFFF, "nothing answers"),
        (0, 0, 0x399F, "no battery"),
        (0, 3700, 0xB99F, "nothing"),
    ],
)
def test_a_chip_that_is_not_there_is_no_battery(
    tmp_path: Path, shunt: int, bus_mv: int, config: int, says: str
) -> None:
    with pytest.raises(GaugeError, match=says):
        chip(tmp_path, shunt, bus_mv, config).read()


def test_a_bus_that_fails_is_an_error_that_says_so(tmp_path: Path) -> None:
    gauge = chip(tmp_path, 0, 3700)
    (tmp_path / "registers").write_bytes(b"\x39")
    with pytest.raises(GaugeError, match="does not answer"):
        gauge.read()
    with pytest.raises(ConfigError, match="i2c_arm"):
        i2c_register(tmp_path / "no-bus", 0x40)


def test_the_shipped_packs_rise_and_end_at_full() -> None:
    for name in ("li-ion", "lifepo4", "lead-acid"):
        pack = load_pack(name)
        assert pack.percent(0.5) == 0
        assert pack.percent(9.9) == 100
    assert load_pack("li-ion").percent(3.75) == 50
    with pytest.raises(ConfigError, match="lifepo4"):
        load_pack("coal")


@pytest.mark.parametrize("curve", ["[[3.0, 0]]", "[[3.0, 0], [3.0, 5]]", "[[3.0, 9], [3.5, 5]]", '"flat"'])
def test_a_pack_that_is_not_in_order_is_refused(tmp_path: Path, curve: str) -> None:
    path = tmp_path / "packs.toml"
    path.write_text(f"[mine]\ncurve = {curve}\n")
    with pytest.raises(ConfigError, match=r"packs\.toml"):
        load_pack("mine", path)
    assert PACKS.is_file()


def supply(root: Path, name: str, **files: str) -> Path:
    directory = root / "class" / "power_supply" / name
    directory.mkdir(parents=True)
    for file, value in files.items():
        (directory / file).write_text(f"{value}\n")
    return directory


def test_a_power_supply_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    supply(tmp_path, "ac", type="Mains", online="1")
    supply(tmp_path, "mouse", type="Battery", scope="Device", capacity="3")
    found = supply(
        tmp_path,
        "ups",
        type="Battery",
        status="Discharging",
        capacity="47",
        voltage_now="3700000",
        current_now="-1000000",
    )
    gauge = open_gauge(PowerConfig(sys=str(tmp_path)))
    assert gauge is not None
    reading = gauge.read()
    assert (reading.percent, reading.charging, reading.voltage_v) == (47, False, 3.7)
    assert reading.draw_w == pytest.approx(3.7), "the status has the sign"
    (found / "status").write_text("Charging\n")
    assert gauge.read().draw_w == pytest.approx(-3.7)
    (found / "capacity").write_text("\x00\x00")
    (found / "energy_full").write_text("200\n")
    (found / "energy_now").write_text("50\n")
    assert gauge.read().percent == 25
    for file in found.iterdir():
        file.unlink()
    assert gauge.read().percent is None
    found.rmdir()
    with pytest.raises(GaugeError, match="gone"):
        gauge.read()


def test_a_gauge_that_is_named_and_not_there_is_an_error(tmp_path: Path) -> None:
    assert open_gauge(PowerConfig(sys=str(tmp_path))) is None
    assert open_gauge(PowerConfig(gauge="none")) is None
    supply(tmp_path, "ac", type="Mains")
    assert find_power_supply(tmp_path / "class" / "power_supply") is None
    with pytest.raises(ConfigError, match="there is ac"):
        open_gauge(PowerConfig(gauge="power_supply", supply="ups", sys=str(tmp_path)))
    with pytest.raises(ConfigError, match="no-bus"):
        open_gauge(PowerConfig(gauge="ina219", i2c=str(tmp_path / "no-bus")))


def test_a_pi_s_flags_and_heat_are_read_where_they_are(tmp_path: Path) -> None:
    assert board.throttled_flags(tmp_path) is None
    assert board.temperature_c(tmp_path) is None
    flags = tmp_path / board.THROTTLED
    flags.parent.mkdir(parents=True)
    zone = tmp_path / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("61234\n")
    for text, under, slowed in [("50005\n", True, True), ("50000\n", False, False), ("8\n", False, True)]:
        flags.write_text(text)
        seen = board.look(tmp_path, tmp_path)
        assert (seen.under_voltage, seen.throttled) == (under, slowed)
    assert seen.temperature_c == pytest.approx(61.234)
    assert seen.memory_free_octets is not None
    assert seen.memory_free_octets > 0
    assert seen.storage_free_octets is not None
    flags.write_text("VCHI initialization failed")
    (zone / "temp").write_text("-274000")
    seen = board.look(tmp_path, tmp_path / "no such place")
    assert (seen.under_voltage, seen.temperature_c, seen.storage_free_octets) == (None, None, None)


@pytest.mark.parametrize(
    ("before", "now", "goes_by"),
    [
        (None, 22, 22),
        (60, None, None),
        (31, 29, 29),
        (29, 31, 29),
        (29, 34.9, 29),
        (29, 35, 35),
        (19, 21, 19),
        (19, 26, 26),
        (19, 31, 29),
        (15, 52, 49),
        (49, 52, 49),
        (29, 100, 100),
    ],
)
def test_a_limit_once_crossed_holds_until_a_margin_above(
    before: float | None, now: float | None, goes_by: float | None
) -> None:
    assert held(before, now, [20, 30, 50], 5) == goes_by


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_a_battery_that_trembles_about_a_limit_crosses_it_once(noise: list[float]) -> None:
    limits, margin = Router(route_rules()).battery_limits
    limit = limits[1]
    value: float | None = limit + 10
    sides = []
    for share in noise:
        value = held(value, limit - margin / 2 + share / 100 * margin, limits, margin)
        assert value is not None
        sides.append(value < limit)
    assert sides == sorted(sides), "below once, below for good"


def test_a_day_charges_and_a_night_empties_the_simulated_battery() -> None:
    battery = Battery(percent=50, hour=12, cloudiness=0.0, load_w=6)
    assert battery.status == "Charging"
    before = battery.percent
    battery.step(2 * 3600)
    assert battery.percent > before
    battery.step(7 * 3600)
    assert (battery.sun_w, battery.status) == (0.0, "Discharging")
    evening = battery.percent
    battery.step(8 * 3600)
    assert evening - battery.percent == pytest.approx(48, abs=1), "6 W for 8 h of 100 Wh"
    battery.step(30 * 86400)
    assert 0 <= battery.percent <= 100


def test_the_same_seed_is_the_same_weather() -> None:
    def week(seed: int) -> list[float]:
        battery = Battery(seed=seed, load_w=10)
        found = []
        for _ in range(7 * 24):
            battery.step(3600)
            found.append(battery.percent)
        return found

    assert week(3) == week(3)
    assert week(3) != week(4)


def test_both_gauges_of_the_simulated_battery_tell_its_truth(tmp_path: Path) -> None:
    battery = Battery(percent=38, hour=22, load_w=7.4)
    gauges = Gauges(battery, tmp_path)
    gauges.show()
    kernel = open_gauge(PowerConfig(gauge="power_supply", sys=str(tmp_path)))
    bus = open_gauge(PowerConfig(gauge="ina219", i2c=str(tmp_path / "ina219"), resistance_ohms=0.05))
    assert kernel is not None
    assert bus is not None
    for reading in (kernel.read(), bus.read()):
        assert reading.percent == pytest.approx(38, abs=1)
        assert reading.charging is False
        assert reading.voltage_v == pytest.approx(battery.voltage_v, abs=0.005)
        assert reading.draw_w == pytest.approx(7.4, rel=0.05)
    battery.time_s = 12 * 3600
    battery._cloud = 0.0
    gauges.show()
    for reading in (kernel.read(), bus.read()):
        assert reading.charging is True
        assert reading.draw_w is not None
        assert reading.draw_w < 0


def test_the_command_prints_days_as_a_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path / "b"), "--days", "2", "--seed", "5"])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1 + 48
    assert not (tmp_path / "b").exists()
    wrong = CliRunner().invoke(main, [str(tmp_path / "b"), "--capacity", "0"])
    assert wrong.exit_code != 0
    assert "more than 0" in wrong.output


def test_a_power_table_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"shunt_ohms": 0.0}, {"cells": 0}, {"shutdown_below": 100}, {"shutdown_below": -1}):
        with pytest.raises(ValueError, match=r"shunt|shutdown"):
            PowerConfig(**wrong)
    with pytest.raises(ValueError, match="without"):
        PowerConfig(shutdown_below=5, shutdown_command=())


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (NodeState(node="n1"), "ondemand"),
        (NodeState(node="n1", cpu_percent=90.0), "performance"),
        (NodeState(node="n1", cpu_percent=90.0, battery_rule_percent=49.0), "ondemand"),
        (NodeState(node="n1", cpu_percent=90.0, battery_rule_percent=29.0), "powersave"),
        (NodeState(node="n1", cpu_percent=90.0, throttled=True), "powersave"),
        (NodeState(node="n1", under_voltage=True, battery_rule_percent=90.0), "powersave"),
    ],
)
def test_the_governor_follows_battery_heat_and_load(state: NodeState, name: str) -> None:
    assert choose(state, Router(route_rules())) == name


def test_the_governor_is_written_to_every_processor_or_given_to_a_command(tmp_path: Path) -> None:
    router = Router(route_rules())
    files = []
    for cpu in range(2):
        directory = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        directory.mkdir(parents=True)
        (directory / "scaling_available_governors").write_text("powersave schedutil performance\n")
        files.append(directory / "scaling_governor")
        files[-1].write_text("as it was")
    low = NodeState(node="n1", battery_rule_percent=10.0)
    assert Governor(PowerConfig(sys=str(tmp_path)), router).apply(low) == "", "off unless asked for"
    assert files[0].read_text() == "as it was"
    governor = Governor(PowerConfig(sys=str(tmp_path), governor=True), router)
    assert governor.apply(low) == "governor powersave"
    assert governor.apply(low) == ""
    assert [file.read_text() for file in files] == ["powersave"] * 2
    assert governor.apply(NodeState(node="n1")) == "governor ondemand"
    assert files[1].read_text() == "schedutil", "what this kernel calls it"
    said = tmp_path / "said"
    command = (sys.executable, "-c", f"import sys; open({str(said)!r}, 'a').write(sys.argv[1])")
    assert Governor(PowerConfig(governor=True, governor_command=command), router).apply(low)
    assert said.read_text() == "powersave"
    for broken in (
        PowerConfig(governor=True, governor_command=("false",)),
        PowerConfig(governor=True, governor_command=("no-such-program",)),
        PowerConfig(governor=True, sys=str(tmp_path / "none")),
    ):
        assert "not set" in Governor(broken, router).apply(low)
