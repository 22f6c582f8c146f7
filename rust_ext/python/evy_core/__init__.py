"""The pure core of EVY, in Rust: SMS codec, triage, routing, compression, redaction.

Functions take and return lists and release the GIL; what they decide depends on their arguments only.
"""

from evy_core._evy_core import (
    Compressor,
    CoreError,
    DataError,
    Decision,
    Deliver,
    Fitted,
    PduError,
    Redacted,
    Redactor,
    Router,
    Segmentation,
    Situation,
    StatusReport,
    Submit,
    Triage,
    Triager,
    Unsupported,
    decode_received,
    decode_submitted,
    encode_pdus,
    join_parts,
    segment,
)

__all__ = [
    "Compressor",
    "CoreError",
    "DataError",
    "Decision",
    "Deliver",
    "Fitted",
    "PduError",
    "Redacted",
    "Redactor",
    "Router",
    "Segmentation",
    "Situation",
    "StatusReport",
    "Submit",
    "Triage",
    "Triager",
    "Unsupported",
    "decode_received",
    "decode_submitted",
    "encode_pdus",
    "join_parts",
    "segment",
]
