"""`make soak`: days of a node's life in compressed time, everything breaking by seed; 0 lost, 0 doubled.

Ends with a table and a JSON summary; exit code 1 when a promise was broken. The same seed gives the same
texts and the same faults at the same times; the races between processes are the machine's.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from actors._runtime.bus import BusError, NatsBus
from actors._runtime.identity import load_identity
from actors.sms.ledger import Entry as LedgerEntry
from simulators.control import Send
from simulators.disk.client import mounted
from subjects.messages import DeadLetter, decode
from tests.soak import faults, plan
from tests.soak.judge import Judge, Verdict
from tests.soak.plan import Fault, Pace, Text
from tests.soak.site import CARD_MB, NODE, Site, why_not

ROOT: Final = Path(__file__).parents[2]
QUIET_S: Final = 300.0
"""How long nothing may happen after the last fault before what is missing counts as lost: longer than any
of the product's waits."""
SETTLE_S: Final = 20.0
"""After everybody has got what they are owed: time for a second answer to show."""
TOLD_EVERY_S: Final = 15.0


class Run:
    """One soak: the plan, what has happened so far, and what it came to."""

    def __init__(
        self, site: Site, pace: Pace, seed: int, console: Console, names: Collection[str] = ()
    ) -> None:
        self.site = site
        self.pace = pace
        self.console = console
        self.judge = Judge()
        self.texts = plan.texts(seed, pace.hours)
        lengths = [
            (name, trouble.least_s, trouble.most_s)
            for name, trouble in faults.TROUBLES.items()
            if not names or name in names
        ]
        self.faults = plan.faults(seed, pace.hours, lengths)
        self.sent: list[Text] = []
        self.broken: Counter[str] = Counter()
        self.now_broken: Counter[str] = Counter()
        self.failures: list[str] = []
        """Faults that could not be done: the soak's own trouble, not the node's."""
        self._began_s = time.monotonic()

    @property
    def simulated_s(self) -> float:
        """Simulated time since the beginning."""
        return (time.monotonic() - self._began_s) * self.pace.factor

    async def play(self) -> None:
        """Sends and breaks as planned, mends everything, waits until nothing comes any more."""
        self._began_s = time.monotonic()
        telling = asyncio.create_task(self._tell())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                for fault in self.faults:
                    group.create_task(self._break(fault))
            await faults.heal(self.site)
            self.say("all faults are over")
            await self._quiet()
        finally:
            telling.cancel()

    def say(self, what: str) -> None:
        """One line of the transcript."""
        hours = min(self.simulated_s / plan.HOUR_S, self.pace.hours)
        self.console.print(f"{hours:6.1f} h  {what}", highlight=False, markup=False)

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, (at_s - self.simulated_s) / self.pace.factor))

    async def _send(self) -> None:
        for text in self.texts:
            await self._until(text.at_s)
            await self.site.order(self._order(text))
            self.sent.append(text)

    def _order(self, text: Text) -> Send:
        kind = text.kind
        return Send(
            text.number,
            text.text,
            sender="PRIZES" if kind.nobody else "",
            drop=(2,) if kind.loses_part else (),
            late=(2,) if kind.late_part else (),
            late_s=3 * self.pace.real_s(600),
            times=kind.times,
        )

    async def _break(self, fault: Fault) -> None:
        await self._until(fault.at_s)
        trouble, seconds = faults.TROUBLES[fault.name], self.pace.real_s(fault.for_s)
        self.broken[fault.name] += 1
        self.now_broken[fault.name] += 1
        self.say(f"{fault.name} for {_length(fault.for_s)}")
        try:
            await trouble.do(self.site, random.Random(fault.seed), seconds)
        except (OSError, ValueError, TimeoutError) as error:
            self.failures.append(f"{fault.name}: {type(error).__name__}: {error}")
            self.say(f"{fault.name} could not be done: {error}")
        finally:
            self.now_broken[fault.name] -= 1

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            missing = len(self.judge.missing(self.sent, self.site.entries))
            now = ", ".join(+self.now_broken) or "nothing"
            sent = f"{len(self.sent)} of {len(self.texts)} texts sent, {missing} not answered yet"
            self.say(f"{sent}; broken now: {now}")

    async def _quiet(self) -> None:
        """Until everybody has got what they are owed and no work is left, or nothing happens any more."""
        seen, since_s = -1, time.monotonic()
        numbers = {text.number for text in self.sent}  # responders are asked again and again
        while time.monotonic() - since_s < QUIET_S:
            if (count := sum(entry.number in numbers for entry in self.site.entries)) != seen:
                seen, since_s = count, time.monotonic()
            missing = self.judge.missing(self.sent, self.site.entries)
            if not missing and not any((await self.site.streams() or {"": 1}).values()):
                await asyncio.sleep(SETTLE_S)
                return
            await asyncio.sleep(1)

    async def verdict(self) -> tuple[Verdict, list[str]]:
        """What the phones and the ledger say, and the dead letters."""
        identity = load_identity(NODE, self.site.data)
        bus = await self.site.bus()
        try:
            ledger = await _ledger(bus)
            letters = await _letters(bus)
        finally:
            await bus.close()
        by_number = {text.number: ledger.get(identity.sender_ref(text.number), []) for text in self.sent}
        return self.judge.judge(self.sent, self.site.entries, by_number), letters


def _length(seconds: float) -> str:
    for unit, name in ((plan.HOUR_S, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


async def _ledger(bus: NatsBus) -> dict[str, list[LedgerEntry]]:
    """Entries by the pseudonym they are for."""
    bucket = await bus.bucket("ledger")
    found: dict[str, list[LedgerEntry]] = {}
    for key in await bucket.keys():
        if value := await bucket.get(key):
            entry = msgspec.json.decode(value[0], type=LedgerEntry)
            found.setdefault(entry.to, []).append(entry)
    return found


async def _letters(bus: NatsBus) -> list[str]:
    stream = f"DLQ_{NODE}"
    state = (await bus.js.stream_info(stream)).state
    letters = []
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        with contextlib.suppress(BusError):
            letter = decode((await bus.js.get_msg(stream, sequence)).data or b"", DeadLetter)
            letters.append(f"{letter.subject}: {letter.error}")
    return letters


async def soak(  # what a soak is made of
    directory: Path,
    pace: Pace,
    *,
    seed: int,
    driver: str,
    console: Console,
    names: Collection[str] = (),
) -> dict[str, Any]:
    """Plays a soak in a directory and gives its summary; ``names`` are the only faults. Raises RuntimeError
    when it cannot be."""
    with mounted(directory, "--size-mb", str(CARD_MB)) as disk:
        site = Site(directory, disk, pace, driver, seed)
        async with site.running():
            run = Run(site, pace, seed, console, names)
            began_s = time.monotonic()
            await run.play()
            verdict, letters = await run.verdict()
            left = await site.streams()
            restarts = site.node.restarts
        return {
            "seed": seed,
            "hours": pace.hours,
            "minutes": round((time.monotonic() - began_s) / 60, 1),
            "factor": round(pace.factor, 1),
            "driver": driver,
            "texts": len(run.sent),
            "kinds": dict(Counter(text.kind.name for text in run.sent)),
            "faults": dict(run.broken),
            "faults_not_done": run.failures,
            "modem_power_losses": site.power_losses,
            "restarts_of_evy_up": restarts,
            "left_in_streams": left,
            "dead_letters": letters,
            "clean": verdict.is_clean,
            "verdict": msgspec.to_builtins(verdict),
        }


def show(summary: dict[str, Any], console: Console) -> None:
    """The table, and every promise that was broken."""
    verdict = summary["verdict"]
    table = Table(box=box.SIMPLE if console.is_terminal else box.ASCII2)
    for heading in ("what", "count"):
        table.add_column(heading)
    rows = (
        ("texts sent by phones", summary["texts"]),
        ("owed an answer", verdict["owed"]),
        ("replies", verdict["replies"]),
        ("requests to send again (parts missing)", verdict["notices"]),
        ("follow-ups of the centre", verdict["followups"]),
        ("asides to people in danger", verdict["asides"]),
        ("lost", len(verdict["lost"])),
        ("doubled", len(verdict["doubled"])),
        ("exempt: HELD for a person, the modem lost its power while it sent", len(verdict["held"])),
        ("exempt: flash sent again, nobody knew its fate", len(verdict["flash_again"])),
        ("dead letters", len(summary["dead_letters"])),
        ("faults", sum(summary["faults"].values())),
        ("kinds of faults", len(summary["faults"])),
        ("times the modem lost its power", summary["modem_power_losses"]),
        ("restarts of `evy up` by itself", summary["restarts_of_evy_up"]),
        ("work left in streams", sum((summary["left_in_streams"] or {}).values())),
    )
    for what, count in rows:
        table.add_row(what, str(count))
    console.print(table)
    for name in ("lost", "doubled", "held", "flash_again"):
        for number, what in verdict[name].items():
            console.print(f"{name} {number} {what}", markup=False, highlight=False, soft_wrap=True)
    for letter in summary["dead_letters"]:
        console.print(f"dead letter {letter}", markup=False, highlight=False, soft_wrap=True)
    kept = "every promise kept" if summary["clean"] else "PROMISES BROKEN"
    span = f"{summary['hours']:g} h in {summary['minutes']} min"
    console.print(f"seed {summary['seed']}, {span}, driver {summary['driver']}: {kept}")


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance; default 1")
    parser.add_argument("--hours", type=float, default=72, help="simulated; default 72")
    parser.add_argument("--minutes", type=float, help="real, without what is left then; default 36 for 72 h")
    parser.add_argument("--driver", choices=("at", "gammu"), default="at", help="[sms] driver; default at")
    parser.add_argument(
        "--fault",
        action="append",
        choices=faults.TROUBLES,
        metavar="NAME",
        help=f"only these: {', '.join(faults.TROUBLES)}",
    )
    parser.add_argument("--json", type=Path, default=ROOT / "soak-latest.json", help="where the summary goes")
    parser.add_argument("--dir", type=Path, help="keep everything there; default a folder that is removed")
    options = parser.parse_args(arguments)
    if reason := why_not():
        parser.error(f"no soak here: {reason}")
    logging.basicConfig(level=logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 130, highlight=False)
    pace = Pace(options.hours, options.minutes or options.hours / 2)
    with contextlib.ExitStack() as stack:
        directory = options.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evy-soak-")))
        directory.mkdir(parents=True, exist_ok=True)
        summary = asyncio.run(
            soak(
                directory,
                pace,
                seed=options.seed,
                driver=options.driver,
                console=console,
                names=options.fault or (),
            )
        )
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1))
    show(summary, console)
    console.print(f"JSON: {options.json}", soft_wrap=True)
    return 0 if summary["clean"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
