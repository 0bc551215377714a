"""What a server writes to its serial console from power to login, or to where its boot ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bootorch.sim.machine import FIRMWARE_SHARE, BootFailure, Machine, Source, draw

Screen = tuple[float, str]  # seconds since the boot began, what is written then

_PXE_ROUNDS = 5  # a firmware goes round its boot order, a person would see no more by watching longer
_CLEAR = "\x1b[2J\x1b[1;1H"  # ECMA-48: erase the display, cursor home; consoles of real firmware are full of it

# Kernel messages: share of the time between firmware and login, text.
_KERNEL = (
    (0.00, "Linux version 6.1.0-18-amd64 (gcc-12) #1 SMP PREEMPT_DYNAMIC"),
    (0.00, "Command line: BOOT_IMAGE=/boot/vmlinuz-6.1.0-18-amd64 root=/dev/sda2 ro console=ttyS0,115200n8"),
    (0.02, "BIOS-provided physical RAM map:"),
    (0.05, "Memory: 65731304K/67050496K available"),
    (0.10, "smp: Brought up 1 node, 32 CPUs"),
    (0.20, "pci 0000:00:1f.2: [8086:a182] type 00 class 0x010601"),
    (0.30, "igb 0000:02:00.0: added PHC on eth0"),
    (0.35, "sd 0:0:0:0: [sda] Attached SCSI disk"),
)
_USER_SPACE = (
    (0.45, "[    {t:8.6f}] EXT4-fs (sda2): mounted filesystem with ordered data mode."),
    (0.50, "[    {t:8.6f}] systemd[1]: Detected architecture x86-64."),
    (0.60, "[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mLocal File Systems\x1b[0m."),
    (0.75, "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mNetwork Name Resolution\x1b[0m."),
    (0.90, "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mOpenBSD Secure Shell server\x1b[0m."),
)


def screens(machine: Machine) -> Iterator[Screen]:
    """The present boot, in order of time."""
    spec = machine.spec
    failure = spec.boot_failure if not spec.initially_on else None
    firmware_s = spec.boot_s * FIRMWARE_SHARE
    if failure is BootFailure.NO_POST:
        return  # not a character: the console comes up with the chipset
    yield from _self_test(spec.name, firmware_s, failure)
    if failure is BootFailure.MEMORY_ERROR:
        return
    if failure is BootFailure.IN_SETUP or machine.source is Source.SETUP:
        yield 0.80 * firmware_s, _setup(asked=machine.source is Source.SETUP or draw(0, "setup", spec.name) < 0.5)
        return
    yield from _boot_device(machine, firmware_s, failure)
    if failure in (BootFailure.NO_BOOT_DEVICE, BootFailure.NETBOOT_FAILED):
        return
    yield from _system(spec.name, firmware_s, spec.boot_s - firmware_s, failure)


def failed_dimm(name: str) -> int:
    """Which memory module, 1-8, it is that fails in a server with a memory error."""
    return 1 + int(draw(0, "dimm", name) * 8)


def _lines(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _self_test(name: str, firmware_s: float, failure: BootFailure | None) -> Iterator[Screen]:
    yield 0.10 * firmware_s, _CLEAR + _lines("Lab System BIOS 1.0", f"Asset {name}", "Initializing memory ...")
    if failure is BootFailure.MEMORY_ERROR:
        error = f"Memory error: uncorrectable ECC error at DIMM {failed_dimm(name)}"
        yield 0.30 * firmware_s, _lines(error, "ERROR: No usable system memory. System halted.")
        return
    yield 0.35 * firmware_s, _lines("65536 MB memory tested OK")
    yield 0.50 * firmware_s, _lines("PCI resources assigned", "Press F2 for Setup, F12 for Network Boot")
    yield 0.70 * firmware_s, _lines("SATA port 0: lab disk 480 GB")


def _setup(*, asked: bool) -> str:
    if asked:
        menu = "   Main   Advanced   Security   Boot   Save & Exit"
        keys = "F1: General Help   F9: Optimized Defaults   F10: Save & Exit   ESC: Exit"
        return _CLEAR + _lines("BIOS Setup Utility", menu, "\x1b[5;1HSystem Date   [Thu 01/01/2026]", keys)
    return _lines("CMOS checksum error - defaults loaded", "Press F1 to continue, F2 to enter SETUP")


def _boot_device(machine: Machine, firmware_s: float, failure: BootFailure | None) -> Iterator[Screen]:
    at, step = 0.90 * firmware_s, 0.02 * firmware_s
    if failure is BootFailure.NETBOOT_FAILED:
        yield from _failing_netboot(machine.spec.name, at, max(step, 0.2))
    elif failure is BootFailure.NO_BOOT_DEVICE:
        yield at, _lines("Booting from Hard Disk...", "Boot failed: not a bootable disk")
        if draw(0, "no boot", machine.spec.name) < 0.5:
            yield firmware_s, _lines("No bootable device.")
        else:
            lines = (
                "Reboot and Select proper Boot device",
                "or Insert Boot Media in selected Boot device and press a key",
            )
            yield firmware_s, _lines(*lines)
    elif machine.source is Source.NETWORK:
        yield at, _lines(">>Start PXE over IPv4.", "  Station IP address is 127.0.0.1")
        yield at + step, _lines("  NBP filename is grubx64.efi", " NBP file downloaded successfully.")
    elif machine.source is Source.CDROM:
        yield at, _lines("Booting from CD-ROM...")
    else:
        yield at, _lines("Booting from Hard Disk...")
        yield at + step, _lines("GRUB loading.", "Welcome to GRUB!")


def _failing_netboot(name: str, at: float, step: float) -> Iterator[Screen]:
    """A boot ROM without a server, in one of the two ways in which they say it, round after round."""
    efi = draw(0, "efi", name) < 0.5
    for round_ in range(_PXE_ROUNDS):
        begin = at + 5 * step * round_
        if efi:
            yield begin, _lines(">>Start PXE over IPv4.")
            yield begin + 3 * step, _lines("  PXE-E18: Server response timeout.")
        else:
            yield begin, _lines("CLIENT MAC ADDR: 52 54 00 12 34 56", "DHCP......")
            error = "PXE-E51: No DHCP or proxyDHCP offers were received."
            yield begin + 3 * step, _lines(error, "PXE-M0F: Exiting PXE ROM.")


def _system(name: str, begin: float, span: float, failure: BootFailure | None) -> Iterator[Screen]:
    for share, words in _KERNEL:
        yield begin + share * span, _lines(f"[    {share * span:8.6f}] {words}")
    if failure is BootFailure.KERNEL_PANIC:
        t = 0.40 * span
        yield (
            begin + t,
            _lines(
                f'[    {t:8.6f}] VFS: Cannot open root device "sda2" or unknown-block(8,2): error -6',
                f"[    {t:8.6f}] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(8,2)",
                f"[    {t:8.6f}] CPU: 3 PID: 1 Comm: swapper/0 Not tainted 6.1.0-18-amd64 #1",
                f"[    {t:8.6f}] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---",
            ),
        )
        return
    for share, words in _USER_SPACE:
        if failure is BootFailure.EMERGENCY_SHELL and share >= 0.60:
            break
        yield begin + share * span, _lines(words.format(t=share * span))
    if failure is BootFailure.EMERGENCY_SHELL:
        yield (
            begin + 0.70 * span,
            _lines(
                "[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount \x1b[0;1;39m/srv\x1b[0m.",
                "[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for \x1b[0;1;39mLocal File Systems\x1b[0m.",
                'You are in emergency mode. After logging in, type "journalctl -xb" to view system logs.',
            ),
        )
        yield begin + 0.75 * span, "Give root password for maintenance\r\n(or press Control-D to continue): "
        return
    yield begin + span, f"\r\n{name} ttyS0\r\n\r\n{name} login: "
