"""Creates streams, durables and buckets from `subjects.registry`, and reports where a server differs."""

import contextlib
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    ExternalStream,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamConsumerSource,
    StreamSource,
    SubjectTransform,
)
from nats.js.errors import NotFoundError

from actors._runtime.config import NodeConfig
from subjects.errors import ConfigError
from subjects.names import HUB, Lane
from subjects.registry import (
    ADVISORIES,
    BUCKETS,
    MAX_MESSAGE_OCTETS,
    MAX_WORK_OCTETS,
    STREAMS,
    WORK,
    Bucket,
    Profile,
    Source,
    Stream,
    Work,
    reaper,
)

SPARE_DELIVERIES: Final = 3
"""Deliveries the server allows beyond the registry's, so that a message whose worker died during the last
one comes back and is dead-lettered before it is handled again."""

FIRST_SEQUENCE: Final = 2
"""Where streams begin that another server takes over. A durable whose acknowledged sequence is 0 and that is
set back says what it had delivered before (nats-server 2.15.1 reads the old state from the disk); the taker
believes it has those messages and acknowledges them: they are lost. Begun at 2, that sequence is never 0."""

_TAKEN: Final = frozenset(row.source.stream for row in STREAMS if row.source)


class Place(msgspec.Struct, frozen=True):
    """What a server is for, as far as its streams depend on it."""

    node: str
    profile: Profile = "lilevy"
    centre: bool = False
    """A lilevy that is enrolled at a centre; a hybrid is its own."""
    replicas: int = 1
    """Copies of each stream; 3 on a cluster."""
    keep_days: float = 90.0
    """Nothing that tells of a person stays longer, but an opt-out and work that waits."""

    @classmethod
    def of(cls, node: NodeConfig) -> "Place":
        """The server of a configured node."""
        return cls(node.name, node.profile, node.centre, node.replicas, node.keep_days)

    def age_s(self, limit_s: float) -> float:
        """How long this server keeps what the registry limits to ``limit_s``; 0 in both is no limit."""
        return min(limit_s, self.keep_days * 86400)

    @property
    def linked(self) -> bool:
        """Whether there is a centre behind this server, or on it."""
        return self.centre or self.profile != "lilevy"

    def streams(self) -> list[StreamConfig]:
        """Streams of this server, those of a centre's other nodes not included."""
        wanted = {
            "lilevy": ("node", "both", "uplink") if self.centre else ("node", "both"),
            "bigevy": ("both", "hub"),
            "hybrid": ("node", "both", "uplink", "centre", "hub"),
        }[self.profile]
        return [self.stream(row, self.node) for row in STREAMS if row.at in wanted]

    def streams_of(self, edge: str) -> list[StreamConfig]:
        """Streams that a centre keeps for one of its nodes."""
        return [self.stream(row, edge) for row in STREAMS if row.at == "centre"]

    def stream(self, row: Stream, node: str) -> StreamConfig:
        """Server configuration of a stream of ``node`` as it is on this server."""
        per_subject = row.max_per_subject > 0
        max_age_s = self.age_s(row.max_age_s)
        return StreamConfig(
            name=row.name.format(node=node),
            subjects=row.subjects_of(node),
            retention=RetentionPolicy.WORK_QUEUE if row.retention == "workqueue" else RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW if row.discard == "new" else DiscardPolicy.OLD,
            discard_new_per_subject=per_subject and row.discard == "new",
            max_msgs_per_subject=row.max_per_subject,
            max_age=max_age_s,
            max_bytes=row.max_octets,
            max_msg_size=MAX_WORK_OCTETS if row.retention == "workqueue" else MAX_MESSAGE_OCTETS,
            duplicate_window=min(row.dedup_window_s, max_age_s or row.dedup_window_s),
            storage=StorageType.FILE,
            first_seq=FIRST_SEQUENCE if row.name in _TAKEN else None,
            num_replicas=self.replicas,
            # The server has no asynchronous replicated streams; a replica's write is no slower for us.
            persist_mode=PersistMode.ASYNC if row.persist == "async" and self.replicas == 1 else None,
            sources=[self._source(row.source, node, row.name)] if row.source and self.linked else None,
            allow_rollup_hdrs=row.objects,
        )

    def _source(self, row: Source, node: str, name: str) -> StreamSource:
        taker = name.format(node=node)
        here = self.profile == "hybrid" and node == self.node
        domain = row.domain.format(node=node)
        return StreamSource(
            name=row.stream.format(node=node),
            external=None if here else ExternalStream(f"$JS.{domain}.API", row.deliver.format(node=node)),
            subject_transforms=[
                SubjectTransform(src=src.format(node=node), dest=dest.format(node=node))
                for src, dest in row.transforms
            ],
            consumer=None if here else StreamConsumerSource(taker, _deliver_to(row, node, taker)),
        )

    def takers(self, node: str) -> list[tuple[str, ConsumerConfig]]:
        """Durables, each with its stream, by which the other end of the link takes messages of ``node`` from
        streams of this one.

        Without them the server makes ephemeral ones itself, and after an outage it asks for them again only
        after half a minute at best and two at worst (``srcConsumerWaitTime``, ``retryMaximum`` in its
        stream.go). A durable says that it is there once a second, and is heard as soon as the link is back.
        """
        if self.profile == "hybrid" or not self.linked:
            return []
        at = "centre" if self.profile == "bigevy" else "node"
        found = []
        for row in STREAMS:
            if row.source is None or row.at == at:
                continue
            taker = row.name.format(node=node)
            config = ConsumerConfig(
                durable_name=taker,
                deliver_subject=_deliver_to(row.source, node, taker),
                filter_subjects=[src.format(node=node) for src, _ in row.source.transforms],
                ack_policy=AckPolicy.FLOW_CONTROL,
                flow_control=True,
                idle_heartbeat=1.0,
            )
            found.append((row.source.stream.format(node=node), config))
        return found

    def rows(self, actors: Collection[str] | None = None) -> list[Work]:
        """Rows of the work table, of some actors or of all, that this server has durables for. A centre
        has durables for each of its nodes instead."""
        if self.profile == "bigevy":
            return []
        rows = [row for row in WORK if row.at == "node" or self.profile == "hybrid"]
        return [row for row in rows if actors is None or row.actor in actors]


def _deliver_to(row: Source, node: str, taker: str) -> str:
    return f"{row.deliver}.{{taker}}".format(node=node, taker=taker)


def bucket_config(row: Bucket, place: Place) -> StreamConfig:
    """Server configuration of a key-value bucket: a stream with the layout of NATS ADR-8."""
    name, ttl_s = row.bucket(place.node), place.age_s(row.ttl_s)
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        max_age=ttl_s,
        max_bytes=row.max_octets,
        max_msg_size=MAX_MESSAGE_OCTETS,
        discard=DiscardPolicy.NEW,
        duplicate_window=min(120.0, ttl_s or 120.0),
        storage=StorageType.FILE if row.storage == "file" else StorageType.MEMORY,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
    )


def consumer_config(row: Work, node: str, lane: Lane) -> ConsumerConfig:
    """Server configuration of the durable of one lane."""
    return ConsumerConfig(
        durable_name=row.durable(node, lane),
        filter_subject=row.filter_subject(node, lane),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=row.ack_wait_s,
        max_deliver=row.max_deliver + SPARE_DELIVERIES,
        max_ack_pending=max(row.max_pending, 8 * row.slots.of(lane)),
    )


def reaper_config(node: str) -> ConsumerConfig:
    """Server configuration of the reaper's durable: an advisory is told until its message is a letter."""
    return ConsumerConfig(durable_name=reaper(node), ack_policy=AckPolicy.EXPLICIT, ack_wait=60)


def _sources(sources: Iterable[StreamSource] | None) -> list[tuple[Any, ...]]:
    """What matters of sources, without what the server adds to them."""
    return sorted(
        (
            source.name,
            source.external and (source.external.api, source.external.deliver),
            source.consumer and (source.consumer.name, source.consumer.deliver_subject),
            sorted((transform.src, transform.dest) for transform in source.subject_transforms or ()),
        )
        for source in sources or ()
    )


def _differences(wanted: Any, found: Any, what: str) -> Iterable[str]:
    for name, value in vars(wanted).items():
        if value in (None, "", [], 0, -1, False) or name == "sources":
            continue  # left to the server
        there = getattr(found, name, None)
        if there != value:
            yield f"{what}: {name} is {there!r}, the registry says {value!r}"


async def provision(
    js: JetStreamContext, place: Place, actors: Collection[str] | None = None, *, apply: bool = False
) -> list[str]:
    """Makes the streams and buckets of a server, and the durables of ``actors`` (None: of all); returns
    where the server differs, one line each.

    Differences are left as they are (an operator may have had reasons) unless ``apply``. Sources and their
    durables are the exception: a node that was enrolled at a centre must begin to listen to it, and what a
    newer release sends over the link must be let through. The durables by which the other end of the link
    takes messages are made later, by :class:`sources.Sources`.
    """
    configs = place.streams()
    if place.profile != "bigevy":
        configs += [bucket_config(row, place) for row in BUCKETS]
    drift = await _streams(js, configs, place.keep_days * 86400, apply=apply)
    drift += await _consumers(
        js, [(ADVISORIES.name.format(node=place.node), reaper_config(place.node))], apply=apply
    )
    if place.profile == "lilevy":
        drift += await _consumers(js, place.takers(place.node), apply=True, make=False)
    return drift + await _durables(js, place.node, place.rows(actors), apply=apply)


async def provision_edge(js: JetStreamContext, place: Place, edge: str, *, apply: bool = False) -> list[str]:
    """At a centre: makes the streams of one of its nodes and the durables of those who work for it; returns
    the drift.

    Raises :class:`ConfigError` for a name that no node may have.
    """
    if place.profile != "bigevy" or edge == HUB:
        raise ConfigError(f"{edge!r} cannot be enrolled at a {place.profile}")
    drift = await _streams(js, place.streams_of(edge), place.keep_days * 86400, apply=apply)
    drift += await _consumers(js, place.takers(edge), apply=True, make=False)
    rows = [row for row in WORK if row.at == "centre"]
    return drift + await _durables(js, edge, rows, apply=apply)


async def provide_takers(js: JetStreamContext, place: Place, node: str) -> None:
    """Makes the durables by which the other end of the link takes messages of ``node``; those that are there
    stay as they are.

    Where an older stream of the same name may have been taken from within :data:`sources.QUIET_S`, this loses
    messages: it is for :class:`sources.Sources`, and for tests with nodes that are new. Raises NotFoundError
    where a stream is missing.
    """
    await _consumers(js, place.takers(node), apply=False)


async def remove_edge(js: JetStreamContext, place: Place, edge: str) -> None:
    """At a centre: removes the streams of one of its nodes with all that waits in them."""
    for config in place.streams_of(edge):
        with contextlib.suppress(NotFoundError):
            await js.delete_stream(config.name or "")


async def edges(client: Client) -> list[str]:
    """Nodes that have streams at this centre, by name."""
    prefix = next(row for row in STREAMS if row.source and row.at == "centre").name.format(node="")
    found: list[str] = []
    while True:
        request = msgspec.json.encode({"offset": len(found)})
        reply = await client.request("$JS.API.STREAM.NAMES", request, timeout=5)
        page = msgspec.json.decode(reply.data)
        found += page.get("streams") or ()
        if len(found) >= page.get("total", 0) or not page.get("streams"):
            return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))


async def _streams(
    js: JetStreamContext, configs: Iterable[StreamConfig], keep_s: float, *, apply: bool
) -> list[str]:
    drift: list[str] = []
    for wanted in configs:
        assert wanted.name is not None  # noqa: S101  # all of them have one
        try:
            found = (await js.stream_info(wanted.name)).config
        except NotFoundError:
            await js.add_stream(wanted)
            continue
        mended = _mended(wanted, found, keep_s)
        differs = list(_differences(wanted, mended, f"stream {wanted.name}"))
        if differs and apply:
            await js.update_stream(wanted)
        elif mended != found:
            await js.update_stream(mended)
        drift += differs
    return drift


def _mended(wanted: StreamConfig, found: StreamConfig, keep_s: float) -> StreamConfig:
    """A stream as it is, with what every start puts right: its sources, subjects that a newer release has
    more (an older one's more are left), and an age above what `evy.toml` allows."""
    subjects = [
        *(found.subjects or ()),
        *(s for s in wanted.subjects or () if s not in (found.subjects or ())),
    ]
    mended = found.evolve(subjects=subjects) if subjects != (found.subjects or []) else found
    if _sources(wanted.sources) != _sources(found.sources):
        mended = mended.evolve(sources=wanted.sources)
    if wanted.max_age and not 0 < (found.max_age or 0) <= keep_s:
        window = min(found.duplicate_window or keep_s, keep_s)
        mended = mended.evolve(max_age=keep_s, duplicate_window=window)
    return mended


async def _durables(js: JetStreamContext, node: str, rows: Iterable[Work], *, apply: bool) -> list[str]:
    wanted = [
        (row.stream(node, lane), consumer_config(row, node, lane))
        for row in rows
        for lane, _ in row.subjects()
    ]
    return await _consumers(js, wanted, apply=apply)


async def _consumers(
    js: JetStreamContext, configs: Iterable[tuple[str, ConsumerConfig]], *, apply: bool, make: bool = True
) -> list[str]:
    drift: list[str] = []
    for stream, wanted in configs:
        name = wanted.durable_name or ""
        try:
            there = (await js.consumer_info(stream, name)).config
        except NotFoundError:
            if make:
                await js.add_consumer(stream, wanted)
            continue
        differs = list(_differences(wanted, there, f"durable {name}"))
        if differs and apply:
            await js.add_consumer(stream, wanted)
        drift += differs
    return drift
