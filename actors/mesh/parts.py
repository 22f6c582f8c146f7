"""What the actor is made of at a node: the radio on its line, and the core's state machine for it."""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from evy_core import MeshError, MeshFullError, MeshNode

from actors._roster.installed import Installed
from actors._runtime import clock
from actors.mesh.config import MeshConfig
from actors.mesh.radio import Radio, RadioFacts, RadioSettings
from actors.mesh.rylr896 import Rylr896

__all__ = ["MeshError", "MeshFullError", "MeshNode", "Parts"]

PREAMBLE_SYMBOLS = RadioSettings().preamble_symbols
"""What all nodes of a mesh begin a frame with; a module that sends fewer is counted as if it did."""
MODULE_NETWORKS = 15
"""Numbers by which modules filter; ours has 255, so it is one of several under each."""


def radio(network: Installed, config: MeshConfig) -> Radio:
    """The radio of ``[mesh] device``, set as ``network`` has it: with the present spreading factor."""
    settings = RadioSettings(
        frequency_hz=network.frequency_hz,
        spreading_factor=network.spreading_factor,
        power_dbm=config.power_dbm,
        network=1 + network.network % MODULE_NETWORKS,
    )
    return Rylr896(config.device, settings)


def core(network: Installed, facts: RadioFacts, state: bytes, lost_s: int, now_us: int) -> MeshNode:
    """The state machine of a node. ``lost_s`` seconds after 2026 began its state was found lost: counters go
    on from there, one a second, and numbers of messages a sixteenth of that, which is ahead of all that were
    ever used. Raises :class:`MeshError` that names what is wrong."""
    settings = RadioSettings()
    return MeshNode(
        address=network.address,
        network=network.network,
        network_key=network.network_key,
        private_key=network.private_key,
        roster=network.roster,
        region=network.region,
        frequency_hz=network.frequency_hz,
        spreading_factor=network.spreading_factor,
        bandwidth_hz=settings.bandwidth_hz,
        coding_rate=settings.coding_rate,
        preamble_symbols=max(PREAMBLE_SYMBOLS, facts.preamble_symbols),
        hidden_octets=facts.hidden_octets,
        longest_frame=facts.longest_frame,
        senses=facts.senses,
        seed=secrets.randbits(63),
        now_us=now_us,
        state=state,
        first_counter=lost_s,
    )


class Parts(NamedTuple):
    """What a test may exchange: the radio, and how fast the core's clock runs."""

    make_radio: Callable[[Installed, MeshConfig], Radio] = radio
    now_us: Callable[[], int] = lambda: int(clock.boot_s() * 1e6)
    """Never goes back; since boot."""
