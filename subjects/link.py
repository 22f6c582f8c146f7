"""What may cross the leaf link: the allow-list of an edge's credential and the deny list of its own server.

Everything that is not listed stays local. Both are computed from the registry, so a new stream or subject
cannot be forgotten on one side.
"""

from collections.abc import Iterator

import msgspec

from subjects import names, registry
from subjects.registry import STREAMS, Source


class Permissions(msgspec.Struct, frozen=True):
    """Subjects an edge's credential may use at the centre, seen from the edge."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def edge_permissions(node: str) -> Permissions:
    """The least that lets an edge and its centre take over each other's streams, and nothing else.

    Who takes over asks: it resets its durable, looks at the stream, acknowledges, answers flow control. The
    other side delivers under the source's prefix. ``$JSC.R.*`` are answers between servers, ``_INBOX.<node>``
    those to the edge's own clients.
    """
    down, up = list(_sources(at_centre=False)), list(_sources(at_centre=True))
    return Permissions(
        publish=_unique(node, [*map(_asked, down), *map(_delivered, up), ("$JSC.R.*",)]),
        subscribe=_unique(node, [*map(_asked, up), *map(_delivered, down), ("$JSC.R.*", "_INBOX.{node}.>")]),
    )


def _sources(*, at_centre: bool) -> Iterator[Source]:
    for row in STREAMS:
        if row.source and (row.at == "centre") == at_centre:
            yield row.source


def _asked(source: Source) -> tuple[str, ...]:
    api, stream = f"$JS.{source.domain}.API", source.stream
    return (
        f"{api}.CONSUMER.RESET.{stream}.*",
        f"{api}.STREAM.INFO.{stream}",
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
        f"$JS.FC.{source.domain}.*.{stream}.>",
    )


def _delivered(source: Source) -> tuple[str, ...]:
    return (f"{source.deliver}.>",)


def _unique(node: str, lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(subject.format(node=node) for subjects in lists for subject in subjects))


def local_subjects() -> tuple[str, ...]:
    """Subjects of a node that never cross the link, in either direction."""
    here = {subject for row in STREAMS if row.at != "centre" for subject in row.subjects}
    here |= {names.MESH_IN, names.MESH_OUT, *(row.subject for row in registry.WORK)}
    return tuple(sorted({f"{subject.partition('.')[0]}.>" for subject in {*here, "svc"}}))
