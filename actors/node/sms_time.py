"""The time from the network's own stamps, for a machine without a clock battery and without the internet.

A text's SMSC time stamp (3GPP TS 23.040 §9.2.3.11) is when the centre took it, so the true time is that or
later: an old text waited. The latest stamp is therefore the best one, if it is not wrong. One stamp
alone is never believed, and a jump far ahead takes more agreement than a small one.
"""

import ctypes
import time
from collections import deque
from typing import Final

AGREE_WITHIN_S: Final = 180.0
"""Texts that did not wait come within so much of each other."""
AGREE: Final = 2
AGREE_FAR: Final = 5
FAR_S: Final = 30 * 86400.0
"""A step ahead by more takes :data:`AGREE_FAR` stamps; a node that was off for longer waits for them."""
REMEMBERED: Final = 16
EARLIEST: Final = 1_767_225_600.0
"""2026-01-01: this program is not older."""
LATEST: Final = EARLIEST + 50 * 366 * 86400.0
"""The stamp has two digits for the year; what reads as later was read wrongly."""

_TIME_ERROR: Final = 5


class SmsTime:
    """An estimate of Unix time minus boot time; it never goes back."""

    def __init__(self, system_ahead_of_boot_s: float) -> None:
        """``system_ahead_of_boot_s``: the system's clock now minus the boot clock. A Pi restores the time of
        its last shutdown, so the true time is that or later."""
        self._floor = max(system_ahead_of_boot_s, 0.0)
        self._offset: float | None = None
        self._seen: deque[tuple[str, float]] = deque(maxlen=REMEMBERED)

    @property
    def offset_s(self) -> float | None:
        """What to add to the boot clock; None until stamps agree."""
        return self._offset

    def observe(self, text_id: str, smsc_at: float, boot_s: float) -> bool:
        """One stamp of a text that arrived at ``boot_s``; True when the estimate moved. A text that comes
        again does not agree with itself."""
        if not EARLIEST <= smsc_at <= LATEST or any(text_id == seen for seen, _ in self._seen):
            return False
        self._seen.append((text_id, smsc_at - boot_s))
        believed = max(self._floor, EARLIEST - boot_s) if self._offset is None else self._offset
        offsets = sorted((offset for _, offset in self._seen), reverse=True)
        for offset in offsets:
            if self._offset is not None and offset <= self._offset:
                return False
            agree = sum(offset - AGREE_WITHIN_S <= other <= offset for other in offsets)
            far = offset - believed > FAR_S
            if agree >= (AGREE_FAR if far else AGREE):
                self._offset = offset
                return True
        return False


def set_by_network() -> bool:
    """Whether a time server keeps the system's clock, as the kernel knows (adjtimex(2), TIME_ERROR)."""
    buffer = ctypes.create_string_buffer(512)  # struct timex; all zero asks and changes nothing
    try:
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (AttributeError, OSError):
        return False
    return 0 <= state < _TIME_ERROR


def step_system_clock(unix_s: float) -> str:
    """Sets the system's clock; gives what was done, or why it could not be."""
    try:
        time.clock_settime(time.CLOCK_REALTIME, unix_s)
    except OSError as error:
        return f"the system's clock cannot be set ({error.strerror}): CAP_SYS_TIME, ProtectClock=no"
    return "the system's clock was set from the texts' stamps"
