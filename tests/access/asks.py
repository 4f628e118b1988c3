"""What the matrix asks on each route that reads: a route or operation without a row here fails.

`{p}` stands for a child's key, `{w}` for how the child's words begin and `{n}` for the NHS number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.interactions.table import ROUTER
from fhir_server.operation.registry import Operations
from tests.access.region import CHILDREN

TYPES: Final = tuple(sorted({one["resourceType"] for one in CHILDREN[0].papers}))
TASK: Final = "Task"
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/fhir+json"
_MANY: Final = "_count=5000"


@dataclass(frozen=True)
class Ask:
    """One request, and what is to be known of its answer.

    What it answers to whoever sees everything is asked of the server itself, by `--auth none`;
    who sees less gets that without what the slow reading hides.
    """

    path: str
    method: str = "GET"
    body: str = ""
    media: str = ""
    via: tuple[str, ...] = ()
    """Types of which something has to be seen, for the rest to be found."""
    full: tuple[str, ...] = ()
    """Types of which all has to be seen in full, as it asks by what a mask covers."""
    counts: bool = False
    """Whether it answers with a number alone."""
    tells: tuple[str, ...] | None = None
    """Types of which its answer tells; None: those whose words are in it."""
    computed: bool = False
    """Whether what it answers is made of several resources, and need not have their words."""
    job: bool = False

    @property
    def per_child(self) -> bool:
        return any(one in self.path + self.body for one in ("{p}", "{w}", "{n}"))

    def of(self, key: str, number: str) -> "Ask":
        """About that child."""

        def filled(text: str) -> str:
            for name, value in (("{p}", key), ("{w}", f"x{key[1:]}"), ("{n}", number)):
                text = text.replace(name, value)
            return text

        return replace(self, path=filled(self.path), body=filled(self.body))

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}"


def _form(path: str, body: str) -> Ask:
    return Ask(path, "POST", body, _FORM)


def _posted(path: str, resource: Resource) -> Ask:
    return Ask(path, "POST", json.encode(resource).decode(), _JSON)


def _batch(addresses: Sequence[str]) -> Ask:
    entries = [{"request": {"method": "GET", "url": one}} for one in addresses]
    return _posted("", {"resourceType": "Bundle", "type": "batch", "entry": entries})


def _own() -> Iterator[str]:
    """The addresses of all that is a child's."""
    for one in CHILDREN[0].papers:
        kind, name = one["resourceType"], one["id"]
        yield "Patient/{p}" if kind == "Patient" else f"{kind}/{{p}}-{name}"


_NUMBER: Final = quote(f"{canonicals.NHS_NUMBER}|", safe="") + "{n}"
_LISTED: Final = ",".join(TYPES)
_NO_PARAMETERS: Final[Resource] = {"resourceType": "Parameters"}

READS: Final[Mapping[str, Sequence[Ask]]] = {
    "GET metadata": (Ask("metadata"),),
    "POST ": (_batch([*_own()]), _batch(["Patient?_count=5000", "Flag?_summary=count"])),
    "GET ": (
        Ask(f"?_type={_LISTED}&{_MANY}"),
        Ask("?_type=Patient,Flag&_summary=count", counts=True, tells=("Patient", "Flag")),
    ),
    "POST _search": (_form("_search", f"_type={_LISTED}&{_MANY}"),),
    "GET _history": (Ask(f"_history?{_MANY}"),),
    "GET _jobs/{id}": (Ask("_jobs/{job}"),),
    "GET _jobs/{id}/{member}/{version}": (Ask("_jobs/{job}/Patient/1"),),
    "GET {type}": (
        *(Ask(f"{name}?{_MANY}") for name in TYPES),
        *(Ask(f"{one}?_summary=count", counts=True, tells=(one,)) for one in TYPES if one != TASK),
        # But for the tasks that tell of broken glass, which have a code.
        Ask("Task?_summary=count&code:missing=true", counts=True, tells=(TASK,)),
        Ask("Appointment"),
        Ask("Flag?_total=accurate&_count=0", counts=True, tells=("Flag",)),
        Ask(f"CarePlan?_include=*&{_MANY}", via=("CarePlan",)),
        Ask(f"CarePlan?_include:iterate=CarePlan:*&_include:iterate=*&{_MANY}", via=("CarePlan",)),
        Ask(f"Patient?_revinclude=*&{_MANY}", via=("Patient",)),
        Ask(f"Patient?_revinclude=Flag:patient&{_MANY}", via=("Patient",)),
        Ask(f"CarePlan?patient.gender=female&{_MANY}", full=("Patient",)),
        Ask(f"Flag?patient.gender=female&{_MANY}", full=("Patient",)),
        Ask(f"Patient?_has:Task:patient:status=requested&{_MANY}", full=("Task",)),
        Ask(f"Patient?_has:CarePlan:patient:status=active&{_MANY}", via=("CarePlan",)),
        Ask(f"Patient?gender=female&{_MANY}", full=("Patient",)),
        Ask(f"Patient?gender:missing=false&{_MANY}", full=("Patient",)),
        Ask(f"Patient?_sort=gender&{_MANY}", full=("Patient",)),
        Ask(f"Patient?_sort=family,-_lastUpdated&{_MANY}"),
        Ask(f"Flag?_sort=date&{_MANY}", full=("Flag",)),
        Ask(f"Flag?_filter=status%20eq%20active&{_MANY}"),
        Ask(f"CarePlan?_elements=title&{_MANY}"),
        Ask(f"CarePlan?_summary=text&{_MANY}"),
        Ask(f"CarePlan?{_MANY}&_format=xml"),
        Ask("CarePlan?_id={p}-a&_include=*", via=("CarePlan",)),
        Ask("Flag?patient={p}"),
        Ask("Flag?patient=Patient/{p}&_summary=count", counts=True, tells=("Flag",)),
        Ask("Flag?patient._id={p}"),
        Ask(f"Patient?identifier={_NUMBER}"),
        Ask("Patient?name={w}surname"),
        Ask(f"Flag?patient.identifier={_NUMBER}"),
        Ask("CarePlan?_content={w}careplana"),
        Ask("CarePlan?_text={w}careplana"),
        Ask("Patient?address-city={w}patient", full=("Patient",)),
    ),
    "POST {type}/_search": (
        _form("CarePlan/_search", _MANY),
        _form("Flag/_search", "patient=Patient/{p}"),
    ),
    "GET {type}/_history": (
        Ask(f"CarePlan/_history?{_MANY}"),
        Ask(f"Flag/_history?{_MANY}"),
        Ask(f"Patient/_history?{_MANY}"),
    ),
    "GET {type}/{id}": (
        Ask("Patient/{p}"),
        Ask("Patient/{p}", "HEAD", tells=("Patient",)),
        Ask("Patient/{p}?_format=xml"),
        Ask("Patient/{p}?_summary=true"),
        Ask("Flag/{p}-f"),
        Ask("CarePlan/{p}-a"),
        Ask("CarePlan/{p}-a?_elements=title"),
        Ask("Binary/{p}-y"),
        Ask("Consent/{p}-keyworking"),
    ),
    "GET {type}/{id}/_history": (
        Ask("Patient/{p}/_history"),
        Ask("Flag/{p}-f/_history"),
        Ask("CarePlan/{p}-a/_history"),
        Ask("CarePlan/{p}-gone/_history"),
    ),
    "GET {type}/{id}/_history/{version}": (
        Ask("Patient/{p}/_history/1"),
        Ask("Flag/{p}-f/_history/1"),
        Ask("CarePlan/{p}-a/_history/1"),
        Ask("CarePlan/{p}-gone/_history/1"),
    ),
    "GET {type}/{id}/{member}": (
        Ask("Patient/{p}/CarePlan"),
        Ask("Patient/{p}/Flag"),
        Ask(f"Patient/{{p}}/*?{_MANY}"),
        Ask("Encounter/{p}-s/Condition"),
    ),
    "POST {type}/{id}/{member}/_search": (_form("Patient/{p}/CarePlan/_search", ""),),
    "$admission-risk instance": (Ask("Patient/{p}/$admission-risk", computed=True),),
    "$discharge-plan instance": (Ask("Patient/{p}/$discharge-plan", computed=True),),
    "$discharge-readiness instance": (Ask("CarePlan/{p}-a/$discharge-readiness", computed=True),),
    "$explain-access instance": (Ask("Patient/{p}/$explain-access", computed=True),),
    "$caseload instance": (Ask("Practitioner/kw/$caseload", via=("EpisodeOfCare",)),),
    "$easy-read instance": (
        Ask("CarePlan/{p}-a/$easy-read", via=("CarePlan",)),
        Ask("CarePlan/{p}-a/$easy-read?_format=text/html", via=("CarePlan",)),
    ),
    "$oversight-report system": (Ask("$oversight-report"),),
    "$oversight-report instance": (Ask("Organization/w/$oversight-report"),),
    "$register system": (
        Ask(f"$register?{_MANY}", via=("Flag",)),
        Ask(f"$register?{_MANY}&_format=text/csv", via=("Flag",)),
    ),
    "$register instance": (Ask(f"Organization/w/$register?{_MANY}"),),
    "$timeline instance": (Ask(f"Patient/{{p}}/$timeline?{_MANY}", computed=True),),
    "$closure system": (_posted("$closure", _NO_PARAMETERS),),
    "$validate-code type": (
        Ask("CodeSystem/$validate-code?url=http://hl7.org/fhir/flag-status&code=active"),
        Ask("ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/flag-status&code=active"),
    ),
    "$validate-code instance": (Ask("ValueSet/{p}/$validate-code?code=active"),),
    "$everything instance": (
        Ask("Patient/{p}/$everything"),
        Ask("Encounter/{p}-s/$everything", via=("Encounter",)),
    ),
    "$everything type": (Ask(f"Patient/$everything?{_MANY}", via=("Patient",)),),
    "$expand type": (Ask("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/flag-status"),),
    "$expand instance": (Ask("ValueSet/{p}/$expand"),),
    "$export system": (Ask("$export?_type=Patient,Flag,CarePlan,Consent,Task,Binary", job=True),),
    "$export type": (Ask("Patient/$export", via=("Patient",), job=True),),
    "$export instance": (Ask("Group/{p}-p/$export", via=("Group",), job=True),),
    "$lastn type": (
        Ask("Observation/$lastn?patient=Patient/{p}&category=vital-signs"),
        Ask("Observation/$lastn?patient=Patient/{p}&category=vital-signs&max=3"),
    ),
    "$lookup type": (Ask("CodeSystem/$lookup?system=http://hl7.org/fhir/flag-status&code=active"),),
    "$meta system": (Ask("$meta"),),
    "$meta type": (Ask("CarePlan/$meta"), Ask("Patient/$meta")),
    "$meta instance": (Ask("CarePlan/{p}-a/$meta"), Ask("Patient/{p}/$meta", tells=("Patient",))),
    "$subsumes type": (
        Ask(
            "CodeSystem/$subsumes?codeA=active&codeB=active&system=http://hl7.org/fhir/flag-status"
        ),
    ),
    "$subsumes instance": (Ask("CodeSystem/{p}/$subsumes?codeA=a&codeB=b"),),
    "$translate type": (Ask("ConceptMap/$translate?code=a&system=urn:none&target=urn:other"),),
    "$translate instance": (Ask("ConceptMap/{p}/$translate?code=a&system=urn:none"),),
    "$validate type": (_posted("CarePlan/$validate", {"resourceType": "CarePlan"}),),
    "$validate instance": (Ask("Patient/{p}/$validate", tells=("Patient",)),),
}
"""By method and pattern of the route, or by operation and level."""

WRITES: Final = frozenset(
    {
        *("POST {type}", "PUT {type}", "PATCH {type}", "DELETE {type}"),
        *("PUT {type}/{id}", "PATCH {type}/{id}", "DELETE {type}/{id}", "DELETE _jobs/{id}"),
        *("$break-glass type", "$break-glass instance", "$process-message system"),
        "$process-adt system",
        *("$set-rating instance", "$remove-rating instance", "$confirm-discharge instance"),
        *("$meta-add instance", "$meta-delete instance", "$import system", "$withdraw type"),
        *("$refer instance", "$allocate instance", "$transition instance"),
        *("$step-down instance", "$close instance"),
        *("$status type", "$status instance", "$events instance", "$resume instance"),
        *("$get-ws-binding-token type", "$get-ws-binding-token instance"),
    }
)
"""What these show, and whom, is tried in test_attacks.py, test_writes.py and test_person_writes.py;
of subscriptions in tests/events/test_access.py, of the pathway in test_pathway_rights.py, of HL7
v2 in test_messages.py."""


AUDIT: Final[Mapping[str, Ask]] = {
    "GET {type} of AuditEvent": Ask("AuditEvent?_count=3"),
    "POST {type}/_search of AuditEvent": _form("AuditEvent/_search", "_count=3"),
    "GET {type}/{id} of AuditEvent": Ask("AuditEvent/1"),
    "GET {type}/{id}/_history of AuditEvent": Ask("AuditEvent/1/_history"),
    "GET {type}/{id}/_history/{version} of AuditEvent": Ask("AuditEvent/1/_history/1"),
}
"""For auditors alone, of whomever it tells."""

AUDIT_WRITES: Final = frozenset({"POST {type} of AuditEvent", "PUT {type}/{id} of AuditEvent"})
"""Tried in tests/audit."""


def wired(operations: Operations) -> set[str]:
    """What the server answers at all."""
    routes = {
        f"{one.method} {one.pattern}"
        for one in ROUTER.routes
        if not one.pattern.endswith("{operation}")
    }
    own = {
        f"{one.method} {one.pattern} of {name}"
        for name, several in ROUTER.own.items()
        for one in several
        if not one.pattern.endswith("{operation}")
    }
    levels = ("system", "type", "instance")
    named = {
        f"${one.code} {level}"
        for one in operations
        for level in levels
        if one.definition.get(level)
    }
    return routes | own | named


EVERY: Final = tuple(ask for asks in READS.values() for ask in asks)
CHIEF: Final = tuple(
    next((ask for ask in asks if ask.per_child), asks[0]) for asks in READS.values()
)
"""One for each route, about one child where it can be."""
