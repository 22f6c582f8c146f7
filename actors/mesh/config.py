"""The table ``[mesh]`` of `evy.toml`: what is of this machine. What all nodes of a mesh share, their keys and
their frequency, is in the file that the node joined with (`evy mesh join`)."""

from typing import Annotated, Literal

import msgspec


class MeshConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[mesh]`` table."""

    device: str = ""
    """Serial line of the radio, such as "/dev/serial0"; empty: there is none, and no mesh."""
    driver: Literal["rylr896"] = "rylr896"
    """rylr896: REYAX RYLR896, an SX1276 behind AT commands."""
    power_dbm: Annotated[int, msgspec.Meta(ge=0, le=22)] = 14
    """Radiated with the module's own antenna. 14 is lawful everywhere in Europe's band."""
    place: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """Where this node is, as its neighbours are told beside the needs of its people; empty: its name."""
    share_needs_s: Annotated[float, msgspec.Meta(ge=300)] = 3600.0
    """How often neighbours are told how many people here lack what."""
    give_texts_s: Annotated[float, msgspec.Meta(ge=0)] = 180.0
    """Airtime of a day for giving others what is new in the centre's texts, and never more than a fiftieth of
    what the law allows; 0: texts are neither told, given nor taken by mesh."""
