"""`evy demo`: texts through real nodes with simulated modems, each judged."""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from actors._cli.link_demo import play_link
from actors._cli.phone import chat
from actors._cli.stage import RESPONDER, Stage, on_stage
from actors._runtime.process import run_until_signal
from subjects.messages import Event
from subjects.registry import Profile

ANSWER_WITHIN_S: Final = 60.0
SETTLE_S: Final = 1.5
"""Time for a second answer to show up where there must be none."""


class Scene(msgspec.Struct, frozen=True):
    """A text and what it should get: one of ``steps`` and ``lanes``, all the words that it ``says``."""

    title: str
    text: str
    steps: tuple[str, ...]
    lanes: tuple[str, ...]
    says: tuple[str, ...] = ()
    times: int = 1
    segments: int = 2


SCENES: Final[Sequence[Scene]] = (
    Scene(
        "emergency",
        "my brother cut his leg with the saw, blood everywhere and it wont stop",
        ("template",),
        ("flash",),
        ("press",),
    ),
    Scene(
        "emergency, misspelt",
        "pls hlp my dad colapsed hes not breething no puls",
        ("template",),
        ("flash",),
        ("chest",),
    ),
    Scene(
        "emergency, Spanish",
        "Estamos atrapados bajo los escombros, se cayo la casa con el terremoto",
        ("template",),
        ("flash",),
        ("golpe",),
    ),
    Scene(
        "emergency, three parts",
        "We are at the school in the upper village with about twenty people from our street since the "
        "road is gone. A pot of boiling water fell from the fire on my daughter, she is 6, her arm and "
        "chest are badly burned and there are big blisters and she screams and we have no clinic here and "
        "no car. What can we do for the burn until morning? Please answer soon, thank you, Ana",
        ("template",),
        ("flash",),
        ("cool",),
    ),
    Scene(
        "emergency, emoji",
        "😰 strong smell of gas in the kitchen and mama feels dizzy 🤢",
        ("template",),
        ("flash",),
        ("out",),
    ),
    Scene(
        "question",
        "how do i make river water safe to drink?",
        ("verbatim",),
        ("routine", "priority"),
        ("boil",),
    ),
    Scene(
        "question, texting style",
        "power is out how long is food in d fridge ok 2 eat",
        ("verbatim",),
        ("routine", "priority"),
        ("4 hours",),
    ),
    Scene(
        "the network delivers it twice",
        "how much water does a person need each day",
        ("verbatim", "joined", "model"),
        ("routine", "priority"),
        times=2,
    ),
    Scene(
        "idiom, no emergency",
        "omg this party is fire and my feet are killing me lol",
        ("unsure", "model"),
        ("routine",),
    ),
    Scene(
        "a question nobody reviewed an answer to",
        "which visa do i need to work in canada",
        ("unsure", "model"),
        ("routine",),
    ),
    Scene("HELP", "HELP", ("command",), ("priority",), ("danger",)),
    Scene("STOP", "STOP", ("command",), ("routine", "priority"), ("START",)),
)


ONLY_THE_CENTRE: Final = Scene(
    "what only the centre knows",
    "when does the ferry leave today?",
    ("verbatim",),
    ("routine", "priority"),
    ("07:00",),
)
HYBRID: Final = (SCENES[0], SCENES[5], ONLY_THE_CENTRE, SCENES[9])
"""The last one is a question for the centre's model, which answers it or says that it does not know."""


@click.command()
@click.option(
    "--profile",
    type=click.Choice(["lilevy", "hybrid", "link"]),
    default="lilevy",
    help="lilevy: one node, twelve texts. hybrid: node and centre in one, four texts. link: two nodes and a "
    "centre, the links cut in the middle.  [default: lilevy]",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep data and logs here.")
@click.option(
    "--chat/--no-chat", "offer", default=None, help="Offer `evy phone` at the end. Default: on a terminal."
)
def demo(profile: str, keep: Path | None, *, offer: bool | None) -> None:
    """Watch EVY answer texts: real NATS, real Gammu, real models; modems and networks are simulated.

    Exit 0 only if every text got what it should. Progress is told on standard error.
    """
    offer = sys.stdin.isatty() and sys.stdout.isatty() if offer is None else offer
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    progress = Console(stderr=True, highlight=False)

    async def main(stop: asyncio.Event) -> int:
        with tempfile.TemporaryDirectory(prefix="evy-demo-") as temporary:
            place = keep or Path(temporary)
            place.mkdir(parents=True, exist_ok=True)
            directory = place.resolve()

            def say(line: str) -> None:
                progress.print(f"[dim]{line}[/]")

            if profile == "link":
                return await play_link(directory, console, say, stop)
            hybrid = profile == "hybrid"
            async with _started(directory, say, "hybrid" if hybrid else "lilevy") as stage:
                return await _play(stage, console, HYBRID if hybrid else SCENES, stop, offer=offer)

    sys.exit(run_until_signal(main))


@contextlib.asynccontextmanager
async def _started(directory: Path, say: Callable[[str], None], profile: Profile) -> AsyncIterator[Stage]:
    started = time.monotonic()
    async with on_stage(directory, say, profile) as stage:
        say(f"node up in {time.monotonic() - started:.1f} s, data in {directory}")
        yield stage


async def _play(
    stage: Stage, console: Console, scenes: Sequence[Scene], stop: asyncio.Event, *, offer: bool
) -> int:
    started = time.monotonic()
    failures: list[str] = []
    milliseconds: list[int] = []
    for number, scene in enumerate(scenes, 1):
        if stop.is_set():
            return 130
        wrong, sent = await _perform(stage, console, number, scene)
        failures += [f"{number} {scene.title}: {reason}" for reason in wrong]
        if scene is ONLY_THE_CENTRE and sent and stage.source_of(sent) != "centre":
            failures.append(f"{number} {scene.title}: the centre did not answer it")
        if sent and sent.fields.get("ms") is not None:
            milliseconds.append(sent.fields["ms"])
    await asyncio.sleep(SETTLE_S)
    for number, scene in enumerate(scenes, 1):
        count = len(_answers(stage, _phone(number)))
        if count > 1:
            failures.append(f"{number} {scene.title}: {count} answers instead of one")
    failures += await _goes_on(stage, console)
    if stage.read_by(RESPONDER):
        failures += await _responder_goes(stage, console)
    _summary(stage, console, len(scenes), failures, milliseconds, time.monotonic() - started)
    if offer and not stop.is_set():
        console.print("\nNow you:")
        await chat(stage, console, "+15550123", stop)
    return int(bool(failures))


def _phone(number: int) -> str:
    return f"+1555010{number:02}00"


def _answers(stage: Stage, phone: str) -> list[str]:
    """What a phone got, the question for the place and the menu aside: they come beside the answer."""
    asks = {stage.texts.say("ask_place", lang) for lang in stage.texts.languages} | stage.texts.menus()
    return [text for text in stage.read_by(phone) if text not in asks]


def _sent(stage: Stage, phone: str) -> list[Event]:
    return [event for event in stage.events_of(phone, "sent") if event.fields["purpose"] != "notice"]


async def _perform(
    stage: Stage, console: Console, number: int, scene: Scene
) -> tuple[list[str], Event | None]:
    """Plays one text and prints the conversation; gives what was wrong with the answer."""
    phone = _phone(number)
    console.print(Text(f"{number:2}  {phone}  {scene.title}", style="bold cyan"))
    console.print(Text(f"    < {scene.text}"))
    await stage.text(phone, scene.text, times=scene.times)
    answered = await stage.until(
        lambda: bool(_answers(stage, phone) and _sent(stage, phone)), ANSWER_WITHIN_S
    )
    if not answered:
        console.print(Text("    ! no answer", style="bold red"))
        return [f"no answer within {ANSWER_WITHIN_S:.0f} s"], None
    answer, sent = _answers(stage, phone)[0], _sent(stage, phone)[0]
    fields = sent.fields
    console.print(Text(f"    > {answer}", style="green"))
    source = " ".join(fields["sources"]) or "-"
    by = ", made by the centre" if stage.source_of(sent) == "centre" else ""
    console.print(
        Text(
            f"      lane {sent.lane}, step {fields['step']}, source {source}, "
            f"{fields['segments']} SMS {fields['encoding']}, {fields['ms']} ms{by}",
            style="dim",
        )
    )
    wrong = []
    if fields["step"] not in scene.steps:
        wrong.append(f"step {fields['step']}, expected {' or '.join(scene.steps)}")
    if sent.lane not in scene.lanes:
        wrong.append(f"lane {sent.lane}, expected {' or '.join(scene.lanes)}")
    wrong += [
        f"the answer does not say {word!r}" for word in scene.says if word.lower() not in answer.lower()
    ]
    if fields["segments"] > scene.segments:
        wrong.append(f"{fields['segments']} segments")
    for reason in wrong:
        console.print(Text(f"    ! {reason}", style="bold red"))
    console.print()
    return wrong, sent


async def _goes_on(stage: Stage, console: Console) -> list[str]:
    """The person of the first emergency replies to its menu, and gets what comes next."""
    phone, branch = _phone(1), stage.texts.follow.branch("bleeding", 1, "en")
    console.print(Text(f" 1  {phone}  {SCENES[0].title}, some minutes later", style="bold cyan"))
    menu = next((text for text in stage.read_by(phone) if text in stage.texts.menus()), "")
    console.print(Text(f"    > {menu}", style="green"))
    console.print(Text("    < 1"))
    await stage.text(phone, "1")
    went_on = await stage.until(lambda: bool(branch and branch.text in stage.read_by(phone)), ANSWER_WITHIN_S)
    if not (menu and branch and went_on):
        return ["1 emergency, some minutes later: no menu, or no answer to its number"]
    console.print(Text(f"    > {branch.text}\n", style="green"))
    return []


async def _responder_goes(stage: Stage, console: Console) -> list[str]:
    """The responder answers the latest alert; who is in danger learns of it."""
    console.print(Text(f"    {RESPONDER}  the responder", style="bold cyan"))
    console.print(Text(f"    > {stage.read_by(RESPONDER)[-1]}", style="green"))
    console.print(Text("    < 1"))
    before = len(stage.entries)

    def told() -> list[tuple[str, str]]:
        return [(entry.number, entry.text) for entry in stage.entries[before:] if entry.what == "read"]

    await stage.text(RESPONDER, "1")
    await stage.until(lambda: len(told()) >= 2, ANSWER_WITHIN_S)
    for number, text in told():
        console.print(Text(f"    > {number}: {text}", style="green"))
    console.print()
    if {number == RESPONDER for number, _ in told()} != {True, False}:
        return ["the responder's answer reached the person in danger, or the responder, not"]
    return []


def _summary(  # noqa: PLR0917  # what was counted
    stage: Stage, console: Console, texts: int, failures: list[str], milliseconds: list[int], seconds: float
) -> None:
    alerts = sum("EVY ALERT" in text for text in stage.read_by(RESPONDER))
    console.print(f"{texts} texts, {len(failures)} wrong, {seconds:.0f} s in all.")
    if milliseconds:
        console.print(
            f"Text received to answer on the air: median {statistics.median(milliseconds):.0f} ms, "
            f"slowest {max(milliseconds)} ms; libgammu itself waits about 0.7 s in each SMS."
        )
    console.print(f"The responder {RESPONDER} got {alerts} alerts about the emergencies that need one.")
    for failure in failures:
        console.print(Text(f"WRONG {failure}", style="bold red"))
    if not failures:
        console.print(Text("Every text got what it should.", style="bold green"))
