"""What may cross the leaf link: the allow-list of an edge's credential and the deny list of its own server.

Everything that is not listed stays local. Both are computed from the registry, so a new stream or subject
cannot be forgotten on one side.
"""

from typing import Final

import msgspec

from subjects import names, registry

HUB: Final = "hub"
"""JetStream domain of the centre."""


class Permissions(msgspec.Struct, frozen=True):
    """Subjects an edge's credential may use at the centre, seen from the edge."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def deliver_up(node: str) -> str:
    """Prefix under which the centre is sent a node's uplink messages."""
    return f"dlv.up.{node}"


def deliver_down(node: str) -> str:
    """Prefix under which a node is sent what the centre has for it."""
    return f"dlv.down.{node}"


def edge_permissions(node: str) -> Permissions:
    """The least that lets two streams source each other, and nothing of any other node.

    Each side may create the consumer of its source, ask for the stream's state, acknowledge and answer flow
    control; messages come under the deliver prefix. ``$JSC.R.*`` are the answers to consumer creation.
    """
    return Permissions(
        publish=(
            *_asks(HUB, f"DOWN_{node}"),
            *_flow(HUB, f"DOWN_{node}"),
            f"{deliver_up(node)}.>",
            "$JSC.R.*",
        ),
        subscribe=(
            *_asks(node, f"UP_{node}"),
            *_flow(node, f"UP_{node}"),
            f"{deliver_down(node)}.>",
            "$JSC.R.*",
        ),
    )


def _asks(domain: str, stream: str) -> tuple[str, ...]:
    api = f"$JS.{domain}.API"
    return (
        f"{api}.CONSUMER.CREATE.{stream}",  # without a suffix when the source has several transforms
        f"{api}.CONSUMER.CREATE.{stream}.>",
        f"{api}.STREAM.INFO.{stream}",
    )


def _flow(domain: str, stream: str) -> tuple[str, ...]:
    return (f"$JS.ACK.{stream}.>", f"$JS.FC.{stream}.>", f"$JS.FC.{domain}.*.{stream}.>")


def local_subjects() -> tuple[str, ...]:
    """Subjects of a node that never cross the link, in either direction."""
    firsts = {row.subject.partition(".")[0] for row in registry.WORK}
    firsts |= {subject.partition(".")[0] for row in registry.STREAMS for subject in row.subjects}
    firsts |= {name.partition(".")[0] for name in (names.MESH_IN, names.INFER_LARGE, names.EVT, names.DLQ)}
    return tuple(sorted(f"{first}.>" for first in firsts | {"svc"}))
