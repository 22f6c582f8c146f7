"""Run by Python at the start of each process of a soaked node: long waits between deliveries are compressed
as all lengths of a soak are (:meth:`tests.soak.plan.Pace.real_s`)."""

import os

import msgspec

from subjects import registry

real_up_to_s = float(os.environ["EVY_SOAK_REAL_S"])
factor = float(os.environ["EVY_SOAK_FACTOR"])

for row in registry.WORK:
    waits_s = (
        min(wait_s, real_up_to_s) + max(0.0, wait_s - real_up_to_s) / factor for wait_s in row.backoff_s
    )
    msgspec.structs.force_setattr(row, "backoff_s", tuple(waits_s))
