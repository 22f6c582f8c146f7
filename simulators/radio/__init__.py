"""REYAX RYLR896 modules, each on a pseudo terminal, on one simulated LoRa channel.

``evy sim radio`` runs them alone. What a frame does in the air is the core's (``evy_core.RadioChannel``);
what a module says and keeps is here, as its AT command guide (REYAX 56322E33) has it. Simulated are path
loss, shadows and obstacles, spreading factors, capture, collisions, half duplex, the law, the serial line's
speed, and a module's faults; not the antenna's direction, Doppler, drifting crystals and what other networks
send.
"""

from simulators.radio.air import Air
from simulators.radio.ground import Ground
from simulators.radio.module import Module

__all__ = ["Air", "Ground", "Module"]
