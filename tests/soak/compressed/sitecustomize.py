"""Run by Python at the start of each process of a soaked node: long waits before something is tried again are
compressed as all lengths of a soak are (:meth:`tests.soak.plan.Pace.real_s`)."""

import os
import sys
from collections.abc import Iterable

import msgspec

from subjects import registry

REAL_UP_TO_S = float(os.environ["EVY_SOAK_REAL_S"])
FACTOR = float(os.environ["EVY_SOAK_FACTOR"])


def compressed(waits_s: Iterable[float]) -> tuple[float, ...]:
    """What these waits take in a soak."""
    return tuple(min(wait, REAL_UP_TO_S) + max(0.0, wait - REAL_UP_TO_S) / FACTOR for wait in waits_s)


for row in registry.WORK:
    msgspec.structs.force_setattr(row, "backoff_s", compressed(row.backoff_s))

if sys.orig_argv[-2:] == ["run", "sms"]:  # no other process has it
    from actors.sms import quota

    quota.BACKOFF_S = compressed(quota.BACKOFF_S)  # type: ignore[misc]  # Final but for a soak
    # An hour of the wall clock has the texts of days: a limit per hour learned from them would hold up all.
    quota.LEARN_FROM = sys.maxsize  # type: ignore[misc]
