"""Members of enumerations as names of their own, for where every event passes.

An attribute of an enumeration costs ten times as much as a global name in Python 3.11, and an event is compared with a
dozen of them: a fifth of the time of a forecast. K: Kind, O: Outcome, R: Reason, S: Stage.
"""

from __future__ import annotations

from bootorch.core.events import Kind
from bootorch.core.model import Outcome, Stage
from bootorch.core.reasons import Reason

K_BOOT_DEVICE = Kind.BOOT_DEVICE
K_BOOT_PROBE = Kind.BOOT_PROBE
K_EVIDENCE = Kind.EVIDENCE
K_FEED_METER = Kind.FEED_METER
K_GATE_CHECK = Kind.GATE_CHECK
K_METER = Kind.METER
K_POWER_CYCLE = Kind.POWER_CYCLE
K_POWER_ON = Kind.POWER_ON
K_POWER_READ = Kind.POWER_READ
K_READY_CHECK = Kind.READY_CHECK
K_REDEPLOY = Kind.REDEPLOY
K_VERIFY_CHECK = Kind.VERIFY_CHECK
O_ADOPTED = Outcome.ADOPTED
O_BLOCKED = Outcome.BLOCKED
O_QUARANTINED = Outcome.QUARANTINED
O_READY = Outcome.READY
O_SKIPPED = Outcome.SKIPPED
O_UNKNOWN = Outcome.UNKNOWN
R_BMC_LOST = Reason.BMC_LOST
R_BMC_UNREACHABLE = Reason.BMC_UNREACHABLE
R_BMC_UNSUPPORTED = Reason.BMC_UNSUPPORTED
R_DARK = Reason.DARK
R_DEPENDENCY = Reason.DEPENDENCY
R_INTERRUPTED = Reason.INTERRUPTED
R_LIMIT = Reason.LIMIT
R_NETBOOT_FAILED = Reason.NETBOOT_FAILED
R_NEVER_REACHED = Reason.NEVER_REACHED
R_NOT_READY = Reason.NOT_READY
R_NO_BOOT = Reason.NO_BOOT
R_NO_SECRET = Reason.NO_SECRET
R_OK = Reason.OK
R_OPERATOR = Reason.OPERATOR
R_OUTSIDE_SITE = Reason.OUTSIDE_SITE
R_POWER_NO_EFFECT = Reason.POWER_NO_EFFECT
R_REDEPLOY_DEADLINE = Reason.REDEPLOY_DEADLINE
R_SLICE_LOST = Reason.SLICE_LOST
R_STALE_BOOT = Reason.STALE_BOOT
R_TASK_FAILED = Reason.TASK_FAILED
R_UNREACHABLE = Reason.UNREACHABLE
R_VERIFY_FAILED = Reason.VERIFY_FAILED
S_BMC = Stage.BMC
S_BOOT = Stage.BOOT
S_POWER = Stage.POWER
S_READY = Stage.READY
S_REDEPLOY = Stage.REDEPLOY
S_VERIFY = Stage.VERIFY
S_WAIT = Stage.WAIT
