"""`evy phone`: a phone in the terminal."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from actors._cli.stage import Stage, on_stage
from actors._runtime.process import run_until_signal

NUMBER: Final = "+15550123"
LAST_ANSWER_WITHIN_S: Final = 30.0


@click.command()
@click.option("--number", default=NUMBER, show_default=True, help="Number of your phone.")
def phone(number: str) -> None:
    """Text EVY from a phone in this terminal: a real node, a simulated modem. Ctrl-D ends.

    Each line you type is one text; what EVY sends to your phone appears below it.
    """
    console = Console(highlight=False)

    async def main(stop: asyncio.Event) -> int:
        with tempfile.TemporaryDirectory(prefix="evy-phone-") as directory:
            async with on_stage(Path(directory), lambda line: console.print(f"[dim]{line}[/]")) as stage:
                await chat(stage, console, number, stop)
        return 0

    sys.exit(run_until_signal(main))


async def chat(stage: Stage, console: Console, number: str, stop: asyncio.Event) -> None:
    """Lines of standard input as texts, until it ends or ``stop``; then waits for the last answer."""
    console.print(f"You are {number}. Type a text and Enter; Ctrl-D ends. Try: my hand is bleeding badly")
    shown = asyncio.create_task(_show(stage, console, number))
    try:
        async for line in _lines(stop):
            if line.strip():
                await stage.text(number, line)
        asked = sum(entry.what == "sent" and entry.number == number for entry in stage.entries)
        if not stop.is_set():
            await stage.until(lambda: len(stage.read_by(number)) >= asked, LAST_ANSWER_WITHIN_S)
            await asyncio.sleep(0)
    finally:
        shown.cancel()


async def _lines(stop: asyncio.Event) -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    # A copy of stdin: the pipe transport makes it non-blocking and closes it at the end.
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            line = asyncio.ensure_future(reader.readline())
            await asyncio.wait({line, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                line.cancel()
                return
            octets = line.result()
            if not octets:
                return
            yield octets.decode("utf-8", "replace").rstrip("\n")
    finally:
        stopped.cancel()
        with contextlib.suppress(OSError):
            transport.close()


async def _show(stage: Stage, console: Console, number: str) -> None:
    shown = 0
    while True:
        async with stage.changed:
            while len(stage.read_by(number)) == shown:
                await stage.changed.wait()
        for text in stage.read_by(number)[shown:]:
            sent = stage.events_of(number, "sent")
            fields = sent[-1].fields if sent else {}
            note = ", ".join(
                part
                for part in (
                    str(fields.get("step", "")),
                    " ".join(fields.get("sources", ())),
                    f"{fields['segments']} SMS" if "segments" in fields else "",
                )
                if part
            )
            console.print(Text(f"  EVY> {text}", style="bold green"))
            console.print(Text(f"       ({note})", style="dim"))
            shown += 1
