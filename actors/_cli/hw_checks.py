"""What `evy hw check` looks at: each check yields findings, changes nothing, and says how to mend."""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil
import serial

from actors._cli.mesh_status import check_device
from actors._cli.modem_check import Finding, Verdict, check_modem
from actors._runtime.config import Config
from actors._runtime.health import Health
from actors.mesh.config import MeshConfig
from actors.node import board
from actors.node.gauge import GaugeError, PowerConfig, open_gauge
from actors.node.sms_time import EARLIEST, set_by_network
from actors.sms import SmsConfig
from subjects.errors import ConfigError
from subjects.node_state import MEGABYTE

WRITTEN_OCTETS: Final = 16 * MEGABYTE
BLOCK_OCTETS: Final = 4096
SYNCS: Final = 100
SLOW_P50_MS, DEAD_P50_MS = 50.0, 400.0
"""About five writes of each text wait for the card; at 400 ms a text takes two seconds of nothing else."""
SLOW_P99_MS: Final = 1000.0
"""A card that stalls for longer is at the end of its life, or a counterfeit."""
SLOW_MB_S: Final = 5.0
FREE_MB: Final = 500
MEMORY_MB, LITTLE_MEMORY_MB = 900, 400
HOT_C, TOO_HOT_C = 70.0, 80.0
"""A Pi slows down at 80 °C and harder at 85 °C."""
LOW_PERCENT: Final = 30.0
RADIO_ANSWERS_WITHIN_S: Final = 2.0
_BOOT_FLAGS: Final = 16


class Subject(msgspec.Struct, frozen=True):
    """What is checked, and how carefully."""

    config: Config
    running: bool
    """A node runs on this data directory: nothing that disturbs it is done."""
    radio: str = ""

    @property
    def power(self) -> PowerConfig:
        """The ``[power]`` table."""
        return self.config.section("power", PowerConfig)

    @property
    def sys(self) -> Path:
        """Where the kernel shows the machine."""
        return Path(self.power.sys)


Check = Callable[[Subject], Iterator[Finding]]


def check_node(subject: Subject) -> Iterator[Finding]:
    """The node that runs, as it says itself."""
    if not subject.running:
        yield Finding("node", "skip", "none runs here, so everything can be asked")
        return
    node = subject.config.node
    url = f"http://127.0.0.1:{node.health_port or node.nats_port + 4001}/healthz"
    try:
        try:
            with urllib.request.urlopen(url, timeout=15) as answer:
                octets = answer.read(MEGABYTE)
        except urllib.error.HTTPError as error:
            with error:
                octets = error.read(MEGABYTE)
        health = msgspec.json.decode(octets, type=Health)
    except (OSError, msgspec.MsgspecError) as error:
        yield Finding("node", "warn", f"{url}: {error}", "`evy doctor`; its log says which port it took")
        return
    verdicts: dict[str, Verdict] = {"ok": "ok", "degraded": "warn", "failed": "fail"}
    for check in health.checks:
        yield Finding(f"node's {check.name}", verdicts[check.verdict], check.reason, "`evy doctor`")


def check_modems(subject: Subject) -> Iterator[Finding]:
    """Every modem, as deeply as it can be asked without changing it."""
    modems = subject.config.section("sms", SmsConfig).modems
    if not modems:
        yield Finding(
            "modem", "fail", "none named in evy.toml", '[sms] device = "/dev/serial/by-id/…"; `evy sim modem`'
        )
    for modem in modems:
        yield from check_modem(modem, in_use=subject.running, deep=True)


def check_radio(subject: Subject) -> Iterator[Finding]:
    """The LoRa module, when one is named."""
    own = subject.config.section("mesh", MeshConfig).device
    device = subject.radio or own
    if not device:
        yield Finding("radio", "skip", "not checked: none named ([mesh] device, or --radio DEVICE)")
        return
    wrong = list(check_device(device))
    yield from wrong
    if wrong:
        return
    if subject.running and device == own:
        yield Finding("radio", "skip", f"{device} is the running node's; `evy mesh status` says how it is")
        return
    try:
        with serial.Serial(device, 115200, timeout=0.1, exclusive=True) as line:
            line.write(b"AT\r\n")
            answer, until = b"", time.monotonic() + RADIO_ANSWERS_WITHIN_S
            while b"\n" not in answer and time.monotonic() < until:
                answer += line.read(64)
    except (serial.SerialException, OSError) as error:
        yield Finding("radio", "fail", f"{device}: {error}", "add this user to group dialout")
        return
    if b"+OK" in answer:
        yield Finding("radio", "ok", f"{device} answers AT; nothing was sent on the air")
    else:
        yield Finding("radio", "fail", f"{device} does not answer AT", "power and wiring; RX and TX crossed?")


def check_storage(subject: Subject) -> Iterator[Finding]:
    """Kind, room, speed and fsync latency of the disk that the node writes to."""
    directory = subject.config.node.directory
    directory.mkdir(parents=True, exist_ok=True)
    kind, device = mounted_at(directory)
    free_mb = shutil.disk_usage(directory).free // MEGABYTE
    card = "microSD card or eMMC" if device.startswith("mmcblk") else device
    volatile = kind in {"tmpfs", "ramfs"}
    yield Finding(
        "disk",
        "fail" if volatile or free_mb < FREE_MB else "ok",
        f"{directory} on {kind}, {card or 'unknown device'}, {free_mb} MB free",
        "this is memory: all is lost without power. Set [node] data_dir"
        if volatile
        else f"free {FREE_MB} MB, or set [node] data_dir elsewhere",
    )
    # A node that runs shares the disk: a short look disturbs it for a fraction of a second.
    octets, syncs = (MEGABYTE, 20) if subject.running else (WRITTEN_OCTETS, SYNCS)
    rate, times_ms = measure_disk(directory, octets, syncs)
    yield Finding(
        "disk speed",
        "ok" if rate >= SLOW_MB_S else "warn",
        f"{rate:.1f} MB/s written and synced ({octets // MEGABYTE} MB)",
        "a card of class A1 or better, or an SSD",
    )
    yield judge_fsync(times_ms)


def judge_fsync(times_ms: list[float]) -> Finding:
    """Whether a disk with these latencies can carry a node."""
    p50 = statistics.median(times_ms)
    p99 = sorted(times_ms)[min(len(times_ms) - 1, round(0.99 * len(times_ms)))]
    if p50 > DEAD_P50_MS:
        verdict: Verdict = "fail"
    else:
        verdict = "warn" if p50 > SLOW_P50_MS or p99 > SLOW_P99_MS else "ok"
    return Finding(
        "fsync",
        verdict,
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(times_ms)} writes of 4 kB",
        "every text waits for several of them: a card of class A2 with a name you trust, or an SSD. "
        "A p99 above a second is a card that wears out",
    )


def measure_disk(directory: Path, octets: int, syncs: int) -> tuple[float, list[float]]:
    """Megabytes a second of one long write, and milliseconds of each small synced one."""
    block = os.urandom(BLOCK_OCTETS)
    with tempfile.TemporaryFile(dir=directory) as file:
        began = time.perf_counter()
        for _ in range(octets // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        rate = octets / MEGABYTE / (time.perf_counter() - began)
        times_ms = []
        for _ in range(syncs):
            file.write(block)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times_ms.append((time.perf_counter() - began) * 1000)
    return rate, times_ms


def mounted_at(directory: Path) -> tuple[str, str]:
    """File system and device name of a directory, from /proc/self/mounts; "" where it does not say."""
    best, kind, device = "", "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            source, target, system, *_ = line.split(" ")
            target = target.replace("\\040", " ")
            if directory.resolve().is_relative_to(target) and len(target) >= len(best):
                best, kind, device = target, system, source.rpartition("/")[2]
    return kind, device


def check_power(subject: Subject) -> Iterator[Finding]:
    """The gauge, and what the board's firmware says of its supply."""
    try:
        gauge = open_gauge(subject.power)
        reading = gauge.read() if gauge else None
    except (ConfigError, GaugeError) as error:
        yield Finding(
            "battery", "fail", str(error), "wiring and address: `i2cdetect -y 1`; [power] in evy.toml"
        )
    else:
        if gauge is None or reading is None:
            yield Finding("battery", "skip", "no gauge: the node counts as half charged ([power] gauge)")
        else:
            told = [f"{gauge.name}:"]
            told += [f"{reading.percent:.0f} %"] if reading.percent is not None else []
            told += [f"{reading.voltage_v:.2f} V"] if reading.voltage_v is not None else []
            told += [f"{reading.draw_w:.1f} W drawn"] if reading.draw_w is not None else []
            told += ["charging"] if reading.charging else []
            low = reading.percent is not None and reading.percent < LOW_PERCENT and not reading.charging
            yield Finding(
                "battery",
                "warn" if low or reading.percent is None else "ok",
                " ".join(told),
                "charge it before it is left alone; a gauge without per cent: [power] chemistry, cells",
            )
    flags = board.throttled_flags(subject.sys)
    if flags is None:
        yield Finding("supply", "skip", "this board has no flags for it")
        return
    now, since_boot = flags & 0xF, flags >> _BOOT_FLAGS & 0xF
    told = [
        name for bit, name in enumerate(("under-voltage", "capped", "throttled", "hot")) if now >> bit & 1
    ]
    before = [
        name
        for bit, name in enumerate(("under-voltage", "capped", "throttled", "hot"))
        if since_boot >> bit & 1
    ]
    verdict: Verdict = "fail" if now & 1 else "warn" if now or since_boot else "ok"
    found = f"now {', '.join(told) or 'fine'}; since boot {', '.join(before) or 'fine'} ({flags:#x})"
    yield Finding(
        "supply", verdict, found, "5.1 V with 3 A and a short thick cable; the modem on a supply of its own"
    )


def check_gpio(subject: Subject) -> Iterator[Finding]:
    """Whether the power key of each modem could be pressed; it is not pressed."""
    keys = [modem for modem in subject.config.section("sms", SmsConfig).modems if modem.power_key_command]
    if not keys:
        yield Finding("power key", "skip", "none named: a modem that hangs for good needs a person")
    for modem in keys:
        program = modem.power_key_command[0]
        chips = sorted(Path("/dev").glob("gpiochip*"))
        if shutil.which(program) is None:
            yield Finding(
                f"{modem.name} power key", "fail", f"no program {program}", "`sudo apt-get install gpiod`"
            )
        elif chips and not any(os.access(chip, os.R_OK | os.W_OK) for chip in chips):
            yield Finding(
                f"{modem.name} power key",
                "fail",
                f"{chips[0]} cannot be opened",
                "`sudo usermod -aG gpio evy`, DeviceAllow=char-gpiochip in the unit",
            )
        else:
            lines = f", {len(chips)} GPIO chips can be opened" if chips else ", no GPIO chip on this machine"
            yield Finding(f"{modem.name} power key", "ok", f"{program} is there{lines}; it was not pressed")


def check_clock(subject: Subject) -> Iterator[Finding]:
    """Where the time comes from after a power cut."""
    clock_chip = any((subject.sys / "class" / "rtc").glob("rtc*"))
    by_network, sane = set_by_network(), time.time() >= EARLIEST
    if by_network:
        told = "a time server keeps it"
    elif clock_chip:
        told = "no time server, but a clock chip"
    else:
        told = "neither time server nor clock chip: until two texts came the node does not know the time"
    yield Finding(
        "clock",
        "fail" if not sane else "ok" if by_network or clock_chip else "warn",
        f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}; {told}",
        "a clock chip (DS3231), or `timedatectl set-time`; deadlines do not care, people do",
    )


def check_machine(subject: Subject) -> Iterator[Finding]:
    """Memory and temperature."""
    memory = psutil.virtual_memory()
    total_mb, free_mb = memory.total // MEGABYTE, memory.available // MEGABYTE
    if total_mb < LITTLE_MEMORY_MB:
        verdict: Verdict = "fail"
    else:
        verdict = "ok" if total_mb >= MEMORY_MB and free_mb >= 200 else "warn"
    yield Finding(
        "memory",
        verdict,
        f"{free_mb} MB of {total_mb} MB free",
        "1 GB is enough for everything; with less leave infer_small out of [node] processes",
    )
    celsius = board.temperature_c(subject.sys)
    if celsius is None:
        yield Finding("temperature", "skip", "no sensor")
        return
    verdict = "ok" if celsius < HOT_C else "warn" if celsius < TOO_HOT_C else "fail"
    yield Finding(
        "temperature",
        verdict,
        f"{celsius:.0f} °C",
        "shade, a heat sink, holes in the box: it slows down at 80 °C",
    )


CHECKS: Final[dict[str, Check]] = {
    "node": check_node,
    "modem": check_modems,
    "radio": check_radio,
    "storage": check_storage,
    "power": check_power,
    "gpio": check_gpio,
    "clock": check_clock,
    "machine": check_machine,
}
"""In the order in which they are shown."""
