"""Reason codes: why an exchange, a stage or a host ended as it did. Remote trouble is a value, never an exception."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable words: they appear in journals, reports and scripts; add, never rename."""

    OK = "ok"

    # The BMC
    BMC_UNREACHABLE = "bmc_unreachable"  # nothing answers at all
    BMC_SILENT_AUTH = "bmc_silent_auth"  # answers in clear, silent once credentials are used (wrong user, often)
    BMC_AUTH_FAILED = "bmc_auth_failed"  # the BMC refused user or password
    BMC_ROGUE = "bmc_rogue"  # the BMC could not prove that it knows the password
    BMC_CERTIFICATE = "bmc_certificate"  # its TLS certificate is not the one that is trusted; no password was sent
    BMC_NO_SESSION = "bmc_no_session"  # all session slots taken
    BMC_NO_SUITE = "bmc_no_suite"  # no permitted cipher suite in common
    BMC_BUSY = "bmc_busy"  # busy, or still booting itself
    BMC_REFUSED = "bmc_refused"  # command understood and refused (state or privilege)
    BMC_UNSUPPORTED = "bmc_unsupported"  # command not implemented
    BMC_PROTOCOL = "bmc_protocol"  # answers that make no sense
    BMC_LOST = "bmc_lost"  # the session stopped answering; the command may or may not have had effect

    # Power and boot
    POWER_NO_EFFECT = "power_no_effect"  # power-on accepted, but the chassis stays off
    NO_BOOT = "no_boot"  # powered, but no proof of a boot before the deadline
    STALE_BOOT = "stale_boot"  # the host answers, but has been up since before the request
    LOST_POWER = "lost_power"  # was on, reads off again

    # Why a host did not boot, as its event log and console tell it
    NO_POST = "no_post"  # powered, but the firmware did not finish its self-test
    POWER_FAULT = "power_fault"  # power supply or power control failed
    CPU_ERROR = "cpu_error"
    MEMORY_ERROR = "memory_error"
    DISK_ERROR = "disk_error"
    NO_BOOT_DEVICE = "no_boot_device"
    NETBOOT_FAILED = "netboot_failed"  # PXE without an answer, an address or a file
    IN_SETUP = "in_setup"  # waits for a person in the firmware's setup or at its prompt
    KERNEL_PANIC = "kernel_panic"
    EMERGENCY_SHELL = "emergency_shell"  # the operating system waits for a person: emergency mode, fsck

    # Reach and checks
    UNREACHABLE = "unreachable"  # connection refused or timed out
    AUTH_FAILED = "auth_failed"  # SSH login refused
    HOST_KEY = "host_key"  # SSH host key unknown or changed
    CHECK_FAILED = "check_failed"  # connected, but the answer is not the expected one
    NOT_READY = "not_ready"  # readiness checks did not hold before the deadline

    # Redeploy
    TASK_FAILED = "task_failed"  # a task of the playbook failed on this host
    DARK = "dark"  # the playbook lost the host
    NEVER_RAN = "never_ran"  # the playbook ended without touching this host
    SLICE_LOST = "slice_lost"  # the playbook process ended without statistics: unknown, to be run again
    REDEPLOY_DEADLINE = "redeploy_deadline"
    VERIFY_FAILED = "verify_failed"

    # Orchestration
    DEPENDENCY = "dependency"  # blocked: a quorum it needs can no longer be reached
    LIMIT = "limit"  # outside --limit
    OPERATOR = "operator"  # a person's word
    BREAKER = "breaker"
    GATE = "gate"
    NEVER_REACHED = "never_reached"  # the run stopped before this host's turn
    OUTSIDE_SITE = "outside_site"  # the fence refused the address; nothing was sent
    NO_SECRET = "no_secret"  # noqa: S105 - the credential could not be read
    INTERRUPTED = "interrupted"  # bootorch ended while this was in flight
    INTERNAL = "internal"  # our own bug, contained
