"""Who made a BMC: manufacturer ids of Get Device ID (20.1) are IANA enterprise numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DELL: Final = 674
HPE: Final = 47196
OPENIPMI_SIMULATOR: Final = 0x1291
SUPERMICRO: Final = 10876
SUPERMICRO_2: Final = 47488  # boards with a wrong byte in the id, as FreeIPMI and ipmitool know them

MANUFACTURERS: Final[Mapping[int, str]] = {
    2: "IBM",
    11: "HP",
    42: "Sun",
    111: "Oracle",
    116: "Hitachi",
    119: "NEC",
    186: "Toshiba",
    343: "Intel",
    DELL: "Dell",
    2011: "Huawei",
    2623: "ASUS",
    4769: "IBM",
    5771: "Cisco",
    6653: "Tyan",
    7244: "Quanta",
    10368: "Fujitsu",
    10418: "Avocent",
    SUPERMICRO: "Supermicro",
    11129: "Google",
    15000: "Kontron",
    15370: "Gigabyte",
    19046: "Lenovo",
    20301: "IBM",
    20974: "AMI",
    25506: "H3C",
    37945: "Inspur",
    40092: "Wiwynn",
    HPE: "HPE",
    SUPERMICRO_2: "Supermicro",
    49769: "YADRO",
}


def manufacturer_name(number: int) -> str:
    """``Dell``; ``manufacturer 4711`` for one that is not in the table; ``unknown`` for 0 and the reserved 0xFFFFF."""
    if number in (0, 0xFFFFF):
        return "unknown"
    return MANUFACTURERS.get(number, f"manufacturer {number}")
