"""Subject names and lanes.

The last token of a work subject is its lane: ``sms.in.flash``. A bare ``sms.in`` is mapped to
``sms.in.routine`` by the server, so the short names work from the ``nats`` command line.
"""

from typing import Final, Literal, get_args

Lane = Literal["flash", "priority", "routine"]
Priority = Literal["emergency", "urgent", "normal"]

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
"""Most urgent first: life at risk; needs within hours or days; everything else."""

LANE_OF: Final[dict[Priority, Lane]] = {"emergency": "flash", "urgent": "priority", "normal": "routine"}
"""Lane of a triage priority."""

PRIORITY_OF: Final[dict[Lane, Priority]] = {lane: priority for priority, lane in LANE_OF.items()}
"""Triage priority of a lane."""

SMS_IN: Final = "sms.in"
ROUTE: Final = "route"
RAG: Final = "rag"
INFER_SMALL: Final = "infer.small"
INFER_LARGE: Final = "infer.large"
COMPRESS: Final = "compress"
SMS_OUT: Final = "sms.out"
MESH_OUT: Final = "mesh.out"
MESH_IN: Final = "mesh.in"
ALERT: Final = "alert"
ALERT_REPLY: Final = "alert.reply"
BULLETIN: Final = "bulletin"
FORGET: Final = "forget"
REPORT: Final = "report"
SYNCED: Final = "synced"
UNANSWERED: Final = "unanswered"

HUB: Final = "hub"
"""JetStream domain of the centre, and its node name."""

EVT: Final = "evt"
DLQ: Final = "dlq"


def work_subject(base: str, lane: Lane) -> str:
    """Full subject of work: ``work_subject("sms.in", "flash")`` is ``sms.in.flash``."""
    return f"{base}.{lane}"


def down(node: str, base: str) -> str:
    """Base of work that the centre sends to a node: ``down("n1", "compress")`` is ``down.n1.compress``."""
    return f"down.{node}.{base}"


def event_subject(kind: str) -> str:
    """Subject of an event kind: ``evt.received``."""
    return f"{EVT}.{kind}"


def dead_letter_subject(subject: str) -> str:
    """Where a message that cannot be handled is kept: ``dlq.sms.in.flash``."""
    return f"{DLQ}.{subject}"
