"""A MeasureReport for people: rows for a table, and a page to print.

https://hl7.org/fhir/R4/measurereport.html. A number that is kept back is not guessed at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final

from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.json import Resource

FEW: Final = "too few to show"
_UNITS: Final = {"%": "%", "days": " days", "d": " days"}
_WORDS: Final[Mapping[str, str]] = {
    "episodes": "Young people with keyworking now",
    "caseloads": "Keyworkers",
    "admissions": "Admissions",
    "admissions-avoided": "Admissions avoided",
    "admissions-without-cetr": "Admitted without a review before",
    "readmissions-30": "Back in hospital within 30 days",
    "readmissions-90": "Back in hospital within 90 days",
    "length-of-stay": "Days in hospital, on average",
    "clinically-ready": "Ready to leave, and waiting",
    "days-clinically-ready": "Days of waiting to leave, on average",
    "referral-to-consent": "Days from referral to consent",
    "referral-to-allocation": "Days from referral to a keyworker",
    "referral-to-first-visit": "Days from referral to the first visit",
    "referral-to-plan": "Days from referral to the plan",
    "consent-to-allocation": "Days from consent to a keyworker",
    "allocation-to-first-visit": "Days from a keyworker to the first visit",
    "first-visit-to-plan": "Days from the first visit to the plan",
    "in-time-T-CETR-POSTADM": "Review after admission in time",
    "in-time-T-CETR-REPEAT": "Review in hospital in time",
    "in-time-T-OVERSIGHT-VISIT": "Oversight visit in time",
    "in-time-T-CAREPLAN-SHARE": "Plan shared within 24 hours",
    "in-time-T-FU-48": "Follow-up within 48 hours",
    "in-time-T-FU-72": "Follow-up within 72 hours",
    "in-time-T-FU-7D": "Follow-up within 7 days",
    "goals": "Goals",
    "consents": "Consents",
    "tasks-overdue": "Promises broken: Tasks overdue now",
}
_ORDER: Final = {code: number for number, code in enumerate(_WORDS)}


@dataclass(frozen=True, slots=True)
class Row:
    """One measure."""

    code: str
    words: str
    value: str
    parts: tuple[tuple[str, str], ...]
    """By what it is divided, and into what."""


def rows(report: Resource) -> list[Row]:
    """Those that are known in the order of people's questions, others behind them."""
    found = [_row(group) for group in report.get("group", ())]
    return sorted(found, key=lambda row: (_ORDER.get(row.code, len(_ORDER)), row.code))


def _row(group: Resource) -> Row:
    code = _name(group["code"])
    words = _WORDS.get(code, code.replace("-", " ").capitalize())
    return Row(code, words, _value(group), tuple(_parts(group)))


def _name(concept: Resource) -> str:
    """The code of a measure or of a part."""
    codings = concept.get("coding", ())
    return str(next((one["code"] for one in codings), concept.get("text", "")))


def _value(group: Resource) -> str:
    """The score, with the numbers that it is made of; else the count."""
    counts = {_name(one["code"]): one.get("count") for one in group.get("population", ())}
    if not counts or None in counts.values():
        return FEW
    if (score := _score(group)) and "denominator" in counts:
        return f"{score} ({counts['numerator']} of {counts['denominator']})"
    return score or " of ".join(str(count) for count in counts.values())


def _score(measured: Resource) -> str:
    """Of a group or a stratum; '' where there is none."""
    score = measured.get("measureScore")
    if score is None:
        return ""
    unit = score.get("unit", score.get("code", ""))
    return f"{score['value']}{_UNITS.get(unit, f' {unit}'.rstrip())}"


def _parts(group: Resource) -> Iterator[tuple[str, str]]:
    for stratifier in group.get("stratifier", ()):
        by = _name(next(iter(stratifier.get("code", ())), {})).replace("-", " ")
        told = ", ".join(_stratum(one) for one in stratifier.get("stratum", ()))
        yield by, told


def _stratum(stratum: Resource) -> str:
    count = next((one.get("count") for one in stratum.get("population", ())), None)
    shown = "-" if count is None else _score(stratum) or str(count)
    return f"{_name(stratum.get('value', {}))} {shown}"


def period(report: Resource) -> tuple[str, str]:
    """The first and the last day."""
    start, end = (datetime.fromisoformat(report["period"][name]) for name in ("start", "end"))
    last = end - timedelta(seconds=1)  # the end is the midnight after it
    return _day(start), _day(last)


def _day(moment: datetime) -> str:
    local = moment.astimezone(LOCAL)
    return f"{local.day} {local:%B %Y}"


_PAGE: Final = """<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; }}
caption {{ text-align: left; font-weight: bold; padding: .5em 0; }}
th, td {{ text-align: left; vertical-align: top; padding: .4em .6em; border-bottom: 1px solid; }}
td.few {{ font-style: italic; }}
td small {{ display: block; }}
@media print {{
  @page {{ size: A4; margin: 15mm; }}
  body {{ font-size: 10pt; max-width: none; margin: 0; padding: 0; }}
  tr {{ break-inside: avoid; }}
  thead {{ display: table-header-group; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{area}, from {start} to {end}. Everybody in it is invented.</p>
<table>
<caption>The measures of the service</caption>
<thead><tr><th scope="col">What</th><th scope="col">How much</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p>A number below {least} is kept back, and so is what would tell it by difference: where it says
&ldquo;{few}&rdquo;, or &ldquo;-&rdquo;. Measured as <code>{measure}</code>.</p>
</body>
</html>
"""


def page(report: Resource, area: str, least: int) -> str:
    """A page that needs nothing beside it."""
    start, end = period(report)
    return _PAGE.format(
        title="Keyworking: a year for the steering group",
        area=escape(area),
        start=escape(start),
        end=escape(end),
        rows="\n".join(_html(row) for row in rows(report)),
        least=least,
        few=FEW,
        measure=escape(str(report.get("measure", ""))),
    )


def _html(row: Row) -> str:
    parts = "".join(f"<small>by {escape(by)}: {escape(told)}</small>" for by, told in row.parts)
    few = ' class="few"' if row.value == FEW else ""
    return (
        f'<tr><th scope="row">{escape(row.words)}</th><td{few}>{escape(row.value)}{parts}</td></tr>'
    )
