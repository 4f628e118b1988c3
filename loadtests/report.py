"""One HTML file that tells of a load test: nothing in it is fetched from elsewhere."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from loadtests import runs
from loadtests.capacity import gain, percentile
from loadtests.plots import Line, plot
from loadtests.runs import Run
from loadtests.samples import Sample
from loadtests.thresholds import SHARE, Held

_STYLE: Final = """
body{font:15px/1.45 Arial,sans-serif;color:#212b32;max-width:1320px;margin:24px auto;padding:0 16px}
h1{font-size:26px}h2{font-size:20px;margin-top:34px;border-top:1px solid #d8dde0;padding-top:18px}
table{border-collapse:collapse;margin:10px 0 18px}td,th{padding:4px 12px;text-align:right;
border-bottom:1px solid #d8dde0;font-variant-numeric:tabular-nums}
td:first-child,th:first-child,td.text,th.text{text-align:left}th{font-weight:600;color:#4c6272}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(520px,1fr));gap:18px}
svg{width:100%;height:auto;background:#f8f9fa}svg text{font:11px Arial,sans-serif;fill:#4c6272}
svg .title{font-weight:600;fill:#212b32;font-size:12px}svg .end{text-anchor:end}
svg .middle{text-anchor:middle}svg .grid{stroke:#d8dde0;stroke-width:.6}
svg .zone{stroke:#aeb7bd;stroke-width:.6;stroke-dasharray:2 3;font-size:9px}
svg text.zone{stroke:none;fill:#768692}svg .limit{stroke:#d5281b;stroke-dasharray:5 4}
.met{color:#007f3b;font-weight:600}.missed{color:#d5281b;font-weight:600}
"""


_READING: Final = """
<h2>How to read it</h2><ul>
<li>A user is a system or a person that begins an action each second; an action is one to twenty
requests. A step has so many users at once; its first quarter, in which they come in, is measured in
no table.</li>
<li>p95: 95 of 100 requests were answered within it. Times are those of the client.</li>
<li>Wrong: an answer with another status than it has to have, with somebody else's record, with
something that consent hides, with a version that has not moved by one, or none at all.</li>
<li>Cores and MB: of all processes of the server together. Ms of a core: processor time of the
server for a request, in which the load generator has no part. Store ms: how long a request waited
for the store, on the average, as far as the server tells it.</li>
<li>The knee: the first step that is too much. What a server carries is the rate of right answers of
the best step before it.</li>
<li>More, with the limits of the method: docs/capacity.md and docs/load-testing.md.</li></ul>
"""

_BUSY: Final = 0.2
"""Cores of other work, beyond which figures are not the server's own."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a report is made of.

    Args:
        runs: the first is that which thresholds are held against; others have more workers.
        machine: what it ran on, in a line.
        left_out: scenarios that were not played, with the reason.
        remarks: what was played otherwise than on a server of this project.
        region: lines on what is loaded.
        p95_ms: the limit of the knee, which is drawn.
    """

    runs: Sequence[Run]
    held: Sequence[Held]
    machine: str
    when: str
    left_out: Sequence[str] = ()
    remarks: Sequence[str] = ()
    region: str = ""
    p95_ms: float = 0.0

    @property
    def met(self) -> bool:
        return all(one.met for one in self.held)


def numbers(told: Told) -> Any:
    """The same, for a program; what was not measured is None."""
    return _finite(
        {
            "when": told.when,
            "machine": told.machine,
            "met": told.met,
            "thresholds": [
                {"what": one.what, "limit": one.limit, "found": one.found, "met": one.met}
                for one in told.held
            ],
            "left_out": list(told.left_out),
            "remarks": list(told.remarks),
            "runs": [runs.told_of(run) for run in told.runs],
        }
    )


def _finite(told: Any) -> Any:
    """NaN and Infinity are no JSON (https://www.rfc-editor.org/rfc/rfc8259#section-6)."""
    if isinstance(told, dict):
        return {name: _finite(one) for name, one in told.items()}
    if isinstance(told, list):
        return [_finite(one) for one in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


def page(told: Told) -> str:
    parts = [
        "<!doctype html><html lang='en-GB'><head><meta charset='utf-8'>",
        f"<title>Load test, {escape(told.when)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Load test of {escape(told.when)}</h1>",
        *(f"<p><strong>{escape(line)}</strong></p>" for line in answer(told)),
        f"<p>{escape(told.machine)}</p>",
        *(f"<p>Left out: {escape(line)}</p>" for line in told.left_out),
        *(f"<p>Of this server: {escape(line)}</p>" for line in told.remarks),
        *_thresholds(told),
        *_capacity(told),
    ]
    for run in told.runs:
        parts += _run(run)
    if told.region:
        parts += ["<h2>The region</h2>", f"<pre>{escape(told.region)}</pre>"]
    return "".join([*parts, _READING, "</body></html>\n"])


def answer(told: Told) -> Iterator[str]:
    """To what the test is made for: does the region fit?"""
    share = next((one for one in told.held if one.what == SHARE), None)
    if share is None:
        return
    people, who = told.runs[0].plan.asked.young_people, _title(told.runs[0])
    if not math.isfinite(share.found):
        yield f"Whether the region fits cannot be told: {who} did not carry the first step."
    elif share.met:
        yield (
            f"The region fits: the busiest hour of its {people} young people takes "
            f"{share.found:.2%} of what {who} carries, at most {share.limit:.0%} is allowed."
        )
    else:
        yield (
            f"The region does not fit: the busiest hour of its {people} young people takes "
            f"{share.found:.0%} of what {who} carries, at most {share.limit:.0%} is allowed."
        )
    missed = [one.what for one in told.held if not one.met and one is not share]
    if missed:
        yield f"Not as it has to be: {'; '.join(missed)}."


def _thresholds(told: Told) -> Iterator[str]:
    verdict = "<span class='met'>met</span>" if told.met else "<span class='missed'>missed</span>"
    yield f"<h2>Thresholds: {verdict}</h2>"
    rows = [
        [escape(one.what), _number(one.limit), _number(one.found), _verdict(one)]
        for one in told.held
    ]
    yield _table(("", "at most", "measured", ""), rows)


def _verdict(one: Held) -> str:
    return "<span class='met'>met</span>" if one.met else "<span class='missed'>missed</span>"


def _capacity(told: Told) -> Iterator[str]:
    yield "<h2>Capacity</h2>"
    for run in told.runs:
        yield f"<p>{' '.join([_in_words(run), *_beside(run)])}</p>"
    first = told.runs[0]
    yield from (f"<p>{_gained(first, more)}</p>" for more in told.runs[1:])
    lines = [
        Line(
            _title(run),
            [(step.users, step.right) for step in run.steps],
            marked=True,
        )
        for run in told.runs
    ]
    late = [
        Line(_title(run), [(step.users, step.p95) for step in run.steps], marked=True)
        for run in told.runs
    ]
    yield "<div class='plots'>"
    yield plot("Right answers by load", "users", "a second", lines)
    yield plot("p95 by load; dashed: the limit", "users", "ms", late, limit=told.p95_ms)
    yield "</div>"
    yield from _peak(first)


def _gained(first: Run, more: Run) -> str:
    one, other = first.capacity.knee, more.capacity.knee
    times = gain(one, other)
    if not math.isfinite(times):
        return f"What {more.workers} workers gave cannot be told, as one carried nothing."
    if not one.found:
        return (
            f"What {more.workers} workers gave cannot be told, as no step was too much for "
            f"{_title(first)}: --steps with more users says it."
        )
    least = "" if other.found else "at least "
    return (
        f"{more.workers} workers carry {least}{times:.2f} times what {_title(first)} carries. "
        "The load generator ran on the same machine and had its part of it."
        f"{_alike(first, more)}"
    )


def _alike(first: Run, more: Run) -> str:
    """What a request costs where the load was the same, and both carried it: of this the load
    generator takes nothing."""
    users = min(first.capacity.knee.users, more.capacity.knee.users)
    found = [step for run in (first, more) for step in run.steps if step.users == users]
    if len(found) != 2 or not all(math.isfinite(step.each) for step in found):
        return ""
    one, other = found
    return (
        f" With {users} users a request took {one.each:.1f} ms of a core with {_title(first)} and "
        f"{other.each:.1f} with {more.workers}, and {_ms(one.store)} and {_ms(other.store)} ms at "
        "the store, waiting included."
    )


def _beside(run: Run) -> Iterator[str]:
    """A machine that does other things tells little of a server."""
    others = run.other_cores
    if math.isfinite(others):
        took = f"{max(others, 0.0):.2f} cores"
        if not run.workers:
            yield f"This machine was busy with {took} besides making load."
            return
        text = f"With {_title(run)}, other work on the machine took {took}."
        if others > _BUSY:
            text += " That is too much for these figures to mean anything on their own."
        yield text


def _title(run: Run) -> str:
    if not run.workers:
        return "the server"
    return "1 worker" if run.workers == 1 else f"{run.workers} workers"


def _in_words(run: Run) -> str:
    capacity, found = run.capacity, run.capacity.knee
    title = _title(run).capitalize()
    where = " on this machine" if run.workers else ""
    least = "" if found.found else "at least "
    carry = "carry" if run.workers > 1 else "carries"
    peak = f"{capacity.peak_rate:.2f} requests a second"
    why = f" The knee: {escape(found.why)}." if found.found else " No step was too much."
    if not found.rate:
        return f"<strong>{title}</strong> did not carry the first step.{why}"
    return (
        f"<strong>{title}</strong> {carry} {least}{found.rate:.0f} requests a second "
        f"({found.users} users). The busiest hour of {run.plan.asked.young_people} young people is "
        f"{peak}: {capacity.share:.2%} of that, or {least}{capacity.regions:.0f} boards of this "
        f"size{where}.{why}"
    )


def _peak(run: Run) -> Iterator[str]:
    yield "<h3>The busiest hour</h3>"
    rows = [[escape(name), f"{rate:.4f}"] for name, rate in run.capacity.peak.items()]
    rows.append(["together", f"{run.capacity.peak_rate:.4f}"])
    yield _table(("scenario", "requests a second"), rows)
    yield (
        "<p>Worked out from the actions a day of each scenario and the requests that an action "
        "took in this run. The mix of the run has more of what is rare and dear than the hour "
        "has, so that the capacity is told too low rather than too high.</p>"
    )


def _run(run: Run) -> Iterator[str]:
    yield f"<h2>With {_title(run)}</h2><p>{escape(run.plan.base)}</p><div class='plots'>"
    yield from _plots(run)
    yield "</div><h3>Steps</h3>"
    yield _table(
        (
            *("users", "a second", "p50 ms", "p95 ms", "p99 ms", "wrong", "cores"),
            *("ms of a core", "MB", "store ms"),
        ),
        [
            [
                *(str(step.users), f"{step.rate:.1f}", *map(_ms, (step.p50, step.p95, step.p99))),
                *(f"{step.fault_share:.2%}", _number(step.cores), _ms(step.each)),
                *(_number(step.megabytes), _ms(step.store)),
            ]
            for step in run.steps
        ],
    )
    yield "<h3>Requests</h3>"
    yield _requests(run.samples)
    yield "<h3>What went wrong</h3>"
    yield _faults(run.samples)
    if run.notices:
        taken = ", ".join(f"{name}: {count}" for name, count in sorted(run.notices.items()))
        yield f"<p>Notices that receivers took: {escape(taken)}.</p>"


def _plots(run: Run) -> Iterator[str]:
    during = sorted(runs.seconds(run).items())
    zones = [(one.at - run.start, float(one.users)) for one in run.began]
    right = [(float(at), float(sum(not one.fault for one in some))) for at, some in during]
    wrong = [(float(at), float(sum(bool(one.fault) for one in some))) for at, some in during]
    yield plot(
        "Requests",
        *("seconds", "a second"),
        [Line("right", right), Line("wrong", wrong)],
        zones=zones,
    )
    late = [Line(f"p{one}", _percentiles(during, one)) for one in (50, 95, 99)]
    yield plot("Times of answers", "seconds", "ms", late, zones=zones)
    kinds = [*_kinds(during)]
    if kinds:
        yield plot("Wrong answers by kind", "seconds", "a second", kinds, zones=zones)
    yield plot("Processor time", "seconds", "cores", [*_cores(run)], zones=zones)
    memory = Line("memory", [(one.at - run.start, one.megabytes) for one in run.uses])
    yield plot("Memory of the server", "seconds", "MB", [memory], zones=zones)
    yield plot("Time at the store, of each request", "seconds", "ms", [_store(during)], zones=zones)


def _percentiles(
    during: Sequence[tuple[int, Sequence[Sample]]], percent: int
) -> list[tuple[float, float]]:
    return [(float(at), percentile(sorted(one.ms for one in some), percent)) for at, some in during]


def _kinds(during: Sequence[tuple[int, Sequence[Sample]]]) -> list[Line]:
    kinds = sorted({one.fault for _, some in during for one in some if one.fault})[:6]
    return [
        Line(
            kind[:24],
            [(float(at), float(sum(one.fault == kind for one in some))) for at, some in during],
        )
        for kind in kinds
    ]


def _cores(run: Run) -> Iterator[Line]:
    for name, uses in (("server", run.uses), ("load", run.by_load), ("all", run.by_machine)):
        points = [
            (later.at - run.start, (later.cpu - before.cpu) / (later.at - before.at))
            for before, later in zip(uses, uses[2:], strict=False)
        ]
        yield Line(name, points)


def _store(during: Sequence[tuple[int, Sequence[Sample]]]) -> Line:
    points = []
    for at, some in during:
        times = [one.store for one in some if one.store >= 0]
        if times:
            points.append((float(at), sum(times) / len(times)))
    return Line("mean", points)


def _requests(samples: Sequence[Sample]) -> str:
    rows = [
        [
            *(escape(one.name), escape(one.scenario), str(one.requests)),
            *map(_ms, (one.p50, one.p95, one.p99)),
            *(str(one.faults), _ms(one.store)),
        ]
        for one in runs.by_name(samples)
    ]
    return _table(
        ("", "scenario", "number", "p50 ms", "p95 ms", "p99 ms", "wrong", "store ms"), rows
    )


def _faults(samples: Sequence[Sample]) -> str:
    found = runs.faults(samples).most_common(40)
    if not found:
        return "<p>Nothing: each answer was what it had to be.</p>"
    rows = [[escape(name), escape(fault), str(count)] for (name, fault), count in found]
    return _table(("request", "what", "number"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _ms(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"


def in_words(told: Told) -> list[str]:
    """The lines for a terminal."""
    first, *others = told.runs
    lines = [" ".join([_plain(_in_words(run)), *_beside(run)]) for run in told.runs]
    return [*lines, *(_gained(first, more) for more in others)]


def _plain(text: str) -> str:
    return text.replace("<strong>", "").replace("</strong>", "")
