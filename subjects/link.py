"""What may cross the leaf link: the allow-list of an edge's credential and the deny list of its own server.

Everything that is not listed stays local. Both are computed from the registry, so a new stream or subject
cannot be forgotten on one side.
"""

from collections.abc import Iterable, Iterator

import msgspec

from subjects import names, registry
from subjects.registry import STREAMS, Stream
from subjects.services import SVC


class Permissions(msgspec.Struct, frozen=True):
    """Subjects an edge's credential may use at the centre, seen from the edge."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def edge_permissions(node: str) -> Permissions:
    """The least that lets an edge and its centre take over each other's streams, and nothing else.

    Who takes over sets back the durable that the other side keeps for it, and answers its flow control; the
    other side delivers. ``$JSC.R`` are answers between servers (feature ``js_api_reply_v2``). The edge may
    also look at what waits for it at the centre, answered on ``_INBOX.<node>``, and read what the centre has
    published for all of its nodes, one message a request; the centre looks at nothing of the edge's.
    """
    down = [row for row in STREAMS if row.source and row.at != "centre"]
    up = [row for row in STREAMS if row.source and row.at == "centre"]
    objects = {f"$JS.{names.HUB}.API.STREAM.MSG.GET.{row.name}" for row in STREAMS if row.at == "hub"}
    looks = {f"$JS.{row.source.domain}.API.STREAM.INFO.{row.source.stream}" for row in down if row.source}
    return Permissions(
        publish=_unique(node, [*_takes(down), *_gives(up), *sorted(looks), *sorted(objects)]),
        subscribe=_unique(node, [*_takes(up), *_gives(down), "_INBOX.{node}.>"]),
    )


def _takes(rows: Iterable[Stream]) -> Iterator[str]:
    for row in rows:
        if row.source:
            yield f"$JS.{row.source.domain}.API.CONSUMER.RESET.{row.source.stream}.{row.name}"
            yield f"$JS.FC.{row.source.stream}.{row.name}.>"


def _gives(rows: Iterable[Stream]) -> Iterator[str]:
    for row in rows:
        if row.source:
            yield f"{row.source.deliver}.{row.name}"
            yield f"$JSC.R.{row.source.domain}.*.{row.source.stream}.{row.name}.*"


def _unique(node: str, subjects: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(subject.format(node=node) for subject in subjects))


def local_subjects() -> tuple[str, ...]:
    """Subjects of a node that never cross the link, in either direction."""
    here = {subject for row in STREAMS if row.at != "centre" for subject in row.subjects}
    here |= {row.subject for row in registry.WORK}
    # $SRV: who serves what, as the micro protocol asks everybody (NATS ADR-32).
    # $JS.EVENT: what a server says of its own streams; the rest of $JS is what the link is made of.
    heads = {subject.partition(".")[0] for subject in {*here, SVC, "$SRV"}} - {"$JS"}
    return tuple(sorted(f"{head}.>" for head in {*heads, "$JS.EVENT"}))
