"""Invariants of R4, https://hl7.org/fhir/R4/, and elements to try them on."""

from typing import Any, Final

NOWHERE: Final[dict[str, Any]] = {"resourceType": "Basic"}

ELE_1: Final = "hasValue() or (children().count() > id.count())"
EXT_1: Final = "extension.exists() != value.exists()"
REF_1: Final = (
    "reference.startsWith('#').not() or "
    "(reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids'))"
)
DOM_3: Final = (
    "contained.where((('#'+id in (%resource.descendants().reference"
    " | %resource.descendants().as(canonical) | %resource.descendants().as(uri)"
    " | %resource.descendants().as(url))) or descendants().where(reference = '#').exists()"
    " or descendants().where(as(canonical) = '#').exists()).not())"
    ".trace('unmatched', id).empty()"
)
QUE_13: Final = "repeats=true or initial.count() <= 1"
PER_1: Final = "start.hasValue().not() or end.hasValue().not() or (start <= end)"
DRT_1: Final = "code.exists() implies ((system = %ucum) and value.exists())"
QUE_7: Final = "operator = 'exists' implies (answer is Boolean)"
BDL_7: Final = (
    "(type = 'history') or "
    "entry.where(fullUrl.exists()).select(fullUrl&resource.meta.versionId).isDistinct()"
)
CTM_1: Final = (
    "onBehalfOf.exists() implies "
    "(member.resolve().iif(empty(), true, ofType(Practitioner).exists()))"
)
CSD_1: Final = "concept.code.combine($this.descendants().concept.code).isDistinct()"
UCUM: Final = "http://unitsofmeasure.org"


def flag_of(reference: str, *contained: str) -> dict[str, Any]:
    return {
        "resourceType": "Flag",
        "subject": {"reference": reference},
        "contained": [{"resourceType": "Patient", "id": one} for one in contained],
    }


def question(**more: Any) -> dict[str, Any]:
    return {"linkId": "1", "type": "string", **more}


def entry_of(url: str, version: str) -> dict[str, Any]:
    return {
        "fullUrl": url,
        "resource": {"resourceType": "Basic", "meta": {"versionId": version}},
    }
