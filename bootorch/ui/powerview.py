"""How the end of a power command looks: text for people, in which equal results are one line; JSON for programs. Pure.

Text is made without rich: loading it takes longer than asking a thousand BMCs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json import dumps
from json.encoder import encode_basestring_ascii as quoted

from bootorch.core.reasons import Reason
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import span, watts
from bootorch.ui.powerservices import Row

# Where the advice for runs would not fit a single command.
_ADVICE = {
    Reason.BMC_BUSY: "the BMC stayed busy, or somebody has its console open. Try again later, or with more --timeout; "
    "a console is taken over with --steal",
    Reason.BMC_UNSUPPORTED: "the BMC does not have this command",
    Reason.BMC_LOST: "the session broke off. An order may or may not have been done: read the status first",
    Reason.POWER_NO_EFFECT: "accepted, but the power does not read so. Read it again later; look at the console",
    Reason.INTERRUPTED: "ended early. An order may or may not have been done: read the status first",
}

SCHEMA = "bootorch.power/1"
_DETAILS = 3  # different details shown of one reason
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"


def document(verb: str, rows: Sequence[Row], elapsed_s: float) -> str:
    """One JSON document; each target on a line of its own, in the order given.

    Written by hand, as 32,000 entries through ``json`` would take as long as a few thousand BMCs.
    """
    entries = []
    for target, state, reason, detail, attempts, took_s, _, data, power in rows:
        error = "null" if reason is Reason.OK else f'"{reason}"'
        entry = (
            f'{{"target":{quoted(target)},"state":{quoted(state) if state else "null"},"error":{error},'
            f'"attempts":{attempts},"elapsed_s":{took_s:.3f}'
        )
        if detail:
            entry += f',"detail":{quoted(detail)}'
        if data is not None:
            entry += f',"data":{dumps(data, separators=(",", ":"))}'
        if power is not None:
            entry += f',"watts":{power:g}'
        entries.append(entry + "}")
    failed = sum(row.reason is not Reason.OK for row in rows)
    draws = [row.watts for row in rows if row.watts is not None]
    total = f'"watts":{sum(draws):g},' if draws else ""
    listed = ",\n".join(entries)
    return (
        f'{{"schema":"{SCHEMA}","verb":"{verb}","targets":[\n{listed}\n],\n'
        f'"answered":{len(rows) - failed},"failed":{failed},{total}"elapsed_s":{elapsed_s:.3f}}}\n'
    )


def listing(rows: Iterable[Row], *, colour: bool = False) -> str:
    """Results, equal ones together, then failures by reason: ``web[001-480] (480): on``."""
    good: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    bad: dict[Reason, dict[str, list[str]]] = {}
    for row in rows:
        if row.reason is Reason.OK:
            good.setdefault((row.state, (*([row.detail] if row.detail else []), *row.lines)), []).append(row.target)
        else:
            bad.setdefault(row.reason, {}).setdefault(row.detail, []).append(row.target)
    bold, red, plain = (_BOLD, _RED, _PLAIN) if colour else ("", "", "")
    out = []
    for (state, lines), names in good.items():
        out.append(f"{bold}{fold_counted(names)}{plain}: {state}\n")
        out.extend(f"  {line}\n" for line in lines)
    for reason, details in bad.items():
        for detail, names in list(details.items())[:_DETAILS]:
            out.append(f"{bold}{fold_counted(names)}{plain}: {red}{reason}{plain}{f': {detail}' if detail else ''}\n")
        rest = [name for names in list(details.values())[_DETAILS:] for name in names]
        if rest:
            out.append(f"{bold}{fold_counted(rest)}{plain}: {red}{reason}{plain}, in other words each\n")
    return "".join(out)


def advices(rows: Iterable[Row]) -> str:
    """What to do next, once for each reason."""
    reasons = dict.fromkeys(row.reason for row in rows if row.reason is not Reason.OK)
    if not reasons:
        return ""
    from bootorch.core.advice import advice

    texts = []
    for reason in reasons:
        found = advice(reason)
        texts.append(f"{reason}: {_ADVICE.get(reason) or f'{found.meaning}. {found.next_step}'.strip().rstrip('.')}.\n")
    return "".join(texts)


def totals(rows: Sequence[Row], elapsed_s: float) -> str:
    """``478 on, 1 off, 1 failed; 480 in 1.2 s``; with power draw where any is known."""
    counts: dict[str, int] = {}
    for row in rows:
        # States of sensors and logs are each their own: only how many answered counts then.
        word = (row.state if not row.lines else "answered") if row.reason is Reason.OK else "failed"
        counts[word] = counts.get(word, 0) + 1
    failed = counts.pop("failed", 0)
    if len(counts) > 4:
        counts = {"answered": len(rows) - failed}
    parts = [f"{count:,} {word}" for word, count in counts.items()] + ([f"{failed:,} failed"] if failed else [])
    draws = [row.watts for row in rows if row.watts is not None]
    power = f"; {watts(sum(draws))} drawn by {len(draws):,}" if draws else ""
    return f"{', '.join(parts)}; {len(rows):,} in {span(elapsed_s)}{power}\n"
