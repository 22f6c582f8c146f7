"""What crosses between a node and its centre, for people: `evy link` shows it at either end.

The way up is ``UP_<node>`` → ``IN_<node>``, the way down ``DOWN_<node>`` → ``FLASH_<node>`` and
``WORK_<node>``; each arrow is a stream that takes messages over from another. Such a source makes no error
when it stops, so it is judged by when it last heard from the other stream, which says so every second.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec
import nats.errors
import nats.js.errors

from actors._runtime.bus import NatsBus, bus_errors
from actors._runtime.link import NatsLink
from actors._runtime.provision import Place, edges
from actors._runtime.stream_info import ANSWERS_WITHIN_S, NotThereError, StreamInfo, ask
from subjects import names
from subjects.errors import MessageError
from subjects.messages import Event, Query, decode
from subjects.names import HUB, LANES, Lane
from subjects.registry import STREAMS, WORK

HEARS_WITHIN_S: Final = 15.0
"""A healthy source hears every second, over the thinnest line within a few; the server looks after a silent
one every ten seconds."""

Verdict = Literal["ok", "down", "stalled", "full"]
"""ok: it hears the other stream. down: it cannot, the link is down. stalled: the link is up, and yet it does
not hear. full: it may not hold more of some lane."""


class Held(msgspec.Struct, frozen=True):
    """What a stream holds at this moment."""

    stream: str
    lanes: dict[Lane, int]
    oldest_s: float | None = None
    """Age of the oldest message by the clock of the server that holds it; None when there is none."""

    @property
    def total(self) -> int:
        """Messages of all lanes."""
        return sum(self.lanes.values())


class Taking(msgspec.Struct, frozen=True):
    """A stream that takes messages over, as its own server sees it."""

    stream: str
    source: str
    verdict: Verdict
    lag: int
    """Messages of the source that it knows of and does not have."""
    heard_s: float | None
    """Seconds since it last heard from the source; None: not since its server started."""
    error: str = ""
    """What its server says is wrong."""
    renewed: float | None = None
    """Unix time at which it was renewed, if of all sources here it was the last (`sources.py`)."""


class Crossing(msgspec.Struct, frozen=True):
    """The link of one node as far as this end can see it; what it cannot see is None."""

    node: str
    up: bool
    reason: str
    rtt_ms: float | None = None
    since: float | None = None
    """Unix time of the last event that said so."""
    leaving: Held | None = None
    """At the node, for the centre."""
    arrived: Held | None = None
    """At the centre, from the node."""
    returning: Held | None = None
    """At the centre, for the node."""
    taking: tuple[Taking, ...] = ()
    workers: int | None = None
    """Requests for work, or work under way, at the centre: 0 means that nobody answers this node."""

    @property
    def troubles(self) -> list[tuple[str, str]]:
        """What is wrong, each with its mend."""
        found = [] if self.up else [(f"{self.node}: {self.reason}", _DOWN)]
        for taking in self.taking:
            if taking.verdict in _MENDS:
                what, mend = _MENDS[taking.verdict]
                words = {"stream": taking.stream, "source": taking.source, "heard": _heard(taking)}
                problem = what.format(**words) + (f" ({taking.error})" if taking.error else "")
                found.append((problem, mend.format(**words)))
        if self.workers == 0 and self.arrived and self.arrived.total:
            found.append(
                (
                    f"{self.arrived.total} queries of {self.node} wait at the centre, nobody works on them",
                    "start it: `evy up`, or `evy run infer_large`; its log says what it misses",
                )
            )
        return found


_DOWN: Final = (
    "nothing is lost: this node answers with what it has, and what waits goes when the link is back; "
    "both servers' logs (nats-server.log in the data directory) say what the connection met"
)
_MENDS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "stalled": (
        "stalled: {stream} {heard} from {source} while the link is up",
        (
            "after a start or a first link it takes up to a minute, and what stays silent for longer is "
            "renewed by itself (event source_renewed), as long as actors run here. If it stays: `evy link` "
            "at the other end shows whether {source} is there"
        ),
    ),
    "full": (
        "full: {stream} may hold no more of a lane, so {source} waits",
        "nothing is lost; see that what takes from {stream} runs: `evy up`, and its log",
    ),
}


def _heard(taking: Taking) -> str:
    if taking.heard_s is None:
        return "has not heard since its start"
    return f"has not heard for {taking.heard_s:.0f} s"


async def look(bus: NatsBus, place: Place) -> list[Crossing]:
    """The crossings of this server: a lilevy's own, those of all nodes of a centre, both of a hybrid.

    Empty when there is no link to look at. Raises :class:`BusError` when its own server does not answer.
    """
    links, renewal = await asyncio.gather(_links(bus, place), _last(bus, "source_renewed"))
    return [_with_renewal(found, renewal) for found in links] if renewal else links


def _with_renewal(crossing: Crossing, event: Event) -> Crossing:
    taking = tuple(
        msgspec.structs.replace(one, renewed=event.at) if one.stream == event.fields.get("stream") else one
        for one in crossing.taking
    )
    return msgspec.structs.replace(crossing, taking=taking)


async def _links(bus: NatsBus, place: Place) -> list[Crossing]:
    if place.profile == "lilevy":
        return [await _at_node(bus, place)] if place.linked else []
    with bus_errors("list the nodes of this centre"):
        enrolled = await edges(bus.client)
    found = await asyncio.gather(*(_at_centre(bus, edge) for edge in enrolled))
    if place.profile == "hybrid":
        own = await _at_node(bus, place)
        return [_joined(own, there) if there.node == place.node else there for there in found]
    return list(found)


def _joined(node: Crossing, centre: Crossing) -> Crossing:
    return msgspec.structs.replace(
        node, arrived=centre.arrived, workers=centre.workers, taking=(*centre.taking, *node.taking)
    )


async def _at_node(bus: NatsBus, place: Place) -> Crossing:
    node = place.node
    api = "$JS.API" if place.profile == "hybrid" else f"$JS.{HUB}.API"
    state, since, leaving, returning = await asyncio.gather(
        NatsLink(bus, place).look(),
        _since(bus),
        _here(bus, f"UP_{node}"),
        _there(bus, api, f"DOWN_{node}"),
    )
    takers = [row.name.format(node=node) for row in STREAMS if row.source and row.at == "node"]
    streams = await asyncio.gather(*(_here(bus, taker) for taker in takers))
    up = bool(state.up)
    kind, at = since
    return Crossing(
        node,
        up,
        state.reason,
        state.rtt_ms,
        at if kind == ("link_up" if up else "link_down") else None,
        leaving=_held(leaving),
        returning=_held(returning) if returning else None,
        taking=tuple(taking for stream in streams for taking in taken(stream, up=up)),
    )


async def _at_centre(bus: NatsBus, edge: str) -> Crossing:
    """A node as its centre knows it, which may ask it nothing: by what its stream here hears."""
    arrived, returning, workers = await asyncio.gather(
        _here(bus, f"IN_{edge}"), _here(bus, f"DOWN_{edge}"), _workers(bus, edge)
    )
    heard_s = next((source.heard_s for source in arrived.sources), None)
    up = heard_s is not None and heard_s <= HEARS_WITHIN_S
    if heard_s is None:
        reason = "not heard since the centre's start"
    else:
        reason = f"heard {heard_s:.0f} s ago" if up else f"not heard for {heard_s:.0f} s"
    return Crossing(
        edge,
        up,
        reason,
        arrived=_held(arrived),
        returning=_held(returning),
        taking=tuple(taken(arrived, up=up)),
        workers=workers,
    )


async def _since(bus: NatsBus) -> tuple[str, float | None]:
    """Kind and Unix time of the last event of the actor `link`."""
    last: Event | None = None
    for kind in ("link_up", "link_down"):
        event = await _last(bus, kind)
        if event is not None:
            last = event if last is None or event.at >= last.at else last
    return (last.kind, last.at) if last else ("", None)


async def _last(bus: NatsBus, kind: str) -> Event | None:
    with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, MessageError, TimeoutError):
        raw = await bus.js.get_last_msg(f"EVT_{bus.node}", names.event_subject(kind))
        return decode(raw.data or b"", Event)
    return None


async def _workers(bus: NatsBus, edge: str) -> int:
    """Pull requests that wait and messages under way at the centre's durables for one node's queries."""
    count = 0
    for row in WORK:
        for lane in LANES if row.at == "centre" and row.message is Query else ():
            with (
                bus_errors(f"look at {row.durable(edge, lane)}"),
                contextlib.suppress(nats.js.errors.NotFoundError),
            ):
                info = await bus.js.consumer_info(row.stream(edge, lane), row.durable(edge, lane))
                count += (info.num_waiting or 0) + (info.num_ack_pending or 0)
    return count


def _held(info: StreamInfo) -> Held:
    lanes: dict[Lane, int] = dict.fromkeys(LANES, 0)
    for subject, count in info.state.subjects.items():
        lane = subject.rpartition(".")[2]
        if lane in lanes:
            lanes[lane] += count
    age_s = None
    if info.state.messages and info.ts and info.state.first_ts:
        age_s = max(0.0, (info.ts - info.state.first_ts).total_seconds())
    return Held(info.config["name"], lanes, age_s)


def taken(info: StreamInfo, *, up: bool) -> Iterator[Taking]:
    """What a stream takes over, each source with its verdict; ``up``: so is the link."""
    bound = info.config.get("max_msgs_per_subject", -1)
    for source in info.sources:
        heads = tuple(transform.dest.partition("{{")[0] for transform in source.subject_transforms)
        full = any(
            0 < bound <= count and subject.startswith(heads) for subject, count in info.state.subjects.items()
        )
        heard_s = source.heard_s
        silent = heard_s is None or heard_s > HEARS_WITHIN_S or bool(source.error)
        verdict: Verdict = "ok"
        if full:
            verdict = "full"
        elif silent:
            verdict = "stalled" if up else "down"
        error = str(source.error.get("description", ""))
        yield Taking(info.config["name"], source.name, verdict, source.lag, heard_s, error)


async def _here(bus: NatsBus, name: str) -> StreamInfo:
    """A stream of this server. Raises :class:`BusError`, also when it is missing."""
    with bus_errors(f"look at {name}"):
        try:
            info, _ = await ask(bus.client, "$JS.API", name, 5.0)
        except NotThereError as error:
            raise nats.errors.Error(f"{error}; start the node once, `evy up` makes it") from error
        return info


async def _there(bus: NatsBus, api: str, name: str) -> StreamInfo | None:
    """A stream at the centre; None when it cannot be seen now."""
    with contextlib.suppress(nats.errors.Error, TimeoutError, NotThereError):
        info, _ = await ask(bus.client, api, name, ANSWERS_WITHIN_S)
        return info
    return None
