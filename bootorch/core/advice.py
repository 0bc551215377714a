"""What each reason means in plain words and what a person does next. For reports; the engine never reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bootorch.core.reasons import Reason


class Advice(NamedTuple):
    meaning: str
    next_step: str


_CONSOLE = "Look at its console or send remote hands"

ADVICE: Mapping[Reason, Advice] = {
    Reason.OK: Advice("went well", ""),
    Reason.BMC_UNREACHABLE: Advice(
        "the BMC answers nothing",
        "Check that the rack has electricity and its management switch a link; reseat the BMC's cable or the server.",
    ),
    Reason.BMC_SILENT_AUTH: Advice(
        "the BMC answers in clear, but goes silent once credentials are used",
        "Usually a wrong user name: check bmc_user, then the account on the BMC.",
    ),
    Reason.BMC_AUTH_FAILED: Advice(
        "the BMC refused user or password",
        "Check bmc_user and bmc_password of these hosts. It is tried twice at most, so that no account locks.",
    ),
    Reason.BMC_ROGUE: Advice(
        "the BMC could not prove that it knows the password",
        "Treat as a wrong address or an impostor: find out what answers there before anything else.",
    ),
    Reason.BMC_CERTIFICATE: Advice(
        "its TLS certificate is not the one that is trusted",
        "If it was renewed, compare the new fingerprint at the device and state it (redfish_tls); else find out what "
        "answers there.",
    ),
    Reason.BMC_NO_SESSION: Advice("all sessions of the BMC are taken", "Close other consoles, or restart the BMC."),
    Reason.BMC_NO_SUITE: Advice(
        "the BMC offers no permitted cipher suite", "Enable cipher suite 17 (or 3) on the BMC, or update its firmware."
    ),
    Reason.BMC_BUSY: Advice("the BMC stayed busy", "Wait until it has booted, or restart it, then resume."),
    Reason.BMC_REFUSED: Advice(
        "the BMC understood and refused", "Check the privilege of the account and power restrictions on the BMC."
    ),
    Reason.BMC_UNSUPPORTED: Advice("the BMC does not know the command", "Switch the host on by hand, then resume."),
    Reason.BMC_PROTOCOL: Advice("the BMC's answers make no sense", "Restart the BMC; update its firmware."),
    Reason.BMC_LOST: Advice(
        "the session broke off, so the last command may or may not have worked", "Restart the BMC, then resume."
    ),
    Reason.POWER_NO_EFFECT: Advice(
        "power-on was accepted, but the chassis stays off",
        "Check the power supplies and the power button's lock; restart the BMC; try the button.",
    ),
    Reason.NO_BOOT: Advice(
        "has power, but never proved a boot",
        f"{_CONSOLE}: firmware errors, missing drives, boot order, network link.",
    ),
    Reason.NO_POST: Advice(
        "has power, but its firmware does not finish the self-test",
        "Send remote hands: power cords out for a minute, then memory and cards one by one.",
    ),
    Reason.POWER_FAULT: Advice(
        "its power supply or power control failed",
        "Send remote hands: cords, supplies and feed; exchange the supply that the detail names, then resume.",
    ),
    Reason.CPU_ERROR: Advice(
        "its firmware reports a processor error",
        "Send remote hands: cooling first, then exchange the processor that the detail names, then resume.",
    ),
    Reason.MEMORY_ERROR: Advice(
        "its firmware reports a memory error",
        "Send remote hands: reseat or exchange the module that the detail names, then resume.",
    ),
    Reason.DISK_ERROR: Advice(
        "its firmware reports a disk or controller failure",
        "Send remote hands: reseat or exchange the drive that the detail names; a new one wants a redeploy.",
    ),
    Reason.NO_BOOT_DEVICE: Advice(
        "its firmware found nothing to boot from",
        "Check drives and boot order (`bootorch power bootdev`); a boot loader may be gone: redeploy the host.",
    ),
    Reason.NETBOOT_FAILED: Advice(
        "its network boot got no address or no file",
        "Check DHCP and boot server and that they are up first (requires), the switch port's VLAN, the cable.",
    ),
    Reason.IN_SETUP: Advice(
        "its firmware waits for a person",
        "Answer it over the console (`bootorch power console`); a lost CMOS wants a new battery.",
    ),
    Reason.KERNEL_PANIC: Advice(
        "its kernel stopped in a panic",
        "See the detail: root device, driver or hardware; boot another kernel over the console, or redeploy the host.",
    ),
    Reason.EMERGENCY_SHELL: Advice(
        "its operating system waits for a person in an emergency shell",
        "Mount or check what the detail names over the console (`bootorch power console`), then resume.",
    ),
    Reason.STALE_BOOT: Advice(
        "answers, but has been up since before the request",
        "Check that BMC and host address belong to the same server.",
    ),
    Reason.LOST_POWER: Advice("was on and reads off again", "Check its power supplies and its feed."),
    Reason.UNREACHABLE: Advice("the host does not answer", f"{_CONSOLE}: network link, address, firewall."),
    Reason.AUTH_FAILED: Advice("the SSH login was refused", "Check ssh user and key for these hosts."),
    Reason.HOST_KEY: Advice(
        "the SSH host key is unknown or has changed",
        "If the server was reinstalled, put its new key into known_hosts; otherwise find out what answers there.",
    ),
    Reason.CHECK_FAILED: Advice("answers, but not as the check expects", "See the detail; start the service by hand."),
    Reason.NOT_READY: Advice(
        "booted, but its readiness checks did not hold in time",
        "See the detail; look at the service's log.",
    ),
    Reason.TASK_FAILED: Advice(
        "a task of its playbook failed",
        "Read what the task wrote (`bootorch report --html`, or --json), correct it, then resume.",
    ),
    Reason.DARK: Advice("was lost again and again under its playbook", f"{_CONSOLE}: it reboots or loses its link."),
    Reason.NEVER_RAN: Advice(
        "its playbook never reached it", "Check that the playbook's `hosts:` covers this host, then resume."
    ),
    Reason.SLICE_LOST: Advice(
        "its playbook's process ended without a result",
        "See the detail; run the playbook by hand on one of these hosts, then resume.",
    ),
    Reason.REDEPLOY_DEADLINE: Advice(
        "its playbooks took longer than the deadline", "Raise deadlines.redeploy or find the slow task, then resume."
    ),
    Reason.VERIFY_FAILED: Advice("redeployed, but its checks fail", "See the detail; look at the service's log."),
    Reason.DEPENDENCY: Advice("what it needs can no longer be ready", "Repair the root causes first, then run again."),
    Reason.LIMIT: Advice("outside --limit", ""),
    Reason.OPERATOR: Advice("a person decided so", ""),
    Reason.BREAKER: Advice("a breaker stopped its class", "Find the common cause, then bootorch breaker reset."),
    Reason.GATE: Advice("a gate was not opened", "Approve the gate, then resume."),
    Reason.NEVER_REACHED: Advice("the run stopped before its turn", "Resume the run."),
    Reason.OUTSIDE_SITE: Advice("its address is outside the site; nothing was sent", "Correct address or site."),
    Reason.NO_SECRET: Advice("its credential could not be read", "Check where bmc_password comes from, then resume."),
    Reason.INTERRUPTED: Advice("bootorch ended while this was in flight", "Resume the run."),
    Reason.INTERNAL: Advice("an error of bootorch itself, contained", "Please report it with the run's directory."),
}


def advice(reason: Reason) -> Advice:
    """Meaning and next step of a reason."""
    return ADVICE[reason]
