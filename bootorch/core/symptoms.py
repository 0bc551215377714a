"""What boots say when they fail: the rules of ``core.diagnosis`` as data, each with its source.

Events of the log by ``tt.oo`` or ``tt.oo.d2`` (sensor type, offset, event data 2; IPMI 2.0, table 42-3), the best
witness first. Lines of the console by pattern, with the program that prints them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from bootorch.core.reasons import Reason


class Weight(Enum):
    HARDWARE = "hardware"  # decides by itself
    EARLY = "early"  # a server may survive it: decides where nothing shows that the self-test ended after it
    BOOT = "boot"  # how the boot went, where the console says nothing
    OFF = "off"  # decides where the chassis is off: a server with two supplies runs on one


class SelRule(NamedTuple):
    code: str  # beginning of ``tt.oo.d2``
    weight: Weight
    reason: Reason
    meaning: str  # for a person, where the event has no text
    source: str


class ConsoleRule(NamedTuple):
    pattern: re.Pattern[str]  # searched in a line without its kernel time stamp
    reason: Reason
    source: str


_H, _E, _B, _O = Weight.HARDWARE, Weight.EARLY, Weight.BOOT, Weight.OFF
_MEMORY, _CPU, _DISK, _POWER = Reason.MEMORY_ERROR, Reason.CPU_ERROR, Reason.DISK_ERROR, Reason.POWER_FAULT
_NO_POST, _NO_DEVICE, _NET = Reason.NO_POST, Reason.NO_BOOT_DEVICE, Reason.NETBOOT_FAILED
_T = "IPMI 2.0 table 42-3"

SEL: tuple[SelRule, ...] = (
    # An ECC event names its module, the firmware's own words follow from it. Correctable ones (0c.00, 0c.05) are none.
    SelRule("0c.01", _H, _MEMORY, "uncorrectable memory error", _T),
    SelRule("0c.02", _H, _MEMORY, "memory parity error", _T),
    SelRule("0f.00.01", _H, _MEMORY, "no system memory installed", _T),
    SelRule("0f.00.02", _H, _MEMORY, "no usable system memory", _T),
    SelRule("07.00", _H, _CPU, "processor internal error (IERR)", _T),
    SelRule("07.01", _H, _CPU, "processor thermal trip", _T),
    SelRule("07.02", _H, _CPU, "processor failed its self-test (FRB1)", _T),
    SelRule("07.04", _H, _CPU, "processor did not start (FRB3)", _T),
    SelRule("07.05", _H, _CPU, "processor configuration error", _T),
    SelRule("07.06", _H, _CPU, "uncorrectable error of the CPU complex", _T),
    SelRule("07.0b", _H, _CPU, "uncorrectable machine check", _T),
    SelRule("0f.00.0c", _H, _CPU, "processor voltages do not match", _T),
    SelRule("0f.00.0d", _H, _CPU, "processor speeds do not match", _T),
    SelRule("09.05", _H, _POWER, "power unit did not turn on (soft power control failure)", _T),
    SelRule("09.06", _H, _POWER, "power unit failure", _T),
    SelRule("09.02", _H, _POWER, "240 VA power down", _T),
    SelRule("09.03", _H, _POWER, "interlock power down", _T),
    SelRule("19.00", _H, _POWER, "soft power control failure", _T),
    SelRule("0f.00.03", _H, _DISK, "unrecoverable disk failure", _T),
    SelRule("0f.00.06", _H, _DISK, "unrecoverable disk controller failure", _T),
    SelRule("0d.06", _H, _DISK, "drive in a failed array", _T),
    # A board may degrade and go on, and what hung once may boot after a watchdog's reset.
    SelRule("0c.0a", _E, _MEMORY, "memory too hot", _T),
    SelRule("0c.07", _E, _MEMORY, "memory configuration error", _T),
    SelRule("0c.04", _E, _MEMORY, "memory device disabled", _T),
    SelRule("0c.03", _E, _MEMORY, "memory scrub failed", _T),
    SelRule("07.08", _E, _CPU, "processor disabled", _T),
    SelRule("0f.00.04", _E, _NO_POST, "unrecoverable system-board failure", _T),
    SelRule("0f.00.0b", _E, _NO_POST, "firmware ROM corrupt", _T),
    SelRule("07.03", _E, _NO_POST, "hang in POST (FRB2)", _T),
    SelRule("0f.01", _E, _NO_POST, "firmware hang", _T),
    SelRule("0f.00.00", _E, _NO_POST, "firmware error", _T),
    SelRule("0f.00.05", _E, _NO_POST, "diskette failure", _T),
    SelRule("0f.00.07", _E, _NO_POST, "keyboard failure", _T),
    SelRule("0f.00.09", _E, _NO_POST, "video controller failure", _T),
    SelRule("0f.00.0a", _E, _NO_POST, "no video device", _T),
    SelRule("0f.00.ff", _E, _NO_POST, "firmware error", "event data 2 unspecified, 29.7"),
    SelRule("08.01", _O, _POWER, "power supply failure", _T),
    SelRule("08.03", _O, _POWER, "power supply input lost", _T),
    SelRule("08.04", _O, _POWER, "power supply input lost or out of range", _T),
    SelRule("08.06", _O, _POWER, "power supply configuration error", _T),
    SelRule("09.04", _O, _POWER, "AC lost", _T),
    SelRule("20.00", _B, Reason.KERNEL_PANIC, "critical stop while the operating system was loaded", _T),
    SelRule("20.01", _B, Reason.KERNEL_PANIC, "run-time critical stop of the operating system", _T),
    SelRule("0d.01", _B, _DISK, "drive fault", _T),
    SelRule("1e.00", _B, _NO_DEVICE, "no bootable media", _T),
    SelRule("1e.01", _B, _NO_DEVICE, "non-bootable diskette left in drive", _T),
    SelRule("1e.02", _B, _NET, "PXE server not found", _T),
    SelRule("1e.03", _B, _NO_DEVICE, "invalid boot sector", _T),
    SelRule("1e.04", _B, _NO_DEVICE, "nobody chose what to boot from", _T),
    SelRule("0f.00.08", _B, _NO_DEVICE, "removable boot media not found", _T),
)

# Event data 2 of firmware progress (0f.02) and hang (0f.01); IPMI 2.0 table 42-3.
PROGRESS = {
    "01": "memory initialisation",
    "02": "hard-disk initialisation",
    "03": "secondary processor initialisation",
    "04": "user authentication",
    "05": "user-initiated system setup",
    "06": "USB resource configuration",
    "07": "PCI resource configuration",
    "08": "option ROM initialisation",
    "09": "video initialisation",
    "0a": "cache initialisation",
    "0b": "SM bus initialisation",
    "0c": "keyboard controller initialisation",
    "0d": "management controller initialisation",
    "12": "calling operating system wake-up vector",
    "13": "starting operating system boot process",
    "14": "baseboard initialisation",
    "17": "keyboard test",
    "18": "pointing device test",
    "19": "primary processor initialisation",
}


def _rule(pattern: str, reason: Reason, source: str) -> ConsoleRule:
    return ConsoleRule(re.compile(pattern, re.IGNORECASE), reason, source)


KERNEL_STAMP = re.compile(r"^\[ *\d+\.\d+\] ?")  # printk times

CONSOLE: tuple[ConsoleRule, ...] = (
    _rule(r"^(?:\S+ )?login:(?: |$)", Reason.NO_BOOT, "getty, login(1)"),
    _rule(r"^SAC>", Reason.NO_BOOT, "Windows Emergency Management Services"),
    # The kernel closes its last message with an "end" line, which tells less than the first.
    _rule(r"(?<!end )Kernel panic - not syncing", Reason.KERNEL_PANIC, "Linux kernel/panic.c"),
    _rule(r"^panic(?:: |\[cpu)", Reason.KERNEL_PANIC, "FreeBSD kern_shutdown.c, illumos panic.c"),
    _rule(r"system has found a problem on your machine and cannot continue", Reason.KERNEL_PANIC, "VMware ESXi"),
    _rule(r"(?:Give root password|Press Enter) for \w*\s*(?:maintenance|login)", Reason.EMERGENCY_SHELL, "sulogin(8)"),
    _rule(r"root account is locked", Reason.EMERGENCY_SHELL, "sulogin(8)"),
    _rule(r"You are in (?:emergency|rescue) mode", Reason.EMERGENCY_SHELL, "systemd emergency.service"),
    _rule(r"Entering emergency mode|^dracut:/?\S*#", Reason.EMERGENCY_SHELL, "dracut emergency shell"),
    _rule(r"^\(initramfs\)|Dropping to a shell", Reason.EMERGENCY_SHELL, "initramfs-tools"),
    _rule(r"RUN fsck MANUALLY", Reason.EMERGENCY_SHELL, "e2fsck(8)"),
    _rule(r"enter passphrase for", Reason.EMERGENCY_SHELL, "cryptsetup, systemd-cryptsetup"),
    _rule(r"\b(?:press|strike|hit)\b.{0,8}\bF1\b.{0,12}\bto (?:continue|resume|run setup)", Reason.IN_SETUP,
          "AMI, Award, Dell and Phoenix firmware"),
    _rule(r"^(?!.*\b(?:press|strike|hit)\b).*\b(?:aptio|bios|phoenixbios|insydeh2o) setup utility", Reason.IN_SETUP,
          "title of the setup of AMI, Phoenix and Insyde firmware"),
    _rule(r"System Setup Main Menu", Reason.IN_SETUP, "title of Dell's setup"),
    _rule(r"^Enter (?:current |setup |system |power-?on )password", Reason.IN_SETUP, "AMI, Dell and Phoenix firmware"),
    _rule(r"no usable (?:system )?memory|multi-?bit memory error|uncorrectable (?:ecc|memory)", Reason.MEMORY_ERROR,
          "firmware of several makers; Dell MEM0001"),
    _rule(r"PXE-[ET][0-9A-F]{2}", Reason.NETBOOT_FAILED, "Intel PXE 2.1 and EDK2 boot ROMs"),
    _rule(r"ipxe\.org/[0-9a-f]{8}|No more network devices|No configuration methods succeeded", Reason.NETBOOT_FAILED,
          "iPXE"),
    _rule(r"Unable to locate configuration file|press a key to retry, or wait for reset", Reason.NETBOOT_FAILED,
          "PXELINUX"),
    _rule(r"no boot(?:able)? (?:device|media|medium|disk|option)", Reason.NO_BOOT_DEVICE,
          "SeaBIOS, EDK2, Dell, HPE and Phoenix firmware"),
    _rule(r"not a bootable disk|failed to (?:load|start) Boot[0-9A-F]{4}", Reason.NO_BOOT_DEVICE, "SeaBIOS; EDK2"),
    _rule(r"Select proper Boot device|Insert Boot Media", Reason.NO_BOOT_DEVICE, "AMI firmware"),
    _rule(r"Non-System disk|DISK BOOT FAILURE|INSERT SYSTEM DISK", Reason.NO_BOOT_DEVICE, "DOS boot sector; Award"),
    _rule(r"Operating system not found|Missing operating system|Error loading operating system",
          Reason.NO_BOOT_DEVICE, "Phoenix firmware; master boot records"),
    _rule(r"(?:BOOTMGR|NTLDR) is missing", Reason.NO_BOOT_DEVICE, "Windows boot sector"),
    _rule(r"^grub(?: rescue)?>|Entering rescue mode", Reason.NO_BOOT_DEVICE, "GRUB"),
    _rule(r"^Shell>|UEFI Interactive Shell", Reason.NO_BOOT_DEVICE, "EDK2 shell: nothing else could be booted"),
)  # fmt: skip


# Lines that say why, before the one that says what.
CONSOLE_EXPLAINS: tuple[tuple[re.Pattern[str], Reason], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"Failed to mount |Timed out waiting for device|Failed to start File System Check", Reason.EMERGENCY_SHELL),
        (r"Gave up waiting for|does not exist|initqueue timeout|initqueue hook", Reason.EMERGENCY_SHELL),
        (r"I/O error,? dev|UNEXPECTED INCONSISTENCY", Reason.EMERGENCY_SHELL),
        (r"CMOS (?:checksum|date|battery|settings)|Keyboard (?:not found|error)|battery (?:low|fail)", Reason.IN_SETUP),
        (r"^error: ", Reason.NO_BOOT_DEVICE),  # GRUB: no such partition, unknown filesystem, file not found
        (r"PXE-[ET][0-9A-F]{2}", Reason.NO_BOOT_DEVICE),  # the net was tried before
        (r"\bDIMM", Reason.MEMORY_ERROR),
    )
)

# A boot loader, a boot ROM or a kernel speaks: the firmware is past its self-test.
PAST_SELF_TEST = re.compile(
    r"^Linux version|^Command line:|^systemd\[1\]|^\[ *(?:OK|FAILED) *\]|Loading (?:initial ramdisk|Linux)|"
    r"GRUB|ISOLINUX|SYSLINUX|iPXE|Start PXE|^CLIENT MAC ADDR|^DHCP\.\.|^Booting |^BdsDxe: (?:loading|starting)"
)
