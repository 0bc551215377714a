"""The System Event Log of a BMC: records of 16 bytes, a clock and a reservation (IPMI 2.0, sections 31 and 32.1)."""

from __future__ import annotations

from typing import Final

SYSTEM_EVENT: Final = 0x02  # 32.1: record type of a sensor's event
BMC_GENERATOR: Final = 0x0020  # 32.1: the BMC itself, at slave address 0x20
FIRST, LAST, END = 0x0000, 0xFFFF, 0xFFFF  # 31.5: the oldest record, the newest; what follows the newest
_IDS: Final = 0xFFFE  # record ids are 1-65534
_MAX_TIME: Final = 0xFFFFFFFE  # 37: 0xFFFFFFFF says that the time is unknown


class EventLog:
    """At most ``capacity`` events, oldest first; when it is full, further ones are lost and ``overflow`` says so.

    ``epoch``: what the BMC's clock shows, in seconds since 1970, when the caller's clock shows 0. Below 0x20000000
    the wire calls it "seconds since the BMC started" (section 37). Default capacity: the order of Supermicro's logs,
    8 KiB on the wire. ValueError for a capacity that the ids cannot hold.
    """

    __slots__ = (
        "_first",
        "_offset",
        "_records",
        "_reservation",
        "_reserved",
        "added_s",
        "capacity",
        "erased_s",
        "overflow",
    )

    def __init__(self, capacity: int = 512, epoch: float = 0.0) -> None:
        if not 0 < capacity <= _IDS:
            raise ValueError(f"an event log holds 1 to {_IDS} records, not {capacity}")
        self.capacity = capacity
        self.overflow = False
        self.added_s = 0  # the BMC's clock at the latest addition and erasure
        self.erased_s = 0
        self._offset = epoch
        self._records: list[bytes] = []
        self._first = 1  # id of the oldest record; the others follow in order
        self._reservation = 0
        self._reserved = False

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> tuple[bytes, ...]:
        """Oldest first, as they go over the wire."""
        return tuple(self._records)

    def time_s(self, now: float) -> int:
        """The BMC's clock at the caller's ``now``: whole seconds since 1970."""
        return min(max(int(now + self._offset), 0), _MAX_TIME)

    def set_time(self, time_s: int, now: float) -> None:
        self._offset = time_s - now

    def log(
        self, now: float, sensor_type: int, sensor: int, event: bytes, generator: int = BMC_GENERATOR
    ) -> int | None:
        """Add a system event. ``event``: direction and type, then event data 1-3. The record's id; None: log full.

        ValueError for an ``event`` that is not 4 bytes long: the caller's mistake.
        """
        if len(event) != 4:
            raise ValueError(f"an event has 4 bytes (direction and type, data 1-3), not {len(event)}")
        head = bytes((0, 0, SYSTEM_EVENT, 0, 0, 0, 0)) + generator.to_bytes(2, "little") + b"\x04"
        return self.add(head + bytes((sensor_type, sensor)) + event, now)

    def add(self, record: bytes, now: float) -> int | None:
        """Add a record of 16 bytes (31.6): the BMC gives it its id and, below type 0xE0, its time.

        The id; None when the log is full.
        """
        if len(self._records) >= self.capacity:
            self.overflow = True
            return None
        ident = (self._first - 1 + len(self._records)) % _IDS + 1
        self.added_s = self.time_s(now)
        stamp = self.added_s.to_bytes(4, "little") if record[2] < 0xE0 else record[3:7]
        self._records.append(ident.to_bytes(2, "little") + record[2:3] + stamp + record[7:16])
        return ident

    def entry(self, ident: int) -> tuple[int, bytes] | None:
        """The id that follows and the record; ``FIRST`` and ``LAST`` are understood. None: there is no such record."""
        count = len(self._records)
        position = 0 if ident == FIRST else count - 1 if ident == LAST else (ident - self._first) % _IDS
        if not 0 <= position < count:
            return None
        following = (self._first + position) % _IDS + 1 if position + 1 < count else END
        return following, self._records[position]

    def clear(self, now: float) -> None:
        self._first = (self._first - 1 + len(self._records)) % _IDS + 1
        self._records.clear()
        self.overflow = False
        self.erased_s = self.time_s(now)
        self._reserved = False  # 31.4: whoever wants to erase again reserves again

    def reserve(self) -> int:
        """A new reservation, 1-65535; the one before it is void (31.4)."""
        self._reservation = self._reservation % 0xFFFF + 1
        self._reserved = True
        return self._reservation

    def reserved(self, reservation: int) -> bool:
        return self._reserved and reservation == self._reservation
