"""The `evy` command: results on stdout, logs on stderr, a one-line reason and an exit code when it fails."""

import importlib
import sys
from pathlib import Path
from typing import Any, Final

import click

from subjects.errors import EvyError

COMMANDS: Final = {
    "up": ("node", "Start this node: server, actors, and what keeps them alive."),
    "run": ("node", "Run some actors in this process."),
    "demo": ("demo", "Watch EVY answer twelve texts through a simulated modem."),
    "phone": ("phone", "Text EVY from a phone in this terminal, through a simulated modem."),
    "ask": ("answer", "Answer a text without a server or a modem."),
    "triage": ("answer", "Show how a text is judged: priority, needs, topic."),
    "compress": ("answer", "Fit a text into SMS segments."),
    "pack": ("answer", "Pack a text for the radio, and unpack it."),
    "knowledge": ("knowledge", "Check, search, add to and compare what EVY says."),
    "sync": ("sync", "Bring signed texts from the centre to its nodes, by link or stick; roll back."),
    "subjects": ("contract", "Print the wire contract; check or mend a server against it."),
    "dlq": ("dlq", "Dead letters: list, show, mend and replay, or drop what nobody could handle."),
    "upgrade": ("upgrade", "Put another release of EVY under this node, and back when it does not work."),
    "backup": ("backup", "Write everything that makes this node this node into one file."),
    "restore": ("restore", "Make a node again from its backup, on an empty machine."),
    "forget": ("forget", "Erase one person everywhere on this node."),
    "bulletin": ("bulletin", "Send a public alert (CAP) from a file to the people who asked for alerts."),
    "outbox": ("outbox", "Texts that wait for the modem, and those whose fate a person must decide."),
    "cases": ("cases", "People in danger whose alert is open: who was asked, and who goes."),
    "trace": ("trace", "Show one text from end to end: every hop, wait, work and decision."),
    "logs": ("logs", "Show what happened on this node, and follow it."),
    "stats": ("stats", "Show how this node did: texts, answers, speed, refusals, alerts, outages."),
    "report": ("report", "Show how all nodes of this centre did; --picture draws it."),
    "link": ("link", "Show the link to the centre, and what waits on either side."),
    "mesh": ("mesh", "The LoRa mesh: make one, let nodes in, look how it does."),
    "llm": ("llm", "Serve a model at the centre without a GPU; check its server."),
    "nats": ("keys", "Keys and server configurations of edge and centre: init, enrol, join, revoke."),
    "hw": ("hw", "Check the hardware of a node, and write a report: evy hw check."),
    "doctor": ("doctor", "Check this machine and say how to mend what is wrong."),
    "sim": ("sim", "Run simulated modems and radios, a bad network, a battery, a memory card, feeds."),
    "bench": ("bench", "Measure this machine and print a table."),
}
"""Each command with the module that holds it; a module is imported only when its command runs, so that
`evy subjects` does not load a model runtime."""


class Lazy(click.Group):
    """Finds commands in :data:`COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        """The command itself."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"actors._cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # likewise
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration file. Default: $EVY_CONFIG, ./evy.toml, /etc/evy/evy.toml, else built-in values.",
)
@click.version_option(package_name="evy")
@click.pass_context
def evy(ctx: click.Context, config: Path | None) -> None:
    """EVY answers text messages when nothing else works.

    Start with `evy demo`; then `evy doctor` on the machine that shall become a node, and `evy up`.
    """
    ctx.obj = config


def main() -> Any:
    """Runs the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        return evy.main(prog_name="evy", standalone_mode=True)
    except EvyError as error:
        click.echo(f"evy: {error}", err=True)
        sys.exit(1)
