"""The pure core of EVY, in Rust: SMS codec, triage, routing, compression.

Functions take and return lists and release the GIL; what they decide depends on their arguments only.
"""

from evy_core._evy_core import CoreError, Segmentation, segment

__all__ = ["CoreError", "Segmentation", "segment"]
