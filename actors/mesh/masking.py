"""Any octets through a text protocol: XOR with an octet that is chosen so that no unsafe octet remains.

An RYLR896 takes its command as text: CR and LF end it, and a NUL ends a C string. A block of up to 84 octets
rules out at most 3 × 84 masks, and the 3 that are unsafe themselves, so one of 256 is always left: one octet
for each 84, whatever they are, and never more. Escaping costs random octets 1.2 % on average too, but a frame
of zeros 100 %.
"""

from typing import Final

UNSAFE: Final = b"\0\r\n"
BLOCK_OCTETS: Final = 255 // len(UNSAFE) - 1


def masked_octets(octets: int) -> int:
    """How long so many octets become."""
    return octets + -(-octets // BLOCK_OCTETS)


def mask(plain: bytes) -> bytes:
    """The same octets without :data:`UNSAFE` ones; each block is preceded by its mask."""
    made = bytearray()
    for begin in range(0, len(plain), BLOCK_OCTETS):
        block = plain[begin : begin + BLOCK_OCTETS]
        ruled_out = {octet ^ unsafe for octet in {0, *block} for unsafe in UNSAFE}
        key = next(key for key in range(256) if key not in ruled_out)
        made.append(key)
        made += bytes(octet ^ key for octet in block)
    return bytes(made)


def unmask(masked: bytes) -> bytes:
    """What :func:`mask` was given; anything else gives other octets, of which authentication takes care."""
    plain = bytearray()
    for begin in range(0, len(masked), BLOCK_OCTETS + 1):
        key, block = masked[begin], masked[begin + 1 : begin + 1 + BLOCK_OCTETS]
        plain += bytes(octet ^ key for octet in block)
    return bytes(plain)
