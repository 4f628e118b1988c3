"""`keyworking validate`: files of FHIR, checked as a server would check them.

JSON, XML and ndjson. There is no server and no store: what the tables in memory do not decide, the
terminology server of the settings is asked.
Source: https://hl7.org/fhir/R4/validation.html
"""

import asyncio
import codecs
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fhir_server.errors import FhirError, Issue
from fhir_server.fhir import json, xml
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.terminology.service import Terminology
from fhir_server.validation.checker import Checker
from fhir_server.validation.settling import Settler

_LINES: Final = (".ndjson", ".jsonl")
ENDINGS: Final = (".json", ".xml", *_LINES)
_FILE: Final = "http://hl7.org/fhir/StructureDefinition/operationoutcome-file"
_SIGNS: Final = {"fatal": "error", "error": "error", "warning": "warning", "information": "note"}


Service = Callable[[], Terminology]
"""Opens the terminology service that settles what a check leaves open."""
Check = Callable[[Resource], Sequence[Issue]]


class CannotValidate(Exception):
    """There is nothing to check, or nothing to check it against; the text says why."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A resource, or what should have been one, and all that is to be said of it."""

    place: str
    """The file, with the line where there are several."""
    kind: str
    """Its type; '' where it cannot be read."""
    issues: Sequence[Issue]

    @property
    def worst(self) -> str:
        """error, warning, note or ''."""
        found = {_SIGNS[issue.severity] for issue in self.issues}
        return next((sign for sign in ("error", "warning", "note") if sign in found), "")

    def lines(self) -> Iterator[str]:
        """For people: the file, then its issues, the gravest first."""
        yield f"{self.place}: {self.kind or 'not a FHIR resource'}: {self.worst or 'no problems'}"
        order = ("error", "warning", "note")
        for issue in sorted(self.issues, key=lambda issue: order.index(_SIGNS[issue.severity])):
            at = f"{issue.expression}: " if issue.expression else ""
            rule = f" [{issue.rule} of {issue.profile}]" if issue.profile else ""
            yield f"  {_SIGNS[issue.severity]}: {at}{issue.text}{rule}"

    @property
    def outcome(self) -> Resource:
        told = self.issues or [Issue("No problems", code="informational", severity="information")]
        made = outcome(told, default_code="invalid")
        return {"extension": [{"url": _FILE, "valueString": self.place}], **made}


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and those below folders, each once and in order.

    Raises:
        CannotValidate: when there is none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found |= {file: None for file in inside if file == path or _is_input(file)}
    if not found:
        raise CannotValidate(f"No {', '.join(ENDINGS)} file in {', '.join(map(str, paths))}")
    return list(found)


def _is_input(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS and file.is_file()


def require_known(checker: Checker, profiles: Iterable[str]) -> None:
    """Raise CannotValidate for a profile that is not known."""
    for profile in profiles:
        if not checker.library.is_known(profile):
            raise CannotValidate(f"The profile {profile} is not known; add its package")


def validate(
    found: Iterable[Path], checker: Checker, profiles: Sequence[str], service: Service
) -> Iterator[Checked]:
    """Each resource in the files, checked; what cannot be read is a problem, too."""

    def check(resource: Resource) -> Sequence[Issue]:
        findings = checker.check(resource, profiles=profiles)
        if not findings.questions:
            return findings.issues
        asked = checker.settle(findings.questions, Settler(service()))
        return findings.settled(asyncio.run(asked)).issues

    for file in found:
        try:
            yield from _of_file(file, check)
        except OSError as error:
            yield _unreadable(str(file), str(error))


def _of_file(file: Path, check: Check) -> Iterator[Checked]:
    if file.suffix.lower() not in _LINES:
        yield _checked(file.read_bytes(), str(file), check)
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _checked(line.strip(), f"{file} line {number}", check)


def _checked(raw: bytes, place: str, check: Check) -> Checked:
    # Editors put a byte order mark in front, which only a body over HTTP may not have.
    text = raw.removeprefix(codecs.BOM_UTF8)
    decode = xml.decode_resource if text.lstrip().startswith(b"<") else json.decode_resource
    try:
        resource = decode(text)
    except FhirError as error:
        return Checked(place, "", error.issues)
    return Checked(place, str(resource.get("resourceType", "")), check(resource))


def _unreadable(place: str, text: str) -> Checked:
    return Checked(place, "", [Issue(text, code="exception")])


def summary(checked: Iterable[Checked]) -> str:
    """`3 resources: 1 with errors, 1 with warnings, 1 without`"""
    counts = Counter(one.worst for one in checked)
    sound = counts.total() - counts["error"] - counts["warning"]
    return (
        f"Checked {counts.total()}: {counts['error']} with errors, "
        f"{counts['warning']} with warnings only, {sound} sound"
    )
