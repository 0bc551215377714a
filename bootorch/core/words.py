"""The words of a command that changes a run under way, made into an event: checked against the plan and what holds now.

``event`` reads an ``Order`` as an operator typed it; ``check`` says whether an event changes anything; ``effect`` says
what has come of it. Every error names what was meant, and what the plan has instead.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches

from bootorch.core import hostwords
from bootorch.core.changes import Change, Changes, describe, under
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import (
    Aborted,
    BreakerReset,
    Chosen,
    Continued,
    FeedLost,
    FeedReturned,
    GateOpened,
    Lifted,
    LimitSet,
    OfHosts,
    Paused,
    Quarantined,
    Retried,
    ScopeAdded,
    Skipped,
    TierSet,
)
from bootorch.core.limits import feed_path
from bootorch.core.slots import PLAIN, kind_of
from bootorch.core.state import State, subnet
from bootorch.core.units import quantity, title, watts

Select = Callable[[str], tuple[str, ...]]  # an Ansible host pattern -> the inventory's hosts; InvalidInput for none

FIXED = ("consoles",)  # slots that a process takes when it begins
MOST_TIER = 1000  # a tier is a rank that people count by hand
MOST_SLOTS = 1_000_000  # more than hosts: a slip of the keyboard
_MOST_COMPARED = 2_000  # names compared to guess a slip of the keyboard: difflib takes some 20 µs for each
_FORMS: Mapping[str, tuple[str, int, int]] = {  # first word -> how it is written, least and most words after it
    "limit": ("limit set feed NAME 300kW, or limit set slot NAME 100", 2, 3),
    "lost": ("feed lost NAME", 1, 1),
    "returned": ("feed returned NAME", 1, 1),
    "scope": ("scope add PATTERN", 1, 1),
    "tier": ("tier set GROUP N", 2, 2),
    "choose": ("choose GROUP HOST", 2, 2),
    "gate": ("gate approve RUN NAME --by PERSON", 1, 1),
    "breaker": ("breaker reset, or breaker reset NAME", 0, 1),
    "pause": ("pause RUN", 0, 0),
    "continue": ("resume RUN", 0, 0),
    "abort": ("abort RUN, or abort RUN --now", 0, 1),
    "quarantine": ("quarantine HOSTS --reason TEXT", 1, 1),
    "skip": ("skip HOSTS", 1, 1),
    "lift": ("lift HOSTS", 1, 1),
    "retry": ("retry, or retry HOSTS", 0, 1),
}
_OF_HOSTS: Mapping[str, type[Quarantined | Skipped | Lifted | Retried]] = {
    "quarantine": Quarantined, "skip": Skipped, "lift": Lifted, "retry": Retried,
}  # fmt: skip
_SETS = ("limit", "tier", "scope", "choose", "breaker", *_OF_HOSTS)  # what --set takes


@dataclass(frozen=True, slots=True)
class Order:
    """A command as typed. ``words`` begin with ``limit`` (``feed`` or ``slot``, name, value), ``lost``, ``returned``
    (feed), ``scope`` (pattern), ``tier`` (group, number), ``choose`` (group, host), ``gate`` (name), ``breaker`` (its
    name, or nothing for all), ``pause``, ``continue``, ``abort`` (``now``), or ``quarantine``, ``skip``, ``lift`` and
    ``retry`` (pattern)."""

    words: tuple[str, ...]
    ramp: str = ""
    inrush: str = ""
    by: str = ""
    why: str = ""

    def command(self) -> str:
        """What follows ``bootorch`` on a command line that says the same."""
        verb, *rest = self.words
        spelt = {"limit": ["limit", "set"], "lost": ["feed", "lost"], "returned": ["feed", "returned"]}
        spelt |= {"scope": ["scope", "add"], "tier": ["tier", "set"], "breaker": ["breaker", "reset"]}
        spelt |= {"gate": ["gate", "approve"], "continue": ["resume"]}
        options = [part for name in ("ramp", "inrush") if (text := getattr(self, name)) for part in (f"--{name}", text)]
        return shlex.join([*spelt.get(verb, [verb]), *rest, *options])

    def option(self) -> str:
        """The option of ``bootorch resume`` that says the same; empty for ``pause``, ``continue`` and ``abort``."""
        verb, *rest = self.words
        if verb in ("pause", "continue", "abort"):
            return ""
        if verb == "gate":
            return shlex.join(["--approve", f"{rest[0]}={self.by}"])
        if verb in ("lost", "returned"):
            return shlex.join([f"--{verb}", *rest])
        inside = rest if verb == "limit" else list(self.words)
        inside += [f"{name}={text}" for name in ("ramp", "inrush") if (text := getattr(self, name))]
        return f"--set {shlex.quote(' '.join(inside))}"


def parse(text: str, by: str = "", why: str = "") -> Order:
    """The order in the text of ``--set``: ``feed hall-a 300kW ramp=60kW``, ``slot image_server 100``, ``tier web 0``,
    ``scope PATTERN``, ``choose GROUP HOST``, ``retry HOSTS``, ``breaker NAME``. Raises InvalidInput."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    options = dict.fromkeys(("ramp", "inrush"), "")
    plain = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in options:
            options[name] = value
        else:
            plain.append(word)
    if plain and plain[0] in ("feed", "slot"):
        plain.insert(0, "limit")
    if not plain or plain[0] not in _SETS:
        remedy = "write --set 'feed hall-a 300kW', --set 'slot image_server 100', --set 'tier web 0' or --set retry"
        raise InvalidInput(Problem(f"{text!r} sets nothing", "--set", remedy))
    return Order(tuple(plain), options["ramp"], options["inrush"], by, why)


def pack(order: Order) -> str:
    """The order as one process leaves it for another."""
    return json.dumps(asdict(order))


def unpack(text: str) -> Order:
    """What ``pack`` made. Raises ValueError, KeyError or TypeError for anything else."""
    given = json.loads(text)
    return Order(tuple(map(str, given.pop("words"))), **given)


def pack_problems(problems: Iterable[Problem]) -> str:
    """Problems as one process tells them another."""
    return json.dumps([asdict(problem) for problem in problems])


def unpack_problems(text: str) -> list[Problem]:
    return [Problem(**{**given, "hosts": tuple(given["hosts"])}) for given in json.loads(text)]


# -- words to events ---------------------------------------------------------------------


def event(order: Order, changes: Changes, select: Select) -> Change:
    """The event that the words mean, with run time 0. Raises InvalidInput with everything that is wrong."""
    verb, *rest = order.words or ("",)
    form, least, most = _FORMS.get(verb, ("", 1, 0))
    if not least <= len(rest) <= most:
        raise InvalidInput(Problem(f"{' '.join(order.words)!r} is no change of a run", "", f"write {form}"))
    by, why = order.by, order.why
    found: Change
    match verb:
        case "limit":
            found = _limit(order)
        case "lost":
            found = FeedLost(0.0, rest[0], by, why)
        case "returned":
            found = FeedReturned(0.0, rest[0], by, why)
        case "scope":
            found = _scope(rest[0], changes, select, by, why)
        case "tier":
            found = TierSet(0.0, rest[0], _whole(rest[1], "tier", MOST_TIER), by, why)
        case "choose":
            found = Chosen(0.0, rest[0], rest[1], by, why)
        case "gate":
            found = GateOpened(0.0, rest[0], by, why)
        case "breaker":
            found = BreakerReset(0.0, rest[0] if rest else "", by, why)
        case "pause":
            found = Paused(0.0, by, why)
        case "continue":
            found = Continued(0.0, by, why)
        case "abort":
            if rest not in ([], ["now"]):
                raise InvalidInput(Problem(f"{rest[0]!r} is no way to abort", "abort", f"write {form}"))
            found = Aborted(0.0, by, why, at_once=bool(rest))
        case _:
            found = _of_hosts(verb, rest, changes, select, by, why)
    check(found, changes)
    return found


def _limit(order: Order) -> LimitSet:
    kind, name, *value = order.words[1:]
    where = f"{kind} {name}"
    if kind not in ("feed", "slot"):
        remedy = "write limit set feed NAME 300kW, or limit set slot NAME 100"
        raise InvalidInput(Problem(f"{kind!r} is no kind of limit", "limit", remedy))
    if kind == "slot":
        if order.ramp or order.inrush:
            raise InvalidInput(Problem("a slot is a plain count: no ramp, no inrush", where, "leave them out"))
        if not value:
            raise InvalidInput(Problem("how many?", where, f"write limit set slot {name} 100"))
        return LimitSet(
            0.0, kind, _resource(name), float(_whole(value[0], where, MOST_SLOTS)), None, None, order.by, order.why
        )
    given = [(value[0] if value else "", "budget"), (order.ramp, "ramp"), (order.inrush, "inrush")]
    problems, amounts = [], []
    for text, what in given:
        try:
            amounts.append(amount(text, zero=what == "budget") if text else None)
        except ValueError as error:
            problems.append(Problem(str(error), f"{what} of {title(name)}", "write 750, 300kW or 1.2MW"))
    if not problems and amounts == [None, None, None]:
        problems.append(Problem("nothing is set", where, f"write limit set feed {name} 300kW"))
    if problems:
        raise InvalidInput(problems)
    budget, ramp, inrush = amounts
    return LimitSet(0.0, kind, name, budget, ramp, inrush, order.by, order.why)


def _resource(name: str) -> str:
    """A slot as the engine counts it: ``bmc:10.20.3`` for ``bmc_per_subnet:10.20.3``."""
    kind, colon, value = name.partition(":")
    return f"{PLAIN.get(kind, kind)}:{value}" if colon else name


def amount(text: str, *, zero: bool = False) -> float:
    """Watts (or another supply's own unit) of ``300kW``, ``1.2 MW``, ``750``; amperes of ``200`` or ``200A``.

    ``zero``: nothing at all is an amount too. Raises ValueError for anything else, such as what is below zero.
    """
    plain = text.strip()
    if plain.startswith("-"):
        raise ValueError(f"{plain[:20]!r} is below zero")
    bare = plain[:-1].rstrip() if plain[-1:] in ("a", "A") else plain
    try:
        return watts(bare)
    except ValueError:
        # ``watts`` takes no zero: in a plan it is a slip, at the keyboard it may be meant.
        if zero and bare.rstrip("wW").strip() in ("0", "0k", "0.0"):
            return 0.0
        raise ValueError(f"{plain[:20]!r} is no power: write 750, 300kW or 1.2MW") from None


def _whole(text: str, where: str, most: int) -> int:
    plain = text.strip()
    if plain.isascii() and plain.isdecimal() and len(plain) <= 9 and int(plain) <= most:
        return int(plain)
    raise InvalidInput(Problem(f"{text[:20]!r} is no number from 0 to {most:,}", where, "write a whole number"))


def _meant(pattern: str, changes: Changes, select: Select) -> tuple[str, ...]:
    """Hosts of the plan: of one of its groups, or of a pattern of the inventory's."""
    plan = changes.plan
    group = plan.groups.get(pattern)
    meant = group.hosts if group is not None else select(pattern)
    hosts = tuple(name for name in meant if name in plan.hosts)
    if not hosts:
        raise InvalidInput(_unknown("group", pattern, plan.groups, "means no host of the plan"))
    return hosts


def _of_hosts(verb: str, rest: list[str], changes: Changes, select: Select, by: str, why: str) -> Change:
    """``retry`` alone means all that failed; everything else names its hosts."""
    hosts = _meant(rest[0], changes, select) if rest else ()
    inside = hosts if changes.scope is None else tuple(name for name in hosts if name in changes.scope)
    if hosts and not inside:
        remedy = f"bootorch scope add {shlex.quote(rest[0])} takes them in"
        raise InvalidInput(Problem("outside --limit: they are no part of this run", rest[0], remedy, hosts))
    return _OF_HOSTS[verb](0.0, inside, rest[0] if rest else "", by, why)


def _scope(pattern: str, changes: Changes, select: Select, by: str, why: str) -> ScopeAdded:
    hosts = _meant(pattern, changes, select)
    new = () if changes.scope is None else tuple(name for name in hosts if name not in changes.scope)
    return ScopeAdded(0.0, pattern, new, by, why)


# -- checks ---------------------------------------------------------------------


def check(event: Change, changes: Changes) -> str:
    """Empty where the event changes something; else why it is so already. Raises InvalidInput where it cannot be."""
    match event:
        case LimitSet(kind="feed"):
            return _check_feed_limit(event, changes)
        case LimitSet(kind="slot"):
            return _check_slot(event, changes)
        case LimitSet():
            raise InvalidInput(Problem(f"{event.kind!r} is no kind of limit", event.name, "feed or slot"))
        case FeedLost(feed=feed):
            _known_feed(feed, changes)
            # A part of a dark feed may be said to be lost by itself: it stays dark when the whole returns.
            dark = changes.dark.get(feed)
            return f"{title(feed)} is without electricity already: {_by(dark.by, dark.why)}" if dark else ""
        case FeedReturned(feed=feed):
            return _check_returned(feed, changes)
        case ScopeAdded():
            if strange := [name for name in event.hosts if name not in changes.plan.hosts]:
                raise InvalidInput(Problem("hosts that the plan does not have", event.pattern, hosts=tuple(strange)))
            if changes.scope is None:
                return "every host of the plan belongs to the run already: it has no --limit"
            new = [name for name in event.hosts if name not in changes.scope]
            return "" if new else f"every host of {event.pattern} belongs to the run already"
        case TierSet():
            _known_group(event.group, changes)
            if not 0 <= event.tier <= MOST_TIER:
                raise InvalidInput(Problem(f"{event.tier} is no tier", event.group, f"0 to {MOST_TIER}"))
            same = changes.tiers[event.group] == event.tier
            return f"group {event.group} has tier {event.tier} already" if same else ""
        case Chosen():
            return _check_chosen(event, changes)
        case GateOpened():
            if event.gate not in changes.plan.gates:
                raise InvalidInput(_unknown("gate", event.gate, changes.plan.gates))
            by = changes.gates.get(event.gate)
            return f"gate {event.gate} is open already, by {by}" if by is not None else ""
        case OfHosts():
            if strange := [name for name in event.hosts if name not in changes.plan.hosts]:
                raise InvalidInput(Problem("hosts that the plan does not have", event.pattern, hosts=tuple(strange)))
            return ""
        case _:
            return ""  # of the run as a whole: only the running process knows


def consider(event: Change, changes: Changes, state: State) -> tuple[Change, str]:
    """As ``check``, with all that the run knows at this moment. The event as it is to be folded: of hosts, only those
    for which it makes a difference; and why it is so already, if it is. Raises InvalidInput where it cannot be."""
    if already := check(event, changes):
        return event, already
    match event:
        case OfHosts():
            return hostwords.narrow(event, state)
        case Paused() | Continued() | Aborted() | BreakerReset():
            return event, hostwords.check_run(event, state)
        case GateOpened() if event.gate in state.gates_open:
            return event, f"gate {event.gate} is open already, by {state.gates_open[event.gate]}"
        case ScopeAdded():
            hostwords.refuse_while_aborting(event, state)
    return event, ""


def _check_feed_limit(event: LimitSet, changes: Changes) -> str:
    _known_feed(event.name, changes)
    limited = changes.plan.limits.feeds
    if event.name not in limited:
        # Nothing was counted on it while hosts were switched on: a limit from now on would hold for a part of them.
        above = [part for part in feed_path(event.name) if part in limited]
        remedy = f"set that of {above[-1]}, which it hangs on" if above else f"feeds with limits: {_few(limited)}"
        raise InvalidInput(Problem("has no limit in the plan", title(event.name), remedy))
    numbers = (event.value, event.ramp, event.inrush)
    if any(number is not None and not 0 <= number <= 1e12 for number in numbers):  # false for nan too
        raise InvalidInput(Problem("a limit is a number that is not below zero", title(event.name), "300kW"))
    now = changes.feeds.get(event.name)
    standing = (None, None, None) if now is None else (now.budget_watts, now.ramp_watts_per_min, now.inrush_amps)
    same = all(new is None or new == old for new, old in zip(numbers, standing, strict=True))
    return f"{describe(event)} already" if same else ""


def _check_slot(event: LimitSet, changes: Changes) -> str:
    _, colon, value = event.name.partition(":")
    base = kind_of(event.name)
    plan = changes.plan
    # As with feeds: what was never counted cannot be limited while the run goes on.
    known = [slot for slot in plan.limits.slots if slot not in FIXED]
    if base not in known and event.name not in known:
        raise InvalidInput(_unknown("slot", event.name, known))
    if colon and event.name not in plan.limits.slots:
        if base == "bmc_per_subnet":
            values = {subnet(host.bmc.address): None for host in plan.hosts.values()}
        else:
            values = {host.fact(base): None for host in plan.hosts.values()}
        values.pop("", None)
        if value not in values:
            raise InvalidInput(_unknown(base, value, values))
    if event.value is None or not 0 <= event.value <= MOST_SLOTS or event.value != int(event.value):
        raise InvalidInput(Problem("a slot's limit is a whole number that is not below zero", event.name, "100"))
    same = changes.slots.get(event.name) == event.value and event.name not in changes.adapted
    return f"{describe(event)} already" if same else ""


def _check_returned(feed: str, changes: Changes) -> str:
    _known_feed(feed, changes)
    above = changes.dark_above(feed)
    if above and above != feed:
        # A part of a dark feed cannot be said to have returned: what is known is that the whole one is dark.
        remedy = f"bootorch feed returned {above}, after bootorch feed lost for each part of it that is still dark"
        raise InvalidInput(Problem(f"{title(above)}, which {feed} hangs on, is dark", title(feed), remedy))
    return "" if above else f"{title(feed)} has electricity already"


def _check_chosen(event: Chosen, changes: Changes) -> str:
    group = changes.plan.groups[_known_group(event.group, changes)]
    if event.host not in group.hosts:
        raise InvalidInput(_unknown("host", event.host, group.hosts, f"is no host of group {event.group}"))
    if group.first is None:
        remedy = "its members start without a first one: give the group first: in the plan"
        raise InvalidInput(Problem("has no first-member rule", f"group {event.group}", remedy))
    if (named := group.first.candidates) and event.host not in named:
        raise InvalidInput(
            _unknown("host", event.host, named, f"is no candidate for the first member of {event.group}")
        )
    same = changes.chosen.get(event.group) == event.host
    return f"{event.host} is the first member of {event.group} already" if same else ""


def _known_feed(feed: str, changes: Changes) -> str:
    if feed not in changes.known_feeds:
        raise InvalidInput(_unknown("feed", feed, changes.known_feeds))
    return feed


def _known_group(group: str, changes: Changes) -> str:
    if group not in changes.plan.groups:
        raise InvalidInput(_unknown("group", group, changes.plan.groups))
    return group


def _unknown(kind: str, name: str, known: Iterable[str], message: str = "") -> Problem:
    names = list(known)[:_MOST_COMPARED]
    close = get_close_matches(name, names, n=3)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"the plan has {_few(names)}"
    return Problem(f"{name!r} {message}" if message else f"the plan has no {kind} {name!r}", "", remedy)


def _few(names: Iterable[str]) -> str:
    found = list(names)
    return (", ".join(found[:12]) + (" …" if len(found) > 12 else "")) or "none"


def _by(by: str, why: str) -> str:
    return f"said by {by}" + (f" ({why})" if why else "")


# -- what has come of it ---------------------------------------------------------------------


def told(event: Change, changes: Changes, state: State, reopened: int) -> str:
    """What the running process answers; ``changes`` and ``state`` have the event folded. ``reopened``: hosts that have
    lost their outcome by it."""
    match event:
        case OfHosts():
            return hostwords.effect(event, state, reopened)
        case Paused() | Continued() | Aborted() | BreakerReset():
            return hostwords.run_effect(event, state)
        case _:
            return effect(event, changes, state.feeds.draw_watts())


def effect(event: Change, changes: Changes, draws: Mapping[str, float]) -> str:
    """What holds from now on. ``changes`` has the event folded; ``draws``: what limited feeds draw."""
    match event:
        case LimitSet(kind="feed"):
            draw = draws.get(event.name)
            budget = changes.feeds[event.name].budget_watts
            said = f"{describe(event)} now" + (f" (draws {quantity(draw, event.name)})" if draw is not None else "")
            if draw is not None and budget is not None and draw > budget:
                said += "; nothing is switched off, and nothing more starts there until it draws less"
            if above := changes.dark_above(event.name):
                said += f"; {title(above)} is dark: nothing starts before bootorch feed returned {above}"
            return said
        case LimitSet():
            return f"{describe(event)} now; what is under way goes on"
        case FeedLost(feed=feed):
            dark, other = _below(feed, changes)
            said = f"{describe(event)} now: {_hosts(dark)} dark, nothing is sent to {'it' if dark == 1 else 'them'}"
            return said + (f"; {_hosts(other)} on another feed as well" if other else "")
        case FeedReturned(feed=feed):
            dark, other = _below(feed, changes)
            still = f"; {_hosts(dark)} of it stay dark" if dark else ""
            return f"{describe(event)}: {_hosts(other)} looked at anew{still}"
        case ScopeAdded():
            return describe(event)
        case TierSet():
            return f"{describe(event)} now; what runs goes on"
        case Chosen():
            return f"{describe(event)}; the others follow when it is ready"
        case _:
            return describe(event)


def _below(feed: str, changes: Changes) -> tuple[int, int]:
    """How many hosts with a cord on the feed are dark, and how many are not."""
    hosts = [host for host in changes.plan.hosts.values() if any(under(path, feed) for path in host.feeds)]
    dark = sum(1 for host in hosts if changes.is_dark(host))
    return dark, len(hosts) - dark


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count:,} hosts"
