"""The table of `evy.toml` about unanswered questions, of both ends of their way."""

from typing import Annotated

import msgspec


class CollectConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[collect]`` table: ``send`` and ``per_day`` are a node's, the others the centre's."""

    send: bool = True
    """Whether questions without an answer go to the centre, redacted and as nobody's. False also drops what
    waits to go."""
    per_day: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    """How many leave the node in a day."""
    least: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 5
    """So many questions, from two days or two nodes, before anybody sees how one of them was worded."""
    keep_days: Annotated[int, msgspec.Meta(ge=7, le=3650)] = 180
    """How long the centre keeps a question that nobody has decided on."""
    draft: bool = True
    """Whether the big model drafts answers, from passages, for a person to judge."""
