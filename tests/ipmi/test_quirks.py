"""The table of quirks: nothing in it contradicts itself, and what it says is what the code does."""

from __future__ import annotations

from importlib import import_module

import pytest

from bootorch.core.reasons import Reason
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi import quirks
from bootorch.ipmi.messages import BootSource, Privilege, Status
from bootorch.ipmi.packet import Payload, encode_clear
from bootorch.ipmi.quirks import ALWAYS, REFUSALS, Do, Refusal

from .network import make_bmc, make_exchange, server, talk

# What is left when no step of a refusal can be done any more.
LAST = {
    Do.NEXT_SUITE: Reason.BMC_NO_SUITE,
    Do.LOWER_PRIVILEGE: Reason.BMC_REFUSED,
    Do.PASSWORD: Reason.BMC_AUTH_FAILED,
    Do.USER: Reason.BMC_AUTH_FAILED,
    Do.WAIT: Reason.BMC_NO_SESSION,
}


def test_a_status_has_one_row_and_every_row_a_source() -> None:
    keys = [(row.where, row.status) for row in REFUSALS]
    assert len(keys) == len(set(keys))
    assert all(row.steps and row.source for row in REFUSALS)
    assert all(rule.symptom and rule.rule and rule.source for rule in ALWAYS)


@pytest.mark.parametrize("rule", ALWAYS, ids=lambda rule: rule.symptom[:30])
def test_who_keeps_a_rule_exists(rule: quirks.Rule) -> None:
    for place in rule.kept_by.split(", "):
        module, _, name = place.partition(".")
        package = {"drivers": "bootorch.drivers", "core": "bootorch.core"}.get(module)
        if package is not None:
            import_module(f"{package}.{name}")
        else:
            found = import_module(f"bootorch.ipmi.{module}")
            for part in name.split(".") if name else ():
                found = getattr(found, part)


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.where}-{row.status.name}")
def test_a_bmc_that_always_refuses_ends_as_the_table_says(row: Refusal) -> None:
    serve = server(make_bmc())

    def refuse(data: bytes, now: float) -> list[bytes]:
        if row.where == "open" and data[5] == Payload.OPEN_REQUEST:
            return [encode_clear(Payload.OPEN_RESPONSE, bytes((data[16], row.status)))]
        if row.where == "rakp" and data[5] == Payload.RAKP1:
            return [encode_clear(Payload.RAKP2, hs.encode_error(data[16], row.status, 0))]
        return serve(data, now)

    result, network = talk(make_exchange(msg.CHASSIS_STATUS), refuse)
    expected = LAST.get(row.steps[-1], Reason.BMC_PROTOCOL)  # RESTART ends at the bound of handshakes
    assert result.reason is expected, result
    opens = [packet for packet in network.sent if packet[5] == Payload.OPEN_REQUEST]
    proposed = {hs.parse_algorithms(packet[24:48]) for packet in opens}
    asked = {packet[17] for packet in opens}
    assert (len(proposed) == 2) is (Do.NEXT_SUITE in row.steps)
    assert asked == ({Privilege.ADMIN, Privilege.OPERATOR} if Do.LOWER_PRIVILEGE in row.steps else {Privilege.ADMIN})
    assert len({packet[20:24] for packet in opens}) == len(opens)  # a fresh console session id each


def test_a_status_without_a_row_makes_no_sense() -> None:
    assert quirks.steps("rakp", 0x77) == ()
    serve = server(make_bmc())

    def nonsense(data: bytes, now: float) -> list[bytes]:
        if data[5] == Payload.RAKP1:
            return [encode_clear(Payload.RAKP2, hs.encode_error(data[16], 0x77, 0))]
        return serve(data, now)

    result, _ = talk(make_exchange(msg.CHASSIS_STATUS), nonsense)
    assert result.reason is Reason.BMC_PROTOCOL
    assert "0x77" in result.detail


@pytest.mark.parametrize(
    ("vendor", "efi", "expected"),
    [
        ("Supermicro SYS-6029", True, BootSource.DISK_SUPERMICRO_UEFI),
        ("supermicro", False, BootSource.DISK),
        ("Dell PowerEdge", True, BootSource.DISK),
        ("", True, BootSource.DISK),
    ],
)
def test_boot_sources_of_vendors(vendor: str, efi: bool, expected: BootSource) -> None:
    assert quirks.boot_source(BootSource.DISK, efi=efi, vendor=vendor) is expected
    assert quirks.boot_source(BootSource.PXE, efi=efi, vendor=vendor) is BootSource.PXE


def test_statuses_of_the_specification_have_rows() -> None:
    about_a_session = {Status.OK, Status.INVALID_PAYLOAD, Status.UNAUTHORIZED_GUID}  # what no BMC says to a console
    assert {row.status for row in REFUSALS} | about_a_session == set(Status)
