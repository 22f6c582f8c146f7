"""Creates streams, durables and buckets from `subjects.registry`, and reports where a server differs."""

from collections.abc import Iterable
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from subjects.names import Lane
from subjects.registry import BUCKETS, MAX_MESSAGE_OCTETS, STREAMS, Bucket, Stream, Work

SPARE_DELIVERIES = 3
"""Deliveries the server allows beyond the registry's, so that a message whose worker died during the last
one comes back and is dead-lettered before it is handled again."""


def stream_config(row: Stream, node: str) -> StreamConfig:
    """Server configuration of a stream."""
    per_subject = row.max_per_subject > 0
    return StreamConfig(
        name=row.name.format(node=node),
        subjects=list(row.subjects),
        retention=RetentionPolicy.WORK_QUEUE if row.retention == "workqueue" else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW if row.discard == "new" else DiscardPolicy.OLD,
        discard_new_per_subject=per_subject and row.discard == "new",
        max_msgs_per_subject=row.max_per_subject,
        max_age=row.max_age_s,
        max_bytes=row.max_octets,
        max_msg_size=MAX_MESSAGE_OCTETS,
        duplicate_window=row.dedup_window_s,
        storage=StorageType.FILE,
        persist_mode=PersistMode.ASYNC if row.persist == "async" else None,
    )


def bucket_config(row: Bucket, node: str) -> StreamConfig:
    """Server configuration of a key-value bucket: a stream with the layout of NATS ADR-8."""
    name = row.bucket(node)
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        max_age=row.ttl_s,
        max_bytes=row.max_octets,
        max_msg_size=MAX_MESSAGE_OCTETS,
        discard=DiscardPolicy.NEW,
        duplicate_window=min(120.0, row.ttl_s or 120.0),
        storage=StorageType.FILE,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
    )


def consumer_config(row: Work, node: str, lane: Lane) -> ConsumerConfig:
    """Server configuration of the durable of one lane."""
    subject = f"{row.subject}.{lane}"
    return ConsumerConfig(
        durable_name=row.durable(node, lane),
        filter_subject=subject,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=row.ack_wait_s,
        max_deliver=row.max_deliver + SPARE_DELIVERIES,
        max_ack_pending=max(64, 8 * row.slots.of(lane)),
    )


def _differences(wanted: Any, found: Any, what: str) -> Iterable[str]:
    for name, value in vars(wanted).items():
        if value in (None, "", [], 0, -1, False):
            continue  # left to the server
        there = getattr(found, name, None)
        if there != value:
            yield f"{what}: {name} is {there!r}, the registry says {value!r}"


async def provision(
    js: JetStreamContext, node: str, rows: Iterable[Work], *, apply: bool = False
) -> list[str]:
    """Makes what is missing for ``rows`` and returns the drift, one line each.

    Differences are left as they are (an operator may have had reasons) unless ``apply``.
    """
    drift: list[str] = []
    configs = [stream_config(row, node) for row in STREAMS] + [bucket_config(row, node) for row in BUCKETS]
    for wanted in configs:
        assert wanted.name is not None  # noqa: S101  # both functions above name it
        try:
            found = (await js.stream_info(wanted.name)).config
        except NotFoundError:
            await js.add_stream(wanted)
            continue
        differs = list(_differences(wanted, found, f"stream {wanted.name}"))
        if differs and apply:
            await js.update_stream(wanted)
        drift += differs
    for row in rows:
        for lane, _ in row.subjects():
            stream = row.stream(node, lane)
            consumer = consumer_config(row, node, lane)
            try:
                there = (await js.consumer_info(stream, row.durable(node, lane))).config
            except NotFoundError:
                await js.add_consumer(stream, consumer)
                continue
            differs = list(_differences(consumer, there, f"durable {row.durable(node, lane)}"))
            if differs and apply:
                await js.add_consumer(stream, consumer)
            drift += differs
    return drift
