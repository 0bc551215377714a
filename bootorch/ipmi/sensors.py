"""Sensors: their records in the SDR repository, and what they read (IPMI 2.0, sections 33, 35, 36 and 43).

Two scripts, ``sensors`` and ``power_reading``, and the pure parts below them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.client import Answer, Verdict
from bootorch.ipmi.messages import Command, Completion, NetFn
from bootorch.ipmi.wire import BMC_ADDRESS

RECORDS_MAX: Final = 2048  # records looked at in one walk; large servers have some 300
RENEWALS: Final = 8  # reservations lost in one walk: somebody else reads the repository too
CHUNK: Final = 16  # bytes of a partial read: what every BMC can put into an answer, as ipmitool and FreeIPMI do

_LAST: Final = 0xFFFF
_HEAD: Final = 5  # bytes of a record before its body: id, version, type, length
_FULL, _COMPACT = 0x01, 0x02
_WATT: Final = 6
_POWER_SUPPLY: Final = 0x0A  # entity id (43.14)

UNITS: Final = {  # table 43-15, the ones that servers use
    1: "°C",
    2: "°F",
    3: "K",
    4: "V",
    5: "A",
    6: "W",
    7: "J",
    9: "VA",
    17: "CFM",
    18: "RPM",
    19: "Hz",
    20: "µs",
    21: "ms",
    22: "s",
    38: "bit",
    70: "errors",
}

_LINEARIZATIONS: Final[tuple[Callable[[float], float], ...]] = (  # table 43-1, byte 24
    lambda x: x,
    math.log,
    math.log10,
    math.log2,
    math.exp,
    lambda x: math.pow(10.0, x),
    math.exp2,
    lambda x: 1.0 / x,
    lambda x: x * x,
    lambda x: x * x * x,
    math.sqrt,
    math.cbrt,
)


class SensorRecord(NamedTuple):
    """A full or compact sensor record (43.1, 43.2); the numbers of the formula are 0 in a compact one."""

    name: str
    owner: int  # 0x20: the BMC itself
    lun: int
    number: int
    entity: int
    instance: int
    sensor_type: int
    unit: str
    watts: bool
    form: int  # 0 unsigned, 1 one's complement, 2 two's complement, 3: not a number
    linearization: int
    m: int
    b: int
    b_exponent: int
    r_exponent: int

    def value(self, raw: int) -> float | None:
        """y = L((M x + B 10^K1) 10^K2) (36.3); None where that is no number."""
        if self.form == 3 or self.linearization >= len(_LINEARIZATIONS):
            return None
        x = raw
        if raw & 0x80 and self.form:
            x = raw - 0x100 + (self.form == 1)
        linear = (self.m * x + self.b * 10.0**self.b_exponent) * 10.0**self.r_exponent
        try:
            result = _LINEARIZATIONS[self.linearization](linear)
        except (ArithmeticError, ValueError):  # the logarithm of nothing: a record that makes no sense
            return None
        return round(result, 6)


def parse_sensor(record: bytes) -> SensorRecord | None:
    """A whole SDR; None for records of other kinds, and for what is too short."""
    if len(record) < 32 or record[3] not in (_FULL, _COMPACT):
        return None
    full = record[3] == _FULL
    if full and len(record) < 48:
        return None
    name_at = 47 if full else 31
    unit = "%" if record[20] & 1 else UNITS.get(record[21], "")
    form = record[20] >> 6
    m = b = b_exponent = r_exponent = linearization = 0
    if full:
        linearization = record[23] & 0x7F
        m = _signed(record[24] | (record[25] & 0xC0) << 2, 10)
        b = _signed(record[26] | (record[27] & 0xC0) << 2, 10)
        r_exponent, b_exponent = _signed(record[29] >> 4, 4), _signed(record[29] & 0x0F, 4)
    return SensorRecord(
        name=_name(record[name_at], record[name_at + 1 :]),
        owner=record[5],
        lun=record[6] & 3,
        number=record[7],
        entity=record[8],
        instance=record[9] & 0x7F,
        sensor_type=record[12],
        unit=unit,
        watts=record[21] == _WATT and not record[20] & 1,
        form=form if full and record[13] == 0x01 else 3,
        linearization=linearization,
        m=m,
        b=b,
        b_exponent=b_exponent,
        r_exponent=r_exponent,
    )


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> bits - 1 else number


def _name(kind: int, data: bytes) -> str:
    """43.15: type and length, then the name. Names that are not 8-bit ASCII are shown by their bytes."""
    text = data[: kind & 0x1F]
    if kind >> 6 != 3:
        return text.hex()
    # A control character must not reach somebody's terminal.
    return "".join(c for c in text.decode("latin-1") if c.isprintable()).strip()


class Sensor(NamedTuple):
    """A sensor that reads a number. ``value`` is None where it is not available; ``why`` says so then."""

    name: str
    value: float | None
    unit: str
    why: str = ""


class Sensors(NamedTuple):
    """``complete``: all were read, not only ``limit`` of them."""

    sensors: tuple[Sensor, ...]
    complete: bool


class Power(NamedTuple):
    """What the server draws now. ``source``: ``dcmi``, or the names of the sensors that were added up.

    ``average_w`` is DCMI's over ``period_s``; None without DCMI.
    """

    watts: float
    source: str
    average_w: int | None = None
    period_s: float | None = None


def sensors(limit: int = 256) -> Generator[Command, Answer, Sensors | Verdict]:
    """Readings of the first ``limit`` numeric sensors, in the order of the SDR repository."""
    found: list[Sensor] = []
    walk = yield from _walk(lambda record: record.form != 3, limit + 1)
    if isinstance(walk, Verdict):
        return walk
    for record in walk[:limit]:
        sensor = yield from _read(record)
        found.append(sensor)
    return Sensors(tuple(found), len(walk) <= limit)


def power_reading() -> Generator[Command, Answer, Power | Verdict]:
    """DCMI's power reading, or else the sensors whose unit is watt."""
    answer = yield msg.DCMI_POWER.tolerant()
    power = parse_dcmi_power(answer.data) if answer.completion == Completion.OK else None
    if power is not None:
        return power
    walk = yield from _walk(lambda record: record.watts, 32)
    if isinstance(walk, Verdict):
        if walk.reason is Reason.BMC_UNSUPPORTED:
            return walk._replace(detail=f"no DCMI power reading and no sensors: {walk.detail}")
        return walk
    readings: list[tuple[SensorRecord, float]] = []
    for record in walk:
        sensor = yield from _read(record)
        if sensor.value is not None:
            readings.append((record, sensor.value))
    if not readings:
        which = ", ".join(record.name for record in walk[:4]) or "none"
        return Verdict(Reason.BMC_UNSUPPORTED, f"no DCMI power reading; power sensors that read something: {which}")
    return total_power(readings)


def total_power(readings: Iterable[tuple[SensorRecord, float]]) -> Power:
    """One sensor of the whole system (the highest), or the sum of the power supplies. At least one reading.

    A supply may have sensors for its input and its output: the higher one is what it draws.
    """
    whole: tuple[float, str] | None = None
    supplies: dict[tuple[int, int], tuple[float, str]] = {}
    for record, watts in readings:
        if record.entity != _POWER_SUPPLY:
            whole = max(whole or (watts, record.name), (watts, record.name))
        else:
            key = record.entity, record.instance
            supplies[key] = max(supplies.get(key, (watts, record.name)), (watts, record.name))
    if whole is not None:
        return Power(*whole)
    return Power(round(sum(w for w, _ in supplies.values()), 3), ", ".join(name for _, name in supplies.values()))


def parse_dcmi_power(data: bytes) -> Power | None:
    """DCMI 1.5, 6.6.1. None when power measurement is not active, or the answer is too short."""
    if len(data) < 18 or data[0] != 0xDC or not data[17] & 0x40:
        return None
    now, _, _, average = (int.from_bytes(data[n : n + 2], "little") for n in (1, 3, 5, 7))
    return Power(float(now), "dcmi", average, int.from_bytes(data[13:17], "little") / 1000)


# A sensor's reading


def _read(record: SensorRecord) -> Generator[Command, Answer, Sensor]:
    if record.owner != BMC_ADDRESS or record.lun:
        return Sensor(record.name, None, record.unit, f"belongs to another controller, {record.owner:#04x}")
    data = bytes((record.number,))
    answer = yield Command("sensor reading", NetFn.SENSOR, 0x2D, data, tolerate=True)  # 35.14
    if answer.completion != Completion.OK:
        # C9 CB CD CE D3 D5 FF all mean "not available" somewhere.
        return Sensor(record.name, None, record.unit, msg.completion_name(answer.completion))
    value = reading(record, answer.data)
    return Sensor(record.name, value, record.unit, "" if value is not None else "no reading")


def reading(record: SensorRecord, data: bytes) -> float | None:
    """The value in an answer of Get Sensor Reading (35.14); None when scanning is off or the reading is not there."""
    if len(data) < 2 or data[1] & 0x20 or not data[1] & 0x40:
        return None
    return record.value(data[0])


# The walk through the records


class _Repository(NamedTuple):
    """Where records are: the SDR repository (33.9-12), or the device SDRs of a BMC that has no such thing (35.2-4)."""

    netfn: NetFn
    reserve: int
    get: int


_REPOSITORIES: Final = (_Repository(NetFn.STORAGE, 0x22, 0x23), _Repository(NetFn.SENSOR, 0x22, 0x21))

# A read of this much is too much for the BMC's buffer: 33.12 says 0xCA, others 0xC8, 0xC7 or 0xFF.
_TOO_LONG: Final = frozenset((0xCA, 0xC8, 0xC7, Completion.UNSPECIFIED))
_RESERVATION_LOST: Final = 0xC5


def _walk(
    wanted: Callable[[SensorRecord], bool], most: int
) -> Generator[Command, Answer, list[SensorRecord] | Verdict]:
    """Up to ``most`` wanted records, from the first repository that has any."""
    refused: Verdict | None = None
    for repository in _REPOSITORIES:
        outcome = yield from _walk_through(_Reader(repository), wanted, most)
        if not isinstance(outcome, Verdict):
            if outcome:
                return outcome
        elif outcome.reason is not Reason.BMC_UNSUPPORTED:
            return outcome
        elif repository is _REPOSITORIES[0]:
            refused = outcome
    return refused or []


def _walk_through(
    reader: _Reader, wanted: Callable[[SensorRecord], bool], most: int
) -> Generator[Command, Answer, list[SensorRecord] | Verdict]:
    found: list[SensorRecord] = []
    ident = 0
    for _ in range(RECORDS_MAX):
        read = yield from reader.record(ident)
        if isinstance(read, Verdict):
            # What follows cannot be read; that is no reason to hide what was.
            return found or read
        following, raw = read
        record = parse_sensor(raw)
        if record is not None and wanted(record):
            found.append(record)
        if following in (_LAST, ident) or len(found) >= most:
            break
        ident = following
    return found


class _Reader:
    """Reads records whole, and in pieces from the first that is too long on. Knows the reservation."""

    __slots__ = ("_pieces", "_renewals", "_repository", "_reservation")

    def __init__(self, repository: _Repository) -> None:
        self._repository = repository
        self._reservation: int | None = None
        self._renewals = 0
        self._pieces = False

    def record(self, ident: int) -> Generator[Command, Answer, tuple[int, bytes] | Verdict]:
        """The following id and the record."""
        if not self._pieces:
            answer = yield from self._get(ident, 0, 0xFF)
            if answer.completion == Completion.OK:
                return _parse(answer) or self._refused(answer)
            if answer.completion == Completion.NOT_PRESENT:
                return _LAST, b""  # an empty repository, or a record that was erased meanwhile
            if answer.completion not in _TOO_LONG:
                return self._refused(answer)
            self._pieces = True
        raw = b""
        following, size = 0, _HEAD
        while len(raw) < size:
            # The head first: it has the length, and some BMCs refuse to read past the end of a record.
            wish = _HEAD if not raw else min(CHUNK, size - len(raw))
            answer = yield from self._get(ident, len(raw), wish)
            read = _parse(answer) if answer.completion == Completion.OK else None
            if read is None or not read[1]:
                return self._refused(answer)
            following = read[0]
            raw += read[1][:wish]
            if len(raw) >= _HEAD:
                size = _HEAD + raw[4]
        return following, raw

    def _get(self, ident: int, offset: int, size: int) -> Generator[Command, Answer, Answer]:
        """Get SDR 33.12, with a new reservation where the old one was cancelled."""
        while True:
            if self._reservation is None:
                yield from self._reserve()
            reservation = self._reservation or 0
            data = reservation.to_bytes(2, "little") + ident.to_bytes(2, "little") + bytes((offset, size))
            command = Command("sdr", self._repository.netfn, self._repository.get, data, tolerate=True)
            answer = yield command
            if answer.completion in msg.BUSY_CODES:
                # Asked so, the exchange waits for a busy BMC, and ends where it stays busy.
                answer = yield Command("sdr", command.netfn, command.command, data)
            if answer.completion != _RESERVATION_LOST or self._renewals >= RENEWALS:
                return answer
            self._renewals += 1
            self._reservation = None

    def _reserve(self) -> Generator[Command, Answer, None]:
        answer = yield Command("sdr reservation", self._repository.netfn, self._repository.reserve, tolerate=True)
        good = answer.completion == Completion.OK and len(answer.data) >= 2
        # Reservation 0 will do for whole records (33.11), where a BMC gives none.
        self._reservation = int.from_bytes(answer.data[:2], "little") if good else 0

    def _refused(self, answer: Answer) -> Verdict:
        command = Command("sdr", self._repository.netfn, self._repository.get)
        if answer.completion == Completion.OK:
            return Verdict(Reason.BMC_PROTOCOL, f"sdr: an answer that makes no sense ({answer.data[:32].hex(' ')})")
        return Verdict(msg.reason_of(command, answer.completion), f"sdr: {msg.completion_name(answer.completion)}")


def _parse(answer: Answer) -> tuple[int, bytes] | None:
    data = answer.data
    return (int.from_bytes(data[:2], "little"), data[2:]) if len(data) > 2 else None
