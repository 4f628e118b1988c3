"""Who corrects who somebody is: a Patient that is there, and the people related to them.

The keyworker corrects how somebody is called, reached and spoken with, and records a death. What
decides whose record it is, and who sees it when (numbers, birth date, managing organisation, links,
labels), is for the administrators' own client of the organisation that manages the record. Neither
moves it to where they have no right. That is the project's own rule: docs/access.md.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.decision import Area, Decision, Right
from fhir_server.access.facts.reading import shows_responsibility
from fhir_server.access.labels import labels_of
from fhir_server.access.own_names import OwnNames
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.references import parse_relative

Side = Mapping[str, Any] | None
_CORRECTED: Final = (
    *("name", "telecom", "address", "contact", "communication", "gender"),
    *("generalPractitioner", "deceasedBoolean", "deceasedDateTime"),
)
_WITH_THEM: Final = ("text", "language", "extension", "meta")
"""What comes along with a correction; of extensions and of meta, some."""
_DEMOGRAPHIC: Final = (
    "http://hl7.org/fhir/StructureDefinition/",
    "https://fhir.hl7.org.uk/StructureDefinition/",
)
"""How the names of extensions begin that say more of a person, and by which nothing is decided."""
_KEEPER: Final = "the administrators' client of the organisation that manages the record"


@dataclass(frozen=True, slots=True)
class Correcting:
    """Who corrects: what is decided about the patient, and about any other whom a link names."""

    decision: Decision
    own: OwnNames
    about: Callable[[str], Awaitable[Decision]]

    @property
    def is_keyworker(self) -> bool:
        """While consent stands: whoever writes the rest of the record."""
        return Area.PLAN in self.decision.writes

    @property
    def is_keeper(self) -> bool:
        return Right.IDENTITY in self.decision.rights


async def require_person(asked: Correcting, old: Side, new: Side) -> None:
    """Raise unless the caller may make the one Patient or RelatedPerson of the other.

    Raises:
        FhirError: FORBIDDEN, with the element, and who may.
    """
    side = new if new is not None else old
    assert side is not None  # noqa: S101 - a change has a side
    name = str(side["resourceType"])
    if name == "Patient" and old is None:
        raise _refused(name, "A Patient is brought onto the register by administrators")
    if not (asked.is_keyworker or asked.is_keeper):
        raise _refused(
            name,
            f"A {name} is corrected by the keyworker, while consent to keyworking stands, and by "
            f"{_KEEPER}",
        )
    if new is None:
        raise _refused(name, f"A {name} is not deleted: it is corrected, or is not active any more")
    if name == "RelatedPerson":
        _require_relation(old, new)
    elif old is not None and asked.is_keeper:
        await _require_kept(asked, old, new)
    elif old is not None:
        _require_correction(old, new)


def _require_relation(old: Side, new: Mapping[str, Any]) -> None:
    if old is not None and old.get("patient") != new.get("patient"):
        raise _refused("RelatedPerson.patient", "Who is related to somebody stays so; add another")
    told = [
        one
        for one in new.get("extension", ())
        if one.get("url") == canonicals.PARENTAL_RESPONSIBILITY_EXTENSION
    ]
    parts = [part for one in told for part in one.get("extension", ()) if part.get("url") == "held"]
    held = any(part.get("valueBoolean") is not False for part in parts)
    if (held or len(told) > 1) and not shows_responsibility(dict(new)):
        raise _refused(
            "RelatedPerson.extension",
            "Parental responsibility that is held is recorded once, with what shows it: its part "
            f"'evidence' has a code of {canonicals.PARENTAL_RESPONSIBILITY_EVIDENCE}",
        )


def _require_correction(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """By the keyworker: nothing by which anything is decided."""
    for element in _changed(old, new):
        if element not in (*_CORRECTED, *_WITH_THEM) or _decides(element, old, new):
            raise _refused(
                f"Patient.{element}",
                f"The keyworker corrects {', '.join(_CORRECTED)}; {element} is changed by "
                f"{_KEEPER}",
            )


def _decides(element: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if element == "meta":
        return labels_of(old) != labels_of(new)
    return element == "extension" and _deciding(old) != _deciding(new)


def _deciding(patient: Mapping[str, Any]) -> list[Any]:
    told = patient.get("extension", ())
    return [one for one in told if not str(one.get("url", "")).startswith(_DEMOGRAPHIC)]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Names of the elements that differ; what a primitive has beside its value is of the same."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name.removeprefix("_")


async def _require_kept(asked: Correcting, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """It stays with the organisation, and is linked to records that are kept by it too."""
    managed, was = new.get("managingOrganization"), old.get("managingOrganization")
    if managed != was and not asked.own.is_organisation(managed):
        raise _refused(
            "Patient.managingOrganization",
            "A record stays with the organisation that manages it: nobody has rights on both "
            "sides of a move",
        )
    known = [one.get("other", {}).get("reference") for one in old.get("link", ())]
    for index, one in enumerate(new.get("link", ())):
        told = one.get("other", {}).get("reference")
        if told not in known and not await _keeps(asked, told):
            raise _refused(
                f"Patient.link[{index}].other",
                "A link is to a Patient by reference, whose record the same organisation manages",
            )


async def _keeps(asked: Correcting, reference: Any) -> bool:
    local = parse_relative(reference) if isinstance(reference, str) else None
    if local is None or local.type != "Patient" or local.version is not None:
        return False
    return Right.IDENTITY in (await asked.about(local.id)).rights


def _refused(place: str, text: str) -> FhirError:
    return FhirError.at(Kind.FORBIDDEN, place, text)
