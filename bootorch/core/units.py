"""Durations, watts and feeds as people write them."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?", re.ASCII)
_WATTS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKmM]?)[wW]?", re.ASCII)
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_MOST = 1e12  # a terawatt, 30,000 years: more is a slip of the keyboard
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6}


def seconds(value: object) -> float:
    """Seconds of ``5m``, ``90s``, ``1h30m``, ``2d`` or a number. Raises ValueError unless positive and finite.

    >>> seconds("1h30m"), seconds("90s"), seconds(2.5)
    (5400.0, 90.0, 2.5)
    """
    if isinstance(value, str) and (text := value.strip().lower()):
        if (number := _number(text)) is not None:
            return _positive(number, value, "duration")
        if found := _DURATION.fullmatch(text):
            total = sum(float(found[unit]) * scale for unit, scale in _SECONDS.items() if found[unit])
            return _positive(total, value, "duration")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return _positive(value, value, "duration")
    raise ValueError(f"{str(value)[:20]!r} is no duration: write 90s, 5m, 1h30m, or a number of seconds")


def watts(value: object) -> float:
    """Watts of ``400000``, ``300kW`` or ``1.2 MW``. Raises ValueError unless positive and finite.

    >>> watts("300kW"), watts(750)
    (300000.0, 750.0)
    """
    if isinstance(value, str) and (found := _WATTS.fullmatch(value.strip())):
        return _positive(float(found["number"]) * _SCALE[found["unit"].lower()], value, "power")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _positive(value, value, "power")
    raise ValueError(f"{str(value)[:20]!r} is no power: write 750, 300kW or 1.2MW")


def quantity(value: float, feed: str = "") -> str:
    """An amount of a feed in its unit: ``300 kW``; of a supply such as ``cooling:crac-1`` the bare number.

    >>> quantity(300000.0), quantity(1250.0), quantity(150.0, "cooling:crac-1")
    ('300 kW', '1.25 kW', '150')
    """
    if ":" in feed:
        return f"{value:,.6g}"
    for scale, unit in ((1e6, "MW"), (1e3, "kW")):
        if value >= scale:
            return f"{value / scale:.4g} {unit}"
    return f"{value:.4g} W"


def title(name: str) -> str:
    """``feed hall-a``; a supply other than electricity by its own name: ``cooling:crac-1``."""
    return name if ":" in name else f"feed {name}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _positive(number: float, written: object, what: str) -> float:
    if not 0 < number <= _MOST:  # false for nan too
        raise ValueError(f"{str(written)[:20]} is no {what}: it must be more than nothing, and finite")
    return float(number)
