"""`evy trace`."""

import asyncio
import time
from pathlib import Path

import click
import msgspec

from actors._cli.logs import fields_of, opened, warn
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import load_config
from actors.analytics.trace import Hop, SentPart, Trace, trace_of
from actors.sms.ledger import Entry


@click.command()
@click.argument("which", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_obj
def trace(path: Path | None, which: str, *, as_json: bool) -> None:
    """Show one text from end to end: every hop, what it waited and worked, what was decided and why.

    ID is a query id or its begin, as `evy logs` shows it, `last` for the last text that came in, or a phone
    number, for the last text of that phone; the number is made a pseudonym on this machine.

    \b
    at      seconds since the modem brought the text
    waited  in the stream, and behind an earlier text of the same phone
    worked  by the actor, until its input was acknowledged; below it what took the time, and what it decided

    At a node the centre's hops are a wait of `compress`; at the centre they are shown there.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)

    async def main() -> Trace:
        async with opened(config) as (found, bus):
            warn(found)
            query = found.query(which)
            events = list(found.events(query_id=query))
            own = [event for event in events if event.query_id == query]
            return trace_of(query, found.spans(query), own, await _parts(bus, query))

    made = asyncio.run(main())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)))
    else:
        click.echo("\n".join(_lines(made)))


async def _parts(bus: NatsBus | None, query: str) -> list[SentPart]:
    """Parts of the texts that a query led to; none at a centre, or without a server."""
    if bus is None:
        return []
    try:
        ledger = await bus.bucket("ledger")
        entries = [(key, await ledger.get(key)) for key in sorted(await ledger.keys(f"{query}."))]
    except BusError:
        return []
    parts = []
    for key, found in entries:
        if found:
            entry = msgspec.json.decode(found[0], type=Entry)
            parts.append(
                SentPart(key.removeprefix(f"{query}."), entry.state, entry.tries, entry.at, entry.note)
            )
    return parts


def _lines(made: Trace) -> list[str]:
    received = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made.received_at))
    lines = [f"text {made.query_id} of {made.sender_ref or 'nobody known'}, {made.lane}, received {received}"]
    if made.submitted_s is None:
        lines.append("no reply has been handed to the modem")
    else:
        arrived = "no status report yet"
        if made.delivered_s is not None:
            arrived = f"delivered after {made.delivered_s:.3f} s"
        lines.append(f"reply handed to the modem after {made.submitted_s:.3f} s; {arrived}")
    lines += ["", f"{'at':>9} {'waited':>9} {'worked':>9}  actor"]
    for hop in made.hops:
        lines += _hop(hop)
    if not any(hop.id for hop in made.hops):
        lines += ["", "no spans: this text was not sampled ([telemetry] sample), or they are no longer kept"]
    if made.parts:
        lines += ["", "parts, as the ledger has them"]
        for part in made.parts:
            tries = f", {part.tries} tries" if part.tries > 1 else ""
            lines.append(f"  {part.key:<12} {part.state}{tries}{f': {part.note}' if part.note else ''}")
    return lines


def _hop(hop: Hop) -> list[str]:
    indent = " " * 31
    told = [f"{indent}{event.kind}: {fields_of(event.fields)}".rstrip(": ") for event in hop.told]
    if not hop.id:
        return [f"{hop.after_s:9.3f} {'':9} {'':9}  {hop.actor}", *told]
    more = "" if hop.outcome == "done" else f", {hop.outcome}"
    if hop.delivery > 1:
        more += f", delivery {hop.delivery}"
    waited = "" if hop.waited_s is None else f"{hop.waited_s:.3f}"
    head = f"{hop.after_s:9.3f} {waited:>9} {hop.worked_s or 0:9.3f}  {hop.actor}"
    steps = [f"{indent}{step.took_s:.3f} s {step.name}" for step in hop.steps]
    return [f"{head}{f' ({hop.subject})' if hop.subject else ''}{more}", *steps, *told]
